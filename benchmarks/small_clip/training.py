"""How a small CLIP learns: from images and their texts, and from preferences between images."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.core import meta

from vidpref.interop.clip_folders import ClipFolder
from vidpref.models.clip.network import Clip
from vidpref.typing import Array, Float, Int, PyTree

_LARGEST_SCALE = 100.0  # of cosines (CLIP section 2.5)
_WARM_UP = 0.05  # of the steps


def contrastive_loss(logits: Float[Array, "b b"]) -> Float[Array, ""]:
    """Cross-entropy of every image's text among all, and of every text's image (CLIP figure 3).

    Args:
        logits: of image i and text j; those of one number belong together.
    """
    own = jnp.arange(len(logits))
    found = optax.softmax_cross_entropy_with_integer_labels
    return (found(logits, own).mean() + found(logits.T, own).mean()) / 2


def preference_loss(
    scores: Float[Array, "b 2"], preferred: Float[Array, "b 2"]
) -> Float[Array, ""]:
    """KL of the preferences and the softmax of two images' scores (PickScore section 3).

    Args:
        scores: of both images under one text.
        preferred: how likely each is preferred; (1/2, 1/2) for a tie.
    """
    said = jax.nn.log_softmax(scores)
    return (jax.scipy.special.xlogy(preferred, preferred) - preferred * said).sum(axis=1).mean()


def initial(module: Clip, seed: int) -> PyTree:
    """Returns random parameters, not boxed."""
    side, length = module.vision.image_size, module.text.max_position_embeddings
    images, tokens = np.zeros((1, side, side, 3), np.float32), np.zeros((1, length), np.int32)
    init = jax.jit(module.init)
    return meta.unbox(init(jax.random.key(seed), images, tokens)["params"])


def learn_captions(
    source: ClipFolder,
    params: PyTree,
    frames: Iterator[tuple],
    texts: Sequence[str],
    settings: dict,
) -> PyTree:
    """Returns the parameters after training on images and their texts.

    Args:
        source: folder with config, tokenizer and image processor of the network.
        params: to begin with.
        frames: batches of frames [b, h, w, 3], uint8, and the numbers of their texts, no two alike.
        texts: all of them.
        settings: of `fit`.
    """
    module, process = source.module(), source.processor("crop")
    tokens = source.tokens()(texts)

    def loss(params: PyTree, images: Array, read: Array) -> Float[Array, ""]:
        return contrastive_loss(module.apply({"params": params}, images, read))

    batches = ((process(shown), tokens[numbers]) for shown, numbers in frames)
    return fit(loss, params, batches, **settings)


def learn_preferences(
    source: ClipFolder,
    params: PyTree,
    frames: Iterator[tuple],
    texts: Sequence[str],
    settings: dict,
) -> PyTree:
    """Returns the parameters after training on preferences between two images of a text.

    Args:
        source, params, texts, settings: as of `learn_captions`.
        frames: batches of frames [b, 2, h, w, 3], uint8, the numbers of their texts, and the
            preferences [b, 2].
    """
    module, process = source.module(), source.processor("crop")
    tokens = source.tokens()(texts)

    def loss(params: PyTree, images: Array, read: Array, preferred: Array) -> Float[Array, ""]:
        return preference_loss(scores_of_pairs(module, params, images, read), preferred)

    def batches() -> Iterator[tuple]:
        for shown, numbers, preferred in frames:
            flat = process(shown.reshape(-1, *shown.shape[2:]))
            yield flat.reshape(*shown.shape[:2], *flat.shape[1:]), tokens[numbers], preferred

    return fit(loss, params, batches(), **settings)


def scores_of_pairs(
    module: Clip, params: PyTree, images: Float[Array, "b 2 h w 3"], tokens: Int[Array, "b l"]
) -> Float[Array, "b 2"]:
    """Returns what the model says of both images under their text, cosines times its scale."""
    variables = {"params": params}
    flat = images.reshape(-1, *images.shape[2:])
    seen = module.apply(variables, flat, method="embed_images").reshape(*images.shape[:2], -1)
    read = module.apply(variables, tokens, method="embed_texts")
    return jnp.exp(params["logit_scale"]) * jnp.einsum("bkd,bd->bk", seen, read)


def fit(
    loss: Callable[..., Float[Array, ""]],
    params: PyTree,
    batches: Iterator[tuple],
    *,
    steps: int,
    learning_rate: float,
    say: Callable[[int, float], Any] = lambda step, loss: None,
) -> PyTree:
    """Returns the parameters after steps of AdamW, with a warm-up and a half cosine to 0.

    Args:
        loss: `(params, *batch)`.
        params: to begin with.
        batches: at least `steps` of them.
        steps: of one batch each.
        learning_rate: the highest.
        say: told the loss of some steps.
    """
    warm_up = max(1, int(_WARM_UP * steps))
    rate = optax.warmup_cosine_decay_schedule(0.0, learning_rate, warm_up, steps)
    # b2 and eps are CLIP's (its table 18)
    adam = optax.adamw(rate, b1=0.9, b2=0.98, eps=1e-6, weight_decay=0.1, mask=_decays)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), adam)

    @jax.jit
    def step(params: PyTree, state: PyTree, batch: tuple) -> tuple[PyTree, PyTree, Array]:
        value, gradient = jax.value_and_grad(loss)(params, *batch)
        update, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, update)
        most = jnp.minimum(params["logit_scale"], jnp.log(_LARGEST_SCALE))
        return params | {"logit_scale": most}, state, value

    state = optimizer.init(params)
    for number in range(steps):
        params, state, value = step(params, state, next(batches))
        if number % 100 == 0 or number == steps - 1:
            say(number, float(value))
    return params


def _decays(params: PyTree) -> PyTree:
    """Weights decay, gains and biases do not (CLIP section 2.5)."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: path[-1].key in ("kernel", "embedding"), params
    )
