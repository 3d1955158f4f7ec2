"""TD3+BC: twin delayed deep deterministic policy gradient, with behaviour cloning as its only regulariser; offline.

Fujimoto & Gu 2021, arXiv:2106.06860, Eq. 3 and 5; TD3: Fujimoto et al. 2018, arXiv:1802.09477, Alg. 1.
Shapes: B = batch_size, A = action dimensions, N = rows of the dataset; the two critics are a leading axis. A sweep
adds leading axes, and all its lanes share one dataset, the `task`.

  critics  sum over i of (Q_i(s, a) - y)^2,   y = r + gamma (1 - terminated) min_i Q'_i(s', a')
           a' = clip(pi'(s') + clip(policy_noise n, -noise_clip, noise_clip), -1, 1),   n of a standard normal
  policy   -lambda Q_1(s, pi(s)) + mean over A of (pi(s) - a)^2,   lambda = alpha / mean over B of |Q_1(s, pi(s))|
  targets  pi', Q' move by tau towards pi, Q;   y and lambda are held constant

One `step` is ``policy_delay`` critic steps and then one of the policy and of all targets, on the last minibatch: TD3's
counter, which starts at 1, without a branch. The budget of an offline run counts critic steps. Actions are in [-1, 1],
whatever the environment's box. As in the authors' code observations are normalised by the dataset's moments, and lambda
is of the mean |Q| at the policy's actions, where Eq. 5 has the data's. Defaults of `Config` and `Hyper` are that code's
too; the presets for Pendulum's datasets are ours, chosen on other keys than those of the results.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from rlzoo.algorithms.config import Preset, Presets, Structure, bounded_box
from rlzoo.algorithms.hyper import Limit, Positive, Rate, Real, Share, Weight, checked, numbers
from rlzoo.blocks import heads, networks, optim, replay
from rlzoo.data.dataset import Dataset, Moments, draw_rows, normalise, task_of
from rlzoo.types import Algorithm, Env


@dataclass(frozen=True)
class Config(Structure):  # static: fixes shapes, loop lengths and branches
    batch_size: int = 256  # B, drawn with replacement
    policy_delay: int = 2  # critic steps for each step of policy and targets
    hidden: tuple[int, ...] = (256, 256)  # widths of the policy's and of each critic's layers
    activation: str = "relu"  # tanh, relu, swish or gelu
    layer_norm: bool = False  # in the critics, before each activation
    head: str = "scalar"  # of critics: mean, hl_gauss, two_hot, c51 or quantile; see rlzoo.blocks.heads
    num_bins: int = 101  # of a classification head; quantiles
    normalise_obs: bool = True  # by the dataset's mean and standard deviation + 0.001
    compute_dtype: str = "float32"  # of default networks' products, or bfloat16; sums, losses, parameters are float32
    actor: nn.Module | None = None  # own module, obs -> [B, A] before the tanh; replaces the default
    critic: nn.Module | None = None  # own module, (obs, action) -> [B, 1], or [B, num_bins]; of both critics
    optim: Callable[..., Any] | None = None  # own, (hyper, updates done) -> optax transformation, or one a part

    def __post_init__(self) -> None:
        self.at_least(1, "batch_size", "policy_delay")
        self.at_least(2, "num_bins")
        self.choice("head", heads.HEADS)
        self.widths("hidden")
        self.choice("activation", networks.ACTIVATIONS)
        self.dtype("compute_dtype", "actor", "critic")


@numbers
class Hyper(NamedTuple):  # traced: any leaf may carry a sweep axis
    actor_learning_rate: Rate = 3e-4  # of Adam
    critic_learning_rate: Rate = 3e-4  # of Adam
    gamma: Share = 0.99  # discount per environment step
    tau: Share = 0.005  # step of the targets towards what they follow
    policy_noise: Weight = 0.2  # standard deviation of the noise on the target's action, of actions in [-1, 1]
    noise_clip: Limit = 0.5  # bound of that noise
    alpha: Weight = 2.5  # weight of the value against cloning
    reward_scale: Positive = 1.0  # rewards are scale r + shift
    reward_shift: Real = 0.0  # reward units
    value_low: Real = -10.0  # the lower end of a head's bins, scaled reward units
    value_high: Real = 10.0  # the upper end of a head's bins
    sigma_ratio: Positive = 0.75  # HL-Gauss's standard deviation, in bins; arXiv:2403.03950
    kappa: Weight = 1.0  # where the quantile Huber loss bends, scaled reward units


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


def smoothed(
    action: Float[Array, "*B A"],
    noise: Float[Array, "*B A"],
    policy_noise: Float[Array, ""] | float,
    noise_clip: Float[Array, ""] | float,
) -> Float[Array, "*B A"]:
    """clip(action + clip(policy_noise noise, -noise_clip, noise_clip), -1, 1): the target policy, smoothed."""
    return jnp.clip(action + jnp.clip(policy_noise * noise, -noise_clip, noise_clip), -1.0, 1.0)


def td_target(
    reward: Float[Array, "*B"],
    terminated: Bool[Array, "*B"],
    next_q: Float[Array, "E *B"],
    gamma: Float[Array, ""] | float,
) -> Float[Array, "*B"]:
    """r + gamma (1 - terminated) min_i Q_i(s', a'), held constant."""
    return jax.lax.stop_gradient(reward + gamma * (1.0 - terminated) * next_q.min(axis=0))


def critic_loss(q: Float[Array, "*E B"], target: Float[Array, "B"]) -> Float[Array, "*E B"]:
    """(Q(s, a) - target)^2, of one critic or of each."""
    return (q - target) ** 2


def value_loss(q: Float[Array, "*B"], alpha: Float[Array, ""] | float) -> Float[Array, "*B"]:
    """-lambda Q(s, pi(s)) with lambda = alpha / mean |Q(s, pi(s))|, held constant: Eq. 5 in the authors' code."""
    return -alpha / jax.lax.stop_gradient(jnp.abs(q).mean()) * q


def cloning_loss(action: Float[Array, "*B A"], wanted: Float[Array, "*B A"]) -> Float[Array, "*B"]:
    """(pi(s) - a)^2, the mean over action dimensions."""
    return jnp.mean((action - wanted) ** 2, axis=-1)


def unscaled(q: Float[Array, "*B"], hyper: Any) -> Float[Array, "*B"]:
    """Values of scale r + shift as values of r; NaN with a shift, which counts for as long as episodes last."""
    return jnp.where(hyper.reward_shift == 0.0, q / hyper.reward_scale, jnp.nan)


def critic_step(
    nets: networks.TwinCritics,
    adam: optax.GradientTransformation,
    target: Any,
    task: Any,
    hyper: Any,
    carry: tuple[Any, Any],
    rows: Int[Array, "B"],
    noise: Float[Array, "B A"],
) -> tuple[tuple[Any, Any], dict[str, jax.Array]]:
    """TD3's critic step on rows of a dataset, see `learned`.

    Args:
        task: holds the ``transitions``. hyper: gamma, the noise's and the reward's numbers.
        carry: critics and their optimiser's state. noise: standard normal.
    """
    batch = replay.take(task.transitions, rows)
    reward = hyper.reward_scale * batch.reward + hyper.reward_shift
    discount = hyper.gamma * (1.0 - batch.terminated)
    steps = replay.Steps(batch.obs, batch.action, reward, discount, batch.next_obs)
    return learned(nets, adam, target, steps, hyper, carry, noise)


def learned(
    nets: networks.TwinCritics,
    adam: optax.GradientTransformation,
    target: Any,
    batch: replay.Steps,
    hyper: Any,
    carry: tuple[Any, Any],
    noise: Float[Array, "B A"],
) -> tuple[tuple[Any, Any], dict[str, jax.Array]]:
    """TD3's critic step on a minibatch, towards the target policy and the target critics in ``target``.

    Of heads that learn a distribution the target is that of the critic with the least mean.
    """
    critics, opt_state = carry
    next_action = smoothed(nets.act(target.actor, batch.next_obs), noise, hyper.policy_noise, hyper.noise_clip)
    next_out = nets.outputs(target.critics, batch.next_obs, next_action)
    wanted = nets.head.target(next_out, batch.reward, batch.discount, hyper)

    def loss(critic_params):
        out = nets.outputs(critic_params, batch.obs, batch.action)
        q = nets.head.value(out, hyper)
        if nets.head == heads.SCALAR:
            return critic_loss(q, wanted).mean(axis=-1).sum(), q.mean()
        error = jax.vmap(lambda one: nets.head.loss(one, wanted, hyper, critic_loss))(out)
        return error.mean(axis=-1).sum(), q.mean()

    (error, q), grads = jax.value_and_grad(loss, has_aux=True)(critics)
    metrics = {"loss/critic": error, "value/q": q} | nets.head.metrics(wanted, hyper)
    return optim.descend(adam, critics, opt_state, grads), metrics


def make(env: Env, config: Config, dataset: Dataset, hyper: Hyper = Hyper()) -> Algorithm:
    """TD3+BC on a dataset; ``env`` gives the spaces, and is what the policy is evaluated in.

    Raises:
        ValueError: the dataset is not of this environment, or its actions are discrete.
    """
    hyper = checked(hyper)
    space = bounded_box(env, "TD3+BC")
    task = task_of(dataset, env, "td3_bc", config.normalise_obs)
    num_actions = task.transitions.action.shape[-1]

    network, head = networks.feed_forward(env, config), heads.of(config.head, config.num_bins)
    shapes = env.obs_space.shape, (num_actions,)
    nets = networks.TwinCritics(
        networks.own(config, "actor", network(num_actions), shapes[0]),
        networks.own(config, "critic", network(head.size, layer_norm=config.layer_norm), *shapes),
        head,
    )

    def policy(actor, obs, key, deterministic=False):
        params, moments = actor
        return space.from_policy(nets.act(params, normalise(moments, obs)))

    def optimisers(hyper, step):
        default = Params(optax.adam(hyper.actor_learning_rate), optax.adam(hyper.critic_learning_rate))
        return optim.own(config, hyper, step, default)

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

        # 2. Policy: the first critic's value, and the dataset's action, on the last minibatch.
        batch = replay.take(task.transitions, rows[-1])

        def loss(actor_params):
            action = nets.act(actor_params, batch.obs)
            value_term = value_loss(nets.first_q(critics, batch.obs, action, hyper), hyper.alpha).mean()
            cloning = cloning_loss(action, batch.action).mean()
            return value_term + cloning, {"loss/policy": value_term, "loss/cloning": cloning}

        grads, measured = jax.grad(loss, has_aux=True)(params.actor)
        actor, actor_state = optim.descend(adam.actor, params.actor, state.opt_state.actor, grads)

        # 3. Targets.
        params = Params(actor, critics)
        target = optim.polyak(target, params, hyper.tau)
        metrics = jax.tree.map(jnp.mean, metrics) | measured
        return State(params, target, Params(actor_state, critic_state), state.moments, key, state.step + 1), metrics

    def value(state, hyper, obs, action):
        """Mean of the two Q(s, a), in reward units."""
        q = nets.q(state.params.critics, normalise(state.moments, obs), space.to_policy(action), hyper)
        q = unscaled(q.mean(axis=0), hyper)
        return q, jnp.zeros_like(q)

    return Algorithm(
        "td3_bc",
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


_SMALL = Config(hidden=(64, 64))  # for Pendulum; its numbers were chosen on other keys than those of the results
presets = Presets(
    classic=Preset(Config(), Hyper()),
    pendulum=Preset(_SMALL, Hyper(alpha=1.0)),
    pendulum_medium_replay=Preset(_SMALL, Hyper(alpha=40.0)),
)
