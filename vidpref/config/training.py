"""Schema of whatever trains: the loop, its optimizer, adapters."""

import dataclasses

from ml_collections import ConfigDict

from vidpref.config.fields import ON, PATTERN, Not, build, field, section

OPTIMIZERS = ("adam", "adamw", "muon")
DECAYS = ("constant", "linear", "cosine")
LORA_ZEROS = ("a", "b")
LORA_BASES = ("compute", "float32", "int8")
_NEW_ADAPTERS = ({".rank": ON, "model.lora": ""}, {".rank": ON, ".go_on": False})
_RISES = {".reference_decay": ON, "align.method": "diffusion_nft"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    """The optimizer of a training run."""

    name: str = field("adam", OPTIMIZERS, "Optimizer; muon orthogonalises updates of matrices.")
    learning_rate: float = field(1e-4, "> 0", "Learning rate after the warm-up.")
    warmup_steps: int = field(0, ">= 0", "Steps over which the learning rate rises.")
    decay: str = field("linear", DECAYS, "How the learning rate falls after the warm-up.")
    clip_norm: float = field(1.0, ">= 0", "Largest norm of all gradients together; 0: no limit.")
    weight_decay: float = field(
        0.0, ">= 0", "Decoupled decay of matrices.", when={".name": ("adamw", "muon")}
    )
    b1: float = field(0.9, "in [0, 1)", "Decay of the first moment.")
    b2: float = field(0.999, "in [0, 1)", "Decay of the second moment.")
    adam_layers: str = field(
        "",
        PATTERN,
        'Regular expression of parameters that Adam updates, such as "^(stem|head)/".',
        when={".name": "muon"},
    )
    adam_learning_rate: float = field(
        0.0, ">= 0", "Adam's rate beside Muon; 0: learning_rate.", when={".name": "muon"}
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """One run of the training loop."""

    steps: int = field(10_000, ">= 1", "Updates.")
    batch_size: int = field(64, ">= 1", "Rows of an update, over all devices.")
    accumulate: int = field(1, ">= 1", "Microbatches of an update, one after the other.")
    optimizer: Optimizer = section(Optimizer)
    ema_decay: float = field(0.0, "in [0, 1)", "Decay of the average of parameters; 0: none.")
    log_every: int = field(10, ">= 1", "Steps between two lines of metrics.", touches="watching")
    checkpoint_every: int = field(
        500, ">= 0", "Steps between two checkpoints; 0: none.", touches="watching"
    )
    checkpoint_minutes: float = field(
        10.0,
        ">= 0",
        "Minutes after which a checkpoint is saved besides; 0: by steps alone.",
        touches="watching",
        when={".checkpoint_every": ON},
    )
    keep_last: int = field(5, ">= 1", "Checkpoints that are kept.", touches="watching")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlignTrain(Train):
    """The training loop of an alignment, which can judge its checkpoints and move its reference."""

    checkpoint_every: int = field(
        500,
        ">= 0",
        "Steps between two checkpoints; 0: none.",
        touches="watching",
        result_when={"align.train.best_metric": ON},
    )
    best_metric: str = field(
        "", "", 'Metric whose best checkpoint is the policy, such as "accept"; "": the last one.'
    )
    reference_decay: float = field(
        0.0,
        "in [0, 1)",
        "Decay with which the reference follows the policy (RealDPO eq. 7); 0: it stays. Of "
        "diffusion_nft with which the policy that draws follows; 0: it is the one in training.",
        when={"align.method": ("dpo", "mcdpo", "kto", "diffusion_nft")},
    )
    reference_every: int = field(
        1,
        ">= 1",
        "Steps between two moves of the reference.",
        when={".reference_decay": ON, "align.method": Not("diffusion_nft")},
    )
    reference_rise: float = field(
        0.0,
        ">= 0",
        "What a step adds to that decay, which begins at 0 and ends at reference_decay "
        "(DiffusionNFT's code: 0.001); 0: it is reference_decay from the start.",
        when=_RISES,
    )
    reference_flat: int = field(
        0,
        ">= 0",
        "Steps before it begins to rise.",
        when={**_RISES, ".reference_rise": ON},
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters, trained in the place of the network."""

    rank: int = field(0, ">= 0", "Rank of the adapters; 0: no adapters.")
    go_on: bool = field(
        True,
        "",
        "Train the adapters of model.lora, of their own ranks; False: new ones beside them.",
        when={".rank": ON, "model.lora": ON},
    )
    alpha: float = field(128.0, "> 0", "Adapters count alpha / rank times.", when=_NEW_ADAPTERS)
    dropout: float = field(
        0.0, "in [0, 1)", "Dropout in front of the adapters.", when={".rank": ON}
    )
    base: str = field(
        "compute",
        LORA_BASES,
        "How base and reference are kept: in the type that layers compute in, which computes the "
        "same in less memory; as stored; or kernels of blocks in 8 bits.",
        touches="speed",
        when={".rank": ON},
        result_when={"align.lora.base": "int8"},
    )
    zero: str = field("b", LORA_ZEROS, "Factor that starts at zero.", when=_NEW_ADAPTERS)
    targets: tuple[str, ...] = field(
        (r"(self|spatial|temporal|full|cross)/(qkv|query|key_value|out)/",),
        PATTERN,
        "Regular expressions of the layers that get adapters.",
        when=_NEW_ADAPTERS,
    )


def loop_settings(train: ConfigDict) -> ConfigDict:
    """Returns a `train` section with all that the loop reads: what only alignments have is off."""
    settings = build(AlignTrain)
    settings.update(train)
    return settings
