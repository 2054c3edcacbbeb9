"""What a generator is conditioned on: text, a first frame, an image, a low-resolution clip."""

import flax.struct
import jax
import jax.numpy as jnp

from vidpref.typing import PyTree


@flax.struct.dataclass
class Condition:
    """The condition of `b` clips; every leaf has the batch axis first.

    Attributes:
        text: frozen text embedding [b, l, d].
        text_mask: True where a token is real [b, l]; a row without any is unconditional.
        first_frame: the first frame in [-1, 1] [b, h, w, c].
        low_res: the clip to be enlarged in [-1, 1] [b, t, h2, w2, c] (super-resolution only).
        low_res_tau: diffusion time [b] of the noise put on `low_res`; None means clean.
        image_latent: the image's latent on the grid of the noisy latent [b, t, h, w, c2], behind
            its mask for Wan (image-to-video only).
        image_states: an image encoder's hidden states [b, m, e] (Wan image-to-video only).
        null_text: embedding [b, l, d] of the empty prompt, for networks that drop text by embedding
            and not by mask (Wan, CogVideoX).
        null_text_mask: mask [b, l] of the real tokens of `null_text`.
    """

    # not typed as arrays: jax maps over this tree, so leaves are also shapes, shardings or None
    text: PyTree
    text_mask: PyTree
    first_frame: PyTree = None
    low_res: PyTree = None
    low_res_tau: PyTree = None
    image_latent: PyTree = None
    image_states: PyTree = None
    null_text: PyTree = None
    null_text_mask: PyTree = None

    def repeat(self, k: int) -> "Condition":
        """Returns the condition of `b * k` clips, the `k` copies of a row next to each other."""
        return jax.tree.map(lambda leaf: jnp.repeat(leaf, k, axis=0), self)

    def without_text(self) -> "Condition":
        """Returns the unconditional branch of classifier-free guidance.

        That is `null_text` where there is one, and otherwise every token masked.
        """
        if self.null_text is not None:
            return self.replace(text=self.null_text, text_mask=self.null_text_mask)
        return self.replace(text_mask=jnp.zeros_like(self.text_mask))
