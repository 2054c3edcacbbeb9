"""What used to come out in a late stage is refused before the first one starts."""

import pytest

from tests.data_folders import something_something, videos_with_captions
from vidpref.config.overrides import apply_overrides
from vidpref.generation.adopt import load_config
from vidpref.runs import rounds

SMALL = {
    "dit": ("model.dit.width=32", "model.dit.layers=2", "model.dit.head_dim=16"),
    "unet3d": (
        "model.unet3d.features=(32,)",
        "model.unet3d.blocks=(1,)",
        "model.unet3d.spatial=(False,)",
        "model.unet3d.temporal=(True,)",
        "model.unet3d.cross=(True,)",
    ),
}
JUDGE = ("reward.name=remote_judge", "reward.remote_judge.model=m")
SSV2 = ("data.name=something_something_v2", "reward.name=none")
CASCADE = ("superres.enabled=True", "data.high_height=32", "data.high_width=32")

# config, overrides, message, and the stage that used to say it; {} is a folder, see `folder`
LATE = [
    ("dpo_aif", ["data.name=minworld"], "data.name='minworld': known are miniworld", "data"),
    ("own", [], "config.data.path is empty", "data"),
    ("own", ["data.path={}/none"], r"config.data.path='.*/none': .*captions.csv: no such", "data"),
    ("own", ["data.path={}/comma"], r"comma/captions.csv, line 2", "data"),
    ("own", ["data.path={}/held_out"], "no video to pre-train on, all captions are held", "data"),
    ("own", ["data.held_out=0.5"], r"held_out=0.5: must be in \[0, 0.5\)", "pretrain"),
    ("realdpo", [*SSV2, "data.path={}/none"], "none: no such folder", "data"),
    ("realdpo", [*SSV2, "data.path={}/videos"], "no train labels", "data"),
    ("realdpo", [*SSV2, "data.path={}/ssv2", "data.prompts=x.csv"], "x.csv: no such", "data"),
    ("dpo_aif", ["data.frames=9"], "data.frames=9: clips of the mini world have 8", "pretrain"),
    ("dpo_aif", ["data.width=24"], "data.width=24: clips of the mini world have 16", "pretrain"),
    ("dpo_aif", [*CASCADE, "data.high_width=64"], "high_width=64: clips of the", "superres"),
    ("dpo_aif", [*CASCADE, "data.camera=True"], "data.camera=True and config.superres", "data"),
    (
        "dpo_aif",
        [*CASCADE, "superres.sampler_steps=2000"],
        "superres.sampler_steps: 2000",
        "sample",
    ),
    (
        "dpo_aif",
        [*CASCADE, "superres.model.unet3d.blocks=(1,1,1,1)"],
        "config.superres.model: blocks=.* needs one value for each",
        "superres",
    ),
    ("dpo_aif", ["text.dim=15"], "a positive length and an even dim, got 12 and 15", "text"),
    ("own", ["data.path={}/videos", "text.truncate=False", "text.length=3"], "has 4 words", "text"),
    ("dpo_aif", JUDGE, "needs config.reward.remote_judge.base_url", "label"),
    ("dpo_aif", [*JUDGE, "reward.remote_judge.base_url=judge:80"], "must start with http", "label"),
    ("dpo_aif", [*JUDGE, "reward.remote_judge.base_url=http://"], "is no address such", "label"),
    ("dpo_aif", [*JUDGE, "reward.remote_judge.base_url=http://j:x/v1"], "no address: Po", "label"),
    ("dpo_aif", [*JUDGE, "reward.remote_judge.base_url=http://a b/v1"], "no address", "label"),
    (
        "dpo_aif",
        [
            *JUDGE,
            "reward.remote_judge.base_url=http://j/v1",
            "reward.remote_judge.api_key_env=NO_SUCH_KEY",
        ],
        "api_key_env='NO_SUCH_KEY': there is no such environment variable",
        "label",
    ),
    ("dpo_aif", ["reward.dimension=acept"], "config.reward: no dimension 'acept'", "label"),
    ("dpo_aif", ["label.per_prompt=1"], "label.per_prompt=1: clips of a prompt are", "align"),
    ("flow_nrg", ["label.per_prompt=1"], "label.per_prompt=1: clips of a prompt are", "align"),
    ("dpo_aif", ["align.train.best_metric=acept"], "best_metric='acept': checkpoints", "align"),
    ("dpo_aif", ["align.policy=a/b"], "align.policy='a/b': up to 120 letters", "align"),
    ("dpo_aif", ["align.policy=pretrained"], "align.policy='pretrained'", "align"),
    ("dpo_aif", [f"align.policy={'x' * 200}"], "up to 120 letters", "align"),
    ("dpo_aif", ["align.parts=('(',)"], "align.parts=.*is no regular expression", "align"),
    ("flow_dpo", ["align.lora.targets=('[',)"], "lora.targets=.*is no regular expr", "align"),
    (
        "dpo_aif",
        ["pretrain.train.optimizer.adam_layers=*x"],
        "adam_layers='.x'.*is no regular expression",
        "pretrain",
    ),
    ("dpo_aif", ["align.time_range=(0.5,)"], "time_range=.*must be two numbers", "align"),
    ("flow_nrg", ["align.layers=9"], "align.layers=9: the generator has 2", "align"),
    ("flow_nrg", ["align.dimensions=()"], "align.dimensions=.*give one or more", "align"),
    ("flow_nrg", ["align.dimensions=('accept','accept')"], "each once", "align"),
    ("flow_nrg", ["model.name=unet3d", "text.dim=32"], "takes layers of a transformer", "align"),
    ("dpo_aif", ["evaluate.best_of=(1,2,3)"], r"best_of=\(1, 2, 3\): give \(best, of\)", "report"),
    ("dpo_aif", ["evaluate.best_of=('a','b')"], "best_of=.*must be whole numbers", "report"),
    ("dpo_aif", ["model.unet3d.patch=(1,)"], "patch=.*must be three whole numbers", "pretrain"),
    ("dpo_aif", ["model.unet3d.features=()"], "cannot be built|needs one value", "pretrain"),
    ("dpo_aif", ["model.unet3d.groups=7"], "groups|config.model", "pretrain"),
    ("dpo_aif", ["model.unet3d.remat=ful"], "remat='ful'", "pretrain"),
    ("dpo_aif", ["mesh.fsdp=3"], "mesh data=-1, fsdp=3", "data"),
    ("dpo_aif", ["align.train.batch_size=3"], "align: batch_size=3: must be a multiple", "align"),
    ("dpo_aif", ["seed=4294967296"], "seed=4294967296: must be", "pretrain"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    videos_with_captions(root / "videos")
    something_something(root / "ssv2")
    for name, rows in (
        ("comma", ["0.mp4,a cat sits, then jumps"]),
        ("held_out", ["0.mp4,a cat,test"]),
    ):
        videos_with_captions(root / name)
        header = "file,caption,split" if name == "held_out" else "file,caption"
        (root / name / "captions.csv").write_text("\n".join([header, *rows]))
    return root


@pytest.fixture(autouse=True)
def no_stage(monkeypatch):
    def run_stage(stage, workdir, say):
        raise AssertionError(f"the stage {stage.name} ran")

    monkeypatch.setattr(rounds, "run_stage", run_stage)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [pytest.param(*case[:3], id=f"{case[3]}-{i}") for i, case in enumerate(LATE)],
)
def test_it_is_refused_before_the_first_stage(name, overrides, message, folder, tmp_path):
    def run():
        config = load_config(f"{name}:mini")
        guide = ["align.layers=2"] if name == "flow_nrg" else []
        config = apply_overrides(config, [*SMALL[config.model.name], *guide])
        overrides_here = [override.replace("{}", str(folder)) for override in overrides]
        rounds.run(apply_overrides(config, overrides_here), tmp_path)

    with pytest.raises((ValueError, OSError), match=f"(?s){message}"):
        run()
    assert not list(tmp_path.iterdir())


def test_the_mini_config_reaches_its_first_stage(tmp_path):
    config = apply_overrides(load_config("dpo_aif:mini"), SMALL["unet3d"])
    with pytest.raises(AssertionError, match="the stage data ran"):
        rounds.run(config, tmp_path)


def test_sources_that_are_missing_are_listed_together(tmp_path):
    config = load_config("dpo_aif:paper")
    with pytest.raises(ValueError, match="3 things to mend") as caught:
        rounds.run(config, tmp_path)
    for field in ("config.data.path", "config.text.path", "config.reward.remote_judge.base_url"):
        assert field in str(caught.value)
    config = load_config("flow_dpo:wan2_1_1_3b")
    with pytest.raises(ValueError, match="things to mend") as caught:
        rounds.run(config, tmp_path)
    for field in ("config.data.pairs", "config.text.path", "config.model.init"):
        assert field in str(caught.value)
