"""What every launch program does around its work: flags, hosts, caches, errors for the user.

Importing this brings in no jax: `--help`, `--list` and `--describe` answer at once.
"""

import contextlib
import ctypes
import glob
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from absl import app, logging

from vidpref.config.overrides import split_overrides

# What a user can cause and mend: shown without a traceback.
_USER_ERRORS = (ValueError, OSError)
_TPU_DEVICES = ("/dev/accel*", "/dev/vfio/[0-9]*")
_GPU_DEVICES = ("/dev/nvidia[0-9]*", "/dev/kfd", "/dev/dxg")
_GPU_PLUGINS = {"cuda": ("jax_cuda13_plugin", "jax_cuda12_plugin"), "rocm": ("jax_rocm7_plugin",)}


def launch(main: Callable[[Sequence[str]], None], *, optional_value: Sequence[str] = ()) -> None:
    """Runs `main(overrides)` under absl, with `--config.x=y` arguments taken out as overrides.

    Args:
        main: the program.
        optional_value: names of string flags that may stand without a value, which is "all" then.
    """
    overrides, argv = split_overrides(sys.argv)
    bare = {f"--{name}" for name in optional_value}
    argv = [f"{a}=all" if a in bare else a for a in argv]

    def run(rest: Sequence[str]) -> None:
        if len(rest) > 1:
            raise app.UsageError(f"not understood: {' '.join(rest[1:])}")
        logging.set_verbosity(logging.WARNING)
        with answering_in_words():
            main(overrides)

    app.run(run, argv=argv)


@contextlib.contextmanager
def answering_in_words() -> Iterator[None]:
    """Turns an error that the user can mend into a sentence and exit status 1."""
    try:
        yield
    except _USER_ERRORS as error:
        if os.environ.get("VIDPREF_TRACEBACK"):
            raise
        print(f"\n{type(error).__name__}: {error}", file=sys.stderr)
        for note in getattr(error, "__notes__", ()):
            print(note, file=sys.stderr)
        print("(VIDPREF_TRACEBACK=1 shows where.)", file=sys.stderr)
        sys.exit(1)


def start_devices(workdir: Path) -> None:
    """Joins the hosts of a pod and keeps compiled programs in the work directory.

    A host is taken to be one of many when its environment names several TPU workers or a
    coordinator (`JAX_COORDINATOR_ADDRESS`, with `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`).
    """
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
