"""What of a judge's network the `judge` section trains, and what it starts from."""

from collections.abc import Callable, Sequence

from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from vidpref.models.lora import LoRA
from vidpref.training.parts_and_adapters import PartsAndAdapters
from vidpref.training.tuning import Adapters, Parts
from vidpref.typing import Array, PyTree

JudgeTuning = Parts | PartsAndAdapters


def judge_tuning(
    section: ConfigDict, network: Callable[[Array], PyTree], seed: int, always: Sequence[str] = ()
) -> JudgeTuning:
    """Returns what is trained: parts of the network, and adapters where there are some.

    Args:
        section: the config's `judge`.
        network: key -> parameters, boxed.
        seed: seed of fresh adapters.
        always: patterns of parts that are trained whatever `parts` says.

    Raises:
        ValueError: patterns that match nothing.
    """
    lora = section.lora
    if not lora.rank:
        return Parts(network, (*section.parts, *always))
    spec = LoRA(lora.rank, float(lora.alpha), tuple(lora.targets), float(lora.dropout))
    parts = Parts(network, (*section.parts, *always))
    return PartsAndAdapters(parts, Adapters(network, spec, lora.base), seed)


def kept(tuning: JudgeTuning, params: PyTree) -> PyTree:
    """Returns parameters of which those that stand still beside adapters are kept as these say."""
    if not isinstance(tuning, PartsAndAdapters):
        return params
    trained = flatten_dict(tuning.parts.start(params))
    rest = {path: x for path, x in flatten_dict(params).items() if path not in trained}
    still = tuning.adapters.keeping.take(unflatten_dict(rest))
    return unflatten_dict(flatten_dict(still) | trained)
