"""Algorithms by the names of a command line or a sweep file: preset, environment, dataset, numbers."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from rlzoo import data
from rlzoo.algorithms import ALGORITHMS
from rlzoo.types import Algorithm, Env


def make(module: ModuleType, env: Env, config: Any, hyper: Mapping[str, float], dataset: Any = None) -> Algorithm:
    """The algorithm of a module, with its default numbers but for those of ``hyper``; offline of a dataset."""
    learned_from = () if dataset is None else (dataset,)
    return module.make(env, config, *learned_from, module.Hyper(**hyper))


def load_data(module: ModuleType, path: str | Path) -> Any:
    """What an offline algorithm learns from: a dataset, or preferences."""
    return loader(module, path)(path)


def loader(module: ModuleType, path: str | Path) -> Callable[..., Any]:
    """The function that reads what an offline algorithm learns from."""
    preferences = "preferences" in inspect.signature(module.make).parameters
    return data.preferences.load if preferences else data.loader(path)


def is_offline(module: ModuleType) -> bool:
    """Whether it learns from a dataset, or from preferences."""
    return not {"dataset", "preferences"}.isdisjoint(inspect.signature(module.make).parameters)


def check_data(algorithm: str, given: Any, option: str) -> None:
    """Data for what learns from data, and for nothing else."""
    if is_offline(ALGORITHMS[algorithm]) != (given is not None):
        what = f"learns online; leave {option} out" if given is not None else f"learns from a dataset; give {option}"
        raise ValueError(f"{algorithm} {what}")


def preset_for(env: str, presets: Iterable[str], data: str = "") -> str:
    """The preset that is tuned for a dataset (hopper-medium-v2: hopper_medium, or else hopper), for an environment
    (RiskyPointMass-v0: risky_point_mass), for its family, or for nothing in particular.
    """
    suite, _, name = env.partition(" ")[0].partition("/")  # without brax's backend
    words = Path(data).stem.replace("-", "_").lower().split("_")
    for count in range(len(words), 0, -1):
        if (of_data := "_".join(words[:count])) in presets:
            return of_data
    own = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", re.sub(r"-v\d+$", "", name)).lower()
    family = "brax" if suite == "brax" else "minatar" if name.endswith("MinAtar") else "classic"
    return next((preset for preset in (own, family) if preset in presets), "classic")


def comments(cls: type) -> dict[str, str]:
    """The comment behind each field of a `Config` or `Hyper`: what it sizes, or its unit and source."""
    lines = inspect.getsource(cls).splitlines()
    found = (re.match(r"\s+(\w+): .*?#\s*(.+)$", line) for line in lines)
    return {match[1]: match[2] for match in found if match}
