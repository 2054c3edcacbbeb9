"""Tiny pipelines of diffusers with random weights, in the format of the published ones."""

from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from tests.models.torch_parity import randomize

torch.set_num_threads(1)

TEXT_DIM = 24
LATENT_CHANNELS = 4
IMAGE_DIM = 16
PIECES = ["▁a", "▁red", "▁circle", "▁moves", "▁the", "▁blue", "▁square", "▁&", "▁", "c", "t", ";"]


def tiny_wan(
    path: Path, image_to_video: bool = False, **fields: Any
) -> diffusers.WanPipeline | diffusers.WanImageToVideoPipeline:
    """Writes a pipeline of Wan2.1 to a folder, and returns it.

    Clips have frames 4n + 1, and heights and widths that are multiples of 16.

    Args:
        path: of the folder.
        image_to_video: as Wan2.1-I2V, else as T2V.
        **fields: of the transformer's config.
    """
    torch.manual_seed(0)
    of_image = {
        "in_channels": 2 * LATENT_CHANNELS + 4,
        "image_dim": IMAGE_DIM,
        "added_kv_proj_dim": 24,
    }
    transformer = diffusers.WanTransformer3DModel(
        **{
            "patch_size": (1, 2, 2),
            "num_attention_heads": 2,
            "attention_head_dim": 12,
            "in_channels": LATENT_CHANNELS,
            "out_channels": LATENT_CHANNELS,
            "text_dim": TEXT_DIM,
            "freq_dim": 16,
            "ffn_dim": 40,
            "num_layers": 2,
            "rope_max_seq_len": 32,
            **(of_image if image_to_video else {}),
            **fields,
        }
    )
    vae = diffusers.AutoencoderKLWan(
        base_dim=8,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1, 2, 4, 4],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[-0.5, 0.2, 0.1, 0.3],
        latents_std=[1.5, 0.7, 2.0, 1.1],
    )
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    text_encoder = transformers.UMT5EncoderModel(transformers.UMT5Config(**_text_fields()))
    components = _tokenizer(), text_encoder, vae, scheduler
    if not image_to_video:
        return _save(diffusers.WanPipeline(*components, transformer), path)
    vision = transformers.CLIPVisionConfig(
        hidden_size=IMAGE_DIM,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        hidden_act="gelu",
    )
    pipeline = diffusers.WanImageToVideoPipeline(
        *components,
        transformers.CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=28),
        transformers.CLIPVisionModel(vision),
        transformer,
    )
    return _save(pipeline, path)


def tiny_cogvideox(
    path: Path, image_to_video: bool = False, **fields: Any
) -> diffusers.CogVideoXPipeline | diffusers.CogVideoXImageToVideoPipeline:
    """Writes a pipeline of CogVideoX to a folder, and returns it.

    Clips have frames 4n + 1, and heights and widths that are multiples of 16; 9 frames of [32, 48]
    if nothing else is asked for, and in image to video only those.

    Args:
        path: of the folder.
        image_to_video: as CogVideoX 5B-I2V, else as 2B.
        **fields: of the transformer's config.
    """
    torch.manual_seed(0)
    of_image = {
        "in_channels": 2 * LATENT_CHANNELS,
        "use_rotary_positional_embeddings": True,
        "use_learned_positional_embeddings": True,
    }
    transformer = diffusers.CogVideoXTransformer3DModel(
        **{
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "in_channels": LATENT_CHANNELS,
            "out_channels": LATENT_CHANNELS,
            "time_embed_dim": 20,
            "text_embed_dim": TEXT_DIM,
            "num_layers": 2,
            "sample_height": 4,
            "sample_width": 6,
            "sample_frames": 9,
            "max_text_seq_length": 16,
            **(of_image if image_to_video else {}),
            **fields,
        }
    )
    vae = diffusers.AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        latent_channels=LATENT_CHANNELS,
        layers_per_block=1,
        norm_num_groups=4,
        sample_height=32,
        sample_width=48,
        scaling_factor=0.7,
    )
    scheduler = diffusers.CogVideoXDDIMScheduler(
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=3.0,
        timestep_spacing="trailing",
    )
    text_encoder = transformers.T5EncoderModel(transformers.T5Config(**_text_fields()))
    kind = (
        diffusers.CogVideoXImageToVideoPipeline if image_to_video else diffusers.CogVideoXPipeline
    )
    return _save(kind(_tokenizer(), text_encoder, vae, transformer, scheduler), path)


def _tokenizer() -> transformers.T5Tokenizer:
    """Knows whole words."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces = [(piece, -1.0 - i / 10) for i, piece in enumerate(PIECES)]
    return transformers.T5Tokenizer(vocab=special + pieces, extra_ids=0)


def _text_fields() -> dict[str, Any]:
    fields = {"vocab_size": 20, "d_model": TEXT_DIM, "d_kv": 8, "d_ff": 40, "num_heads": 4}
    return fields | {"num_layers": 2, "feed_forward_proj": "gated-gelu"}


def _save(pipeline: diffusers.DiffusionPipeline, path: Path) -> diffusers.DiffusionPipeline:
    for seed, component in enumerate(("transformer", "vae", "text_encoder", "image_encoder")):
        network = getattr(pipeline, component, None)
        if network is not None:
            randomize(network.eval(), seed)
    with torch.no_grad():  # else much of a clip is black or white
        for parameter in pipeline.vae.decoder.conv_out.parameters():
            parameter *= 0.3
    pipeline.save_pretrained(path, safe_serialization=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
