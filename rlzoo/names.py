"""One way to say that a name is unknown: what was given, and the nearest that are allowed."""

import difflib
from collections.abc import Iterable


def near(given: str, allowed: Iterable[str]) -> list[str]:
    """The allowed names that are nearest to one given, at most three; capitals make no name another."""
    lower = {name.lower(): name for name in allowed}
    if given.lower() in lower:
        return [lower[given.lower()]]
    return [lower[name] for name in difflib.get_close_matches(given.lower(), lower, n=3, cutoff=0.5)]


def unknown(what: str, given: str, allowed: Iterable[str]) -> ValueError:
    """The error to raise for a name that is not among the allowed ones."""
    allowed = list(allowed)
    if found := near(given, allowed):
        return ValueError(f"unknown {what} {given!r}; did you mean {' or '.join(map(repr, found))}?")
    shown = ", ".join(allowed[:12]) + (", …" if len(allowed) > 12 else "")
    return ValueError(f"unknown {what} {given!r}; allowed are {shown}")


def check(what: str, given: Iterable[str], allowed: Iterable[str]) -> None:
    """Raise for the first of ``given`` that is not allowed."""
    allowed = list(allowed)
    for name in given:
        if name not in allowed:
            raise unknown(what, name, allowed)
