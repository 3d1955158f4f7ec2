"""Asynchronous advantage actor-critic (A3C), with its asynchrony simulated: exact, deterministic, vmappable.

Mnih et al. 2016, arXiv:1602.01783, Alg. S3.
Shapes: W = num_workers, T = t_max; arrays of one worker are [T, ...], of all [W, ...]; a sweep adds leading axes.

  R_t  = r_t + gamma R_{t+1},   after the n <= T steps of a rollout R_n = 0 if terminated, V(s_n) otherwise
  loss = sum of -log pi(a_t|s_t) (R_t - V(s_t)) + value_coef (R_t - V(s_t))^2 / 2 - entropy_coef H(pi(.|s_t))
  g    <- decay g + (1 - decay) grad^2,   theta <- theta - learning_rate grad / sqrt(g + eps)

R_t is held constant, and in the first term V too; grad is clipped.

W workers share parameters and the statistics of RMSProp. Each acts and differentiates at a *snapshot* of the
parameters, taken right after its own last update, while the others move them: its gradient is stale by as many
updates as theirs. One `step` is a round of W updates. Under the round-robin schedule worker w makes update r W + w;
its rollout depends on its own snapshot and environment only, so the rollouts and gradients of a round are computed
side by side and then applied one after another, which is the literal loop with its numbers unchanged.

Departures from the paper: updates are whole (lock-free threads may tear or overwrite each other's); policy and value
share no layers but those of images, initialisation is orthogonal, and the learning rate stays where it is unless
``anneal_steps`` is given; of continuous actions the spread is learned and the same in all states, and rollouts are
short here too, not whole episodes; and episodes cut by a time limit bootstrap from the value of their true last
observation.

The numbers of `Hyper` are those of the reproduction async-rl, whose details the paper's first author confirmed, but for
``anneal_steps`` and ``reward_clip``; so is the weight of the value's loss: (R - V)^2 / 4 in all, where Alg. S3 has
(R - V)^2. The paper draws its rates from 1e-4 to 1e-2. ``num_workers`` and ``t_max`` are the paper's; schedule,
networks and presets are ours.
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

from rlzoo import names
from rlzoo.algorithms.config import Preset, Presets, Structure
from rlzoo.algorithms.hyper import Bound, Decay, Positive, Rate, Share, Steps, Weight, checked, numbers
from rlzoo.blocks import networks, optim, returns, rollout
from rlzoo.types import Algorithm, Env, environment

INF = float("inf")
SCHEDULES = ("round-robin", "sequential", "random")


@dataclass(frozen=True)
class Config(Structure):  # static: fixes shapes, loop lengths and branches
    num_workers: int = 16  # W
    t_max: int = 5  # T, steps of a rollout; it ends earlier where its episode does
    schedule: str = "round-robin"  # whose update is next; sequential: round-robin as a literal loop; random: by speeds
    speeds: tuple[float, ...] = ()  # of the random schedule, one for each worker: its share of the updates; (): equal
    schedule_seed: int = 0  # of the random schedule
    hidden: tuple[int, ...] = (64, 64)  # widths of the policy's and of the value's layers
    activation: str = "tanh"  # tanh, relu, swish or gelu
    init_std: float = 1.0  # of a continuous policy at the start, in units of half the action box
    anneal: str = "linear"  # how the rate falls to 0 over anneal_steps: linear or cosine
    network: nn.Module | None = None  # own module, obs -> (distribution, value); replaces hidden, activation, init_std
    optim: Callable[..., Any] | None = None  # own, (hyper, environment steps) -> an optax transformation

    def __post_init__(self) -> None:
        self.at_least(1, "num_workers", "t_max")
        names.check_seed("schedule_seed", self.schedule_seed)
        self.choice("schedule", SCHEDULES)
        self.widths("hidden")
        self.choice("activation", networks.ACTIVATIONS)
        self.positive("init_std")
        self.choice("anneal", optim.ANNEALING)
        object.__setattr__(self, "speeds", tuple(self.speeds))
        if not self.speeds:
            return
        if self.schedule != "random":
            raise ValueError(f"speeds are given, but schedule={self.schedule!r} has none; use schedule='random'")
        if len(self.speeds) != self.num_workers:
            raise ValueError(f"{len(self.speeds)} speeds for num_workers={self.num_workers}; give one for each worker")
        if not all(0 < speed < INF for speed in self.speeds):
            raise ValueError(f"speeds={self.speeds}; each must be a positive number")


@numbers
class Hyper(NamedTuple):  # traced: any leaf may carry a sweep axis
    learning_rate: Rate = 7e-4  # of RMSProp
    anneal_steps: Steps = INF  # environment steps until the rate has fallen linearly to 0; inf: constant
    gamma: Share = 0.99  # discount per environment step
    entropy_coef: Weight = 0.01  # beta of the paper's Section 4, reward units per nat
    value_coef: Weight = 0.5  # on half the squared error
    max_grad_norm: Bound = 40.0  # global L2 norm of a worker's summed gradient; inf: not clipped
    decay: Decay = 0.99  # of RMSProp's average of squared gradients
    eps: Positive = 0.1  # inside RMSProp's root; large for the small summed gradients of small networks
    reward_clip: Bound = INF  # rewards are cut to +-reward_clip; the paper's Atari: 1


class State(NamedTuple):  # all the next update needs, and nothing else
    params: chex.ArrayTree  # shared
    opt_state: optax.OptState  # shared
    snapshots: chex.ArrayTree  # [W, ...] the parameters at which each worker acts and differentiates
    synced: jax.Array  # int32[W], shared updates that had been made when the snapshot was taken
    envs: rollout.Envs  # W environments in the middle of their episodes
    env_steps: jax.Array  # int32[], taken by all workers: the clock of annealing
    key: chex.PRNGKey
    step: jax.Array  # int32[], rounds of W updates done; never batched


def actor_critic_loss(
    log_prob: Float[Array, "*B"], value: Float[Array, "*B"], target: Float[Array, "*B"]
) -> tuple[Float[Array, "*B"], Float[Array, "*B"]]:
    """-log pi(a|s) (R - V(s)) with the advantage held constant, and (R - V(s))^2 / 2 with R held constant.

    Those of Alg. S3 but for the half, which makes ``value_coef`` what the reproductions call so.
    """
    error = jax.lax.stop_gradient(target) - value
    return -log_prob * jax.lax.stop_gradient(error), 0.5 * error**2


class Rollout(NamedTuple):
    """Up to T steps of one worker; those after the end of an episode were not taken, and count for nothing."""

    obs: jax.Array  # [T, ...]
    action: jax.Array  # [T, ...] as sampled, before it is fitted into the action box
    reward: jax.Array  # f32[T]
    taken: jax.Array  # bool[T]
    last_obs: jax.Array  # [...] the true successor of the last step taken
    terminated: jax.Array  # bool[], the last step taken ended the episode by its own rules


def make(env: Env, config: Config = Config(), hyper: Hyper = Hyper()) -> Algorithm:
    """A3C for an environment: see `Config` for its structure, `Hyper` for its numbers, `presets` for tuned pairs.

    ``steps_per_update`` is W T, the most that a round takes: rollouts end with their episode. The metric
    ``worker/steps`` counts those taken.
    """
    environment(env, "A3C")
    hyper = checked(hyper)
    default = networks.actor_critic(env, config.hidden, config.activation, config.init_std)
    network = networks.own(config, "network", default, env.obs_space.shape, batches=((), (3,)))
    forward = networks.policy_and_value(network)  # params, obs -> distribution, value
    workers = config.num_workers
    log_speeds = jnp.log(jnp.asarray(config.speeds or (1.0,) * workers))
    schedule_key = jax.random.key(config.schedule_seed)

    def policy(actor, obs, key, deterministic=False):
        pi, _ = forward(actor, obs)
        return env.action_space.from_policy(pi.mode() if deterministic else pi.sample(key))

    def optimiser(hyper, env_steps):
        rate = optim.ANNEALING[config.anneal](hyper.learning_rate, env_steps, hyper.anneal_steps)
        default = optim.rmsprop(rate, hyper.max_grad_norm, hyper.decay, hyper.eps)
        return optim.own(config, hyper, env_steps, default)

    def init(key, hyper, task):
        key, net_key, env_key = jax.random.split(key, 3)
        envs = rollout.init(env, env_key, task, workers)
        params = network.init(net_key, envs.obs)
        return State(
            params=params,
            opt_state=optimiser(hyper, jnp.int32(0)).init(params),
            snapshots=jax.tree.map(lambda x: jnp.tile(x, (workers, *[1] * x.ndim)), params),
            synced=jnp.zeros(workers, jnp.int32),
            envs=envs,
            env_steps=jnp.int32(0),
            key=key,
            step=jnp.int32(0),
        )

    def act(params, envs, key, task):
        """Alg. S3, the inner loop: step one environment until t_max or the end of its episode."""

        def one(now, key):
            envs, going, _, _ = now
            act_key, env_key = jax.random.split(key)
            action = forward(params, envs.obs)[0].sample(act_key)
            state, seen = env.step(env_key, envs.state, env.action_space.from_policy(action), task)
            envs_after, ended = rollout.advance(envs, state, seen)
            after = (envs_after, ~(seen.terminated | seen.truncated), seen.next_obs, seen.terminated)
            now_after = jax.tree.map(lambda new, old: jnp.where(going, new, old), after, now)
            return now_after, (envs.obs, action, seen.reward, going, jax.tree.map(lambda x: x * going, ended))

        start = (envs, jnp.array(True), envs.obs, jnp.array(False))
        now, steps = jax.lax.scan(one, start, jax.random.split(key, config.t_max))
        (envs, _, last_obs, terminated), (obs, action, reward, taken, ended) = now, steps
        return envs, Rollout(obs, action, reward, taken, last_obs, terminated), rollout.episode_metrics(ended, obs)

    def gradient(params, envs, key, hyper, task):
        """One worker: act at its snapshot, and sum the gradient at that snapshot over the steps taken."""
        envs, batch, episodes = act(params, envs, key, task)
        reward = jnp.clip(batch.reward, -hyper.reward_clip, hyper.reward_clip)
        bootstrap = jnp.where(batch.terminated, 0.0, forward(params, batch.last_obs)[1])
        target = returns.n_step(reward, batch.taken, bootstrap, hyper.gamma)

        def loss(params):
            pi, value = forward(params, batch.obs)
            surrogate, value_error = actor_critic_loss(pi.log_prob(batch.action), value, target)
            entropy = pi.entropy()
            each = surrogate + hyper.value_coef * value_error - hyper.entropy_coef * entropy
            sums = {"loss/policy": surrogate, "loss/value": value_error, "policy/entropy": entropy}
            return jnp.sum(batch.taken * each), {name: jnp.sum(batch.taken * x) for name, x in sums.items()}

        grads, sums = jax.grad(loss, has_aux=True)(params)
        return envs, grads, batch.taken.sum(dtype=jnp.int32), sums, episodes

    def apply(shared, grads, num_steps, hyper):
        """Apply one worker's gradient to the parameters as they are by now."""
        params, opt_state, env_steps = shared
        env_steps += num_steps
        return *optim.descend(optimiser(hyper, env_steps), params, opt_state, grads), env_steps

    def side_by_side(shared, snapshots, envs, keys, hyper, task):
        """A round of round-robin: all rollouts and gradients at once, then the updates in turn."""
        envs, grads, num_steps, *measured = jax.vmap(gradient, (0, 0, 0, None, None))(
            snapshots, envs, keys, hyper, task
        )

        def one(shared, update):
            grads, num_steps = update
            shared = apply(shared, grads, num_steps, hyper)
            return shared, shared[0]

        shared, snapshots = jax.lax.scan(one, shared, (grads, num_steps))
        return shared, snapshots, envs, (num_steps, *measured)

    def in_turn(shared, snapshots, envs, order, keys, hyper, task):
        """A round in any order, literally: rollout, gradient, update and snapshot, one worker at a time."""

        def one(carry, turn):
            shared, *all_workers = carry
            worker, key = turn
            snapshot, envs = jax.tree.map(lambda x: x[worker], all_workers)
            envs, grads, *measured = gradient(snapshot, envs, key, hyper, task)
            shared = apply(shared, grads, measured[0], hyper)
            mine = [shared[0], envs]
            all_workers = jax.tree.map(lambda all, new: all.at[worker].set(new), all_workers, mine)
            return (shared, *all_workers), measured

        (shared, snapshots, envs), measured = jax.lax.scan(one, (shared, snapshots, envs), (order, keys))
        return shared, snapshots, envs, measured

    def step(state, hyper, task):
        # 1. Whose turn it is: `order` [W] for the updates of this round.
        key, round_key = jax.random.split(state.key)
        keys = jax.random.split(round_key, workers)
        order = jnp.arange(workers)
        if config.schedule == "random":
            order = jax.random.categorical(jax.random.fold_in(schedule_key, state.step), log_speeds, shape=(workers,))

        # 2. W updates, each at the snapshot of its worker.
        shared = state.params, state.opt_state, state.env_steps
        if config.schedule == "round-robin":
            after = side_by_side(shared, state.snapshots, state.envs, keys, hyper, task)
        else:
            after = in_turn(shared, state.snapshots, state.envs, order, keys, hyper, task)
        (params, opt_state, env_steps), snapshots, envs, (num_steps, sums, episodes) = after

        # 3. Staleness: the updates of others between a worker's snapshot and its own update.
        def turn(synced, now):
            worker, made = now
            return synced.at[worker].set(made + 1), made - synced[worker]

        made = state.step * workers + jnp.arange(workers, dtype=jnp.int32)
        synced, staleness = jax.lax.scan(turn, state.synced, (order, made))

        taken = num_steps.sum().astype(jnp.float32)
        metrics = {name: x.sum() / taken for name, x in sums.items()}
        metrics |= {name: x.sum() for name, x in episodes.items()}
        metrics["worker/steps"] = taken
        metrics["worker/staleness_mean"] = staleness.mean(dtype=jnp.float32)
        metrics["worker/staleness_max"] = staleness.max().astype(jnp.float32)
        return State(params, opt_state, snapshots, synced, envs, env_steps, key, state.step + 1), metrics

    def value(state, hyper, obs, action):
        """V(s), and no bonus."""
        value = forward(state.params, obs)[1]
        return value, jnp.zeros_like(value)

    return Algorithm(
        "a3c",
        config,
        env,
        hyper,
        env.params,
        init,
        step,
        actor=lambda state: state.params,
        policy=policy,
        steps_per_update=workers * config.t_max,
        value=value,
    )


presets = Presets(classic=Preset(Config(), Hyper()))
