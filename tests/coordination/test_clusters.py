"""Which processes belong together, by the environment of each launcher; nothing is connected."""

import os
import time

import pytest
from jax._src.clusters import cloud_tpu_cluster

from vidpref.coordination import clusters
from vidpref.coordination.clusters import Cluster, ClusterError, find_cluster

ADDRESS = "10.0.0.2:8476"
SPOKEN_FOR = ("JAX_", "SLURM_", "OMPI_", "PMI_", "TPU_", "MEGASCALE_", "CUDA_VIS", "KUBERNETES")
SLURM = {
    "SLURM_JOB_ID": "4096",
    "SLURM_STEP_NODELIST": "node[003-004]",
    "SLURM_NTASKS": "8",
    "SLURM_PROCID": "6",
    "SLURM_LOCALID": "2",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
}
HNP = {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911"}
EXPLICIT = {"JAX_COORDINATOR_ADDRESS": ADDRESS}


@pytest.fixture
def environment(monkeypatch):
    """Sets variables, in an environment in which no launcher's are."""
    for name in list(os.environ):
        if name.startswith(SPOKEN_FOR) or name == "JOB_COMPLETION_INDEX":
            monkeypatch.delenv(name)
    monkeypatch.setattr(clusters.glob, "glob", lambda _: [])

    def use(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return use


def found():
    return find_cluster(tpu=True, seconds=1.0)


def test_one_process_stays_one_and_waits_for_nothing(environment):
    begin = time.monotonic()
    assert found() is None
    environment(JAX_NUM_PROCESSES="1", JAX_PROCESS_ID="0")
    assert found() is None
    environment(**EXPLICIT)
    assert found() is None
    assert time.monotonic() - begin < 1.0


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "1"}, (4, 1)),
        ({"JAX_NUM_PROCESSES": "4", "JOB_COMPLETION_INDEX": "2"}, (4, 2)),
        (OPEN_MPI, (4, 3)),
        ({"PMI_SIZE": "3", "PMI_RANK": "0"}, (3, 0)),
        (SLURM, (8, 6)),
        (SLURM | {"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"}, (2, 0)),
    ],
)
def test_an_address_and_numbers_from_the_launcher(environment, variables, expected):
    environment(**EXPLICIT, **variables)
    cluster = found()
    assert (cluster.address, cluster.count, cluster.index) == (ADDRESS, *expected)
    assert cluster.bind_address == "[::]:8476"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (EXPLICIT, "JAX_COORDINATOR_ADDRESS is given and JAX_NUM_PROCESSES is not"),
        (EXPLICIT | {"JAX_NUM_PROCESSES": "2"}, "and JAX_PROCESS_ID is not"),
        (EXPLICIT | {"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES=two: give a whole number"),
        (EXPLICIT | {"JAX_NUM_PROCESSES": "0", "JAX_PROCESS_ID": "0"}, "at least one process"),
        (EXPLICIT | {"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "2"}, "from 0 to 1"),
        ({"JAX_COORDINATOR_ADDRESS": "host"}, "give HOST:PORT"),
        ({"JAX_NUM_PROCESSES": "2"}, "JAX_NUM_PROCESSES=2 is given without"),
        ({"JAX_PROCESS_ID": "1"}, "JAX_PROCESS_ID=1 is given without"),
        (OPEN_MPI, "Open MPI started 4 processes, which jax cannot connect by itself"),
        (OPEN_MPI | {"OMPI_MCA_orte_hnp_uri": "1.0;unix"}, "Open MPI: the processes of this run"),
    ],
)
def test_what_is_missing_or_wrong_is_named(environment, variables, message):
    environment(**variables)
    with pytest.raises(ClusterError, match=message):
        found()


def test_slurm_and_open_mpi_are_found(environment):
    environment(**SLURM)
    assert found() == Cluster("Slurm", f"node003:{65535 - 2**12 + 1}", 8, 6)
    environment(**OPEN_MPI, **HNP)
    assert found().how == "Open MPI"
    assert found().address.startswith("10.96.0.1:")


def test_one_task_of_slurm_is_a_process_alone(environment):
    environment(**SLURM | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"})
    assert found() is None


@pytest.mark.parametrize(
    ("local", "gpus", "expected"),
    [
        ("4(x2)", "0,1,2,3", (2,)),
        ("4(x2)", "0,1,2,3,4,5,6,7", (4, 5)),
        ("1(x8)", "0,1,2,3", None),
        ("4(x2)", "2", None),  # the scheduler shows each task its own
        ("4(x2)", "", None),
    ],
)
def test_processes_of_a_machine_share_its_gpus(environment, local, gpus, expected):
    environment(**SLURM | {"SLURM_STEP_TASKS_PER_NODE": local, "CUDA_VISIBLE_DEVICES": gpus})
    assert found().devices == expected
    environment(JAX_LOCAL_DEVICE_IDS="1,3")
    assert found().devices == (1, 3)


def test_gpus_that_do_not_divide_are_refused(environment):
    environment(**SLURM, CUDA_VISIBLE_DEVICES="0,1,2")
    with pytest.raises(ClusterError, match="4 processes on this machine do not divide its 3 GPUs"):
        found()


@pytest.fixture
def tpu_machine(environment, monkeypatch):
    """A machine with TPU chips, and the metadata of Cloud TPU."""
    metadata = {"tpu-env": "ACCELERATOR_TYPE: 'v4-32'"}
    monkeypatch.setattr(cloud_tpu_cluster, "running_in_cloud_tpu_vm", True)
    monkeypatch.setattr(
        cloud_tpu_cluster,
        "get_metadata",
        lambda key: (metadata[key], 200) if key in metadata else ("", 404),
    )
    monkeypatch.setattr(cloud_tpu_cluster.socket, "gethostbyname", lambda name: name)
    return metadata


def test_cloud_tpu_tells_by_its_metadata(tpu_machine):
    tpu_machine |= {
        "agent-worker-number": "2",
        "worker-network-endpoints": "a:1:10.1.0.1,b:2:10.1.0.2,c:3:10.1.0.3,d:4:10.1.0.4",
    }
    assert found() == Cluster("Cloud TPU", "10.1.0.1:8482", 4, 2)
    assert find_cluster(tpu=False, seconds=1.0) is None  # JAX_PLATFORMS=cpu on one host of a slice
    tpu_machine["worker-network-endpoints"] = "a:1:10.1.0.1"
    assert found() is None


def test_gke_tells_by_its_variables_and_slices_count(tpu_machine, environment):
    environment(TPU_WORKER_HOSTNAMES="t-0.svc,t-1.svc", TPU_WORKER_ID="1")
    assert found() == Cluster("TPUs of GKE", "t-0.svc:8482", 2, 1)
    environment(
        MEGASCALE_COORDINATOR_ADDRESS="s-0.svc:9000",
        MEGASCALE_NUM_SLICES="3",
        MEGASCALE_SLICE_ID="2",
        JAX_COORDINATOR_PORT="1234",
    )
    assert found() == Cluster("TPUs of GKE", "s-0.svc:1234", 6, 5)
    environment(TPU_WORKER_HOSTNAMES="localhost", MEGASCALE_NUM_SLICES="1")
    assert found() is None


def test_a_pod_by_itself_is_a_process_alone(environment):
    environment(KUBERNETES_SERVICE_HOST="10.0.0.1")
    assert found() is None
