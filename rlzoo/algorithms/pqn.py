"""Parallelised Q-network (PQN): Q(lambda) from rollouts of many environments, without replay and target network.

Gallici et al. 2025, arXiv:2407.04811, Alg. 1, in the form of the authors' code.
Shapes: T = num_steps, N = num_envs, B = T N / num_minibatches, A = actions; arrays are time-major [T, N, ...]; a sweep
adds leading axes.

  V_t   = max_a Q(next_obs_t, a)
  G_t   = r_t + gamma (1 - terminated_t) [q_lambda G_{t+1} + (1 - q_lambda) V_t],  and V_t in place of the bracket where
          the episode or the rollout ends
  loss  = (G_t - Q(s_t, a_t))^2 / 2, on shuffled minibatches; G is of the network that acted, and fixed

A uniform action with probability epsilon, which falls linearly over epsilon_steps, otherwise argmax Q. LayerNorm before
each activation is what keeps it stable: without it nothing bounds what bootstrapping adds.

Departures from the authors' code: episodes cut by a time limit bootstrap from their true last observation, where theirs
take them for ends; minibatches are made by one sort. Defaults are the authors' for CartPole, and so is the preset
``classic``; ``minatar`` is theirs for MinAtar. Anything else is ours.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from rlzoo.algorithms.config import Preset, Presets, Structure, discrete
from rlzoo.algorithms.hyper import Bound, Positive, Rate, Share, Steps, checked, numbers
from rlzoo.algorithms.ppo import random_order
from rlzoo.blocks import greedy, networks, optim, returns, rollout
from rlzoo.types import Algorithm, Env

INF = float("inf")


@dataclass(frozen=True)
class Config(Structure):  # static: fixes shapes, loop lengths and branches
    num_envs: int = 32  # N
    num_steps: int = 64  # T, steps per environment between updates
    num_epochs: int = 4  # passes over each batch
    num_minibatches: int = 16  # gradient steps per epoch, on B = T N / num_minibatches transitions
    hidden: tuple[int, ...] = (256, 256)  # widths
    activation: str = "relu"  # tanh, relu, swish or gelu
    layer_norm: bool = True  # before each activation, the CNN's among them
    anneal: str = "linear"  # how the rate falls to 0 over anneal_steps: linear or cosine
    compute_dtype: str = "float32"  # of default networks' products, or bfloat16; sums, losses, parameters are float32
    network: nn.Module | None = None  # own module, obs -> [B, A, 1]; replaces hidden, activation, layer_norm
    optim: Callable[..., Any] | None = None  # own, (hyper, updates done) -> an optax transformation

    def __post_init__(self) -> None:
        self.at_least(1, "num_envs", "num_steps", "num_epochs", "num_minibatches")
        self.divides("num_minibatches", "num_envs * num_steps", self.num_envs * self.num_steps)
        self.widths("hidden")
        self.choice("activation", networks.ACTIVATIONS)
        self.choice("anneal", optim.ANNEALING)
        self.dtype("compute_dtype", "network")


@numbers
class Hyper(NamedTuple):  # traced: any leaf may carry a sweep axis
    learning_rate: Rate = 1e-4  # of RAdam
    anneal_steps: Steps = 5e5  # environment steps until the rate has fallen to 0; inf: constant
    gamma: Share = 0.99  # discount per environment step
    q_lambda: Share = 0.95  # trace decay per environment step
    epsilon_start: Share = 1.0  # probability of a random action at the start
    epsilon: Share = 0.2  # probability of a random action after epsilon_steps
    epsilon_steps: Steps = 1e5  # environment steps
    max_grad_norm: Bound = 10.0  # global L2 norm; inf: not clipped
    reward_scale: Positive = 0.1  # rewards are multiplied by it


class State(NamedTuple):  # all the next update needs, and nothing else
    params: chex.ArrayTree
    opt_state: optax.OptState
    envs: rollout.Envs  # N environments in the middle of their episodes
    epsilon: jax.Array  # f32[], by which the last update acted
    key: chex.PRNGKey
    step: jax.Array  # int32[], updates done; never batched


class Actor(NamedTuple):  # what acting needs
    params: chex.ArrayTree
    epsilon: jax.Array


def critic_loss(q: Float[Array, "*B"], target: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """(G - Q(s, a))^2 / 2."""
    return 0.5 * (target - q) ** 2


def make(env: Env, config: Config = Config(), hyper: Hyper = Hyper()) -> Algorithm:
    """PQN for an environment: see `Config` for its structure, `Hyper` for its numbers, `presets` for tuned pairs.

    Raises:
        ValueError: the actions are a box.
    """
    space = discrete(env, "PQN")
    hyper = checked(hyper)
    default = networks.q_network(env, config, space.n, 1)
    network = networks.own(config, "network", default, env.obs_space.shape, batches=((3,), (2, 3)))
    batch_size = config.num_envs * config.num_steps
    minibatches_shape = (config.num_minibatches, batch_size // config.num_minibatches)

    def values(params, obs):
        """Q(s, .) [*B, A], of illegal actions far below all others."""
        return greedy.among(network.apply(params, obs)[..., 0], obs)

    def optimiser(hyper, step):
        rate = optim.ANNEALING[config.anneal](hyper.learning_rate, jnp.float32(batch_size) * step, hyper.anneal_steps)
        default = optax.chain(optax.clip_by_global_norm(hyper.max_grad_norm), optax.radam(rate))
        return optim.own(config, hyper, step, default)

    def policy(actor, obs, key, deterministic=False):
        q = values(actor.params, obs)
        action = jnp.argmax(q, axis=-1)
        return action if deterministic else greedy.now_and_then(action, q, obs, actor.epsilon, key)

    def init(key, hyper, task):
        key, net_key, env_key = jax.random.split(key, 3)
        envs = rollout.init(env, env_key, task, config.num_envs)
        params = network.init(net_key, envs.obs)
        epsilon = greedy.epsilon_at(hyper, 0.0)
        return State(params, optimiser(hyper, jnp.int32(0)).init(params), envs, epsilon, key, jnp.int32(0))

    def step(state, hyper, task):
        # 1. Act: T steps in each of N environments.
        key, act_key, shuffle_key = jax.random.split(state.key, 3)
        epsilon = greedy.epsilon_at(hyper, jnp.float32(batch_size) * state.step)

        def act(obs, key):
            q = values(state.params, obs)
            return greedy.now_and_then(jnp.argmax(q, axis=-1), q, obs, epsilon, key), q.max(axis=-1)

        envs, batch, best, episodes = rollout.collect(env, act, state.envs, act_key, task, config.num_steps)

        # 2. Fix the targets: the lambda-return of the values max Q, whose successors precede any reset.
        # Of one time after the other: of all at once the hidden layers would be the largest arrays of an update.
        next_best = jax.lax.map(lambda obs: values(state.params, obs).max(axis=-1), batch.next_obs)
        reward, flags = hyper.reward_scale * batch.reward, (batch.terminated, batch.truncated)
        target = best + returns.gae(reward, *flags, best, next_best, hyper.gamma, hyper.q_lambda)
        data = rollout.flatten((batch.obs, batch.action, target))

        # 3. Epochs of minibatches, each in a new order.
        radam = optimiser(hyper, state.step)

        def minibatch_step(carry, rows):
            params, opt_state = carry
            obs, action, target = jax.tree.map(lambda x: x[rows], data)

            def loss(params):
                q = greedy.of_action(network.apply(params, obs)[..., 0], action)
                return critic_loss(q, target).mean(), q.mean()

            (error, q), grads = jax.value_and_grad(loss, has_aux=True)(params)
            return optim.descend(radam, params, opt_state, grads), {"loss/critic": error, "value/q": q}

        def epoch(carry, key):
            return jax.lax.scan(minibatch_step, carry, random_order(key, batch_size).reshape(minibatches_shape))

        keys = jax.random.split(shuffle_key, config.num_epochs)
        (params, opt_state), metrics = jax.lax.scan(epoch, (state.params, state.opt_state), keys)
        metrics = jax.tree.map(jnp.mean, metrics) | {"policy/epsilon": epsilon} | episodes
        return State(params, opt_state, envs, epsilon, key, state.step + 1), metrics

    def value(state, hyper, obs, action):
        """Q(s, a) in reward units, and no bonus."""
        q = greedy.of_action(network.apply(state.params, obs)[..., 0], action) / hyper.reward_scale
        return q, jnp.zeros_like(q)

    functions = init, step, lambda state: Actor(state.params, state.epsilon), policy
    return Algorithm("pqn", config, env, hyper, env.params, *functions, steps_per_update=batch_size, value=value)


presets = Presets(
    classic=Preset(Config(), Hyper()),
    minatar=Preset(
        Config(num_envs=128, num_steps=32, num_epochs=2, num_minibatches=32, hidden=(128,)),
        Hyper(learning_rate=5e-4, anneal_steps=1e7, q_lambda=0.65, epsilon=0.05, epsilon_steps=1e6, reward_scale=1.0),
    ),
)
