"""Answers of a vision-language model, token by token, as one program."""

import flax.struct
import jax
import jax.numpy as jnp

from vidpref.language.sampling import Sampling, log_probabilities
from vidpref.models.lora import apply_network
from vidpref.models.qwen_vl.answers import QwenVLAnswers
from vidpref.models.qwen_vl.inputs import Inputs
from vidpref.models.qwen_vl.network import QwenVL
from vidpref.models.qwen_vl.text import Cache
from vidpref.models.spread import spread_batch
from vidpref.typing import Array, Bool, Float, Int, Key, PyTree


@flax.struct.dataclass
class Answers:
    """g answers to each of b prompts.

    Attributes:
        tokens: numbers of the tokens [b, g, n], the end too; padding behind it.
        log_probs: logarithm of the probability with which each was drawn [b, g, n]; 0 of padding.
        lengths: tokens of each answer, the end too [b, g].
        ended: whether an answer came to its end [b, g], and was not cut off.
    """

    tokens: PyTree
    log_probs: PyTree
    lengths: PyTree
    ended: PyTree


@flax.struct.dataclass
class _Step:
    number: PyTree
    logits: PyTree
    tokens: PyTree
    log_probs: PyTree
    ended: PyTree
    cache: PyTree


def answer(
    module: QwenVL | QwenVLAnswers,
    params: PyTree,
    inputs: Inputs,
    key: Key[Array, ""],
    rule: Sampling,
    answers: int = 1,
) -> Answers:
    """Returns answers to prompts; to be compiled, once a shape of `inputs`.

    The vision tower and the prompt are computed once, for all answers of a prompt; every further
    token reads the keys and values that are kept of those before it. The loop ends when all answers
    have.

    Args:
        module: the network.
        params: its parameters, or `Adapted`.
        inputs: prompts, padded on either side.
        key: key of the draws; each answer has its own of it.
        rule: how tokens are drawn.
        answers: answers to a prompt, g.
    """
    b, l = inputs.tokens.shape
    features = None
    if inputs.patches is not None:
        features = apply_network(module, params, inputs.patches, method="features")
    cache = _empty(module, b, l)
    states, cache = apply_network(module, params, inputs, features, cache, method="prompt")
    last = l - 1 - jnp.argmax(inputs.mask[:, ::-1], axis=1)
    states = jnp.take_along_axis(states, last[:, None, None], axis=1)[:, 0]
    logits = apply_network(module, params, states, method="logits")
    places = jnp.where(inputs.mask[..., None], inputs.positions, -1)
    following = jnp.repeat(places.max(axis=(1, 2)) + 1, answers)
    cache = _spread(_repeated(cache, inputs.mask, answers, rule.length))

    rows = b * answers
    keys = jax.random.split(key, rows)
    first = _Step(
        jnp.zeros((), jnp.int32),
        jnp.repeat(logits, answers, axis=0),
        jnp.full((rows, rule.length), rule.pad, jnp.int32),
        jnp.zeros((rows, rule.length), jnp.float32),
        jnp.zeros(rows, bool),
        cache,
    )

    def draw(step: _Step) -> tuple[_Step, Array]:
        token, log_prob = _draw(step.logits, keys, step.number, rule)
        token = jnp.where(step.ended, rule.pad, token)
        log_prob = jnp.where(step.ended, 0.0, log_prob)
        ends = _is_end(token, rule) & ~step.ended
        place = (0, step.number)
        put = jax.lax.dynamic_update_slice
        drawn = step.replace(
            tokens=put(step.tokens, token[:, None], place),
            log_probs=put(step.log_probs, log_prob[:, None], place),
            ended=step.ended | ends,
            number=step.number + 1,
        )
        return drawn, token

    def more(step: _Step) -> Array:
        return (step.number < rule.length) & ~step.ended.all()

    def advance(step: _Step) -> _Step:
        """Reads the last token that was drawn, and draws the next."""
        before = step.number - 1
        slot = l + before
        token = jax.lax.dynamic_slice_in_dim(step.tokens, before, 1, axis=1)[:, 0]
        seen = jax.lax.dynamic_update_slice(step.cache.mask, jnp.ones((rows, 1), bool), (0, slot))
        cache = step.cache.replace(mask=seen)
        states, cache = apply_network(
            module, params, token, following + before, cache, slot, method="token"
        )
        logits = apply_network(module, params, states, method="logits")
        return draw(step.replace(logits=logits, cache=_spread(cache)))[0]

    step = jax.lax.while_loop(more, advance, draw(first)[0])
    ends = _is_end(step.tokens, rule)
    lengths = jnp.where(step.ended, jnp.argmax(ends, axis=1) + 1, rule.length)
    parts = (step.tokens, step.log_probs, lengths.astype(jnp.int32), step.ended)
    return Answers(*(part.reshape(b, answers, *part.shape[1:]) for part in parts))


def _draw(
    logits: Float[Array, "b v"], keys: Key[Array, " b"], number: Int[Array, ""], rule: Sampling
) -> tuple[Int[Array, " b"], Float[Array, " b"]]:
    chances = log_probabilities(logits, rule)
    if rule.temperature == 0:
        token = jnp.argmax(chances, axis=-1)
    else:
        own = jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
        token = jax.vmap(jax.random.categorical)(own, chances)
    return token.astype(jnp.int32), jnp.take_along_axis(chances, token[:, None], axis=-1)[:, 0]


def _is_end(tokens: Int[Array, "*b"], rule: Sampling) -> Bool[Array, "*b"]:
    ends = jnp.zeros(tokens.shape, bool)
    for end in rule.end:
        ends |= tokens == end
    return ends


def _empty(module: QwenVL | QwenVLAnswers, rows: int, room: int) -> Cache:
    text = module.config.text
    shape = (text.num_hidden_layers, rows, room, text.num_key_value_heads, text.head_dim)
    zeros = jnp.zeros(shape, jnp.dtype(module.dtype))
    return _spread(Cache(zeros, zeros, jnp.zeros((rows, room), bool)))


def _repeated(cache: Cache, mask: Array, answers: int, more: int) -> Cache:
    """The cache of a prompt for each of its answers, with room for more tokens."""
    wider = ((0, 0), (0, 0), (0, more), (0, 0), (0, 0))
    keys, values = (
        jnp.pad(jnp.repeat(x, answers, axis=1), wider) for x in (cache.keys, cache.values)
    )
    mask = jnp.pad(jnp.repeat(jnp.asarray(mask), answers, axis=0), ((0, 0), (0, more)))
    return Cache(keys, values, mask)


def _spread(cache: Cache) -> Cache:
    """Asks the compiler to spread the rows of a cache over devices."""
    keys, values = (
        jnp.swapaxes(spread_batch(jnp.swapaxes(x, 0, 1)), 0, 1) for x in (cache.keys, cache.values)
    )
    return cache.replace(keys=keys, values=values, mask=spread_batch(cache.mask))
