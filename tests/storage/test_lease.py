"""One run at a time holds an address; one that was killed does not hold it for ever."""

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from vidpref.storage.bucket import Bucket
from vidpref.storage.lease import Lease, LeaseHeld, LeaseLost

QUICK = {"renewed": 0.3, "stale": 3.0}


def held_by(address, **fields):
    """Puts the lease of another process, which does not renew it."""
    bucket = Bucket(address)
    holder = dataclasses.replace(Lease(bucket).holder, token="theirs", since=time.time(), **fields)
    return bucket.put("lock", json.dumps(dataclasses.asdict(holder)).encode())


def test_a_second_one_is_refused_while_the_first_is_renewed(address):
    first = Lease(Bucket(address), **QUICK)
    first.take()
    with pytest.raises(LeaseHeld) as refused:
        Lease(Bucket(address), renewed=0.3, stale=60.0).take()
    said = str(refused.value)
    host = os.uname().nodename
    assert said.startswith(f"{address} is in use by another run (process {os.getpid()} on {host}")
    assert "renewed its lease" in said
    first.check()
    first.release()
    second = Lease(Bucket(address), **QUICK)
    second.take()
    second.release()
    assert Bucket(address).read("lock") is None


def test_that_of_a_process_that_is_gone_is_taken_over_at_once(address):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    held_by(address, pid=gone.pid)
    start = time.monotonic()
    lease = Lease(Bucket(address), renewed=5.0, stale=600.0)
    lease.take()
    assert time.monotonic() - start < 5.0
    lease.release()


def test_that_of_another_machine_is_taken_over_when_it_is_stale(address):
    held_by(address, host="elsewhere")
    said, start = [], time.monotonic()
    lease = Lease(Bucket(address), **QUICK, say=said.append)
    lease.take()
    assert time.monotonic() - start > 2.0  # the service gives whole seconds
    assert len(said) == 1
    assert f"waiting whether process {os.getpid()} on elsewhere still holds it" in said[0]
    lease.check()
    lease.release()


def test_whoever_lost_it_writes_nothing_more(address):
    lease = Lease(Bucket(address), **QUICK)
    lease.take()
    held_by(address, host="elsewhere")
    time.sleep(2.0)  # the next renewal is after 0.3 s
    with pytest.raises(LeaseLost, match="writes nothing any more"):
        lease.check()
    lease.release()
    assert json.loads(Bucket(address).read("lock").data)["host"] == "elsewhere"


def test_of_many_at_once_one_takes_it(address):
    taken, refused = [], []

    def run():
        lease = Lease(Bucket(address), renewed=0.3, stale=60.0)
        try:
            lease.take()
            taken.append(lease)
        except LeaseHeld:
            refused.append(lease)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(taken), len(refused)) == (1, 3)
    taken[0].release()
