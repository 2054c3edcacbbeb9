"""Which processes belong to this run: as the environment says, or the scheduler that started them.

Nothing waits where there is nothing: the metadata server of Cloud TPU is asked where the machine
has TPU chips, the rest are environment variables.
"""

import dataclasses
import glob
import os
import re

# Launchers that number their processes -> variables of count and number.
_LAUNCHERS = {
    "Slurm": ("SLURM_NTASKS", "SLURM_PROCID"),
    "Open MPI": ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    "MPI": ("PMI_SIZE", "PMI_RANK"),
    "Kubernetes": ("", "JOB_COMPLETION_INDEX"),
}
# Those whose variables only processes have that they started.
_STARTED = ("Open MPI", "MPI")
_FOUND = {
    "OmpiCluster": "Open MPI",
    "SlurmCluster": "Slurm",
    "GkeTpuCluster": "TPUs of GKE",
    "GceTpuCluster": "Cloud TPU",
    "K8sCluster": "Kubernetes",
}
_ADDRESS, _COUNT, _INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
_LOCAL_COUNT = (
    *("OMPI_COMM_WORLD_LOCAL_SIZE", "SLURM_STEP_TASKS_PER_NODE"),
    *("SLURM_TASKS_PER_NODE", "SLURM_NTASKS_PER_NODE"),
)
_LOCAL_INDEX = ("OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID")
_VISIBLE = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")


class ClusterError(ValueError):
    """The environment speaks of several processes, and not of all that they need."""


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The processes of a run, and which of them this is.

    Attributes:
        how: who says so.
        address: HOST:PORT of process 0, where the coordination service of jax will be.
        count: number of processes, at least 2.
        index: number of this one.
        devices: GPUs of this machine that are this process's; None for all.
    """

    how: str
    address: str
    count: int
    index: int
    devices: tuple[int, ...] | None = None

    @property
    def bind_address(self) -> str:
        """Where process 0 listens."""
        given = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS")
        return given or f"[::]:{self.address.rpartition(':')[2]}"


def find_cluster(*, tpu: bool, seconds: float) -> Cluster | None:
    """Returns the processes that belong together, None for one alone.

    `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID` come first; what is missing
    of the latter two is taken from Slurm, Open MPI, another MPI or an indexed Kubernetes job. Then
    jax looks for Open MPI, Slurm, TPU slices (also several) and Kubernetes.

    Args:
        tpu: whether jax may use TPUs.
        seconds: how long the name of process 0 may take to be known.

    Raises:
        ClusterError: names what is missing or wrong.
    """
    if address := os.environ.get(_ADDRESS):
        return _explicit(address)
    found = _by_jax(tpu, seconds)
    if found is None:
        for name in (_COUNT, _INDEX):
            if os.environ.get(name) and os.environ.get(_COUNT) != "1":
                raise ClusterError(
                    f"{name}={os.environ[name]} is given without {_ADDRESS}=HOST:PORT, the address "
                    "of process 0"
                )
        for launcher in _STARTED:
            count = _number(_LAUNCHERS[launcher][0])
            if count is not None and count > 1:
                raise ClusterError(
                    f"{launcher} started {count} processes, which jax cannot connect by itself: "
                    f"give all of them {_ADDRESS}=HOST:PORT, the address of process 0"
                )
    return found


def _explicit(address: str) -> Cluster | None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise ClusterError(f"{_ADDRESS}={address}: give HOST:PORT, e.g. 10.0.0.2:8476")
    count = _needed(_COUNT, 0, "the number of processes")
    if count < 1:
        raise ClusterError(f"{_COUNT}={count}: there is at least one process")
    index = _needed(_INDEX, 1, "the number of this process, from 0")
    if not 0 <= index < count:
        raise ClusterError(f"{_INDEX}={index}: with {_COUNT}={count} it is from 0 to {count - 1}")
    if count == 1:
        return None
    return Cluster(_ADDRESS, address, count, index, _own_devices())


def _needed(name: str, place: int, what: str) -> int:
    number = _number(name)
    if number is None:
        known = (_number(names[place]) for names in _LAUNCHERS.values() if names[place])
        number = next((n for n in known if n is not None), None)
    if number is None:
        raise ClusterError(f"{_ADDRESS} is given and {name} is not: give {what} to every process")
    return number


def _number(name: str) -> int | None:
    text = os.environ.get(name, "").strip()
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise ClusterError(f"{name}={text}: give a whole number") from None


def _by_jax(tpu: bool, seconds: float) -> Cluster | None:
    # no public way tells what jax.distributed.initialize() would find
    from jax._src.clusters import ClusterEnv

    for kind in ClusterEnv._cluster_types:
        of_tpu = kind.__name__.endswith("TpuCluster")
        of_pods = kind.__name__ == "K8sCluster"
        if kind.opt_in_only_method or (of_tpu and not tpu):
            continue
        if of_pods and "JOB_COMPLETION_INDEX" not in os.environ:
            continue  # a pod by itself, e.g. a notebook
        how = _FOUND.get(kind.__name__, kind.__name__)
        try:
            if not kind.is_env_present():
                continue
            given = _number(_COUNT), _number(_INDEX)
            count = given[0] if given[0] is not None else kind.get_process_count()
            if count < 2:
                return None
            index = given[1] if given[1] is not None else kind.get_process_id()
            address = kind.get_coordinator_address(
                timeout_secs=int(seconds),
                override_coordinator_port=os.environ.get("JAX_COORDINATOR_PORT"),
            )
        except ClusterError:
            raise
        except Exception as error:  # of whatever client asks there
            raise ClusterError(
                f"{how}: the processes of this run cannot be found ({type(error).__name__}: "
                f"{error}). {_ADDRESS}=HOST:PORT, {_COUNT} and {_INDEX} say it by hand."
            ) from error
        return Cluster(how, address, count, index, None if of_tpu else _own_devices())
    return None


def _own_devices() -> tuple[int, ...] | None:
    """This process's part of the GPUs of a machine that it shares with others; None for all."""
    if given := os.environ.get("JAX_LOCAL_DEVICE_IDS"):
        try:
            return tuple(int(number) for number in given.split(","))
        except ValueError:
            raise ClusterError(f"JAX_LOCAL_DEVICE_IDS={given}: give e.g. 0,1") from None
    index = next((n for n in map(_number, _LOCAL_INDEX) if n is not None), None)
    # "4(x2),3" of Slurm: two machines have four processes, one has three
    counts = (re.match(r"\d+", os.environ.get(name, "")) for name in _LOCAL_COUNT)
    count = next((int(match[0]) for match in counts if match), 1)
    gpus = _visible_gpus()
    if index is None or count < 2 or gpus < 2:
        return None  # a process alone on its machine, or with what its scheduler lets it see
    if gpus % count:
        raise ClusterError(
            f"{count} processes on this machine do not divide its {gpus} GPUs: start as many "
            "processes as it has GPUs, or say which are whose by JAX_LOCAL_DEVICE_IDS"
        )
    own = gpus // count
    return tuple(range(index * own, (index + 1) * own))


def _visible_gpus() -> int:
    for name in _VISIBLE:
        if name in os.environ:
            return len([part for part in os.environ[name].split(",") if part.strip()])
    return len(glob.glob("/dev/nvidia[0-9]*"))
