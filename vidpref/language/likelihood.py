"""How likely a policy finds answers that were drawn, in the way in which they were drawn."""

import flax.struct
import jax.numpy as jnp

from vidpref.language.sampling import Sampling, log_probabilities
from vidpref.typing import Array, Float, Int, PyTree


@flax.struct.dataclass
class Likelihood:
    """What a policy says of the n tokens of g answers to each of b prompts.

    Attributes:
        log_probs: logarithm of the probability of each token [b, g, n], in float32.
        entropy: of the distribution that each token is from [b, g, n].
        mask: tokens of the answers, their ends too, and no padding [b, g, n].
    """

    log_probs: PyTree
    entropy: PyTree
    mask: PyTree


def likelihood(
    logits: Float[Array, "b g n v"],
    tokens: Int[Array, "b g n"],
    lengths: Int[Array, "b g"],
    rule: Sampling,
) -> Likelihood:
    """Returns the likelihood of answers under the rule by which they were drawn.

    Temperature, top-k, top-p and forbidden tokens are applied as in drawing, so that before an
    update it is what `Answers.log_probs` says. A token that the rule would no longer draw has minus
    infinity. Which tokens are there is told by lengths and not by their numbers, as padding may be
    a token that ends answers.

    Args:
        logits: of each token, read before it.
        tokens, lengths: see `Answers`.
        rule: that of the answers.
    """
    chances = log_probabilities(logits, rule)
    log_probs = jnp.take_along_axis(chances, tokens[..., None], axis=-1)[..., 0]
    possible = ~jnp.isneginf(chances)
    finite = jnp.where(possible, chances, 0.0)
    entropy = -jnp.where(possible, jnp.exp(finite) * finite, 0.0).sum(axis=-1)
    places = jnp.arange(tokens.shape[2])[None, None]
    return Likelihood(log_probs, entropy, places < lengths[..., None])
