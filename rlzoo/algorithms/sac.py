"""Soft actor-critic (SAC) with a learned temperature, for continuous and discrete actions.

Haarnoja et al. 2018, arXiv:1812.05905, Alg. 1 and Eq. 3, 5, 9, 18; discrete actions: Christodoulou 2019,
arXiv:1910.07207, Eq. 10-12; many critics, a random few of them in the target (REDQ): Chen et al. 2021,
arXiv:2101.05982, Alg. 1.
Shapes: N = num_envs, T = num_steps, B = batch_size, E = num_critics, A = action dimensions; K = actions over which
the policy's expectation is taken: one sample if they are continuous, all of them if they are discrete.
A sweep adds leading axes.

  V(s)         E_pi[min_i Q'_i(s, a) - alpha log pi(a|s)]                                                       (Eq. 3)
  critics      (Q_i(s, a) - r - gamma (1 - terminated) V(s'))^2 / 2                                             (Eq. 5)
  policy       E_pi[alpha log pi(a|s) - min_i Q_i(s, a)]                                                        (Eq. 9)
  temperature  alpha (E_pi[-log pi(a|s)] - target_entropy), log pi held constant, of the action in [-1, 1]      (Eq. 18)
  targets      Q' move by tau towards Q

Another ``head`` has a loss of its own, see `rlzoo.blocks.heads`; distributions are mixed over actions.

One formulation serves both kinds of action: the soft value is sum_k weight_k (Q_k - alpha log pi_k), with weight 1 for
the one sampled action, and weight pi_k for each of the discrete ones.

Departures from the paper: critics are regressed on actions in [-1, 1], whatever the box, and log pi is the density in
the box's own units. The target entropy is that of the action in [-1, 1], as in the paper's tasks, so that it means the
same in every box; where an own actor masks actions, give it: the default counts them all. The buffer is smaller: 10^6
rows are dear where every lane of a sweep has its own. Minibatches are drawn with replacement, as is common practice.
The first steps, which fill the buffer, act uniformly at random and belong to `init`. Episodes cut by a time limit
bootstrap from their true last observation. Defaults are those of the first paper's Table 1 where it has them; the
discrete target entropy is the second paper's, ``init_alpha`` the authors' code's; the others and the presets are ours.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

from rlzoo.algorithms.config import Preset, Presets, Structure
from rlzoo.algorithms.hyper import Entropy, Positive, Rate, Real, Share, Weight, filled, numbers
from rlzoo.blocks import heads, networks, optim, replay, rollout
from rlzoo.blocks.distributions import MASKED, Categorical, TanhNormal, among_legal, finite, pre_tanh, reachable
from rlzoo.types import Algorithm, Box, Discrete, Env, Space, Transition, environment

LOG_STD = (-20.0, 2.0)  # bounds of the policy's, before the squashing; as in the authors' code
NAN = float("nan")


@dataclass(frozen=True)
class Config(Structure):  # static: fixes shapes, loop lengths and branches
    num_envs: int = 1  # N
    num_steps: int = 1  # T, steps per environment between learning
    num_updates: int = 1  # gradient steps after them; num_updates / (N T) is the update-to-data ratio
    policy_delay: int = 1  # critic steps for each step of policy and temperature
    batch_size: int = 256  # B
    capacity: int = 100_000  # transitions in the replay buffer
    warmup: int = 1_000  # transitions of random actions before learning; they count as environment steps
    warmup_hold: int = 1  # steps for which an action of the warm-up is held, where single ones lead nowhere
    num_critics: int = 2  # E
    head: str = "scalar"  # of critics: mean, hl_gauss, two_hot, c51 or quantile; see rlzoo.blocks.heads
    num_bins: int = 101  # of a classification head; quantiles
    num_target_critics: int = 2  # random ones whose least value is the target; fewer than E: REDQ, policy on the mean
    hidden: tuple[int, ...] = (256, 256)  # widths of the policy's and of each critic's layers
    activation: str = "relu"  # tanh, relu, swish or gelu
    layer_norm: bool = False  # before each activation
    compute_dtype: str = "float32"  # of default networks' products, or bfloat16; sums, losses, parameters are float32
    actor: nn.Module | None = None  # own module, obs -> [B, 2 A] mean and log std, or logits, -inf: an action masked
    critic: nn.Module | None = None  # own module, (obs, action) -> [B, J], or obs -> [B, K J]; J = 1, or num_bins
    optim: Callable[..., Any] | None = None  # own, (hyper, updates done) -> optax transformation, or one a part

    def __post_init__(self) -> None:
        self.at_least(1, "num_envs", "num_steps", "num_updates", "policy_delay", "batch_size", "capacity", "warmup")
        self.at_least(1, "num_critics", "num_target_critics", "warmup_hold")
        self.at_least(2, "num_bins")
        self.choice("head", heads.HEADS)
        self.widths("hidden")
        self.choice("activation", networks.ACTIVATIONS)
        self.dtype("compute_dtype", "actor", "critic")
        self.divides("policy_delay", "num_updates", self.num_updates)
        self.replay(self.num_envs * self.num_steps)
        self.divides("warmup_hold", "warmup / num_envs", self.warmup // self.num_envs)
        if self.num_target_critics > self.num_critics:
            raise ValueError(
                f"num_target_critics={self.num_target_critics} of num_critics={self.num_critics}; "
                f"use at most {self.num_critics}"
            )


@numbers
class Hyper(NamedTuple):  # traced: any leaf may carry a sweep axis
    actor_learning_rate: Rate = 3e-4  # of Adam; arXiv:1812.05905, Table 1
    critic_learning_rate: Rate = 3e-4  # of Adam; Table 1
    alpha_learning_rate: Rate = 3e-4  # of Adam on log alpha; Table 1; 0: the temperature stays at init_alpha
    gamma: Share = 0.99  # discount per environment step; Table 1
    tau: Share = 0.005  # step of the target critics towards the critics; Table 1
    target_entropy: Entropy = NAN  # nats, of the action in [-1, 1]; nan: -A, or 0.98 log K if discrete, as in papers
    init_alpha: Positive = 1.0  # temperature at the start, reward units per nat; the authors' code
    value_low: Real = -10.0  # the lower end of a head's bins, reward units
    value_high: Real = 10.0  # the upper end of a head's bins
    sigma_ratio: Positive = 0.75  # HL-Gauss's standard deviation, in bins; arXiv:2403.03950
    kappa: Weight = 1.0  # where the quantile Huber loss bends, reward units


class Params(NamedTuple):  # of what is learned, or of its optimisers
    actor: chex.ArrayTree
    critics: chex.ArrayTree  # leaves [E, ...]
    log_alpha: chex.ArrayTree  # f32[]


class State(NamedTuple):  # all the next update needs, and nothing else
    params: Params
    target: chex.ArrayTree  # the target critics, leaves [E, ...]
    opt_state: Params
    replay: Transition  # [capacity, ...]; actions in [-1, 1], or integers
    envs: rollout.Envs  # N environments in the middle of their episodes
    key: chex.PRNGKey
    step: jax.Array  # int32[], updates done; never batched


def soft_value(
    weight: Float[Array, "*B K"], log_prob: Float[Array, "*B K"], q: Float[Array, "*B K"], alpha: Float[Array, ""]
) -> Float[Array, "*B"]:
    """V(s) = E_pi [Q(s, a) - alpha log pi(a|s)], Eq. 3, as sum_k weight_k (q_k - alpha log_prob_k)."""
    return jnp.sum(weight * (q - alpha * finite(log_prob)), axis=-1)


def soft_target(
    reward: Float[Array, "*B"],
    terminated: Bool[Array, "*B"],
    next_value: Float[Array, "*B"],
    gamma: Float[Array, ""] | float,
) -> Float[Array, "*B"]:
    """r + gamma (1 - terminated) V(s'), held constant: the target of Eq. 5."""
    return jax.lax.stop_gradient(reward + gamma * (1.0 - terminated) * next_value)


def critic_loss(q: Float[Array, "*E B"], target: Float[Array, "B"]) -> Float[Array, "*E B"]:
    """(Q(s, a) - target)^2 / 2, Eq. 5."""
    return 0.5 * (q - target) ** 2


def temperature_loss(
    log_alpha: Float[Array, ""], entropy: Float[Array, "*B"], target_entropy: Float[Array, ""] | float
) -> Float[Array, "*B"]:
    """alpha (entropy - target_entropy), Eq. 18, entropy = -log pi held constant: alpha rises where it is too small."""
    return jnp.exp(log_alpha) * (jax.lax.stop_gradient(entropy) - target_entropy)


def default_target_entropy(space: Space) -> float:
    """-A nats for continuous actions (arXiv:1812.05905, Table 1), 0.98 log K for discrete ones (arXiv:1910.07207)."""
    return 0.98 * math.log(space.n) if isinstance(space, Discrete) else -float(math.prod(space.shape))


def make(env: Env, config: Config = Config(), hyper: Hyper = Hyper()) -> Algorithm:
    """SAC for an environment: see `Config` for its structure, `Hyper` for its numbers, `presets` for tuned pairs.

    Raises:
        ValueError: the action box is unbounded, and nothing can be squashed onto it.
    """
    environment(env, "SAC", several=False)
    space, discrete = env.action_space, isinstance(env.action_space, Discrete)
    if isinstance(space, Box) and not space.bounded:
        raise ValueError(f"{env.name}: its action box is unbounded; SAC squashes onto a bounded one; wrap the actions")
    hyper = filled(hyper, target_entropy=default_target_entropy(space))
    rows = config.num_envs * config.num_steps  # that an update adds to the buffer
    warmup_blocks = config.warmup // rows
    # The entropy of an action exceeds that of the same action in [-1, 1] by this much.
    log_volume = float(np.log(0.5 * (space.high - space.low)).sum()) if isinstance(space, Box) else 0.0
    num_actions = space.n if isinstance(space, Discrete) else math.prod(space.shape)

    network = networks.feed_forward(env, config, layer_norm=config.layer_norm)
    seen = (env.obs_space.shape,) if discrete else (env.obs_space.shape, (num_actions,))  # by critics
    head = heads.of(config.head, config.num_bins)
    sizes = (num_actions, num_actions * head.size) if discrete else (2 * num_actions, head.size)
    actor_net = networks.own(config, "actor", network(sizes[0]), networks.public(env.obs_space).shape)
    critic_net = networks.own(config, "critic", network(sizes[1], privileged=True), *seen)

    def distribution(params, obs):
        out = actor_net.apply(params, networks.public(obs))
        if not isinstance(space, Box):
            return among_legal(Categorical(out), obs)
        mean, log_std = jnp.split(out, 2, axis=-1)
        return TanhNormal(mean, jnp.clip(log_std, *LOG_STD), jnp.ravel(space.low), jnp.ravel(space.high))

    def explore(params, obs, key):
        """An action as the critics see it: in [-1, 1], or an integer."""
        pi = distribution(params, obs)
        return pi.sample(key) if discrete else jnp.tanh(pi.sample_pre_tanh(key))

    def policy(actor, obs, key, deterministic=False):
        if not deterministic:
            return space.from_policy(explore(actor, obs, key))
        pi = distribution(actor, obs)
        return space.from_policy(pi.mode() if discrete else jnp.tanh(pi.mean))

    scalar = head == heads.SCALAR  # whose programs have no axis for outputs: it would cost a third of their speed

    def critics(params, obs, *action):
        """The outputs [E, B, K, J] of each critic, of scalars Q: of the action given, or of all discrete ones."""
        out = jax.vmap(lambda one: critic_net.apply(one, obs, *action))(params)
        out = out if config.critic is None else jnp.where(jnp.isneginf(out), MASKED, out)  # an own one may mask too
        return out if scalar else out.reshape(*out.shape[:-1], -1, head.size)

    def values(out, hyper):
        return out if scalar else head.value(out, hyper)

    def taken(params, obs, action):
        """Those [E, B, J], or [E, B], of an action."""
        out = critics(params, obs, *(() if discrete else (action,)))
        if not discrete:
            return out[:, :, 0]
        return jnp.take_along_axis(out, action.reshape(1, -1, *(1,) * (out.ndim - 2)), axis=2)[:, :, 0]

    def expectation(actor_params, critic_params, obs, key):
        """What the policy would do at obs: weights [B, K], log-probabilities [B, K], and critics' outputs."""
        pi = distribution(actor_params, obs)
        if discrete:
            log_prob = pi.log_probs()
            return jnp.exp(log_prob), log_prob, critics(critic_params, obs)
        u = pi.sample_pre_tanh(key)
        log_prob = pi.log_prob_pre_tanh(u)[..., None]
        return jnp.ones_like(log_prob), log_prob, critics(critic_params, obs, jnp.tanh(u))

    def optimisers(hyper, step):
        rates = hyper.actor_learning_rate, hyper.critic_learning_rate, hyper.alpha_learning_rate
        return optim.own(config, hyper, step, Params(*(optax.adam(rate) for rate in rates)))

    def init(key, hyper, task):
        key, actor_key, critic_key, env_key, act_key = jax.random.split(key, 5)
        envs = rollout.init(env, env_key, task, config.num_envs)
        first = lambda x: jax.tree.map(lambda x: x[:1], x)  # noqa: E731
        actor_params = actor_net.init(actor_key, first(networks.public(envs.obs)))

        num_steps = config.warmup // config.num_envs
        masked = None if config.actor is None else lambda obs: distribution(actor_params, obs)
        envs, batch = rollout.at_random(env, envs, act_key, task, num_steps, config.warmup_hold, masked)
        buffer = replay.init(jax.tree.map(lambda x: x[0], batch), config.capacity)

        example = first((batch.obs,) if discrete else (batch.obs, batch.action))
        critic_keys = jax.random.split(critic_key, config.num_critics)
        params = Params(
            actor=actor_params,
            critics=jax.vmap(lambda key: critic_net.init(key, *example))(critic_keys),
            log_alpha=jnp.log(hyper.init_alpha),
        )
        return State(
            params=params,
            target=params.critics,
            opt_state=Params(*(adam.init(x) for adam, x in zip(optimisers(hyper, 0), params, strict=True))),
            replay=replay.add(buffer, batch, jnp.int32(0)),
            envs=envs,
            key=key,
            step=jnp.int32(0),
        )

    def step(state, hyper, task):
        key, act_key, sample_key, learn_key = jax.random.split(state.key, 4)
        adam = optimisers(hyper, state.step)

        # 1. Act: T steps in each of N environments, into the buffer.
        def act(obs, key):
            action = explore(state.params.actor, obs, key)
            return space.from_policy(action), action

        envs, batch, action, episodes = rollout.collect(env, act, state.envs, act_key, task, config.num_steps)
        blocks = warmup_blocks + state.step
        buffer = replay.add(state.replay, rollout.flatten(batch._replace(action=action)), blocks)

        # 2. Minibatches for all gradient steps.
        size = replay.size(buffer, rows, blocks + 1)
        batches = replay.sample(buffer, sample_key, size, config.num_updates * config.batch_size)
        shape = config.num_updates // config.policy_delay, config.policy_delay, config.batch_size
        batches = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), batches)

        # 3. Critics: one gradient step on Eq. 5, then the targets a step towards them.
        def critic_step(carry, now):
            params, target_params, opt_state = carry
            batch, key = now
            subset_key, action_key = jax.random.split(key)
            weight, log_prob, out = expectation(params.actor, target_params, batch.next_obs, action_key)
            if config.num_target_critics < config.num_critics:
                out = jax.random.permutation(subset_key, out)[: config.num_target_critics]
            next_q, alpha = values(out, hyper), jnp.exp(params.log_alpha)
            if head.distributional:  # the mixture of the actions' Q - alpha log pi
                atoms = head.atoms(heads.least(out, next_q), hyper)
                soft = atoms._replace(at=atoms.at - alpha * finite(log_prob)[..., None]).mixed(weight)
                target: Any = soft.after(batch.reward, hyper.gamma * (1.0 - batch.terminated))
            else:
                next_value = soft_value(weight, log_prob, next_q.min(axis=0), alpha)
                target = soft_target(batch.reward, batch.terminated, next_value, hyper.gamma)

            def loss(critic_params):
                out = taken(critic_params, batch.obs, batch.action)
                fit = lambda one: head.loss(one, target, hyper, critic_loss)  # noqa: E731
                error = critic_loss(out, target) if scalar else jax.vmap(fit)(out)
                return error.mean(axis=-1).sum(), values(out, hyper).mean()

            (error, q), grads = jax.value_and_grad(loss, has_aux=True)(params.critics)
            critic_params, critic_state = optim.descend(adam.critics, params.critics, opt_state.critics, grads)
            carry = (
                params._replace(critics=critic_params),
                optim.polyak(target_params, critic_params, hyper.tau),
                opt_state._replace(critics=critic_state),
            )
            return carry, {"loss/critic": error, "value/q": q} | head.metrics(target, hyper)

        # 4. Policy: one gradient step on Eq. 9; temperature: one on Eq. 18.
        def update(carry, now):
            batches, key = now
            critic_key, policy_key = jax.random.split(key)
            critic_keys = jax.random.split(critic_key, config.policy_delay)
            (params, target_params, opt_state), metrics = jax.lax.scan(critic_step, carry, (batches, critic_keys))
            obs, alpha = jax.tree.map(lambda x: x[-1], batches.obs), jnp.exp(params.log_alpha)

            def loss(actor_params, log_alpha):
                weight, log_prob, out = expectation(actor_params, params.critics, obs, policy_key)
                q = values(out, hyper)
                every = config.num_target_critics == config.num_critics
                q = q.min(axis=0) if every else q.mean(axis=0)  # REDQ ascends the mean of all critics
                error = -soft_value(weight, log_prob, q, alpha).mean()
                entropy = -jnp.sum(weight * log_prob, axis=-1) - log_volume
                total = error + temperature_loss(log_alpha, entropy, hyper.target_entropy * reachable(obs)).mean()
                return total, {"loss/policy": error, "policy/entropy": entropy.mean(), "policy/alpha": alpha}

            grads, measured = jax.grad(loss, (0, 1), has_aux=True)(params.actor, params.log_alpha)
            actor_params, actor_state = optim.descend(adam.actor, params.actor, opt_state.actor, grads[0])
            log_alpha, alpha_state = optim.descend(adam.log_alpha, params.log_alpha, opt_state.log_alpha, grads[1])
            params = Params(actor_params, params.critics, log_alpha)
            opt_state = Params(actor_state, opt_state.critics, alpha_state)
            return (params, target_params, opt_state), jax.tree.map(jnp.mean, metrics) | measured

        start = state.params, state.target, state.opt_state
        keys = jax.random.split(learn_key, shape[0])
        (params, target_params, opt_state), metrics = jax.lax.scan(update, start, (batches, keys))
        metrics = jax.tree.map(jnp.mean, metrics) | episodes
        return State(params, target_params, opt_state, buffer, envs, key, state.step + 1), metrics

    def value(state, hyper, obs, action):
        """Mean of the critics' Q(s, a), and -alpha log pi(a|s)."""
        action = space.to_policy(action)
        pi = distribution(state.params.actor, obs)
        log_prob = pi.log_prob(action) if discrete else pi.log_prob_pre_tanh(pre_tanh(action))
        q = values(taken(state.params.critics, obs, action), hyper).mean(axis=0)
        return q, -jnp.exp(state.params.log_alpha) * log_prob

    functions = init, step, lambda state: state.params.actor, policy
    return Algorithm("sac", config, env, hyper, env.params, *functions, rows, config.warmup, value)


presets = Presets(
    classic=Preset(Config(), Hyper(actor_learning_rate=1e-3, critic_learning_rate=1e-3, alpha_learning_rate=1e-3)),
    brax=Preset(Config(num_envs=8, num_updates=8, capacity=200_000, warmup=8_000), Hyper()),
)
