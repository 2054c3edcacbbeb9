"""The configs that each release of diffusers writes, and those of the published models, are read.

The fields are those of the classes' `__init__` in diffusers 0.30.0 to 0.42.1, with the release
that has them first.
"""

import inspect

import diffusers
import pytest

from vidpref.interop.schedulers import read_scheduler
from vidpref.models.clip.vision import ClipVision
from vidpref.models.cogvideox.network import CogVideoX
from vidpref.models.cogvideox.vae import CogVideoXVAE
from vidpref.models.t5 import from_config as read_t5
from vidpref.models.wan.network import Wan
from vidpref.models.wan.vae import LATENTS_MEAN, LATENTS_STD, WanVAE

MEAN, STD = list(LATENTS_MEAN), list(LATENTS_STD)
LEVELS = [128, 256, 256, 512]
DOWN, UP = ["CogVideoXDownBlock3D"] * 4, ["CogVideoXUpBlock3D"] * 4
GONE = object()  # a field that a release writes no longer
COGVIDEOX_NOISE = {
    **{"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012},
    **{"beta_schedule": "scaled_linear", "trained_betas": None, "clip_sample": True},
    **{"set_alpha_to_one": True, "steps_offset": 0, "prediction_type": "epsilon"},
    **{"clip_sample_range": 1.0, "sample_max_value": 1.0, "timestep_spacing": "leading"},
    **{"rescale_betas_zero_snr": False, "snr_shift_scale": 3.0},
}
# what the file of any pipeline of these families has instead of the defaults
SET = {
    "CogVideoXDDIMScheduler": {"prediction_type": "v_prediction"},
    "CogVideoXDPMScheduler": {"prediction_type": "v_prediction"},
    "UniPCMultistepScheduler": {"prediction_type": "flow_prediction", "use_flow_sigmas": True},
}
RELEASES = {
    "AutoencoderKLCogVideoX": {
        "0.30.0": {
            **{"in_channels": 3, "out_channels": 3, "down_block_types": DOWN},
            **{"up_block_types": UP, "block_out_channels": LEVELS, "latent_channels": 16},
            **{"layers_per_block": 3, "act_fn": "silu", "norm_eps": 1e-6, "norm_num_groups": 32},
            **{"temporal_compression_ratio": 4, "sample_size": 256, "scaling_factor": 1.15258426},
            **{"shift_factor": None, "latents_mean": None, "latents_std": None},
            **{"force_upcast": True, "use_quant_conv": False, "use_post_quant_conv": False},
        },
        "0.30.3": {"sample_size": GONE, "sample_height": 480, "sample_width": 720},
        "0.32.0": {"invert_scale_latents": False},
    },
    "CogVideoXTransformer3DModel": {
        "0.30.0": {
            **{"num_attention_heads": 30, "attention_head_dim": 64, "in_channels": 16},
            **{"out_channels": 16, "flip_sin_to_cos": True, "freq_shift": 0},
            **{"time_embed_dim": 512, "text_embed_dim": 4096, "num_layers": 30, "dropout": 0.0},
            **{"attention_bias": True, "sample_width": 90, "sample_height": 60},
            **{"sample_frames": 49, "patch_size": 2, "temporal_compression_ratio": 4},
            **{"max_text_seq_length": 226, "activation_fn": "gelu-approximate"},
            **{"timestep_activation_fn": "silu", "norm_elementwise_affine": True},
            **{"norm_eps": 1e-5, "spatial_interpolation_scale": 1.875},
            **{"temporal_interpolation_scale": 1.0},
        },
        "0.30.3": {
            "use_rotary_positional_embeddings": False,
            "use_learned_positional_embeddings": False,
        },
        "0.32.0": {"ofs_embed_dim": None, "patch_size_t": None, "patch_bias": True},
    },
    "CogVideoXDDIMScheduler": {"0.30.0": COGVIDEOX_NOISE},
    "CogVideoXDPMScheduler": {"0.30.0": COGVIDEOX_NOISE},
    "AutoencoderKLWan": {
        "0.33.0": {
            **{"base_dim": 96, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2},
            **{"attn_scales": [], "temperal_downsample": [False, True, True], "dropout": 0.0},
            **{"latents_mean": MEAN, "latents_std": STD},
        },
        "0.35.0": {
            **{"decoder_base_dim": None, "is_residual": False, "in_channels": 3},
            **{"out_channels": 3, "patch_size": None, "scale_factor_temporal": 4},
            "scale_factor_spatial": 8,
        },
    },
    "WanTransformer3DModel": {
        "0.33.0": {
            **{"patch_size": [1, 2, 2], "num_attention_heads": 40, "attention_head_dim": 128},
            **{"in_channels": 16, "out_channels": 16, "text_dim": 4096, "freq_dim": 256},
            **{"ffn_dim": 13824, "num_layers": 40, "cross_attn_norm": True, "eps": 1e-6},
            **{"qk_norm": "rms_norm_across_heads", "image_dim": None},
            **{"added_kv_proj_dim": None, "rope_max_seq_len": 1024},
        },
        "0.34.0": {"pos_embed_seq_len": None},
    },
    "UniPCMultistepScheduler": {
        "0.32.0": {
            **{"num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02},
            **{"beta_schedule": "linear", "trained_betas": None, "solver_order": 2},
            **{"prediction_type": "epsilon", "thresholding": False},
            **{"dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0, "predict_x0": True},
            **{"solver_type": "bh2", "lower_order_final": True, "disable_corrector": []},
            **{"solver_p": None, "use_karras_sigmas": False, "use_exponential_sigmas": False},
            **{"use_beta_sigmas": False, "use_flow_sigmas": False, "flow_shift": 1.0},
            **{"timestep_spacing": "linspace", "steps_offset": 0, "final_sigmas_type": "zero"},
            "rescale_betas_zero_snr": False,
        },
        "0.35.0": {"use_dynamic_shifting": False, "time_shift_type": "exponential"},
        "0.37.0": {"sigma_min": None, "sigma_max": None, "shift_terminal": None},
    },
    "FlowMatchEulerDiscreteScheduler": {
        "0.30.0": {
            **{"num_train_timesteps": 1000, "shift": 1.0, "use_dynamic_shifting": False},
            **{"base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256},
            "max_image_seq_len": 4096,
        },
        "0.32.0": {
            **{"invert_sigmas": False, "shift_terminal": None, "use_karras_sigmas": False},
            **{"use_exponential_sigmas": False, "use_beta_sigmas": False},
        },
        "0.33.0": {"time_shift_type": "exponential"},
        "0.34.0": {"stochastic_sampling": False},
    },
}
NETWORKS = {
    "AutoencoderKLCogVideoX": CogVideoXVAE,
    "CogVideoXTransformer3DModel": CogVideoX,
    "AutoencoderKLWan": WanVAE,
    "WanTransformer3DModel": Wan,
}


def written(name, release):
    """The config of a class as a release writes it: all fields that came up to then."""
    fields = {"_class_name": name, "_diffusers_version": release}
    for first, new in RELEASES[name].items():
        fields |= new
        if first == release:
            break
    kept = {field: value for field, value in fields.items() if value is not GONE}
    return kept | SET.get(name, {})


CASES = [(name, release) for name, releases in RELEASES.items() for release in releases]


@pytest.mark.parametrize(("name", "release"), CASES)
def test_what_a_release_writes_is_read(name, release):
    config = written(name, release)
    if name in NETWORKS:
        # the defaults of diffusers are ours
        assert NETWORKS[name].from_config(config) == NETWORKS[name]()
        assert NETWORKS[name].from_config({}) == NETWORKS[name]()
    else:
        assert read_scheduler(config) == read_scheduler({"_class_name": name, **SET.get(name, {})})


@pytest.mark.parametrize("name", RELEASES)
def test_the_table_is_whole_for_the_diffusers_that_is_installed(name):
    parameters = inspect.signature(getattr(diffusers, name).__init__).parameters.values()
    theirs = {p.name: p.default for p in parameters if p.name != "self"}
    listed = {field: list(v) if isinstance(v, tuple) else v for field, v in theirs.items()}
    fields = {field: v for new in RELEASES[name].values() for field, v in new.items()}
    assert listed == {field: value for field, value in fields.items() if value is not GONE}


COGVIDEOX_5B = {
    **{"num_attention_heads": 48, "num_layers": 42, "use_rotary_positional_embeddings": True},
    "use_learned_positional_embeddings": False,
}
WAN_1_3B = {"num_attention_heads": 12, "num_layers": 30, "ffn_dim": 8960}
WAN_I2V = {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120}
PUBLISHED = {  # (class, release): fields that differ from its defaults
    "CogVideoX-2b transformer": ("CogVideoXTransformer3DModel", "0.30.0", {}),
    "CogVideoX-2b vae": ("AutoencoderKLCogVideoX", "0.30.0", {"mid_block_add_attention": True}),
    "CogVideoX-5b transformer": ("CogVideoXTransformer3DModel", "0.30.3", COGVIDEOX_5B),
    "CogVideoX-5b vae": ("AutoencoderKLCogVideoX", "0.30.3", {"scaling_factor": 0.7}),
    "CogVideoX-5b-I2V transformer": (
        "CogVideoXTransformer3DModel",
        "0.30.3",
        COGVIDEOX_5B | {"in_channels": 32, "use_learned_positional_embeddings": True},
    ),
    "CogVideoX-5b-I2V vae": (
        "AutoencoderKLCogVideoX",
        "0.32.0",
        {"scaling_factor": 0.7, "invert_scale_latents": True},
    ),
    "Wan2.1-T2V-1.3B transformer": ("WanTransformer3DModel", "0.33.0", WAN_1_3B),
    "Wan2.1-T2V-14B transformer": ("WanTransformer3DModel", "0.33.0", {}),
    "Wan2.1-I2V-14B transformer": ("WanTransformer3DModel", "0.33.0", WAN_I2V),
    "Wan2.1 vae": ("AutoencoderKLWan", "0.33.0", {}),
}


@pytest.mark.parametrize(("name", "release", "fields"), PUBLISHED.values(), ids=PUBLISHED)
def test_what_is_published_is_read(name, release, fields):
    module = NETWORKS[name].from_config(written(name, release) | fields)
    mine = {field: v for field, v in fields.items() if field in module.__dataclass_fields__}
    assert module == NETWORKS[name](**mine)


OTHERS = {
    "CogVideoX1.5-5b": (
        "CogVideoXTransformer3DModel",
        COGVIDEOX_5B | {"patch_size_t": 2, "patch_bias": False, "sample_height": 300},
        "patch_size_t=2",
    ),
    "CogVideoX1.5-5b-I2V": (
        "CogVideoXTransformer3DModel",
        COGVIDEOX_5B | {"ofs_embed_dim": 512, "patch_size_t": 2},
        "ofs_embed_dim=512.*patch_size_t=2",
    ),
    "Wan2.1-FLF2V": ("WanTransformer3DModel", WAN_I2V | {"pos_embed_seq_len": 514}, "seq_len=514"),
    "Wan2.2-TI2V vae": (
        "AutoencoderKLWan",
        {"is_residual": True, "patch_size": 2, "z_dim": 48},
        "is_residual=True.*patch_size=2",
    ),
    "a quantised transformer": (
        "WanTransformer3DModel",
        {"quantization_config": {"quant_method": "bitsandbytes"}},
        "quantization_config=",
    ),
    "the original Wan": ("WanTransformer3DModel", {"dim": 1536, "num_heads": 12}, "dim=1536"),
    "CogVideoX-Fun": (
        "CogVideoXTransformer3DModel",
        {"add_noise_in_inpaint_model": True},
        "add_noise_in_inpaint_model=True is unknown",
    ),
}


@pytest.mark.parametrize(("name", "fields", "message"), OTHERS.values(), ids=OTHERS)
def test_another_computation_is_refused_by_name(name, fields, message):
    config = written(name, list(RELEASES[name])[-1]) | fields
    with pytest.raises(ValueError, match=f"the config of {name} asks for what .*{message}"):
        NETWORKS[name].from_config(config)


UMT5 = {  # of Wan2.1, by transformers 4.48
    **{"architectures": ["UMT5EncoderModel"], "classifier_dropout": 0.0, "d_ff": 10240},
    **{"d_kv": 64, "d_model": 4096, "decoder_start_token_id": 0, "dense_act_fn": "gelu_new"},
    **{"dropout_rate": 0.1, "eos_token_id": 1, "feed_forward_proj": "gated-gelu"},
    **{"initializer_factor": 1.0, "is_encoder_decoder": True, "is_gated_act": True},
    **{"layer_norm_epsilon": 1e-6, "model_type": "umt5", "num_decoder_layers": 24},
    **{"num_heads": 64, "num_layers": 24, "output_past": True, "pad_token_id": 0},
    **{"relative_attention_max_distance": 128, "relative_attention_num_buckets": 32},
    **{"scalable_attention": True, "tie_word_embeddings": False, "torch_dtype": "bfloat16"},
    **{"tokenizer_class": "T5Tokenizer", "transformers_version": "4.48.0", "use_cache": True},
    "vocab_size": 256384,
}
T5 = UMT5 | {"model_type": "t5", "vocab_size": 32128, "architectures": ["T5EncoderModel"]}
CLIP = {  # of Wan2.1-I2V
    **{"architectures": ["CLIPVisionModel"], "attention_dropout": 0.0, "dropout": 0.0},
    **{"hidden_act": "gelu", "hidden_size": 1280, "image_size": 224, "initializer_factor": 1.0},
    **{"initializer_range": 0.02, "intermediate_size": 5120, "layer_norm_eps": 1e-5},
    **{"model_type": "clip_vision_model", "num_attention_heads": 16, "num_channels": 3},
    **{"num_hidden_layers": 32, "patch_size": 14, "projection_dim": 1024},
    **{"torch_dtype": "float32", "transformers_version": "4.48.0", "a_new_field": None},
}


def test_published_encoders_are_read():
    umt5, t5, clip = read_t5(UMT5), read_t5(T5), ClipVision.from_config(CLIP)
    assert (umt5.vocab_size, umt5.d_ff, umt5.bias_in_every_block) == (256384, 10240, True)
    assert (t5.vocab_size, t5.num_heads, t5.bias_in_every_block) == (32128, 64, False)
    assert (clip.hidden_size, clip.num_hidden_layers, clip.dtype) == (1280, 32, "float32")


@pytest.mark.parametrize(
    ("read", "fields", "message"),
    [
        (read_t5, UMT5 | {"quantization_config": {"load_in_8bit": True}}, "quantization_config"),
        (read_t5, T5 | {"feed_forward_proj": "relu"}, "feed_forward_proj='relu'"),
        (read_t5, T5 | {"num_layers": None}, "num_layers=None must be a whole number"),
        (ClipVision.from_config, CLIP | {"quantization_config": {}}, "quantization_config"),
        (ClipVision.from_config, CLIP | {"image_size": [224, 224]}, "image_size=.* must be a"),
        (ClipVision.from_config, CLIP | {"hidden_act": "relu"}, "hidden_act='relu'"),
    ],
)
def test_encoders_of_another_computation_are_refused(read, fields, message):
    with pytest.raises(ValueError, match=message):
        read(fields)
