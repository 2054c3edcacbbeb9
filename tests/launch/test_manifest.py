"""The JobSet of a run: valid, on the right nodes, and started again after the right ends only."""

import copy

import jsonschema
import pytest
import yaml

from tests.launch.jobset_schema import JOBSET
from tests.launch.programs import Launcher
from vidpref.runs.jobset import Job, check_name, jobset
from vidpref.runs.slices import parse_slice

ARGV = (
    *("--config=dpo_aif", "--topology=v5e:4x8", "--image=r/vidpref:1", "--claim=shared"),
    "--workdir=/shared/runs/dpo",
)
JOB = Job("run", ["launch/tpu_run.py"], image="r/vidpref:1", claim="shared", mount="/shared")


@pytest.fixture
def launch(monkeypatch, capsys):
    return Launcher(monkeypatch, capsys)


def printed(launch, *argv):
    ended = launch("manifest", *argv)
    assert ended.status == 0, ended.text
    return yaml.safe_load(ended.text)


def host(manifest):
    """The Job of a manifest, its pod and its container."""
    (replicated,) = manifest["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    return job, pod, container


def test_the_printed_manifest_is_a_jobset(launch):
    manifest = printed(launch, *ARGV, "--queue=q", "--secret=keys", "--max_restarts=0")
    jsonschema.validate(manifest, JOBSET)
    job, pod, container = host(manifest)
    assert (job["parallelism"], job["completions"], job["backoffLimit"]) == (8, 8, 0)
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x8",
    }
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    assert container["args"] == [
        *("launch/tpu_run.py", "--config=dpo_aif", "--workdir=/shared/runs/dpo")
    ]
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["volumes"]}
    assert manifest["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "q"}
    assert manifest["spec"]["failurePolicy"]["maxRestarts"] == 0
    assert container["envFrom"] == [{"secretRef": {"name": "keys"}}]


def test_overrides_arrive_as_they_were_given(launch):
    odd = "--config.sampler.negative_prompt=a 'b' \"c\": #d\n$(HOME)"
    _, _, container = host(printed(launch, *ARGV, "--config=flow_dpo:wan2_1_1_3b", odd))
    # Kubernetes puts variables in the place of $(NAME), and $( in that of $$(
    assert container["args"][-1].replace("$$(", "$(") == odd
    assert "$$(" in container["args"][-1]


def test_a_run_in_a_bucket_needs_no_file_system(launch):
    in_bucket = ("--workdir=gs://b/runs/dpo", "--config.data.path=gs://b/ssv2")
    argv = [word for word in ARGV if not word.startswith(("--claim", "--workdir"))]
    manifest = printed(launch, *argv, *in_bucket)
    jsonschema.validate(manifest, JOBSET)
    _, pod, container = host(manifest)
    assert not [volume for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    # what is brought from there lies on the node's disk, and not in the container's own layer
    assert {"name": "VIDPREF_CACHE", "value": mounts["cache"]} in container["env"]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("spec", "failurePolicy", "maxRestart"), 3),
        (("spec", "failurePolicy", "rules", 0, "action"), "Fail"),
        (("spec", "replicatedJobs", 0, "template", "spec", "backofLimit"), 0),
        (("metadata", "name"), "Dpo"),
    ],
)
def test_the_schema_finds_mistakes(place, value):
    manifest = copy.deepcopy(jobset(JOB, parse_slice("v5e:4x8")))
    *path, last = place
    section = manifest
    for key in path:
        section = section[key]
    section[last] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest, JOBSET)


def ends(code, evicted=False):
    """What Kubernetes and JobSet make of the first pod that fails, by the manifest's rules."""
    manifest = jobset(JOB, parse_slice("v5e:4x8"))
    job, _, container = host(manifest)
    reason = "BackoffLimitExceeded"  # backoffLimit is 0
    for rule in job["podFailurePolicy"]["rules"]:
        conditions = {c["type"] for c in rule.get("onPodConditions", ())}
        codes = rule.get("onExitCodes")
        if codes is not None:
            assert codes["containerName"] == container["name"]
            assert codes["values"] == sorted(codes["values"])
        listed = codes is not None and (code in codes["values"]) == (codes["operator"] == "In")
        if (evicted and "DisruptionTarget" in conditions) or listed:
            reason = {"FailJob": "PodFailurePolicy", "Count": reason}[rule["action"]]
            break
    for rule in manifest["spec"]["failurePolicy"]["rules"]:
        if reason in rule["onJobFailureReasons"]:
            return rule["action"]
    return "RestartJobSet"


@pytest.mark.parametrize("code", [1, 2, 41, 126, 127])
def test_an_error_ends_the_run_and_an_eviction_with_it_does_not(code):
    assert ends(code) == "FailJobSet"
    assert ends(code, evicted=True) == "RestartJobSet"


@pytest.mark.parametrize("code", [42, 134, 137, 139, 143])
def test_a_preemption_or_a_crash_starts_again(code):
    assert ends(code) == ends(code, evicted=True) == "RestartJobSet"


def test_python_gets_signals_and_prints_stacks(launch):
    _, pod, container = host(printed(launch, *ARGV, "--grace_seconds=77"))
    assert "command" not in container  # the image's tini stays process 1
    assert pod["terminationGracePeriodSeconds"] == 77
    assert {"name": "PYTHONFAULTHANDLER", "value": "1"} in container["env"]


# hosts of xpk's table of systems (GoogleCloudPlatform/xpk), by topology
@pytest.mark.parametrize(
    ("topology", "machine", "accelerator", "hosts", "chips"),
    [
        ("v3:2x2", "ct3-hightpu-4t", "tpu-v3-device", 1, 4),
        ("v3:8x8", "ct3p-hightpu-4t", "tpu-v3-slice", 16, 4),
        ("v4:2x2x1", "ct4p-hightpu-4t", "tpu-v4-podslice", 1, 4),
        ("v4:8x4x4", "ct4p-hightpu-4t", "tpu-v4-podslice", 32, 4),
        ("v5e:1x1", "ct5lp-hightpu-1t", "tpu-v5-lite-podslice", 1, 1),
        ("v5e-16x16", "ct5lp-hightpu-4t", "tpu-v5-lite-podslice", 64, 4),
        ("v5p:4x4x8", "ct5p-hightpu-4t", "tpu-v5p-slice", 32, 4),
        ("v6e:1x1", "ct6e-standard-1t", "tpu-v6e-slice", 1, 1),
        ("v6e:2x4", "ct6e-standard-4t", "tpu-v6e-slice", 2, 4),
        ("tpu7x:2x2x2", "tpu7x-standard-4t", "tpu7x", 2, 4),
    ],
)
def test_slices_are_those_of_gke(topology, machine, accelerator, hosts, chips):
    tpus = parse_slice(topology)
    assert (tpus.machine, tpus.accelerator) == (machine, accelerator)
    assert (tpus.hosts, tpus.chips) == (hosts, chips)
    assert tpus.shape == topology.replace("-", ":").split(":")[1]


@pytest.mark.parametrize(
    ("topology", "message"),
    [
        ("v5e:3x3", "v5e has 1x1, 2x2, 2x4"),
        ("v5e:4x4x4", "v5e has 1x1"),
        ("v5p:8x4x4", "none less than the one before"),
        ("v5p:4x8", "three multiples of 4"),
        ("v5p:0x4x4", "three multiples of 4"),
        ("v2:4x4", "GKE has v3, v4"),
        ("32", "write KIND:SHAPE"),
    ],
)
def test_slices_that_are_not_there_are_refused(topology, message):
    with pytest.raises(ValueError, match=f"{topology}: .*{message}"):
        parse_slice(topology)


@pytest.mark.parametrize("name", ["Dpo", "3d", "a_b", "a-", "a" * 41])
def test_names_that_kubernetes_refuses_are_refused(name):
    with pytest.raises(ValueError, match=f"^{name}: "):
        check_name(name)


def test_the_longest_name_still_makes_names_of_pods():
    check_name("a" * 40)
    assert len(f"{'a' * 40}-slice-job-0-9999-abcde") == 63
