"""One writer at a time in a directory: a second one is told by whom it is held.

The file ``.lock`` names the process, its host and since when, and is locked by the operating system (``flock``), which
lets go when the process is gone, however it ended. File systems may keep such locks to one host: so the holder gives a
sign of life every few seconds, and another host takes over once there is none any more.
"""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # not on Windows: signs of life alone
    fcntl = None  # type: ignore[assignment]

FILE = ".lock"
BEAT = 10.0  # seconds between signs of life
DEAD = 25.0  # seconds without one, after which the holder is taken for dead by another host
_here: dict[Path, int] = {}  # directory -> the thread of this process that holds it


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Hold a directory, which is made if it is not there; what was made and left empty is removed again.

    The thread that holds it may hold it once more.

    Raises:
        ValueError: another process, or another thread, holds it; by name.
    """
    directory = directory.resolve()
    if _here.get(directory) == threading.get_ident():
        yield
        return
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"{directory} is a file; a run needs a directory of its own")
    made = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    try:
        file = _taken(directory)
        try:
            _here[directory] = threading.get_ident()
            threading.Thread(target=_beat, args=(directory / FILE, file, stop), daemon=True, name="lock").start()
            yield
        finally:
            stop.set()
            _here.pop(directory, None)
            with suppress(OSError):
                if _same(directory / FILE, file):  # and not of another host that has taken over
                    (directory / FILE).unlink()
            os.close(file)
    finally:
        with suppress(OSError):
            for path in made:
                path.rmdir()


def _taken(directory: Path) -> int:
    """The open file of a lock that is ours now."""
    path = directory / FILE
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            free, holder = _flock(file), _holder(path)
            other_host = holder.get("host") not in (None, socket.gethostname())
            if free is False and not (other_host and _age(path) > DEAD):
                raise _in_use(directory, holder)
            if free is None and not other_host and _is_running(holder.get("process")) and _age(path) <= DEAD:
                raise _in_use(directory, holder)
            if other_host and _lives(path, holder):
                raise _in_use(directory, holder)
            if free is False or not _same(path, file):  # of a host that is gone; or removed by its holder just now
                if free is False:
                    path.unlink(missing_ok=True)
                os.close(file)
                continue
            since = datetime.now().astimezone().isoformat(timespec="seconds")
            about = {"host": socket.gethostname(), "process": os.getpid(), "since": since}
            os.ftruncate(file, 0)
            os.pwrite(file, json.dumps(about).encode(), 0)
            return file
        except BaseException:
            with suppress(OSError):
                os.close(file)
            raise


def _flock(file: int) -> bool | None:
    """Whether the operating system gives the lock; None if the file system has none."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _same(path: Path, file: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(file).st_ino
    except FileNotFoundError:
        return False


def _holder(path: Path) -> dict[str, Any]:
    """What the file says; empty if it says nothing yet."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _in_use(directory: Path, holder: dict[str, Any]) -> ValueError:
    who = "another process"
    if holder:
        who = f"process {holder.get('process')} on {holder.get('host')} since {holder.get('since')}"
    return ValueError(f"{directory} is in use by {who}; wait until it is over, stop it, or choose another directory")


def _age(path: Path) -> float:
    """Seconds since the last sign of life, both by the clock of the file system."""
    probe = path.with_name(f"{FILE}.{os.getpid()}")
    try:
        probe.write_bytes(b"")
        return probe.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
    finally:
        probe.unlink(missing_ok=True)


def _lives(path: Path, holder: dict[str, Any]) -> bool:
    """Whether a process on another host gives another sign of life before it must be taken for dead."""
    if _age(path) > DEAD:
        return False
    print(
        f"{path} is of process {holder.get('process')} on {holder.get('host')}: waiting up to {DEAD:.0f} s for a sign "
        "of life",
        file=sys.stderr,
        flush=True,
    )
    begun, last, end = time.monotonic(), _mtime(path), time.monotonic() + DEAD
    while begun <= time.monotonic() < end:
        if _mtime(path) != last:
            return _mtime(path) is not None  # None: it has let go
        time.sleep(min(0.2, DEAD / 10))
    return False


def _mtime(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def _is_running(process: Any) -> bool:
    if not isinstance(process, int) or process <= 0:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _beat(path: Path, file: int, stop: threading.Event) -> None:
    while not stop.wait(BEAT):
        with suppress(OSError):
            if _same(path, file):
                os.utime(path)
