"""Folders of CLIP models, in the layout of transformers or of OpenCLIP."""

import os
from typing import Any

import jax
import numpy as np

from vidpref.interop.clip import COUNTED, clip_table
from vidpref.interop.clip_tokens import ClipTokens
from vidpref.interop.image_processor import ImageProcessor, read_processor
from vidpref.interop.json_fields import read_fields
from vidpref.interop.loading import Tensors, component_config, load_onto
from vidpref.interop.open_clip import BESIDE, OpenClipTensors, as_transformers
from vidpref.interop.safetensors_files import PICKLES, TensorFolder
from vidpref.interop.table import plan
from vidpref.models.clip.network import Clip
from vidpref.models.clip.sizes import PUBLISHED
from vidpref.storage.copies import here
from vidpref.typing import PyTree

OPEN_CLIP, OPEN_CLIP_CONFIG = "open_clip_model.safetensors", "open_clip_config.json"
_ALONE = "ViT-H/14"  # what weights of OpenCLIP without a config are, as HPSv2's


class ClipFolder:
    """A CLIP model with both towers.

    Where config.json lies it is a folder of transformers (PickScore; OpenAI's and LAION's models);
    otherwise `OPEN_CLIP` with `OPEN_CLIP_CONFIG`. HPSv2 is published without a config: weights
    without one are taken for ViT-H/14.

    Attributes:
        path: the folder.

    Raises:
        ValueError: no such folder, or one of another model.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = here(path)
        if not self.path.is_dir():
            raise ValueError(f"{self.path}: no such folder of a CLIP model")
        try:
            self._config = self._read_config()
            Clip.from_config(self._config)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from error

    def module(self, **options: Any) -> Clip:
        """Returns the network.

        Args:
            **options: `dtype`.
        """
        return Clip.from_config(self._config, **options)

    def check(self) -> None:
        """Refuses weights that are not those of the config; no value is read.

        Raises:
            ValueError: as `load`.
        """
        tensors = self._tensors()
        shapes = {n: s for n, s in tensors.shapes.items() if n not in (*COUNTED, *BESIDE)}
        try:
            plan(shapes, clip_table(), expected=abstract_clip(self.module()))
        except ValueError as error:
            raise ValueError(f"{tensors}: {error}") from error

    def load(self, target: PyTree) -> PyTree:
        """Returns the parameters as `load_onto` places them.

        Args:
            target: `jax.ShapeDtypeStruct`s with shardings.

        Raises:
            ValueError: weights that are missing, damaged, or not those of the config.
        """
        return load_onto(target, self._tensors(), clip_table(), ignore=(*COUNTED, *BESIDE))

    def tokens(self, folder: str = "") -> ClipTokens:
        """Returns the tokenizer, of another folder if one is given.

        Raises:
            ValueError: see `ClipTokens`.
        """
        text = self.module().text
        where = here(folder) if folder else self.path
        return ClipTokens(where, text.max_position_embeddings, text.vocab_size)

    def processor(self, fit: str) -> ImageProcessor:
        """Returns the image processor.

        Args:
            fit: see `ImageProcessor`.

        Raises:
            ValueError: see `read_processor`.
        """
        own = ImageProcessor(self.module().vision.image_size, fit)
        return read_processor(self.path, own)

    def _read_config(self) -> dict[str, Any]:
        if (self.path / "config.json").exists():
            return component_config(self.path)
        if (self.path / OPEN_CLIP_CONFIG).exists():
            model = read_fields(self.path / OPEN_CLIP_CONFIG).get("model_cfg")
            if not isinstance(model, dict):
                raise ValueError(f"{OPEN_CLIP_CONFIG} has no field model_cfg")
            return as_transformers(model)
        if (self.path / OPEN_CLIP).exists():
            return PUBLISHED[_ALONE]
        names = sorted(path.name for path in self.path.iterdir())
        pickles = [name for name in names if name.endswith(PICKLES)]
        if pickles:
            raise ValueError(
                f"weights as pickle ({pickles[0]}), which may run any program when it is read: "
                f"python launch/weights/unpickle.py --file={self.path / pickles[0]} "
                f"--out={self.path / OPEN_CLIP}"
            )
        raise ValueError(
            f"no config.json of transformers and no {OPEN_CLIP}; it holds "
            f"{', '.join(names) or 'nothing'}"
        )

    def _tensors(self) -> Tensors:
        if (self.path / "config.json").exists():
            return TensorFolder(self.path)
        return OpenClipTensors(TensorFolder(self.path / OPEN_CLIP))


def abstract_clip(module: Clip) -> PyTree:
    """Returns the shapes of a network's parameters, boxed with their logical names."""

    def init(key: jax.Array) -> PyTree:
        side, length = module.vision.image_size, module.text.max_position_embeddings
        images = np.zeros((1, side, side, 3), np.float32)
        return module.init(key, images, np.zeros((1, length), np.int32))["params"]

    return jax.eval_shape(init, jax.random.key(0))
