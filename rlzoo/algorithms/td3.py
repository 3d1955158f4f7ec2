"""Twin delayed deep deterministic policy gradient (TD3), online, and DDPG as a preset of it.

TD3: Fujimoto et al. 2018, arXiv:1802.09477, Alg. 1; DDPG: Lillicrap et al. 2016, arXiv:1509.02971, Alg. 1; several
steps of reward, distributions and many environments, as in FastTD3: presets ``fast``, by its description, not its code.
Shapes: N = num_envs, T = num_steps, B = batch_size, E = num_critics, A = action dimensions. A sweep adds leading axes.

  a'       clip(pi'(s_n) + clip(policy_noise n, -noise_clip, noise_clip), -1, 1),  n normal, anew for each row
  critics  (Q_i(s, a) - R - D min_i Q'_i(s_n, a'))^2,  R and D of n_step steps, see `rlzoo.blocks.replay.take_steps`;
           of bins or quantiles their head's loss, see `rlzoo.blocks.heads`
  policy   -Q_1(s, pi(s)), once in policy_delay critic steps, on the last minibatch
  targets  pi', Q' move by tau towards pi, Q, as often
  acting   clip(pi(s) + scale n, -1, 1) of the box; of each environment scale is exploration_noise, or lies between
           noise_low and noise_high: on a geometric ladder, or drawn anew whenever an episode ends

DDPG is num_critics = 1, policy_delay = 1 and policy_noise = 0, with independent noise in place of the paper's
Ornstein-Uhlenbeck process, as in all later code.

Departures: critics see actions in [-1, 1], whatever the box. Minibatches are drawn with replacement; the policy steps
behind each policy_delay critic steps, which it shares its last minibatch with. The first steps, which fill the buffer,
act uniformly at random and belong to `init`. Episodes cut by a time limit bootstrap from their true last observation.
Networks are as in later code two layers of 256; defaults whose source is not named, and the presets, are ours.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from rlzoo.algorithms.config import Preset, Presets, Structure, bounded_box
from rlzoo.algorithms.hyper import Limit, Positive, Rate, Real, Share, Weight, checked, numbers
from rlzoo.algorithms.td3_bc import Params, learned
from rlzoo.blocks import heads, networks, optim, priorities, replay, rollout
from rlzoo.types import Algorithm, Env, Transition

NOISES = ("constant", "ladder", "drawn")


@dataclass(frozen=True)
class Config(Structure):  # static: fixes shapes, loop lengths and branches
    num_envs: int = 1  # N
    num_steps: int = 2  # T, steps per environment between learning
    num_updates: int = 2  # critic steps after them; num_updates / (N T) is the update-to-data ratio
    policy_delay: int = 2  # critic steps for each step of policy and targets; arXiv:1802.09477, Section 6.1
    batch_size: int = 256  # B
    capacity: int = 100_000  # transitions in the replay buffer
    warmup: int = 1_000  # transitions of random actions before learning; they count as environment steps
    warmup_hold: int = 1  # steps for which an action of the warm-up is held, where single ones lead nowhere
    n_step: int = 1  # steps of reward in a target
    num_critics: int = 2  # E
    head: str = "scalar"  # of critics: mean, hl_gauss, two_hot, c51 or quantile; see rlzoo.blocks.heads
    num_bins: int = 101  # of a classification head; quantiles
    noise: str = "constant"  # of exploration, or a ladder over environments, or drawn for each
    hidden: tuple[int, ...] = (256, 256)  # widths of the policy's and of each critic's layers
    activation: str = "relu"  # tanh, relu, swish or gelu
    layer_norm: bool = False  # of critics, before each activation
    compute_dtype: str = "float32"  # of default networks' products, or bfloat16; sums, losses, parameters are float32
    actor: nn.Module | None = None  # own module, obs -> [B, A], before the tanh
    critic: nn.Module | None = None  # own module, (obs, action) -> [B, 1], or [B, num_bins]
    optim: Callable[..., Any] | None = None  # own, (hyper, updates done) -> optax transformation, or one a part

    def __post_init__(self) -> None:
        self.at_least(1, "num_envs", "num_steps", "num_updates", "policy_delay", "batch_size", "capacity", "warmup")
        self.at_least(1, "warmup_hold", "n_step", "num_critics")
        self.at_least(2, "num_bins")
        self.choice("head", heads.HEADS)
        self.choice("noise", NOISES)
        self.widths("hidden")
        self.choice("activation", networks.ACTIVATIONS)
        self.dtype("compute_dtype", "actor", "critic")
        self.divides("policy_delay", "num_updates", self.num_updates)
        self.replay(self.num_envs * self.num_steps, self.n_step, self.num_envs)
        self.divides("warmup_hold", "warmup / num_envs", self.warmup // self.num_envs)


@numbers
class Hyper(NamedTuple):  # traced: any leaf may carry a sweep axis
    actor_learning_rate: Rate = 3e-4  # of Adam; 1e-3 in the paper
    critic_learning_rate: Rate = 3e-4  # of Adam; 1e-3 in the paper
    gamma: Share = 0.99  # discount per environment step; Section 6.1
    tau: Share = 0.005  # step of the targets towards what they follow; Section 6.1
    policy_noise: Weight = 0.2  # standard deviation of the noise on the target's action, half widths; Section 6.1
    noise_clip: Limit = 0.5  # bound of that noise; Section 6.1
    exploration_noise: Weight = 0.1  # standard deviation in acting, half widths; Section 6.1
    noise_low: Positive = 0.05  # of a ladder, or of what is drawn, half widths
    noise_high: Positive = 0.5  # the upper end
    value_low: Real = -10.0  # the lower end of a head's bins, reward units
    value_high: Real = 10.0  # the upper end of a head's bins
    sigma_ratio: Positive = 0.75  # HL-Gauss's standard deviation, in bins; arXiv:2403.03950
    kappa: Weight = 1.0  # where the quantile Huber loss bends, reward units


class State(NamedTuple):  # all the next update needs, and nothing else
    params: Params
    target: Params
    opt_state: Params
    replay: Transition  # [capacity, ...]; actions in [-1, 1]
    envs: rollout.Envs  # N environments in the middle of their episodes
    noise: jax.Array  # f32[N], of each environment, half widths
    key: chex.PRNGKey
    step: jax.Array  # int32[], updates done; never batched


class Actor(NamedTuple):  # what acting needs
    params: chex.ArrayTree
    noise: jax.Array  # f32[], the environments' mean


def make(env: Env, config: Config = Config(), hyper: Hyper = Hyper()) -> Algorithm:
    """TD3 for an environment: see `Config` for its structure, `Hyper` for its numbers, `presets` for tuned pairs.

    Raises:
        ValueError: the actions are discrete, or their box is unbounded.
    """
    space = bounded_box(env, "TD3", "; for discrete ones take dqn, pqn or ppo", sees=("image", "privileged"))
    hyper = checked(hyper)
    rows = config.num_envs * config.num_steps  # that an update adds to the buffer
    warmup_blocks = config.warmup // rows
    drawing = priorities.Rows(False, config.capacity, rows, (config.n_step - 1) * config.num_envs)
    num_actions, head = space.low.size, heads.of(config.head, config.num_bins)

    network = networks.feed_forward(env, config)
    critic = network(head.size, layer_norm=config.layer_norm, privileged=True)
    nets = networks.TwinCritics(
        networks.own(config, "actor", network(num_actions), networks.public(env.obs_space).shape),
        networks.own(config, "critic", critic, env.obs_space.shape, (num_actions,)),
        head,
        config.num_critics,
    )

    def scales(hyper, key):
        """The noise of each environment, [N]."""
        if config.noise == "constant":
            return jnp.full(config.num_envs, hyper.exploration_noise)
        if config.noise == "drawn":
            return jax.random.uniform(key, (config.num_envs,), minval=hyper.noise_low, maxval=hyper.noise_high)
        rungs = jnp.arange(config.num_envs) / max(config.num_envs - 1, 1)
        return hyper.noise_low * (hyper.noise_high / hyper.noise_low) ** rungs

    def explore(params, obs, noise, key):
        action = nets.act(params, obs)
        return jnp.clip(action + noise * jax.random.normal(key, action.shape), -1.0, 1.0)

    def policy(actor, obs, key, deterministic=False):
        action = nets.act(actor.params, obs) if deterministic else explore(actor.params, obs, actor.noise, key)
        return space.from_policy(action)

    def optimisers(hyper, step):
        default = Params(optax.adam(hyper.actor_learning_rate), optax.adam(hyper.critic_learning_rate))
        return optim.own(config, hyper, step, default)

    def init(key, hyper, task):
        key, actor_key, critic_key, env_key, act_key, noise_key = jax.random.split(key, 6)
        envs = rollout.init(env, env_key, task, config.num_envs)
        num_steps = config.warmup // config.num_envs
        envs, batch = rollout.at_random(env, envs, act_key, task, num_steps, config.warmup_hold)
        buffer = replay.init(jax.tree.map(lambda x: x[0], batch), config.capacity)
        obs, action = jax.tree.map(lambda x: x[:1], (batch.obs, batch.action))
        params = Params(
            actor=nets.actor.init(actor_key, networks.public(obs)),
            critics=nets.init_critics(critic_key, obs, action),
        )
        return State(
            params=params,
            target=params,
            opt_state=Params(*(adam.init(x) for adam, x in zip(optimisers(hyper, 0), params, strict=True))),
            replay=replay.add(buffer, batch, jnp.int32(0)),
            envs=envs,
            noise=scales(hyper, noise_key),
            key=key,
            step=jnp.int32(0),
        )

    def step(state, hyper, task):
        key, act_key, row_key, learn_key, noise_key = jax.random.split(state.key, 5)
        adam = optimisers(hyper, state.step)

        # 1. Act: T steps in each of N environments, into the buffer.
        def act(obs, key):
            action = explore(state.params.actor, obs, state.noise[:, None], key)
            return space.from_policy(action), action

        envs, batch, action, episodes = rollout.collect(env, act, state.envs, act_key, task, config.num_steps)
        blocks = warmup_blocks + state.step
        buffer = replay.add(state.replay, rollout.flatten(batch._replace(action=action)), blocks)
        ended = (batch.terminated | batch.truncated).any(axis=0)
        noise = jnp.where(ended | (config.noise != "drawn"), scales(hyper, noise_key), state.noise)

        # 2. Minibatches for all gradient steps.
        drawn, _ = drawing.draw((), row_key, blocks + 1, config.num_updates * config.batch_size, hyper)
        batches = replay.steps(buffer, drawn, config.n_step, config.num_envs, hyper.gamma)
        shape = config.num_updates // config.policy_delay, config.policy_delay, config.batch_size
        batches = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), batches)
        noises = jax.random.normal(learn_key, (*shape, num_actions))

        # 3. Critics: a gradient step on each minibatch; then one of the policy, and of the targets.
        def update(carry, now):
            params, target, opt_state = carry
            critic_step = lambda carry, now: learned(nets, adam.critics, target, now[0], hyper, carry, now[1])  # noqa: E731
            (critics, critic_state), metrics = jax.lax.scan(critic_step, (params.critics, opt_state.critics), now)
            obs = jax.tree.map(lambda x: x[-1], now[0].obs)

            def loss(actor_params):
                return -nets.first_q(critics, obs, nets.act(actor_params, obs), hyper).mean()

            error, grads = jax.value_and_grad(loss)(params.actor)
            actor, actor_state = optim.descend(adam.actor, params.actor, opt_state.actor, grads)
            params = Params(actor, critics)
            carry = params, optim.polyak(target, params, hyper.tau), Params(actor_state, critic_state)
            return carry, jax.tree.map(jnp.mean, metrics) | {"loss/policy": error}

        start = state.params, state.target, state.opt_state
        learning, metrics = jax.lax.scan(update, start, (batches, noises))
        metrics = jax.tree.map(jnp.mean, metrics) | episodes
        return State(*learning, buffer, envs, noise, key, state.step + 1), metrics

    def value(state, hyper, obs, action):
        """Mean of the critics' Q(s, a), and no bonus."""
        q = nets.q(state.params.critics, obs, space.to_policy(action), hyper).mean(axis=0)
        return q, jnp.zeros_like(q)

    functions = init, step, lambda state: Actor(state.params.actor, state.noise.mean()), policy
    return Algorithm("td3", config, env, hyper, env.params, *functions, rows, config.warmup, value)


_BRAX = Config(num_envs=8, num_steps=1, num_updates=8, capacity=200_000, warmup=8_000)
_FAST = Config(num_envs=1024, num_steps=1, batch_size=32_768, capacity=1_048_576, warmup=32_768, n_step=3)
_QUICK = {"actor_learning_rate": 1e-3, "critic_learning_rate": 1e-3}
presets = Presets(
    classic=Preset(Config(), Hyper(**_QUICK)),
    brax=Preset(_BRAX, Hyper()),
    ddpg=Preset(Config(num_critics=1, policy_delay=1), Hyper(**_QUICK, policy_noise=0.0)),
    ddpg_brax=Preset(replace(_BRAX, num_critics=1, policy_delay=1), Hyper(policy_noise=0.0)),
    fast=Preset(
        replace(_FAST, head="c51", noise="drawn"),
        Hyper(tau=0.1, noise_low=1e-3, noise_high=0.4, value_low=-100.0, value_high=100.0),
    ),
)
