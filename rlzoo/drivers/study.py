"""A study trained: in as few programs as it has structures, part by part, with one table of results.

    from rlzoo import study

    study.run(study.read("sweep.yaml"), "runs/mine")                              # as `rlzoo sweep sweep.yaml`
    study.run(study.Study("ppo", env, hyper={"gamma": [0.9, 0.99]}), "runs/own")  # in Python also with one's own env

Each structure, and of it each group of settings that fits into memory, is a part with a directory of its own; a sweep
that is resumed does not train again the parts that are over. Sweep files are described in `rlzoo.drivers.settings`.
"""

import csv
import dataclasses
import io
import itertools
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo import envs
from rlzoo.algorithms import ALGORITHMS
from rlzoo.drivers import checkpoint, memory, named
from rlzoo.drivers import population as competing
from rlzoo.drivers.devices import anywhere, filled, spread
from rlzoo.drivers.evaluate import refuse
from rlzoo.drivers.manifest import fingerprint
from rlzoo.drivers.plan import Fit, fitted
from rlzoo.drivers.ranges import Range
from rlzoo.drivers.run import alone_in
from rlzoo.drivers.run import run as run_part
from rlzoo.drivers.settings import Study, configs, like, read, refuse_too_many, settings, single, values_of
from rlzoo.drivers.sweep import sweep
from rlzoo.drivers.train import float32, steps_after, updates_for
from rlzoo.envs.vary import with_columns
from rlzoo.files import plain, read_json, refuse_other, write_json, write_text
from rlzoo.machine import SHARE, device_memory, in_bytes
from rlzoo.types import Algorithm, Env

__all__ = ["Study", "plan", "read", "run"]

SMALL = 64  # a sweep whose States take less than such a part of the memory is trained without being planned before
TEXT = ("part", "line")  # columns of results that are no numbers
FREE = ("in_lanes", "spread", "report_every", "sinks", "data_rule")  # fields that may change when a sweep is resumed


class Part(NamedTuple):
    """What is one program and one run: some of the settings, of one structure."""

    structure: int  # which of the study's
    first: int  # of the settings
    end: int  # one behind the last
    in_lanes: int | None


class Planned(NamedTuple):
    """Of one structure: how its settings go through the memory, and what that takes."""

    config: dict[str, Any]
    num_settings: int
    rungs: int  # of a competition; 1: all train to the end
    fit: Fit

    def __str__(self) -> str:
        said = ", ".join(f"{name}={value}" for name, value in self.config.items())
        groups = -(-self.num_settings // self.fit.settings)
        more = f"; in {groups} groups of up to {self.fit.settings} settings, one after another" if groups > 1 else ""
        more += f"; in {self.rungs} rungs" if self.rungs > 1 else ""
        if groups > 1 and self.fit.plan.seconds is not None:
            more += f", {groups * self.fit.plan.seconds:,.0f} s in all"
        return f"{f'{said}: ' if said else ''}{self.fit.plan}{more}"


def plan(study: Study, probe: bool = True) -> list[Planned]:
    """What each structure of a study takes, memory and time, from programs of few lanes; see `rlzoo.plan`."""
    made = _Made(study)
    found = []
    for structure, config in enumerate(made.configs):
        ends = made.ends(made.whole(structure))
        found.append(Planned(config, made.num_settings, len(ends), made.fit(structure, probe)))
    return found


def run(
    study: Study,
    directory: str | Path,
    resume: bool = False,
    quiet: bool = False,
    how_to_resume: str | None = None,
) -> list[dict[str, Any]] | None:
    """Train all parts, one after another, and write ``results.csv``.

    A row of results is an agent, with its setting and seed, its numbers, and its mean return over the last evaluation,
    empty if it is not finite; of a competition a row is a setting.

    Args:
        directory: for results, and for each part's log and checkpoints.
        resume: go on with what is there, if anything is.
        how_to_resume: what to tell the user after Ctrl-C.
    Returns:
        the rows; None if it was interrupted.
    Raises:
        ValueError: the directory holds a sweep already and ``resume`` is False, or another; it is in use.
    """
    with alone_in(Path(directory)):
        return _run(_Made(study), Path(directory), resume, quiet, how_to_resume)


def _run(
    made: "_Made", directory: Path, resume: bool, quiet: bool, how_to_resume: str | None
) -> list[dict[str, Any]] | None:
    study, leads = made.study, jax.process_index() == 0
    log = directory / "sweep.json"
    begun = _begun(log, made, resume)
    parts = [part._replace(in_lanes=study.in_lanes or part.in_lanes) for part in begun] or made.parts()
    tables = [directory / f"part_{number}" / "results.csv" for number in range(len(parts))]
    over = [anywhere(table.exists()) for table in tables]  # and so every process has looked before one writes
    if leads and not begun:
        directory.mkdir(parents=True, exist_ok=True)
        write_json(log, {"study": made.about(), "parts": parts})

    options = {"quiet": quiet, "how_to_resume": how_to_resume or f"study.run(..., {str(directory)!r}, resume=True)"}
    results: list[dict[str, Any]] = []
    for number, (part, table) in enumerate(zip(parts, tables, strict=True)):
        if not over[number]:
            if leads and not quiet and len(parts) > 1:
                config = "".join(f", {name}={x}" for name, x in made.configs[part.structure].items())
                of = f"settings {part.first} to {part.end - 1}{config}"
                print(f"part {number + 1} of {len(parts)}: {of}", flush=True)
            rows = made.train(part, table.parent, **options)
            if rows is None:
                return None
            if leads:
                write_csv(table, rows)
        else:
            rows = made.checked(part, table, read_csv(table))
        results += rows
        if leads:
            write_csv(directory / "results.csv", results)
    return results


class _Made:
    """What a study's names stand for: environment and data, made once, and the sweeps of each structure."""

    def __init__(self, study: Study) -> None:
        self.study, self.module = study, ALGORITHMS[study.algorithm]
        refuse_too_many(study)
        refuse(study.eval_episodes, study.seeds)
        self.env: Env = envs.make(study.env, **({} if study.backend is None else {"backend": study.backend}))
        path = str(study.data) if isinstance(study.data, str | Path) else ""
        self.data = named.load_data(self.module, path, study.data_rule) if path else study.data
        presets = self.module.presets
        self.preset = presets[study.preset or named.preset_for(self.env.name.split()[0], presets, path)]
        self.keys = jax.random.split(jax.random.key(study.seed), study.seeds)
        self.competes = study.halving is not None or study.pbt is not None
        self.columns = settings(study)
        self.num_settings = len(next(iter(self.columns.values()), [None]))
        self.configs = configs(study)
        self.algorithms: dict[int, Algorithm] = {}  # of structures: groups of one share its programs
        if study.params and named.is_offline(self.module):
            raise ValueError(f"{study.algorithm} learns from a dataset, not from params; leave them out")

    def about(self) -> dict[str, Any]:
        """The study in JSON values, by which a resumed one is known again."""
        fields = {field.name: getattr(self.study, field.name) for field in dataclasses.fields(self.study)}
        fields |= {"env": self.env.name, "data": None if self.data is None else fingerprint(self.data)}
        return plain(fields)

    def algorithm(self, structure: int) -> Algorithm:
        """With the study's single numbers."""
        if structure not in self.algorithms:
            study, default = self.study, self.preset.config
            fields = {name: values_of(given, getattr(default, name))[0] for name, given in study.config.items()}
            fields |= self.configs[structure]
            fields = {k: like(f"config.{k}", getattr(default, k), x) for k, x in fields.items()}
            hyper = self.preset.hyper._asdict() | {name: x[0] for name, x in study.hyper.items() if single(x)}
            config = dataclasses.replace(default, **fields)
            self.algorithms[structure] = named.make(self.module, self.env, config, hyper, self.data)
        return self.algorithms[structure]

    def runs(self, part: Part) -> Algorithm:
        """The sweep of a part's settings."""
        study, algo = self.study, self.algorithm(part.structure)
        given = {name: np.asarray(x[part.first : part.end], np.float32) for name, x in self.columns.items()}
        swept = {name.removeprefix("hyper/"): x for name, x in given.items() if name.startswith("hyper/")}
        filled = {k: jnp.asarray(np.where(np.isnan(x), getattr(algo.hyper, k), x)) for k, x in swept.items()}
        params = {name: np.full(part.end - part.first, x[0]) for name, x in study.params.items() if single(x)}
        params |= {name.removeprefix("params/"): x for name, x in given.items() if name.startswith("params/")}
        task = with_columns(self.env, params) if params else None
        if self.competes and params:  # one value for each, in which all settings compete
            task = jax.tree.map(lambda own, x: x[0] if x.ndim > jnp.ndim(own) else x, self.env.params, task)
        runs = sweep(algo, algo.hyper._replace(**filled), task, part.in_lanes)
        return spread(runs) if study.spread else runs

    def whole(self, structure: int) -> Part:
        """All settings at once."""
        return Part(structure, 0, self.num_settings, self.study.in_lanes)

    def ends(self, part: Part) -> list[int]:
        """Updates at the ends of a competition's rungs, or of the run; what cannot be raises here."""
        study, runs = self.study, self.runs(part)
        num_updates = updates_for(runs, study.steps)
        options = {"eval_episodes": study.eval_episodes}
        if study.halving is not None:
            return competing.halving_rungs(runs, num_updates, **study.halving, **options)
        if study.pbt is not None:
            every, ranges, numbers = self.population(runs)
            return competing.pbt_rungs(runs, num_updates, every, ranges, **numbers, **options)
        return [num_updates]

    def fit(self, structure: int, probe: bool) -> Fit:
        """The groups of settings that fit, planned with programs of few lanes."""
        study, whole = self.study, self.whole(structure)
        runs, ends = self.runs(whole), self.ends(whole)
        chunk = study.report_every or (ends[0] if self.competes else max(1, ends[-1] // 20))
        num_updates = ends[-1]
        if study.halving is not None:  # updates of all settings that take as long
            eta = study.halving.get("eta", 2)
            left = [self.num_settings // eta**k for k in range(len(ends))]
            lengths = np.diff(ends, prepend=0)
            num_updates = max(1, round(float(np.dot(left, lengths)) / self.num_settings))
        found = fitted(runs, study.seeds, num_updates, probe, min(chunk, ends[-1]), study.eval_episodes)
        if not self.competes:
            return found
        # Between two rungs the State of those that go on is made beside the one before.
        limit, most = found.plan.limit, found.plan.total + found.plan.state * found.plan.lanes
        if found.settings < self.num_settings or (limit is not None and most > SHARE * limit):
            raise ValueError(
                f"{self.num_settings} settings x {study.seeds} seeds compete, and so are trained together; they do not "
                f"fit into {in_bytes(limit or 0)}; use fewer settings, or fewer seeds"
            )
        return found

    def parts(self) -> list[Part]:
        """Those of all structures; on a CPU what is small beside the memory is not planned, but one part."""
        found, limit = [], device_memory()
        for structure in range(len(self.configs)):
            whole = self.whole(structure)
            runs, ends = self.runs(whole), self.ends(whole)  # which raises before anything is written
            keys = filled(runs, self.keys, quiet=True)
            state = jax.eval_shape(runs.init, keys, float32(runs.hyper), runs.task)
            metrics = jax.eval_shape(runs.step, state, float32(runs.hyper), runs.task)[1]
            kept = memory.size_in_bytes((state, runs.task)) + memory.size_in_bytes(metrics) * ends[-1]
            if limit is None or (jax.default_backend() == "cpu" and kept < limit / SMALL):
                found.append(whole)
                continue
            fit = self.fit(structure, probe=False)
            groups = -(-self.num_settings // fit.settings)
            bounds = [self.num_settings * i // groups for i in range(groups + 1)]  # of about one size
            found += [Part(structure, *ends_of, fit.in_lanes) for ends_of in itertools.pairwise(bounds)]
        return found

    def train(self, part: Part, directory: Path, **options: Any) -> list[dict[str, Any]] | None:
        """A part's rows of results; None if it was interrupted."""
        study, runs = self.study, self.runs(part)
        num_updates = updates_for(runs, study.steps)
        options |= {"directory": directory, "report_every": study.report_every, "sinks": study.sinks}
        options |= {"eval_episodes": study.eval_episodes}
        if self.competes:
            return self._compete(part, runs, num_updates, options)
        saved = checkpoint.any_in(directory / "checkpoints")
        done = run_part(runs, self.keys, num_updates, resume=saved, **options)
        if done.interrupted:
            return None
        returns = competing.final_returns(runs, done, study.eval_episodes)[:, : study.seeds]
        steps = steps_after(runs, num_updates)
        return [
            {"part": directory.name, "setting": part.first + i, "seed": seed}
            | self._numbers(part, {name: x[part.first + i] for name, x in self.columns.items()})
            | {"env_steps": steps, "return": float(returns[i, seed])}
            for i, seed in np.ndindex(*returns.shape)
        ]

    def checked(self, part: Part, path: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """A part's rows as they were written, or the `ValueError` that says they are not."""
        seeds = [-1] if self.competes else range(self.study.seeds)
        last = self.num_settings if self.competes else part.end
        wanted = [(setting, seed) for setting in range(part.first, last) for seed in seeds]
        found = [(row.get("setting"), row.get("seed", -1)) for row in rows]
        texts = [name for name, x in rows[0].items() if isinstance(x, str) and not name.startswith("config/")]
        texts += [
            name for row in rows for name in ("env_steps", "return") if not isinstance(row.get(name), int | float)
        ]
        if found != wanted or not set(texts) <= set(TEXT):
            raise ValueError(f"{path} is damaged: it has not the rows that its part has; remove it, and resume")
        return rows

    def _compete(self, part: Part, runs: Algorithm, num_updates: int, options: Any) -> list[dict[str, Any]] | None:
        study, directory = self.study, options["directory"]
        options["resume"] = competing.begun(directory)
        if study.halving is not None:
            found = competing.halving(runs, self.keys, num_updates, **study.halving, **options)
        else:
            every, ranges, numbers = self.population(runs)
            found = competing.pbt(runs, self.keys, num_updates, every, ranges, **numbers, **options)
        if found.interrupted:
            return None
        rows, lineage = [], found.lineage
        for setting in range(part.end):
            line = lineage.of(setting)
            rung = len(line) - 1
            numbers = {f"hyper/{name}": x[rung, setting] for name, x in lineage.hyper.items()}
            rows.append({"part": directory.name, "setting": setting} | self._numbers(part, numbers))
            rows[-1] |= {"rungs": len(line), "env_steps": steps_after(runs, int(lineage.updates[rung]))}
            rows[-1] |= {"return": float(lineage.scores[rung, setting]), "line": " ".join(map(str, line))}
        return rows

    def population(self, runs: Algorithm) -> tuple[int, dict[str, Range], dict[str, Any]]:
        """Updates between selections, the ranges to move in, and the other arguments of `pbt`."""
        numbers = dict(self.study.pbt or {})
        steps = numbers.pop("every")
        every, rest = divmod(steps, runs.steps_per_update)
        if rest or not every:
            near = max(1, every) * runs.steps_per_update
            raise ValueError(f"pbt.every={steps} is not in whole updates of {runs.steps_per_update} steps; use {near}")
        return every, {name: x for name, x in self.study.hyper.items() if isinstance(x, Range)}, numbers

    def _numbers(self, part: Part, columns: Mapping[str, float]) -> dict[str, Any]:
        config = {f"config/{name}": _cell(x) for name, x in self.configs[part.structure].items()}
        made = self.algorithm(part.structure).hyper  # where a setting is nan, what `make` has filled in
        columns = {k: x if x == x else getattr(made, k.removeprefix("hyper/")) for k, x in columns.items()}
        # The shortest text that is this float32.
        return config | {name: float(str(np.float32(x))) for name, x in columns.items()}


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of one set of columns; NaN is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows({k: "" if isinstance(x, float) and np.isnan(x) else x for k, x in row.items()} for row in rows)
    write_text(path, text.getvalue())


def read_csv(path: Path) -> list[dict[str, Any]]:
    """What `write_csv` wrote: numbers where they are, NaN for empty cells, else text."""

    def cell(name: str, text: str) -> Any:
        for kind in () if name in TEXT else (int, float):
            with suppress(ValueError):
                return kind(text or "nan")
        return text

    try:
        text = path.read_bytes().decode()
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} is damaged: {error}; remove it, and resume") from error
    if not rows or not text.endswith("\n") or any(None in (*row, *row.values()) for row in rows):
        raise ValueError(
            f"{path} is damaged: it has no rows, or ends in a line, or one has more or fewer cells than columns; "
            "remove it, and resume"
        )
    return [{name: cell(name, text) for name, text in row.items()} for row in rows]


def _begun(log: Path, made: _Made, resume: bool) -> list[Part]:
    """The parts of the sweep that a directory holds, which is to be the one asked for."""
    if not resume:
        if log.exists():
            raise ValueError(f"{log.parent} holds a sweep already; resume it, or choose another directory")
        return []
    if not log.exists():
        return []
    found = read_json(log)
    try:
        parts = [Part(*part) for part in found["parts"]]
        structures, settings = range(len(made.configs)), range(made.num_settings + 1)
        if not parts or any(x.structure not in structures or not {x.first, x.end} <= {*settings} for x in parts):
            raise ValueError("parts that the sweep does not have")
        there = dict(found["study"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{log} is damaged ({type(error).__name__}: {error}); begin anew elsewhere") from error
    asked = {name: value for name, value in made.about().items() if name not in FREE}
    refuse_other(asked, there, f"the sweep in {log.parent}")
    return parts


def _cell(value: Any) -> Any:
    """Of a table: a number, or text."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(plain(value))
