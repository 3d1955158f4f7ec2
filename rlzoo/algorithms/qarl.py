"""QARL: quantal adversarial RL, robust by an adversary whose rationality rises along a self-paced curriculum.

Reddi et al. 2024, arXiv:2311.01642, and the authors' code. A protagonist acts, an adversary pushes, and their rewards
are r and -r. Each is a SAC agent with two critics and a replay of its own, to which the other is part of the
environment. The protagonist's temperature is learned; the adversary's is alpha, high where it is to be irrational:
drawn for every episode, seen by both as one more observation x = (s, alpha), and kept with every transition.

  policy    T log pi(a|x) - min_j Q_j(x, a),   T = exp(log_temperature), or alpha of the row
  critics   (Q_j(x, a) - y)^2,  y = +-r + gamma (1 - terminated) (min_j Q'_j(x', a') - T log pi(a'|x'))
  curriculum: alpha ~ Gamma(c, rate), and c falls to that of the target as fast as it may:
    min_c KL(Gamma(c) || Gamma(c_target))   such that   KL(Gamma(c) || Gamma(c_old)) <= kl_step,
    Perf(c) = mean_i p_c(alpha_i) / p_c_old(alpha_i) J_i >= threshold,  J the protagonist's discounted return

An update is one iteration: E episodes in which the adversary learns, E with the same temperatures in which the
protagonist does, a gradient step after every ``update_every`` steps; every third iteration moves the curriculum.

Shapes: N = num_envs, E = num_episodes, H = the environment's horizon, B = batch_size, A = action dimensions, F =
components of the push. A sweep adds leading axes.

Departures from the code: the curriculum's problem has one unknown and is solved on a grid. log pi is exact, without the
1e-6 inside of its logarithm. Where episodes end early, a phase is E H steps nevertheless, temperatures go round, and J
is of the first E episodes. The force curriculum's players see their budget as a share of the limit. Evaluation is at
alpha 0 during training too, and of the policy's mode unless asked otherwise, where the code always samples. CAT's
disturbed actions are kept as they reach the environment, inside of the box. With N > 1 the episodes run side by side,
in the same ratio of updates to steps but for those that are left: a mode of ours, faster where environments are cheap
in numbers. RARL, the force curriculum, CAT and SAC are the same file with another ``opponent``.

Defaults of `Config` and `Hyper` are the code's, but for ``capacity``; ``threshold`` is its cartpole's, cheetah's and
walker's, 10, where hopper has 1 and the quadruped 100: see the presets of their names. The presets of variants and
baselines follow the code too, but for RARL on the quadruped, whose adversary has layers of 64; those for Pendulum,
reacher and the double pendulum are ours. Rewards that are negative, or far above 1 a step, need a threshold of theirs.
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
from jax.scipy.special import digamma, gammaln
from jaxtyping import Array, Bool, Float, Int

from rlzoo.algorithms.config import Preset, Presets, Structure
from rlzoo.algorithms.hyper import Entropy, Level, Positive, Rate, Share, Steps, Weight, filled, numbers
from rlzoo.algorithms.sac import LOG_STD, NAN, default_target_entropy, soft_target
from rlzoo.blocks import networks, optim, replay, rollout
from rlzoo.blocks.distributions import TanhNormal, pre_tanh
from rlzoo.envs.adversarial import Game, adversarial
from rlzoo.types import Algorithm, Env, Transition, environment

ROUNDS = 3  # iterations whose episodes the curriculum is moved by
GRID = 256  # candidates for its next shape


@dataclass(frozen=True)
class Config(Structure):  # static: fixes shapes, loop lengths and branches
    opponent: str = "quantal"  # quantal; rational: RARL; budgeted: the force curriculum; myopic: CAT; none: SAC alone
    curriculum: str = "gamma"  # gamma: self-paced; point: one temperature, self-paced; linear: by the clock
    draws: str = "episode"  # a temperature for every episode, or for every "iteration" (the code's "single")
    homogeneous: bool = False  # the protagonist's temperature is alpha too
    num_episodes: int = 5  # E, of a phase
    num_envs: int = 1  # N, episodes side by side; 1 is the code's order
    update_every: int = 3  # steps of each environment between gradient steps, of which there are N
    batch_size: int = 256  # B
    capacity: int = 499_800  # transitions in each replay buffer; of 200 iterations with horizons of 500 all; code: 10^6
    critic_start: int = 3_000  # transitions, beyond which critics learn
    actor_start: int = 5_000  # beyond which policies and temperatures learn
    hidden: tuple[int, ...] = (256, 256, 256)  # widths of every network's layers
    activation: str = "relu"  # tanh, relu, swish or gelu
    actor: nn.Module | None = None  # own module, x -> [B, A]: the protagonist's mean and log std are one each
    adversary: nn.Module | None = None  # own module, x -> [B, F], so of the adversary
    critic: nn.Module | None = None  # own module, (x, action) -> [B, 1], of both players
    optim: Callable[..., Any] | None = None  # own, (hyper, iterations done) -> optax transformation, or one a part

    def __post_init__(self) -> None:
        self.choice("opponent", ("quantal", "rational", "budgeted", "myopic", "none"))
        self.choice("curriculum", ("gamma", "point", "linear"))
        self.choice("draws", ("episode", "iteration"))
        self.at_least(1, "num_episodes", "num_envs", "update_every", "batch_size", "capacity")
        self.at_least(0, "critic_start", "actor_start")
        self.divides("num_envs", "num_episodes", self.num_episodes)
        self.widths("hidden")
        self.choice("activation", networks.ACTIVATIONS)
        if self.capacity % self.rows:
            below = max(self.capacity // self.rows, 1) * self.rows
            raise ValueError(
                f"capacity={self.capacity} is no multiple of num_envs * update_every = {self.rows}; use {below}"
            )
        start = max(self.critic_start, self.actor_start)
        if self.capacity <= start:
            raise ValueError(f"capacity={self.capacity} never holds more than the {start} transitions to begin with")
        if self.homogeneous and self.opponent != "quantal":
            raise ValueError(f"homogeneous=True, but opponent={self.opponent!r} has no alpha; use 'quantal'")

    @property
    def rows(self) -> int:
        """That are added to a replay at a time."""
        return self.num_envs * self.update_every

    @property
    def conditioned(self) -> bool:
        """Whether both players observe alpha, or the budget of force."""
        return self.opponent in ("quantal", "budgeted")


@numbers
class Hyper(NamedTuple):  # traced: any leaf may carry a sweep axis
    actor_learning_rate: Rate = 1e-4  # of Adam
    critic_learning_rate: Rate = 3e-4  # of Adam
    temperature_learning_rate: Rate = 3e-4  # of Adam on its logarithm
    gamma: Share = 0.99  # discount per environment step
    tau: Share = 0.005  # step of the target critics towards the critics
    target_entropy: Entropy = NAN  # nats, of the protagonist's action in [-1, 1]; nan: -A; the adversary's is -F
    init_temperature: Positive = 0.005  # of learned ones, reward units per nat; the code's is exp(-5.30)
    rate: Positive = 1_000.0  # of the Gamma distribution, nats per reward unit
    start_shape: Positive = 50.0  # c at first: alpha is 0.05 on average
    target_shape: Positive = 1.0  # c in the end
    kl_step: Positive = 0.5  # nats, that the distribution may move at a time
    threshold: Level = 10.0  # discounted return, below which the curriculum waits; hopper 1, quadruped 100
    point_step: Weight = 0.001  # by which a point curriculum lowers alpha
    linear_iterations: Steps = 400.0 / 3.0  # after which a linear curriculum is at its end
    attack_iterations: Steps = 200.0  # of CAT: its radius rises from 0 at a fifth of them to the limit at four fifths


class Params(NamedTuple):  # of one player, or of its optimisers
    actor: chex.ArrayTree  # two networks, mean and log_std
    critics: chex.ArrayTree  # leaves [2, ...]
    log_temperature: chex.ArrayTree  # f32[], or () where alpha is the temperature


class Players(NamedTuple):
    protagonist: Any
    adversary: Any  # (), if there is none


class Curriculum(NamedTuple):
    shape: jax.Array  # f32[], c; of a point curriculum rate alpha
    alpha: jax.Array  # f32[ROUNDS, 2 E], drawn since it was last moved
    returns: jax.Array  # f32[ROUNDS, 2 E], the protagonist's, discounted


class State(NamedTuple):  # all the next update needs, and nothing else
    params: Players
    target: Players  # critics
    opt_state: Players
    replay: Players  # transitions [capacity, ...]; obs with alpha, actions in the environment's units, own rewards
    curriculum: Any  # Curriculum, or () if nothing is drawn
    key: chex.PRNGKey
    step: jax.Array  # int32[], iterations done; never batched


# --- the curriculum ---------------------------------------------------------------------------------------------------


def gamma_kl(first: Float[Array, "*B"], second: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """KL(Gamma(c1, b) || Gamma(c2, b)) = (c1 - c2) digamma(c1) - log Gamma(c1) + log Gamma(c2), whatever the rate b."""
    return (first - second) * digamma(first) - gammaln(first) + gammaln(second)


def performance(
    shape: Float[Array, ""],
    old: Float[Array, ""],
    rate: Float[Array, ""] | float,
    alpha: Float[Array, "M"],
    returns: Array,
) -> Float[Array, ""]:
    """Perf(c) = mean_i p_c(alpha_i) / p_old(alpha_i) J_i; the weights are not normalised."""
    log_ratio = (shape - old) * jnp.log(rate * alpha) - gammaln(shape) + gammaln(old)
    return jnp.mean(jnp.exp(log_ratio) * returns)


def within(old: Float[Array, ""], kl_step: Float[Array, ""] | float) -> Float[Array, ""]:
    """The c below ``old`` with KL(Gamma(c) || Gamma(old)) = kl_step, by bisection of its logarithm."""

    def halve(_, bounds):
        low, high = bounds
        middle = 0.5 * (low + high)
        far = gamma_kl(jnp.exp(middle), old) > kl_step
        return jnp.where(far, middle, low), jnp.where(far, high, middle)

    start = jnp.log(1e-8), jnp.log(old)
    return jnp.exp(jax.lax.fori_loop(0, 60, halve, start)[1])


def next_shape(
    old: Float[Array, ""], alpha: Float[Array, "M"], returns: Float[Array, "M"], hyper: Hyper
) -> Float[Array, ""]:
    """The least c that the step, the threshold and the target allow, walking down from the old one."""
    least = jnp.maximum(within(old, hyper.kl_step), jnp.minimum(hyper.target_shape, old))
    candidates = jnp.linspace(old, least, GRID)
    good = jax.vmap(performance, (0, None, None, None, None))(candidates, old, hyper.rate, alpha, returns)
    reached = jnp.sum(jnp.cumprod(good >= hyper.threshold))  # those before the first that is not good enough
    return jnp.where(reached > 0, candidates[jnp.maximum(reached.astype(jnp.int32) - 1, 0)], old)


def budget(tau: Float[Array, "*B"], hyper: Hyper) -> Float[Array, "*B"]:
    """The force curriculum's share of the limit: clip((m0 + m1 - tau) / m0, 0, 1), m the means at start and target."""
    start, target = hyper.start_shape / hyper.rate, hyper.target_shape / hyper.rate
    return jnp.clip((start + target - tau) / start, 0.0, 1.0)


def draw(config: Config, curriculum: Curriculum, key: jax.Array, hyper: Hyper) -> Float[Array, "E"]:
    """A temperature for each episode; of the force curriculum what the budget follows from."""
    size = (config.num_episodes if config.draws == "episode" else 1,)
    if config.curriculum == "gamma":
        alpha = jax.random.gamma(key, curriculum.shape, size) / hyper.rate
    else:
        alpha = jnp.full(size, curriculum.shape / hyper.rate)
    return jnp.broadcast_to(alpha, (config.num_episodes,))


def moved(
    config: Config,
    curriculum: Curriculum,
    alpha: Float[Array, "2*E"],
    returns: Float[Array, "2*E"],
    hyper: Hyper,
    step: Int[Array, ""],
) -> Curriculum:
    """The curriculum after an iteration's episodes: a linear one by the clock, the others after every third."""
    place, old = step % ROUNDS, curriculum.shape
    alphas, seen = curriculum.alpha.at[place].set(alpha), curriculum.returns.at[place].set(returns)
    if config.curriculum == "linear":
        share = jnp.minimum((step + 1) / hyper.linear_iterations, 1.0)
        return Curriculum(hyper.start_shape + share * (hyper.target_shape - hyper.start_shape), alphas, seen)
    if config.curriculum == "point":
        lower = jnp.maximum(old - hyper.point_step * hyper.rate, 1e-8 * hyper.rate)
        new = jnp.where(seen.mean() > hyper.threshold, lower, old)
    else:
        new = next_shape(old, alphas.ravel(), seen.ravel(), hyper)
    return Curriculum(jnp.where(place == ROUNDS - 1, new, old), alphas, seen)


def attack(
    mean: Float[Array, "*B A"], log_std: Float[Array, "*B A"], action: Float[Array, "*B A"], radius: Float[Array, "*B"]
) -> Float[Array, "*B A"]:
    """CAT's myopic disturbance: gradient descent on the policy's density at the action, within an L2 ball.

    a <- a - 3 dp(a)/da of each dimension, p the normal before the squashing (as the code has it), twice, and then until
    no change is more than 0.001, 25 times at most.
    """
    std = jnp.exp(log_std)

    def descend(i, carry):
        a, moving = carry
        density = jnp.exp(-0.5 * ((a - mean) / std) ** 2) / (std * math.sqrt(2.0 * math.pi))
        change = 3.0 * density * (a - mean) / std**2
        a = jnp.where(moving, a + change, a)
        return a, moving & ((i == 0) | (jnp.abs(change) > 1e-3).any(axis=-1, keepdims=True))

    moving = jnp.ones((*action.shape[:-1], 1), bool)
    delta = jax.lax.fori_loop(0, 27, descend, (action, moving))[0] - action
    size = jnp.sqrt(jnp.sum(delta**2, axis=-1, keepdims=True))
    return delta * jnp.minimum(1.0, radius[..., None] / jnp.maximum(size, 1e-12))


def attack_share(step: Int[Array, ""], hyper: Hyper) -> Float[Array, ""]:
    """CAT's radius as a share of the limit: 0 for a fifth of the iterations, rising for three, 1 for the last."""
    return jnp.clip((step / hyper.attack_iterations - 0.2) / 0.6, 0.0, 1.0)


# --- the players ------------------------------------------------------------------------------------------------------


def policy_loss(
    temperature: Float[Array, "*B"], log_prob: Float[Array, "*B"], q: Float[Array, "*B"]
) -> Float[Array, "*B"]:
    """T log pi(a|x) - min_j Q_j(x, a)."""
    return temperature * log_prob - q


def temperature_loss(
    log_temperature: Float[Array, ""], log_prob: Float[Array, "*B"], target_entropy: Float[Array, ""] | float
) -> Float[Array, "*B"]:
    """-log T (log pi + target_entropy), log pi held constant."""
    return -log_temperature * (jax.lax.stop_gradient(log_prob) + target_entropy)


class Networks(NamedTuple):
    """A player's: two networks for the policy's mean and deviation, and a critic's form; actions in [-1, 1]."""

    head: Any  # module, x -> [B, A]
    critic: Any  # module, (x, action) -> [B, 1]

    def init(self, key: jax.Array, x: jax.Array, action: jax.Array, temperature: Any) -> Params:
        """``temperature``: at the start; None: it is not learned."""
        mean_key, std_key, critic_key = jax.random.split(key, 3)
        actor = {"mean": self.head.init(mean_key, x), "log_std": self.head.init(std_key, x)}
        critics = jax.vmap(lambda key: self.critic.init(key, x, action))(jax.random.split(critic_key, 2))
        return Params(actor, critics, () if temperature is None else jnp.log(temperature))

    def policy(self, actor: Any, x: jax.Array) -> TanhNormal:
        log_std = jnp.clip(self.head.apply(actor["log_std"], x), *LOG_STD)
        return TanhNormal(self.head.apply(actor["mean"], x), log_std, -jnp.ones(()), jnp.ones(()))

    def sample(self, actor: Any, x: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """An action in [-1, 1], and its log-density there."""
        pi = self.policy(actor, x)
        u = pi.sample_pre_tanh(key)
        return jnp.tanh(u), pi.log_prob_pre_tanh(u)

    def q(self, critics: Any, x: jax.Array, action: jax.Array) -> Float[Array, "2 B"]:
        return jax.vmap(lambda one: self.critic.apply(one, x, action))(critics)[..., 0]


class Learner(NamedTuple):
    """What a gradient step changes."""

    params: Params
    target: chex.ArrayTree
    opt_state: Params


def gradient_step(
    nets: Networks,
    learner: Learner,
    batch: Transition,
    key: jax.Array,
    hyper: Hyper,
    target_entropy: Any,
    scale: Any,
    of_rows: bool,
    acts: Bool[Array, ""],
    adam: Params | None = None,
) -> tuple[Learner, dict[str, jax.Array]]:
    """One gradient step of a SAC agent on a minibatch: policy, temperature, critics, target, in this order.

    Args:
        batch: actions in the environment's units, rewards the player's own.
        scale: [-1, 1]^A to the environment's units.
        of_rows: whether the temperature is the last entry of each observation, and not learned.
        acts: whether the policy and the temperature learn yet.
        adam: what takes the steps; default `optimisers`.
    """
    policy_key, target_key = jax.random.split(key)
    params, target, opt_state = learner
    adam = optimisers(hyper) if adam is None else adam

    def temperature(params, x):
        return x[:, -1] if of_rows else jnp.exp(params.log_temperature)

    # 1. Policy.
    def loss_of_policy(actor):
        action, log_prob = nets.sample(actor, batch.obs, policy_key)
        q = nets.q(params.critics, batch.obs, scale(action)).min(axis=0)
        return policy_loss(temperature(params, batch.obs), log_prob, q).mean(), log_prob

    (policy_error, log_prob), grads = jax.value_and_grad(loss_of_policy, has_aux=True)(params.actor)
    actor, actor_state = optim.descend(adam.actor, params.actor, opt_state.actor, grads)

    # 2. Temperature.
    log_temperature, temperature_state = params.log_temperature, opt_state.log_temperature
    if not of_rows:
        grads = jax.grad(lambda x: temperature_loss(x, log_prob, target_entropy).mean())(log_temperature)
        log_temperature, temperature_state = optim.descend(
            adam.log_temperature, log_temperature, temperature_state, grads
        )
    chosen = lambda new, old: jax.tree.map(lambda x, y: jnp.where(acts, x, y), new, old)  # noqa: E731
    params = Params(chosen(actor, params.actor), params.critics, chosen(log_temperature, params.log_temperature))
    actor_state, temperature_state = chosen(
        (actor_state, temperature_state), (opt_state.actor, opt_state.log_temperature)
    )

    # 3. Critics, by the policy and the temperature as they are now.
    next_action, next_log_prob = nets.sample(params.actor, batch.next_obs, target_key)
    next_q = nets.q(target, batch.next_obs, scale(next_action)).min(axis=0)
    next_value = next_q - temperature(params, batch.next_obs) * next_log_prob
    wanted = soft_target(batch.reward, batch.terminated, next_value, hyper.gamma)

    def loss_of_critics(critics):
        q = nets.q(critics, batch.obs, batch.action)
        return jnp.mean((q - wanted) ** 2, axis=-1).sum(), q.mean()

    (critic_error, q), grads = jax.value_and_grad(loss_of_critics, has_aux=True)(params.critics)
    critics, critic_state = optim.descend(adam.critics, params.critics, opt_state.critics, grads)

    # 4. Target.
    target = optim.polyak(target, critics, hyper.tau)
    learner = Learner(params._replace(critics=critics), target, Params(actor_state, critic_state, temperature_state))
    return learner, {
        "loss/policy": policy_error,
        "loss/critic": critic_error,
        "value/q": q,
        "policy/entropy": -log_prob.mean(),
    }


def networks_of(env: Env, config: Config) -> Players:
    """Both players' `Networks`, of a game's environment."""
    inputs = (env.obs_space.shape[0] + config.conditioned,)
    form = partial(
        networks.FeedForward, obs_shape=inputs, hidden=config.hidden, activation=config.activation, weights="xavier"
    )
    sizes = {"actor": math.prod(env.action_space.shape), "adversary": env.params.disturbance.shape[-1]}
    return Players(
        *(
            Networks(
                networks.own(config, field, form(size), inputs),
                networks.own(config, "critic", form(1), inputs, (size,)),
            )
            for field, size in sizes.items()
        )
    )


def optimisers(hyper: Hyper) -> Params:
    """Adam for each part of either player."""
    rates = hyper.actor_learning_rate, hyper.critic_learning_rate, hyper.temperature_learning_rate
    return Params(*(optax.adam(rate) for rate in rates))


def adversary(algo: Algorithm) -> Callable[..., jax.Array]:
    """The adversary's policy, (params, obs, key) -> pushes, fully rational, or with all of its budget.

    For `rlzoo.envs.with_adversary`; of a State its params are ``state.params.adversary.actor``.

    Raises:
        ValueError: the algorithm has no adversary that learns.
    """
    if algo.config.opponent in ("none", "myopic"):
        raise ValueError(f"opponent={algo.config.opponent!r} has no adversary that learns")
    nets = networks_of(algo.env, algo.config).adversary
    return lambda params, obs, key: nets.sample(params, _last_context(algo.config, obs), key)[0]


def _with_context(config: Config, obs: Float[Array, "*B D"], context: Float[Array, "*B"]) -> Float[Array, "*B X"]:
    """x = (s, alpha), or (s, budget)."""
    return jnp.concatenate([obs, context[..., None]], axis=-1) if config.conditioned else obs


def _last_context(config: Config, obs: Float[Array, "*B D"]) -> Float[Array, "*B X"]:
    """What both play under when training is over: alpha 0, or the whole budget."""
    return _with_context(config, obs, jnp.full(obs.shape[:-1], 1.0 if config.opponent == "budgeted" else 0.0))


class Episodes(NamedTuple):
    """Of N environments in a phase."""

    ended: Int[Array, "N"]  # so far
    weight: Float[Array, "N"]  # gamma^t
    total: Float[Array, "N"]  # discounted, of the episode so far
    returns: Float[Array, "N E/N"]  # J, of the first ones


def make(env: Env | Game, config: Config = Config(), hyper: Hyper = Hyper()) -> Algorithm:
    """QARL, or a baseline, for a game, or for an environment with the second player that it has by default.

    The policy that is evaluated is the protagonist's, at alpha 0; ``algo.env`` is the game's environment without an
    adversary. Give `presets` for the variants and baselines.

    Raises:
        ValueError: an environment without a known site for a force, or one that is not continuous; see
            `rlzoo.envs.adversarial`; observations that are no vectors.
    """
    myopic = config.opponent == "myopic"
    if not isinstance(env, Game):
        environment(env, "QARL", sees=(), several=False)
    game = env if isinstance(env, Game) else adversarial(env, on="action" if myopic else "force")
    if myopic and game.on != "action":
        raise ValueError(f"opponent='myopic' disturbs actions, not {game.unit}; use adversarial(env, on='action')")
    env, space = game.env, game.env.action_space
    if len(env.obs_space.shape) != 1:
        raise ValueError(f"{env.name}: its observations have shape {list(env.obs_space.shape)}; QARL needs vectors")
    hyper = filled(hyper, target_entropy=default_target_entropy(space))
    nets = networks_of(env, config)
    num_envs, each = config.num_envs, config.num_episodes // config.num_envs
    chunks, left = divmod(each * env.horizon, config.update_every)
    roles = ("protagonist",) if config.opponent in ("none", "myopic") else ("adversary", "protagonist")
    sizes = Players(math.prod(space.shape), len(game.forces))
    if not chunks:
        raise ValueError(f"update_every={config.update_every} is more than the {each * env.horizon} steps of a phase")

    def alpha_is_temperature(role):
        return config.opponent == "quantal" if role == "adversary" else config.homogeneous

    def scale(role, task):
        """[-1, 1] to the environment's units, as critics see actions."""
        if role == "adversary":
            return lambda push: task.max_force * push
        return lambda action: space.from_policy(action).reshape(*action.shape[:-1], -1)

    def both(actors, x, budget, task, key):
        """Both players' actions in [-1, 1]; pushes within the budget."""
        keys = jax.random.split(key)
        action, _ = nets.protagonist.sample(actors.protagonist, x, keys[0])
        if config.opponent == "none":
            return Players(action, jnp.zeros((*action.shape[:-1], sizes.adversary)))
        if myopic:
            pi = nets.protagonist.policy(actors.protagonist, x)
            return Players(action, attack(pi.mean, pi.log_std, action, budget[:, 0] * task.max_force) / task.max_force)
        push, _ = nets.adversary.sample(actors.adversary, x, keys[1])
        return Players(action, jnp.clip(push, -budget, budget) if config.opponent == "budgeted" else push)

    def players(of: Callable[[str], Any]) -> Players:
        """One for each player that there is."""
        return Players(*(of(role) if role in roles else () for role in Players._fields))

    def init(key, hyper, task):
        key, *keys = jax.random.split(key, 3)
        x = jnp.zeros((1, env.obs_space.shape[0] + config.conditioned))

        def untrained(role):
            temperature = None if alpha_is_temperature(role) else jnp.float32(hyper.init_temperature)
            action = jnp.zeros((1, getattr(sizes, role)))
            return getattr(nets, role).init(keys[Players._fields.index(role)], x, action, temperature)

        def empty(role):
            action, never = jnp.zeros(getattr(sizes, role)), jnp.zeros((), bool)
            return replay.init(Transition(x[0], action, jnp.zeros(()), never, never, x[0]), config.capacity)

        params, adam = players(untrained), optim.own(config, hyper, 0, optimisers(hyper))
        blank = jnp.zeros((ROUNDS, len(roles) * config.num_episodes))
        return State(
            params=params,
            target=players(lambda role: getattr(params, role).critics),
            opt_state=players(
                lambda role: Params(*(x.init(y) for x, y in zip(adam, getattr(params, role), strict=True)))
            ),
            replay=players(empty),
            curriculum=Curriculum(jnp.float32(hyper.start_shape), blank, blank) if config.conditioned else (),
            key=key,
            step=jnp.int32(0),
        )

    def phase(role, actors, learner, buffer, key, context, hyper, task, step):
        """E episodes in which one player learns: its `Learner` and replay, the returns J [E], and metrics."""
        context = context.reshape(num_envs, each)
        own, of = getattr(nets, role), Players._fields.index(role)
        sign = 1.0 if role == "protagonist" else -1.0
        target_entropy = hyper.target_entropy if role == "protagonist" else -float(sizes.adversary)

        def one(actors, carry, key):
            envs, episodes = carry
            act_key, env_key = jax.random.split(key)
            z = jnp.take_along_axis(context, episodes.ended[:, None] % each, axis=1)[:, 0]
            x = _with_context(config, envs.obs, z)
            done = both(actors, x, z[:, None], task, act_key)
            env_keys = jax.random.split(env_key, num_envs)
            played = jax.vmap(game.step, (0, 0, 0, 0, None))
            state, now = played(env_keys, envs.state, space.from_policy(done.protagonist), done.adversary, task)
            envs, ended = rollout.advance(envs, state, now)

            total, over = episodes.total + episodes.weight * now.reward, now.terminated | now.truncated
            first = over[:, None] & (jnp.arange(each) == episodes.ended[:, None])
            episodes = Episodes(
                episodes.ended + over,
                jnp.where(over, 1.0, hyper.gamma * episodes.weight),
                jnp.where(over, 0.0, total),
                jnp.where(first, total[:, None], episodes.returns),
            )
            next_x = _with_context(config, now.next_obs, z)
            mine = done[of] if not myopic else jnp.clip(done.protagonist + task.max_force * done.adversary, -1.0, 1.0)
            action = scale(role, task)(mine)
            transition = Transition(x, action, sign * now.reward, now.terminated, now.truncated, next_x)
            return (envs, episodes), (transition, jax.tree.map(jnp.sum, ended))

        def learn(learner, now, size):
            batch, key = now
            new, metrics = gradient_step(
                own,
                learner,
                batch,
                key,
                hyper,
                target_entropy,
                scale(role, task),
                alpha_is_temperature(role),
                size > config.actor_start,
                optim.own(config, hyper, step, optimisers(hyper)),
            )
            kept = jax.tree.map(lambda x, y: jnp.where(size > config.critic_start, x, y), new, learner)
            return kept, metrics

        def chunk(carry, now):
            """A few steps, and as many gradient steps as there are environments."""
            play, learner, buffer = carry
            i, key = now
            act_key, sample_key, learn_key = jax.random.split(key, 3)
            acting = actors._replace(**{role: learner.params.actor})
            play, (batch, ended) = jax.lax.scan(
                partial(one, acting), play, jax.random.split(act_key, config.update_every)
            )
            blocks = step * chunks + i
            buffer = replay.add(buffer, rollout.flatten(batch), blocks)
            size = replay.size(buffer, config.rows, blocks + 1)
            batches = replay.sample(buffer, sample_key, size, num_envs * config.batch_size)
            batches = jax.tree.map(lambda x: x.reshape(num_envs, config.batch_size, *x.shape[1:]), batches)
            learner, metrics = jax.lax.scan(
                partial(learn, size=size), learner, (batches, jax.random.split(learn_key, num_envs))
            )
            return (play, learner, buffer), (jax.tree.map(jnp.mean, metrics), jax.tree.map(jnp.sum, ended))

        reset_key, run_key, left_key = jax.random.split(key, 3)
        zeros = jnp.zeros(num_envs)
        episodes = Episodes(zeros.astype(jnp.int32), zeros + 1.0, zeros, jnp.zeros((num_envs, each)))
        carry = (rollout.init(env, reset_key, task, num_envs), episodes), learner, buffer
        chunk_keys = jnp.arange(chunks), jax.random.split(run_key, chunks)
        (play, learner, buffer), (metrics, ended) = jax.lax.scan(chunk, carry, chunk_keys)
        metrics, ended = jax.tree.map(jnp.mean, metrics), jax.tree.map(jnp.sum, ended)
        if left:  # the steps that are too few for a gradient step end the last episodes
            acting = actors._replace(**{role: learner.params.actor})
            play, (_, more) = jax.lax.scan(partial(one, acting), play, jax.random.split(left_key, left))
            ended = jax.tree.map(lambda x, y: x + y.sum(), ended, more)
        return learner, buffer, play[1].returns.reshape(-1), metrics, ended

    def step(state, hyper, task):
        key, draw_key, *phase_keys = jax.random.split(state.key, 4)
        curriculum = state.curriculum

        # 1. Temperatures: the same for both phases.
        alpha = draw(config, curriculum, draw_key, hyper) if config.conditioned else jnp.zeros(config.num_episodes)
        context = budget(alpha, hyper) if config.opponent == "budgeted" else alpha
        context = jnp.full(config.num_episodes, attack_share(state.step, hyper)) if myopic else context

        # 2. The adversary learns, then the protagonist.
        learners = {
            role: Learner(*(getattr(part, role) for part in (state.params, state.target, state.opt_state)))
            for role in roles
        }
        buffers, returns, over = state.replay._asdict(), [], []
        metrics: dict[str, jax.Array] = {}
        for role, phase_key in zip(roles, phase_keys, strict=False):
            actors = players(lambda name: learners[name].params.actor)
            learners[role], buffers[role], discounted, measured, ended = phase(
                role, actors, learners[role], buffers[role], phase_key, context, hyper, task, state.step
            )
            returns.append(discounted)
            over.append(ended)
            if role == "adversary":
                measured = {f"adversary/{name.replace('/', '_')}": x for name, x in measured.items()}
            metrics |= measured
        metrics |= rollout.episode_metrics(jax.tree.map(lambda *x: jnp.stack(x), *over))

        # 3. Every third iteration the curriculum moves.
        if config.conditioned:
            seen = jnp.tile(alpha, len(roles)), jnp.concatenate(returns)
            curriculum = moved(config, curriculum, *seen, hyper, state.step)
            metrics |= {"curriculum/shape": curriculum.shape, "curriculum/context": context.mean()}
            metrics |= {"curriculum/return": seen[1].mean()}
        after = State(
            params=players(lambda role: learners[role].params),
            target=players(lambda role: learners[role].target),
            opt_state=players(lambda role: learners[role].opt_state),
            replay=Players(**buffers),
            curriculum=curriculum,
            key=key,
            step=state.step + 1,
        )
        return after, metrics

    def policy(actor, obs, key, deterministic=False):
        x = _last_context(config, obs)
        if deterministic:
            return space.from_policy(jnp.tanh(nets.protagonist.policy(actor, x).mean))
        return space.from_policy(nets.protagonist.sample(actor, x, key)[0])

    def value(state, hyper, obs, action):
        """Mean of the protagonist's two Q(x, a) at alpha 0, and -T log pi(a|x)."""
        params, x = state.params.protagonist, _last_context(config, obs)
        q = nets.protagonist.q(params.critics, x, action.reshape(*obs.shape[:-1], -1)).mean(axis=0)
        log_prob = nets.protagonist.policy(params.actor, x).log_prob_pre_tanh(pre_tanh(space.to_policy(action)))
        return q, -(0.0 if config.homogeneous else jnp.exp(params.log_temperature)) * log_prob

    return Algorithm(
        "qarl",
        config,
        env,
        hyper,
        env.params,
        init,
        step,
        actor=lambda state: state.params.protagonist.actor,
        policy=policy,
        steps_per_update=len(roles) * config.num_episodes * env.horizon,
        value=value,
    )


SMALL = Config(num_envs=5, hidden=(64, 64), batch_size=128, critic_start=1_000, actor_start=2_000, capacity=150_000)
FASTER = Hyper(actor_learning_rate=1e-3, critic_learning_rate=1e-3, temperature_learning_rate=1e-3, threshold=-250.0)
DOUBLE = Preset(SMALL, FASTER._replace(rate=100.0, threshold=400.0))
presets = Presets(
    classic=Preset(Config(), Hyper()),
    homogeneous=Preset(Config(homogeneous=True), Hyper()),
    linear=Preset(Config(curriculum="linear"), Hyper()),
    point=Preset(Config(curriculum="point"), Hyper()),
    single=Preset(Config(draws="iteration"), Hyper()),
    rarl=Preset(Config(opponent="rational"), Hyper()),
    force=Preset(Config(opponent="budgeted"), Hyper()),
    cat=Preset(Config(opponent="myopic"), Hyper()),
    sac=Preset(Config(opponent="none"), Hyper()),
    # The thresholds of the code, whose tasks give at most 1 a step; brax's of these names have rewards of their own.
    cartpole_balance=Preset(Config(), Hyper(threshold=10.0)),
    cartpole_swingup=Preset(Config(), Hyper(threshold=10.0)),
    halfcheetah=Preset(Config(), Hyper(threshold=10.0)),
    walker2d=Preset(Config(), Hyper(threshold=10.0)),
    hopper=Preset(Config(), Hyper(threshold=1.0)),
    ant=Preset(Config(), Hyper(threshold=100.0)),  # its quadruped's
    reacher=Preset(Config(), Hyper(threshold=-15.0)),  # brax's gives at most 0 a step, and -20 in all to who lies still
    pendulum=Preset(SMALL, FASTER),
    double_pendulum=DOUBLE,
    inverted_double_pendulum=DOUBLE,
)
