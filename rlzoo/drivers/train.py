"""Train and resume: a scan over an algorithm's `step`, compiled whole."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from rlzoo.algorithms.hyper import checked
from rlzoo.blocks.vmapping import vmap
from rlzoo.drivers import devices, memory
from rlzoo.drivers.sweep import Axes, check_task, lanes_functions, lanes_of, swept_axes
from rlzoo.types import Algorithm

MOST_UPDATES = 2**31 - 1  # the clock is an int32
LARGE = 256 * 1024  # bytes of a lane's parameters, from which on a CPU trains the lanes of a sweep one by one


def updates_for(algo: Algorithm, env_steps: int) -> int:
    """The number of updates after which exactly ``env_steps`` environment steps per agent are taken, warm-up included.

    Of A3C, whose rollouts end with their episodes, they are the most that it may take.

    Raises:
        ValueError: the steps do not divide; it names the two nearest budgets. Or the clock cannot count the updates.
    """
    updates, rest = divmod(int(env_steps) - algo.warmup_steps, algo.steps_per_update)
    if rest or updates < 1:
        near = sorted({steps_after(algo, max(n, 1)) for n in (updates, updates + 1)})
        warmup = f"{algo.warmup_steps} of warm-up and " if algo.warmup_steps else ""
        raise ValueError(
            f"env_steps={env_steps} is not {warmup}a whole number of updates of {algo.steps_per_update} steps; "
            f"use {' or '.join(f'{n:,}' for n in near)}"
        )
    if updates > MOST_UPDATES:
        raise ValueError(
            f"env_steps={env_steps} takes {updates:,} updates; use {steps_after(algo, MOST_UPDATES):,} or less"
        )
    return updates


def steps_after(algo: Algorithm, num_updates: int) -> int:
    """Environment steps per agent after so many updates, warm-up included."""
    return algo.warmup_steps + num_updates * algo.steps_per_update


def init(algo: Algorithm, key: jax.Array, quiet: bool = False) -> Any:
    """A fresh State. ``key`` is a typed key, or for a sweep keys [S].

    What replay buffers will take is said on stderr first, unless ``quiet``.

    Raises:
        ValueError: the device's memory cannot hold the State; with the capacity that fits.
    """
    check_key(algo, key)
    checked(algo.hyper, made=True)
    check_task(algo)
    arguments = devices.filled(algo, key, quiet), float32(algo.hyper), algo.task
    shapes = jax.eval_shape(_init(algo.init), *arguments)
    memory.check(algo, shapes, quiet)
    spread = devices.layout(algo, shapes.key.shape)
    if spread is None:
        return _init(algo.init)(*arguments)
    key, *numbers = arguments
    along = None if algo.num_hypers is None else 0
    arguments = devices.placed(key, along, P("seeds"), spread.mesh), *spread.numbers(*numbers)
    if algo.num_hypers is None:
        return _init(algo.init, spread)(*arguments)
    return _init(_lanes_of_device(algo, spread)[0], spread, lanes_of(shapes))(*arguments)


def train(algo: Algorithm, key: jax.Array, num_updates: int) -> tuple[Any, dict[str, jax.Array]]:
    """Train from scratch.

    Args:
        key: a typed key; for a sweep keys [S], one a seed (``jax.random.split(key, S)``).
        num_updates: calls of `step`; `updates_for` turns environment steps into it.
    Returns:
        the last State, and the metrics [num_updates], in a sweep [num_updates, H, S].
    """
    return resume(algo, init(algo, key), num_updates)


def resume(algo: Algorithm, state: Any, num_updates: int) -> tuple[Any, dict[str, jax.Array]]:
    """Continue from a State, as if training had never stopped. The State given is consumed (donated).

    Raises:
        ValueError: the State is of another algorithm, structure or environment, or has other lanes; named.
    """
    if not isinstance(num_updates, int | np.integer) or not 0 <= num_updates <= MOST_UPDATES:
        raise ValueError(f"num_updates={num_updates!r}; it must be 0 or more, whole, and {MOST_UPDATES} or less")
    _check_hyper(algo)
    check_task(algo)
    check_state(algo, state)
    numbers, spread = (float32(algo.hyper), algo.task), devices.layout(algo, state.key.shape)
    if spread is not None:
        numbers, state = spread.numbers(*numbers), spread.gathered(state)
    program, num_devices = _program(algo, state), len(algo.devices or (None,))
    what = f"{algo.name}: a call of {num_updates:,} updates"
    memory.refuse_large(program, state, *numbers, num_updates, what=what, num_devices=num_devices)
    return program(state, *numbers, num_updates)


@functools.lru_cache(maxsize=64)
def _init(init: Callable[..., Any], spread: devices.Spread | None = None, lanes: Any = None) -> Callable[..., Any]:
    def start(key, hyper, task):
        return strong(init(key, hyper, task))

    if spread is None:
        return jax.jit(start)
    if lanes is None:
        return jax.jit(lambda *arguments: spread.kept(start(*arguments)))
    return jax.jit(spread.of_lanes(start, P("seeds"), devices.specs(lanes, devices.LANES)))


@functools.lru_cache(maxsize=64)
def _compiled(loop: Callable[..., Any], spread: devices.Spread | None, lanes: Any) -> Any:
    """The one compiled program of training: cached by its loop, so equal calls never compile twice."""

    @functools.partial(jax.jit, static_argnames="num_updates", donate_argnames="state")
    def scan(state, hyper, task, num_updates):
        def run(state, hyper, task):
            return loop(state, hyper, task, num_updates)

        if spread is not None and lanes is None:
            run = spread.of_environments(run)
        elif spread is not None:
            there = devices.specs(lanes, devices.LANES)
            run = spread.of_lanes(run, there, (there, P(None, *devices.LANES)))
        return run(state, hyper, task)

    return scan


def _program(algo: Algorithm, state: Any) -> Any:
    """The program that trains: all lanes of a sweep at once, or groups of them one after another; on every device."""
    spread = devices.layout(algo, state.key.shape)
    if algo.num_hypers is None:
        return _compiled(_scan(algo.step), spread, None)
    at_a_time, lanes = lanes_at_a_time(algo, state), _on_a_device(state, spread)
    step = algo.step if spread is None else _lanes_of_device(algo, spread)[1]
    if at_a_time == lanes > 1:
        return _compiled(_scan(step), spread, lanes_of(state))
    hyper_axes = Axes(swept_axes(algo.base.hyper, algo.hyper, "hyper"))
    task_axes = Axes(swept_axes(algo.base.task, algo.task, "task"))
    return _compiled(_scan_in_groups(algo.base.step, hyper_axes, task_axes, at_a_time), spread, lanes_of(state))


def lanes_at_a_time(algo: Algorithm, state: Any) -> int:
    """Of a sweep's lanes on a device, how many are trained together."""
    lanes = math.prod(state.key.shape)
    return min(
        algo.in_lanes or default_in_lanes(state, lanes), _on_a_device(state, devices.layout(algo, state.key.shape))
    )


def _on_a_device(state: Any, spread: devices.Spread | None) -> int:
    return math.prod(state.key.shape) // (1 if spread is None else spread.mesh.size)


def _lanes_of_device(algo: Algorithm, spread: devices.Spread) -> tuple[Callable, Callable]:
    """`init` and `step` of the part of a spread sweep that one device has."""
    return lanes_functions(algo.base, spread.hyper, spread.task, algo.num_hypers // spread.mesh.shape["settings"])


@functools.lru_cache(maxsize=64)
def _scan(step: Callable[..., Any]) -> Callable[..., Any]:
    def scan(state, hyper, task, num_updates):
        return jax.lax.scan(lambda state, _: step(state, hyper, task), state, None, num_updates)

    return scan


def default_in_lanes(state: Any, lanes: int) -> int:
    """On a CPU one, if many lanes' parameters would drive each other out of its caches at every step; else all."""
    params = getattr(state, "params", None)  # what a State of one's own calls otherwise is taken for small
    large = memory.size_in_bytes(params) > LARGE * lanes
    return 1 if large and jax.default_backend() == "cpu" else lanes


@functools.lru_cache(maxsize=64)
def _scan_in_groups(step: Callable[..., Any], hyper_axes: Axes, task_axes: Axes, group: int) -> Any:
    """As `_scan` of a sweep, but ``group`` lanes at a time. The State is changed in place, so it is there once."""

    def scan(state, hyper, task, num_updates):
        shape, clock = state.key.shape, state.step
        num_lanes, num_seeds = math.prod(shape), shape[1]

        def one_lane(state, setting):
            numbers = hyper_axes.at(setting, hyper), task_axes.at(setting, task)
            return jax.lax.scan(lambda state, _: step(state, *numbers), state, None, num_updates)

        def train(at, size, whole):
            """Lanes ``at`` to ``at + size`` of the whole: States [lanes, ...] and metrics [lanes, num_updates]."""
            states = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, at, size), whole[0])
            axes = lanes_of(state)
            over_lanes = vmap(one_lane, (axes, 0), (axes, 0))
            states, metrics = over_lanes(states._replace(step=clock), (at + jnp.arange(size)) // num_seeds)
            part = states._replace(step=None), metrics
            return jax.tree.map(lambda x, new: jax.lax.dynamic_update_slice_in_dim(x, new, at, 0), whole, part)

        states = jax.tree.map(lambda x: x.reshape(num_lanes, *x.shape[2:]), state._replace(step=None))
        first = jax.tree.map(lambda x: x[0], states)._replace(step=clock)
        shapes = jax.eval_shape(one_lane, first, 0)[1]
        whole = states, jax.tree.map(lambda x: jnp.zeros((num_lanes, *x.shape), x.dtype), shapes)
        groups, rest = divmod(num_lanes, group)
        whole = jax.lax.fori_loop(0, groups, lambda i, whole: train(i * group, group, whole), whole)
        if rest:
            whole = train(groups * group, rest, whole)
        states, metrics = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), whole)
        return states._replace(step=clock + num_updates), jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), metrics)

    return scan


def compiled_chunk(algo: Algorithm, state: Any, num_updates: int, options: dict[str, Any] | None = None) -> Any:
    """The executable that `resume` runs, compiled, with XLA's ``options``, but not run: for its memory and its time."""
    lowered = _program(algo, state).lower(state, float32(algo.hyper), algo.task, num_updates)
    return lowered.compile(compiler_options=options)


def float32(hyper: Any) -> Any:
    """Every number as a float32 array, so that 3e-4 and jnp.array(3e-4) are the same program."""
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), hyper)


def strong(state: Any) -> Any:
    """Without weak types and without aliases: the scan's carry is fixed, and every leaf can be donated."""

    def one(x):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return x
        return jax.lax.convert_element_type(jnp.array(x, copy=True), x.dtype)

    return jax.tree.map(one, state)


def check_state(algo: Algorithm, state: Any, lanes: bool = True) -> None:
    """Raise a `ValueError` that says in what a State is none of this algorithm's: what was given, what is expected.

    Args:
        lanes: whether they must be the algorithm's too; acting needs any lanes, training those of its numbers.
    """
    base = algo if algo.base is None else algo.base
    key: Any = getattr(state, "key", None)
    if not hasattr(state, "_replace") or not hasattr(key, "dtype") or not hasattr(state, "step"):
        pair = "; of the pair (state, metrics) give the first" if isinstance(state, tuple) and len(state) == 2 else ""
        raise ValueError(f"the state is a {type(state).__name__}; it must be a State of {algo.name}{pair}")
    if lanes and (key.ndim != 2 or key.shape[0] != algo.num_hypers if algo.num_hypers else key.ndim):
        found = f"lanes {list(key.shape)}" if key.ndim else "one agent"
        wanted = f"the sweep [{algo.num_hypers}, S]" if algo.num_hypers else "the algorithm is of one agent"
        raise ValueError(f"the state has {found}, {wanted}; see rlzoo.lane, rlzoo.setting and rlzoo.branch")

    if base.init is None:  # a policy of one's own, which is only to act
        return
    one_key = jax.ShapeDtypeStruct((), key.dtype)
    expected = jax.eval_shape(_init(base.init), one_key, float32(base.hyper), base.task)
    if type(state) is not type(expected):
        given, wanted = (f"{x.__module__}.{x.__qualname__}" for x in (type(state), type(expected)))
        raise ValueError(f"the state is a {given}; {algo.name} has a {wanted}")
    shared = [axis is None for axis in lanes_of(expected)]
    for name, part, wanted, same in zip(state._fields, state, expected, shared, strict=True):
        here, there = (jax.tree_util.tree_leaves_with_path(x) for x in (part, wanted))
        structures: list[Any] = [jax.tree.structure(part), jax.tree.structure(wanted)]
        if structures[0] != structures[1]:
            names = [{jax.tree_util.keystr(path) for path, _ in leaves} for leaves in (here, there)]
            other = sorted(names[0] ^ names[1])
            which = f"has {'a' if other[0] in names[0] else 'no'} leaf {other[0]}" if other else "has other containers"
            raise ValueError(f"state.{name} {which}; it is of another Config or environment than this {algo.name}")
        for (path, x), (_, y) in zip(here, there, strict=True):
            shape = y.shape if same else (*key.shape, *y.shape)
            if (jnp.shape(x), jnp.result_type(x)) != (shape, y.dtype):
                raise ValueError(
                    f"state.{name}{jax.tree_util.keystr(path)} is {jnp.result_type(x)}{list(jnp.shape(x))}, expected "
                    f"is {y.dtype}{list(shape)}; it is of another Config or environment than this {algo.name}"
                )


def check_key(algo: Algorithm, key: jax.Array) -> None:
    """Refuse what is no key for one agent, or no keys [S] for a sweep."""
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise ValueError(f"key is {type(key).__name__}; it must be a typed key: jax.random.key(0)")
    if algo.num_hypers is None and key.ndim != 0:
        raise ValueError(f"key has shape {list(key.shape)}; one agent takes one key; for many, rlzoo.sweep(algo) first")
    if algo.num_hypers is not None and key.ndim != 1:
        raise ValueError(
            f"key has shape {list(key.shape)}; a sweep takes one key per seed: jax.random.split(jax.random.key(0), S)"
        )


def _check_hyper(algo: Algorithm) -> None:
    checked(algo.hyper, made=True)
    if algo.num_hypers is not None:
        return
    for name, value in algo.hyper._asdict().items():
        if jnp.ndim(value) != 0:
            raise ValueError(
                f"hyper.{name} has shape {list(jnp.shape(value))}; one agent takes one number; for many, rlzoo.sweep"
            )
