"""The JobSet of a run: the same command on every host of a slice, and what starts again when.

A JobSet (jobset.x-k8s.io/v1alpha2) keeps one Kubernetes Job, whose pods are the hosts. When a pod
fails, the Job fails and all its pods end; the JobSet then starts all of them again, or not:

- a pod that the cluster evicted (maintenance, a Spot node taken back), exit code 143, a crash or a
  kill (128 and above): again, `max_restarts` times at most, as a run goes on where it was;
- exit codes below 42, which are errors that a second start would meet as well (vidpref has 1), and
  126 and 127, a command that is not there: never. xpk draws the line in the same place.

Containers get `args` alone, as the image's entry point (tini) passes signals on to Python.
"""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

from vidpref.runs.slices import Slice

FINAL_CODES = (*range(1, 42), 126, 127)  # exit codes after which nothing starts again
_DAY = 24 * 60 * 60
_JOB = "slice-job"  # as xpk has it
_CONTAINER = "vidpref"
_CACHE = "/cache"  # what buckets hold is brought there
_LONGEST_NAME = 63 - len(f"-{_JOB}-0-9999-abcde")  # of a pod, which Kubernetes makes of it


@dataclasses.dataclass(frozen=True)
class Job:
    """What runs, apart from the slice.

    Attributes:
        name: of the JobSet.
        command: arguments of Python, in the folder of the checkout.
        image: container image.
        claim: PersistentVolumeClaim of the file system that hosts share; None where all that the
            command names lies in buckets.
        mount: absolute path where it is mounted.
        queue: Kueue's LocalQueue, if there is one.
        secret: Secret that becomes environment variables, if there is one.
        max_restarts: how often all hosts are started again at most.
        grace_seconds: from SIGTERM to SIGKILL.
    """

    name: str
    command: Sequence[str]
    image: str
    claim: str | None
    mount: str
    queue: str | None = None
    secret: str | None = None
    max_restarts: int = 50
    grace_seconds: int = 120


def check_name(name: str) -> None:
    """Refuses what Kubernetes would not take as the name of a JobSet.

    Raises:
        ValueError: the message begins with the name.
    """
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
        raise ValueError(f"{name}: small letters, digits and hyphens, a letter in front.")
    if len(name) > _LONGEST_NAME:
        raise ValueError(
            f"{name}: {len(name)} characters; Kubernetes makes names of pods from it and takes "
            f"{_LONGEST_NAME} at most."
        )


def jobset(job: Job, tpus: Slice) -> dict[str, Any]:
    """Returns the manifest that runs a job on every host of a slice, ready for YAML."""
    queue = {"labels": {"kueue.x-k8s.io/queue-name": job.queue}} if job.queue else {}
    # a Job gets the nodes of one node pool, which are a slice
    whole = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": job.name, **queue, "annotations": whole},
        "spec": {
            "ttlSecondsAfterFinished": _DAY,
            "failurePolicy": {
                "maxRestarts": job.max_restarts,
                "rules": [
                    {
                        "name": "finalExitCode",
                        "action": "FailJobSet",
                        "onJobFailureReasons": ["PodFailurePolicy"],
                    }
                ],
            },
            "replicatedJobs": [
                {"name": _JOB, "replicas": 1, "template": {"spec": _hosts(job, tpus)}}
            ],
        },
    }


def _hosts(job: Job, tpus: Slice) -> dict[str, Any]:
    """The Job: a pod a host, none of which is replaced alone."""
    evicted = {"type": "DisruptionTarget", "status": "True"}
    final = {"containerName": _CONTAINER, "operator": "In", "values": list(FINAL_CODES)}
    return {
        "parallelism": tpus.hosts,
        "completions": tpus.hosts,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "podFailurePolicy": {
            "rules": [
                # evicted, whatever its exit code: an ordinary failure, which starts all again
                {"action": "Count", "onPodConditions": [evicted]},
                {"action": "FailJob", "onExitCodes": final},
            ]
        },
        "template": {"spec": _pod(job, tpus)},
    }


def _volumes(job: Job) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name, path and source of what is mounted."""
    if job.claim:
        yield "shared", job.mount, {"persistentVolumeClaim": {"claimName": job.claim}}
    if _reads_buckets(job):
        yield "cache", _CACHE, {"emptyDir": {}}  # of the node's disk, and gone with the pod
    # by default /dev/shm has 64 MB, too few for loaders
    yield "memory", "/dev/shm", {"emptyDir": {"medium": "Memory"}}


def _reads_buckets(job: Job) -> bool:
    return any("gs://" in word for word in job.command)


def _pod(job: Job, tpus: Slice) -> dict[str, Any]:
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": job.grace_seconds,
        "hostNetwork": True,  # checkpoints and data at the host's full speed
        "dnsPolicy": "ClusterFirstWithHostNet",
        "nodeSelector": {
            "cloud.google.com/gke-tpu-accelerator": tpus.accelerator,
            "cloud.google.com/gke-tpu-topology": tpus.shape,
        },
        "tolerations": [{"key": "google.com/tpu", "operator": "Exists", "effect": "NoSchedule"}],
        "containers": [_container(job, tpus)],
        "volumes": [{"name": name, **source} for name, _, source in _volumes(job)],
    }


def _container(job: Job, tpus: Slice) -> dict[str, Any]:
    env = {
        "JAX_PLATFORMS": "tpu,cpu",  # a host without its TPU fails, rather than compute on the CPU
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",  # a crash, and kill -ABRT, print the stacks of all threads
    }
    if _reads_buckets(job):
        env["VIDPREF_CACHE"] = _CACHE
    secret = {"envFrom": [{"secretRef": {"name": job.secret}}]} if job.secret else {}
    return {
        "name": _CONTAINER,
        "image": job.image,
        "args": [word.replace("$(", "$$(") for word in job.command],  # $(NAME) is a variable there
        "env": [{"name": name, "value": value} for name, value in env.items()],
        **secret,
        # the image's own user may not open the TPU, which belongs to root on GKE's nodes
        "securityContext": {"runAsUser": 0},
        "resources": {"limits": {"google.com/tpu": tpus.chips}},
        "volumeMounts": [{"name": name, "mountPath": path} for name, path, _ in _volumes(job)],
    }
