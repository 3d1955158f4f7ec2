"""What a sweep file says: which settings of an algorithm to train, on a grid or drawn, and for how long.

    algorithm: ppo                                      # sweep.yaml, for `rlzoo sweep sweep.yaml`
    env: gymnax/CartPole-v1
    steps: 100_000                                      # environment steps per agent
    seeds: 8                                            # agents per setting
    hyper:                                              # traced: any number of settings share a program
      learning_rate: {low: 1e-4, high: 1e-2, scale: log}
      entropy_coef: [0.0, 0.01]
    config:                                             # structure: a program for each value
      num_envs: [16, 32]
    sampler: sobol
    samples: 32

The fields are those of `Study`. `rlzoo.drivers.study` trains it.
"""

import dataclasses
import itertools
import math
import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlzoo import machine, names
from rlzoo.algorithms import ALGORITHMS
from rlzoo.algorithms.hyper import Between, ranges_of
from rlzoo.drivers import named
from rlzoo.drivers.ranges import METHODS, Range, drawn
from rlzoo.files import read_yaml
from rlzoo.report.sinks import SINKS

HALVING, PBT = ("eta", "least"), ("every", "share", "factor", "resample", "seed")
FINITE = Between(-np.inf, np.inf, "()")
OPTIONAL = ("samples", "in_lanes", "report_every")  # whole numbers that may be left out
WHOLE = ("eta", "least", "every", "seed")  # of them those that count something


@dataclasses.dataclass(frozen=True)
class Study:
    """Which settings to train, and how."""

    algorithm: str  # such as ppo
    env: Any  # a name, such as gymnax/CartPole-v1; in Python also an environment
    steps: int = 1_000_000  # environment steps per agent; offline, gradient steps
    seeds: int = 1  # agents per setting
    seed: int = 0  # of the keys, and of the sampler
    hyper: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # a number, several, or {low, high, scale}
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # a value or several
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # of the environment: as hyper
    sampler: str = "grid"  # grid: every combination; random, sobol: ``samples`` settings of ranges and choices
    samples: int | None = None  # settings to draw, the same for every structure
    halving: Mapping[str, Any] | None = None  # eta, least: see `rlzoo.halving`
    pbt: Mapping[str, Any] | None = None  # every (environment steps), share, factor, resample, seed: see `rlzoo.pbt`
    data: Any = None  # offline: a dataset's path, or id of Minari; in Python also a dataset
    data_rule: str | None = None  # of D4RL's files: true (the default), or qlearning; see `rlzoo.data.d4rl`
    preset: str | None = None  # what to start from; default: that of the environment's family
    backend: str | None = None  # brax physics
    in_lanes: int | None = None  # agents trained at a time; default: as many as fit
    spread: bool = False  # over all devices
    report_every: int | None = None  # updates between evaluations and saves; default: a twentieth of the run
    eval_episodes: int = 32  # per agent and evaluation
    sinks: Sequence[str] = ("csv",)  # of csv, tensorboard, wandb

    def __post_init__(self) -> None:
        def put(field: str, value: Any) -> None:
            object.__setattr__(self, field, value)

        for field in ("algorithm", "sampler"):
            if not isinstance(getattr(self, field), str):
                raise ValueError(f"{field} is {getattr(self, field)!r}; it must be a name")
        names.check("algorithm", [self.algorithm], ALGORITHMS)
        for field in ("hyper", "config", "params", "halving", "pbt"):
            put(field, _mapping(field, getattr(self, field)))
        for field in ("steps", "seeds", "samples", "in_lanes", "report_every", "eval_episodes", "seed"):
            if (given := getattr(self, field)) is not None or field not in OPTIONAL:
                put(field, _whole(field, given, least=0 if field == "seed" else 1))
        names.check_seed("seed", self.seed)
        for field in ("preset", "backend", "data_rule"):
            if not isinstance(getattr(self, field), str | None):
                raise ValueError(f"{field} is {getattr(self, field)!r}; it must be a name")
        if not isinstance(self.spread, bool):
            raise ValueError(f"spread is {self.spread!r}; it must be true or false")
        sinks = [self.sinks] if isinstance(self.sinks, str) else self.sinks
        if not isinstance(sinks, list | tuple) or not all(isinstance(x, str) for x in sinks):
            raise ValueError(f"sinks is {sinks!r}; it must be a list of {', '.join(SINKS)}")
        names.check("sink", sinks, SINKS)
        put("sinks", tuple(sinks))

        module = ALGORITHMS[self.algorithm]
        structure = [field.name for field in dataclasses.fields(module.Config)]
        for field, allowed, others, remedy in (
            ("hyper", module.Hyper._fields, structure, "is structure and cannot be traced: put it under config"),
            ("config", structure, module.Hyper._fields, "is a traced number: put it under hyper"),
        ):
            for name in getattr(self, field):
                if name in others:
                    raise ValueError(f"{field}.{name} {remedy}")
            names.check(f"field of {field}", getattr(self, field), allowed)
        ranges = ranges_of(module.Hyper)
        put("hyper", {name: _numbers(f"hyper.{name}", given, ranges[name]) for name, given in self.hyper.items()})
        put("params", {name: _numbers(f"params.{name}", given) for name, given in self.params.items()})
        for name, given in self.config.items():
            if isinstance(given, Mapping):
                raise ValueError(f"config.{name} is {dict(given)}; structure takes a value, or a list of values")
        self._check_settings()
        for field, allowed in (("halving", HALVING), ("pbt", PBT)):
            if (given := getattr(self, field)) is not None:
                names.check(f"field of {field}", given, allowed)
                put(field, {k: (_whole if k in WHOLE else _number)(f"{field}.{k}", x) for k, x in given.items()})
                names.check_seed(f"{field}.seed", getattr(self, field).get("seed", 0))
        named.check_data(self.algorithm, self.data, "data", self.data_rule)

    def _check_settings(self) -> None:
        """How settings are drawn, and that what competes can."""
        names.check("sampler", [self.sampler], ("grid", *METHODS))
        several = {f"{field}.{x}": y for field in ("hyper", "params") for x, y in getattr(self, field).items()}
        ranges = [name for name, given in several.items() if isinstance(given, Range)]
        if self.sampler == "grid" and (ranges or self.samples is not None):
            what = f"{ranges[0]} is a range" if ranges else f"samples is {self.samples}"
            raise ValueError(f"{what}, but the sampler is grid; use sampler: sobol, or random, with samples: 32, say")
        if self.sampler != "grid" and self.samples is None:
            raise ValueError(f"the sampler is {self.sampler}; say how many settings to draw, such as samples: 32")
        if self.halving is not None and self.pbt is not None:
            raise ValueError("halving and pbt are two ways to compete; use one")
        if self.pbt is not None and ("every" not in self.pbt or not any(x.startswith("hyper.") for x in ranges)):
            raise ValueError("pbt needs `every`, in environment steps, and ranges under hyper to move numbers in")
        if (self.halving is not None or self.pbt is not None) and not all(single(x) for x in self.params.values()):
            raise ValueError("returns under different params do not compare; compete with one value for each")


def read(path: str | Path) -> Study:
    """The study in a file: YAML, which executes nothing; or Python, a program of the user's own, which is run and
    leaves its fields in a dictionary named ``study``.

    Raises:
        ValueError: not readable; an unknown, misplaced or impossible field, by name.
    """
    path = Path(path)
    if path.suffix not in (".yaml", ".yml", ".py"):
        raise ValueError(f"{path} is no sweep file; it must be YAML (.yaml) or Python (.py)")
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    if path.suffix == ".py":
        given = runpy.run_path(str(path)).get("study")
        if not isinstance(given, dict):
            raise ValueError(f"{path} leaves no dictionary named study; write study = {{'algorithm': 'ppo', ...}}")
    else:
        given = read_yaml(path)
        for field, kind in (("env", str), ("data", str | None)):
            if not isinstance(given.get(field, ""), kind):
                raise ValueError(f"{path}: {field} is {given[field]!r}; it must be a name or path")
    try:
        names.check("field", map(str, given), [field.name for field in dataclasses.fields(Study)])
        if path.suffix != ".py":
            _refuse_code(given)
        missing = [name for name in ("algorithm", "env") if given.get(name) is None]
        if missing:
            raise ValueError(f"{' and '.join(missing)} missing; the least is algorithm: ppo, env: gymnax/CartPole-v1")
        return Study(**given)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _refuse_code(given: Mapping[str, Any]) -> None:
    """Raise for a network or a function in a file that can hold none."""
    config, module = given.get("config"), ALGORITHMS.get(str(given.get("algorithm")))
    if module is None or not isinstance(config, Mapping):
        return
    plain = named.plain_fields(module.Config)
    for name, value in config.items():
        if name in module.Config.__dataclass_fields__ and name not in plain and value is not None:
            raise ValueError(f"config.{name} is {value!r}; YAML cannot name a network or a function, use a .py file")


def settings(study: Study) -> dict[str, np.ndarray]:
    """The numbers that vary, [H] each: ``hyper/learning_rate``, ``params/gravity``; empty if none does."""
    given = {f"{field}/{x}": y for field in ("hyper", "params") for x, y in getattr(study, field).items()}
    several = {name: values for name, values in given.items() if not single(values)}
    if study.sampler != "grid":
        return drawn(study.samples or 0, study.sampler, study.seed, several)
    columns = zip(*itertools.product(*several.values()), strict=True)
    return {name: np.array(column, float) for name, column in zip(several, columns, strict=True)} if several else {}


def refuse_too_many(study: Study) -> None:
    """Raise for more settings and seeds than the memory can hold rows of results, before the first is made.

    Raises:
        ValueError: with how many there are, and how many fit.
    """
    several = {f"{field}.{name}": x for field in ("hyper", "params") for name, x in getattr(study, field).items()}
    sizes = {name: len(x) for name, x in several.items() if not isinstance(x, Range) and len(x) > 1}
    sizes |= {f"config.{name}": len(x) for name, x in study.config.items() if isinstance(x, list) and len(x) > 1}
    if study.sampler != "grid":
        sizes = {f"samples={study.samples}": study.samples or 1} | {k: x for k, x in sizes.items() if k[0] == "c"}
    sizes |= {f"seeds={study.seeds}": study.seeds}
    machine.refuse_more(f"agents, of {' x '.join(sizes)},", math.prod(sizes.values()), machine.LANE)


def configs(study: Study) -> list[dict[str, Any]]:
    """The combinations of structure, of the fields that have several values."""
    default = ALGORITHMS[study.algorithm].Config()
    values = {name: values_of(given, getattr(default, name)) for name, given in study.config.items()}
    several = {name: x for name, x in values.items() if len(x) > 1}
    return [dict(zip(several, x, strict=True)) for x in itertools.product(*several.values())]


def single(values: Any) -> bool:
    return not isinstance(values, Range) and len(values) == 1


def _mapping(field: str, given: Any) -> Any:
    if given is None:
        return None if field in ("halving", "pbt") else {}
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise ValueError(f"{field} is {given!r}; it must be fields with their values, such as {field}: {{name: 1}}")
    return dict(given)


def _numbers(name: str, given: Any, allowed: Between = FINITE) -> Any:
    """A `Range`, or a tuple of numbers, which are allowed."""
    if isinstance(given, Mapping):
        names.check(f"field of {name}, a range", map(str, given), Range._fields)
        missing = [end for end in ("low", "high") if end not in given]
        if missing:
            raise ValueError(f"{name} is {dict(given)}; a range needs low and high, and may have a scale")
        low, high = (_number(f"{name}.{end}", given[end]) for end in ("low", "high"))
        given = Range(low, high, str(given.get("scale", "linear")))
    if isinstance(given, Range):
        given.check(name, allowed)
        return given
    several = given if isinstance(given, list | tuple) or np.ndim(given) == 1 else [given]
    numbers = tuple(_number(name, x, allowed) for x in several)
    if not numbers or len(set(map(str, numbers))) < len(numbers):
        raise ValueError(f"{name} has {'the same number twice' if numbers else 'no number'}; give one, or several")
    return numbers


def _number(name: str, given: Any, allowed: Between = FINITE) -> float:
    """YAML takes 1e-4, and inf, for text; they are meant as numbers."""
    try:
        number = float(given) if not isinstance(given, bool) else None
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or not allowed.holds(number):
        raise ValueError(f"{name} is {given!r}; it must be {allowed.words()}")
    return number


def _whole(name: str, given: Any, least: int = 0) -> int:
    number = given if isinstance(given, int) and not isinstance(given, bool) else _number(name, given)
    if number != int(number) or number < least:
        raise ValueError(f"{name} is {given!r}; it must be a whole number, {least} or more")
    return int(number)


def values_of(given: Any, default: Any) -> list[Any]:
    """The values of a `Config` field; of one that is a tuple, [64, 64] is one value, and [[64], [64, 64]] are two."""
    if not isinstance(given, list) or not given:
        return [given]
    if isinstance(default, tuple) and not isinstance(given[0], list | tuple):
        return [given]
    return given


def like(name: str, default: Any, given: Any) -> Any:
    """A value from a file as its field's type: lists are tuples, and 1e4 is a whole number where one belongs."""
    if isinstance(default, tuple) and isinstance(given, list | tuple):
        return tuple(like(name, default[0], x) if default else x for x in given)
    if isinstance(default, bool):
        if not isinstance(given, bool):
            raise ValueError(f"{name} is {given!r}; it must be true or false")
        return given
    if isinstance(default, int):
        return _whole(name, given)
    return _number(name, given) if isinstance(default, float) else given
