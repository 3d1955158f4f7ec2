"""Proximal policy optimisation (PPO), clipped surrogate, for discrete and continuous actions.

Schulman et al. 2017, arXiv:1707.06347, Eq. 7 and 9, Alg. 1; advantages: Schulman et al. 2016, arXiv:1506.02438, Eq. 16.
Shapes: T = num_steps, N = num_envs, B = T N / num_minibatches; arrays are time-major [T, N, ...];
a sweep adds leading axes.

  delta_t = r_t + gamma (1 - terminated_t) V_old(s_{t+1}) - V_old(s_t)
  A_t     = delta_t + gamma gae_lambda (1 - done_t) A_{t+1},   A_T = 0,   R_t = A_t + V_old(s_t)
  ratio_t = pi(a_t|s_t) / pi_old(a_t|s_t)
  L_clip  = mean of min(ratio_t A_t, clip(ratio_t, 1 - clip_eps, 1 + clip_eps) A_t)                (Eq. 7)
  loss    = -L_clip + mean of value_coef (V(s_t) - R_t)^2 / 2 - entropy_coef H(pi(.|s_t))          (Eq. 9, negated)

pi_old and V_old are those that acted; A_t and R_t are held constant; done is terminated or truncated.

Departures from the paper, all common practice (Engstrom et al. 2020, arXiv:2005.12729; Andrychowicz et al. 2021,
arXiv:2006.05990): orthogonal initialisation, normalised observations and rewards, cut at +-10, normalised advantages,
Adam's eps of 1e-5, gradients clipped by their global norm, and, where asked for, a clipped value loss and no further
gradient steps once the KL divergence is too large. Episodes cut by a time limit bootstrap from the value of their true
last observation.

Defaults whose source is not named beside them are ours, among them a batch of 2000 steps in minibatches of 250, where
Table 3 has 2048 and 64; so are the presets.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from rlzoo.algorithms.config import Preset, Presets, Structure
from rlzoo.algorithms.hyper import Bound, Limit, Positive, Rate, Real, Share, Steps, Weight, checked, numbers
from rlzoo.blocks import heads, moments, networks, optim, returns, rollout
from rlzoo.types import Algorithm, Env, environment

INF = float("inf")


@dataclass(frozen=True)
class Config(Structure):  # static: fixes shapes, loop lengths and branches
    num_envs: int = 16  # N
    num_steps: int = 125  # T, steps per environment between updates; 16 x 125 = 2000 divides round budgets
    num_epochs: int = 10  # passes over each batch; arXiv:1707.06347, Table 3
    num_minibatches: int = 8  # gradient steps per epoch, on B = T N / num_minibatches transitions
    hidden: tuple[int, ...] = (64, 64)  # widths of the policy's and of the value's layers; Section 6.1
    activation: str = "tanh"  # tanh, relu, swish or gelu; Section 6.1
    init_std: float = 1.0  # of a continuous policy at the start, in units of half the action box
    normalise_obs: bool = True  # by running moments, which the state carries
    normalise_reward: bool = True  # by the running standard deviation of the discounted return
    normalise_advantage: bool = True  # per minibatch
    head: str = "scalar"  # of the value: mean, hl_gauss, two_hot or quantile; see rlzoo.blocks.heads
    num_bins: int = 101  # of a classification head; quantiles
    anneal: str = "linear"  # how the rate falls to 0 over anneal_steps: linear or cosine
    compute_dtype: str = "float32"  # of default networks' products, or bfloat16; sums, losses, parameters are float32
    network: nn.Module | None = None  # own, obs -> (distribution, value [*B] or [*B, bins]); replaces hidden, init_std
    optim: Callable[..., Any] | None = None  # own, (hyper, updates done) -> an optax transformation

    def __post_init__(self) -> None:
        self.at_least(1, "num_envs", "num_steps", "num_epochs", "num_minibatches")
        self.divides("num_minibatches", "num_envs * num_steps", self.num_envs * self.num_steps)
        self.widths("hidden")
        self.choice("activation", networks.ACTIVATIONS)
        self.positive("init_std")
        self.at_least(2, "num_bins")
        self.choice("head", heads.NUMBERS)
        self.choice("anneal", optim.ANNEALING)
        self.dtype("compute_dtype", "network")
        if self.normalise_advantage and self.num_envs * self.num_steps == self.num_minibatches:
            raise ValueError(
                f"num_minibatches={self.num_minibatches} leaves one transition in each, which cannot be normalised; "
                "use fewer, or normalise_advantage=False"
            )


@numbers
class Hyper(NamedTuple):  # traced: any leaf may carry a sweep axis
    learning_rate: Rate = 3e-4  # of Adam; arXiv:1707.06347, Table 3
    anneal_steps: Steps = INF  # environment steps until the rate has fallen linearly to 0; inf: constant
    gamma: Share = 0.99  # discount per environment step; Table 3
    gae_lambda: Share = 0.95  # trace decay per environment step; Table 3
    clip_eps: Bound = 0.2  # epsilon of Eq. 7, on the probability ratio; Table 1
    value_clip_eps: Bound = INF  # largest change of the value per update, in scaled reward units; inf: not clipped
    entropy_coef: Weight = 0.0  # reward units per nat, c2 of Eq. 9; none in Section 6.1
    value_coef: Weight = 0.5  # c1 of Eq. 9, on half the squared error; OpenAI Baselines' PPO2
    max_grad_norm: Bound = 0.5  # global L2 norm; inf: not clipped; OpenAI Baselines' PPO2
    target_kl: Limit = INF  # nats; once a minibatch exceeds it, the update takes no further gradient step
    value_low: Real = -10.0  # the lower end of a head's bins, scaled reward units
    value_high: Real = 10.0  # the upper end of a head's bins
    sigma_ratio: Positive = 0.75  # HL-Gauss's standard deviation, in bins; arXiv:2403.03950
    kappa: Weight = 1.0  # where the quantile Huber loss bends, scaled reward units


class State(NamedTuple):  # all the next update needs, and nothing else
    params: chex.ArrayTree
    opt_state: optax.OptState
    envs: rollout.Envs  # N environments in the middle of their episodes
    obs_moments: moments.Moments  # as used to act *and* to learn; renewed after each update
    return_moments: moments.Moments  # of the discounted return: the unit of reward, if rewards are scaled
    running_return: jax.Array  # f32[N], discounted, of the episodes so far, likewise
    key: chex.PRNGKey
    step: jax.Array  # int32[], updates done; never batched


class Actor(NamedTuple):  # what acting needs
    params: chex.ArrayTree
    obs_moments: moments.Moments


class Minibatch(NamedTuple):  # [B, ...]
    obs: jax.Array  # normalised
    action: jax.Array  # as sampled, before it is fitted into the action box
    log_prob: jax.Array  # of the policy that acted
    value: jax.Array  # before the update
    advantage: jax.Array
    target: jax.Array  # the lambda-return: advantage + value


def policy_loss(
    log_prob: Float[Array, "*B"],
    old_log_prob: Float[Array, "*B"],
    advantage: Float[Array, "*B"],
    clip_eps: Float[Array, ""] | float,
) -> Float[Array, "*B"]:
    """The clipped surrogate, Eq. 7, as a loss: -min(r A, clip(r, 1 - eps, 1 + eps) A),  r = pi(a|s) / pi_old(a|s)."""
    ratio = jnp.exp(log_prob - old_log_prob)
    return -jnp.minimum(ratio * advantage, jnp.clip(ratio, 1.0 - clip_eps, 1.0 + clip_eps) * advantage)


def value_loss(
    value: Float[Array, "*B"],
    old_value: Float[Array, "*B"],
    target: Float[Array, "*B"],
    clip_eps: Float[Array, ""] | float,
) -> Float[Array, "*B"]:
    """(V - target)^2, or if larger that of V clipped to old_value +- eps (Engstrom et al. 2020); eps = inf: never."""
    clipped = old_value + jnp.clip(value - old_value, -clip_eps, clip_eps)
    return jnp.maximum((value - target) ** 2, (clipped - target) ** 2)


def random_order(key: chex.PRNGKey, n: int) -> Int[Array, "n"]:
    """A random permutation of 0 .. n-1: sort random words that carry their index in the low bits.

    One sort of one array, where jax.random.permutation sorts pairs, and more than once. Among the few words (about
    n^3 / 2^32 pairs) whose random bits are equal, the order is that of the indices.
    """
    index_bits = max(n - 1, 1).bit_length()
    words = (jax.random.bits(key, (n,), jnp.uint32) << index_bits) | jnp.arange(n, dtype=jnp.uint32)
    words = jnp.sort(jax.lax.bitcast_convert_type(words, jnp.int32))
    return words & ((1 << index_bits) - 1)


def make(env: Env, config: Config = Config(), hyper: Hyper = Hyper()) -> Algorithm:
    """PPO for an environment: see `Config` for its structure, `Hyper` for its numbers, `presets` for tuned pairs."""
    environment(env, "PPO")
    hyper = checked(hyper)
    head = heads.of(config.head, config.num_bins)
    if head.kind not in ("scalar", "mean") and np.isfinite(hyper.value_clip_eps).any():
        raise ValueError(
            f"value_clip_eps={hyper.value_clip_eps} clips a squared error; head={head.kind!r} has none: leave it inf"
        )
    form = config.hidden, config.activation, config.init_std, config.compute_dtype, head
    default = networks.actor_critic(env, *form)
    network = networks.own(config, "network", default, env.obs_space.shape, batches=((3,), (2, 3)))
    forward = networks.policy_and_value(network, head)  # params, normalised obs -> distribution, the value's outputs
    batch_size = config.num_envs * config.num_steps
    minibatches_shape = (config.num_minibatches, batch_size // config.num_minibatches)
    parts = max(n for n in range(1, config.num_minibatches + 1) if config.num_steps % n == 0)

    def normalise(obs_moments, obs):
        return moments.normalise(obs_moments, obs) if config.normalise_obs else obs

    def values(params, obs, hyper):
        """V [T, N], some times at once: of all at once the hidden layers would be the largest arrays of an update."""
        times = jax.tree.map(lambda x: x.reshape(parts, config.num_steps // parts, *x.shape[1:]), obs)
        found = jax.lax.map(lambda obs: head.value(forward(params, obs)[1], hyper), times)
        return found.reshape(config.num_steps, config.num_envs)

    def optimiser(hyper, step):
        rate = optim.ANNEALING[config.anneal](hyper.learning_rate, jnp.float32(batch_size) * step, hyper.anneal_steps)
        return optim.own(config, hyper, step, optim.adam(rate, hyper.max_grad_norm))

    def actor(state):
        return Actor(state.params, state.obs_moments)

    def policy(actor, obs, key, deterministic=False):
        pi, _ = forward(actor.params, normalise(actor.obs_moments, obs))
        return env.action_space.from_policy(pi.mode() if deterministic else pi.sample(key))

    def init(key, hyper, task):
        key, net_key, env_key = jax.random.split(key, 3)
        envs = rollout.init(env, env_key, task, config.num_envs)
        params = network.init(net_key, envs.obs)
        return State(
            params=params,
            opt_state=optimiser(hyper, 0).init(params),
            envs=envs,
            obs_moments=moments.init(env.obs_space.shape),
            return_moments=moments.init(),
            running_return=jnp.zeros(config.num_envs),
            key=key,
            step=jnp.int32(0),
        )

    def step(state, hyper, task):
        # 1. Act: T steps in each of N environments with the current policy.
        key, act_key, shuffle_key = jax.random.split(state.key, 3)

        def act(obs, key):
            pi, out = forward(state.params, normalise(state.obs_moments, obs))
            action = pi.sample(key)
            return env.action_space.from_policy(action), (action, pi.log_prob(action), head.value(out, hyper))

        envs, batch, acted, episodes = rollout.collect(env, act, state.envs, act_key, task, config.num_steps)
        action, log_prob, value = acted  # [T, N, ...]

        # 2. Fix the targets. batch.next_obs precedes any reset, so truncated episodes bootstrap.
        reward, return_moments, running_return = batch.reward, state.return_moments, state.running_return
        if config.normalise_reward:
            done = batch.terminated | batch.truncated
            scaled = moments.scale_rewards(return_moments, running_return, reward, done, hyper.gamma)
            reward, return_moments, running_return = scaled
        next_value = values(state.params, normalise(state.obs_moments, batch.next_obs), hyper)
        advantage = returns.gae(
            reward, batch.terminated, batch.truncated, value, next_value, hyper.gamma, hyper.gae_lambda
        )
        obs = normalise(state.obs_moments, batch.obs)
        data = Minibatch(obs, action, log_prob, value, advantage, target=advantage + value)
        data = rollout.flatten(data)

        # 3. The loss of a minibatch: Eq. 9.
        def loss(params, batch):
            pi, out = forward(params, batch.obs)
            new_log_prob, advantage = pi.log_prob(batch.action), batch.advantage
            if config.normalise_advantage:
                advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
            surrogate = policy_loss(new_log_prob, batch.log_prob, advantage, hyper.clip_eps).mean()
            squared = lambda value, target: 0.5 * value_loss(value, batch.value, target, hyper.value_clip_eps)  # noqa: E731
            value_error = head.loss(out, batch.target, hyper, squared).mean()
            entropy = pi.entropy().mean()
            total = surrogate + hyper.value_coef * value_error - hyper.entropy_coef * entropy

            log_ratio = new_log_prob - batch.log_prob
            excess = jnp.exp(log_ratio) - 1.0
            return total, {
                "loss/policy": surrogate,
                "loss/value": value_error,
                "policy/entropy": entropy,
                "policy/approx_kl": jnp.mean(excess - log_ratio),  # KL(old || new) in nats, each term >= 0
                "policy/clip_fraction": jnp.mean(jnp.abs(excess) > hyper.clip_eps),
            }

        # 4. Improve: epochs of minibatches, each in a new order, until the policy has moved too far.
        adam = optimiser(hyper, state.step)

        def minibatch_step(carry, rows):
            params, opt_state, go = carry
            grads, metrics = jax.grad(loss, has_aux=True)(params, jax.tree.map(lambda x: x[rows], data))
            go &= metrics["policy/approx_kl"] <= hyper.target_kl
            new = optim.descend(adam, params, opt_state, grads)
            params, opt_state = jax.tree.map(lambda new, old: jnp.where(go, new, old), new, (params, opt_state))
            return (params, opt_state, go), metrics | {"policy/steps_taken": go.astype(jnp.float32)}

        def epoch(carry, key):
            return jax.lax.scan(minibatch_step, carry, random_order(key, batch_size).reshape(minibatches_shape))

        start = state.params, state.opt_state, jnp.array(True)
        (params, opt_state, _), metrics = jax.lax.scan(epoch, start, jax.random.split(shuffle_key, config.num_epochs))

        # 5. Renew the moments: the next rollout acts and learns with these.
        obs_moments = moments.update(state.obs_moments, batch.obs) if config.normalise_obs else state.obs_moments
        metrics = jax.tree.map(jnp.mean, metrics) | episodes
        metrics["value/explained_variance"] = returns.explained_variance(data.value, data.target)
        metrics |= head.metrics(data.target, hyper)
        state = State(params, opt_state, envs, obs_moments, return_moments, running_return, key, state.step + 1)
        return state, metrics

    def value(state, hyper, obs, action):
        """V(s) in reward units, and no bonus."""
        value = head.value(forward(state.params, normalise(state.obs_moments, obs))[1], hyper)
        return moments.unscale(state.return_moments, value) if config.normalise_reward else value, jnp.zeros_like(value)

    functions = init, step, actor, policy
    return Algorithm("ppo", config, env, hyper, env.params, *functions, steps_per_update=batch_size, value=value)


presets = Presets(
    classic=Preset(Config(), Hyper(anneal_steps=1e6)),
    minatar=Preset(
        Config(num_envs=64, num_steps=125, num_epochs=4, num_minibatches=16, activation="relu", normalise_obs=False),
        Hyper(learning_rate=1e-3, anneal_steps=1e7, entropy_coef=0.01),
    ),
    brax=Preset(
        Config(num_envs=16, num_steps=250, init_std=0.5),
        Hyper(learning_rate=6e-4, anneal_steps=5e6, gamma=0.999, gae_lambda=0.99),
    ),
)
