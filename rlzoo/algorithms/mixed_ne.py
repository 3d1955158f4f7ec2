"""MixedNE-LD: robust to disturbed actions, both players' policies sampled by Langevin dynamics.

Kamalaruban et al. 2020, arXiv:2002.06063, in the form that it has as a baseline in the code of Reddi et al. 2024
(arXiv:2311.01642): on SAC, not DDPG. What is executed is a mixture of the protagonist's action a and the adversary's b,
as in Tessler et al. 2019 (arXiv:1901.09184), whose reward r the one wants high and the other low. Both see the state
alone, and share two critics of the mixture m:

  m         (1 - delta) a + delta b
  policies  T log pi(a|s) - min_j Q_j(s, m),   T' log pi'(b|s) + min_j Q_j(s, m),   other's action held constant
  T, T'     learned, as in QARL
  critics   (Q_j(s, m) - y)^2,  y = r + gamma (1 - terminated) (min_j Q'_j(s', m') - T log pi(a'|s'))
  theta     <- theta - eta g / d + sigma_n sqrt(2 eta / d) noise,  d = sqrt(mean of g^2) + eps,  sigma_n decays

Shapes: N = num_envs, T = num_steps, B = batch_size, A = action dimensions. A sweep adds leading axes.

Departures from the paper: one step of each policy at a time, and policies act as they are, where the paper takes
several steps and averages them. From the code: the adversary's action in the critics' target is drawn from its own
policy, not from the protagonist's. Both players step from the same two actions, where the code draws them anew after
the protagonist's step. The noise decays once, from the policies' first step (the code's from the critics'), not again
inside of the optimiser, and eta is constant, where the optimiser takes 1e-5 of it off a step. log pi is exact. An
update is T steps in each of N environments and its gradient steps, as in `rlzoo.sac`; the first steps, of the policies
as they begin, belong to `init`.

Defaults of `Config` and `Hyper` are the code's but for ``capacity``; the preset for Pendulum is ours.
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
from rlzoo.algorithms.hyper import Decay, Entropy, Positive, Rate, Share, Weight, filled, numbers
from rlzoo.algorithms.qarl import Networks, Players, policy_loss, temperature_loss
from rlzoo.algorithms.sac import NAN, default_target_entropy, soft_target
from rlzoo.blocks import networks, optim, replay, rollout
from rlzoo.blocks.distributions import pre_tanh
from rlzoo.types import Algorithm, Env, Transition


@dataclass(frozen=True)
class Config(Structure):  # static: fixes shapes, loop lengths and branches
    num_envs: int = 1  # N
    num_steps: int = 3  # T, steps per environment between learning
    num_updates: int = 1  # gradient steps after them
    batch_size: int = 256  # B
    capacity: int = 999_999  # transitions in the replay buffer; the code's 10^6, as a multiple of T
    warmup: int = 3_000  # transitions before critics learn; they count as environment steps
    actor_start: int = 5_000  # beyond which policies and temperatures learn
    hidden: tuple[int, ...] = (256, 256, 256)  # widths of every network's layers
    activation: str = "relu"  # tanh, relu, swish or gelu
    actor: nn.Module | None = None  # own module, obs -> [B, A]: mean and log std of either player are one each
    critic: nn.Module | None = None  # own module, (obs, action) -> [B, 1]
    optim: Callable[..., Any] | None = None  # own, (hyper, updates done) -> optax transformation, or one a part

    def __post_init__(self) -> None:
        self.at_least(1, "num_envs", "num_steps", "num_updates", "batch_size", "capacity", "warmup")
        self.at_least(0, "actor_start")
        self.widths("hidden")
        self.choice("activation", networks.ACTIVATIONS)
        self.replay(self.num_envs * self.num_steps)
        if self.capacity <= self.actor_start:
            raise ValueError(f"capacity={self.capacity} never holds more than the actor_start={self.actor_start}")


@numbers
class Hyper(NamedTuple):  # traced: any leaf may carry a sweep axis
    actor_learning_rate: Rate = 3e-4  # eta, of Langevin dynamics
    critic_learning_rate: Rate = 3e-4  # of Adam
    temperature_learning_rate: Rate = 3e-4  # of Adam on logarithms
    gamma: Share = 0.99  # discount per environment step
    tau: Share = 0.005  # step of the target critics towards the critics
    target_entropy: Entropy = NAN  # nats, of either player's action in [-1, 1]; nan: -A
    init_temperature: Positive = 0.005  # reward units per nat
    delta: Share = 0.1  # the adversary's share of the action that is executed
    decay: Decay = 0.999  # of the average of squared gradients
    eps: Positive = 1e-8  # of d: where a gradient vanishes noise is as large as sigma sqrt(2 eta / eps), 0.2 a step
    noise: Weight = 1e-3  # sigma_0; 0: RMSProp
    noise_decay: Share = 5e-5  # sigma_n = sigma_0 (1 - noise_decay)^(n / 2) after n steps


class Params(NamedTuple):  # of what is learned, or of its optimisers
    actors: Players
    critics: chex.ArrayTree  # leaves [2, ...]
    log_temperatures: Players  # f32[] each


class State(NamedTuple):  # all the next update needs, and nothing else
    params: Params
    target: chex.ArrayTree  # the target critics, leaves [2, ...]
    opt_state: Params
    replay: Transition  # [capacity, ...]; mixed actions in the environment's units, [A]
    envs: rollout.Envs  # N environments in the middle of their episodes
    key: chex.PRNGKey
    step: jax.Array  # int32[], updates done; never batched


def mixture(
    action: Float[Array, "*B A"], disturbance: Float[Array, "*B A"], delta: Float[Array, ""] | float
) -> Float[Array, "*B A"]:
    """(1 - delta) a + delta b."""
    return (1.0 - delta) * action + delta * disturbance


def networks_of(env: Env, config: Config) -> Networks:
    """The form of both players' networks, and of the critics."""
    form = partial(
        networks.FeedForward,
        obs_shape=env.obs_space.shape,
        hidden=config.hidden,
        activation=config.activation,
        weights="xavier",
    )
    shapes = env.obs_space.shape, (math.prod(env.action_space.shape),)
    return Networks(
        networks.own(config, "actor", form(*shapes[1]), shapes[0]), networks.own(config, "critic", form(1), *shapes)
    )


class Optimisers(NamedTuple):  # the policies have Langevin dynamics
    critics: Any
    temperatures: Any


def optimisers(hyper: Hyper) -> Optimisers:
    return Optimisers(optax.adam(hyper.critic_learning_rate), optax.adam(hyper.temperature_learning_rate))


def gradient_step(
    nets: Networks,
    params: Params,
    target: Any,
    opt_state: Params,
    batch: Transition,
    key: jax.Array,
    hyper: Hyper,
    scale: Any,
    acts: Any,
    adam: Optimisers | None = None,
) -> tuple[Params, Any, Params, dict[str, jax.Array]]:
    """One gradient step on a minibatch: policies, temperatures, critics, target, in this order.

    Args:
        batch: mixed actions in the environment's units.
        scale: [-1, 1]^A to the environment's units.
        acts: bool, whether policies and temperatures learn yet.
        adam: what takes the steps of critics and temperatures; default `optimisers`.
    Returns:
        params, target and optimisers' states after it, and metrics.
    """
    keys = jax.random.split(key, 6)
    adam = optimisers(hyper) if adam is None else adam

    def mixed_q(critics, obs, action, disturbance):
        return nets.q(critics, obs, scale(mixture(action, disturbance, hyper.delta))).min(axis=0)

    def drawn(actors, obs, keys):
        """Both players' actions with their log-densities."""
        return Players(*(nets.sample(actor, obs, key) for actor, key in zip(actors, keys, strict=True)))

    # 1. Policies, both from where they are.
    now = drawn(params.actors, batch.obs, keys[:2])
    temperatures = Players(*map(jnp.exp, params.log_temperatures))

    def loss_of_protagonist(actor):
        action, log_prob = nets.sample(actor, batch.obs, keys[0])
        q = mixed_q(params.critics, batch.obs, action, now.adversary[0])
        return policy_loss(temperatures.protagonist, log_prob, q).mean()

    def loss_of_adversary(actor):
        disturbance, log_prob = nets.sample(actor, batch.obs, keys[1])
        q = mixed_q(params.critics, batch.obs, now.protagonist[0], disturbance)
        return policy_loss(temperatures.adversary, log_prob, -q).mean()

    actors, actor_states, errors = [], [], []
    for loss, actor, state, noise_key in zip(
        (loss_of_protagonist, loss_of_adversary), params.actors, opt_state.actors, keys[2:4], strict=True
    ):
        error, grads = jax.value_and_grad(loss)(actor)
        sigma = hyper.noise * (1.0 - hyper.noise_decay) ** (0.5 * state.steps)
        step = optim.langevin(actor, state, grads, noise_key, hyper.actor_learning_rate, hyper.decay, sigma, hyper.eps)
        actors.append(step[0])
        actor_states.append(step[1])
        errors.append(error)

    # 2. Temperatures.
    warmer, temperature_states = [], []
    each = zip(params.log_temperatures, opt_state.log_temperatures, now, strict=True)
    for log_temperature, state, (_, log_prob) in each:
        grads = jax.grad(lambda x: temperature_loss(x, log_prob, hyper.target_entropy).mean())(log_temperature)  # noqa: B023
        step = optim.descend(adam.temperatures, log_temperature, state, grads)
        warmer.append(step[0])
        temperature_states.append(step[1])
    new = Players(*actors), Players(*warmer), Players(*actor_states), Players(*temperature_states)
    old = params.actors, params.log_temperatures, opt_state.actors, opt_state.log_temperatures
    now_actors, log_temperatures, actor_state, temperature_state = jax.tree.map(
        lambda x, y: jnp.where(acts, x, y), new, old
    )

    # 3. Critics, by policies and temperatures as they are now.
    (next_action, next_log_prob), (next_disturbance, _) = drawn(now_actors, batch.next_obs, keys[4:])
    next_q = mixed_q(target, batch.next_obs, next_action, next_disturbance)
    next_value = next_q - jnp.exp(log_temperatures.protagonist) * next_log_prob
    wanted = soft_target(batch.reward, batch.terminated, next_value, hyper.gamma)

    def loss_of_critics(critics):
        q = nets.q(critics, batch.obs, batch.action)
        return jnp.mean((q - wanted) ** 2, axis=-1).sum(), q.mean()

    (critic_error, q), grads = jax.value_and_grad(loss_of_critics, has_aux=True)(params.critics)
    critics, critic_state = optim.descend(adam.critics, params.critics, opt_state.critics, grads)

    # 4. Target.
    target = optim.polyak(target, critics, hyper.tau)
    metrics = {
        "loss/policy": errors[0],
        "loss/adversary": errors[1],
        "loss/critic": critic_error,
        "value/q": q,
        "policy/entropy": -now.protagonist[1].mean(),
        "policy/temperature": jnp.exp(log_temperatures.protagonist),
        "adversary/entropy": -now.adversary[1].mean(),
        "adversary/temperature": jnp.exp(log_temperatures.adversary),
    }
    after = Params(now_actors, critics, log_temperatures)
    return after, target, Params(actor_state, critic_state, temperature_state), metrics


def make(env: Env, config: Config = Config(), hyper: Hyper = Hyper()) -> Algorithm:
    """MixedNE-LD for an environment. The policy that is evaluated is the protagonist's, undisturbed.

    Raises:
        ValueError: discrete actions, or an unbounded box; observations that are no vectors.
    """
    space = bounded_box(env, "MixedNE-LD")
    if len(env.obs_space.shape) != 1:
        raise ValueError(f"{env.name}: its observations have shape {list(env.obs_space.shape)}; it needs vectors")
    hyper = filled(hyper, target_entropy=default_target_entropy(space))
    nets, num_actions = networks_of(env, config), math.prod(space.shape)
    rows = config.num_envs * config.num_steps  # that an update adds to the buffer
    warmup_blocks = config.warmup // rows

    def scale(action):
        """[-1, 1] to the environment's units, as critics see actions."""
        return space.from_policy(action).reshape(*action.shape[:-1], num_actions)

    def play(actors, envs, key, hyper, task):
        """T steps in each environment under both policies: rows for the buffer."""

        def act(obs, key):
            keys = jax.random.split(key)
            action, disturbance = (nets.sample(actor, obs, key)[0] for actor, key in zip(actors, keys, strict=True))
            executed = mixture(action, disturbance, hyper.delta)
            return space.from_policy(executed), scale(executed)

        envs, batch, action, episodes = rollout.collect(env, act, envs, key, task, config.num_steps)
        return envs, rollout.flatten(batch._replace(action=action)), episodes

    def init(key, hyper, task):
        key, *keys = jax.random.split(key, 5)
        obs, action = jnp.zeros((1, *env.obs_space.shape)), jnp.zeros((1, num_actions))
        both = Players(*(nets.init(key, obs, action, jnp.float32(hyper.init_temperature)) for key in keys[:2]))
        params = Params(
            Players(*(one.actor for one in both)),
            both.protagonist.critics,
            Players(*(one.log_temperature for one in both)),
        )
        adam = optim.own(config, hyper, 0, optimisers(hyper))
        opt_state = Params(
            Players(*map(optim.langevin_init, params.actors)),
            adam.critics.init(params.critics),
            Players(*map(adam.temperatures.init, params.log_temperatures)),
        )

        def fill(envs, key):
            envs, batch, _ = play(params.actors, envs, key, hyper, task)
            return envs, batch

        envs = rollout.init(env, keys[2], task, config.num_envs)
        envs, batch = jax.lax.scan(fill, envs, jax.random.split(keys[3], warmup_blocks))
        batch = rollout.flatten(batch)
        buffer = replay.init(jax.tree.map(lambda x: x[0], batch), config.capacity)
        buffer = replay.add(buffer, batch, jnp.int32(0))
        return State(params, params.critics, opt_state, buffer, envs, key, jnp.int32(0))

    def step(state, hyper, task):
        key, act_key, sample_key, learn_key = jax.random.split(state.key, 4)

        # 1. Act, into the buffer.
        envs, batch, episodes = play(state.params.actors, state.envs, act_key, hyper, task)
        blocks = warmup_blocks + state.step
        buffer = replay.add(state.replay, batch, blocks)

        # 2. Learn.
        size = replay.size(buffer, rows, blocks + 1)
        batches = replay.sample(buffer, sample_key, size, config.num_updates * config.batch_size)
        shape = config.num_updates, config.batch_size
        adam = optim.own(config, hyper, state.step, optimisers(hyper))
        batches = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), batches)

        def learn(carry, now):
            (params, target, opt_state), (batch, key) = carry, now
            *after, metrics = gradient_step(
                nets, params, target, opt_state, batch, key, hyper, scale, size > config.actor_start, adam
            )
            return tuple(after), metrics

        start = state.params, state.target, state.opt_state
        after, metrics = jax.lax.scan(learn, start, (batches, jax.random.split(learn_key, config.num_updates)))
        metrics = jax.tree.map(jnp.mean, metrics) | episodes
        return State(*after, buffer, envs, key, state.step + 1), metrics

    def policy(actor, obs, key, deterministic=False):
        action = jnp.tanh(nets.policy(actor, obs).mean) if deterministic else nets.sample(actor, obs, key)[0]
        return space.from_policy(action)

    def value(state, hyper, obs, action):
        """Mean of both Q(s, a) of the action as it is executed, and -T log pi(a|s)."""
        q = nets.q(state.params.critics, obs, action.reshape(*obs.shape[:-1], -1)).mean(axis=0)
        pi = nets.policy(state.params.actors.protagonist, obs)
        log_prob = pi.log_prob_pre_tanh(pre_tanh(space.to_policy(action)))
        return q, -jnp.exp(state.params.log_temperatures.protagonist) * log_prob

    functions = init, step, lambda state: state.params.actors.protagonist, policy
    return Algorithm("mixed_ne", config, env, hyper, env.params, *functions, rows, config.warmup, value)


presets = Presets(
    classic=Preset(Config(), Hyper()),
    pendulum=Preset(
        Config(
            num_envs=10,
            num_updates=10,
            hidden=(64, 64),
            batch_size=128,
            warmup=1_020,
            actor_start=2_000,
            capacity=150_000,
        ),
        Hyper(actor_learning_rate=1e-3, critic_learning_rate=1e-3, temperature_learning_rate=1e-3),
    ),
)
