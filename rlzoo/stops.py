"""Ctrl-C, and a scheduler's SIGTERM.

The first of them lets a run finish its chunk and save it (`Finishing`). Outside of a chunk, and at the second, the
command line ends at once, with one line that says how to go on and the exit code 128 + signal: also during its imports,
and while XLA compiles, when Python itself would not notice for minutes. A thread therefore waits for the signals.
"""

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

STOPS = (signal.SIGINT, signal.SIGTERM)


class _Command:
    """What this process knows of its signals, if it is the command line."""

    ends: tuple[int, int] | None = None  # of the pipe that signals arrive in; None: it is not
    resume = ""  # the command that goes on
    last = int(signal.SIGINT)
    finishing: "tuple[Finishing, ...]" = ()  # the runs under way
    lock = threading.RLock()  # a handler may interrupt itself


class Finishing:
    """Within it the first signal sets ``asked``, and a second one stops at once; in Python as a `KeyboardInterrupt`.

    Of a command also the first one does, until ``begun``: before its first chunk is compiled there is nothing to save.
    """

    def __init__(self) -> None:
        self.asked = self.begun = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __enter__(self) -> "Finishing":
        self._main = threading.current_thread() is threading.main_thread()  # signals reach no other thread
        if self._main:
            command = _Command.ends is not None
            handle = _drain if command else self._handle
            self._before = {number: signal.signal(number, handle) for number in STOPS}
            if command:
                _Command.finishing += (self,)
        return self

    def __exit__(self, *error: object) -> None:
        if self._main:
            _Command.finishing = tuple(run for run in _Command.finishing if run is not self)
            for number, handler in self._before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not Python's own


@contextmanager
def watching() -> Iterator[None]:
    """For a command: signals end it in one line, see above."""
    if _Command.ends is not None or threading.current_thread() is not threading.main_thread():
        yield  # it has begun with the imports
        return
    before = _begin()
    try:
        yield
    finally:
        _Command.ends = None
        os.close(signal.set_wakeup_fd(-1))  # which ends the thread
        for number, handler in before.items():
            signal.signal(number, handler)


_cut_off: list[str] = []  # the last run, if a signal ended it


def ended(run: str, whole: bool) -> None:
    """A run ended, whole or because it was asked to."""
    _cut_off[:] = [] if whole else [run]


def cut_off() -> str | None:
    """The last run of this process, if a signal ended it: what was found of it is not of all its updates."""
    return _cut_off[0] if _cut_off else None


def go_on_with(command: str) -> None:
    """The command that goes on with what is under way."""
    _Command.resume = command


def exit_code() -> int:
    """Of a command that was stopped."""
    return 128 + _Command.last


def _begin() -> dict[int, Any]:
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    _Command.ends, _Command.resume = ends, ""
    signal.set_wakeup_fd(ends[1], warn_on_full_buffer=False)
    threading.Thread(target=_wait, args=(ends[0],), daemon=True, name="stops").start()
    return {number: signal.signal(number, _drain) for number in STOPS}


def _wait(end: int) -> None:
    while select.select([end], [], []) and _read(end):
        pass
    os.close(end)


def _drain(number: int, frame: FrameType | None) -> None:
    """Python's handler: what has arrived counts now, if the thread has not seen it yet."""
    if _Command.ends is not None:
        _read(_Command.ends[0])


def _read(end: int) -> bool:
    """Take the signals in the pipe; False once it is closed."""
    with _Command.lock:
        try:
            arrived = os.read(end, 64)
        except BlockingIOError:
            return True
        for number in arrived:
            if number not in STOPS:
                continue
            _Command.last = number
            run = _Command.finishing[-1] if _Command.finishing else None
            if run is None or run.asked or not run.begun:
                _end(number)
            else:
                run.asked = True
        return bool(arrived)


def _end(number: int) -> None:
    flush = threading.Thread(target=sys.stdout.flush, daemon=True)  # which waits if the command is writing just now
    flush.start()
    flush.join(0.2)
    shown = "\x1b[?25h\n" if os.isatty(2) else ""  # the cursor, which a progress bar hides
    how = f"; go on with: {_Command.resume}" if _Command.resume else ""
    line = f"{shown}rlzoo: stopped by {signal.Signals(number).name}; what was saved before is whole{how}\n"
    with suppress(OSError):
        os.write(2, line.encode())
    os._exit(128 + number)


def _is_command() -> bool:
    """Whether this process was started as ``rlzoo``, or ``python -m rlzoo``."""
    words = sys.orig_argv
    module = words[words.index("-m") + 1 :][:1] if "-m" in words else []
    name = os.path.basename(sys.argv[0]) if getattr(sys, "argv", None) else ""
    return module == ["rlzoo"] or name.removesuffix(".exe") == "rlzoo"


if _is_command() and _Command.ends is None and threading.current_thread() is threading.main_thread():
    _begin()
