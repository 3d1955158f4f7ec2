"""What every algorithm's `Config` and `presets` share: checks worded alike, and errors for unknown names."""

import dataclasses
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from rlzoo import names
from rlzoo.blocks.networks import DTYPES
from rlzoo.files import plain
from rlzoo.types import Box, Discrete, Env, environment

MOST = 2**31 - 1  # of what is counted: indices are int32
NEAR = 10_000  # numbers on either side among which a divisor is looked for


class Structure:
    """Base of the frozen `Config` dataclasses: an unknown field is a `ValueError` that names the nearest ones."""

    def __new__(cls, *args: Any, **fields: Any) -> "Structure":
        who = cls.__module__.rpartition(".")[2]
        numbers = getattr(getattr(sys.modules.get(cls.__module__), "Hyper", None), "_fields", ())
        elsewhere = {f"a number, a field of {who}.Hyper": numbers}
        names.check(f"{who}.Config field", fields, cls.__dataclass_fields__, elsewhere)  # type: ignore[attr-defined]
        for name, given in fields.items():
            if isinstance(cls.__dataclass_fields__[name].default, bool) and not isinstance(given, bool):  # type: ignore[attr-defined]
                raise ValueError(f"{name}={given!r}; it must be True or False")
        return super().__new__(cls)

    def at_least(self, least: int, *fields: str) -> None:
        """Whole numbers not below ``least``."""
        for field in fields:
            given = getattr(self, field)
            if not isinstance(given, int) or isinstance(given, bool) or given < least:
                raise ValueError(f"{field}={given!r}; it must be a whole number, {least} or more")
            if given > MOST:
                raise ValueError(f"{field}={given}; it must be {MOST:,} or less")

    def positive(self, *fields: str) -> None:
        for field in fields:
            given = getattr(self, field)
            if not isinstance(given, int | float) or not 0 < given < float("inf"):
                raise ValueError(f"{field}={given!r}; it must be positive and finite")

    def probability(self, *fields: str) -> None:
        for field in fields:
            given = getattr(self, field)
            if not isinstance(given, int | float) or not 0.0 <= given < 1.0:
                raise ValueError(f"{field}={given!r}; it must be at least 0 and less than 1")

    def divides(self, field: str, name: str, total: int) -> None:
        """``field`` divides ``total``; otherwise the nearest numbers that do are named."""
        given = getattr(self, field)
        if total % given:
            near = range(max(1, given - NEAR), min(total, given + NEAR) + 1)
            divisors = {1, total, *(d for d in near if total % d == 0)}
            good = sorted(sorted(divisors, key=lambda d: abs(d - given))[:2])
            raise ValueError(f"{field}={given} does not divide {name} = {total}; use {' or '.join(map(str, good))}")

    def replay(self, rows: int, n_step: int = 1, num_envs: int = 1) -> None:
        """A replay buffer of ``capacity``, written ``rows`` at a time and sampled ``batch_size`` at a time."""
        given = {field: getattr(self, field) for field in ("capacity", "warmup", "batch_size")}
        for field in ("capacity", "warmup"):
            if given[field] % rows:
                below = given[field] // rows * rows
                near = " or ".join(str(n) for n in (below, below + rows) if n)
                raise ValueError(f"{field}={given[field]} is no multiple of num_envs * num_steps = {rows}; use {near}")
        if given["batch_size"] > given["warmup"]:
            raise ValueError(
                f"batch_size={given['batch_size']} is more than the warmup={given['warmup']} transitions that are "
                f"there at first; use a batch_size of at most {given['warmup']}, or a longer warmup"
            )
        if (left := given["warmup"] - (n_step - 1) * num_envs) < 1:
            raise ValueError(f"n_step={n_step} leaves {left} of the warmup={given['warmup']} rows; use a longer warmup")
        if given["warmup"] > given["capacity"]:
            raise ValueError(f"warmup={given['warmup']} does not fit into capacity={given['capacity']}; use a smaller")

    def widths(self, *fields: str) -> None:
        """Layer widths: a tuple of positive whole numbers; a list is taken for one."""
        for field in fields:
            given = getattr(self, field)
            if not isinstance(given, tuple | list) or not all(isinstance(w, int) and 0 < w <= MOST for w in given):
                raise ValueError(f"{field}={given!r}; it must be a tuple of positive whole numbers, such as (64, 64)")
            object.__setattr__(self, field, tuple(given))

    def choice(self, field: str, allowed: Iterable[str]) -> None:
        given = getattr(self, field)
        if not isinstance(given, str) or given not in allowed:
            raise names.unknown(field, given if isinstance(given, str) else repr(given), allowed)

    def dtype(self, field: str, *networks: str) -> None:
        """What default networks compute in; refused where own modules replace all ``networks``: it would do nothing."""
        self.choice(field, DTYPES)
        given, own = getattr(self, field), [name for name in networks if getattr(self, name) is not None]
        if given != "float32" and len(own) == len(networks):
            raise ValueError(
                f"{field}={given!r} is of default networks, and config.{' and config.'.join(own)} replaced them all; "
                "leave it out, and give your own modules' layers a dtype; what they put out must be float32"
            )


class Preset(NamedTuple):
    """A structure and its numbers, tuned together for a family of environments: ``ppo.make(env, *preset)``."""

    config: Any
    hyper: Any


class Presets(dict[str, Preset]):
    """Presets by name; an unknown one is a `ValueError` that names the nearest ones."""

    def __missing__(self, name: str) -> Preset:
        raise names.unknown("preset", name, self)


def bounded_box(env: Env, who: str, instead: str = "", sees: tuple[str, ...] = ()) -> Box:
    """The action space of an environment, which must be a bounded box; otherwise a `ValueError`."""
    space = environment(env, who, sees, several=False).action_space
    if isinstance(space, Box) and space.bounded:
        return space
    kind = "an unbounded box" if isinstance(space, Box) else f"discrete, {space.n} actions"
    remedy = instead if instead and not isinstance(space, Box) else ""
    raise ValueError(f"{env.name}: its action space is {kind}; {who} needs a bounded box{remedy}")


def discrete(env: Env, who: str, sees: tuple[str, ...] = ("image", "legal")) -> Discrete:
    """The action space of an environment, which must be a `Discrete`; otherwise a `ValueError`."""
    space = environment(env, who, sees, several=False).action_space
    if isinstance(space, Discrete):
        return space
    raise ValueError(f"{env.name}: its actions are a box; {who} needs discrete ones; a box is for ppo, sac and td3")


def on_record(kind: type, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `Config` as a record has them; those that came after it was written are as by default."""
    return {**plain(as_dict(kind())), **recorded}


def as_dict(config: Any) -> dict[str, Any]:
    """The fields of a `Config`, not looked into: a network in it stays a module. None of None."""
    return {} if config is None else {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
