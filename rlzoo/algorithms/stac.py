"""Stochastic actor-critic (STAC): one Gaussian critic of the one-step target, and pessimism about its spread.

Ozalp 2026, arXiv:2601.00737. The critic's N(mu, sigma^2) describes the target r + gamma (mu' - beta sigma' + alpha H'),
in which the successor enters as a number: sigma is the spread that one transition creates (reward, dynamics, policy)
and does not add up along the episode. Both the target and the policy's objective count sigma down by beta; this takes
the place of the least of two critics. Dropout and LayerNorm regularise and measure nothing.

  critic       -log N(y; mu(s, a), sigma(s, a)^2)
               y = r + gamma (1 - terminated) (mu' - beta sigma' - alpha log pi(a'|s'))
  policy       alpha log pi(a|s) - (mu(s, a) - beta sigma(s, a)),   a of pi(s)
  temperature  alpha (-log pi(a|s) - target_entropy), log pi held constant
  target       mu', sigma' are of the target critic at (s', a'), which moves by tau towards the critic

Shapes: N = num_envs, T = num_steps, B = batch_size, A = action dimensions, W = hidden units of a network,
E = critics, Q = numbers in a critic's target (1, or its quantiles). A sweep adds leading axes.

Two of the paper's baselines share everything but the critic and the dropout, which they lack: the preset ``dsac`` has
``critic="quantile"``, the least of two sets of 25 quantiles; ``estac`` has ``critic="twin-gaussian"``, the least of two
means, with no pessimism about sigma. (Its third, SAC, is `rlzoo.sac`, in its own paper's form.)

Where the author's code, which made the published numbers, and the paper disagree, the code is the default and the
paper a switch of `Config`: ``temperature``, ``norm_last``, ``target_dropout``, ``test_samples``. The code's
evaluation is a mean of sampled actions, whose noise is drawn for the whole batch: in another batch, or at another
place in it, an observation's "deterministic" action is another; with ``test_samples=0`` it is a function of the
observation. (That the pseudo-code moves the target critic last changes no number.) The code's temperature step has a
factor alpha that its DSAC lacks; that is kept. Target entropies are -A, in units of the action in [-1, 1], as in
Table 5 and all runs; Table 6 has half of it.
Episodes cut by a time limit bootstrap. Departures: environments may run side by side; and scores here are of many
episodes of the last policy, where the paper pools single ones of a window of evaluations.

Defaults of `Config` and `Hyper` are those of the runs; beta and the dropouts, which differ by task, are Ant's. Presets
with a task's name, ``estac`` and ``dsac`` are of the runs too, but for the smaller replay of ``risky_point_mass``,
where the paper sweeps beta; ``classic`` and ``brax`` are ours.
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
from rlzoo.algorithms.hyper import Entropy, Positive, Rate, Share, Weight, filled, numbers
from rlzoo.algorithms.sac import default_target_entropy, soft_target, temperature_loss
from rlzoo.blocks import masks, networks, optim, replay, rollout
from rlzoo.blocks.distributions import TanhNormal, pre_tanh
from rlzoo.blocks.vmapping import vmap
from rlzoo.types import Algorithm, Env, Transition

NAN = float("nan")


@dataclass(frozen=True)
class Config(Structure):  # static: fixes shapes, loop lengths and branches
    num_envs: int = 1  # N
    num_steps: int = 1  # T, steps per environment between learning
    num_updates: int = 1  # gradient steps after them; num_updates / (N T) is the update-to-data ratio
    batch_size: int = 256  # B
    capacity: int = 1_000_000  # transitions in the replay buffer
    warmup: int = 10_000  # transitions of tanh(normal) actions before learning; they count as environment steps
    critic: str = "gaussian"  # gaussian: STAC; twin-gaussian: ESTAC; quantile: DSAC
    hidden: tuple[int, ...] = (256, 256)  # widths of the policy's and of each critic's layers
    activation: str = "relu"  # tanh, relu, swish or gelu
    actor_dropout: float = 0.01  # probability, also while acting in training; 0 for ESTAC and DSAC in the paper
    critic_dropout: float = 0.01  # probability; 0 for ESTAC and DSAC in the paper
    target_dropout: bool = True  # the target critic drops units too; the paper leaves it open
    norm_last: bool = False  # True: LayerNorm behind the activation, as the paper's text says
    temperature: str = "sgd"  # sgd: on the batch's mean, as in the code; adam: on its sum, as in the paper
    test_samples: int = 10  # actions averaged in evaluation, as in the code; 0: tanh of the mean, as the paper says
    actor_network: nn.Module | None = None  # own module, obs -> [B, 2 A], mean and raw deviation; it drops nothing
    critic_network: nn.Module | None = None  # own module, (obs, action) -> [B, 2], or quantiles; drops nothing
    optim: Callable[..., Any] | None = None  # own, (hyper, updates done) -> optax transformation, or one a part

    def __post_init__(self) -> None:
        self.at_least(1, "num_envs", "num_steps", "num_updates", "batch_size", "capacity", "warmup")
        self.at_least(0, "test_samples")
        self.choice("critic", CRITICS)
        self.widths("hidden")
        self.choice("activation", networks.ACTIVATIONS)
        self.probability("actor_dropout", "critic_dropout")
        self.choice("temperature", ("sgd", "adam"))
        self.replay(self.num_envs * self.num_steps)
        if self.warmup < 2 * self.batch_size:
            raise ValueError(
                f"warmup={self.warmup} is too little for distinct rows in batches of batch_size={self.batch_size}; "
                f"use {2 * self.batch_size} or more"
            )


@numbers
class Hyper(NamedTuple):  # traced: any leaf may carry a sweep axis
    actor_learning_rate: Rate = 3e-4  # of Adam
    critic_learning_rate: Rate = 3e-4  # of Adam
    alpha_learning_rate: Rate = 3e-4  # of SGD or Adam on log alpha; 0: the temperature stays at init_alpha
    gamma: Share = 0.99  # discount per environment step
    tau: Share = 0.005  # step of the target critic towards the critic; the paper's rho is 1 - tau
    beta: Weight = 0.25  # pessimism: standard deviations counted off; the gaussian critic alone has it
    target_entropy: Entropy = NAN  # nats, of the action in [-1, 1]; nan: -A
    init_alpha: Positive = 0.2  # temperature at the start, reward units per nat


class Params(NamedTuple):  # of what is learned, or of its optimisers
    actor: chex.ArrayTree
    critics: chex.ArrayTree  # leaves [E, ...]
    log_alpha: chex.ArrayTree  # f32[]


class State(NamedTuple):  # all the next update needs, and nothing else
    params: Params
    target: chex.ArrayTree  # the target critics, leaves [E, ...]
    opt_state: Params
    replay: Transition  # [capacity, ...]; actions in [-1, 1]
    envs: rollout.Envs  # N environments in the middle of their episodes
    key: chex.PRNGKey
    step: jax.Array  # int32[], updates done; never batched


def positive_std(raw: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """softplus(max(raw, -5)): at least 0.0067, and below it no gradient. Of the policy and of the critic."""
    return jax.nn.softplus(jnp.maximum(raw, -5.0))


def gaussian_loss(mean: Float[Array, "*B"], std: Float[Array, "*B"], target: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """-log N(target; mean, std^2) = log(2 pi) / 2 + log std + (target - mean)^2 / (2 std^2)."""
    return 0.5 * math.log(2.0 * math.pi) + jnp.log(std) + (target - mean) ** 2 / (2.0 * std**2)


def quantile_loss(quantiles: Float[Array, "*B Q"], target: Float[Array, "*B Q"]) -> Float[Array, "*B"]:
    """Quantile Huber loss at the midpoints tau_i = (i + 1/2) / Q (Dabney et al. 2018, arXiv:1710.10044, Eq. 10).

    mean over i and j of |tau_i - 1[u < 0]| huber(u),   u = target_j - quantile_i,   huber with threshold 1
    """
    num_quantiles = quantiles.shape[-1]
    midpoints = (jnp.arange(num_quantiles) + 0.5) / num_quantiles
    error = target[..., None, :] - quantiles[..., :, None]  # [*B, i, j]
    weight = jnp.abs(midpoints[:, None] - (error < 0.0))
    return jnp.mean(weight * optax.huber_loss(error), axis=(-2, -1))


class Critic(NamedTuple):
    """What is made of the critics' outputs [E, B, outputs]."""

    copies: int  # E
    outputs: int
    bootstrap: Callable[..., jax.Array]  # (outputs, beta) -> [B, Q], the successor in the target
    loss: Callable[..., jax.Array]  # (outputs, target [B, Q]) -> [E, B]
    objective: Callable[..., jax.Array]  # (outputs, beta) -> [B], what the policy ascends
    value: Callable[..., jax.Array]  # outputs -> [E, B], the estimate of the return


def _pessimistic(out, beta):
    """mu - beta sigma of the one critic."""
    return (out[..., 0] - beta * positive_std(out[..., 1]))[0]


def _gaussian_losses(out, target):
    return gaussian_loss(out[..., 0], positive_std(out[..., 1]), jnp.broadcast_to(target[..., 0], out.shape[:-1]))


CRITICS = {
    "gaussian": Critic(
        copies=1,
        outputs=2,
        bootstrap=lambda out, beta: _pessimistic(out, beta)[:, None],
        loss=_gaussian_losses,
        objective=_pessimistic,
        value=lambda out: out[..., 0],
    ),
    "twin-gaussian": Critic(
        copies=2,
        outputs=2,
        bootstrap=lambda out, beta: out[..., 0].min(axis=0)[:, None],
        loss=_gaussian_losses,
        objective=lambda out, beta: out[..., 0].min(axis=0),
        value=lambda out: out[..., 0],
    ),
    "quantile": Critic(
        copies=2,
        outputs=25,
        bootstrap=lambda out, beta: out.min(axis=0),
        loss=lambda out, target: quantile_loss(out, jnp.broadcast_to(target, out.shape)),
        objective=lambda out, beta: out.mean(axis=-1).min(axis=0),
        value=lambda out: out.mean(axis=-1),
    ),
}


def make(env: Env, config: Config = Config(), hyper: Hyper = Hyper()) -> Algorithm:
    """STAC for an environment: see `Config` for its structure, `Hyper` for its numbers, `presets` for the paper's.

    Raises:
        ValueError: the actions are discrete, or their box is unbounded.
    """
    space = bounded_box(env, "STAC", instead="; use sac")
    hyper = filled(hyper, target_entropy=default_target_entropy(space))
    num_actions = math.prod(space.shape)
    rows = config.num_envs * config.num_steps  # that an update adds to the buffer
    warmup_blocks = config.warmup // rows
    critic = CRITICS[config.critic]
    num_units = sum(config.hidden)  # W

    network = partial(
        networks.FeedForward,
        obs_shape=env.obs_space.shape,
        hidden=config.hidden,
        activation=config.activation,
        layer_norm=True,
        norm_last=config.norm_last,
    )
    actor_dropout = config.actor_dropout if config.actor_network is None else 0.0
    critic_dropout = config.critic_dropout if config.critic_network is None else 0.0
    shapes = env.obs_space.shape, (num_actions,)
    actor_net = networks.own(config, "actor_network", network(2 * num_actions, dropout=actor_dropout), shapes[0])
    critic_net = networks.own(config, "critic_network", network(critic.outputs, dropout=critic_dropout), *shapes)

    def keep_masks(key, rate, *shape):
        """Dropout masks [*shape, W] of independent forward passes; None if nothing is dropped."""
        if rate == 0.0:
            return (None,) * shape[0]
        return masks.bernoulli_zeros(key, rate, math.prod(shape) * num_units).reshape(*shape, num_units)

    def kept(keep):
        return {} if keep is None else {"keep": keep}

    def distribution(params, obs, keep=None):
        mean, raw = jnp.split(actor_net.apply(params, obs, **kept(keep)), 2, axis=-1)
        return TanhNormal(mean, jnp.log(positive_std(raw)), -jnp.ones(num_actions), jnp.ones(num_actions))

    def outputs(params, obs, action, keep=None):
        """The critics' outputs [E, B, outputs]."""
        one = lambda params, keep: critic_net.apply(params, obs, action, **kept(keep))  # noqa: E731
        return vmap(one, (0, None if keep is None else 0))(params, keep)

    def policy(actor, obs, key, deterministic=False):
        """Deterministic: given the key and the whole batch; of test_samples=0, given each observation alone."""
        pi = distribution(actor, obs)
        if not deterministic:
            return space.from_policy(jnp.tanh(pi.sample_pre_tanh(key)))
        if config.test_samples == 0:
            return space.from_policy(jnp.tanh(pi.mean))
        samples = jax.vmap(pi.sample_pre_tanh)(jax.random.split(key, config.test_samples))
        return space.from_policy(jnp.tanh(samples).mean(axis=0))

    def optimisers(hyper, step):
        temperature = optax.sgd if config.temperature == "sgd" else optax.adam
        default = Params(
            optax.adam(hyper.actor_learning_rate),
            optax.adam(hyper.critic_learning_rate),
            temperature(hyper.alpha_learning_rate),
        )
        return optim.own(config, hyper, step, default)

    def init(key, hyper, task):
        key, actor_key, critic_key, env_key, act_key = jax.random.split(key, 5)
        envs = rollout.init(env, env_key, task, config.num_envs)

        def at_random(obs, key):
            action = jnp.tanh(jax.random.normal(key, (config.num_envs, num_actions)))
            return space.from_policy(action), action

        num_steps = config.warmup // config.num_envs
        envs, batch, action, _ = rollout.collect(env, at_random, envs, act_key, task, num_steps)
        batch = rollout.flatten(batch._replace(action=action))
        buffer = replay.init(jax.tree.map(lambda x: x[0], batch), config.capacity)

        critic_keys = jax.random.split(critic_key, critic.copies)
        critics = jax.vmap(lambda key: critic_net.init(key, batch.obs[:1], batch.action[:1]))(critic_keys)
        if (
            config.critic != "quantile" and config.critic_network is None
        ):  # as in the code: sigma starts near softplus(0)
            bias = critics["params"]["head"]["bias"]
            critics["params"]["head"]["bias"] = bias.at[:, 1].set(0.0)
        params = Params(actor_net.init(actor_key, batch.obs[:1]), critics, jnp.log(hyper.init_alpha))
        return State(
            params=params,
            target=params.critics,
            opt_state=Params(*(one.init(x) for one, x in zip(optimisers(hyper, 0), params, strict=True))),
            replay=replay.add(buffer, batch, jnp.int32(0)),
            envs=envs,
            key=key,
            step=jnp.int32(0),
        )

    def step(state, hyper, task):
        key, act_key, learn_key = jax.random.split(state.key, 3)
        optimiser = optimisers(hyper, state.step)

        # 1. Act: T steps in each of N environments, with dropout, into the buffer.
        def act(obs, key):
            mask_key, action_key = jax.random.split(key)
            (keep,) = keep_masks(mask_key, actor_dropout, 1, config.num_envs)
            action = jnp.tanh(distribution(state.params.actor, obs, keep).sample_pre_tanh(action_key))
            return space.from_policy(action), action

        envs, batch, action, episodes = rollout.collect(env, act, state.envs, act_key, task, config.num_steps)
        blocks = warmup_blocks + state.step
        buffer = replay.add(state.replay, rollout.flatten(batch._replace(action=action)), blocks)
        size = replay.size(buffer, rows, blocks + 1)

        def update(carry, keys):
            params, target_params, opt_state = carry
            batch_key, actor_key, critic_key, next_key, now_key = keys
            batch = replay.sample_distinct(buffer, batch_key, size, config.batch_size)
            alpha = jnp.exp(params.log_alpha)
            actor_keeps = keep_masks(actor_key, actor_dropout, 2, config.batch_size)
            critic_keeps = keep_masks(critic_key, critic_dropout, 3, critic.copies, config.batch_size)

            # 2. The target: y = r + gamma (1 - terminated) (mu' - beta sigma' + alpha H').
            next_pi = distribution(params.actor, batch.next_obs, actor_keeps[0])
            u = next_pi.sample_pre_tanh(next_key)
            next_out = outputs(
                target_params, batch.next_obs, jnp.tanh(u), critic_keeps[0] if config.target_dropout else None
            )
            next_value = critic.bootstrap(next_out, hyper.beta) - alpha * next_pi.log_prob_pre_tanh(u)[:, None]
            target = soft_target(batch.reward[:, None], batch.terminated[:, None], next_value, hyper.gamma)  # [B, Q]

            # 3. Critics, then their targets a step towards them.
            def critic_loss(critic_params):
                out = outputs(critic_params, batch.obs, batch.action, critic_keeps[1])
                return critic.loss(out, target).mean(axis=-1).sum(), out

            (error, out), grads = jax.value_and_grad(critic_loss, has_aux=True)(params.critics)
            critics, critic_state = optim.descend(optimiser.critics, params.critics, opt_state.critics, grads)
            target_params = optim.polyak(target_params, critics, hyper.tau)

            # 4. The policy ascends mu - beta sigma + alpha H, and the temperature moves H to its target.
            def policy_loss(actor_params, log_alpha):
                pi = distribution(actor_params, batch.obs, actor_keeps[1])
                u = pi.sample_pre_tanh(now_key)
                entropy = -pi.log_prob_pre_tanh(u)
                score = critic.objective(outputs(critics, batch.obs, jnp.tanh(u), critic_keeps[2]), hyper.beta)
                error = -jnp.mean(score + alpha * entropy)
                if config.critic == "quantile":  # DSAC in the author's code: log alpha in the place of alpha
                    excess = log_alpha * jax.lax.stop_gradient(entropy - hyper.target_entropy)
                else:
                    excess = temperature_loss(log_alpha, entropy, hyper.target_entropy)
                excess = excess.mean() if config.temperature == "sgd" else excess.sum()
                return error + excess, {"loss/policy": error, "policy/entropy": entropy.mean(), "policy/alpha": alpha}

            grads, metrics = jax.grad(policy_loss, (0, 1), has_aux=True)(params.actor, params.log_alpha)
            actor_params, actor_state = optim.descend(optimiser.actor, params.actor, opt_state.actor, grads[0])
            log_alpha, alpha_state = optim.descend(optimiser.log_alpha, params.log_alpha, opt_state.log_alpha, grads[1])

            metrics |= {"loss/critic": error, "value/q": critic.value(out).mean()}
            if config.critic != "quantile":
                metrics["value/std"] = positive_std(out[..., 1]).mean()
            params = Params(actor_params, critics, log_alpha)
            return (params, target_params, Params(actor_state, critic_state, alpha_state)), metrics

        start = state.params, state.target, state.opt_state
        keys = jax.random.split(learn_key, (config.num_updates, 5))
        (params, target_params, opt_state), metrics = jax.lax.scan(update, start, keys)
        metrics = jax.tree.map(jnp.mean, metrics) | episodes
        return State(params, target_params, opt_state, buffer, envs, key, state.step + 1), metrics

    def value(state, hyper, obs, action):
        """mu(s, a), of several critics the mean, and -alpha log pi(a|s); nothing is dropped."""
        action = space.to_policy(action)
        log_prob = distribution(state.params.actor, obs).log_prob_pre_tanh(pre_tanh(action))
        q = critic.value(outputs(state.params.critics, obs, action)).mean(axis=0)
        return q, -jnp.exp(state.params.log_alpha) * log_prob

    return Algorithm(
        "stac",
        config,
        env,
        hyper,
        env.params,
        init,
        step,
        actor=lambda state: state.params.actor,
        policy=policy,
        steps_per_update=rows,
        warmup_steps=config.warmup,
        value=value,
    )


def _paper(beta: float, actor_dropout: float, critic_dropout: float) -> Preset:
    """One row of the paper's table of hyperparameters."""
    return Preset(Config(actor_dropout=actor_dropout, critic_dropout=critic_dropout), Hyper(beta=beta))


_QUICK = Hyper(actor_learning_rate=1e-3, critic_learning_rate=1e-3, alpha_learning_rate=1e-3)
presets = Presets(
    classic=Preset(Config(capacity=100_000, warmup=1_000), _QUICK),
    brax=Preset(Config(num_envs=8, num_updates=8, capacity=200_000, warmup=8_000), Hyper()),
    estac=Preset(Config(critic="twin-gaussian", actor_dropout=0.0, critic_dropout=0.0), Hyper()),
    dsac=Preset(Config(critic="quantile", actor_dropout=0.0, critic_dropout=0.0), Hyper()),
    risky_point_mass=Preset(
        Config(capacity=100_000, actor_dropout=0.0, critic_dropout=0.0), Hyper(init_alpha=0.01, target_entropy=-2.0)
    ),
    ant=_paper(0.25, 0.01, 0.01),
    halfcheetah=_paper(0.0, 0.0, 0.0),
    hopper=_paper(0.5, 0.01, 0.01),
    humanoid=_paper(0.25, 0.01, 0.0),
    swimmer=_paper(0.0, 0.01, 0.0),
    walker2d=_paper(0.125, 0.01, 0.0),
)
