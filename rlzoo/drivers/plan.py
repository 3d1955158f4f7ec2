"""What a sweep will take, said before it is compiled: memory, programs, and time after a short probe."""

import dataclasses
import math
import time
from typing import Any, NamedTuple

import jax

from rlzoo.drivers import devices, memory
from rlzoo.drivers.evaluate import needed
from rlzoo.drivers.sweep import sweep, swept_axes
from rlzoo.drivers.train import compiled_chunk, float32, init, lanes_at_a_time, resume
from rlzoo.machine import SHARE, device_memory, in_bytes
from rlzoo.types import Algorithm

FEW = (2, 4)  # lanes of the small programs from which large ones are extrapolated


@dataclasses.dataclass(frozen=True)
class Plan:
    """Of a sweep on every one of its devices; numbers are bytes but where they say otherwise. As text: a summary."""

    algorithm: str
    settings: int  # H
    seeds: int  # S, those that fill the devices included
    num_devices: int
    lanes: int  # on a device
    in_lanes: int  # of them trained at a time
    state: int  # of a lane
    replay: int  # of it the replay buffer
    shared: int  # of all lanes: environment parameters, or a dataset
    working: float  # of the lanes that are trained together, while a step computes
    working_fixed: float  # of it what any number of lanes takes
    metrics: float  # of all lanes, that come out of one call
    limit: int | None  # of the device; None: not known
    compile_seconds: float  # of a program of few lanes
    seconds: float | None  # of all updates, extrapolated; None: not probed
    evaluation: float = 0.0  # of the episodes that are evaluated at a time, which are as many as fit

    @property
    def total(self) -> float:
        """At the peak."""
        return self.lanes * self.state + self.shared + max(self.working + self.metrics, self.evaluation)

    @property
    def fits(self) -> bool:
        return self.limit is None or self.total <= SHARE * self.limit

    def __str__(self) -> str:
        replay = f", of which replay {in_bytes(self.replay)}" if self.replay else ""
        there = "" if self.limit is None else f" of {in_bytes(self.limit)}"
        on = f" on each of {self.num_devices} devices" if self.num_devices > 1 else ""
        lines = [
            f"{self.algorithm}: {self.settings} settings x {self.seeds} seeds, {self.lanes} lanes{on}, "
            f"{self.in_lanes} at a time; one program, compiled in about {self.compile_seconds:.0f} s",
            f"memory: {in_bytes(self.total)}{there}, {'fits' if self.fits else 'does NOT fit'}: "
            f"state {in_bytes(self.state)} a lane{replay}; shared {in_bytes(self.shared)}; "
            f"working {in_bytes(self.working)}; metrics {in_bytes(self.metrics)}; "
            f"evaluation {in_bytes(self.evaluation)}",
        ]
        if self.seconds is not None:
            lines.append(f"time: about {self.seconds:,.0f} s for all updates, from a probe of few lanes")
        return "\n".join(lines)


def plan(
    runs: Algorithm,
    num_seeds: int,
    num_updates: int,
    probe: bool = True,
    chunk: int | None = None,
    eval_episodes: int = 32,
) -> Plan:
    """What `train(runs, keys, num_updates)` with that many seeds will take.

    Sizes of what is kept are exact. What a step needs beside them, and the time, are measured on programs of a few
    lanes, which are compiled, and extrapolated: both grow linearly with the lanes that are trained at a time.

    Args:
        runs: a sweep, spread or not. probe: whether to run the small programs for the time.
        chunk: updates in one call, of `run` those between two reports; default all.
        eval_episodes: per lane and evaluation, of `run`.
    Raises:
        ValueError: not a sweep, or sizes that no program can have.
    """
    if runs.num_hypers is None:
        raise ValueError(f"{runs.name} is one agent; plan a sweep of it: rlzoo.plan(rlzoo.sweep(algo), ...)")
    chunk = num_updates if chunk is None else min(chunk, num_updates)
    keys = devices.filled(runs, jax.random.split(jax.random.key(0), num_seeds))
    whole = _shapes(runs, keys)
    spread = devices.layout(runs, whole.key.shape)
    num_devices = 1 if spread is None else spread.mesh.size
    lanes = math.prod(whole.key.shape) // num_devices
    at_a_time = lanes_at_a_time(runs, whole)
    together = at_a_time == lanes > 1

    few = _one_setting(runs)
    points = []  # lanes at a time, bytes, seconds to compile
    for n in FEW:  # all lanes of so many, or in the same number of lanes groups of one and of two
        at_once = n if together else n // 2
        small = few._replace(in_lanes=at_once)
        shapes = _shapes(small, jax.random.split(jax.random.key(0), n if together else FEW[1]))
        began = time.perf_counter()
        program = compiled_chunk(small, shapes, chunk)
        points.append((at_once, program.memory_analysis().temp_size_in_bytes, time.perf_counter() - began))
    (one, least, compile_seconds), (other, more, _) = points
    slope = (more - least) / (other - one)
    state = jax.eval_shape(runs.base.init, keys[0], float32(runs.base.hyper), runs.base.task)
    metrics = jax.eval_shape(runs.base.step, state, float32(runs.base.hyper), runs.base.task)[1]
    return Plan(
        algorithm=f"{runs.name} on {runs.env.name}",
        settings=whole.key.shape[0],
        seeds=whole.key.shape[1],
        num_devices=num_devices,
        lanes=lanes,
        in_lanes=at_a_time,
        state=memory.size_in_bytes(state),
        replay=memory.size_in_bytes(getattr(state, "replay", ())),
        shared=memory.size_in_bytes(runs.task),
        working=least + slope * (at_a_time - one),
        working_fixed=least - slope * one,
        metrics=memory.size_in_bytes(metrics) * chunk * lanes,
        limit=device_memory(),
        compile_seconds=compile_seconds,
        evaluation=needed(runs, whole, eval_episodes) / num_devices if eval_episodes else 0.0,
        seconds=_seconds(few, num_updates, lanes, memory.size_in_bytes(state)) if probe else None,
    )


class Fit(NamedTuple):
    """How a sweep goes through a device that cannot hold it: settings in groups, one after another, each as planned."""

    settings: int  # in a group, H at the most
    in_lanes: int | None  # for `sweep`; None: all lanes of a group at once
    plan: Plan  # of a group


def fitted(
    runs: Algorithm,
    num_seeds: int,
    num_updates: int,
    probe: bool = True,
    chunk: int | None = None,
    eval_episodes: int = 32,
) -> Fit:
    """The largest groups of settings, and lanes trained together, that fit into the device's memory.

    Of all ways that fit the one with the fewest passes, groups times ``in_lanes`` within one; of those, the fewest
    groups. An ``in_lanes`` that the sweep has is not exceeded.

    Args: as for `plan`.
    Raises:
        ValueError: not even one setting fits.
    """
    whole = plan(runs, num_seeds, num_updates, probe, chunk, eval_episodes)
    limit = whole.limit
    if whole.fits or limit is None:
        return Fit(whole.settings, runs.in_lanes, whole)
    at_once, parts = whole.in_lanes == whole.lanes > 1, whole
    if at_once:  # lanes one after another are another program: its sizes are measured too
        parts = plan(runs._replace(in_lanes=1), num_seeds, num_updates, probe, chunk, eval_episodes)

    def way(settings: int) -> Fit:
        lanes = devices.lanes_on_a_device(runs, settings, num_seeds)
        as_it_is = _smaller(whole, settings, lanes, lanes if at_once else whole.in_lanes)
        if as_it_is.fits:
            return Fit(settings, runs.in_lanes, as_it_is)
        one = _smaller(parts, settings, lanes, 1)
        each = one.working - one.working_fixed
        most = lanes if at_once else parts.in_lanes
        in_lanes = min(most, 1 + math.floor((SHARE * limit - one.total) / each)) if each > 0 else most
        return Fit(settings, max(1, in_lanes), _smaller(parts, settings, lanes, max(1, in_lanes)))

    def passes(way: Fit) -> tuple[int, int]:
        groups = math.ceil(whole.settings / way.settings)
        return groups * math.ceil(way.plan.lanes / way.plan.in_lanes), groups

    ways = [way(settings) for settings in range(1, whole.settings + 1)]
    if not ways[0].plan.fits:
        least = _smaller(parts, 1, devices.lanes_on_a_device(runs, 1, num_seeds), 1)
        raise ValueError(
            f"{runs.name}: not even one setting of {whole.seeds} seeds fits: it takes {in_bytes(least.total)}, state "
            f"{in_bytes(least.state)} a lane, and the device has {in_bytes(limit)}; use fewer seeds, a smaller "
            "capacity, or smaller networks"
        )
    return min((way for way in ways if way.plan.fits), key=passes)


def _smaller(plan: Plan, settings: int, lanes: int, in_lanes: int) -> Plan:
    """As planned, but of fewer settings, and with other lanes trained together."""
    in_lanes = min(in_lanes, lanes)
    each = max(0.0, plan.working - plan.working_fixed) / plan.in_lanes
    return dataclasses.replace(
        plan,
        settings=settings,
        lanes=lanes,
        in_lanes=in_lanes,
        working=plan.working_fixed + each * in_lanes,
        metrics=plan.metrics * lanes / plan.lanes,
        evaluation=plan.evaluation * lanes / plan.lanes,
        seconds=None if plan.seconds is None else plan.seconds * lanes / plan.lanes,
    )


def _shapes(runs: Algorithm, keys: jax.Array) -> Any:
    return jax.eval_shape(runs.init, keys, float32(runs.hyper), runs.task)


def _one_setting(runs: Algorithm) -> Algorithm:
    """The sweep's first setting, still a sweep of the same leaves, on one device."""
    parts = []
    for own, given, name in ((runs.base.hyper, runs.hyper, "hyper"), (runs.base.task, runs.task, "task")):
        axes = swept_axes(own, given, name)
        parts.append(
            jax.tree.map(lambda axis, x: x if axis is None else x[:1], axes, given, is_leaf=lambda x: x is None)
        )
    hyper, task = parts
    return sweep(runs.base, hyper, task, in_lanes=runs.in_lanes)


def _seconds(few: Algorithm, num_updates: int, lanes: int, state: int) -> float | None:
    """Of an update of few lanes, twice, times all: linear in lanes, which a GPU with room to spare undercuts.

    None if not one lane's State, of so many bytes, fits.
    """
    limit = device_memory()
    probed = min(lanes, FEW[1], lanes if limit is None else math.floor(SHARE * limit / state))
    if not probed:
        return None
    updates = min(num_updates, 4)
    there = init(few, jax.random.split(jax.random.key(0), probed), quiet=True)
    there, _ = jax.block_until_ready(resume(few, there, updates))
    began = time.perf_counter()
    jax.block_until_ready(resume(few, there, updates))
    return (time.perf_counter() - began) / updates / probed * lanes * num_updates
