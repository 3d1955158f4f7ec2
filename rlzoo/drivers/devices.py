"""A sweep over several devices, of one process or of many; and one large agent over them.

    runs = rlzoo.spread(rlzoo.sweep(algo, grid))      # every device trains its own lanes, and knows of no others
    algo = rlzoo.spread(algo)                         # one agent: its environments are spread, its parameters copied

Everything else stays as it is: `train`, `resume`, `evaluate`, `save`, `run`. Lanes [H, S] lie on a grid of devices with
the axes "settings" and "seeds", such that the device with the most lanes has as few as can be. Devices along H divide
it; where those along S do not, more seeds are trained, on devices that would wait. A checkpoint goes on with others.

Over several processes each calls `connect` first, and then the same program; process 0 reports.
"""

import functools
import math
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rlzoo.drivers.sweep import Axes, lanes_of, swept_axes
from rlzoo.types import Algorithm

LANES = P("settings", "seeds")
_last: list[Any] = []  # a task, where it was put, and what came of it


HEARTBEAT = 30  # seconds without a sign of life, after which a process is taken for dead and all others end


def connect(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    timeout: float = 120.0,
) -> None:
    """Make this process one of several that train together; to be called before anything else that uses JAX.

    Under SLURM, Open MPI, Kubernetes and on Cloud TPUs JAX finds the others itself, and all arguments are left out.

    Args:
        coordinator: where process 0 runs, as "host:port"; the port is any that is free there.
        num_processes: how many there are. process_id: which this is, from 0.
        timeout: seconds to wait for the others. If process 0 waits in vain, JAX ends it with a message.
    Raises:
        ValueError: arguments that do not go together; no cluster is found.
        RuntimeError: JAX was used before.
        TimeoutError: process 0 cannot be reached.
    """
    given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    missing = [name for name, value in given.items() if value is None]
    if 0 < len(missing) < len(given):
        raise ValueError(f"{' and '.join(missing)} missing; give all of {', '.join(given)}, or none under a scheduler")
    if coordinator is not None and num_processes is not None and process_id is not None:
        host, colon, port = coordinator.rpartition(":")
        if not (host and colon and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"coordinator is {coordinator!r}; it must be host:port, such as 10.0.0.1:1234")
        if not 0 <= process_id < num_processes:
            raise ValueError(
                f"process_id={process_id} of num_processes={num_processes}; it must be 0 or more, and less"
            )
        if process_id:
            _reach(host.strip("[]"), int(port), timeout)
        else:
            others = f"{num_processes - 1} other process{'es' if num_processes > 2 else ''}"
            print(f"waiting up to {timeout:.0f} s at {coordinator} for {others}", file=sys.stderr, flush=True)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")  # of CPUs; other devices have their own
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            initialization_timeout=math.ceil(timeout),
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=HEARTBEAT,
        )
    except ValueError as error:
        raise ValueError(
            f"JAX finds no cluster here ({error}); give coordinator=, num_processes= and process_id="
        ) from error


def _reach(host: str, port: int, timeout: float) -> None:
    """Wait until process 0 is there: JAX would end this process with a stack trace of its own."""
    end, wait = time.monotonic() + timeout, 0.1
    while True:
        try:
            socket.create_connection((host, port), timeout=max(0.1, end - time.monotonic())).close()
            return
        except OSError as error:
            if time.monotonic() + wait >= end:
                raise TimeoutError(
                    f"the coordinator at {host}:{port} cannot be reached within {timeout:.0f} s ({error}); is process "
                    "0 running there, and is the port open to this host?"
                ) from error
        time.sleep(wait)
        wait = min(2 * wait, 5.0)


def spread(algo: Algorithm, devices: Sequence[jax.Device] | None = None) -> Algorithm:
    """A sweep with its lanes on several devices, or one agent with its environments on them.

    The results of a sweep are those of one device, to float tolerance, but for more seeds behind those asked for where
    lanes do not fill the devices. One agent's gradients and statistics are of all its environments, as on one device;
    a replay buffer is on every device whole.

    Args:
        devices: default all, those of other processes included.
    Raises:
        ValueError: no devices; of one agent, environments that they do not divide, or an algorithm that has none.
    """
    devices = tuple(jax.devices() if devices is None else devices)
    if not devices:
        raise ValueError("devices is empty; give one or more, or leave it out for all")
    if algo.num_hypers is None:
        shapes = jax.eval_shape(algo.init, jax.random.key(0), algo.hyper, algo.task)
        num_envs = getattr(algo.config, "num_envs", None)
        if num_envs is None or "envs" not in shapes._fields:
            raise ValueError(f"{algo.name}: one agent is spread by its environments, and this one has none; sweep it")
        if num_envs % len(devices):
            raise ValueError(f"num_envs={num_envs} is no multiple of the {len(devices)} devices; use one that is")
    return algo._replace(devices=devices)


def filled(algo: Algorithm, keys: jax.Array, quiet: bool = False) -> jax.Array:
    """The keys of a sweep's seeds, and of as many more as fill its devices; said on stderr once."""
    if algo.devices is None or algo.num_hypers is None:
        return keys
    _, across = _grid(algo.num_hypers, len(keys), len(algo.devices), fill=True)
    missing = -len(keys) % across
    if not missing:
        return keys
    if not quiet and jax.process_index() == 0:
        _say(algo.num_hypers, len(keys), missing, len(algo.devices))
    # Numbers that no split of the last key reaches: split(key, n)[i] is fold_in(key, i).
    numbers = jnp.arange(missing, dtype=jnp.uint32) + jnp.uint32(2**31)
    return jnp.concatenate([keys, jax.vmap(jax.random.fold_in, (None, 0))(keys[-1], numbers)])


def mesh_of(algo: Algorithm, lanes: tuple[int, ...]) -> Mesh:
    """The devices of a spread algorithm, in the order in which lanes, or environments, lie on them.

    Raises:
        ValueError: so few lanes that a process has none; no process could go on without the others.
    """
    devices = np.array(algo.devices)
    if not lanes:
        return Mesh(devices, ("envs",))
    shape = _grid(*lanes, len(devices), fill=False)
    used = devices[: math.prod(shape)]
    idle = {x.process_index for x in devices} - {x.process_index for x in used}
    if idle:
        raise ValueError(
            f"{lanes[0]} settings x {lanes[1]} seeds leave process {min(idle)} without a lane; "
            "use fewer processes, or more lanes"
        )
    return Mesh(used.reshape(shape), ("settings", "seeds"))


def lanes_on_a_device(algo: Algorithm, num_hypers: int, num_seeds: int) -> int:
    """Of a sweep of so many settings and seeds asked for, those that fill devices included."""
    if algo.devices is None:
        return num_hypers * num_seeds
    settings, across = _grid(num_hypers, num_seeds, len(algo.devices), fill=True)
    return num_hypers // settings * -(-num_seeds // across)


@functools.lru_cache(maxsize=64)
def _grid(num_hypers: int, num_seeds: int, num_devices: int, fill: bool) -> tuple[int, int]:
    """Devices along settings, which divide them, and along seeds, which do unless they may be ``fill``ed up.

    Of all the grid with the fewest lanes on a device; of those with the fewest lanes in all, then devices.
    """
    grids = [
        (settings, across)
        for settings in range(1, min(num_hypers, num_devices) + 1)
        for across in range(1, num_devices // settings + 1)
        if num_hypers % settings == 0 and (fill or num_seeds % across == 0)
    ]

    def cost(grid):
        settings, across = grid
        each = -(-num_seeds // across)
        return num_hypers // settings * each, each * across, settings * across

    return min(grids, key=cost)


@functools.lru_cache(maxsize=64)
def _say(num_hypers: int, num_seeds: int, missing: int, num_devices: int) -> None:
    lanes = f"{num_hypers} settings x {num_seeds} seeds"
    print(f"{lanes} do not fill {num_devices} devices evenly: {missing} more seeds are trained", file=sys.stderr)


class Spread(NamedTuple):
    """How programs and their arrays lie on devices; hashable, for it decides what is compiled."""

    mesh: Mesh
    hyper: Axes  # of a sweep's `Hyper`, and task
    task: Axes

    def of_lanes(self, program: Callable[..., Any], first: Any, results: Any) -> Callable[..., Any]:
        """A sweep's (first, hyper, task) -> results on every device with the lanes that are there: nothing is sent."""
        arguments = first, *(specs(axes.tree, P("settings")) for axes in (self.hyper, self.task))
        return jax.shard_map(program, mesh=self.mesh, in_specs=arguments, out_specs=results, check_vma=False)

    def of_environments(self, program: Callable[..., Any]) -> Callable[..., Any]:
        """One agent's (state, hyper, task) -> state, metrics. XLA's partitioner makes the sums over all devices."""

        def spread(state, hyper, task):
            state, metrics = program(self.kept(state), hyper, task)
            return self.kept(state), metrics

        return spread

    def numbers(self, hyper: Any, task: Any) -> tuple[Any, Any]:
        """Both where they are used. The last task is remembered: a dataset is not copied anew for every chunk."""
        if not (_last and _last[0] is task and _last[1] == self):
            _last[:] = task, self, placed(task, self.task.tree, P("settings"), self.mesh)
        return placed(hyper, self.hyper.tree, P("settings"), self.mesh), _last[2]

    def kept(self, state: Any) -> Any:
        """One agent's State, inside of a program, where it belongs."""
        return jax.tree.map(jax.lax.with_sharding_constraint, state, self.shardings(state))

    def gathered(self, state: Any) -> Any:
        """A State where it belongs, wherever it was, such as after loading it for one device."""
        if jax.process_count() > 1:
            return state
        return jax.device_put(state, self.shardings(state))

    def shardings(self, state: Any) -> Any:
        """Of a State's leaves. One agent's that lead with environments are spread by them, all else is everywhere."""
        if state.key.ndim:
            of_fields = specs(lanes_of(state), LANES)
        else:
            of_fields = [P("envs") if name in ("envs", "running_return") else P() for name in state._fields]
        pairs = zip(of_fields, state, strict=True)
        return type(state)(*(jax.tree.map(lambda _: NamedSharding(self.mesh, spec), part) for spec, part in pairs))  # noqa: B023


def layout(algo: Algorithm, lanes: tuple[int, ...]) -> Spread | None:
    """Of a State with these lanes; None: everything is on one device."""
    if algo.devices is None:
        return None
    base = algo if algo.num_hypers is None else algo.base
    axes = swept_axes(base.hyper, algo.hyper, "hyper"), swept_axes(base.task, algo.task, "task")
    return Spread(mesh_of(algo, lanes), *map(Axes, axes))


def specs(axes: Any, mapped: P) -> Any:
    """Axes 0 or None, as of `swept_axes`, as `mapped` or "on all devices"."""
    return jax.tree.map(lambda axis: P() if axis is None else mapped, axes, is_leaf=lambda x: x is None)


def placed(tree: Any, axes: Any, mapped: P, mesh: Mesh) -> Any:
    """Arrays that every process has whole, on the devices that need them; nothing is sent between processes."""

    def one(axis, x):
        sharding = NamedSharding(mesh, P() if axis is None else mapped)
        if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(one(axis, jax.random.key_data(x)), impl=jax.random.key_impl(x))
        if jax.process_count() == 1:
            return jax.device_put(x, sharding)
        values = np.asarray(x)
        return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])

    return jax.tree.map(one, axes, tree, is_leaf=lambda x: x is None)


def on_host(tree: Any) -> Any:
    """NumPy arrays of all lanes, in every process: what other processes hold is gathered. Keys as their numbers.

    Raises:
        ConnectionError: another process is not there any more.
    """
    tree = jax.tree.map(lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, tree)
    if not all(getattr(x, "is_fully_addressable", True) for x in jax.tree.leaves(tree)):
        tree = _gathered(tree, tiled=True)
    return jax.tree.map(np.asarray, tree)


def anywhere(flag: bool) -> bool:
    """Whether it is true in any process; all must ask."""
    if jax.process_count() == 1:
        return flag
    return bool(_gathered(np.array(flag)).any())


def _gathered(tree: Any, tiled: bool = False) -> Any:
    from jax.experimental import multihost_utils

    with reaching():
        return multihost_utils.process_allgather(tree, tiled=tiled)


@contextmanager
def reaching() -> Iterator[None]:
    """What JAX raises where another process is not there any more becomes one error."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).splitlines()[0]
        if jax.process_count() == 1:
            raise
        raise ConnectionError(
            f"process {jax.process_index()} of {jax.process_count()} cannot reach the others ({reason}): one of them "
            "has probably stopped; start the job again and resume it, with as many processes as there are"
        ) from error
