"""A sweep of an algorithm is an algorithm: its State has lanes [H, S], H settings times S seeds."""

import dataclasses
import functools
import itertools
import math
import operator
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo import machine, names
from rlzoo.algorithms import ALGORITHMS
from rlzoo.algorithms.hyper import checked
from rlzoo.envs import recipes
from rlzoo.types import Algorithm

NUMBER = 128  # bytes of memory that a number of a grid takes while it is made


def grid(hyper: Any, **values: Sequence[float]) -> Any:
    """Every combination of the given values, as one `Hyper` whose named leaves are arrays [H].

    ``grid(algo.hyper, learning_rate=[1e-4, 1e-3], gamma=[0.9, 0.99])`` has H = 4; the last name varies fastest.
    """
    structure = getattr(sys.modules[type(hyper).__module__], "Config", None)
    elsewhere = {"structure: rlzoo.sweep_grid": getattr(structure, "__dataclass_fields__", ())}
    names.check("hyperparameter", values, hyper._fields, elsewhere)
    for name, given in values.items():
        if isinstance(given, str) or np.ndim(given) != 1 or not len(given):
            raise ValueError(f"{name}={given!r}; give a sequence of numbers, such as [{getattr(hyper, name)}]")
    machine.refuse_more("settings of the grid", math.prod(map(len, values.values())), NUMBER * len(values))
    combinations = zip(*itertools.product(*values.values()), strict=True)
    columns = {name: np.asarray(column) for name, column in zip(values, combinations, strict=True)}
    checked(hyper._replace(**columns))
    return hyper._replace(**{name: jnp.asarray(column, jnp.float32) for name, column in columns.items()})


def sweep(algo: Algorithm, hyper: Any = None, task: Any = None, in_lanes: int | None = None) -> Algorithm:
    """An algorithm over H settings times S seeds, all in one compiled program.

    A leaf of ``hyper`` or ``task`` with one more axis than its default is swept along that axis; all swept leaves
    have the same length H and vary together (`grid` makes combinations); every other leaf is shared. `train` then
    takes keys [S]: every setting sees the same seeds.

    Args:
        hyper: default ``algo.hyper``.
        task: environment parameters; of an offline algorithm its data as `make` prepared them: to sweep over datasets
            of one size, stack the ``task`` of an algorithm for each. Default ``algo.task``.
        in_lanes: train so many lanes at a time, and one such group after another, which takes less memory for what a
            step computes. Default: all at once, but on a CPU, whose caches many large networks overflow, one by one
            if a lane's parameters take more than 256 KiB. The lanes' results agree to float tolerance.
    Raises:
        ValueError: swept leaves of unequal length, a leaf of the wrong rank, a number out of its range; named.
    """
    if algo.num_hypers is not None:
        raise ValueError("this algorithm is a sweep already; sweep its `base` instead")
    if algo.env.host is not None and not algo.offline:
        raise ValueError(
            f"{algo.env.name} steps on the host, one agent at a time; train it with rlzoo.run, or rlzoo.train"
        )
    if in_lanes is not None and in_lanes < 1:
        raise ValueError(f"in_lanes={in_lanes}; it must be 1 or more")
    check_task(algo)
    hyper = checked(algo.hyper if hyper is None else hyper)
    task = algo.task if task is None else task
    hyper_axes, task_axes = swept_axes(algo.hyper, hyper, "hyper"), swept_axes(algo.task, task, "task")
    for name, own, given in zip(hyper._fields, algo.hyper, hyper, strict=True):
        if isinstance(given, jax.core.Tracer) or not np.isnan(given).any():
            continue
        if not np.isnan(own):  # left to `make`, but made from a new Hyper
            raise ValueError(f"hyper.{name} is nan, where the algorithm has {float(own):g}; start from `algo.hyper`")

    lengths = swept_lengths(hyper, hyper_axes, "hyper") | swept_lengths(task, task_axes, "task")
    if len(set(lengths.values())) > 1:
        given = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise ValueError(f"swept leaves must have one length, got {given}; for all combinations use rlzoo.grid")
    num_hypers = next(iter(lengths.values()), 1)
    if num_hypers == 0:
        raise ValueError(f"nothing to sweep over: {', '.join(lengths)} is empty")

    init, step = lanes_functions(algo, Axes(hyper_axes), Axes(task_axes), num_hypers)
    return algo._replace(
        hyper=hyper, task=task, init=init, step=step, num_hypers=num_hypers, in_lanes=in_lanes, base=algo
    )


def sweep_grid(
    make: Callable[[Any], Algorithm], configs: Mapping[str, Sequence[Any]], config: Any, hyper: Any = None
) -> Iterator[tuple[Any, Algorithm]]:
    """One sweep for each combination of `Config` fields, which cannot share a program: one compile each.

    Args:
        make: config -> Algorithm, such as ``lambda config: ppo.make(env, config)``.
        configs: field -> values. config: gives the other fields.
        hyper: as for `sweep`, inside each.
    Returns:
        (config, sweep) in the order of the product, the last field fastest; all are made before the first is given.
    Raises:
        ValueError: a structure that cannot be, before anything is trained.
    """
    hyper_fields = getattr(getattr(sys.modules[type(config).__module__], "Hyper", None), "_fields", ())
    elsewhere = {"a number: rlzoo.grid": hyper_fields}
    names.check("Config field", configs, [field.name for field in dataclasses.fields(config)], elsewhere)
    structures = [
        dataclasses.replace(config, **dict(zip(configs, values, strict=True)))
        for values in itertools.product(*configs.values())
    ]
    made = [(structure, sweep(make(structure), hyper)) for structure in structures]  # what cannot be is found here
    return iter(made)


def lane(state: Any, setting: int, seed: int) -> Any:
    """The State of one agent out of a sweep's; it goes on under ``setting(runs, index)``."""
    if state.key.ndim != 2:
        raise ValueError("the state is of one agent already; lanes are of a sweep's state")
    num_settings, num_seeds = state.key.shape
    if not (0 <= setting < num_settings and 0 <= seed < num_seeds):
        raise ValueError(f"lane ({setting}, {seed}) is outside the sweep's lanes [{num_settings}, {num_seeds}]")
    return _lane(state, setting, seed)


def branch(state: Any, num_hypers: int) -> Any:
    """The State of a sweep whose settings all go on from one setting's agents, seed by seed.

    ``state`` has lanes [1, S], such as of a first phase that no swept number takes part in; the result [H, S].

    Raises:
        ValueError: the state is no sweep's, or of several settings already.
    """
    if state.key.ndim != 2 or len(state.key) != 1:
        raise ValueError(f"the state has lanes {list(state.key.shape)}; it must be of a sweep of one setting, [1, S]")
    return _branched(state, operator.index(num_hypers))


@jax.jit
def _lane(state: Any, setting: Any, seed: Any) -> Any:
    return map_lanes(lambda x: x[setting, seed], state)


@functools.partial(jax.jit, static_argnames="num_hypers")
def _branched(state: Any, num_hypers: int) -> Any:
    return map_lanes(lambda x: jnp.repeat(x, num_hypers, axis=0), state)


def setting(runs: Algorithm, index: int) -> Algorithm:
    """The algorithm of one agent under one setting of a sweep: its base with that setting's numbers and task."""
    if runs.num_hypers is None:
        raise ValueError("this algorithm is no sweep")
    if not 0 <= index < runs.num_hypers:
        raise ValueError(f"setting {index} is outside the sweep's {runs.num_hypers}")

    def one(default, given):
        return given[index] if jnp.ndim(given) > jnp.ndim(default) else given

    hyper, task = (jax.tree.map(one, *pair) for pair in ((runs.base.hyper, runs.hyper), (runs.base.task, runs.task)))
    return runs.base._replace(hyper=hyper, task=task)


def swept(algo: Algorithm) -> dict[str, Any]:
    """The swept hyperparameters of a sweep by name, arrays [H]; empty if only seeds or the task vary."""
    return {name: jnp.asarray(x) for name, x in algo.hyper._asdict().items() if jnp.ndim(x) == 1}


def swept_axes(default: Any, given: Any, name: str) -> Any:
    """0 where ``given`` has one more axis than ``default``, None where it has as many."""
    structures: list[Any] = [jax.tree.structure(default), jax.tree.structure(given)]
    if structures[0] != structures[1]:
        raise ValueError(
            f"{name} has another structure than the algorithm's own; change leaves with _replace or replace"
        )

    def one(path, default, given):
        extra = jnp.ndim(given) - jnp.ndim(default)
        if extra not in (0, 1):
            where = name + jax.tree_util.keystr(path)
            raise ValueError(
                f"{where} has shape {list(jnp.shape(given))}; allowed are {list(jnp.shape(default))}, "
                "or one more axis in front to sweep it"
            )
        return 0 if extra else None

    return jax.tree_util.tree_map_with_path(one, default, given)


def check_task(algo: Algorithm) -> None:
    """Refuse an agent's task whose leaves are not of the shapes of its environment's parameters."""
    if algo.num_hypers is not None or algo.offline:
        return
    structures: list[Any] = [jax.tree.structure(x) for x in (algo.env.params, algo.task)]
    if algo.name not in ALGORITHMS and structures[0] != structures[1]:
        return  # one's own learns on what it likes
    swept_axes(algo.env.params, algo.task, "task")
    plain = recipes.default_params(algo.env)  # which `env.params` may have been replaced by
    plain = plain if jax.tree.structure(plain) == structures[0] else algo.env.params
    for (path, own), given in zip(jax.tree_util.tree_leaves_with_path(plain), jax.tree.leaves(algo.task), strict=True):
        if jnp.shape(own) != jnp.shape(given):
            raise ValueError(
                f"task{jax.tree_util.keystr(path)} has shape {list(jnp.shape(given))}, and {algo.env.name} has "
                f"{list(jnp.shape(own))}; one agent learns on one task; for one agent on each along a new axis, "
                "rlzoo.sweep(algo, task=...); for one on all of them, rlzoo.envs.randomised"
            )


def swept_lengths(tree: Any, axes: Any, name: str) -> dict[str, int]:
    """The length of each swept leaf by its name. A None of the tree itself is no leaf, and has no axis."""
    leaves = zip(
        jax.tree_util.tree_leaves_with_path(tree, is_leaf=_none), jax.tree.leaves(axes, is_leaf=_none), strict=True
    )
    return {name + jax.tree_util.keystr(path): x.shape[0] for (path, x), axis in leaves if axis is not None}


def _none(x: Any) -> bool:
    return x is None


def lanes_of(state: Any) -> Any:
    """The axes of a State under vmap over lanes: the clock is not mapped, nor is what a State calls ``shared()``."""
    own = getattr(state, "shared", None) if "shared" not in state._fields else None  # a field is no such method
    shared = ("step",) if own is None else own()
    return type(state)(*(None if name in shared else 0 for name in state._fields))


def map_lanes(change: Callable[[jax.Array], jax.Array], state: Any) -> Any:
    """``change`` of every leaf that has lanes. What lanes share is copied: to resume the result must not donate it."""
    return _on_lanes(change, lanes_of(state), state, jnp.copy)


def _on_lanes(change: Callable, lanes: Any, state: Any, of_shared: Callable = lambda x: x) -> Any:
    changed = (
        jax.tree.map(of_shared if axes is None else change, part) for axes, part in zip(lanes, state, strict=True)
    )
    return type(state)(*changed)


class Axes:
    """A pytree of axes (0 or None) as a hashable key: trees of the same structure and axes are equal."""

    def __init__(self, tree: Any) -> None:
        self.tree = tree
        leaves, treedef = jax.tree.flatten(tree, is_leaf=_none)
        self.leaves, self.key = leaves, (tuple(leaves), treedef)

    def at(self, index: Any, values: Any) -> Any:
        """``values`` with every mapped leaf replaced by its entry ``index``."""
        return jax.tree.map(lambda axis, x: x if axis is None else x[index], self.tree, values, is_leaf=_none)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Axes) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


def lanes_functions(base: Algorithm, hyper: Axes, task: Axes, num_hypers: int) -> tuple[Callable, Callable]:
    """`init` and `step` of a sweep over ``num_hypers`` settings of an algorithm."""
    return _lanes(base.init, base.step, hyper, task, num_hypers)


@functools.lru_cache(maxsize=64)
def _lanes(init: Callable, step: Callable, hyper: Axes, task: Axes, num_hypers: int) -> tuple[Callable, Callable]:
    """vmap over settings of vmap over seeds. Cached: a sweep over other values of the same leaves compiles nothing.

    The clock is not mapped, in or out: vmap itself proves that all lanes share it. Of one setting seeds alone are
    mapped: XLA shares a loop among cores by its outermost axis, and one of length 1 made reductions, such as
    LayerNorm's, take twice as long on two.
    """

    def swept_init(keys, hyper_values, task_value):
        lanes = lanes_of(jax.eval_shape(init, keys[0], hyper.at(0, hyper_values), task.at(0, task_value)))
        over_seeds = jax.vmap(init, (0, None, None), lanes)
        return jax.vmap(over_seeds, (None, hyper.tree, task.tree), lanes, axis_size=num_hypers)(
            keys, hyper_values, task_value
        )

    def swept_step(state, hyper_values, task_value):
        lanes = lanes_of(state)
        over_seeds = jax.vmap(step, (lanes, None, None), (lanes, 0))
        if num_hypers == 1:
            moved = _on_lanes(lambda x: x[0], lanes, state)
            state, metrics = over_seeds(moved, hyper.at(0, hyper_values), task.at(0, task_value))
            return _on_lanes(lambda x: x[None], lanes, state), jax.tree.map(lambda x: x[None], metrics)
        return jax.vmap(over_seeds, (lanes, hyper.tree, task.tree), (lanes, 0), axis_size=num_hypers)(
            state, hyper_values, task_value
        )

    return swept_init, swept_step
