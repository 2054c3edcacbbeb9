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

from vidpref.config.overrides import split_overrides
from vidpref.runs.interrupts import ending_in_a_line

_TPU_DEVICES = ("/dev/accel*", "/dev/vfio/[0-9]*")
_GPU_DEVICES = ("/dev/nvidia[0-9]*", "/dev/kfd", "/dev/dxg")
_GPU_PLUGINS = {"cuda": ("jax_cuda13_plugin", "jax_cuda12_plugin"), "rocm": ("jax_rocm7_plugin",)}


def launch(
    main: Callable[[Sequence[str]], None],
    *,
    optional_value: Sequence[str] = (),
    may_be_empty: Sequence[str] = (),
) -> None:
    """Runs `main(overrides)` under absl, with `--config.x=y` arguments taken out as overrides.

    Args:
        main: the program.
        optional_value: names of string flags that may stand without a value, which is "all" then.
        may_be_empty: names of flags whose empty text means something.
    """
    overrides, argv = split_overrides(sys.argv)
    bare = {f"--{name}" for name in optional_value}
    argv = [f"{a}=all" if a in bare else a for a in argv]

    def run(rest: Sequence[str]) -> None:
        logging.set_verbosity(logging.WARNING)
        with answering_in_words(), ending_in_a_line():
            check_flags(rest[1:], may_be_empty)
            main(overrides)

    app.run(run, argv=argv)


def check_flags(stray: Sequence[str], may_be_empty: Sequence[str] = ()) -> None:
    """Refuses arguments that mean nothing in any program.

    Args:
        stray: arguments that are no flags.
        may_be_empty: names of flags whose empty text means something.

    Raises:
        UsageError: stray arguments, a flag that is given and empty, or a number that is none.
    """
    wrong = [f"not understood: {' '.join(stray)}"] if stray else []
    for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0]):
        value = flag.value
        empty = value == [] or (isinstance(value, str) and not value.strip())
        if flag.present and empty and flag.name not in may_be_empty:
            wrong.append(f"--{flag.name} is empty: give a value, or leave it out.")
        if isinstance(value, float) and not math.isfinite(value):
            wrong.append(f"--{flag.name}={value:g}: give a finite number.")
    if wrong:
        raise app.UsageError("\n".join(wrong))


@contextlib.contextmanager
def answering_in_words() -> Iterator[None]:
    """Turns an error that the user can mend into a sentence and exit status 1."""
    try:
        yield
    except app.UsageError as error:
        print(f"\n{error}\n(--help shows every flag.)", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        if os.environ.get("VIDPREF_TRACEBACK") or not _of_the_user(error):
            raise
        print(f"\n{_sentence(error)}", file=sys.stderr)
        for note in getattr(error, "__notes__", ()):
            print(note, file=sys.stderr)
        print("(VIDPREF_TRACEBACK=1 shows where.)", file=sys.stderr)
        sys.exit(1)


def _of_the_user(error: Exception) -> bool:
    """Whether a user can cause and mend it; all else is a defect of ours and needs its traceback.

    ValueError and what the operating system says are; so is what vidpref itself calls an error,
    such as a training that diverged or a judge that does not answer.
    """
    return isinstance(error, ValueError | OSError) or type(error).__module__.startswith("vidpref.")


def _sentence(error: Exception) -> str:
    name = type(error).__name__
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        paths = [str(path) for path in (error.filename, error.filename2) if path is not None]
        return f"{name}: {' -> '.join(paths)}: {error.strerror.lower()}"
    return f"{name}: {error}"


def start_devices(workdir: Path) -> None:
    """Joins the hosts of a pod and keeps compiled programs in the work directory.

    A host is taken to be one of many when its environment names several TPU workers or a
    coordinator (`JAX_COORDINATOR_ADDRESS`, with `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`).
    """
    # before the devices are opened: by default jax leaves a quarter of a GPU unused
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.93")
    import jax

    platforms = _platforms_without_tpu()
    if platforms and not jax.config.jax_platforms:
        jax.config.update("jax_platforms", platforms)
    if len(os.environ.get("TPU_WORKER_HOSTNAMES", "").split(",")) > 1:
        jax.distributed.initialize()
    elif "JAX_COORDINATOR_ADDRESS" in os.environ:
        jax.distributed.initialize(
            num_processes=int(os.environ["JAX_NUM_PROCESSES"]),
            process_id=int(os.environ["JAX_PROCESS_ID"]),
        )
    if jax.default_backend() == "cpu":
        keep_freed_memory()
    jax.config.update("jax_compilation_cache_dir", str((workdir / "compiled").resolve()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 2.0)


def _platforms_without_tpu() -> str:
    """Platforms for jax where libtpu is installed and there is no TPU; "" leaves the choice to jax.

    libtpu, which the `plan` extra brings, otherwise looks for a TPU for many seconds, and prints
    what it does not find.
    """
    tpu = any(map(glob.glob, _TPU_DEVICES)) or "TPU_NAME" in os.environ
    if tpu or importlib.util.find_spec("libtpu") is None:
        return ""
    if any(map(glob.glob, _GPU_DEVICES)):
        for platform, plugins in _GPU_PLUGINS.items():
            if any(importlib.util.find_spec(plugin) for plugin in plugins):
                return f"{platform},cpu"
    return "cpu"


def keep_freed_memory() -> None:
    """Lets this process use freed memory again, as far as the C library is glibc.

    By default glibc gives large arrays back to the system. XLA's buffers of a step are large, so
    on the CPU every step would begin with empty pages, and filling them takes a tenth of its time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_max, arena_max = -1, -4, -8
        mallopt(trim_threshold, -1)
        mallopt(mmap_max, 0)
        mallopt(arena_max, 1)  # other arenas cannot grow large
