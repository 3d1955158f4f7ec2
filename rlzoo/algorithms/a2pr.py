"""A2PR: adaptive advantage-guided policy regularisation; offline.

Liu et al. 2024, arXiv:2405.19909, and the authors' code, which the equations below follow. The base is TD3. A
variational autoencoder (VAE) of actions given states is trained on the data's actions of positive advantage alone. The
policy is regressed on the better of its own action's reconstruction and the data's action, and only where that one has
an advantage; elsewhere the value alone leads it. V(s), the baseline of the advantages, has no target network.

  critics  TD3's, sum over i of (Q_i(s, a) - y)^2,   y = r + gamma (1 - terminated) min_i Q'_i(s', a')
  V        (V(s) - min(y, r + gamma (1 - terminated) min_i Q_i(s', a')))^2
  VAE      vae_weight 1[Q_1(s, a) > V(s)] (VAE(s, a) - a)^2 + KL / 2
  policy   -lambda Q_1(s, pi(s)) + mask_weight 1[Q_1(s, v) >= V(s) or Q_1(s, a) > V(s)] (pi(s) - w)^2
           v = VAE(s, pi(s));   w = v if Q_1(s, v) >= Q_1(s, a), else a;   lambda = alpha / batch's mean |Q_1(s, pi(s))|
  squares are means over A;   y, lambda and 1[...] are held constant, w is not

Shapes: B = batch_size, A = action dimensions, L = 2 A latent dimensions, N = rows of the dataset. A sweep adds leading
axes, and all its lanes share one dataset, the `task`.

Kept from the code: advantages use the first critic alone; V is used as it was before its own step; its target is the
least of four critics'; the divergence is a mean over the batch and latent dimensions, with weight 1/2; the regression
target is not detached where the VAE made it (``detach_target``).
Where the paper says that the VAE samples, the code reconstructs the policy's action. ``mask_weight`` is 1, the default
of the code's class; its command line has 0.5, and one for each dataset, see ``presets``. Actions are in [-1, 1].

All other defaults of `Config` and `Hyper` are the code's. Of the presets those for medium are commands of its README,
those for medium-replay and medium-expert and ``hopper_random`` of earlier versions of it; ``halfcheetah`` and the other
two for random are ours, by analogy, and those for Pendulum ours, chosen on other keys than those of the results.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from rlzoo.algorithms.config import Preset, Presets, Structure, bounded_box
from rlzoo.algorithms.hyper import Limit, Positive, Rate, Real, Share, Weight, checked, numbers
from rlzoo.algorithms.td3_bc import critic_loss, smoothed, td_target, unscaled, value_loss
from rlzoo.blocks import networks, optim, replay
from rlzoo.data.dataset import Dataset, Moments, draw_rows, normalise, task_of
from rlzoo.types import Algorithm, Env

LOG_STD = (-4.0, 15.0)  # bounds of the VAE's


@dataclass(frozen=True)
class Config(Structure):  # static: fixes shapes, loop lengths and branches
    batch_size: int = 256  # B, drawn with replacement
    policy_delay: int = 2  # steps of critics, V and VAE for each step of policy and targets
    actor_hidden: tuple[int, ...] = (256, 256, 256)  # widths of the policy's layers
    critic_hidden: tuple[int, ...] = (256, 256, 256, 256)  # widths of each critic's and of V's
    vae_hidden: tuple[int, ...] = (750, 750)  # widths of the encoder's and of the decoder's
    activation: str = "relu"  # tanh, relu, swish or gelu
    normalise_obs: bool = True  # by the dataset's mean and standard deviation + 0.001
    detach_target: bool = False  # True: no gradient through the VAE's action in the policy's loss
    actor: nn.Module | None = None  # own module, obs -> [B, A] before the tanh; replaces the default
    critic: nn.Module | None = None  # own module, (obs, action) -> [B, 1]; both critics are of its form
    value: nn.Module | None = None  # own module, obs -> [B, 1]
    encoder: nn.Module | None = None  # own module, (obs, action) -> [B, 4 A], mean and log std of the latent
    decoder: nn.Module | None = None  # own module, (obs, latent [B, 2 A]) -> [B, A] before the tanh
    optim: Callable[..., Any] | None = None  # own, (hyper, updates done) -> optax transformation, or one a part

    def __post_init__(self) -> None:
        self.at_least(1, "batch_size", "policy_delay")
        self.widths("actor_hidden", "critic_hidden", "vae_hidden")
        self.choice("activation", networks.ACTIVATIONS)


@numbers
class Hyper(NamedTuple):  # traced: any leaf may carry a sweep axis
    actor_learning_rate: Rate = 3e-4  # of Adam
    critic_learning_rate: Rate = 3e-4  # of Adam
    value_learning_rate: Rate = 3e-4  # of Adam
    vae_learning_rate: Rate = 1e-3  # of Adam
    gamma: Share = 0.99  # discount per environment step
    tau: Share = 0.005  # step of the targets towards what they follow
    policy_noise: Weight = 0.2  # standard deviation of the noise on the target's action, of actions in [-1, 1]
    noise_clip: Limit = 0.5  # bound of that noise
    alpha: Weight = 2.5  # weight of the value against the regularisation
    vae_weight: Weight = 1.0  # of the VAE's reconstruction
    mask_weight: Weight = 1.0  # of the policy's regression
    reward_scale: Positive = 1.0  # rewards are scale r + shift
    reward_shift: Real = 0.0  # reward units


class Params(NamedTuple):  # of what is learned, or of its optimisers
    actor: chex.ArrayTree
    critics: chex.ArrayTree  # leaves [2, ...]
    value: chex.ArrayTree
    vae: chex.ArrayTree  # (encoder, decoder)


class Targets(NamedTuple):
    actor: chex.ArrayTree
    critics: chex.ArrayTree  # leaves [2, ...]


class State(NamedTuple):  # all the next update needs, and nothing else
    params: Params
    target: Targets
    opt_state: Params
    moments: Moments  # of the dataset's observations: acting needs them
    key: chex.PRNGKey
    step: jax.Array  # int32[], updates done; never batched


def baseline_target(
    reward: Float[Array, "*B"],
    terminated: Bool[Array, "*B"],
    next_q: Float[Array, "E *B"],
    target: Float[Array, "*B"],
    gamma: Float[Array, ""] | float,
) -> Float[Array, "*B"]:
    """V's target: the least of the critics' target and the same with the online critics' ``next_q``."""
    return jnp.minimum(td_target(reward, terminated, next_q, gamma), target)


def vae_loss(
    reconstruction: Float[Array, "*B A"],
    action: Float[Array, "*B A"],
    advantageous: Bool[Array, "*B"],
    mean: Float[Array, "*B L"],
    log_std: Float[Array, "*B L"],
    weight: Float[Array, ""] | float,
) -> Float[Array, "*B"]:
    """weight 1[Q_1(s, a) > V(s)] (reconstruction - a)^2 + KL / 2, each a mean over its dimensions.

    KL = -(1 + log sigma^2 - mu^2 - sigma^2) / 2, for every row.
    """
    error = jnp.mean((reconstruction - action) ** 2, axis=-1)
    divergence = -0.5 * jnp.mean(1.0 + 2.0 * log_std - mean**2 - jnp.exp(2.0 * log_std), axis=-1)
    return weight * advantageous * error + 0.5 * divergence


def guide(
    vae_action: Float[Array, "*B A"],
    action: Float[Array, "*B A"],
    vae_q: Float[Array, "*B"],
    q: Float[Array, "*B"],
    value: Float[Array, "*B"],
) -> tuple[Float[Array, "*B A"], Bool[Array, "*B"]]:
    """The action of the higher Q_1 (if equal, the VAE's), and whether it has an advantage: Q >= V, the data's Q > V."""
    wanted = jnp.where((vae_q >= q)[..., None], vae_action, action)
    return wanted, (vae_q >= value) | (q > value)


def regularisation(
    action: Float[Array, "*B A"],
    wanted: Float[Array, "*B A"],
    advantageous: Bool[Array, "*B"],
    weight: Float[Array, ""] | float,
) -> Float[Array, "*B"]:
    """weight 1[advantage] (pi(s) - wanted)^2, the mean over action dimensions."""
    return weight * advantageous * jnp.mean((action - wanted) ** 2, axis=-1)


def make(env: Env, config: Config, dataset: Dataset, hyper: Hyper = Hyper()) -> Algorithm:
    """A2PR on a dataset; ``env`` gives the spaces, and is what the policy is evaluated in.

    Raises:
        ValueError: the dataset is not of this environment, or its actions are discrete.
    """
    hyper = checked(hyper)
    space = bounded_box(env, "A2PR")
    task = task_of(dataset, env, "a2pr", config.normalise_obs)
    num_actions = task.transitions.action.shape[-1]
    num_latent = 2 * num_actions

    network = partial(networks.FeedForward, obs_shape=env.obs_space.shape, activation=config.activation)

    def own(field, features, hidden, *more):
        return networks.own(config, field, network(features, hidden=hidden), env.obs_space.shape, *more)

    nets = networks.TwinCritics(
        own("actor", num_actions, config.actor_hidden), own("critic", 1, config.critic_hidden, (num_actions,))
    )
    value_net = own("value", 1, config.critic_hidden)
    encoder_net = own("encoder", 2 * num_latent, config.vae_hidden, (num_actions,))
    decoder_net = own("decoder", num_actions, config.vae_hidden, (num_latent,))

    def reconstruct(params, obs, action, noise):
        """The VAE's action [B, A], and mean and log standard deviation [B, L] of its latent."""
        encoder, decoder = params
        mean, log_std = jnp.split(encoder_net.apply(encoder, obs, action), 2, axis=-1)
        log_std = jnp.clip(log_std, *LOG_STD)
        return jnp.tanh(decoder_net.apply(decoder, obs, mean + jnp.exp(log_std) * noise)), mean, log_std

    def policy(actor, obs, key, deterministic=False):
        params, moments = actor
        return space.from_policy(nets.act(params, normalise(moments, obs)))

    def optimisers(hyper, step):
        rates = (
            hyper.actor_learning_rate,
            hyper.critic_learning_rate,
            hyper.value_learning_rate,
            hyper.vae_learning_rate,
        )
        return optim.own(config, hyper, step, Params(*(optax.adam(rate) for rate in rates)))

    def init(key, hyper, task):
        key, actor_key, critic_key, value_key, encoder_key, decoder_key = jax.random.split(key, 6)
        obs, action = task.transitions.obs[:1], task.transitions.action[:1]
        params = Params(
            actor=nets.actor.init(actor_key, obs),
            critics=nets.init_critics(critic_key, obs, action),
            value=value_net.init(value_key, obs),
            vae=(
                encoder_net.init(encoder_key, obs, action),
                decoder_net.init(decoder_key, obs, jnp.zeros((1, num_latent))),
            ),
        )
        opt_state = Params(*(adam.init(x) for adam, x in zip(optimisers(hyper, 0), params, strict=True)))
        target = Targets(params.actor, params.critics)
        return State(params, target, opt_state, task.moments, key, jnp.int32(0))

    def step(state, hyper, task):
        key, row_key, noise_key, latent_key, policy_key = jax.random.split(state.key, 5)
        adam, target = optimisers(hyper, state.step), state.target
        rows = draw_rows(task, row_key, (config.policy_delay, config.batch_size))
        noises = jax.random.normal(noise_key, (*rows.shape, num_actions))
        latents = jax.random.normal(latent_key, (*rows.shape, num_latent))

        def update(carry, now):
            params, opt_state = carry
            rows, noise, latent = now
            batch = replay.take(task.transitions, rows)
            reward = hyper.reward_scale * batch.reward + hyper.reward_shift

            # 1. Critics.
            next_action = smoothed(nets.act(target.actor, batch.next_obs), noise, hyper.policy_noise, hyper.noise_clip)
            next_q = nets.q(target.critics, batch.next_obs, next_action)
            wanted = td_target(reward, batch.terminated, next_q, hyper.gamma)

            def loss_of_critics(critic_params):
                return critic_loss(nets.q(critic_params, batch.obs, batch.action), wanted).mean(axis=-1).sum()

            error, grads = jax.value_and_grad(loss_of_critics)(params.critics)
            critics, critic_state = optim.descend(adam.critics, params.critics, opt_state.critics, grads)

            # 2. V, with the new critics and the same next action.
            next_q = nets.q(critics, batch.next_obs, next_action)
            wanted = baseline_target(reward, batch.terminated, next_q, wanted, hyper.gamma)

            def loss_of_value(value_params):
                value = value_net.apply(value_params, batch.obs)[..., 0]
                return jnp.mean((value - wanted) ** 2), value

            (value_error, value), grads = jax.value_and_grad(loss_of_value, has_aux=True)(params.value)
            value_params, value_state = optim.descend(adam.value, params.value, opt_state.value, grads)

            # 3. VAE, on actions better than V was before its step.
            q = nets.first_q(critics, batch.obs, batch.action)

            def loss_of_vae(vae_params):
                reconstruction, mean, log_std = reconstruct(vae_params, batch.obs, batch.action, latent)
                return vae_loss(reconstruction, batch.action, q > value, mean, log_std, hyper.vae_weight).mean()

            vae_error, grads = jax.value_and_grad(loss_of_vae)(params.vae)
            vae, vae_state = optim.descend(adam.vae, params.vae, opt_state.vae, grads)

            params = Params(params.actor, critics, value_params, vae)
            opt_state = Params(opt_state.actor, critic_state, value_state, vae_state)
            metrics = {"loss/critic": error, "loss/value": value_error, "loss/vae": vae_error, "value/q": q.mean()}
            return (params, opt_state), (metrics | {"policy/advantageous": jnp.mean(q > value)}, (q, value))

        start = state.params, state.opt_state
        (params, opt_state), (metrics, estimates) = jax.lax.scan(update, start, (rows, noises, latents))

        # 4. Policy, on the last minibatch: the first critic's value, and the better action where it has an advantage.
        obs, data_action = task.transitions.obs[rows[-1]], task.transitions.action[rows[-1]]
        q, value = jax.tree.map(lambda x: x[-1], estimates)
        latent = jax.random.normal(policy_key, (config.batch_size, num_latent))

        def loss(actor_params):
            action = nets.act(actor_params, obs)
            value_term = value_loss(nets.first_q(params.critics, obs, action), hyper.alpha).mean()
            vae_action, _, _ = reconstruct(params.vae, obs, action, latent)
            vae_q = nets.first_q(params.critics, obs, jax.lax.stop_gradient(vae_action))
            wanted, advantageous = guide(vae_action, data_action, vae_q, q, value)
            if config.detach_target:
                wanted = jax.lax.stop_gradient(wanted)
            constraint = regularisation(action, wanted, advantageous, hyper.mask_weight).mean()
            shares = {"policy/vae_share": jnp.mean(vae_q >= q), "policy/guided": jnp.mean(advantageous)}
            return value_term + constraint, {"loss/policy": value_term, "loss/constraint": constraint} | shares

        grads, measured = jax.grad(loss, has_aux=True)(params.actor)
        actor, actor_state = optim.descend(adam.actor, params.actor, opt_state.actor, grads)

        # 5. Targets.
        params, opt_state = params._replace(actor=actor), opt_state._replace(actor=actor_state)
        target = optim.polyak(target, Targets(params.actor, params.critics), hyper.tau)
        metrics = jax.tree.map(jnp.mean, metrics) | measured
        return State(params, target, opt_state, state.moments, key, state.step + 1), metrics

    def value(state, hyper, obs, action):
        """Mean of the two Q(s, a), in reward units."""
        q = nets.q(state.params.critics, normalise(state.moments, obs), space.to_policy(action)).mean(axis=0)
        q = unscaled(q, hyper)
        return q, jnp.zeros_like(q)

    return Algorithm(
        "a2pr",
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


def _of(alpha: float, vae_weight: float, mask_weight: float, gamma: float) -> Preset:
    return Preset(Config(), Hyper(alpha=alpha, vae_weight=vae_weight, mask_weight=mask_weight, gamma=gamma))


# For Pendulum; its numbers were chosen on other keys than those of the results.
_SMALL = Config(actor_hidden=(64, 64, 64), critic_hidden=(64, 64, 64, 64), vae_hidden=(128, 128))
presets = Presets(  # for datasets as the authors' command lines; random halfcheetah and walker2d by analogy
    classic=Preset(Config(), Hyper()),
    pendulum=Preset(_SMALL, Hyper(alpha=1.0)),
    pendulum_medium_replay=Preset(_SMALL, Hyper(alpha=40.0)),
    halfcheetah=_of(40.0, 1.0, 1.0, 0.99),  # of other data, as of medium
    halfcheetah_medium=_of(40.0, 1.0, 1.0, 0.99),
    hopper_medium=_of(2.5, 1.0, 0.4, 0.995),
    walker2d_medium=_of(2.5, 1.5, 1.0, 0.99),
    halfcheetah_medium_replay=_of(40.0, 1.5, 0.8, 0.995),
    hopper_medium_replay=_of(2.5, 1.5, 0.5, 0.99),
    walker2d_medium_replay=_of(2.5, 1.5, 1.2, 0.995),
    halfcheetah_medium_expert=_of(40.0, 1.0, 10.0, 0.99),
    hopper_medium_expert=_of(2.5, 1.0, 4.0, 0.99),
    walker2d_medium_expert=_of(2.5, 1.0, 0.8, 0.99),
    hopper_random=_of(2.5, 1.5, 1.5, 0.995),
    halfcheetah_random=_of(40.0, 1.5, 1.5, 0.995),
    walker2d_random=_of(2.5, 1.5, 1.5, 0.995),
)
