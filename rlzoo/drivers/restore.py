"""From a directory back to the algorithm, its numbers, its environment and its State, by what was written beside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import jax.numpy as jnp

from rlzoo import names
from rlzoo.algorithms import ALGORITHMS
from rlzoo.drivers import checkpoint, named, runfile
from rlzoo.drivers.manifest import fingerprint, put, static
from rlzoo.drivers.sweep import sweep
from rlzoo.envs import adversarial, make, randomised, recipes, stochastic
from rlzoo.files import read_json
from rlzoo.types import Algorithm, Env

WRAPPERS: dict[str, Any] = {"stochastic": stochastic, "adversarial": adversarial, "randomised": randomised}


class Restored(NamedTuple):
    """What `restore` gives back; ``algo.hyper`` are the numbers, ``algo.env`` is the environment."""

    algo: Algorithm  # a sweep, if it was one
    state: Any


def restore(path: str | Path, env: Any = None, data: Any = None, step: int | None = None, **structure: Any) -> Restored:
    """The algorithm with its numbers, its environment, and the newest State of a directory, without naming any of it.

        algo, state = rlzoo.restore("runs/ppo_CartPole-v1_1")
        state, metrics = rlzoo.resume(algo, state, num_updates=10)

    Args:
        path: of `rlzoo.save`, of a run (``rlzoo train``, `rlzoo.run`), or of a part of a sweep.
        env: needed where it was your own object, or changed; what `rlzoo.envs.make` takes, or a game of
            `rlzoo.envs.adversarial`.
        data: offline: the dataset or preferences, or their path; of ``rlzoo train`` their path is on record.
        step: the newest State at this update.
        structure: fields of the Config whose values no file can hold, such as ``network=``, as they were.
    Raises:
        ValueError: there is no whole checkpoint; what is on record does not suffice, or what is given is not what was
            trained: each said by name.
    """
    path = Path(path)
    where = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    parts = sorted(x.name for x in path.glob("part_*")) + sorted(x.name for x in path.glob("rung_*"))
    if where == path and parts and not any(path.glob("save_*")):
        raise ValueError(f"{path} is of several runs; restore one of them: {', '.join(parts)}")
    about = checkpoint.about(where, step)
    if about["algorithm"] not in ALGORITHMS:
        raise ValueError(
            f"{where} is of {about['algorithm']!r}, which is none of rlzoo's algorithms; make it, and use rlzoo.load"
        )
    module = ALGORITHMS[about["algorithm"]]
    played = _env(module, about, where) if env is None else _given(env)
    alone = played if isinstance(played, Env) else played.env
    if alone.name != about["env"]:
        raise ValueError(f"{where} was trained in {about['env']!r}, given is {alone.name!r}")
    config = _config(module, about, structure, where)
    numbers = about["hyper"]
    names.check(f"hyperparameter of {about['algorithm']} on record", numbers, module.Hyper._fields)
    first = {name: x[0] if isinstance(x, list) else x for name, x in numbers.items()}
    learned_from = (_data(module, data, path, where),) if named.is_offline(module) else ()
    if data is not None and not learned_from:
        raise ValueError(f"{about['algorithm']} learns online; leave data out")
    algo = module.make(played, config, *learned_from, module.Hyper(**first))
    task = algo.task if algo.offline else _params(alone, about, where, given=env is not None)
    if about["lanes"]:
        hyper = module.Hyper(**{name: jnp.asarray(x, jnp.float32) for name, x in numbers.items()})
        algo = sweep(algo, hyper, task, about.get("in_lanes"))
    else:
        algo = algo._replace(task=task)
    if about["task"] != fingerprint(algo.task) or about.get("static") not in (None, static(algo.task)):
        what = (
            "data; give those with data="
            if algo.offline
            else "parameters of the environment; give it with them, env=, or make the algorithm and use rlzoo.load"
        )
        raise ValueError(f"{where} was trained on other {what}")
    return Restored(algo, checkpoint.load(where, algo, step))


def _given(env: Any) -> Any:
    """An environment, or a game."""
    return env if isinstance(getattr(env, "env", None), Env) else make(env)


def _env(module: Any, about: Mapping[str, Any], where: Path) -> Any:
    """The environment on record, or the game that an algorithm of two players takes."""
    unknown = ValueError(f"{about['env']!r} cannot be made again from the record in {where}; give it: env=")
    calls = about.get("recipe") or _calls_of_name(about)
    if calls is None:
        raise unknown
    try:
        first, *rest = calls
        made: Any = make(first["env"], **first["options"])
        for call in rest:
            made = WRAPPERS[call["call"]](made if isinstance(made, Env) else made.env, **call["options"])
    except (KeyError, TypeError, AttributeError) as error:
        raise unknown from error
    game = "Game" in str(get_type_hints(module.make).get("env"))
    made = made if isinstance(made, Env) or game else made.env
    alone = made if isinstance(made, Env) else made.env
    if (alone.name, alone.horizon) != (about["env"], about["horizon"]):
        raise unknown
    return made


def _calls_of_name(about: Mapping[str, Any]) -> list[recipes.Call] | None:
    """Of a checkpoint before format 3, what its environment's name says."""
    if about["format"] >= 3:
        return None
    name, *words = about["env"].split()
    options: dict[str, Any] = {}
    if name.startswith("brax/") and words:
        options = {"backend": words[0], "cached_reset": words[1:] == ["cached_reset"], "horizon": about["horizon"]}
    return [{"call": "make", "env": name, "options": options}] if name.partition("/")[0] != "own" else None


def _params(env: Env, about: Mapping[str, Any], where: Path, given: bool) -> Any:
    """The environment's parameters as they were, or the given environment's."""
    params = about.get("params", {})
    if params is None and not given:
        raise ValueError(f"the parameters of {about['env']} are not on record in {where}; give it with them: env=")
    return put(recipes.default_params(env), params) if params else env.params


def _config(module: Any, about: Mapping[str, Any], structure: Mapping[str, Any], where: Path) -> Any:
    """The Config on record, with those of its values that are no JSON as they are given."""
    recorded, default = about["config"], module.Config()
    names.check(f"{about['algorithm']}.Config field on record", recorded, module.Config.__dataclass_fields__)
    own = about.get("own")
    if own is None:  # before format 3: what is a text where none belongs
        own = [
            name for name, x in recorded.items() if isinstance(x, str) and not isinstance(getattr(default, name), str)
        ]
    missing = [name for name in own if name not in structure]
    if missing:
        raise ValueError(
            f"{where} was made with a {missing[0]} of one's own: {recorded[missing[0]]}; give {missing[0]}="
        )
    fields = {name: _tuple(x) for name, x in recorded.items()} | dict(structure)
    return module.Config(**fields)


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value


def _data(module: Any, data: Any, path: Path, where: Path) -> Any:
    """What was learned from: as given, or of the path that the command line wrote."""
    about: dict[str, Any] = {}
    if (path / runfile.FILE).exists():
        about = runfile.read(path)
        data = about["data"] if data is None else data
    elif (path.parent / "sweep.json").exists():  # of a part; data are there by their fingerprint alone
        about = read_json(path.parent / "sweep.json").get("study", {})
    if data is None:
        raise ValueError(f"{where} was learned from data that are not on record; give them, or their path: data=")
    return named.load_data(module, data, about.get("data_rule")) if isinstance(data, str | Path) else data
