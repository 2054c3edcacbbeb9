"""Sizes of CogVideoX's transformer and autoencoder.

Each is the keyword arguments of `CogVideoX` or `CogVideoXVAE` that differ from the defaults, which
are those of the 2B model.
"""

# transformer/config.json of THUDM/CogVideoX-2b: 49 frames of 480x720, latents of 13x60x90
T2V_2B = {"remat": "full"}

# THUDM/CogVideoX-5b
T2V_5B = {
    "num_attention_heads": 48,
    "num_layers": 42,
    "use_rotary_positional_embeddings": True,
    "remat": "full",
}

# THUDM/CogVideoX-5b-I2V: the image's latent on 16 further channels, and learned positions
I2V_5B = {**T2V_5B, "in_channels": 32, "use_learned_positional_embeddings": True}

# vae/config.json: the three share the network's size
VAE_2B = {"scaling_factor": 1.15258426}
VAE_5B = {"scaling_factor": 0.7}
