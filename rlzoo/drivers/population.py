"""A sweep whose settings compete: successive halving, and population-based training.

    best = rlzoo.halving(runs, keys, num_updates)                     # the worse half stops, again and again
    best = rlzoo.pbt(runs, keys, num_updates, every=10, ranges={"learning_rate": rlzoo.Range(1e-5, 1e-2, "log")})

Successive halving: Jamieson and Talwalkar 2016, arXiv:1502.07943, Fig. 1. Population-based training: Jaderberg et al.
2017, arXiv:1711.09846, Alg. 1, with truncation selection and perturbation (Sec. 4.1.1).

Between two selections lies a rung, an ordinary `run` in a directory of its own; what was decided after it is on file.
So a competition that was stopped anywhere goes on bit for bit. Choosing and copying are compiled programs.
"""

import functools
import itertools
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo import names
from rlzoo.drivers import checkpoint
from rlzoo.drivers.devices import on_host
from rlzoo.drivers.evaluate import EVALUATION_SEED, evaluate
from rlzoo.drivers.manifest import refuse_other_task
from rlzoo.drivers.ranges import Range, check_ranges
from rlzoo.drivers.run import Run, alone_in, run
from rlzoo.drivers.sweep import map_lanes, sweep, swept, swept_axes
from rlzoo.files import read_json, refuse_other, write_json
from rlzoo.types import Algorithm

LOG = "competition.json"
GONE = -1  # as a parent: the setting was dropped
FRESH = 2**31  # numbers from here on fold keys of copies: no split of a key reaches them

Numbers = dict[str, np.ndarray]  # swept hyperparameters by name, f32[L]
Choose = Callable[[int, np.ndarray, Numbers], tuple[np.ndarray, Numbers]]  # rung, scores, numbers -> parents, numbers


class Lineage(NamedTuple):
    """K rungs of a competition between H settings, and what was decided after each."""

    updates: np.ndarray  # int[K], done at the end of the rung
    scores: np.ndarray  # f32[K, H], mean return over seeds; NaN: not finite, or not there any more
    hyper: Numbers  # f32[K, H], with which each setting was trained in the rung
    parents: np.ndarray  # int[K - 1, H], from where each goes on after it: mostly itself; -1: it was dropped

    def of(self, setting: int) -> list[int]:
        """Where the agents that ended as ``setting`` were, rung by rung, until the last or until it was dropped."""
        dropped = np.flatnonzero(self.parents[:, setting] == GONE)
        line = [setting]
        for parents in self.parents[: dropped[0] if dropped.size else None][::-1]:
            line.append(int(parents[line[-1]]))
        return line[::-1]


class Competition(NamedTuple):
    """What a competition leaves."""

    runs: Algorithm  # a sweep of the settings that are left, with the numbers they ended with
    state: Any
    settings: np.ndarray  # int[L], which of the H these are
    lineage: Lineage
    interrupted: bool  # by Ctrl-C; the same call with resume=True goes on


def halving(
    runs: Algorithm, keys: jax.Array, num_updates: int, *, eta: int = 2, least: int = 1, **options: Any
) -> Competition:
    """Successive halving: train all H settings for a while, the best 1 / eta of them eta times as long, and so on.

    With K = floor(log_eta(H / least)) selections the rungs end at num_updates / eta^K, …, num_updates / eta,
    num_updates. All but the first take equally many updates. What is dropped takes no time or memory any more.

    Args:
        runs: a sweep over `Hyper`. keys: [S]; a setting's score is its mean return over seeds, on the same episodes for
            all, and one with a seed whose return or parameters are not finite is worse than any other.
        eta: of so many settings one stays. least: so many stay at the end, or more.
        options: of `run`, for every rung: ``directory``, ``resume``, ``report_every``, ``eval_episodes``, ``quiet``, …
    Raises:
        ValueError: no sweep of several settings, a swept task, fewer updates than eta^K; every setting has failed.
    """
    ends, num_settings = halving_rungs(runs, num_updates, eta, least, **options), runs.num_hypers or 0

    def choose(rung, scores, numbers):
        kept = np.asarray(_best(scores, num_settings // eta ** (rung + 1)))
        return kept, {name: x[kept] for name, x in numbers.items()}

    about = {"kind": "halving", "eta": int(eta), "least": int(least)}
    return _compete(runs, keys, ends, choose, about, **options)


def pbt(
    runs: Algorithm,
    keys: jax.Array,
    num_updates: int,
    every: int,
    ranges: Mapping[str, Range],
    *,
    share: float = 0.25,
    factor: float = 1.2,
    resample: float = 0.0,
    seed: int = 0,
    **options: Any,
) -> Competition:
    """Population-based training: every so often the worst settings become copies of the best, with numbers moved.

    A copy takes over everything, parameters, optimiser, environments and replay, but draws random numbers of its own.

    Args:
        runs: a sweep over `Hyper`, such as of `sample`. keys: [S], scored as in `halving`; S = 1 is the paper's.
        every: updates between selections.
        ranges: name -> `Range` of the swept fields that move, within it and on its scale; other swept fields are
            copied as they are.
        share: of the settings that are replaced, each by one drawn from as many of the best; settings that are not
            finite are replaced always.
        factor: a copy's number is multiplied with it, or divided by it, at random.
        resample: probability with which the number is drawn anew from its range instead.
        seed: of these draws.
        options: of `run`, as for `halving`.
    Raises:
        ValueError: as for `halving`; a field that is not swept, or an impossible range.
    """
    ends = pbt_rungs(
        runs, num_updates, every, ranges, share=share, factor=factor, resample=resample, seed=seed, **options
    )
    moved = tuple(sorted((name, Range(float(x.low), float(x.high), x.scale)) for name, x in ranges.items()))

    def choose(rung, scores, numbers):
        key = jax.random.fold_in(jax.random.key(seed), rung)
        return jax.tree.map(np.asarray, _evolved(key, scores, numbers, moved, share, factor, resample))

    about = {"kind": "pbt", "share": float(share), "factor": float(factor), "resample": float(resample)}
    about |= {"seed": int(seed), "ranges": {name: list(given) for name, given in moved}}
    return _compete(runs, keys, ends, choose, about, **options)


def halving_rungs(runs: Algorithm, num_updates: int, eta: int = 2, least: int = 1, **options: Any) -> list[int]:
    """The updates at the end of each rung, or the `ValueError` that `halving` would raise."""
    if eta < 2 or least < 1:
        raise ValueError(f"eta={eta}, least={least}; eta must be 2 or more, and least 1 or more")
    num_settings, selections = _checked(runs, options), 0
    while num_settings // eta ** (selections + 1) >= least:
        selections += 1
    if num_updates < eta**selections:
        raise ValueError(
            f"num_updates={num_updates}: {num_settings} settings with eta={eta} need {eta**selections} or more"
        )
    return [int(num_updates) // eta ** (selections - k) for k in range(selections + 1)]


def pbt_rungs(
    runs: Algorithm,
    num_updates: int,
    every: int,
    ranges: Mapping[str, Range],
    share: float = 0.25,
    factor: float = 1.2,
    resample: float = 0.0,
    seed: int = 0,
    **options: Any,
) -> list[int]:
    """The updates at the end of each rung, or the `ValueError` that `pbt` would raise."""
    if not (0 < share <= 0.5 and factor >= 1 and 0 <= resample <= 1 and every >= 1):
        raise ValueError(
            f"share={share}, factor={factor}, resample={resample}, every={every}; share must be above 0 and at most "
            "0.5, factor 1 or more, resample from 0 to 1, every 1 or more"
        )
    _checked(runs, options)
    names.check_seed("seed", seed)
    names.check("swept hyperparameter", ranges, swept(runs))
    for name, given in ranges.items():
        if not isinstance(given, Range):
            raise ValueError(f"ranges[{name!r}] is {given!r}; it must be an rlzoo.Range")
    check_ranges(type(runs.hyper), ranges)
    return [*range(int(every), int(num_updates), int(every)), int(num_updates)]


def begun(directory: str | Path) -> bool:
    """Whether a directory holds a competition."""
    return any((Path(directory) / name).exists() for name in (LOG, "rung_0"))


def final_returns(runs: Algorithm, result: Run, num_episodes: int, deterministic: bool = True) -> np.ndarray:
    """f32[H, S]: each agent's mean return over the last evaluation; NaN if it, or a parameter, is not finite."""
    if len(result.returns):
        returns = result.returns[-1]
    else:  # it was over already, and reported nothing
        key = jax.random.key(EVALUATION_SEED)
        returns = evaluate(runs, runs.env, result.state, key, num_episodes, deterministic=deterministic).returns
        returns = on_host(returns)
    means = returns.mean(-1)
    return np.where(on_host(_sound(result.state.params)) & np.isfinite(means), means, np.nan).astype(np.float32)


@jax.jit
def _sound(params: Any) -> jax.Array:
    finite = [jnp.isfinite(x).all(axis=tuple(range(2, x.ndim))) for x in jax.tree.leaves(params)]  # [H, S] each
    return jnp.all(jnp.stack(finite), axis=0)


def _checked(runs: Algorithm, options: Mapping[str, Any]) -> int:
    """H of a sweep that can compete."""
    if (runs.num_hypers or 1) < 2:
        raise ValueError(f"{runs.name}: a competition is of a sweep of two settings or more; see rlzoo.sweep")
    if jax.tree.leaves(swept_axes(runs.base.task, runs.task, "task")):
        raise ValueError("the task is swept, and returns in different tasks do not compare; compete in each alone")
    if jax.process_count() > 1:
        raise ValueError("a competition moves lanes between the devices of one process, and this program has several")
    if options.get("eval_episodes") == 0:
        raise ValueError("eval_episodes=0, but settings are chosen by their returns; give 1 or more")
    return runs.num_hypers or 0


def _compete(*arguments: Any, **options: Any) -> Competition:
    directory = options.get("directory")
    with alone_in(None if directory is None else Path(directory)):
        return _competed(*arguments, **options)


def _competed(
    runs: Algorithm,
    keys: jax.Array,
    ends: Sequence[int],
    choose: Choose,
    about: dict[str, Any],
    directory: str | Path | None = None,
    resume: bool = False,
    report_every: int | None = None,
    eval_episodes: int = 32,
    deterministic: bool = True,
    **options: Any,
) -> Competition:
    """Rung after rung; those that are on file are not trained again, and what was decided then is done."""
    num_settings = runs.num_hypers or 0
    numbers: Numbers = {name: np.asarray(x, np.float32) for name, x in swept(runs).items()}
    about |= {"ends": list(ends), "seeds": len(keys), "eval_episodes": eval_episodes, "deterministic": deterministic}
    about |= {"hyper": {name: x.tolist() for name, x in numbers.items()}}
    files = _Files(directory, about, resume)
    options.setdefault("how_to_resume", f"rlzoo.{about['kind']}(..., directory={str(directory)!r}, resume=True)")
    there = parents = copies = np.arange(num_settings)
    state, interrupted, lineage, all_parents = None, False, [], []

    for rung, end in enumerate(ends):
        before, runs = runs, _with(runs, numbers)
        last = rung + 1 == len(ends)
        if rung == len(files.rungs):
            saved, start = files.has_state(rung), None
            if rung and not saved:
                state = files.load(rung - 1, before, ends[rung - 1]) if state is None else state
                start = _copied(state, parents, copies, rung)
                state = result = None  # the memory of what does not go on
            result = run(
                runs,
                keys,
                end,
                directory=files.rung(rung),
                resume=saved,
                start=start,
                report_every=report_every or ends[0],
                eval_episodes=eval_episodes,
                deterministic=deterministic,
                **options,
            )
            state, interrupted = result.state, result.interrupted
            if interrupted:
                break
            scores = final_returns(runs, result, eval_episodes, deterministic)[:, : len(keys)].mean(-1)
            if not last and not np.isfinite(scores).any():
                raise ValueError(f"after update {end} every setting has a seed that is not finite; none can go on")
            files.add(Rung(scores, *(choose(rung, scores, numbers) if not last else (np.arange(0), {}))))
        on_file = files.rungs[rung]
        if len(on_file.scores) != len(there):
            raise ValueError(f"{files.log} has {len(on_file.scores)} scores in rung {rung}, where {len(there)} belong")
        used = {name: _in_place(x, there, num_settings) for name, x in numbers.items()}
        lineage.append((end, _in_place(on_file.scores, there, num_settings), used))
        if not last:
            parents, numbers = on_file.parents, on_file.numbers
            origin, goes_on = there[parents], np.full(num_settings, GONE)
            there = origin if len(parents) < len(there) else there
            copies, goes_on[there] = there != origin, origin
            all_parents.append(goes_on)

    state = files.load(len(ends) - 1, runs, ends[-1]) if state is None else state
    updates, all_scores, hyper = zip(*lineage, strict=True) if lineage else ((), (), ())
    history = Lineage(
        np.array(updates, int),
        np.array(all_scores, np.float32).reshape(-1, num_settings),
        {name: np.array([used[name] for used in hyper]).reshape(-1, num_settings) for name in swept(runs)},
        np.array(all_parents, int).reshape(-1, num_settings),
    )
    return Competition(runs, state, there, history, interrupted)


class Rung(NamedTuple):
    """What a rung that is over decided."""

    scores: np.ndarray  # f32[L]
    parents: np.ndarray  # int[L'], whose agents go on; none after the last rung
    numbers: Numbers  # f32[L'], with which


class _Files:
    """Of a competition: a directory for each rung, and what those that are over decided; None keeps nothing."""

    def __init__(self, directory: str | Path | None, about: dict[str, Any], resume: bool) -> None:
        self.directory, self.about, self.rungs = directory, about, list[Rung]()
        if directory is None:
            if resume:
                raise ValueError("resume=True needs the directory of the competition to resume")
            return
        self.log = Path(directory) / LOG
        if begun(directory) and not resume:
            raise ValueError(f"{directory} holds a competition already; resume it, or choose another directory")
        if self.log.exists():
            self.rungs = self._over()

    def _over(self) -> list[Rung]:
        """What is on file, if it is of the competition that is asked for."""
        found = read_json(self.log)
        if isinstance(found.get("about"), dict):
            refuse_other(self.about, found["about"], f"the competition in {self.directory}")
        try:
            rungs = [
                Rung(
                    np.array(rung["scores"], np.float32).reshape(-1),
                    np.array(rung["parents"], int).reshape(-1),
                    {name: np.array(x, np.float32).reshape(-1) for name, x in rung["numbers"].items()},
                )
                for rung in found["rungs"]
            ]
            if not isinstance(found.get("about"), dict):
                raise KeyError("about")
            for before, rung in itertools.pairwise(rungs):
                lengths = {len(rung.scores), len(before.parents), *map(len, before.numbers.values())}
                if len(lengths) > 1 or not set(before.parents) <= set(range(len(before.scores))):
                    raise KeyError("rungs that do not follow from each other")
        except (KeyError, TypeError, AttributeError, OverflowError, ValueError) as error:
            what = f"{type(error).__name__}: {error}"
            raise ValueError(f"{self.log} is damaged ({what}); begin anew elsewhere") from error
        return rungs

    def rung(self, number: int) -> Path | None:
        return None if self.directory is None else Path(self.directory) / f"rung_{number}"

    def has_state(self, number: int) -> bool:
        return self.directory is not None and checkpoint.any_in(self._checkpoints(number))

    def load(self, number: int, runs: Algorithm, end: int) -> Any:
        """The State at the end of a rung, not one before it."""
        state, about = checkpoint.load_with_manifest(self._checkpoints(number), runs, step=end)
        refuse_other_task(runs, about, self.directory)
        return state

    def add(self, rung: Rung) -> None:
        """One more rung is over; the State at the end of the one before it is not needed any more."""
        self.rungs.append(rung)
        if self.directory is not None:
            rungs = [jax.tree.map(lambda x: x.tolist(), rung)._asdict() for rung in self.rungs]
            write_json(self.log, {"about": self.about, "rungs": rungs})
            shutil.rmtree(self._checkpoints(len(self.rungs) - 2), ignore_errors=True)

    def _checkpoints(self, number: int) -> Path:
        return Path(self.directory or "") / f"rung_{number}" / "checkpoints"


def _with(runs: Algorithm, numbers: Numbers) -> Algorithm:
    """The sweep of so many settings with these numbers."""
    hyper = runs.hyper._replace(**{name: jnp.asarray(x) for name, x in numbers.items()})
    return sweep(runs.base, hyper, runs.task, runs.in_lanes)._replace(devices=runs.devices)


@functools.partial(jax.jit, static_argnames="num_kept")
def _best(scores: jax.Array, num_kept: int) -> jax.Array:
    """Indices of the best, in their order; what is not finite comes last."""
    return jnp.sort(jnp.argsort(jnp.where(jnp.isfinite(scores), -scores, jnp.inf))[:num_kept])


@functools.partial(jax.jit, static_argnames=("ranges", "share", "factor", "resample"))
def _evolved(key, scores, numbers, ranges, share, factor, resample):
    """Parents [H] of all settings, themselves but for the worst, and the numbers with those of the worst moved."""
    num_settings = len(scores)
    replaced = max(1, int(share * num_settings))
    sound = jnp.isfinite(scores)
    order = jnp.argsort(jnp.where(sound, -scores, jnp.inf))  # the best first
    worst = (jnp.argsort(order) >= num_settings - replaced) | ~sound

    pick_key, *keys = jax.random.split(key, 1 + len(ranges))
    drawn = jax.random.randint(pick_key, (num_settings,), 0, jnp.clip(sound.sum(), 1, replaced))
    parents = jnp.where(worst, order[drawn], jnp.arange(num_settings))
    numbers = {name: x[parents] for name, x in numbers.items()}
    for (name, allowed), key in zip(ranges, keys, strict=True):
        up_key, again_key, share_key = jax.random.split(key, 3)
        up, again = (jax.random.uniform(k, (num_settings,)) for k in (up_key, again_key))
        moved = allowed.multiplied(numbers[name], jnp.where(up < 0.5, factor, 1.0 / factor))
        fresh = allowed.at(jax.random.uniform(share_key, (num_settings,)))
        numbers[name] = jnp.where(worst, jnp.where(again < resample, fresh, moved), numbers[name])
    return parents, numbers


@jax.jit
def _copied(state: Any, parents: jax.Array, copies: jax.Array, rung: jax.Array) -> Any:
    """The lanes of the parents; those that are copies go on with random numbers of their own."""
    state = map_lanes(lambda x: x[parents], state)
    places = jnp.uint32(FRESH) + jnp.arange(len(parents), dtype=jnp.uint32)

    def own(key, place, copy):
        other = jax.random.fold_in(jax.random.fold_in(key, jnp.uint32(FRESH) + rung), place)
        return jnp.where(copy, other, key)

    return state._replace(key=jax.vmap(jax.vmap(own, (0, None, None)))(state.key, places, copies))


def _in_place(x: np.ndarray, there: np.ndarray, num_settings: int) -> np.ndarray:
    """f32[H] of f32[L]; NaN where nobody is."""
    whole = np.full(num_settings, np.nan, np.float32)
    whole[there] = x
    return whole
