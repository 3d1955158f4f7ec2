"""What the device has."""

import os
from contextlib import suppress
from pathlib import Path

import jax

LANE = 2048  # bytes of memory that the numbers said of an agent take at the least: its key, rows of logs and results
SHARE = 0.9  # of the device's memory that data may take; programs need the rest


def device_memory() -> int | None:
    """Bytes of the default device, of a CPU what the process may use; None if it is not known."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"]
    if jax.default_backend() != "cpu" or not hasattr(os, "sysconf"):
        return None
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    container = Path("/sys/fs/cgroup/memory.max")
    allowed = container.read_text().strip() if container.exists() else ""
    if allowed.isdigit():
        limits.append(int(allowed))
    with suppress(ImportError):  # ulimit -v, where there is one
        import resource

        limits += [x for x in resource.getrlimit(resource.RLIMIT_AS)[:1] if x != resource.RLIM_INFINITY]
    return min(limits)


def in_bytes(number: float) -> str:
    """Such as 1.5 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            return f"{number:.0f} B" if unit == "B" else f"{number:,.1f} {unit}"
        number /= 1024
    raise AssertionError("not reached")


def refuse_more(what: str, count: int, each: float) -> None:
    """Raise for more things of so many bytes each than the memory holds, before the first is made; says how many fit.

    Raises:
        ValueError: ``count`` of ``what`` do not fit.
    """
    limit = device_memory()
    if limit is not None and count * each > SHARE * limit:
        raise ValueError(
            f"{count:,} {what} take {in_bytes(count * each)}, and there are {in_bytes(limit)}; "
            f"use {int(SHARE * limit / each):,} or fewer"
        )
