"""What a family of diffusers pipelines is, beside its backbone in `vidpref.models.registry`."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from vidpref.interop.table import Table
from vidpref.models.registry import backbone


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """Pipelines of one architecture.

    Attributes:
        name: name of the backbone.
        pipelines: their classes in diffusers, each with the config that gives its clips a size,
            steps and guidance where nothing else is asked for.
        autoencoder: the autoencoder, built by `from_config`.
        classes: in diffusers, of the components that are read.
        transformer_table, autoencoder_table: from a module, its tensors in diffusers.
        text: how the pipelines encode prompts, as fields of `config.text`.
        text_length: field of the transformer that says how many tokens a prompt has; "" where any
            number will do.
        original: names of layers in the authors' own code, which LoRA files have, and those in
            diffusers; "{i}" stands for the number of a block.
    """

    name: str
    pipelines: Mapping[str, str]
    classes: Mapping[str, str]
    autoencoder: type[nn.Module]
    transformer_table: Callable[[Any], Table]
    autoencoder_table: Callable[[Any], Table]
    text: Mapping[str, Any]
    text_length: str = ""
    original: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def transformer(self) -> type[nn.Module]:
        """The generator network, built by `from_config`."""
        return backbone(self.name).module

    def text_fields(self, transformer: nn.Module) -> dict[str, Any]:
        """Returns the fields of `config.text` for a transformer of this family."""
        if not self.text_length:
            return dict(self.text)
        return {**self.text, "length": getattr(transformer, self.text_length)}
