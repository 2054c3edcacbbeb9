"""What hosts must have alike: places may differ, what lies there may not."""

from vidpref.config.by_name import named_config
from vidpref.runs.agreement import about


def own(tmp_path, name, *overrides):
    folder = tmp_path / name
    (folder / "videos").mkdir(parents=True)
    return folder, about([named_config("own", [f"data.path={folder}", *overrides])])


def test_places_may_differ_and_results_may_not(tmp_path):
    _, one = own(tmp_path, "one")
    _, two = own(tmp_path, "two", "wandb=project")
    assert one == two
    _, other = own(tmp_path, "three", "align.beta=7", "mesh.fsdp=2")
    changed = {name for name in one if one[name] != other[name]}
    assert changed == {"config.align.beta", "config.mesh.fsdp"}
    _, seldom = own(tmp_path, "four", "align.train.log_every=3")  # at these steps hosts meet
    assert {n for n in one if one[n] != seldom[n]} == {"config.align.train.log_every"}


def test_what_lies_there_counts(tmp_path):
    folder, one = own(tmp_path, "one")
    assert one["what lies at config.data.path"].startswith("a folder of 1 entries")
    (folder / "captions.csv").touch()
    two = about([named_config("own", [f"data.path={folder}"])])
    assert {name for name in one if one[name] != two[name]} == {"what lies at config.data.path"}
    gone = about([named_config("own", [f"data.path={folder}/nowhere"])])
    assert gone["what lies at config.data.path"] == "nothing"


def test_code_and_packages_count():
    found = about([])
    assert {"the code of vidpref", "python", "jax", "flax", "optax", "grain", "numpy"} <= {*found}
    assert len(found["the code of vidpref"]) == 12
    assert found == about([])
