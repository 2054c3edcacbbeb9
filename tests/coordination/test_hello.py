"""Hosts that say hello before jax connects them; threads stand for them."""

import concurrent.futures
import socket

import pytest

from vidpref.coordination.clusters import Cluster
from vidpref.coordination.hello import Hello, differences, meet
from vidpref.coordination.store import HostsError, numbers_text

ALIKE = {"jax": "0.10.2", "config.seed": "0"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def met(*hosts, count, seconds=20.0, address=None):
    """What each host of (index, about) returns or raises."""
    address = address or f"localhost:{free_port()}"

    def one(index, about):
        try:
            return meet(Cluster("test", address, count, index), about, seconds)
        except HostsError as error:
            return str(error)

    with concurrent.futures.ThreadPoolExecutor(len(hosts)) as pool:
        return list(pool.map(lambda host: one(*host), hosts))


def test_all_learn_who_is_there():
    names = met((2, ALIKE), (0, ALIKE), (1, ALIKE), count=3)
    assert names == [dict.fromkeys(range(3), socket.gethostname())] * 3


def test_missing_hosts_are_named_to_those_that_are_there(capsys):
    first, second = met((0, ALIKE), (2, ALIKE), count=5, seconds=1.5)
    assert first == second
    assert first.startswith("waiting for hosts 1, 3, 4 of 5: not there after 2 s")


def test_host_0_is_missing():
    (said,) = met((1, ALIKE), count=2, seconds=1.0)
    assert said.startswith("waiting for host 0 of 2: localhost:")


def test_the_odd_host_is_named_to_all():
    said = met((0, ALIKE), (1, ALIKE), (2, ALIKE | {"jax": "0.9"}), count=3)
    machine = socket.gethostname()
    assert set(said) == {
        f"host 2 ({machine}) is not like the others: jax is 0.9 there and 0.10.2 on host 0 "
        f"({machine}). Give all hosts the same command, code, packages and data."
    }


def test_most_are_right_also_where_host_0_is_not():
    def hello(index, about):
        return Hello(index, 4, f"m{index}", 1, about)

    hellos = {i: hello(i, ALIKE) for i in (1, 2)} | {0: hello(0, {**ALIKE, "x": "1"})}
    assert differences(hellos).startswith(
        "host 0 (m0) is not like the others: x is 1 there and miss"
    )
    hellos |= {3: hello(3, {})}
    text = differences(hellos)
    assert "host 3 (m3) is not like the others: config.seed is missing there and 0 on" in text
    assert differences({1: hello(1, ALIKE)}) == ""


def test_hosts_that_count_otherwise():
    address = f"localhost:{free_port()}"
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        of_2 = pool.submit(met, (0, ALIKE), count=2, address=address)
        of_4 = pool.submit(met, (3, ALIKE), count=4, address=address)
        assert of_2.result() == of_4.result()
        assert "counts 4 hosts and host 0" in of_2.result()[0]


def test_two_hosts_of_one_number(monkeypatch):
    processes = iter(range(100, 200))
    monkeypatch.setattr("vidpref.coordination.hello.os.getpid", lambda: next(processes))
    said = met((0, ALIKE), (1, ALIKE), (1, ALIKE), count=3)
    assert len(set(said)) == 1
    assert "two hosts have the number 1: process 10" in said[0]


def test_a_port_that_is_taken(monkeypatch):
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HostsError, match=f"cannot listen at .*{port}.*another run may be"):
            meet(Cluster("test", f"localhost:{port}", 2, 0), ALIKE, 0.5)


def test_strangers_are_let_go():
    address = f"localhost:{free_port()}"
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(met, (0, ALIKE), count=2, address=address)
        knocked = 0
        while knocked < 2 and not first.done():
            try:
                with socket.create_connection(("localhost", int(address[10:]))) as stranger:
                    stranger.sendall(b"GET / HTTP/1.1\n" if knocked else b"")
                knocked += 1
            except OSError:
                continue
        second = met((1, ALIKE), count=2, address=address)
        assert first.result() == second
        assert len(second[0]) == 2


def test_many_numbers_are_shortened():
    assert numbers_text([7, 31], 32) == "hosts 7, 31 of 32"
    assert numbers_text([1], 2) == "host 1 of 2"
    assert numbers_text(list(range(20)), 32) == "hosts 0, 1, 2, 3, 4, 5, 6, 7 and 12 more of 32"
