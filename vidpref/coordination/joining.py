"""Makes one run of all hosts: they meet, jax connects them, and they watch over each other."""

import os
from collections.abc import Mapping

from vidpref.coordination.agreeing import be_patient
from vidpref.coordination.clusters import Cluster
from vidpref.coordination.ending import watch
from vidpref.coordination.hello import meet
from vidpref.coordination.store import name_hosts, store

_CONNECT = 120  # seconds; all hosts are there when jax begins
_NO_PROXY = "no_grpc_proxy"
_MARGIN = 60  # seconds by which the watch is ahead of jax, which ends with SIGABRT


def join(
    cluster: Cluster,
    about: Mapping[str, str],
    *,
    start_seconds: float,
    heartbeat_seconds: float,
    barrier_seconds: float,
) -> None:
    """Returns when all hosts of a cluster are connected; before any device is used.

    Args:
        cluster: from `find_cluster`.
        about: what should be the same on all hosts, by name.
        start_seconds: how long to wait for the others.
        heartbeat_seconds: silence after which a host counts as lost.
        barrier_seconds: how long hosts wait for each other at the end of a stage.

    Raises:
        HostsError: see `meet`.
    """
    import jax

    names = meet(cluster, about, start_seconds)
    _without_proxy(cluster.address)
    # its handler would swallow SIGTERM wherever nobody asks for it; see `stopping`
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        coordinator_address=cluster.address,
        num_processes=cluster.count,
        process_id=cluster.index,
        local_device_ids=cluster.devices,
        cluster_detection_method="deactivate",
        initialization_timeout=_CONNECT,
        heartbeat_timeout_seconds=round(heartbeat_seconds) + _MARGIN,
        coordinator_bind_address=cluster.bind_address,
    )
    name_hosts(names)
    be_patient(barrier_seconds)
    shared = store()
    assert shared is not None
    watch(shared, cluster.address, heartbeat_seconds)


def _without_proxy(address: str) -> None:
    """The proxy of a cluster leads outside; through it process 0 cannot be reached."""
    if any(name.lower().endswith("_proxy") for name in os.environ):
        known = os.environ.get(_NO_PROXY) or os.environ.get("no_proxy", "")
        host = address.rpartition(":")[0]
        os.environ[_NO_PROXY] = ",".join(filter(None, [known, host]))
        import jax

        jax.config.update("jax_check_proxy_envs", False)
