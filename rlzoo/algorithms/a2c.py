"""Advantage actor-critic (A2C): A3C with its actors in lockstep, for discrete and continuous actions.

Mnih et al. 2016, arXiv:1602.01783, Alg. S3; advantages: Schulman et al. 2016, arXiv:1506.02438, Eq. 16.
Shapes: T = num_steps, N = num_envs; arrays are time-major [T, N, ...]; a sweep adds leading axes.

  delta_t = r_t + gamma (1 - terminated_t) V(s_{t+1}) - V(s_t)
  A_t     = delta_t + gamma gae_lambda (1 - done_t) A_{t+1},   A_T = 0,   R_t = A_t + V(s_t)
  loss    = mean of -log pi(a_t|s_t) A_t + value_coef (R_t - V(s_t))^2 / 2 - entropy_coef H(pi(.|s_t))

A_t and R_t are held constant; done is terminated or truncated.

Departures from the paper: N environments step together and give one gradient, the mean over their T N steps, which goes
on through resets and is clipped at 0.5; policy and value share no layers but those of images, initialisation is
orthogonal, the rate is constant unless ``anneal_steps`` is given; and, where asked for, as by the presets, normalised
observations and rewards, lambda-returns and Adam. Episodes cut by a time limit bootstrap from the value of their true
last observation.

The numbers of `Hyper` are those of OpenAI Baselines' A2C, where the rate falls to 0, RMSProp's averages begin at 1 and
``value_coef`` is on the whole squared error; ``num_envs`` and ``num_steps`` are the paper's threads and t_max. Networks
and presets are ours.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from rlzoo.algorithms.a3c import actor_critic_loss
from rlzoo.algorithms.config import Preset, Presets, Structure
from rlzoo.algorithms.hyper import Bound, Decay, Positive, Rate, Real, Share, Steps, Weight, checked, numbers
from rlzoo.blocks import heads, moments, networks, optim, returns, rollout
from rlzoo.types import Algorithm, Env, environment

INF = float("inf")


@dataclass(frozen=True)
class Config(Structure):  # static: fixes shapes, loop lengths and branches
    num_envs: int = 16  # N
    num_steps: int = 5  # T, steps per environment between updates
    optimiser: str = "rmsprop"  # rmsprop or adam
    hidden: tuple[int, ...] = (64, 64)  # widths of the policy's and of the value's layers
    activation: str = "tanh"  # tanh, relu, swish or gelu
    init_std: float = 1.0  # of a continuous policy at the start, in units of half the action box
    normalise_obs: bool = False  # by running moments, which the state carries
    normalise_reward: bool = False  # by the running standard deviation of the discounted return
    head: str = "scalar"  # of the value: mean, hl_gauss, two_hot or quantile; see rlzoo.blocks.heads
    num_bins: int = 101  # of a classification head; quantiles
    anneal: str = "linear"  # how the rate falls to 0 over anneal_steps: linear or cosine
    network: nn.Module | None = None  # own, obs -> (distribution, value [*B] or [*B, bins]); replaces hidden, init_std
    optim: Callable[..., Any] | None = None  # own, (hyper, updates done) -> an optax transformation

    def __post_init__(self) -> None:
        self.at_least(1, "num_envs", "num_steps")
        self.choice("optimiser", optim.OPTIMISERS)
        self.widths("hidden")
        self.choice("activation", networks.ACTIVATIONS)
        self.positive("init_std")
        self.choice("anneal", optim.ANNEALING)
        self.at_least(2, "num_bins")
        self.choice("head", heads.NUMBERS)


@numbers
class Hyper(NamedTuple):  # traced: any leaf may carry a sweep axis
    learning_rate: Rate = 7e-4  # of the optimiser
    anneal_steps: Steps = INF  # environment steps until the rate has fallen linearly to 0; inf: constant
    gamma: Share = 0.99  # discount per environment step
    gae_lambda: Share = 1.0  # trace decay per environment step; 1: the paper's longest n-step return
    entropy_coef: Weight = 0.01  # beta of the paper's Section 4, reward units per nat
    value_coef: Weight = 0.5  # on half the squared error
    max_grad_norm: Bound = 0.5  # global L2 norm of the mean gradient; inf: not clipped
    decay: Decay = 0.99  # of the average of squared gradients: RMSProp's, or Adam's beta_2
    eps: Positive = 1e-5  # RMSProp's inside its root, Adam's outside
    value_low: Real = -10.0  # the lower end of a head's bins, scaled reward units
    value_high: Real = 10.0  # the upper end of a head's bins
    sigma_ratio: Positive = 0.75  # HL-Gauss's standard deviation, in bins; arXiv:2403.03950
    kappa: Weight = 1.0  # where the quantile Huber loss bends, scaled reward units


class State(NamedTuple):  # all the next update needs, and nothing else
    params: chex.ArrayTree
    opt_state: optax.OptState
    envs: rollout.Envs  # N environments in the middle of their episodes
    obs_moments: moments.Moments  # as used to act *and* to learn; renewed after each update
    return_moments: moments.Moments  # of the discounted return: the unit of reward
    running_return: jax.Array  # f32[N], discounted, of the episodes so far
    key: chex.PRNGKey
    step: jax.Array  # int32[], updates done; never batched


class Actor(NamedTuple):  # what acting needs
    params: chex.ArrayTree
    obs_moments: moments.Moments


def make(env: Env, config: Config = Config(), hyper: Hyper = Hyper()) -> Algorithm:
    """A2C for an environment: see `Config` for its structure, `Hyper` for its numbers, `presets` for tuned pairs."""
    environment(env, "A2C")
    hyper = checked(hyper)
    head = heads.of(config.head, config.num_bins)
    default = networks.actor_critic(env, config.hidden, config.activation, config.init_std, head=head)
    network = networks.own(config, "network", default, env.obs_space.shape, batches=((3,), (2, 3)))
    forward = networks.policy_and_value(network, head)  # params, normalised obs -> distribution, the value's outputs
    batch_size = config.num_envs * config.num_steps

    def normalise(obs_moments, obs):
        return moments.normalise(obs_moments, obs) if config.normalise_obs else obs

    def optimiser(hyper, step):
        rate = optim.ANNEALING[config.anneal](hyper.learning_rate, jnp.float32(batch_size) * step, hyper.anneal_steps)
        default = optim.OPTIMISERS[config.optimiser](rate, hyper.max_grad_norm, hyper.decay, hyper.eps)
        return optim.own(config, hyper, step, default)

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
            opt_state=optimiser(hyper, jnp.int32(0)).init(params),
            envs=envs,
            obs_moments=moments.init(env.obs_space.shape),
            return_moments=moments.init(),
            running_return=jnp.zeros(config.num_envs),
            key=key,
            step=jnp.int32(0),
        )

    def step(state, hyper, task):
        # 1. Act: T steps in each of N environments with the current policy.
        key, act_key = jax.random.split(state.key)

        def act(obs, key):
            pi, out = forward(state.params, normalise(state.obs_moments, obs))
            action = pi.sample(key)
            return env.action_space.from_policy(action), (action, head.value(out, hyper))

        envs, batch, (action, value), episodes = rollout.collect(env, act, state.envs, act_key, task, config.num_steps)

        # 2. Fix the targets. batch.next_obs precedes any reset, so truncated episodes bootstrap.
        reward, return_moments, running_return = batch.reward, state.return_moments, state.running_return
        if config.normalise_reward:
            done = batch.terminated | batch.truncated
            scaled = moments.scale_rewards(return_moments, running_return, reward, done, hyper.gamma)
            reward, return_moments, running_return = scaled
        next_value = head.value(forward(state.params, normalise(state.obs_moments, batch.next_obs))[1], hyper)
        advantage = returns.gae(
            reward, batch.terminated, batch.truncated, value, next_value, hyper.gamma, hyper.gae_lambda
        )
        obs, target = normalise(state.obs_moments, batch.obs), advantage + value  # the lambda-return
        obs, action, target = rollout.flatten((obs, action, target))

        # 3. One gradient step on the three-term loss.
        def loss(params):
            pi, out = forward(params, obs)
            value = head.value(out, hyper)
            surrogate, squared = actor_critic_loss(pi.log_prob(action), value, target)
            value_error = head.loss(out, target, hyper, lambda *_: squared)
            entropy = pi.entropy()
            total = jnp.mean(surrogate + hyper.value_coef * value_error - hyper.entropy_coef * entropy)
            terms = {"loss/policy": surrogate, "loss/value": value_error, "policy/entropy": entropy}
            metrics = {name: x.mean() for name, x in terms.items()}
            return total, metrics | {"value/explained_variance": returns.explained_variance(value, target)}

        grads, metrics = jax.grad(loss, has_aux=True)(state.params)
        params, opt_state = optim.descend(optimiser(hyper, state.step), state.params, state.opt_state, grads)

        # 4. Renew the moments: the next rollout acts and learns with these.
        obs_moments = moments.update(state.obs_moments, batch.obs) if config.normalise_obs else state.obs_moments
        state = State(params, opt_state, envs, obs_moments, return_moments, running_return, key, state.step + 1)
        return state, metrics | head.metrics(target, hyper) | episodes

    def value(state, hyper, obs, action):
        """V(s) in reward units, and no bonus."""
        value = head.value(forward(state.params, normalise(state.obs_moments, obs))[1], hyper)
        return moments.unscale(state.return_moments, value) if config.normalise_reward else value, jnp.zeros_like(value)

    functions = init, step, actor, policy
    return Algorithm("a2c", config, env, hyper, env.params, *functions, steps_per_update=batch_size, value=value)


presets = Presets(
    classic=Preset(Config(num_steps=25, optimiser="adam", normalise_obs=True, normalise_reward=True), Hyper()),
    minatar=Preset(
        Config(num_envs=32, num_steps=25, optimiser="adam", activation="relu"),
        Hyper(learning_rate=1e-3, gae_lambda=0.95),
    ),
)
