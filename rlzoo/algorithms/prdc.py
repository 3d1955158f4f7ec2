"""PRDC: policy regularisation with a dataset constraint, the nearest action in the data; offline.

Ran et al. 2023, arXiv:2306.06569. The nearest row to (s, pi(s)) is sought among *all* rows of the dataset, by the
distance |beta (s - s_j)|^2 + |pi(s) - a_j|^2. A large beta leaves the state's own row, which is TD3+BC; beta = 0 takes
the nearest action of any state (which needs another search than the default one).

  policy  -lambda Q_1(s, pi(s)) + mean over A of (pi(s) - a_j)^2,   lambda = alpha / mean over B of |Q_1(s, pi(s))|
          j = argmin_j |beta (s - s_j)|^2 + |pi(s) - a_j|^2;   lambda and a_j are held constant

Shapes: B = batch_size, S, A = observation and action dimensions, N = rows of the dataset, K = table_size. A sweep adds
leading axes, and all its lanes share one dataset and one table, the `task`.

Critics and targets are TD3's, as in `td3_bc`. The search does not use the authors' KD-tree, but one of, see ``search``:
  table  the K rows with the nearest *states* of every row, found once. A query's state is one of the data, so only
         these can win if the winner is nearer than beta times the K-th state: then it is certified as exact. The rest
         mostly is exact too, unless beta is small or many states are equal; `exact_share` measures it.
  exact  as table, and what is not certified is searched again by brute force.
  brute  every query against every row.
Where the paper's text has the distance itself as loss, the code, which made the published numbers, has the mean squared
difference of the actions; that is done here. Actions are in [-1, 1], whatever the environment's box.

Defaults of `Config` and `Hyper` are the code's but for the search's, as in its commands for hopper and walker2d. The
preset ``halfcheetah`` is of such a command too, and ``antmaze`` of the one for medium-play; those for Pendulum are
ours, chosen on other keys than those of the results.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from rlzoo.algorithms.config import Preset, Presets, Structure, bounded_box
from rlzoo.algorithms.hyper import Limit, Positive, Rate, Real, Share, Weight, checked, numbers
from rlzoo.algorithms.td3_bc import cloning_loss, critic_step, unscaled, value_loss
from rlzoo.blocks import neighbours, networks, optim, replay
from rlzoo.blocks.neighbours import Neighbours, Table
from rlzoo.data.dataset import Dataset, Moments, Pieces, draw_rows, normalise, task_of
from rlzoo.kept import kept, name_of
from rlzoo.machine import SHARE, device_memory, in_bytes
from rlzoo.types import Algorithm, Env, Transition

ROUNDING = 1.0 - 1e-5  # a margin for float32 in what is certified


@dataclass(frozen=True)
class Config(Structure):  # static: fixes shapes, loop lengths and branches
    batch_size: int = 256  # B, drawn with replacement
    policy_delay: int = 2  # critic steps for each step of policy and targets
    hidden: tuple[int, ...] = (256, 256)  # widths of the policy's and of each critic's layers
    activation: str = "relu"  # tanh, relu, swish or gelu
    normalise_obs: bool = True  # by the dataset's mean and standard deviation + 0.001
    k: int = 1  # the k-th nearest row's action is the wanted one
    search: str = "table"  # table, exact or brute; ours
    table_size: int = 64  # K, nearest states that the table keeps of each row; ours
    actor: nn.Module | None = None  # own module, obs -> [B, A] before the tanh; replaces the default
    critic: nn.Module | None = None  # own module, (obs, action) -> [B, 1]; both critics are of its form
    optim: Callable[..., Any] | None = None  # own, (hyper, updates done) -> optax transformation, or one a part

    def __post_init__(self) -> None:
        self.at_least(1, "batch_size", "policy_delay", "k", "table_size")
        self.widths("hidden")
        self.choice("activation", networks.ACTIVATIONS)
        self.choice("search", ("table", "exact", "brute"))
        if self.k > self.table_size and self.search != "brute":
            raise ValueError(f"k={self.k} of table_size={self.table_size} rows; use a larger table_size")


@numbers
class Hyper(NamedTuple):  # traced: any leaf may carry a sweep axis
    actor_learning_rate: Rate = 3e-4  # of Adam
    critic_learning_rate: Rate = 3e-4  # of Adam
    gamma: Share = 0.99  # discount per environment step
    tau: Share = 0.005  # step of the targets towards what they follow
    policy_noise: Weight = 0.2  # standard deviation of the noise on the target's action, of actions in [-1, 1]
    noise_clip: Limit = 0.5  # bound of that noise
    alpha: Weight = 2.5  # weight of the value against the constraint
    beta: Weight = 2.0  # weight of normalised states against actions in the distance; the code's parser has 1
    reward_scale: Positive = 1.0  # rewards are scale r + shift
    reward_shift: Real = 0.0  # reward units


class Params(NamedTuple):  # of what is learned, or of its targets or optimisers
    actor: chex.ArrayTree
    critics: chex.ArrayTree  # leaves [2, ...]


class State(NamedTuple):  # all the next update needs, and nothing else
    params: Params
    target: Params
    opt_state: Params
    moments: Moments  # of the dataset's observations: acting needs them
    key: chex.PRNGKey
    step: jax.Array  # int32[], updates done; never batched


class Task(NamedTuple):
    """The dataset, and what the search needs of it; () what it does not."""

    transitions: Transition  # [N, ...]: observations normalised, actions in [-1, 1]
    moments: Moments
    rows: Table | tuple[()]  # of [s, a], for brute force
    states: Neighbours | tuple[()]  # the K nearest states of every row [N, K], for the table
    pieces: Pieces | None = None  # by which rows are drawn; None: all alike

    @property
    def num_rows(self) -> int:
        return self.transitions.reward.shape[-1]


def table_search(
    task: Task, index: Int[Array, "B"], action: Float[Array, "B A"], beta: Float[Array, ""] | float, k: int
) -> tuple[Neighbours, Bool[Array, "B"]]:
    """The k nearest to (s_index, action) among the table's candidates, and whether that is certain.

    d_j^2 = beta^2 |s_index - s_j|^2 + |action - a_j|^2; a row out of the table has at least the first term of its last.
    """
    assert isinstance(task.states, Neighbours)
    candidates, squared = replay.take(task.states, index)  # [B, K]
    actions = task.transitions.action[candidates]  # [B, K, A]
    distances = beta**2 * squared + jnp.sum((action[:, None] - actions) ** 2, axis=-1)
    found = neighbours.best_of(candidates, distances, k)
    whole = squared.shape[-1] == task.num_rows  # nothing is out of the table
    return found, (found.squared[:, -1] <= ROUNDING * beta**2 * squared[:, -1]) | whole


def brute_search(
    task: Task, index: Int[Array, "B"], action: Float[Array, "B A"], beta: Float[Array, ""] | float, k: int
) -> Neighbours:
    """The k nearest to (s_index, action) among all rows of the dataset."""
    return neighbours.nearest(_queries(task, index, action), _table(task), _weights(task, beta), k)


def _table(task: Task) -> Table:
    assert isinstance(task.rows, Table)
    return task.rows


def _queries(task: Task, index, action):
    obs = task.transitions.obs[index]
    return jnp.concatenate([obs.reshape(len(obs), -1), action], axis=-1)


def _weights(task: Task, beta):
    """Of squared differences: beta^2 of states, 1 of actions."""
    num_actions = task.transitions.action.shape[-1]
    num_states = _table(task).rows.shape[-1] - num_actions
    return jnp.concatenate([jnp.full(num_states, 1.0) * beta**2, jnp.ones(num_actions)])


def make(env: Env, config: Config, dataset: Dataset, hyper: Hyper = Hyper()) -> Algorithm:
    """PRDC on a dataset; ``env`` gives the spaces, and is what the policy is evaluated in.

    Raises:
        ValueError: the dataset is not of this environment, or its actions are discrete.
    """
    hyper = checked(hyper)
    space = bounded_box(env, "PRDC")
    task = search_task(task_of(dataset, env, "prdc", config.normalise_obs), config)
    num_actions = task.transitions.action.shape[-1]

    network = functools.partial(
        networks.FeedForward, obs_shape=env.obs_space.shape, hidden=config.hidden, activation=config.activation
    )
    shapes = env.obs_space.shape, (num_actions,)
    nets = networks.TwinCritics(
        networks.own(config, "actor", network(num_actions), shapes[0]),
        networks.own(config, "critic", network(1), *shapes),
    )

    def policy(actor, obs, key, deterministic=False):
        params, moments = actor
        return space.from_policy(nets.act(params, normalise(moments, obs)))

    def optimisers(hyper, step):
        default = Params(optax.adam(hyper.actor_learning_rate), optax.adam(hyper.critic_learning_rate))
        return optim.own(config, hyper, step, default)

    def search(task, index, action, beta):
        """The k-th nearest row's action, and the share of queries for which it certainly is that."""
        if config.search == "brute":
            found, certified = brute_search(task, index, action, beta, config.k), jnp.ones(len(index), bool)
        else:
            found, certified = table_search(task, index, action, beta, config.k)
        if config.search == "exact":
            weights = _weights(task, beta)
            queries = _queries(task, index, action)
            found = neighbours.nearest_where(~certified, found, queries, _table(task), weights)
        return task.transitions.action[found.row[:, -1]], certified.mean()

    def init(key, hyper, task):
        key, actor_key, critic_key = jax.random.split(key, 3)
        obs, action = task.transitions.obs[:1], task.transitions.action[:1]
        params = Params(
            actor=nets.actor.init(actor_key, obs),
            critics=nets.init_critics(critic_key, obs, action),
        )
        opt_state = Params(*(adam.init(x) for adam, x in zip(optimisers(hyper, 0), params, strict=True)))
        return State(params, params, opt_state, task.moments, key, jnp.int32(0))

    def step(state, hyper, task):
        key, row_key, noise_key = jax.random.split(state.key, 3)
        adam, params, target = optimisers(hyper, state.step), state.params, state.target
        rows = draw_rows(task, row_key, (config.policy_delay, config.batch_size))
        noises = jax.random.normal(noise_key, (*rows.shape, num_actions))

        # 1. Critics: a gradient step on each minibatch, while policy and targets stand still.
        start = params.critics, state.opt_state.critics
        one = lambda carry, now: critic_step(nets, adam.critics, target, task, hyper, carry, *now)  # noqa: E731
        (critics, critic_state), metrics = jax.lax.scan(one, start, (rows, noises))

        # 2. Policy: the first critic's value, and the action of the nearest row, on the last minibatch.
        obs = task.transitions.obs[rows[-1]]
        wanted, certified = search(task, rows[-1], nets.act(params.actor, obs), hyper.beta)

        def loss(actor_params):
            action = nets.act(actor_params, obs)
            value_term = value_loss(nets.first_q(critics, obs, action), hyper.alpha).mean()
            constraint = cloning_loss(action, wanted).mean()
            return value_term + constraint, {"loss/policy": value_term, "loss/constraint": constraint}

        grads, measured = jax.grad(loss, has_aux=True)(params.actor)
        actor, actor_state = optim.descend(adam.actor, params.actor, state.opt_state.actor, grads)

        # 3. Targets.
        params = Params(actor, critics)
        target = optim.polyak(target, params, hyper.tau)
        metrics = jax.tree.map(jnp.mean, metrics) | measured | {"search/certified": certified}
        return State(params, target, Params(actor_state, critic_state), state.moments, key, state.step + 1), metrics

    def value(state, hyper, obs, action):
        """Mean of the two Q(s, a), in reward units."""
        q = nets.q(state.params.critics, normalise(state.moments, obs), space.to_policy(action)).mean(axis=0)
        q = unscaled(q, hyper)
        return q, jnp.zeros_like(q)

    return Algorithm(
        "prdc",
        config,
        env,
        hyper,
        task,
        init,
        step,
        actor=lambda state: (state.params.actor, state.moments),
        policy=policy,
        steps_per_update=config.policy_delay,
        value=value,
        offline=True,
    )


def search_task(task: Any, config: Config) -> Task:
    """The offline task with what ``config.search`` needs."""
    states, actions = task.transitions.obs.reshape(task.num_rows, -1), task.transitions.action
    if config.k > task.num_rows:
        raise ValueError(f"k={config.k} of a dataset of {task.num_rows} rows; use a smaller k")
    rows = neighbours.table(jnp.concatenate([states, actions], axis=-1)) if config.search != "table" else ()
    graph = _graph(states, min(config.table_size, task.num_rows)) if config.search != "brute" else ()
    return Task(task.transitions, task.moments, rows, graph, task.pieces)


def _graph(states: jax.Array, k: int) -> Neighbours:
    """The graph of nearest states, which is dear: of the same states it is computed once."""
    num_rows = len(states)
    size, limit = 2 * 4 * num_rows * k, device_memory()
    if limit is not None and size > SHARE * limit:
        raise ValueError(
            f"PRDC's table of {k} nearest states of {num_rows:,} rows takes {in_bytes(size)}; the device has "
            f"{in_bytes(limit)}; use a smaller table_size, or search='brute'"
        )
    like = [jax.ShapeDtypeStruct((num_rows, k), dtype) for dtype in (jnp.int32, jnp.float32)]
    return Neighbours(*kept(name_of("graph-1", states, k), lambda: list(neighbours.graph(states, k)), like))


def exact_share(algo: Algorithm, state: State, key: chex.PRNGKey, num_queries: int = 1024) -> dict[str, float]:
    """How much of the table's search is certified, and how much is exact, at one agent's policy.

    Args:
        algo: of one agent; of a sweep, `rlzoo.setting`.
        state: of one agent; of a sweep's, `rlzoo.lane`.
        num_queries: states of the data, drawn with replacement.
    Returns:
        ``certified`` and ``exact``, shares of the queries: exact are those that brute force finds no nearer row for.
    """
    config, hyper = algo.config, algo.hyper
    if algo.num_hypers is not None:
        raise ValueError("exact_share measures one agent; give rlzoo.setting(runs, i) and rlzoo.lane(state, i, seed)")
    task = search_task(algo.task, replace(config, search="exact", table_size=max(config.k, config.table_size)))
    index = jax.random.randint(key, (num_queries,), 0, task.num_rows)
    obs = task.transitions.obs[index] * state.moments.std + state.moments.mean
    action = algo.env.action_space.to_policy(algo.policy(algo.actor(state), obs, key))
    found, certified = table_search(task, index, action, hyper.beta, config.k)
    true = brute_search(task, index, action, hyper.beta, config.k)
    exact = ROUNDING * found.squared[:, -1] <= true.squared[:, -1]
    return {"certified": float(certified.mean()), "exact": float(exact.mean())}


# For Pendulum, chosen on other keys than those of the results. Its pairs of state and action lie dense: with beta = 2 a
# near state has nearly any action, so that the constraint holds nothing, and the values diverge.
_SMALL = Config(hidden=(64, 64))
presets = Presets(
    classic=Preset(Config(), Hyper()),
    pendulum=Preset(_SMALL, Hyper(alpha=0.3, beta=20.0)),
    pendulum_medium_replay=Preset(_SMALL, Hyper(alpha=30.0, beta=40.0)),
    halfcheetah=Preset(Config(), Hyper(alpha=40.0)),
    hopper=Preset(Config(), Hyper()),
    walker2d=Preset(Config(), Hyper()),
    antmaze=Preset(Config(), Hyper(alpha=7.5, beta=7.5, reward_scale=10_000.0, reward_shift=-1.0)),
)
