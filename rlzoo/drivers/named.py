"""Algorithms by the names of a command line or a sweep file: preset, environment, dataset, numbers."""

import functools
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import numpy as np

from rlzoo import data, envs, names
from rlzoo.algorithms import ALGORITHMS
from rlzoo.algorithms.hyper import ranges_of
from rlzoo.arguments import same
from rlzoo.types import Algorithm, Env


def make(module: ModuleType, env: Env, config: Any, hyper: Mapping[str, float], dataset: Any = None) -> Algorithm:
    """The algorithm of a module, with its default numbers but for those of ``hyper``; offline of a dataset."""
    if dataset is None:
        return module.make(env, config, module.Hyper(**hyper))
    about, algo = dataset.about, module.make(env, config, dataset, module.Hyper(**hyper))
    scores = about.random_score, about.expert_score
    known = None not in scores and np.isfinite(scores).all() and scores[0] != scores[1]
    return algo._replace(references=scores) if known else algo


def environment(name: str, options: Mapping[str, Any]) -> Env:
    """The environment of a command line: a suite's, or one's own as ``module:object`` or ``path.py:object``.

    Raises:
        ValueError: as of `rlzoo.envs.make`; no such module, file or object, or one that fails when it is made.
    """
    if ":" not in name:
        if name.endswith(".py"):
            raise ValueError(f"environment {name!r} is a file; say which object in it, such as {name}:Maze")
        return envs.make(name, **options)
    if options:
        raise ValueError(f"{name} takes no {', '.join(options)}; that is of brax")
    where, _, what = name.rpartition(":")
    if not (where and what):
        raise ValueError(f"environment {name!r} is half a name; give module:object or path.py:object")
    try:
        module = _module(where)
        made: Any = functools.reduce(getattr, what.split("."), module)
        own = inspect.isfunction(made) and made.__module__ == module.__name__  # and no other's, such as os.abort
        made = made() if own or (inspect.isclass(made) and hasattr(made, "reset")) else made
    except (Exception, SystemExit) as error:  # whatever a user's own code raises
        said = " ".join(str(error).split())
        raise ValueError(f"environment {name!r}: {type(error).__name__}: {said}") from error
    if not hasattr(made, "reset"):
        kind = type(made).__name__
        raise ValueError(f"environment {name!r} is a {kind}; it must be an environment, or a class or function of one")
    return envs.make(made)


def _module(where: str) -> ModuleType:
    """A module by its name, which may be beside the user, or by its file, beside which others may be."""
    file = Path(where).resolve()
    folder = str(file.parent if file.suffix == ".py" else Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)
    if file.suffix != ".py":
        return importlib.import_module(where)
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {where}")
    name = f"rlzoo_own_{file.stem}"
    if name in sys.modules and sys.modules[name].__file__ == str(file):
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def written(env: str) -> str:
    """An environment's name as the suite writes it, such as gymnax/CartPole-v1 for gymnax/cartpole-v1; of one's own
    file the whole path, by which it is found from everywhere.
    """
    where, colon, what = env.rpartition(":")
    if colon:
        return f"{Path(where).resolve()}:{what}" if where.endswith(".py") else env
    suite, slash, name = env.partition("/")
    suite = same(suite, envs.SUITES)
    return f"{suite}/{same(name, envs.names(suite))}" if slash and suite in envs.SUITES else env


def short(env: str) -> str:
    """An environment's name in titles and names of folders: Maze for path/own.py:Maze."""
    return f"own/{env.rpartition(':')[2]}" if ":" in env else env


def load_data(module: ModuleType, path: str | Path, rule: str | None = None) -> Any:
    """What an offline algorithm learns from: a dataset, of a D4RL file by a rule of `data.d4rl`, or preferences."""
    load = loader(module, path)
    if rule is None:
        return load(data.located(path))
    if load is not data.d4rl.load:
        raise ValueError(f"{path} is no file of D4RL, which alone has rules; leave {rule!r} out")
    return load(path, rule=rule)


def absolute(path: str | Path) -> str:
    """Where a dataset is, also of one that Minari keeps; a path at which there is nothing as it was given."""
    found = data.located(path)
    return str(found.resolve() if found.exists() else found)


def loader(module: ModuleType, path: str | Path) -> Callable[..., Any]:
    """The function that reads what an offline algorithm learns from."""
    preferences = "preferences" in inspect.signature(module.make).parameters
    return data.preferences.load if preferences else data.loader(path)


BUDGETS = {  # what a step of a budget is, and what the papers take
    "bc": "gradient steps",
    "td3_bc": "steps of the critics, with one of the policy every policy_delay; the paper's 1,000,000",
    "iql": "steps of V, policy and critics together; the paper's 1,000,000",
    "prdc": "steps of the critics, with one of the policy every policy_delay; the paper's 1,000,000",
    "a2pr": "steps of the critics, with one of the policy every policy_delay; the paper's 1,000,000",
    "cdsa": "gradient steps of score and dynamics models together; ours",
    "cpl": "gradient steps, those of cloning included; the paper's 500,000 for states, of which 200,000 clone",
    "p_iql": "steps of V, policy and critics together; the paper's 500,000, the first 50,000 of the reward model too",
}


def unit(module: ModuleType) -> str:
    """What the steps of a budget are."""
    return "gradient steps" if is_offline(module) else "environment steps"


def is_offline(module: ModuleType) -> bool:
    """Whether it learns from a dataset, or from preferences."""
    return not {"dataset", "preferences"}.isdisjoint(inspect.signature(module.make).parameters)


def check_data(algorithm: str, given: Any, option: str, rule: str | None = None) -> None:
    """Data, and a rule by which they are read, for what learns from data, and for nothing else."""
    if rule is not None:
        names.check("rule", [rule], data.d4rl.RULES)
        if not is_offline(ALGORITHMS[algorithm]):
            raise ValueError(f"{algorithm} learns online; leave the rule of data, {rule}, out")
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


def plain_fields(cls: type) -> dict[str, Any]:
    """The fields of a `Config`, with their types, that a command line or a file can give: no networks, no functions."""
    typed = (int, float, bool, str, tuple[int, ...], tuple[float, ...])
    return {name: kind for name, kind in get_type_hints(cls).items() if kind in typed}


def said(cls: type) -> dict[str, str]:
    """Of each field of a `Config` or `Hyper` the comment, and which numbers it may be: [0, 1], (0, inf]."""
    ranges = ranges_of(cls)
    return {name: f"{text}; {ranges[name]}" if name in ranges else text for name, text in names.comments(cls).items()}
