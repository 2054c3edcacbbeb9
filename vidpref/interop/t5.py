"""T5 and UMT5: which tensor of transformers is which parameter of `models.t5.T5Encoder`."""

from vidpref.interop.table import Rule, Table
from vidpref.models.t5 import T5Encoder

# What a checkpoint of the whole model holds besides the encoder.
NOT_OF_THE_ENCODER = ("decoder.", "lm_head.")

_ATTENTION = "encoder.block.{i}.layer.0"
_PERCEPTRON = "encoder.block.{i}.layer.1"


def t5_table(encoder: T5Encoder) -> Table:
    """Returns the table of an encoder; T5 keeps the bias of all blocks in the first."""
    own = encoder.bias_in_every_block
    bias = "encoder.block.{i}" if own else "encoder.block.0"
    return (
        Rule("shared.weight", "embed/embedding", "embedding", tied="encoder.embed_tokens.weight"),
        Rule(
            f"{bias}.layer.0.SelfAttention.relative_attention_bias.weight",
            "blocks/distance_bias/embedding" if own else "distance_bias/embedding",
            "embedding",
        ),
        *(
            Rule(f"{_ATTENTION}.SelfAttention.{name}.weight", f"blocks/{name}/kernel", "linear")
            for name in "qkvo"
        ),
        *(
            Rule(f"{_PERCEPTRON}.DenseReluDense.{theirs}.weight", f"blocks/{ours}/kernel", "linear")
            for theirs, ours in (("wi_0", "gate"), ("wi_1", "up"), ("wo", "down"))
        ),
        Rule(f"{_ATTENTION}.layer_norm.weight", "blocks/attention_norm/scale", "vector"),
        Rule(f"{_PERCEPTRON}.layer_norm.weight", "blocks/perceptron_norm/scale", "vector"),
        Rule("encoder.final_layer_norm.weight", "norm/scale", "vector"),
    )
