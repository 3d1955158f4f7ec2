"""``run.json``: what `rlzoo train` was asked for, from which all other commands build the run again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlzoo import names
from rlzoo.algorithms import ALGORITHMS
from rlzoo.algorithms.config import on_record
from rlzoo.drivers import named
from rlzoo.files import read_json

FILE = "run.json"
AGAIN = "the whole command of training with --resume, once it is removed, writes it anew"
OPTIONAL: dict[str, Any] = {  # in older files not there
    "env_options": {},
    "data": None,
    "data_rule": None,
    "begin": None,
    "options": {},
}
KINDS: dict[str, type | tuple[type, ...]] = {
    "algorithm": str,
    "env": str,
    "env_options": dict,
    "data": (str, type(None)),
    "data_rule": (str, type(None)),
    "config": dict,
    "hyper": dict,
    "seeds": int,
    "seed": int,
    "steps": int,
    "begin": (str, type(None)),
    "options": dict,
}
OPTIONS: dict[str, Callable[[Any], bool]] = {
    "report_every": lambda x: x is None or type(x) is int,
    "eval_episodes": lambda x: type(x) is int,
    "sinks": lambda x: isinstance(x, list) and all(isinstance(name, str) for name in x),
    "spread": lambda x: isinstance(x, bool),
}


def read(directory: Path) -> dict[str, Any]:
    """What the file of a run's directory says.

    Raises:
        ValueError: there is none, or it is not what `rlzoo train` writes: the field is named, and what to do.
    """
    path = directory / FILE
    if not path.exists():
        more = f"; if its {FILE} is lost, {AGAIN.replace(', once it is removed,', '')}" if directory.is_dir() else ""
        if (directory / "checkpoints").is_dir():
            more += "; what rlzoo.run in Python has left, or a part of a sweep, rlzoo.restore gives back"
        raise ValueError(f"{directory} holds no run: there is no {FILE} in it{more}")
    written = read_json(path)
    about = OPTIONAL | written
    for name, kind in KINDS.items():
        if name not in about:
            raise ValueError(f"{path} lacks {name}; {AGAIN}")
        given = about[name]
        if not isinstance(given, kind) or (kind is int and isinstance(given, bool)):
            raise _wrong(path, name, given)
    for name, good in OPTIONS.items():
        if name in about["options"] and not good(about["options"][name]):
            raise _wrong(path, f"options.{name}", about["options"][name])
    if about["algorithm"] not in ALGORITHMS:
        raise ValueError(f"{path}: {names.unknown('algorithm', about['algorithm'], ALGORITHMS)}")
    if not (0 < about["seeds"] < 2**31 and 0 <= about["seed"] <= names.LARGEST_SEED and 0 < about["steps"] < 2**62):
        raise _wrong(path, "seeds, seed or steps", [about[name] for name in ("seeds", "seed", "steps")])
    module = ALGORITHMS[about["algorithm"]]
    for name, values in about["hyper"].items():
        several = isinstance(values, list) and values
        if not several or not all(isinstance(x, int | float) and not isinstance(x, bool) for x in values):
            raise _wrong(path, f"hyper.{name}", values)
    try:
        names.check("hyperparameter", about["hyper"], module.Hyper._fields)
        kind = type(config_of(about))
        whole, asked = on_record(kind, about["config"]), named.plain_fields(kind)
        about["config"] = {name: x for name, x in whole.items() if name in asked}
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}; {AGAIN}") from error
    if about["env"].startswith("brax/"):  # what the name alone once meant
        about["env_options"] = {"backend": "spring"} | about["env_options"]
    if "data_rule" not in written and str(about["data"]).endswith((".hdf5", ".h5")):
        about["data_rule"] = "qlearning"  # the only one when the run was begun
    return about


def config_of(about: dict[str, Any]) -> Any:
    """The `Config` that the file describes."""
    config = {name: tuple(x) if isinstance(x, list) else x for name, x in about["config"].items()}
    return ALGORITHMS[about["algorithm"]].Config(**config)


def _wrong(path: Path, name: str, given: Any) -> ValueError:
    return ValueError(f"{path}: {name} is {given!r}, which is not what rlzoo train writes; {AGAIN}")
