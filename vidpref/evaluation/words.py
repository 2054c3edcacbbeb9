"""What codes, metrics and counts are called on a page for readers."""

import re
from collections.abc import Mapping
from typing import Any

from vidpref.datasets.miniworld.vocabulary import CAMERA_CATEGORY
from vidpref.datasets.prompts import CATEGORIES
from vidpref.evaluation.rounds import title

_CATEGORIES = {**CATEGORIES, CAMERA_CATEGORY: "moving camera"}

# Metrics of every objective and of the training step.
METRICS = {
    "loss": "loss",
    "error": "denoising error of the policy",
    "error_old": "denoising error of the policy that drew",
    "distance": "distance from the policy that drew",
    "divergence": "distance from the pre-trained policy",
    "divergence_old": "distance of the policy that drew from the pre-trained one",
    "reference_decay": "decay of the policy that draws",
    "at_target": "clips that reached the target",
    "judged_at": "time of the judged state",
    "proxy": "reward of the drawn clips",
    "error_winner": "error on winners, policy",
    "error_loser": "error on losers, policy",
    "reference_error_winner": "error on winners, reference",
    "reference_error_loser": "error on losers, reference",
    "error_real": "error on real clips",
    "margin": "margin between winner and loser",
    "pair_accuracy": "pairs told apart",
    "saturation": "saturation of the sigmoid",
    "leash": "leash: beta times the reference's error",
    "saturated_fraction": "pairs with a saturated sigmoid",
    "winner_weight": "weight of winners by motion",
    "weight": "weight of a clip",
    "weight_max": "largest weight of a clip",
    "negative_weights": "clips with negative weight",
    "reference_point": "reference point of KTO",
    "moved_desirable": "gain on desirable clips",
    "moved_undesirable": "gain on undesirable clips",
    "desirable": "share of desirable clips",
    "accuracy": "pairs ranked as labelled",
    "decided": "pairs with a winner",
    "tied": "pairs labelled as ties",
    "absolute_error": "absolute error of the scores",
    "reward": "mean score",
    "reward_std": "spread of the score within prompts",
    "failed": "clips without a verdict",
    "truth": "mean score, verifier",
    "look": "look of the clips",
    "zero_spread_groups": "groups that scored alike and teach nothing",
    "zero_spread": "groups that scored alike",
    "unscored": "answers without a score",
    "answers": "loss of what the judge is to say",
    "order": "loss of the order of two clips",
    "token_accuracy": "tokens that it would say itself",
    "answer_length": "length of an answer, tokens",
    "truncated": "answers that did not end",
    "impossible": "draws that were not possible",
    "entropy": "entropy of a token",
    "advantage_std": "spread of the advantages",
    "ratio": "ratio of probabilities",
    "clip_fraction": "steps with a clipped ratio",
    "policy_kl": "divergence from the policy that drew",
    "kl": "divergence from the reference",
    "sampler_gap": "log-probability, sampler less training",
    "grad_norm": "norm of the gradient",
    "update_norm": "norm of the update",
    "param_norm": "norm of the parameters",
    "learning_rate": "learning rate",
    "accept": "acceptance of validation clips",
}

# Counts of `pairs.json`, of every row builder; of an account within it behind its name and a dot.
_COUNTS = {
    "prompts": "prompts with labels",
    "pairs": "pairs that train",
    "too_few": "prompts or winners with too few clips",
    "all_accepted": "prompts whose clips were all accepted: no pair",
    "all_rejected": "prompts whose clips were all rejected: no pair",
    "equal_scores": "prompts whose clips all scored the same: no pair",
    "compared": "pairs of train prompts",
    "chosen": "with a winner",
    "mixed": "whose loser won a dimension",
    "ties": "ties: left out",
    "conflicting": "with judges who disagree: left out",
    "invalid": "called invalid: left out",
    "unlabelled": "without a verdict that counts: left out",
    "repeated": "verdicts that stand more than once: counted once",
    "clips": "clips",
    "positive": "good clips",
    "negative": "bad clips",
    "even": "clips that are neither good nor bad: left out",
    "winners": "clips that won a pair",
    "rows": "rows that train",
    "unused": "losers beyond the number asked for",
    "file.verdicts": "verdicts in the file",
    "file.pairs": "pairs in the file",
    "file.train": "of train prompts, both clips read",
    "file.validation": "held out for validation",
    "file.test": "held out for testing",
    "file.unreadable": "with a clip that could not be read: left out",
    "file.clips": "clips in the file",
    "file.unreadable_clips": "clips that could not be read",
    "gaps.stated": "rows with a gap of scores in the file",
    "gaps.contradicting": "whose scores contradict the verdict",
    "parted_at": "step at which reward and verifier had parted",
    "trained": "steps that were trained",
    "asked": "steps that were asked for",
}
_ORDER = ("file",)  # accounts within an account that come first
_SAYS = "says"  # the counts once more, as a sentence

# Stages by their names; groups are policies.
_STAGES = (
    (r"data", "data"),
    (r"text", "embedding of the prompts"),
    (r"latents", "encoding of the clips"),
    (r"import", "import of the weights"),
    (r"pretrain", "pre-training"),
    (r"superres", "training of super-resolution"),
    (r"latent-reward", "training of the latent reward"),
    (r"align-(.+)-round1", "alignment with {}"),
    (r"align-(.+)-(round\d+)", "alignment with {}, {}"),
    (r"sample-losers-(.+)", "sampling of losers, {}"),
    (r"sample-train-(.+)", "sampling of clips to learn from, {}"),
    (r"sample-evaluation-(.+)", "sampling of clips to compare, {}"),
    (r"sample-validation-(.+)", "sampling of validation clips, {}"),
    (r"judged-(?:world|clips)", "preferences of the verifier"),
    (r"frames", "decoding for the judge"),
    (r"judge-base", "a judge with random weights"),
    (r"judge", "training of the judge"),
    (r"judge-reasons", "training of the judge to give reasons"),
    (r"judge-reasoning", "the judge learns from its own answers about a clip (ScDR)"),
    (r"judge-hierarchy", "the judge learns from its own answers about two clips (HCR)"),
    (r"verify-train-(.+)", "verifying of clips to learn from, {}"),
    (r"verify-validation-(.+)", "verifying of validation clips, {}"),
    (r"verify-evaluation-(.+)", "verifying of clips to compare, {}"),
    (r"label-train-(.+)", "judging of clips to learn from, {}"),
    (r"label-evaluation-(.+)", "judging of clips to compare, {}"),
    (r"label-validation-(.+)", "judging of validation clips, {}"),
)
_FINGERPRINT = re.compile(r"-[0-9a-f]{12}$")


def category(name: str) -> str:
    """Returns a category's name for readers: "OR" of AIF's prompts is "object removal"."""
    return _CATEGORIES.get(name, name)


def metric(name: str) -> str:
    """Returns what a metric is called: "grad_norm" is "norm of the gradient".

    One of several dimensions has its name behind a slash: "accuracy/motion_quality".
    """
    base, _, dimension = name.partition("/")
    if not dimension or base not in METRICS:
        return METRICS.get(name, name.replace("_", " "))
    return f"{METRICS[base]}: {dimension.replace('_', ' ')}"


def stage(name: str) -> str:
    """Returns what a stage does, by its name or its folder's: "align-dpo-round1" is "alignment with
    DPO".
    """
    name = _FINGERPRINT.sub("", name)
    for pattern, words in _STAGES:
        if match := re.fullmatch(pattern, name):
            policy, *more = match.groups() or ("",)
            more = [part.replace("round", "round ") for part in more]
            return words.format(title(policy), *more)
    return name


def counts(account: Mapping[str, Any], of: str = "") -> list[tuple[str, int | float]]:
    """Returns (what, how many) of an account such as `pairs.json`, whatever is in it.

    Lists are counted; texts are left to `notes`.

    Args:
        account: names and counts; may hold accounts.
        of: name of the account within another one.
    """
    found = []
    for name in sorted(account, key=lambda name: name not in _ORDER):
        value, path = account[name], f"{of}.{name}" if of else name
        if isinstance(value, Mapping):
            found += counts(value, name)
        elif isinstance(value, list | tuple):
            found.append((_count_of(path), len(value)))
        elif isinstance(value, int | float):
            found.append((_count_of(path), value))
    return found


def notes(account: Mapping[str, Any]) -> list[str]:
    """Returns the texts of an account, such as a warning or how verdicts were weighed."""
    texts = {name: text for name, text in account.items() if isinstance(text, str)}
    return [text for name, text in texts.items() if text and name != _SAYS]


def _count_of(path: str) -> str:
    of, _, name = path.rpartition(".")
    if path in _COUNTS or not of:
        return _COUNTS.get(path, name.replace("_", " "))
    if of == "pairs":  # where winners and losers come from
        return _COUNTS.get(name, name.replace("_", " "))
    return f"{of}: {name}".replace("_", " ")


def capital(text: str) -> str:
    """Returns a text with a capital letter in front, the rest as it is."""
    return text[:1].upper() + text[1:]
