"""The generators by name."""

import difflib

import flax.linen as nn
from ml_collections import ConfigDict

from vidpref.models.cogvideox.network import CogVideoX
from vidpref.models.dit.network import DiT
from vidpref.models.dit.spatio_temporal import STDiT
from vidpref.models.unet3d.network import UNet3D
from vidpref.models.wan.network import Wan

GENERATORS: dict[str, type[nn.Module]] = {
    "unet3d": UNet3D,
    "dit": DiT,
    "st_dit": STDiT,
    "wan": Wan,
    "cogvideox": CogVideoX,
}
# Networks of diffusers, whose fields alone say their size: name -> field of the text's width.
PORTED = {"wan": "text_dim", "cogvideox": "text_embed_dim"}


def build_generator(model_config: ConfigDict, *, channels: int, text_dim: int) -> nn.Module:
    """Returns the generator `model_config.name` with the fields of the sub-dict of that name.

    Args:
        model_config: `name` and one sub-dict a model, e.g. `model_config.unet3d.blocks = 3`.
        channels: colour (or latent) channels of a clip.
        text_dim: width of the text embedding.

    Raises:
        ValueError: unknown model or field, the message names the nearest right one; or a ported
            network of another number of channels or width of text.
    """
    name = model_config.name
    if name not in GENERATORS:
        raise ValueError(f"model.name={name!r} is no generator; {_nearest(name, GENERATORS)}")
    module = GENERATORS[name]
    fields = dict(model_config.get(name, {}))
    given = set() if name in PORTED else {"channels", "text_dim"}
    known = set(module.__dataclass_fields__) - given - {"parent", "name"}
    for field in fields:
        if field not in known:
            raise ValueError(f"model.{name}.{field} is no field; {_nearest(field, known)}")
    if name in PORTED:
        ported = module(**fields)
        width = getattr(ported, PORTED[name])
        outputs = ported.out_channels or ported.in_channels
        if (width, outputs) != (text_dim, channels):
            raise ValueError(
                f"the {name} network makes latents of {outputs} channels from text of width "
                f"{width}; the autoencoder has {channels} and config.text.dim={text_dim}"
            )
        return ported
    return module(channels=channels, text_dim=text_dim, **fields)


def _nearest(word: str, known) -> str:
    matches = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(matches)}?" if matches else f"known: {sorted(known)}"
