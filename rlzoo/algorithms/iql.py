"""IQL: implicit Q-learning, which asks the critics for no action that is not in the data; offline.

Kostrikov et al. 2022, arXiv:2110.06169, Eq. 5 to 7, in the order of updates of Hejna et al. 2024 (arXiv:2310.13639),
whose P-IQL is built on it: V, policy, critics, target. Departures from Kostrikov's code: observations are normalised by
the dataset's moments; layers begin as PyTorch's do; and rewards are left alone unless ``reward_scale`` says otherwise,
where they scale those of MuJoCo's locomotion, which beta = 3 is for: ``reward_scale = 1000 / numpy.ptp(
dataset.episode_returns())``, 1000 over the best less the worst return, is theirs; a D4RL file read by the rule
``qlearning`` has the episodes that they count.
Otherwise the defaults of `Config` and `Hyper` are that code's for locomotion, and those of the preset ``antmaze`` its
numbers for AntMaze; the preset for Pendulum is ours.

  V        |expectile - 1[u < 0]| u^2,   u = q - V(s),   q = min_i Q'_i(s, a)                                   (Eq. 5)
  policy   -w log pi(a|s),   w = min(exp(beta (q - V(s))), 100) held constant                                   (Eq. 7)
  critics  sum over i of (Q_i(s, a) - r - gamma (1 - terminated) V(s'))^2                                       (Eq. 6)
  target   Q' moves by tau towards Q

Shapes: B = batch_size, A = action dimensions, N = rows of the dataset; the two critics are a leading axis. A sweep
adds leading axes, and all its lanes share one dataset, the `task`. Actions are in [-1, 1], whatever the box.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from rlzoo.algorithms.config import Preset, Presets, Structure, bounded_box
from rlzoo.algorithms.hyper import Inner, Positive, Rate, Real, Share, Steps, Weight, checked, numbers
from rlzoo.algorithms.td3_bc import critic_loss, unscaled
from rlzoo.blocks import heads, networks, optim, replay
from rlzoo.blocks.distributions import Normal, bounded_normal
from rlzoo.data.dataset import Dataset, Moments, draw_rows, normalise, task_of
from rlzoo.types import Algorithm, Env, Transition

MOST = 100.0  # of the weight of a cloned action


@dataclass(frozen=True)
class Config(Structure):  # static: fixes shapes, loop lengths and branches
    batch_size: int = 256  # B, drawn with replacement
    hidden: tuple[int, ...] = (256, 256)  # widths of every network's layers
    activation: str = "relu"  # tanh, relu, swish or gelu
    head: str = "normal"  # of the policy; or deterministic, cloned by its squared error
    critic_head: str = "scalar"  # mean, hl_gauss, two_hot or quantile; see rlzoo.blocks.heads; V stays a number
    num_bins: int = 101  # of a classification head; quantiles
    normalise_obs: bool = True  # by the dataset's mean and standard deviation + 0.001
    anneal: str = "cosine"  # how the policy's rate falls to 0 over anneal_steps: cosine or linear
    actor: nn.Module | None = None  # own module, obs -> [B, A] before the tanh; replaces the default
    critic: nn.Module | None = None  # own module, (obs, action) -> [B, 1], or [B, num_bins]; of both critics
    value: nn.Module | None = None  # own module, obs -> [B, 1]
    optim: Callable[..., Any] | None = None  # own, (hyper, updates done) -> optax transformation, or one a part

    def __post_init__(self) -> None:
        self.at_least(1, "batch_size")
        self.widths("hidden")
        self.choice("activation", networks.ACTIVATIONS)
        self.choice("head", ("normal", "deterministic"))
        self.choice("critic_head", heads.NUMBERS)
        self.at_least(2, "num_bins")
        self.choice("anneal", optim.ANNEALING)


@numbers
class Hyper(NamedTuple):  # traced: any leaf may carry a sweep axis
    actor_learning_rate: Rate = 3e-4  # of Adam, falling to 0
    critic_learning_rate: Rate = 3e-4  # of Adam, of critics and V
    anneal_steps: Steps = 1_000_000.0  # updates after which the policy's rate is 0; inf keeps it
    gamma: Share = 0.99  # discount per environment step
    tau: Share = 0.005  # step of the target critics towards what they follow
    expectile: Inner = 0.7  # of Q over the data's actions, that V is; 1 would be the greatest
    beta: Weight = 3.0  # inverse temperature of the advantages' weights, 1 / reward units
    reward_scale: Positive = 1.0  # rewards are scale r + shift
    reward_shift: Real = 0.0  # reward units
    value_low: Real = -10.0  # the lower end of a head's bins, scaled reward units
    value_high: Real = 10.0  # the upper end of a head's bins
    sigma_ratio: Positive = 0.75  # HL-Gauss's standard deviation, in bins; arXiv:2403.03950
    kappa: Weight = 1.0  # where the quantile Huber loss bends, scaled reward units


class Params(NamedTuple):  # of what is learned, or of its optimisers
    actor: chex.ArrayTree
    critics: chex.ArrayTree  # leaves [2, ...]
    value: chex.ArrayTree


class State(NamedTuple):  # all the next update needs, and nothing else
    params: Params
    target: chex.ArrayTree  # critics
    opt_state: Params
    moments: Moments  # of the dataset's observations: acting needs them
    key: chex.PRNGKey
    step: jax.Array  # int32[], updates done; never batched


class Networks(NamedTuple):
    """A policy, two critics and V of one form."""

    twins: networks.TwinCritics
    value: Any  # module, obs -> [B, 1]
    normal: bool  # whether the policy is a distribution

    def init(self, key: jax.Array, obs: Float[Array, "..."], action: Float[Array, "1 A"]) -> Params:
        actor_key, critic_key, value_key = jax.random.split(key, 3)
        actor = {"mean": self.twins.actor.init(actor_key, obs)}
        if self.normal:
            actor["log_std"] = jnp.zeros(action.shape[-1])
        return Params(actor, self.twins.init_critics(critic_key, obs, action), self.value.init(value_key, obs))

    def v(self, params: Any, obs: jax.Array) -> Float[Array, "B"]:
        return self.value.apply(params, obs)[..., 0]

    def act(self, params: Any, obs: jax.Array) -> Float[Array, "B A"]:
        """The policy's mean, in [-1, 1]."""
        return self.twins.act(params["mean"], obs)

    def policy(self, params: Any, obs: jax.Array) -> Normal:
        """Of a normal head."""
        return bounded_normal(self.act(params, obs), params["log_std"])

    def sample(self, params: Any, obs: jax.Array, key: jax.Array, deterministic: bool) -> Float[Array, "B A"]:
        """An action in [-1, 1], or beyond it by the normal's tails."""
        return self.act(params, obs) if deterministic or not self.normal else self.policy(params, obs).sample(key)

    def cloning(self, params: Any, obs: jax.Array, action: jax.Array) -> Float[Array, "B"]:
        """-log pi(a|s), or the squared error summed over dimensions."""
        if self.normal:
            return -self.policy(params, obs).log_prob(action)
        return jnp.sum((self.act(params, obs) - action) ** 2, axis=-1)


def expectile_loss(error: Float[Array, "*B"], expectile: Float[Array, ""] | float) -> Float[Array, "*B"]:
    """|expectile - 1[error < 0]| error^2, Eq. 5, of error = Q - V."""
    return jnp.abs(expectile - (error < 0.0)) * error**2


def advantage_weight(advantage: Float[Array, "*B"], beta: Float[Array, ""] | float) -> Float[Array, "*B"]:
    """min(exp(beta (Q - V)), 100), held constant, Eq. 7."""
    return jax.lax.stop_gradient(jnp.minimum(jnp.exp(beta * advantage), MOST))


def networks_of(env: Env, config: Any, weights: str = "torch", head: heads.Head = heads.SCALAR) -> Networks:
    space = bounded_box(env, "IQL")
    form = partial(
        networks.FeedForward,
        obs_shape=env.obs_space.shape,
        hidden=config.hidden,
        activation=config.activation,
        weights=weights,
    )
    shapes = env.obs_space.shape, (math.prod(space.shape),)
    twins = networks.TwinCritics(
        networks.own(config, "actor", form(*shapes[1]), shapes[0]),
        networks.own(config, "critic", form(head.size), *shapes),
        head,
    )
    return Networks(twins, networks.own(config, "value", form(1), shapes[0]), config.head == "normal")


def optimisers(config: Any, hyper: Any, step: Any) -> Params:
    """Adam of each part."""
    actor = optim.ANNEALING[config.anneal](hyper.actor_learning_rate, step, hyper.anneal_steps)
    return Params(optax.adam(actor), *[optax.adam(hyper.critic_learning_rate)] * 2)


def iql_step(
    nets: Networks,
    adam: Params,
    params: Params,
    target: Any,
    opt_state: Params,
    batch: Transition,
    hyper: Any,
    advantage_before: bool = False,
) -> tuple[Params, Any, Params, dict[str, jax.Array]]:
    """One gradient step on V, the policy, the critics, and the target's, on a minibatch; rewards as they are.

    Args:
        advantage_before: the policy's advantages are of V as it was before its step, as P-IQL's are.
    """
    target_q = nets.twins.q(target, batch.obs, batch.action, hyper).min(axis=0)

    # 1. V: an expectile of the target critics over the data's actions.
    def value_loss(value):
        return expectile_loss(target_q - nets.v(value, batch.obs), hyper.expectile).mean()

    value_error, grads = jax.value_and_grad(value_loss)(params.value)
    value, value_state = optim.descend(adam.value, params.value, opt_state.value, grads)

    # 2. Policy: cloning, weighted by advantages.
    v = nets.v(params.value if advantage_before else value, batch.obs)
    weight = advantage_weight(target_q - v, hyper.beta)

    def policy_loss(actor):
        return jnp.mean(weight * nets.cloning(actor, batch.obs, batch.action))

    policy_error, grads = jax.value_and_grad(policy_loss)(params.actor)
    actor, actor_state = optim.descend(adam.actor, params.actor, opt_state.actor, grads)

    # 3. Critics: r + gamma V(s'), Eq. 6.
    next_v = nets.v(value, batch.next_obs)
    wanted = batch.reward + hyper.gamma * (1.0 - batch.terminated) * next_v

    def q_loss(critics):
        if nets.twins.head == heads.SCALAR:
            return critic_loss(nets.twins.q(critics, batch.obs, batch.action), wanted).mean(axis=-1).sum()
        out = nets.twins.outputs(critics, batch.obs, batch.action)
        error = jax.vmap(lambda one: nets.twins.head.loss(one, wanted, hyper, critic_loss))(out)
        return error.mean(axis=-1).sum()

    critic_error, grads = jax.value_and_grad(q_loss)(params.critics)
    critics, critic_state = optim.descend(adam.critics, params.critics, opt_state.critics, grads)

    # 4. Target.
    target = optim.polyak(target, critics, hyper.tau)
    metrics = {"loss/value": value_error, "loss/policy": policy_error, "loss/critic": critic_error}
    metrics |= {"value/v": v.mean(), "policy/weight": weight.mean()} | nets.twins.head.metrics(wanted, hyper)
    return Params(actor, critics, value), target, Params(actor_state, critic_state, value_state), metrics


def make(env: Env, config: Config, dataset: Dataset, hyper: Hyper = Hyper()) -> Algorithm:
    """IQL on a dataset; ``env`` gives the spaces, and is what the policy is evaluated in.

    Raises:
        ValueError: the dataset is not of this environment, or its actions are discrete.
    """
    hyper = checked(hyper)
    space = bounded_box(env, "IQL")
    task = task_of(dataset, env, "iql", config.normalise_obs)
    nets = networks_of(env, config, head=heads.of(config.critic_head, config.num_bins))

    def own(hyper, step):
        return optim.own(config, hyper, step, optimisers(config, hyper, step))

    def policy(actor, obs, key, deterministic=False):
        params, moments = actor
        return space.from_policy(nets.sample(params, normalise(moments, obs), key, deterministic))

    def init(key, hyper, task):
        key, network_key = jax.random.split(key)
        params = nets.init(network_key, task.transitions.obs[:1], task.transitions.action[:1])
        opt_state = Params(*(adam.init(x) for adam, x in zip(own(hyper, 0), params, strict=True)))
        return State(params, params.critics, opt_state, task.moments, key, jnp.int32(0))

    def step(state, hyper, task):
        key, row_key = jax.random.split(state.key)
        batch = replay.take(task.transitions, draw_rows(task, row_key, (config.batch_size,)))
        batch = batch._replace(reward=hyper.reward_scale * batch.reward + hyper.reward_shift)
        adam = own(hyper, state.step)
        params, target, opt_state, metrics = iql_step(
            nets, adam, state.params, state.target, state.opt_state, batch, hyper
        )
        return State(params, target, opt_state, state.moments, key, state.step + 1), metrics

    def value(state, hyper, obs, action):
        """Mean of the two Q(s, a), in reward units."""
        q = nets.twins.q(state.params.critics, normalise(state.moments, obs), space.to_policy(action), hyper)
        q = unscaled(q.mean(axis=0), hyper)
        return q, jnp.zeros_like(q)

    return Algorithm(
        "iql",
        config,
        env,
        hyper,
        task,
        init,
        step,
        actor=lambda state: (state.params.actor, state.moments),
        policy=policy,
        steps_per_update=1,
        value=value,
        offline=True,
    )


presets = Presets(
    classic=Preset(Config(), Hyper()),
    pendulum=Preset(Config(hidden=(64, 64)), Hyper(anneal_steps=20_000.0)),
    antmaze=Preset(Config(), Hyper(expectile=0.9, beta=10.0, reward_shift=-1.0)),
)
