"""What a judge that answers in words is told, one training after another."""

from ml_collections import ConfigDict

from vidpref.config.judge import ANSWERS
from vidpref.config.vlm_judge import PROBABILITIES
from vidpref.stages.own_answers import PHASES, instructed


def lessons(config: ConfigDict) -> dict[str, ConfigDict]:
    """Returns the trainings on what is known of clips, by their stages' names in their order.

    A judge that gives reasons and is to rank pairs first learns to see them, as one that says a
    word alone: a reason before the word would give it away, and the order of two clips would be
    learnt from what is said of them. It learns to give reasons then, from there.

    Args:
        config: the whole config of a run that trains a judge.

    Returns:
        The whole config of each training; {} where the judge is told nothing, and begins with
        drawing its own answers.
    """
    if not instructed(config):
        return {}
    form, critic = config.reward.vlm_judge.answers, config.judge.critic
    if config.judge.name != ANSWERS or form == PROBABILITIES or not critic.ranking:
        return {"judge": config}
    seeing, reasoning = (config.copy_and_resolve_references() for _ in range(2))
    seeing.reward.vlm_judge.answers = PROBABILITIES
    for phase in PHASES:
        seeing.judge[phase].enabled = False
    reasoning.judge.train.update(critic.reasons)
    return {"judge": seeing, "judge-reasons": reasoning}
