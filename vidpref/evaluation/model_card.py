"""The card of exported weights: what they are, how they were made, what was measured."""

from typing import Any

from vidpref.evaluation.pages import fill


def model_card(**fields: Any) -> str:
    """Returns a card in Markdown, with the header that model hubs read.

    Args:
        **fields: policy, form ("diffusers", "peft" or "torch"), pipeline (its class) and base (name
            of the pipeline it was made from), for "torch" base (name of the network) and command
            (how it is called), config, paper, method, hyper (hyper-parameters), lora (rank
            and alpha, "" without), metrics (of the last step), scores (rows of policy, prompts,
            acceptance), version and yaml (the config).
    """
    return fill("model_card.md", fields)
