"""What every launch program does around its work: flags, hosts, caches, errors for the user.

Importing this brings in no jax: `--help`, `--list` and `--describe` answer at once.
"""

import contextlib
import ctypes
import glob
import importlib.util
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict

from vidpref.config.overrides import split_overrides
from vidpref.coordination.ending import ending_together, sentence, watched
from vidpref.coordination.stalls import show_stacks_on_signal
from vidpref.runs.interrupts import ending_in_a_line
from vidpref.runs.places import address_problem
from vidpref.storage.mirror import address, mirrored

_TPU_DEVICES = ("/dev/accel*", "/dev/vfio/[0-9]*")
_GPU_DEVICES = ("/dev/nvidia[0-9]*", "/dev/kfd", "/dev/dxg")
_GPU_PLUGINS = {"cuda": ("jax_cuda13_plugin", "jax_cuda12_plugin"), "rocm": ("jax_rocm7_plugin",)}


def launch(
    main: Callable[[Sequence[str]], None],
    *,
    optional_value: Sequence[str] = (),
    may_be_empty: Sequence[str] = (),
    reads: Sequence[str] = (),
) -> None:
    """Runs `main(overrides)` under absl, with `--config.x=y` arguments taken out as overrides.

    Args:
        main: the program.
        optional_value: names of string flags that may stand without a value, which is "all" then.
        may_be_empty: names of flags whose empty text means something.
        reads: names of flags of files and folders to read, which may be in gs:// as --workdir may.
    """
    overrides, argv = split_overrides(sys.argv)
    if _only_cpus():
        keep_freed_memory()
    bare = {f"--{name}" for name in optional_value}
    argv = [f"{a}=all" if a in bare else a for a in argv]

    def run(rest: Sequence[str]) -> None:
        logging.set_verbosity(logging.WARNING)
        show_stacks_on_signal()
        with answering_in_words(), ending_in_a_line():
            check_flags(rest[1:], may_be_empty, overrides, reads)
            main(overrides)
            if watched():
                _wait_for_all()

    app.run(run, argv=argv)


def check_flags(
    stray: Sequence[str],
    may_be_empty: Sequence[str] = (),
    overrides: Sequence[str] = (),
    reads: Sequence[str] = (),
) -> None:
    """Refuses arguments that mean nothing in any program.

    Args:
        stray: arguments that are no flags.
        may_be_empty: names of flags whose empty text means something.
        overrides: `field=value` of the config.
        reads: names of flags that name something to read.

    Raises:
        UsageError: stray arguments, a flag that is given and empty, a number that is none, or an
            address where none can be, or of a kind that is not known.
    """
    wrong = [f"not understood: {' '.join(stray)}"] if stray else []
    for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0]):
        value = flag.value
        empty = value == [] or (isinstance(value, str) and not value.strip())
        if flag.present and empty and flag.name not in may_be_empty:
            wrong.append(f"--{flag.name} is empty: give a value, or leave it out.")
        if isinstance(value, float) and not math.isfinite(value):
            wrong.append(f"--{flag.name}={value:g}: give a finite number.")
        if isinstance(value, str):
            wrong.append(address_problem(f"--{flag.name}", value, read=flag.name in reads))
    for field, _, value in (override.partition("=") for override in overrides):
        wrong.append(address_problem(f"--config.{field}", value))
    wrong = list(filter(None, wrong))
    if wrong:
        raise app.UsageError("\n".join(wrong))


@contextlib.contextmanager
def answering_in_words() -> Iterator[None]:
    """Turns an error that the user can mend into a sentence and exit status 1.

    On many hosts any error ends all of them, with the same first line.
    """
    try:
        with ending_together(_needs_no_traceback):
            yield
    except app.UsageError as error:
        print(f"\n{error}\n(--help shows every flag.)", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        if not _needs_no_traceback(error):
            raise
        print(f"\n{sentence(error)}", file=sys.stderr)
        for note in getattr(error, "__notes__", ()):
            print(note, file=sys.stderr)
        print("(VIDPREF_TRACEBACK=1 shows where.)", file=sys.stderr)
        sys.exit(1)


def _needs_no_traceback(error: Exception) -> bool:
    return _of_the_user(error) and not os.environ.get("VIDPREF_TRACEBACK")


def _of_the_user(error: Exception) -> bool:
    """Whether a user can cause and mend it; all else is a defect of ours and needs its traceback.

    ValueError and what the operating system says are; so is what vidpref itself calls an error,
    such as a training that diverged or a judge that does not answer.
    """
    known = isinstance(error, ValueError | OSError | app.UsageError)
    return known or type(error).__module__.startswith("vidpref.")


def start_devices(workdir: Path, configs: Sequence[ConfigDict] = ()) -> None:
    """Joins the hosts of a pod and keeps compiled programs in the work directory, or its bucket.

    Which hosts there are is found by `find_cluster`; the time-outs are those of `config.hosts`.

    Args:
        workdir: the work directory.
        configs: configs of the run, which must be the same on all hosts.

    Raises:
        ClusterError: the environment speaks of several processes, and not of all they need.
        HostsError: hosts are missing, or one differs from the others.
    """
    # before the devices are opened: by default jax leaves a quarter of a GPU unused
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.93")
    import jax

    platforms = _platforms_without_tpu()
    if platforms and not jax.config.jax_platforms:
        jax.config.update("jax_platforms", platforms)
    _join_hosts(configs)
    _watch_over_steps(configs)
    jax.config.update("jax_compilation_cache_dir", address((workdir / "compiled").resolve()))
    # XLA's own caches are of GPUs, write on a file system only, and make jax's depend on its place:
    # a folder that was moved would be compiled for anew
    if mirrored(workdir) or _only_cpus():
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 2.0)


def _join_hosts(configs: Sequence[ConfigDict]) -> None:
    import jax

    from vidpref.config.schema import Hosts
    from vidpref.coordination.clusters import find_cluster

    wait = configs[0].hosts if configs else Hosts()
    tpu = "tpu" in (jax.config.jax_platforms or "tpu")
    cluster = find_cluster(tpu=tpu, seconds=wait.start_seconds)
    if cluster is not None:
        from vidpref.coordination.joining import join
        from vidpref.runs.agreement import about

        join(
            cluster,
            about(configs),
            start_seconds=wait.start_seconds,
            heartbeat_seconds=wait.heartbeat_seconds,
            barrier_seconds=wait.barrier_seconds,
        )


def _watch_over_steps(configs: Sequence[ConfigDict]) -> None:
    from vidpref.config.schema import Hosts
    from vidpref.coordination import stalls, stopping

    wait = configs[0].hosts if configs else Hosts()
    stopping.have_grace(wait.grace_seconds)
    stalls.give_up_after(wait.stall_minutes)


def _wait_for_all() -> None:
    """Waits for host 0, which may write a report for long, and then for all."""
    from vidpref.coordination.agreeing import barrier, decided

    decided("the end", lambda: None)
    barrier("the end")


def _platforms_without_tpu() -> str:
    """Platforms for jax where libtpu is installed and there is no TPU; "" leaves the choice to jax.

    libtpu, which the `plan` extra brings, otherwise looks for a TPU for many seconds, and prints
    what it does not find.
    """
    if _has_tpu() or importlib.util.find_spec("libtpu") is None:
        return ""
    if any(map(glob.glob, _GPU_DEVICES)):
        for platform, plugins in _GPU_PLUGINS.items():
            if any(importlib.util.find_spec(plugin) for plugin in plugins):
                return f"{platform},cpu"
    return "cpu"


def _has_tpu() -> bool:
    return any(map(glob.glob, _TPU_DEVICES)) or "TPU_NAME" in os.environ


def _only_cpus() -> bool:
    """Whether jax will compute on the CPU, as far as can be told without it."""
    if wanted := os.environ.get("JAX_PLATFORMS"):
        return wanted == "cpu"
    return not (_has_tpu() or any(map(glob.glob, _GPU_DEVICES)))


def keep_freed_memory() -> None:
    """Lets this process use freed memory again, as far as the C library is glibc.

    By default glibc gives large arrays back to the system. XLA's buffers of a step are large, so
    on the CPU every step would begin with empty pages, and filling them takes up to 40 % of its
    time. To be called before there are threads: one that has an arena of its own keeps it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_max, arena_max = -1, -4, -8
        mallopt(trim_threshold, -1)
        mallopt(mmap_max, 0)
        mallopt(arena_max, 1)  # other arenas cannot grow large
