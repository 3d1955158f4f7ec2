"""P-IQL: a reward model learned from preferences, and IQL on its rewards at the same time; offline, CPL's baseline.

After Hejna et al. 2024 (arXiv:2310.13639). The reward model is Bradley and Terry's on undiscounted sums,

  loss = cross-entropy of sigmoid(sum_t r(s, a)_2 - sum_t r(s, a)_1) with the label,

trained for the first ``reward_steps`` and fixed from then on; its constant is free. IQL takes the transitions of both
segments, k - 1 of each; nothing terminates. The order is that of the authors' code: reward model, V, policy, critics,
target, where rewards are those before the reward model's step, the policy's advantages those before V's, and the
critics' target has V after its step. Departures from it: no dropout in the policy, where they have 0.25; the errors of
the two critics are added, not averaged, which Adam does not see but for its epsilon. Defaults of `Config` and `Hyper`
are otherwise that code's for MetaWorld from states; the preset ``small`` is ours.
Shapes: B = batch_size comparisons, n = 2 B segments of k steps. A sweep adds leading axes; all lanes share the
preferences, the `task`. Actions are in [-1, 1], whatever the environment's box. A batch is drawn with replacement.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from rlzoo.algorithms import iql
from rlzoo.algorithms.config import Preset, Presets, Structure, bounded_box
from rlzoo.algorithms.hyper import Inner, Rate, Share, Steps, Weight, checked, numbers
from rlzoo.blocks import networks, optim
from rlzoo.data.preferences import Preferences, accuracy, task_of
from rlzoo.types import Algorithm, Env, Transition


@dataclass(frozen=True)
class Config(Structure):  # static: fixes shapes, loop lengths and branches
    batch_size: int = 96  # B, comparisons, drawn with replacement
    hidden: tuple[int, ...] = (512, 512)  # widths of every network's layers
    activation: str = "relu"  # tanh, relu, swish or gelu
    head: str = "deterministic"  # of the policy, cloned by its squared error; or normal
    anneal: str = "cosine"  # how the policy's rate falls to 0 over anneal_steps: cosine or linear
    actor: nn.Module | None = None  # own module, obs -> [B, A] before the tanh; replaces the default
    critic: nn.Module | None = None  # own module, (obs, action) -> [B, 1]; both critics are of its form
    value: nn.Module | None = None  # own module, obs -> [B, 1]
    reward: nn.Module | None = None  # own module, (obs, action) -> [*B, 1]
    optim: Callable[..., Any] | None = None  # own, (hyper, updates done) -> optax transformation, or one a part

    def __post_init__(self) -> None:
        self.at_least(1, "batch_size")
        self.widths("hidden")
        self.choice("activation", networks.ACTIVATIONS)
        self.choice("head", ("normal", "deterministic"))
        self.choice("anneal", optim.ANNEALING)


@numbers
class Hyper(NamedTuple):  # traced: any leaf may carry a sweep axis
    reward_learning_rate: Rate = 3e-4  # of Adam
    actor_learning_rate: Rate = 3e-4  # of Adam, falling to 0
    critic_learning_rate: Rate = 3e-4  # of Adam, of critics and V
    reward_steps: Steps = 50_000.0  # updates that the reward model is trained for
    anneal_steps: Steps = 500_000.0  # updates after which the policy's rate is 0; inf keeps it
    gamma: Share = 0.99  # discount per environment step
    tau: Share = 0.005  # step of the target critics towards what they follow
    expectile: Inner = 0.7  # of Q over the data's actions, that V is
    beta: Weight = 3.0  # inverse temperature of the advantages' weights


class Params(NamedTuple):  # of what is learned, or of its optimisers
    reward: chex.ArrayTree
    iql: iql.Params


class Parts(NamedTuple):  # of what is optimised
    reward: Any
    actor: Any
    critics: Any
    value: Any


class State(NamedTuple):  # all the next update needs, and nothing else
    params: Params
    target: chex.ArrayTree  # critics
    opt_state: Params
    key: chex.PRNGKey
    step: jax.Array  # int32[], updates done; never batched


def reward_loss(reward: Float[Array, "n k"], label: Float[Array, "B"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Bradley and Terry's cross-entropy on sums over the segments, and the share of labels that they get right."""
    first, second = jnp.split(reward.sum(axis=1), 2)
    return optax.sigmoid_binary_cross_entropy(second - first, label).mean(), accuracy(first, second, label)


def make(env: Env, config: Config, preferences: Preferences, hyper: Hyper = Hyper()) -> Algorithm:
    """P-IQL on preferences; ``env`` gives the spaces, and is what the policy is evaluated in.

    Raises:
        ValueError: the preferences are not of this environment, its actions are discrete, all are ties, or segments are
            of a single step.
    """
    hyper = checked(hyper)
    space = bounded_box(env, "P-IQL")
    task = task_of(preferences, env, "p_iql")
    if task.obs.shape[1] < 2:
        raise ValueError("p_iql: segments of one step have no transitions; draw longer ones")
    nets = iql.networks_of(env, config, weights="orthogonal")
    shapes = env.obs_space.shape, (math.prod(space.shape),)
    default = networks.FeedForward(1, shapes[0], config.hidden, config.activation, weights="orthogonal")
    reward_net = networks.own(config, "reward", default, *shapes, batches=((3,), (2, 3)))

    def policy(params, obs, key, deterministic=False):
        return space.from_policy(nets.sample(params, obs, key, deterministic))

    def optimisers(hyper, step):
        rate = jnp.where(step < hyper.reward_steps, hyper.reward_learning_rate, 0.0)
        reward, of_iql = optax.adam(rate), iql.optimisers(config, hyper, step)
        parts = optim.own(config, hyper, step, Parts(reward, *of_iql))
        return Params(parts.reward, iql.Params(*parts[1:]))

    def init(key, hyper, task):
        key, reward_key, network_key = jax.random.split(key, 3)
        obs, action = task.obs[0, :1], task.action[0, :1]
        params = Params(reward_net.init(reward_key, obs, action), nets.init(network_key, obs, action))
        adam = optimisers(hyper, 0)
        of_iql = iql.Params(*(one.init(x) for one, x in zip(adam.iql, params.iql, strict=True)))
        return State(params, params.iql.critics, Params(adam.reward.init(params.reward), of_iql), key, jnp.int32(0))

    def step(state, hyper, task):
        key, row_key = jax.random.split(state.key)
        adam, params, opt_state = optimisers(hyper, state.step), state.params, state.opt_state
        row = jax.random.randint(row_key, (config.batch_size,), 0, len(task.label))
        index = jnp.concatenate([task.first[row], task.second[row]])
        obs, action, label = task.obs[index], task.action[index], task.label[row]  # [n, k, ...]

        # 1. Rewards, from sums over segments.
        def loss(params):
            rewards = reward_net.apply(params, obs, action)[..., 0]  # [n, k]
            error, right = reward_loss(rewards, label)
            return error, (right, rewards)

        (error, (right, rewards)), grads = jax.value_and_grad(loss, has_aux=True)(params.reward)
        reward, reward_state = optim.descend(adam.reward, params.reward, opt_state.reward, grads)
        learns = state.step < hyper.reward_steps  # whatever an optimiser of one's own does at a rate of 0
        reward = jax.tree.map(lambda new, old: jnp.where(learns, new, old), reward, params.reward)

        # 2. IQL on the transitions of both segments, with the rewards and advantages of before.
        rows = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
        given = rows(rewards[:, :-1])
        never = jnp.zeros(given.shape, bool)
        batch = Transition(rows(obs[:, :-1]), rows(action[:, :-1]), given, never, never, rows(obs[:, 1:]))
        learned, target, iql_state, metrics = iql.iql_step(
            nets, adam.iql, params.iql, state.target, opt_state.iql, batch, hyper, advantage_before=True
        )
        metrics |= {"loss/reward": error, "policy/accuracy": right}
        return State(Params(reward, learned), target, Params(reward_state, iql_state), key, state.step + 1), metrics

    return Algorithm(
        "p_iql",
        config,
        env,
        hyper,
        task,
        init,
        step,
        actor=lambda state: state.params.iql.actor,
        policy=policy,
        steps_per_update=1,
        offline=True,
    )


presets = Presets(
    classic=Preset(Config(), Hyper()),
    small=Preset(
        Config(batch_size=32, hidden=(64, 64)),
        Hyper(
            reward_learning_rate=1e-3,
            actor_learning_rate=1e-3,
            critic_learning_rate=1e-3,
            reward_steps=2_000.0,
            anneal_steps=4_000.0,
        ),
    ),
)
