"""Where a run's numbers go. Each sink takes the rows of one report: one row a lane, as plain dicts.

A row holds ``update``, ``env_steps``, ``setting``, ``seed``, the swept hyperparameters as ``hyper/…``, and metrics.
"""

import csv
import io
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rlzoo.files import named
from rlzoo.names import check

Row = dict[str, float]
COORDINATES = ("update", "env_steps", "setting", "seed")  # of a row: whole numbers
LARGEST = 2.0**62


class Sink(Protocol):
    """What takes a run's numbers: one of those by name, or an object of your own with these two methods.

        class Printed:
            def write(self, rows): print({name: x for name, x in rows[0].items() if name.startswith("eval/")})
            def close(self): pass

        rlzoo.run(algo, key, 100, sinks=[Printed()])

    If it also has ``begin(about)``, that is called once before the first rows, with what is trained as JSON values:
    algorithm, config, hyper, env, horizon, seeds, num_updates, versions. After a kill a resumed run writes again what
    came after its last checkpoint: rows are known by their ``update``, ``setting`` and ``seed``. An exception of a sink
    ends the run; what was saved before goes on with ``resume=True``.
    """

    def write(self, rows: list[Row]) -> None:
        """Take one report: at the start, and after every chunk; a row a lane."""

    def close(self) -> None:
        """The run is over, or was stopped."""


def open_sink(sink: str | Sink, directory: Path | None, resume_at: int) -> Sink:
    """A sink by name; what it holds from after update ``resume_at`` is dropped, for it will be written again.

    An object that is a `Sink` is taken as it is.
    """
    check_sink(sink)
    if not isinstance(sink, str):
        return sink
    if directory is None:
        raise ValueError(f"the sink {sink} writes into a directory, and there is none")
    return SINKS[sink](directory, resume_at)


def check_sink(sink: Any) -> None:
    """Raise a `ValueError` for what is neither one of those by name nor a `Sink`."""
    if isinstance(sink, str):
        check("sink", [sink], SINKS)
    elif isinstance(sink, type) or not all(callable(getattr(sink, name, None)) for name in ("write", "close")):
        kind = f"class {sink.__name__}" if isinstance(sink, type) else type(sink).__name__
        raise ValueError(f"the sink {kind} is no object with write(rows) and close(); allowed are those, or {[*SINKS]}")


class CsvSink:
    """``log.csv``: a row per report and lane."""

    def __init__(self, directory: Path, resume_at: int) -> None:
        self.path = directory / "log.csv"
        self.columns: list[str] = []
        kept = [row for row in read_csv(self.path) if row["update"] <= resume_at] if self.path.exists() else []
        self.path.unlink(missing_ok=True)
        if kept:
            self.write(kept)

    def write(self, rows: list[Row]) -> None:
        new = [name for name in rows[0] if name not in self.columns]
        if new:  # the file begins, or a resumed run measures more than before: all of it anew under a wider header
            rows = [*(read_csv(self.path) if self.path.exists() else []), *rows]
            self.path.unlink(missing_ok=True)
            self.columns += new
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, fieldnames=self.columns, restval="")
        if new:
            writer.writeheader()
        writer.writerows(rows)
        with named(self.path), self.path.open("a", newline="", encoding="utf-8") as file:
            file.write(buffer.getvalue())
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Every report is on the disk already."""


class TensorBoardSink:
    """``tensorboard/<lane>``: one series of events per lane, against environment steps."""

    def __init__(self, directory: Path, resume_at: int) -> None:
        self.directory = directory / "tensorboard"
        self.writers: dict[str, Any] = {}

    def write(self, rows: list[Row]) -> None:
        from tensorboardX import SummaryWriter

        for row in rows:
            name = lane_name(row)
            if name not in self.writers:
                # What an earlier attempt wrote from here on is hidden: it is written again.
                self.writers[name] = SummaryWriter(str(self.directory / name), purge_step=int(row["env_steps"]))
            for metric, value in metrics_of(row).items():
                self.writers[name].add_scalar(metric, value, int(row["env_steps"]))
        for writer in self.writers.values():
            writer.flush()

    def close(self) -> None:
        for writer in self.writers.values():
            writer.close()


class WandbSink:
    """One wandb run for the whole sweep, with a series per lane: ``<lane>/<metric>``. Needs ``rlzoo[wandb]``."""

    def __init__(self, directory: Path, resume_at: int) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ValueError("the wandb sink needs the package wandb: pip install 'rlzoo[wandb]'") from error
        identity = directory / "wandb_id"  # of this directory's run, whatever else has had its name
        if not identity.exists():
            identity.write_text(uuid.uuid4().hex)
        self.run = wandb.init(dir=str(directory), name=directory.name, resume="allow", id=identity.read_text())

    def begin(self, about: dict[str, Any]) -> None:
        self.run.config.update(about, allow_val_change=True)  # of a resumed run the length may be another

    def write(self, rows: list[Row]) -> None:
        if rows[0]["update"] < self.run.step:
            return  # was sent before the run was killed, with the same numbers, and cannot be dropped there
        # One call per report: wandb refuses a step that goes back, which a call per lane would look like.
        series = {f"{lane_name(row)}/{metric}": value for row in rows for metric, value in metrics_of(row).items()}
        self.run.log(series | {"env_steps": rows[0]["env_steps"]}, step=int(rows[0]["update"]))

    def close(self) -> None:
        self.run.finish()


SINKS: dict[str, Callable[[Path, int], Sink]] = {"csv": CsvSink, "tensorboard": TensorBoardSink, "wandb": WandbSink}


def read_csv(path: str | Path) -> list[Row]:
    """The rows of a ``log.csv``, numbers as floats; a last line cut short by a kill is dropped.

    Raises:
        ValueError: it is no such file: the first thing that is wrong is named.
    """
    rows: list[Row] = []
    damaged = f"{path} is no log of a run, or damaged"
    with Path(path).open(newline="", encoding="utf-8") as file:
        try:
            reader = csv.DictReader(file)
            missing = [name for name in COORDINATES if name not in (reader.fieldnames or COORDINATES)]
            if missing:
                raise ValueError(f"it has no column {missing[0]}")
            for row in reader:
                try:
                    numbers = {name: float("nan") if value == "" else float(value) for name, value in row.items()}
                except (TypeError, ValueError) as error:
                    if next(reader, None) is None:
                        break
                    raise ValueError(f"line {reader.line_num - 1} holds something else than numbers") from error
                for name in COORDINATES:
                    if not (0 <= numbers[name] < LARGEST and numbers[name] == int(numbers[name])):
                        raise ValueError(f"{name} is {row[name]!r} in line {reader.line_num}, and must count something")
                rows.append(numbers)
        except (ValueError, csv.Error) as error:  # also bytes that are no UTF-8
            raise ValueError(f"{damaged}: {error}; move it away, and it is begun anew") from error
    return rows


def columns(path: str | Path) -> list[str]:
    """The names of a ``log.csv``'s columns."""
    rows = read_csv(path)
    return list(rows[0]) if rows else []


def lane_name(row: Row) -> str:
    """Such as ``learning_rate=0.001,seed=3``."""
    swept = [f"{name.removeprefix('hyper/')}={value:.6g}" for name, value in row.items() if name.startswith("hyper/")]
    settings = swept or [f"setting={int(row['setting'])}"]
    return ",".join([*settings, f"seed={int(row['seed'])}"])


def metrics_of(row: Row) -> dict[str, Any]:
    """The finite metrics of a row, without its coordinates."""
    metrics = {name: value for name, value in row.items() if "/" in name and not name.startswith("hyper/")}
    return {name: value for name, value in metrics.items() if value == value}


def series(path: str | Path, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """One metric of a ``log.csv`` as (env_steps [K], values [K, H, S]); reports without it are left out."""
    every = read_csv(path)
    rows = [row for row in every if not np.isnan(row.get(metric, np.nan))]
    if not rows:
        raise ValueError(f"{path} holds no {metric!r}")
    steps = sorted({row["env_steps"] for row in rows})
    shape = [len(steps), *(int(max(row[axis] for row in every)) + 1 for axis in ("setting", "seed"))]
    if shape[1] * shape[2] > len(every):  # each report has all lanes
        raise ValueError(f"{path} is damaged: {len(every)} rows cannot be of {shape[1]} settings x {shape[2]} seeds")
    values = np.full(shape, np.nan)
    for row in rows:
        values[steps.index(row["env_steps"]), int(row["setting"]), int(row["seed"])] = row[metric]
    return np.array(steps, np.int64), values
