"""Ctrl-C and SIGTERM end a program in one line, whatever thread or library is at work.

Nothing is lost by an end at any moment: files are put whole, and a stage goes on from what it finds
in its folder, as after a kill. Only a training that gets SIGTERM saves first, and on many hosts all
agree on where (`coordination/stopping.py`).
"""

import contextlib
import logging
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from vidpref.coordination import stopping
from vidpref.coordination.ending import GOES_ON, STOPPED, last_words

STATUS = 128 + signal.SIGINT  # what a shell reports of a program that Ctrl-C ended
LINE = f"stopped; {GOES_ON}"
_GRACE = 5.0  # seconds that threads and libraries have to leave their work

_came = threading.Event()
_ending = threading.Lock()
_status = STATUS


@contextlib.contextmanager
def ending_in_a_line() -> Iterator[None]:
    """While it lives, the first Ctrl-C ends this process with `LINE` and `STATUS`.

    So does SIGTERM, with its own status, outside of a training and where this process is alone.

    The main thread leaves what it does by a KeyboardInterrupt, or by whatever a library makes of
    one. Where it does not within a few seconds, as it compiles or waits for a thread, and at a
    second Ctrl-C, the process ends at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are none of other threads' business
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.signal(signal.SIGINT, _interrupt)
    term_before = signal.signal(signal.SIGTERM, _terminate)
    fd_before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), daemon=True, name="ctrl-c").start()
    try:
        yield
    except BaseException:
        if _came.is_set():
            _end()
        raise
    finally:
        signal.set_wakeup_fd(fd_before)
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, term_before)
        os.close(writer)  # the watcher reads the end and goes


def _interrupt(signum: int, frame: FrameType | None) -> None:
    _came.set()
    _silence()
    raise KeyboardInterrupt


def _terminate(signum: int, frame: FrameType | None) -> None:
    global _status
    stopping.ask()
    if stopping.ends_at_once():
        _status = STOPPED
        _interrupt(signum, frame)


def _watch(reader: int) -> None:
    """Counts the signals that come, also while the main thread waits and runs no handler."""
    global _status
    interrupted = False
    while True:
        ready, _, _ = select.select([reader], [], [], _GRACE if interrupted else None)
        signals = os.read(reader, 64) if ready else b""
        if ready and not signals:
            os.close(reader)
            return
        count = signals.count(signal.SIGINT)
        if signal.SIGTERM in signals:
            stopping.ask()
            if stopping.ends_at_once() and not interrupted:
                _status, count = STOPPED, 1
        if not ready or count > 1 or (interrupted and count):
            _end()
        interrupted = interrupted or count > 0


def _silence() -> None:
    """What threads and libraries say of being stopped is of no use to anybody."""
    threading.excepthook = sys.unraisablehook = lambda _: None
    logging.disable(logging.CRITICAL)


def _end() -> NoReturn:
    with _ending:  # once, and never left
        newline = "\n" if sys.stderr.isatty() else ""  # behind ^C, or a progress bar
        os.write(2, f"{newline}{LINE}\n".encode())
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        last_words(LINE, _status)
        # no exit handlers: they wait for threads, and in a pod for the other hosts
        os._exit(_status)
