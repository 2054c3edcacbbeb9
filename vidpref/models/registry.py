"""The generator networks by name, and what the rest of the house must know of each."""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
from ml_collections import ConfigDict

from vidpref.config.nearest import nearest
from vidpref.models.cogvideox.network import CogVideoX
from vidpref.models.dit.network import DiT
from vidpref.models.dit.spatio_temporal import STDiT
from vidpref.models.unet3d.network import UNet3D
from vidpref.models.wan.network import Wan


def _first_frame(module: nn.Module) -> str:
    return "first_frame" if module.first_frame else ""


def _image_latent(module: nn.Module) -> str:
    return "image_latent" if module.in_channels > _latent_channels(module) else ""


def _latent_channels(module: nn.Module) -> int:
    return module.out_channels or module.in_channels


@dataclasses.dataclass(frozen=True, kw_only=True)
class Backbone:
    """A generator network `(x_tau, tau, condition) -> output`, and how it is used.

    The defaults are those of a network of this project, which works on pixels and is trained from
    nothing on clips of a data set.

    Attributes:
        module: the network.
        text_width: field of the width of the text embedding.
        channels: from a module, how many channels its clips have.
        sees: from a module, what it sees of a clip's first frame: "first_frame" (the pixels),
            "image_latent" (their latent, on the `in_channels` that the clip leaves free) or "".
        null_text: what tells it that there is no text: "mask" (no token is real) or "words" (the
            embedding of an empty or a negative prompt).
        latents: whether its clips are latents of an autoencoder.
        pretrained: whether its sizes and first weights are those of a diffusers pipeline, and it
            is not trained from nothing.
        from_preferences: whether it learns from a file of preferences, and not from a data set.
        divides_tokens: whether it can divide the tokens of one clip over devices.
    """

    module: type[nn.Module]
    text_width: str = "text_dim"
    channels: Callable[[nn.Module], int] = lambda module: module.channels
    sees: Callable[[nn.Module], str] = _first_frame
    null_text: str = "mask"
    latents: bool = False
    pretrained: bool = False
    from_preferences: bool = False
    divides_tokens: bool = True

    def null_prompt(self, words: str) -> str | None:
        """Returns the prompt that stands for no text, None where the mask does.

        Args:
            words: the prompt of networks that take words for it, empty or what not to show.
        """
        return words if self.null_text == "words" else None


def _from_diffusers(module: type[nn.Module], *, text_width: str) -> Backbone:
    """A network of a diffusers pipeline, with the fields of its config.json."""
    return Backbone(
        module=module,
        text_width=text_width,
        channels=_latent_channels,
        sees=_image_latent,
        null_text="words",
        latents=True,
        pretrained=True,
        from_preferences=True,
    )


BACKBONES = {
    "unet3d": Backbone(module=UNet3D, divides_tokens=False),
    "dit": Backbone(module=DiT),
    "st_dit": Backbone(module=STDiT),
    "wan": _from_diffusers(Wan, text_width="text_dim"),
    "cogvideox": _from_diffusers(CogVideoX, text_width="text_embed_dim"),
}


def backbone(name: str) -> Backbone:
    """Returns the backbone `config.model.name`.

    Raises:
        ValueError: there is none; the message names the nearest.
    """
    if name not in BACKBONES:
        raise ValueError(f"model.name={name!r} is no generator; {nearest(name, BACKBONES)}")
    return BACKBONES[name]


def build_generator(model_config: ConfigDict, *, channels: int, text_dim: int) -> nn.Module:
    """Returns the generator `model_config.name` with the fields of the sub-dict of that name.

    Args:
        model_config: `name` and one sub-dict a model, e.g. `model_config.unet3d.blocks = 3`.
        channels: colour (or latent) channels of a clip.
        text_dim: width of the text embedding.

    Raises:
        ValueError: unknown model or field, the message names the nearest right one; or a network of
            a pipeline that has another number of channels or width of text.
    """
    name = model_config.name
    entry = backbone(name)
    sizes = {} if entry.pretrained else {"channels": channels, entry.text_width: text_dim}
    fields = dict(model_config[name])
    known = set(entry.module.__dataclass_fields__) - {*sizes, "parent", "name"}
    for field in fields:
        if field not in known:
            raise ValueError(f"model.{name}.{field} is no field; {nearest(field, sorted(known))}")
    module = entry.module(**sizes, **fields)
    found = getattr(module, entry.text_width), entry.channels(module)
    if found != (text_dim, channels):
        raise ValueError(
            f"the {name} network makes latents of {found[1]} channels from text of width "
            f"{found[0]}; the autoencoder has {channels} and config.text.dim={text_dim}"
        )
    return module
