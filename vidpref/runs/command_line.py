"""What every launch program does around its work: hosts, caches, logging, errors for the user."""

import ctypes
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
from absl import app, logging

from vidpref.config.by_name import ConfigError, split_overrides
from vidpref.runs.artifacts import WorkdirInUse

# What a user can cause and mend: shown without a traceback.
_USER_ERRORS = (ConfigError, WorkdirInUse, ValueError, FileNotFoundError)


def launch(main: Callable[[Sequence[str]], None]) -> None:
    """Runs `main(overrides)` under absl, with `--config.x=y` arguments taken out as overrides."""
    overrides, argv = split_overrides(sys.argv)

    def run(rest: Sequence[str]) -> None:
        if len(rest) > 1:
            raise app.UsageError(f"not understood: {' '.join(rest[1:])}")
        logging.set_verbosity(logging.WARNING)
        try:
            main(overrides)
        except _USER_ERRORS as error:
            if os.environ.get("VIDPREF_TRACEBACK"):
                raise
            print(f"\n{type(error).__name__}: {error}", file=sys.stderr)
            print("(VIDPREF_TRACEBACK=1 shows where.)", file=sys.stderr)
            sys.exit(1)

    app.run(run, argv=argv)


def start_devices(workdir: Path) -> None:
    """Joins the hosts of a pod and keeps compiled programs in the work directory.

    A host is taken to be one of many when its environment names several TPU workers or a
    coordinator (`JAX_COORDINATOR_ADDRESS`, with `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`).
    """
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
