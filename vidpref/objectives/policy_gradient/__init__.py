"""The policy gradient of GRPO and its relatives: pure functions of log-probabilities and rewards.

Whether what was drawn are the tokens of a language model or the steps of a generator's sampler
makes no difference here. Rewards become advantages (`group_advantages`) where the global batch is
drawn, and advantages a loss (`policy_gradient`) at each update.
"""

from vidpref.objectives.policy_gradient.advantages import (
    ORDERS,
    SCALES,
    AdvantageRule,
    group_advantages,
)
from vidpref.objectives.policy_gradient.aggregation import AGGREGATIONS
from vidpref.objectives.policy_gradient.objective import (
    DIVERGENCES,
    Draws,
    PolicyGradient,
    draw_counts,
    policy_gradient,
)
from vidpref.objectives.policy_gradient.ratios import LEVELS

__all__ = [
    "AGGREGATIONS",
    "DIVERGENCES",
    "LEVELS",
    "ORDERS",
    "SCALES",
    "AdvantageRule",
    "Draws",
    "PolicyGradient",
    "draw_counts",
    "group_advantages",
    "policy_gradient",
]
