"""Schema of the networks: the fields of their modules, by the modules' own names.

Defaults of the networks of pipelines are those of their modules, the others' are near a paper's.
The sizes of papers and pipelines lie beside the networks (`vidpref/models/*/sizes.py`), and configs
take them from there.
"""

import dataclasses

from vidpref.config.fields import field, open_section, section

NETWORKS = ("unet3d", "dit", "st_dit", "wan", "cogvideox")
LATENT_NETWORKS = ("wan", "cogvideox")
PIXEL_NETWORKS = tuple(name for name in NETWORKS if name not in LATENT_NETWORKS)
ATTENTIONS = ("auto", "xla", "chunked", "cudnn", "splash")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compute:
    """How a network computes."""

    attention: str = field("xla", ATTENTIONS, "Implementation of attention.", touches="speed")
    remat: str = field(
        "none",
        "",
        'What is computed again for gradients: "none", "full", "offload" (as full, with what is '
        "kept in the host's memory), or a name in jax.checkpoint_policies.",
        touches="speed",
    )
    unroll: bool = field(
        False, "", "Write repeated blocks out: compiles slower, may run faster.", touches="speed"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pixels(Compute):
    """What the networks on pixels share."""

    patch: tuple[int, int, int] = field((1, 1, 1), ">= 1", "(t, h, w) positions that make a token.")
    head_dim: int = field(64, ">= 1", "Width of an attention head.")
    cond_dim: int = field(1024, ">= 1", "Width of the time and text conditioning.")
    first_frame: bool = field(True, "", "Whether the network sees the first frame.")
    low_res: bool = field(False, "", "Whether it sees a low-resolution clip (super-resolution).")
    residual: str = field(
        "", ("", "first_frame", "low_res"), "What the output is added to, for x0 networks."
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class UNet3D(Pixels):
    """The 3D-UNet of AIF."""

    features: tuple[int, ...] = field((512, 1024, 2048), ">= 1", "Channels, finest level first.")
    blocks: tuple[int, ...] = field((3, 3, 10), ">= 1", "Blocks of every scan, one number a level.")
    spatial: tuple[bool, ...] = field((True, True, True), "", "Levels with attention in space.")
    temporal: tuple[bool, ...] = field((True, True, True), "", "Levels with attention in time.")
    cross: tuple[bool, ...] = field((True, True, True), "", "Levels that attend to the text.")
    groups: int = field(32, ">= 1", "Groups of the group norms.")
    conv: str = field("xla", ("xla", "matmul"), "How convolutions are computed.", touches="speed")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transformer(Pixels):
    """What the diffusion transformers on pixels share."""

    width: int = field(1152, ">= 1", "Features of a token.")
    layers: int = field(28, ">= 1", "Blocks.")
    mlp_ratio: int = field(4, ">= 1", "Hidden width of the perceptron over width.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiT(Transformer):
    """A transformer with full attention."""

    cross: bool = field(True, "", "Whether blocks attend to the text.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wan(Compute):
    """Wan2.1's transformer, in diffusers' names."""

    patch_size: tuple[int, int, int] = field((1, 2, 2), ">= 1", "(t, h, w) that make a token.")
    num_attention_heads: int = field(40, ">= 1", "Attention heads.")
    attention_head_dim: int = field(128, ">= 1", "Width of a head.")
    in_channels: int = field(16, ">= 1", "Channels in: the latent's, and those of an image.")
    out_channels: int | None = field(16, "", "Channels of the velocity; None: as many as come in.")
    text_dim: int = field(4096, ">= 1", "Width of the text states.")
    freq_dim: int = field(256, ">= 1", "Width of the sinusoidal time.")
    ffn_dim: int = field(13824, ">= 1", "Hidden width of the perceptron.")
    num_layers: int = field(40, ">= 1", "Blocks.")
    cross_attn_norm: bool = field(True, "", "Whether text attention's norm has parameters.")
    eps: float = field(1e-6, "> 0", "Epsilon of the norms.")
    image_dim: int | None = field(None, "", "Width of the image encoder's states; None: no image.")
    added_kv_proj_dim: int | None = field(None, "", "Width of the attention to an image, or None.")
    rope_max_seq_len: int = field(1024, ">= 1", "Longest axis of the token grid.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CogVideoX(Compute):
    """CogVideoX's transformer, in diffusers' names."""

    num_attention_heads: int = field(30, ">= 1", "Attention heads.")
    attention_head_dim: int = field(64, ">= 1", "Width of a head.")
    in_channels: int = field(16, ">= 1", "Channels in: the latent's, and those of an image.")
    out_channels: int = field(16, ">= 1", "Channels out.")
    time_embed_dim: int = field(512, ">= 1", "Width of the time embedding.")
    text_embed_dim: int = field(4096, ">= 1", "Width of the text states.")
    num_layers: int = field(30, ">= 1", "Blocks.")
    attention_bias: bool = field(True, "", "Whether queries, keys and values have a bias.")
    sample_width: int = field(90, ">= 1", "Latent columns of the training clips.")
    sample_height: int = field(60, ">= 1", "Latent rows of the training clips.")
    sample_frames: int = field(49, ">= 1", "Frames of the training clips.")
    patch_size: int = field(2, ">= 1", "Latent rows and columns of a token.")
    temporal_compression_ratio: int = field(4, ">= 1", "Frames of pixels for one of the latent.")
    max_text_seq_length: int = field(226, ">= 1", "Text tokens, where positions are learned.")
    norm_eps: float = field(1e-5, "> 0", "Epsilon of the norms.")
    spatial_interpolation_scale: float = field(1.875, "> 0", "Scale of sincos positions in space.")
    temporal_interpolation_scale: float = field(1.0, "> 0", "Scale of sincos positions in time.")
    use_rotary_positional_embeddings: bool = field(False, "", "Rotary positions.")
    use_learned_positional_embeddings: bool = field(False, "", "Learned positions.")
    patch_bias: bool = field(True, "", "Whether the patch embedding has a bias.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """The generator's network."""

    name: str = field("unet3d", NETWORKS, "Network; its own section holds its size.")
    init: str = field(
        "",
        "",
        "Folder of a diffusers pipeline whose weights are the pre-trained policy.",
        touches="place",
        when={".name": LATENT_NETWORKS},
    )
    lora: str = field(
        "",
        "",
        "LoRA file or folder that the pre-trained policy has beside the weights of model.init.",
        touches="place",
        when={".name": LATENT_NETWORKS},
    )
    tiled: bool = field(
        False,
        "",
        "Encode and decode clips by tiles, in less memory.",
        when={".name": LATENT_NETWORKS},
    )
    unet3d: UNet3D = section(UNet3D, when={".name": "unet3d"}, remat="full")
    dit: DiT = section(DiT, when={".name": "dit"})
    st_dit: Transformer = section(Transformer, when={".name": "st_dit"})
    wan: Wan = section(Wan, when={".name": "wan"})
    cogvideox: CogVideoX = section(CogVideoX, when={".name": "cogvideox"})
    autoencoder: dict = open_section(
        "Fields of the autoencoder, in diffusers' names.", when={".name": LATENT_NETWORKS}
    )
    image_encoder: dict = open_section(
        "Fields of the image encoder, in transformers' names.", when={".name": LATENT_NETWORKS}
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuperresModel:
    """The network of the super-resolution stage."""

    name: str = field("unet3d", ("unet3d",), "Network.")
    unet3d: UNet3D = section(UNet3D)
