"""The contract: an algorithm is a tuple of pure functions over three pytrees.

``State``   what continues: parameters, optimiser, environments, moments, key, clock.
``Hyper``   numbers: learning rates, discounts, coefficients; every leaf may be swept.
``task``    what is learned on: environment parameters online, a dataset offline.

    algo.init(key, hyper, task)   -> state
    algo.step(state, hyper, task) -> state, metrics
    algo.actor(state)             -> actor
    algo.policy(actor, obs, key)  -> action

Everything else (training, sweeping, saving, evaluating) is a function *of* an algorithm and lives in
``rlzoo.drivers``. Structure (sizes, loop lengths, Python branches) is fixed by a frozen ``Config`` when the
algorithm is made. A ``State`` is a NamedTuple that holds at least ``key``, a typed PRNG key, and ``step``, the
int32 count of updates done: the only clock, shared by all lanes of a sweep. ``state.key.shape`` is therefore
``()`` for one agent and ``(H, S)`` for a sweep of H hyperparameter settings times S seeds.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Box(NamedTuple):
    """Real vectors or images between ``low`` and ``high``, both broadcast to ``shape``; bounds may be infinite."""

    low: np.ndarray
    high: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.low.shape

    @property
    def bounded(self) -> bool:
        return bool(np.isfinite(self.low).all() and np.isfinite(self.high).all())

    def from_policy(self, x: jax.Array) -> jax.Array:
        """The action of a policy's outputs [*B, prod(shape)]: reshaped, clipped to [-1, 1] and mapped onto [low, high].

        An unbounded box only clips them to itself.
        """
        x = x.reshape(*x.shape[:-1], *self.shape)
        if not self.bounded:
            return jnp.clip(x, self.low, self.high)
        return self.low + 0.5 * (jnp.clip(x, -1.0, 1.0) + 1.0) * (self.high - self.low)

    def to_policy(self, action: jax.Array) -> jax.Array:
        """The inverse of `from_policy` on [-1, 1]: [*B, *shape] -> [*B, prod(shape)]."""
        if self.bounded:
            action = 2.0 * (action - self.low) / (self.high - self.low) - 1.0
        return action.reshape(*action.shape[: action.ndim - len(self.shape)], -1)

    def sample(self, key: jax.Array, legal: Any = None) -> jax.Array:
        """Uniform on a bounded box; standard normal on an unbounded one. Nothing in it is illegal."""
        if not self.bounded:
            return jax.random.normal(key, self.shape)
        return jax.random.uniform(key, self.shape, minval=self.low, maxval=self.high)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Box) and all(map(np.array_equal, self, other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((self.shape, *self.low.ravel().tolist(), *self.high.ravel().tolist()))

    def contains(self, x: jax.Array, tolerance: float = 1e-5) -> jax.Array:
        return jnp.all((x >= self.low - tolerance) & (x <= self.high + tolerance))


class Discrete(NamedTuple):
    """The integers 0 .. n-1, of which an observation may allow some, see `Observation`."""

    n: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Discrete) and self.n == other.n

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(("Discrete", self.n))

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    def from_policy(self, x: jax.Array) -> jax.Array:
        """A policy samples the integers themselves."""
        return x

    def to_policy(self, action: jax.Array) -> jax.Array:
        return action

    def sample(self, key: jax.Array, legal: Any = None) -> jax.Array:
        """Uniform, of those that are ``legal``, bool[n], if it is given."""
        if legal is None:
            return jax.random.randint(key, (), 0, self.n)
        return jax.random.categorical(key, jnp.where(legal | ~legal.any(), 0.0, -jnp.inf))

    def contains(self, x: jax.Array) -> jax.Array:
        return jnp.all((x >= 0) & (x < self.n))


class MultiDiscrete(NamedTuple):
    """Several numbers chosen at once, the i-th of 0 .. n[i]-1."""

    n: tuple[int, ...]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MultiDiscrete) and self.n == other.n

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(("MultiDiscrete", self.n))

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.n),)

    def from_policy(self, x: jax.Array) -> jax.Array:
        """A policy samples the integers themselves."""
        return x

    def to_policy(self, action: jax.Array) -> jax.Array:
        return action

    def sample(self, key: jax.Array, legal: Any = None) -> jax.Array:
        """Uniform, of those that are ``legal``, bool[sum of n], if it is given."""
        if legal is None:
            return jax.random.randint(key, self.shape, 0, jnp.array(self.n))
        parts = jnp.split(legal, np.cumsum(self.n)[:-1])
        keys = jax.random.split(key, len(self.n))
        return jnp.stack([Discrete(len(x)).sample(key, x) for key, x in zip(keys, parts, strict=True)])

    def contains(self, x: jax.Array) -> jax.Array:
        return jnp.all((x >= 0) & (x < jnp.array(self.n)))


Space = Box | Discrete | MultiDiscrete


def num_choices(space: Space) -> int | None:
    """How many actions a mask of legal ones has: of a MultiDiscrete those of all numbers; None of a box."""
    if isinstance(space, Box):
        return None
    return sum(space.n) if isinstance(space, MultiDiscrete) else space.n


class Observation(NamedTuple):
    """What an agent sees, where that is more than one array; None is what an environment does not show.

    In the place of an `Env`'s ``obs_space`` it holds a `Box` for each array. Arrays keep the type that the environment
    gives them; networks see float32.
    """

    vector: Any = None  # [*B, D]
    image: Any = None  # [*B, H, W, C], through a convolution
    legal: Any = None  # bool[*B, K], which of a `Discrete`'s actions may be taken; all are taken where none may.
    # Of a `MultiDiscrete` K is the sum: the first number's, the second's and so on, side by side.
    privileged: Any = None  # [*B, P], for critics alone: what a simulator knows and a robot does not
    stock: Any = None  # [*B, 4], what was earned so far, for algorithms with an objective; see `rlzoo.blocks.stocks`

    @property
    def shape(self) -> Any:
        """Of a space: the shapes of its boxes, in their places."""
        return Observation(*(None if x is None else x.shape for x in self))


def mask_of(obs: Any) -> Any:
    """`Observation.legal` of what is seen, or its `Box` of a space; None where there is none."""
    return obs.legal if isinstance(obs, Observation) else None


class TimeStep(NamedTuple):
    """What one environment step shows. ``terminated`` stops bootstrapping; ``terminated | truncated`` resets."""

    obs: Any  # an array or an `Observation`, what the agent sees next: after a reset, if there was one
    reward: jax.Array  # f32[]
    terminated: jax.Array  # bool[], the episode ended by its own rules
    truncated: jax.Array  # bool[], it was cut by the time limit; its value goes on
    next_obs: Any  # the true successor, before any reset


class Transition(NamedTuple):
    """One step of experience, or [T, N] of them; ``next_obs`` is the true successor, before any reset."""

    obs: Any  # an array or an `Observation`
    action: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    next_obs: Any


class Env(NamedTuple):
    """One unbatched environment that resets itself; vmap it over keys, states, actions and parameters.

    Spaces and horizon are read once from the default parameters: they size arrays and loops.
    """

    name: str  # "suite/id", with options behind it
    reset: Callable[..., tuple[Any, Any]]  # (key, params) -> obs, state
    step: Callable[..., tuple[Any, TimeStep]]  # (key, state, action, params) -> state, TimeStep
    params: Any  # pytree of arrays; the `task` of an online algorithm
    obs_space: Box | Observation
    action_space: Space
    horizon: int  # steps after which an episode is truncated
    host: Any = None  # what steps in Python outside of the program, see `rlzoo.envs.gymnasium`; None: nothing does
    stock: float | None = None  # discount of the stock in its observations, see `rlzoo.envs.stock`; None: there is none


SEES = {"image": "images beside vectors", "legal": "masks of legal actions", "privileged": "observations for critics"}


def environment(env: Any, who: str, sees: tuple[str, ...] = tuple(SEES), several: bool = True) -> Env:
    """What was given in the place of an environment, which it must be; otherwise a `ValueError` that names ``who``.

    Args:
        sees: the parts of an `Observation` beside its vector that can be used. several: whether `MultiDiscrete` can be.
    """
    if not isinstance(env, Env):
        given = f"rlzoo.envs.make({env!r})" if isinstance(env, str) else "rlzoo.envs.make, of a name or your own object"
        what = f"the name {env!r}" if isinstance(env, str) else f"a {type(env).__name__}"
        raise ValueError(f"{who} takes an environment, an rlzoo.types.Env, not {what}; build it: {given}")
    space = env.obs_space
    for part, what in SEES.items():
        if isinstance(space, Observation) and getattr(space, part) is not None and part not in sees:
            raise ValueError(f"{env.name}: its observations have {part!r}, {what}, which {who} cannot use")
    if isinstance(env.action_space, MultiDiscrete) and not several:
        raise ValueError(f"{env.name}: its actions are {env.action_space}; {who} takes a Box or a Discrete")
    return env


class Algorithm(NamedTuple):
    """An algorithm made for an environment: see the module's docstring for the contract."""

    name: str
    config: Any  # frozen dataclass, hashable: the structure
    env: Env
    hyper: Any  # NamedTuple of numbers: the defaults, or in a sweep arrays [H]
    task: Any  # environment parameters, or a dataset
    init: Callable[..., Any]
    step: Callable[..., tuple[Any, dict[str, jax.Array]]]
    actor: Callable[[Any], Any]  # state -> the small pytree that acting needs
    policy: Callable[..., jax.Array]  # (actor, obs, key, deterministic=False) -> action, of one lane
    steps_per_update: int  # environment steps that one `step` takes, at the most
    warmup_steps: int = 0  # environment steps that `init` takes
    value: Callable[..., tuple[jax.Array, jax.Array]] | None = None  # see `rlzoo.value_error`
    offline: bool = False  # True: `task` is a dataset
    references: tuple[float, float] | None = None  # returns of a random policy and of an expert: scores of 0 and 100
    num_hypers: int | None = None  # None: one agent. H: a sweep, whose State leaves lead with [H, S]
    in_lanes: int | None = None  # of a sweep: so many lanes are trained at a time; None: see `rlzoo.sweep`
    devices: tuple[Any, ...] | None = None  # over which it is spread, see `rlzoo.spread`; None: one
    base: Any = None  # of a sweep: the algorithm that it sweeps
