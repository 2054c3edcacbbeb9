"""The card of exported weights: what they are, how they were made, what was measured."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_TEMPLATES = Path(__file__).parent / "templates"


def model_card(**fields: Any) -> str:
    """Returns a card in Markdown, with the header that model hubs read.

    Args:
        **fields: policy, form ("diffusers" or "peft"), pipeline (its class), base (name of the
            pipeline it was made from), config, paper, method, hyper (hyper-parameters), lora (rank
            and alpha, "" without), metrics (of the last step), scores (rows of policy, prompts,
            acceptance), version and yaml (the config).
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("model_card.md").render(**fields)
