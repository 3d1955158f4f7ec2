"""Training with the batteries in: progress, evaluation, sinks, checkpoints, resume.

A host loop over one compiled chunk of updates. Nothing in it is traced, and nothing traced calls back.
"""

import signal
import threading
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import jax
import numpy as np

from rlzoo.drivers import checkpoint
from rlzoo.drivers import train as training
from rlzoo.drivers.devices import anywhere, on_host
from rlzoo.drivers.evaluate import EVALUATION_SEED, evaluate
from rlzoo.drivers.manifest import other_numbers, refuse_other_task
from rlzoo.drivers.sweep import swept
from rlzoo.report import progress
from rlzoo.report.sinks import Row, open_sink
from rlzoo.types import Algorithm

STOPS = (signal.SIGINT, signal.SIGTERM)


class Failure(NamedTuple):
    """A lane whose metrics went non-finite; the others went on."""

    setting: int
    seed: int
    update: int  # the first with a non-finite metric, counted from 1
    metric: str
    hyper: dict[str, float]  # the lane's numbers

    def __str__(self) -> str:
        numbers = ", ".join(f"{name}={value:.6g}" for name, value in self.hyper.items())
        lane = f"lane (setting {self.setting}, seed {self.seed})"
        return f"{lane} is non-finite since update {self.update} ({self.metric}); {numbers}"


class Run(NamedTuple):
    """What a run leaves; arrays are of this call, [K] over its reports and [U] over its updates."""

    state: Any
    metrics: dict[str, np.ndarray]  # f32[U], of a sweep f32[U, H, S]
    env_steps: np.ndarray  # int64[K], per agent, where it was evaluated
    returns: np.ndarray  # f32[K, num_episodes], of a sweep f32[K, H, S, num_episodes]; K = 0 without evaluation
    failures: list[Failure]
    interrupted: bool


def run(
    algo: Algorithm,
    key: jax.Array,
    num_updates: int,
    *,
    directory: str | Path | None = None,
    resume: bool = False,
    report_every: int | None = None,
    eval_episodes: int = 32,
    deterministic: bool = True,
    sinks: tuple[str, ...] = ("csv", "tensorboard"),
    keep: int = 3,
    quiet: bool = False,
    how_to_resume: str | None = None,
    start: Any = None,
) -> Run:
    """Train up to update ``num_updates``, reporting on the way.

    At the start and after every ``report_every`` updates all lanes are evaluated, the numbers go to the sinks, and
    a checkpoint is written in the background. Ctrl-C, or SIGTERM, finishes the chunk, saves and says how to go on.

    Args:
        algo: an algorithm or a sweep. key: a typed key, or keys [S] for a sweep; when resuming only its shape counts.
        directory: for sinks and checkpoints; None keeps everything in memory.
        resume: continue from the newest checkpoint in ``directory``, bit for bit.
        report_every: updates; default a twentieth of the run.
        eval_episodes: per lane and evaluation; 0 does not evaluate. deterministic: act by the policy's mode in them.
        sinks: of csv, tensorboard, wandb. keep: so many newest checkpoints.
        how_to_resume: what to tell the user after Ctrl-C.
        start: a State to begin from instead of a fresh one, such as of an earlier phase, whose updates count; consumed.
    Raises:
        ValueError: the directory holds a run already and ``resume`` is False, or holds none and it is True.
    """
    directory = None if directory is None else Path(directory)
    state = _start(algo, key, directory, resume, quiet, start)
    done = int(state.step)
    if report_every is None:
        report_every = max(1, num_updates // 20)
    if report_every < 1:
        raise ValueError(f"report_every={report_every}; it must be 1 or more")
    if done > num_updates:
        raise ValueError(f"the checkpoint is at update {done}, beyond num_updates={num_updates}; ask for more updates")

    lanes = int(np.prod(state.key.shape, dtype=int))
    eval_key = jax.random.key(EVALUATION_SEED)
    collected: list[dict[str, np.ndarray]] = []
    points: list[tuple[int, np.ndarray]] = []
    failures: dict[tuple[int, int], Failure] = {}

    with ExitStack() as stack:
        stop = stack.enter_context(_Interrupt())
        saves = (
            stack.enter_context(checkpoint.Checkpoints(directory / "checkpoints", algo, keep, list(key.shape)))
            if directory
            else None
        )
        reports, outputs = jax.process_index() == 0, []  # one of several processes
        if directory and reports:
            outputs = [open_sink(name, directory, done if resume else -1) for name in sinks]
        for output in outputs:
            stack.callback(output.close)

        def steps_so_far() -> int:
            return training.steps_after(algo, done)

        whole = training.steps_after(algo, num_updates)
        bar = progress.Bar(f"{algo.name} {algo.env.name}", lanes * whole, lanes * steps_so_far(), quiet or not reports)
        stack.callback(bar.close)

        def report(metrics: dict[str, np.ndarray]) -> None:
            summary = _summary(metrics)
            if eval_episodes:
                episodes = evaluate(algo, algo.env, state, eval_key, eval_episodes, deterministic=deterministic)
                episodes = on_host(episodes)
                returns = episodes.returns
                points.append((steps_so_far(), returns))
                summary["eval/return"] = returns.mean(-1)
                summary["eval/length"] = episodes.lengths.mean(-1)
            rows = _rows(algo, done, state.key.shape, summary)
            for output in outputs:
                output.write(rows)
            bar.update(lanes * steps_so_far(), _headline(algo, summary))

        if done == 0 or not resume:  # where training begins belongs to every curve; its metrics are not there yet
            names = jax.eval_shape(algo.step, state, algo.hyper, algo.task)[1]
            report({name: np.full((1, *state.key.shape), np.nan, np.float32) for name in names})
        while done < num_updates and not anywhere(stop.asked):
            state, metrics = training.resume(algo, state, min(report_every, num_updates - done))
            chunk = on_host(metrics)
            for failure in _failures(algo, chunk, done):
                if (failure.setting, failure.seed) not in failures:
                    failures[failure.setting, failure.seed] = failure
                    bar.note(f"warning: {failure}")
            collected.append(chunk)
            done = int(state.step)
            report(chunk)
            if saves:  # after the report: a kill between the two leaves lines that are dropped and written again
                saves.save(state)
        if saves and done < num_updates and not collected:  # interrupted before the first chunk
            saves.save(state)

    interrupted = done < num_updates
    if interrupted:
        remedy = how_to_resume or f"run(..., directory={str(directory)!r}, resume=True)"
        bar.note(
            f"stopped after update {done} of {num_updates}; "
            + (f"saved. Go on with: {remedy}" if directory else "nothing saved")
        )
    merged = {name: np.concatenate([chunk[name] for chunk in collected]) for name in collected[0]} if collected else {}
    steps = np.array([at for at, _ in points], np.int64)
    returns = np.stack([returns for _, returns in points]) if points else np.empty((0,), np.float32)
    return Run(state, merged, steps, returns, list(failures.values()), interrupted)


def _start(algo: Algorithm, key: jax.Array, directory: Path | None, resume: bool, quiet: bool, start: Any) -> Any:
    if directory is None:
        if resume:
            raise ValueError("resume=True needs the directory of the run to resume")
        return training.init(algo, key, quiet) if start is None else start
    saved = checkpoint.any_in(directory / "checkpoints")
    if resume:
        if not saved:
            raise ValueError(f"there is no checkpoint in {directory} to resume from; run without resuming to start")
        return _resumed(algo, key, directory / "checkpoints")
    if saved:
        raise ValueError(f"{directory} holds a run already; resume it, or choose another directory")
    directory.mkdir(parents=True, exist_ok=True)
    return training.init(algo, key, quiet) if start is None else start


def _resumed(algo: Algorithm, key: jax.Array, path: Path) -> Any:
    """The newest State, if the run is asked for again with the numbers and seeds it began with."""
    state, about = checkpoint.load_with_manifest(path, algo)
    for name, (saved, given) in other_numbers(algo, about).items():
        raise ValueError(
            f"hyper.{name} is {given}, but the run in {path.parent} has {saved}; resume with the same"
        )
    refuse_other_task(algo, about, path.parent)
    asked = about.get("seeds", list(state.key.shape[-1:]))  # without those that filled devices
    if list(key.shape) != asked:
        seeds = [shape[0] if shape else 1 for shape in (key.shape, asked)]
        raise ValueError(
            f"{seeds[0]} seeds are asked for, but the run in {path.parent} has {seeds[1]}; resume with the same"
        )
    return state


def _summary(metrics: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A chunk's metrics [U, lanes] as one number a lane: means, and of episodes the sums divided."""
    with np.errstate(invalid="ignore", divide="ignore"):
        count = metrics["episode/count"].sum(0) if "episode/count" in metrics else None
        out = {name: x.mean(0) for name, x in metrics.items() if not name.startswith("episode/")}
        if count is not None:  # no episode ended in this chunk: NaN, which is an empty cell
            out["episode/return"] = metrics["episode/return_sum"].sum(0) / count
            out["episode/length"] = metrics["episode/length_sum"].sum(0) / count
            out["episode/count"] = count
    return out


def _rows(algo: Algorithm, done: int, lanes: tuple[int, ...], summary: dict[str, np.ndarray]) -> list[Row]:
    settings = {f"hyper/{name}": np.asarray(values) for name, values in swept(algo).items()}
    rows = []
    for setting, seed in np.ndindex(*(lanes or (1, 1))):
        where = (setting, seed) if lanes else ()
        row = {"update": done, "env_steps": training.steps_after(algo, done), "setting": setting, "seed": seed}
        row |= {name: float(values[setting]) for name, values in settings.items()}
        rows.append(row | {name: float(values[where]) for name, values in summary.items()})
    return rows


def _failures(algo: Algorithm, metrics: dict[str, np.ndarray], done: int) -> list[Failure]:
    """The lanes of a chunk with a non-finite metric, each with the first update and its first such metric."""
    names = list(metrics)
    broken = np.stack([~np.isfinite(metrics[name]) for name in names], axis=1)  # [U, metrics, lanes]
    if broken.ndim == 2:
        broken = broken[:, :, None, None]
    found = []
    for setting, seed in np.argwhere(broken.any((0, 1))):
        update = int(np.argmax(broken[:, :, setting, seed].any(1)))
        metric = names[int(np.argmax(broken[update, :, setting, seed]))]
        numbers = {name: float(np.ravel(x)[setting] if np.ndim(x) else x) for name, x in algo.hyper._asdict().items()}
        found.append(Failure(int(setting), int(seed), done + update + 1, metric, numbers))
    return found


def _headline(algo: Algorithm, summary: dict[str, np.ndarray]) -> str:
    """Mean return, and of a sweep the best setting."""
    returns = summary.get("eval/return", summary.get("episode/return"))
    if returns is None or not np.isfinite(returns).any():
        return ""
    text = f"return {np.nanmean(returns):.1f}"
    if returns.ndim == 2 and returns.shape[0] > 1:
        finite = np.isfinite(returns)
        with np.errstate(invalid="ignore"):  # no lane of a setting is left: NaN
            by_setting = np.where(finite, returns, 0.0).sum(axis=1) / finite.sum(axis=1)
        best = int(np.nanargmax(by_setting))
        numbers = ", ".join(f"{name}={float(values[best]):.3g}" for name, values in swept(algo).items())
        text += f", best {by_setting[best]:.1f} at {numbers or f'setting {best}'}"
    return text


class _Interrupt:
    """Ctrl-C, or a scheduler's SIGTERM, asks the loop to stop after the chunk; a second one stops at once."""

    def __init__(self) -> None:
        self.asked = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __enter__(self) -> "_Interrupt":
        self._main = threading.current_thread() is threading.main_thread()  # signals reach no other thread
        if self._main:
            self._before = {number: signal.signal(number, self._handle) for number in STOPS}
        return self

    def __exit__(self, *error: object) -> None:
        if self._main:
            for number, handler in self._before.items():
                signal.signal(number, handler)
