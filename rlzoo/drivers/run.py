"""Training with the batteries in: progress, evaluation, sinks, checkpoints, resume.

A host loop over one compiled chunk of updates. Nothing in it is traced, and nothing traced calls back, but for
environments that live on the host.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo import lock, stops
from rlzoo.drivers import checkpoint
from rlzoo.drivers import train as training
from rlzoo.drivers.devices import anywhere, on_host
from rlzoo.drivers.evaluate import EVALUATION_SEED, Episodes, evaluate, normalised, refuse
from rlzoo.drivers.manifest import manifest, other_numbers, refuse_other_task
from rlzoo.drivers.outside import HostError, resumed_outside
from rlzoo.drivers.sweep import swept
from rlzoo.report import progress
from rlzoo.report.sinks import Row, Sink, check_sink, open_sink
from rlzoo.stops import Finishing
from rlzoo.types import Algorithm

SINKS = ("csv", "tensorboard")  # of a run with a directory
CONFIGURATION = ("algorithm", "config", "hyper", "env", "horizon", "seeds", "num_updates", "versions")  # for sinks
Callback = Callable[[Any, dict[str, np.ndarray], Episodes | None], bool | None]


class Failure(NamedTuple):
    """A lane whose metrics or parameters went non-finite; the others went on."""

    setting: int
    seed: int
    update: int  # the first with a non-finite metric, counted from 1; of parameters, the end of the chunk
    metric: str  # or where in the State's ``params``: "params['actor']['kernel']"
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
    interrupted: bool  # by a signal; not if a callback asked to stop


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
    sinks: Sequence[str | Sink] | None = None,
    keep: int = 3,
    quiet: bool = False,
    how_to_resume: str | None = None,
    start: Any = None,
    callback: Callback | None = None,
) -> Run:
    """Train up to update ``num_updates``, reporting on the way.

    At the start and after every ``report_every`` updates all lanes are evaluated, the numbers go to the sinks, and
    a checkpoint is written in the background. Ctrl-C, or SIGTERM, finishes the chunk, saves and says how to go on.
    The directory is locked for as long: two runs cannot write into one.

        def callback(state, metrics, episodes):  # after every chunk
            print(metrics["loss/policy"].mean(), episodes.returns.mean())
            return episodes.returns.mean() > 475  # True stops

    Args:
        algo: an algorithm or a sweep. key: a typed key, or keys [S] for a sweep; when resuming only its shape counts.
        directory: for sinks and checkpoints; None keeps everything in memory.
        resume: continue from the newest checkpoint in ``directory``, bit for bit; if nothing is saved there yet, begin.
        report_every: updates; default a twentieth of the run.
        eval_episodes: per lane and evaluation; 0 does not evaluate. deterministic: act by the policy's mode in them.
        sinks: of csv, tensorboard, wandb, which write into ``directory``, and objects of your own, see
            `rlzoo.report.sinks.Sink`; default csv and tensorboard where there is a directory. keep: so many newest
            checkpoints.
        how_to_resume: what to tell the user after Ctrl-C.
        start: a State to begin from instead of a fresh one, such as of an earlier phase, whose updates count; consumed.
        callback: called after each chunk, when its numbers are in the sinks and its State is being saved, with the
            State (copy what you keep: the next chunk consumes it), the chunk's metrics as of `Run`, and its evaluation
            as NumPy arrays, None without one. True stops the run, as if it were over; an exception ends it. In both
            cases ``resume=True`` goes on behind that chunk. Of several processes each calls it.
    Raises:
        ValueError: the directory holds a run already and ``resume`` is False; it is in use; the State that is there,
            or ``start``, is another algorithm's; ``sinks`` that need a directory, without one.
        HostError: an environment on the host raised; the run is saved at the last whole update.
    """
    directory = None if directory is None else Path(directory)
    training.check_key(algo, key)
    refuse(eval_episodes, 1 if algo.num_hypers is None else algo.num_hypers * len(key))
    if report_every is None:
        report_every = max(1, num_updates // 20)
    if report_every < 1:
        raise ValueError(f"report_every={report_every}; it must be 1 or more")
    if sinks is None:
        sinks = SINKS if directory else ()
    sinks = [sinks] if isinstance(sinks, str) else sinks
    for sink in sinks:
        check_sink(sink)
    written = [name for name in sinks if isinstance(name, str)]
    if callback is not None and not callable(callback):
        raise ValueError(
            f"callback is a {type(callback).__name__}; it must be a function of (state, metrics, episodes)"
        )
    if written and directory is None:
        raise ValueError(f"sinks={tuple(written)} write into a directory; give directory=, or sinks of your own")

    eval_key = jax.random.key(EVALUATION_SEED)
    collected: list[dict[str, np.ndarray]] = []
    points: list[tuple[int, np.ndarray]] = []
    failures: dict[tuple[int, int], Failure] = {}

    with ExitStack() as stack:
        stack.enter_context(alone_in(directory))
        stop = stack.enter_context(Finishing())
        state, resumed = _start(algo, key, directory, resume, quiet, start)
        done = int(state.step)
        if done > num_updates:
            raise ValueError(
                f"the checkpoint is at update {done}, beyond num_updates={num_updates}; ask for more updates"
            )
        lanes = int(np.prod(state.key.shape, dtype=int))
        saves = (
            stack.enter_context(checkpoint.Checkpoints(directory / "checkpoints", algo, keep, list(key.shape)))
            if directory
            else None
        )
        reports, outputs = jax.process_index() == 0, []  # one of several processes
        for sink in sinks if reports else ():
            outputs.append(open_sink(sink, directory, done if resumed and done else -1))
            stack.callback(outputs[-1].close)
        told = [output for output in outputs if hasattr(output, "begin")]
        about = manifest(algo, state) | {"seeds": list(key.shape), "num_updates": num_updates} if told else {}
        for output in told:
            output.begin({name: about[name] for name in CONFIGURATION})

        def steps_so_far() -> int:
            return training.steps_after(algo, done)

        whole = training.steps_after(algo, num_updates)
        bar = progress.Bar(f"{algo.name} {algo.env.name}", lanes * whole, lanes * steps_so_far(), quiet or not reports)
        stack.callback(bar.close)

        def report(metrics: dict[str, np.ndarray]) -> Episodes | None:
            summary, episodes = _summary(metrics), None
            if eval_episodes:
                episodes = evaluate(algo, algo.env, state, eval_key, eval_episodes, deterministic=deterministic)
                episodes = on_host(episodes)
                returns = episodes.returns
                points.append((steps_so_far(), returns))
                summary["eval/return"] = returns.mean(-1)
                summary["eval/length"] = episodes.lengths.mean(-1)
                if algo.references is not None:
                    summary["eval/score"] = normalised(algo.references, summary["eval/return"])
            rows = _rows(algo, done, state.key.shape, summary)
            for output in outputs:
                output.write(rows)
            bar.update(lanes * steps_so_far(), _headline(algo, summary))
            return episodes

        if done == 0 or not resumed:  # where training begins belongs to every curve; its metrics are not there yet
            names = jax.eval_shape(algo.step, state, algo.hyper, algo.task)[1]
            report({name: np.full((1, *state.key.shape), np.nan, np.float32) for name in names})
        enough, chunk_of = False, training.resume if algo.env.host is None else resumed_outside
        while done < num_updates and not enough and not anywhere(stop.asked):
            try:
                state, metrics = chunk_of(algo, state, min(report_every, num_updates - done))
            except HostError as error:
                if saves:
                    saves.save(error.state)
                raise
            stop.begun = True  # it is compiled, and under way
            chunk = on_host(metrics)
            for failure in [*_failures(algo, chunk, done), *_broken(algo, state)]:
                if (failure.setting, failure.seed) not in failures:
                    failures[failure.setting, failure.seed] = failure
                    bar.note(f"warning: {failure}")
            collected.append(chunk)
            done = int(state.step)
            episodes = report(chunk)
            if saves:  # after the report: a kill between the two leaves lines that are dropped and written again
                saves.save(state)
            enough = callback is not None and anywhere(_asks_to_stop(callback(state, chunk, episodes)))
        if saves and done < num_updates and not collected:  # interrupted before the first chunk
            saves.save(state)

    interrupted = done < num_updates and not enough
    stops.ended(f"{algo.name} on {algo.env.name}, {done:,} of {num_updates:,} updates", whole=not interrupted)
    if done < num_updates:
        remedy = how_to_resume or f"run(..., directory={str(directory)!r}, resume=True)"
        bar.note(
            f"stopped{' by the callback' if enough else ''} after update {done} of {num_updates}; "
            + (f"saved. Go on with: {remedy}" if directory else "nothing saved")
        )
    merged = {name: np.concatenate([chunk[name] for chunk in collected]) for name in collected[0]} if collected else {}
    steps = np.array([at for at, _ in points], np.int64)
    returns = np.stack([returns for _, returns in points]) if points else np.empty((0,), np.float32)
    return Run(state, merged, steps, returns, list(failures.values()), interrupted)


@contextmanager
def alone_in(directory: Path | None) -> Iterator[None]:
    """Hold a run's directory: for all processes of one program together, which process 0 does."""
    refused: Exception | None = None
    with ExitStack() as stack:
        if directory is not None and jax.process_index() == 0:
            try:
                stack.enter_context(lock.held(directory))
            except (OSError, ValueError) as error:
                refused = error
        if directory is not None and anywhere(refused is not None):
            raise refused or ValueError(f"process 0 cannot have {directory} for itself, and says why")
        yield


def _start(
    algo: Algorithm, key: jax.Array, directory: Path | None, resume: bool, quiet: bool, start: Any
) -> tuple[Any, bool]:
    """The State to begin with, and whether it is a saved one."""
    if directory is None:
        if resume:
            raise ValueError("resume=True needs the directory of the run to resume")
    elif checkpoint.any_in(directory / "checkpoints"):
        if not resume:
            raise ValueError(f"{directory} holds a run already; resume it, or choose another directory")
        return _resumed(algo, key, directory / "checkpoints"), True
    elif resume and not quiet and jax.process_index() == 0:
        print(f"nothing is saved in {directory} yet: this is the beginning", flush=True)
    if start is not None:
        training.check_state(algo, start)
    return training.init(algo, key, quiet) if start is None else start, False


def _resumed(algo: Algorithm, key: jax.Array, path: Path) -> Any:
    """The newest State, if the run is asked for again with the numbers and seeds it began with."""
    state, about = checkpoint.load_with_manifest(path, algo)
    for name, (saved, given) in other_numbers(algo, about).items():
        raise ValueError(f"hyper.{name} is {given}, but the run in {path.parent} has {saved}; resume with the same")
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
        found.append(_failure(algo, setting, seed, done + update + 1, metric))
    return found


def _broken(algo: Algorithm, state: Any) -> list[Failure]:
    """The lanes whose parameters are not finite, each with the first such array."""
    leaves = jax.tree_util.tree_leaves_with_path(getattr(state, "params", ()))
    real = [(path, x) for path, x in leaves if jnp.issubdtype(x.dtype, jnp.inexact)]
    if not real:
        return []
    bad = ~on_host(_finite([x for _, x in real], state.key.ndim))  # [arrays, lanes]
    names = [f"params{jax.tree_util.keystr(path)}" for path, _ in real]
    return [
        _failure(algo, setting, seed, int(state.step), names[int(np.argmax(bad[:, setting, seed]))])
        for bad in [bad.reshape(len(names), *(state.key.shape or (1, 1)))]
        for setting, seed in np.argwhere(bad.any(0))
    ]


@functools.partial(jax.jit, static_argnums=1)
def _finite(arrays: list[jax.Array], num_axes: int) -> jax.Array:
    return jnp.stack([jnp.isfinite(x).all(axis=tuple(range(num_axes, x.ndim))) for x in arrays])


def _failure(algo: Algorithm, setting: int, seed: int, update: int, what: str) -> Failure:
    numbers = {name: float(np.ravel(x)[setting] if np.ndim(x) else x) for name, x in algo.hyper._asdict().items()}
    return Failure(int(setting), int(seed), update, what, numbers)


def _asks_to_stop(answer: Any) -> bool:
    """Of a callback."""
    if answer is None or (np.ndim(answer) == 0 and np.asarray(answer).dtype == np.bool_):
        return bool(answer)
    raise ValueError(f"the callback returned a {type(answer).__name__}; it must return True to stop, or False, or None")


def _headline(algo: Algorithm, summary: dict[str, np.ndarray]) -> str:
    """Mean return, and of a sweep the best setting."""
    returns = summary.get("eval/return", summary.get("episode/return"))
    if returns is None or not np.isfinite(returns).any():
        return ""
    text = f"return {np.nanmean(returns):.1f}"
    if "eval/score" in summary:
        text += f", score {np.nanmean(summary['eval/score']):.1f}"
    if "eval/return" not in summary:  # of the first chunk's episodes only the short ones have ended
        text += f" of {int(summary['episode/count'].sum()):,} episodes that ended"
    if returns.ndim == 2 and returns.shape[0] > 1:
        finite = np.isfinite(returns)
        with np.errstate(invalid="ignore"):  # no lane of a setting is left: NaN
            by_setting = np.where(finite, returns, 0.0).sum(axis=1) / finite.sum(axis=1)
        best = int(np.nanargmax(by_setting))
        numbers = ", ".join(f"{name}={float(values[best]):.3g}" for name, values in swept(algo).items())
        text += f", best {by_setting[best]:.1f} at {numbers or f'setting {best}'}"
    return text
