"""Environments of gymnasium, which step in Python on the host: as a source for our algorithms.

`make` gives an `Env` whose `reset` and `step` call the host from inside of the program, N environments in one call.
Each call is given what the one before returned, so that they come in order. What is lost: one agent, no sweep in one
program; and a State that is loaded goes on with new episodes, as the host's are not in it: those under way end as
truncations.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo.envs import spaces
from rlzoo.envs.observations import layout
from rlzoo.envs.suites import imported
from rlzoo.types import Env, TimeStep

SESSIONS = 4  # groups of environments that are kept, those used last: one is trained in, others are for evaluations


class State(NamedTuple):
    """What the program holds of an environment that lives on the host."""

    session: jax.Array  # int32[], the group that it belongs to
    steps: jax.Array  # int32[], of the group so far
    obs: Any  # what it showed last: the next observation, should the group be gone


class Host:
    """Groups of environments by session, and what went wrong."""

    def __init__(self, build: Callable[[], Any]) -> None:
        self.build, self.first = build, build()
        self.numbers, self.groups = itertools.count(1), dict[int, list[Any]]()
        self.error: Exception | None = None
        self.recorded: list[Any] | None = None  # what steps gave since `remember`
        self.replayed: list[Any] = []

    def remember(self) -> None:
        """From here on, so that whole updates can be done again without the environments."""
        self.recorded, self.replayed, self.error = [], [], None

    def repeat(self, calls: int) -> None:
        """The next calls of `step` give again what they gave since `remember`; behind them all begins anew."""
        self.replayed, self.recorded = (self.recorded or [])[:calls], None
        for session in list(self.groups):
            self._close(session)

    def reset(self, words: np.ndarray) -> tuple[Any, ...]:
        """New environments, one a key [N, W], seeded by it."""
        if words.ndim != 2:
            raise self._failed(
                ValueError(f"reset for lanes {list(words.shape[:-1])}; one agent at a time steps on a host")
            )
        session = next(self.numbers)
        while len(self.groups) >= SESSIONS:  # a dict is in the order in which its groups were used
            self._close(next(iter(self.groups)))
        free = [self.first] if self.first is not None else []
        self.first = None
        envs = [free.pop() if free else self.build() for _ in words]
        self.groups[session] = envs
        seeds = (words.astype(np.uint64) * np.array([1, 2**31], np.uint64)[: words.shape[1]]).sum(1) % 2**31
        seen = [
            self._asked(lambda env, seed: env.reset(seed=int(seed))[0], *pair) for pair in zip(envs, seeds, strict=True)
        ]
        return np.full(len(words), session, np.int32), np.zeros(len(words), np.int32), *self._stacked(seen)

    def step(self, session: np.ndarray, count: np.ndarray, *rest: Any) -> tuple[Any, ...]:
        """One step of a group [N]: session, count, observations after resets, reward, ends, true observations."""
        if self.replayed:
            return self.replayed.pop(0)
        *stale, action = rest
        key = int(session[0])
        if key not in self.groups:
            return self._begun_anew(len(session), count, stale)
        envs = self.groups[key] = self.groups.pop(key)  # now the last one used
        results = [self._asked(self._one, *pair) for pair in zip(envs, action, strict=True)]
        after, reward, terminated, truncated, true = zip(*results, strict=True)
        flags = np.array(terminated, bool), np.array(truncated, bool)
        found = (session, count + 1, *self._stacked(after), np.array(reward, np.float32), *flags, *self._stacked(true))
        if self.recorded is not None:
            self.recorded.append(found)
        return found

    def _begun_anew(self, number: int, count: np.ndarray, stale: list[np.ndarray]) -> tuple[Any, ...]:
        """Of a group that is gone: all episodes end as truncations, where they were."""
        words = np.stack([np.arange(number), count], axis=1).astype(np.uint32)
        session, count, *obs = self.reset(words)
        nothing = np.zeros(number, bool)
        return session, count, *obs, np.zeros(number, np.float32), nothing, ~nothing, *stale

    def _one(self, env: Any, action: np.ndarray) -> tuple[Any, ...]:
        obs, reward, terminated, truncated, _ = env.step(action.item() if not action.ndim else action)
        after = env.reset()[0] if terminated or truncated else obs
        return after, float(reward), bool(terminated), bool(truncated), obs

    def _asked(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> Exception:
        self.error = error
        return error

    def _stacked(self, observations: Any) -> list[np.ndarray]:
        """Of N observations their arrays [N, ...], as the first reset showed them."""
        arrays = [[np.asarray(x) for x in jax.tree.leaves(obs)] for obs in observations]
        for each in arrays:
            given = [(x.shape, x.dtype) for x in each]
            if given != self.shown:
                said = ", ".join(f"{dtype}{list(shape)}" for shape, dtype in given)
                wanted = ", ".join(f"{dtype}{list(shape)}" for shape, dtype in self.shown)
                raise self._failed(ValueError(f"the environment showed {said}, where it had shown {wanted} before"))
        return [np.stack(column) for column in zip(*arrays, strict=True)]

    def example(self) -> Any:
        """An observation, whose shapes and types all others must have."""
        obs, _ = self.first.reset(seed=0)
        self.shown = [(np.shape(x), np.asarray(x).dtype) for x in jax.tree.leaves(obs)]
        return jax.tree.map(np.asarray, obs)

    def _close(self, session: int) -> None:
        for env in self.groups.pop(session):
            env.close()


def names() -> tuple[str, ...]:
    registry = imported("gymnasium", "gymnasium").envs.registry
    return tuple(name for name, spec in registry.items() if not name.startswith(("GymV", "phys2d", "tabular")))


def make(name: str, horizon: int | None = None, **kwargs: Any) -> Env:
    """Build ``gymnasium/name``; as many side by side as the algorithm has ``num_envs``.

    Args:
        horizon: time limit in steps; default: the environment's own, or 1,000 if it has none.
        kwargs: for `gymnasium.make`.
    """
    package = imported("gymnasium", "gymnasium")
    limit = package.spec(name).max_episode_steps
    horizon = horizon or limit or 1_000
    build = lambda: package.make(name, max_episode_steps=horizon, **kwargs)  # noqa: E731
    try:
        host = Host(build)
    except (ImportError, package.error.Error) as error:
        remedy = "; MuJoCo's need pip install 'rlzoo[gymnasium]'" if isinstance(error, ImportError) else ""
        raise ValueError(f"gymnasium/{name} cannot be made: {error}{remedy}") from error
    return _adapted(host, f"gymnasium/{name}", horizon)


def adapt(build: Callable[[], Any], name: str, horizon: int) -> Env:
    """An `Env` of a function that makes objects of gymnasium's interface, such as ``lambda: MyEnv()``."""
    package = imported("gymnasium", "gymnasium")
    limited = lambda: package.wrappers.TimeLimit(build(), horizon)  # noqa: E731
    return spaces.check(_adapted(Host(limited), f"own/{name}", horizon))


def _adapted(host: Host, name: str, horizon: int) -> Env:
    actions = spaces.read(host.first.action_space, f"{name}: its action space")
    example = host.example()
    observe, space = layout(name, example, actions)
    structure = jax.tree.structure(example)
    shown = [
        jax.ShapeDtypeStruct(np.shape(x), jax.dtypes.canonicalize_dtype(x.dtype)) for x in jax.tree.leaves(example)
    ]
    number, real, flag = (jax.ShapeDtypeStruct((), dtype) for dtype in (jnp.int32, jnp.float32, bool))
    whole = lambda arrays: jax.tree.unflatten(structure, list(arrays))  # noqa: E731

    def asked(function: Callable[..., Any], shapes: tuple[Any, ...], *arguments: Any, axes: int = 0) -> Any:
        """``axes``: of the first argument, when there is one environment and no axis of several."""

        def call(*given: Any) -> tuple[Any, ...]:
            alone = np.ndim(given[0]) == axes
            found = function(*([np.asarray(x)[None] for x in given] if alone else map(np.asarray, given)))
            pairs = zip(found, shapes, strict=True)
            return tuple(np.asarray(x[0] if alone else x, shape.dtype) for x, shape in pairs)

        return jax.pure_callback(call, shapes, *arguments, vmap_method="broadcast_all")

    def reset(key: jax.Array, params: Any) -> tuple[Any, State]:
        session, count, *obs = asked(host.reset, (number, number, *shown), jax.random.key_data(key), axes=1)
        return observe(whole(obs)), State(session, count, obs)

    def step(key: jax.Array, state: State, action: jax.Array, params: Any) -> tuple[State, TimeStep]:
        shapes = (number, number, *shown, real, flag, flag, *shown)
        found = asked(host.step, shapes, state.session, state.steps, *state.obs, action)
        (session, count), rest, n = found[:2], found[2:], len(shown)
        obs, (reward, terminated, truncated), true = rest[:n], rest[n : n + 3], rest[n + 3 :]
        now = TimeStep(observe(whole(obs)), reward, terminated, truncated, observe(whole(true)))
        return State(session, count, list(obs)), now

    return Env(name, reset, step, (), space, actions, horizon, host)
