"""GA3C: asynchronous actor-critic with one network for all agents, its two queues simulated as two fixed lags.

Babaeizadeh et al. 2017, arXiv:1611.06256; the loss: Mnih et al. 2016, arXiv:1602.01783, Alg. S3.
Shapes: T = num_steps, N = num_envs; arrays are time-major [T, N, ...]; a sweep adds leading axes.

  delta_t = r_t + gamma (1 - terminated_t) V'(s_{t+1}) - V'(s_t)
  A_t     = delta_t + gamma gae_lambda (1 - done_t) A_{t+1},   A_T = 0,   R_t = A_t + V'(s_t)
  loss    = mean of -log pi(a_t|s_t) (R_t - V(s_t)) + value_coef (R_t - V(s_t))^2 / 2 - entropy_coef H(pi(.|s_t))

V' is of the parameters that acted; R_t is held constant, and in the first term V too; done is terminated or truncated.

Agents hold no parameters. The prediction queue makes them act with parameters that are some updates old
(``prediction_lag``), and the training queue makes their experience older still when it is learned from
(``training_lag``): update j follows the gradient at the *current* parameters theta_j on experience collected
``training_lag`` updates ago, with the parameters of ``prediction_lag`` updates before that. No correction is made
for the difference, as in the paper. With both lags 0 this is A2C.

Departures from the paper: the lags are constant, where queues make them vary; an update is of all agents at once, not
of the item that is next, so gradients are means over the batch, not sums, and rollouts go on through resets; an
episode's last step and reward are kept, where the authors' code drops them; the bootstrap is the value of the true
successor, not of the last state visited; probabilities are not held above 1e-6; policy and value share no layers but
those of images, initialisation is orthogonal.

The numbers of `Hyper` suit means and are those of `rlzoo.a2c`, so that without lags this is A2C: the authors' code has
a rate of 3e-4, RMSProp's eps 0.1 on averages that begin at 1, no clipping, and the whole (R - V)^2 / 2. ``num_envs``
and ``num_steps`` are that code's; lags, networks and presets are ours.
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
from rlzoo.algorithms.hyper import Bound, Decay, Positive, Rate, Share, Steps, Weight, checked, numbers
from rlzoo.blocks import networks, optim, returns, rollout
from rlzoo.types import Algorithm, Env, environment

INF = float("inf")


@dataclass(frozen=True)
class Config(Structure):  # static: fixes shapes, loop lengths and branches
    num_envs: int = 32  # N, agents
    num_steps: int = 5  # T, steps per agent between updates
    prediction_lag: int = 1  # updates between the parameters that act and the newest ones
    training_lag: int = 1  # updates between collecting experience and learning from it
    hidden: tuple[int, ...] = (64, 64)  # widths of the policy's and of the value's layers
    activation: str = "tanh"  # tanh, relu, swish or gelu
    init_std: float = 1.0  # of a continuous policy at the start, in units of half the action box
    anneal: str = "linear"  # how the rate falls to 0 over anneal_steps: linear or cosine
    network: nn.Module | None = None  # own module, obs -> (distribution, value); replaces hidden, activation, init_std
    optim: Callable[..., Any] | None = None  # own, (hyper, updates done) -> an optax transformation

    def __post_init__(self) -> None:
        self.at_least(1, "num_envs", "num_steps")
        self.at_least(0, "prediction_lag", "training_lag")
        self.widths("hidden")
        self.choice("activation", networks.ACTIVATIONS)
        self.positive("init_std")
        self.choice("anneal", optim.ANNEALING)


@numbers
class Hyper(NamedTuple):  # traced: any leaf may carry a sweep axis
    learning_rate: Rate = 7e-4  # of RMSProp
    anneal_steps: Steps = INF  # environment steps until the rate has fallen linearly to 0; inf: constant
    gamma: Share = 0.99  # discount per environment step
    gae_lambda: Share = 1.0  # trace decay per environment step; 1: the paper's longest n-step return
    entropy_coef: Weight = 0.01  # beta of Mnih et al.'s Section 4, reward units per nat
    value_coef: Weight = 0.5  # on half the squared error
    max_grad_norm: Bound = 0.5  # global L2 norm of the mean gradient; inf: not clipped
    decay: Decay = 0.99  # of RMSProp's average of squared gradients
    eps: Positive = 1e-5  # inside RMSProp's root


class Batch(NamedTuple):  # [T, N, ...]
    obs: jax.Array
    action: jax.Array  # as sampled, before it is fitted into the action box
    log_prob: jax.Array  # of the policy that acted
    target: jax.Array  # the return, bootstrapped with the values of the parameters that acted


class State(NamedTuple):  # all the next update needs, and nothing else
    params: chex.ArrayTree  # theta_j
    opt_state: optax.OptState
    past_params: chex.ArrayTree  # [prediction_lag + 1, ...] ring of theta_j, theta_{j-1}, ...; slot j modulo its length
    queue: Batch  # [training_lag + 1, ...] ring of experience; slot j modulo its length
    envs: rollout.Envs  # N environments in the middle of their episodes
    key: chex.PRNGKey
    step: jax.Array  # int32[], j, updates done; never batched


def write_and_read(ring: Any, step: jax.Array, newest: Any) -> tuple[Any, Any]:
    """Put ``newest`` into slot ``step`` of a ring of D + 1, and take out what was put in D steps before."""
    length = jax.tree.leaves(ring)[0].shape[0]
    ring = jax.tree.map(lambda ring, new: ring.at[step % length].set(new), ring, newest)
    return ring, jax.tree.map(lambda ring: ring[(step + 1) % length], ring)


def make(env: Env, config: Config = Config(), hyper: Hyper = Hyper()) -> Algorithm:
    """GA3C for an environment: see `Config` for its structure, `Hyper` for its numbers, `presets` for tuned pairs."""
    environment(env, "GA3C")
    hyper = checked(hyper)
    default = networks.actor_critic(env, config.hidden, config.activation, config.init_std)
    network = networks.own(config, "network", default, env.obs_space.shape, batches=((3,), (2, 3)))
    forward = networks.policy_and_value(network)  # params, obs -> distribution, value
    batch_size = config.num_envs * config.num_steps

    def optimiser(hyper, step):
        rate = optim.ANNEALING[config.anneal](hyper.learning_rate, jnp.float32(batch_size) * step, hyper.anneal_steps)
        return optim.own(config, hyper, step, optim.rmsprop(rate, hyper.max_grad_norm, hyper.decay, hyper.eps))

    def policy(actor, obs, key, deterministic=False):
        pi, _ = forward(actor, obs)
        return env.action_space.from_policy(pi.mode() if deterministic else pi.sample(key))

    def collect(params, envs, key, hyper, task):
        """Act for T steps in N environments, and fix the targets, all with the parameters of the predictors."""

        def act(obs, key):
            pi, value = forward(params, obs)
            action = pi.sample(key)
            return env.action_space.from_policy(action), (action, pi.log_prob(action), value)

        envs, seen, (action, log_prob, value), episodes = rollout.collect(env, act, envs, key, task, config.num_steps)
        _, next_value = forward(params, seen.next_obs)  # before any reset, so truncated episodes bootstrap
        advantage = returns.gae(
            seen.reward, seen.terminated, seen.truncated, value, next_value, hyper.gamma, hyper.gae_lambda
        )
        return envs, Batch(seen.obs, action, log_prob, target=advantage + value), episodes

    def init(key, hyper, task):
        key, net_key, env_key = jax.random.split(key, 3)
        envs = rollout.init(env, env_key, task, config.num_envs)
        params = network.init(net_key, envs.obs)
        _, batch, _ = jax.eval_shape(collect, params, envs, key, hyper, task)
        return State(
            params=params,
            opt_state=optimiser(hyper, jnp.int32(0)).init(params),
            past_params=jax.tree.map(lambda x: jnp.stack([x] * (config.prediction_lag + 1)), params),
            queue=jax.tree.map(lambda x: jnp.zeros((config.training_lag + 1, *x.shape), x.dtype), batch),
            envs=envs,
            key=key,
            step=jnp.int32(0),
        )

    def step(state, hyper, task):
        # 1. Predict: T steps in each of N environments with the parameters of `prediction_lag` updates ago.
        key, act_key = jax.random.split(state.key)
        past_params, acting_params = write_and_read(state.past_params, state.step, state.params)
        envs, newest, episodes = collect(acting_params, state.envs, act_key, hyper, task)

        # 2. Queue: learn from what was collected `training_lag` updates ago; at first, from nothing.
        queue, batch = write_and_read(state.queue, state.step, newest)

        # 3. Train: one gradient step at the current parameters.
        def loss(params):
            pi, value = forward(params, batch.obs)
            log_prob = pi.log_prob(batch.action)
            surrogate, value_error = actor_critic_loss(log_prob, value, batch.target)
            entropy = pi.entropy()
            each = surrogate + hyper.value_coef * value_error - hyper.entropy_coef * entropy
            log_ratio = log_prob - batch.log_prob
            terms = {
                "loss/policy": surrogate,
                "loss/value": value_error,
                "policy/entropy": entropy,
                "policy/approx_kl": jnp.exp(log_ratio) - 1.0 - log_ratio,  # from the policy that acted, in nats
            }
            return each.mean(), {name: x.mean() for name, x in terms.items()}

        grads, metrics = jax.grad(loss, has_aux=True)(state.params)
        arrived = state.step >= config.training_lag  # a choice, as the blank rows of an empty queue may be masked
        grads, metrics = jax.tree.map(lambda x: jnp.where(arrived, x, 0.0), (grads, metrics))
        params, opt_state = optim.descend(optimiser(hyper, state.step), state.params, state.opt_state, grads)
        state = State(params, opt_state, past_params, queue, envs, key, state.step + 1)
        return state, metrics | episodes

    def value(state, hyper, obs, action):
        """V(s), and no bonus."""
        value = forward(state.params, obs)[1]
        return value, jnp.zeros_like(value)

    return Algorithm(
        "ga3c",
        config,
        env,
        hyper,
        env.params,
        init,
        step,
        actor=lambda state: state.params,
        policy=policy,
        steps_per_update=batch_size,
        value=value,
    )


presets = Presets(classic=Preset(Config(), Hyper()))
