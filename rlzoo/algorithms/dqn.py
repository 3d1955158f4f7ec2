"""The DQN family: double, dueling, n steps, C51, quantiles, IQN, HL-Gauss, Munchausen, prioritised replay, objectives.

DQN: Mnih et al. 2015 (Nature 518), Alg. 1; double: van Hasselt et al. 2016, arXiv:1509.06461, Eq. 4; dueling: Wang et
al. 2016, arXiv:1511.06581, Eq. 9; several steps, Rainbow: Hessel et al. 2018, arXiv:1710.02298, Eq. 1; quantiles:
Dabney et al. 2018, arXiv:1710.10044, Eq. 10; IQN: 2018, arXiv:1806.06923, Eq. 3; Munchausen: Vieillard et al. 2020,
arXiv:2007.14430, Eq. 2; prioritised replay: Schaul et al. 2016, arXiv:1511.05952, Eq. 1; C51 and classification: see
`rlzoo.blocks.heads`; objectives other than the mean: after Pires et al. 2025, arXiv:2501.13028, see
`rlzoo.blocks.stocks`.
Shapes: N = num_envs, T = num_steps, B = batch_size, A = actions, J = outputs of an action. A sweep adds leading axes.

  R, D     sum_{j<k} gamma^j r_j and gamma^k (1 - terminated), over k = n_step steps or to the end of the episode
  target   R + D Q'(s_n, a*),  a* = argmax Q'(s_n, .), double: argmax Q(s_n, .)
           Munchausen: + munchausen_alpha clip(t log pi(a|s), munchausen_clip, 0), and sum_a pi (Q' - t log pi) of s_n
           in place of Q'(s_n, a*), pi = softmax(Q' / t) at t = temperature                                      (Eq. 2)
  loss     (target - Q(s, a))^2 / 2, huber: |.| - 1/2 beyond 1; of distributions, whose atoms are moved alike, and of
           classes that of the head
  acting   uniform with probability epsilon, which falls linearly over epsilon_steps after the warm-up; otherwise
           argmax Q, of Munchausen a sample of softmax(Q / t)

Departures: minibatches are drawn with replacement; rows are kept one by one, and n steps are put together when they are
drawn, so that gamma may be swept. Episodes cut by a time limit bootstrap from their true last observation. A row's
priority is |target - Q|, of distributions their loss; its importance is over the largest of the batch. IQN's cosines
begin at i = 1 and it acts on fixed midpoints where nothing is to be drawn; both Munchausen policies are the target
network's, as in the authors' code, and of quantiles their outputs are averaged over actions. With an objective every
minibatch's stocks are drawn anew, and the discount is the stock's. Defaults whose source is not
named, and the presets, are ours.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from rlzoo.algorithms.config import Preset, Presets, Structure, discrete
from rlzoo.algorithms.hyper import Inner, Positive, Rate, Real, Share, Steps, Weight, checked, numbers
from rlzoo.blocks import greedy, heads, networks, optim, priorities, replay, rollout, stocks
from rlzoo.types import Algorithm, Env, Transition


@dataclass(frozen=True)
class Config(Structure):  # static: fixes shapes, loop lengths and branches
    num_envs: int = 1  # N
    num_steps: int = 4  # T, steps per environment between learning
    num_updates: int = 1  # gradient steps after them
    batch_size: int = 128  # B
    capacity: int = 50_000  # transitions in the replay buffer
    warmup: int = 1_000  # transitions of random actions before learning; they count as environment steps
    n_step: int = 1  # steps of reward in a target
    target_every: int = 1  # gradient steps after which the target takes a step of tau; with tau = 1 it is a copy
    head: str = "scalar"  # mean, hl_gauss, two_hot, c51, quantile or iqn; see rlzoo.blocks.heads
    num_bins: int = 51  # of a classification head; quantiles
    num_taus: tuple[int, ...] = (64, 64, 32)  # IQN's: learned, of the target, and to choose actions by
    double: bool = False  # actions of targets are chosen by the network that learns
    dueling: bool = False  # V + Adv - mean Adv
    munchausen: bool = False  # log pi of the action taken counts as a reward, and targets are soft
    huber: bool = False  # errors of scalar heads beyond 1 count linearly
    prioritised: bool = False  # rows are drawn by their last error
    objective: str = "mean"  # of stock and return: cvar, mean_cvar, target, quadratic, threshold; rlzoo.envs.stock
    stock_grid: int = 101  # initial stocks among which the best is looked for
    hidden: tuple[int, ...] = (128, 128)  # widths; of a dueling network each stream has the last one
    activation: str = "relu"  # tanh, relu, swish or gelu
    layer_norm: bool = False  # before each activation
    compute_dtype: str = "float32"  # of default networks' products, or bfloat16; sums, losses, parameters are float32
    network: nn.Module | None = None  # own, obs -> [B, A, J], of IQN (obs, tau [B, J]); replaces hidden and others
    optim: Callable[..., Any] | None = None  # own, (hyper, updates done) -> an optax transformation

    def __post_init__(self) -> None:
        self.at_least(1, "num_envs", "num_steps", "num_updates", "batch_size", "capacity", "warmup", "n_step")
        self.at_least(1, "target_every")
        self.at_least(2, "num_bins", "stock_grid")
        self.choice("head", (*heads.HEADS, "iqn"))
        self.choice("objective", stocks.OBJECTIVES)
        self.widths("hidden", "num_taus")
        self.choice("activation", networks.ACTIVATIONS)
        self.dtype("compute_dtype", "network")
        self.replay(self.num_envs * self.num_steps, self.n_step, self.num_envs)
        if len(self.num_taus) != 3:
            raise ValueError(f"num_taus={self.num_taus}; give three: learned, of the target, to choose actions by")
        if self.munchausen and self.double:
            raise ValueError("munchausen takes both policies from the target network, and no double; leave one out")
        if self.objective != "mean" and (self.head not in ("quantile", "iqn") or self.munchausen):
            raise ValueError(
                f"objective={self.objective!r} is of a distribution: use head='quantile' or 'iqn', and no munchausen"
            )


@numbers
class Hyper(NamedTuple):  # traced: any leaf may carry a sweep axis
    learning_rate: Rate = 1e-3  # of Adam; Dopamine's on CartPole
    adam_eps: Positive = 3.125e-4  # Dopamine's; far above the usual one
    gamma: Share = 0.99  # discount per environment step
    tau: Share = 0.01  # step of the target towards the network; 1: a copy
    epsilon_start: Share = 1.0  # probability of a random action after the warm-up
    epsilon: Share = 0.01  # probability of a random action after epsilon_steps
    epsilon_steps: Steps = 25_000.0  # environment steps
    value_low: Real = -10.0  # the lower end of a head's bins, reward units
    value_high: Real = 10.0  # the upper end of a head's bins
    sigma_ratio: Positive = 0.75  # HL-Gauss's standard deviation, in bins; arXiv:2403.03950
    kappa: Weight = 1.0  # where the quantile Huber loss bends, reward units; arXiv:1710.10044
    temperature: Positive = 0.03  # Munchausen's t, reward units per nat; arXiv:2007.14430
    munchausen_alpha: Share = 0.9  # of the bonus, t log pi(a|s); arXiv:2007.14430
    munchausen_clip: Real = -1.0  # of the bonus from below, reward units; arXiv:2007.14430
    priority_exponent: Share = 0.5  # Rainbow's, Dopamine; 0: uniform
    importance_exponent: Share = 0.5  # 1 makes up for the priorities wholly
    risk: Inner = 0.1  # share of the worst returns that CVaR is the mean of
    mean_weight: Share = 0.5  # of the mean beside CVaR
    stock_low: Real = -10.0  # stocks that are learned, reward units
    stock_high: Real = 10.0  # the upper end


class Learner(NamedTuple):  # what a gradient step changes
    params: chex.ArrayTree
    target: chex.ArrayTree
    opt_state: optax.OptState
    ranks: Any  # priorities of the replay's rows; () where they are drawn uniformly


class Acting(NamedTuple):  # numbers by which the policy acts, as in the last update; () of those that it has no use for
    epsilon: jax.Array  # f32[]
    stock: Any = ()  # f32[], the best initial one, from which a deterministic policy acts
    temperature: Any = ()
    value_low: Any = ()
    value_high: Any = ()
    risk: Any = ()
    mean_weight: Any = ()


class State(NamedTuple):  # all the next update needs, and nothing else
    params: chex.ArrayTree
    target: chex.ArrayTree
    opt_state: optax.OptState
    ranks: Any
    replay: Transition  # [capacity, ...]
    envs: rollout.Envs  # N environments in the middle of their episodes
    first_obs: Any  # [N, ...] at which the best initial stock is looked for; () without one
    acting: Acting
    key: chex.PRNGKey
    step: jax.Array  # int32[], updates done; never batched


class Actor(NamedTuple):  # what acting needs
    params: chex.ArrayTree
    acting: Acting


def critic_loss(q: Float[Array, "*B"], target: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """(target - Q(s, a))^2 / 2."""
    return 0.5 * (q - target) ** 2


def chosen(x: Float[Array, "B A J"], action: Any) -> Float[Array, "B J"]:
    """The outputs of one action each."""
    return jnp.take_along_axis(x, action[:, None, None], axis=1)[:, 0]


def make(env: Env, config: Config = Config(), hyper: Hyper = Hyper()) -> Algorithm:
    """DQN for an environment: see `Config` for its structure, `Hyper` for its numbers, `presets` for tuned pairs.

    Raises:
        ValueError: the actions are a box; an objective needs a stock, or another discount than that of the stock.
    """
    space = discrete(env, "DQN")
    hyper = checked(hyper)
    if config.objective != "mean":
        stocks.refuse_without(env, config.objective, hyper.gamma)
    rows = config.num_envs * config.num_steps  # that an update adds to the buffer
    warmup_blocks = config.warmup // rows
    drawing = priorities.Rows(config.prioritised, config.capacity, rows, (config.n_step - 1) * config.num_envs)
    iqn = config.head == "iqn"
    head = heads.Head("quantile", config.num_taus[0]) if iqn else heads.of(config.head, config.num_bins)
    squared = (lambda q, target: heads.huber(q - target)) if config.huber else critic_loss
    default = networks.q_network(env, config, space.n, 1 if iqn else head.size, dueling=config.dueling)
    network = networks.own(config, "network", default, env.obs_space.shape, *[(head.size,)] * iqn)

    def outputs(params, obs, num=0, key=None):
        """[*B, A, J], and of IQN tau [*B, J]: so many, drawn, or without a key midpoints."""
        if not iqn:
            return network.apply(params, obs), None
        shape = *networks.batch_of(obs, env.obs_space), num
        tau = jnp.broadcast_to(heads.midpoints(num), shape) if key is None else jax.random.uniform(key, shape)
        return network.apply(params, obs, tau), tau

    def scores(out, obs, acting):
        """By which actions are chosen, [*B, A]: Q, or the objective; of illegal ones far below all others."""
        q = head.value(out, acting)
        if config.objective != "mean":
            total = stocks.amount(obs)[..., None, None] + out
            q = stocks.utility(config.objective, total, acting.risk, acting.mean_weight).mean(axis=-1)
        return greedy.among(q, obs)

    def explore(actor, obs, key):
        tau_key, best_key, random_key = jax.random.split(key, 3)
        out, _ = outputs(actor.params, obs, config.num_taus[2], tau_key)
        score = scores(out, obs, actor.acting)
        soft = jax.random.categorical(best_key, score / actor.acting.temperature) if config.munchausen else None
        action = greedy.any_best(score, best_key) if soft is None else soft
        return greedy.now_and_then(action, score, obs, actor.acting.epsilon, random_key)

    def policy(actor, obs, key, deterministic=False):
        if not deterministic:
            return explore(actor, obs, key)
        if config.objective in stocks.FROM_BEST:
            obs = stocks.had_it_begun(obs, actor.acting.stock)
        return jnp.argmax(scores(outputs(actor.params, obs, config.num_taus[2])[0], obs, actor.acting), axis=-1)

    def target_of(learner, batch, hyper, acting, key):
        """What Q(s, a) is regressed on: numbers [B], or `heads.Atoms`."""
        keys = jax.random.split(key, 4)
        out, _ = outputs(learner.target, batch.next_obs, config.num_taus[1], keys[0])
        judged = out
        if iqn or config.double:
            judge = learner.params if config.double else learner.target
            judged, _ = outputs(judge, batch.next_obs, config.num_taus[2], keys[1])
        score, reward = scores(judged, batch.next_obs, acting), batch.reward
        if config.munchausen:
            log_pi = greedy.scaled_log_policy(score, hyper.temperature)  # times the temperature
            pi = jnp.exp(log_pi / hyper.temperature)
            now, _ = outputs(learner.target, batch.obs, config.num_taus[2], keys[2])
            bonus = greedy.scaled_log_policy(scores(now, batch.obs, acting), hyper.temperature)
            bonus = jnp.clip(greedy.of_action(bonus, batch.action), hyper.munchausen_clip, 0.0)
            reward = reward + hyper.munchausen_alpha * bonus
        else:
            action = greedy.any_best(score, keys[3])

        if not head.distributional:
            q = head.value(out, hyper)
            following = jnp.sum(pi * (q - log_pi), -1) if config.munchausen else greedy.of_action(q, action)
            return jax.lax.stop_gradient(reward + batch.discount * following)
        if not config.munchausen:
            atoms = head.atoms(chosen(out, action), hyper)
        elif head.kind == "quantile":
            atoms = head.atoms(jnp.sum(pi[..., None] * (out - log_pi[..., None]), axis=-2), hyper)
        else:
            atoms = head.atoms(out, hyper)
            atoms = atoms._replace(at=atoms.at - log_pi[..., None]).mixed(pi)
        return atoms.after(reward, batch.discount)

    used = ["temperature"] * config.munchausen + ["value_low", "value_high"] * (head.kind in heads.CLASSES)
    used += ["risk", "mean_weight"] * (config.objective != "mean")

    def acting_of(hyper, steps, params, first_obs):
        """How to act after so many steps, from the stock with the best objective on average over first observations."""
        acting = Acting(greedy.epsilon_at(hyper, steps), **{name: getattr(hyper, name) for name in used})
        if config.objective not in stocks.FROM_BEST:
            return acting
        starts = heads.support(hyper.stock_low, hyper.stock_high, config.stock_grid)
        obs = jax.vmap(lambda x: stocks.edited(first_obs, jnp.full(config.num_envs, x)))(starts)
        score = scores(outputs(params, obs, config.num_taus[2])[0], obs, acting)
        return acting._replace(stock=stocks.best_start(starts, score.max(axis=-1)))

    def optimiser(hyper, step):
        return optim.own(config, hyper, step, optax.adam(hyper.learning_rate, eps=hyper.adam_eps))

    def init(key, hyper, task):
        key, net_key, env_key, act_key = jax.random.split(key, 4)
        envs = rollout.init(env, env_key, task, config.num_envs)
        first_obs = envs.obs if config.objective in stocks.FROM_BEST else ()
        envs, batch = rollout.at_random(env, envs, act_key, task, config.warmup // config.num_envs)
        buffer = replay.init(jax.tree.map(lambda x: x[0], batch), config.capacity)
        example = jax.tree.map(lambda x: x[:1], batch.obs)
        params = network.init(net_key, example, *[jnp.zeros((1, head.size))] * iqn)
        return State(
            params=params,
            target=params,
            opt_state=optimiser(hyper, 0).init(params),
            ranks=drawing.init(config.warmup, hyper),
            replay=replay.add(buffer, batch, jnp.int32(0)),
            envs=envs,
            first_obs=first_obs,
            acting=acting_of(hyper, 0.0, params, first_obs),
            key=key,
            step=jnp.int32(0),
        )

    def step(state, hyper, task):
        key, act_key, learn_key = jax.random.split(state.key, 3)
        adam, gamma = (
            optimiser(hyper, state.step),
            hyper.gamma if config.objective == "mean" else jnp.float32(env.stock),
        )
        acting = acting_of(hyper, jnp.float32(rows) * state.step, state.params, state.first_obs)

        # 1. Act: T steps in each of N environments, into the buffer.
        def act(obs, key):
            return explore(Actor(state.params, acting), obs, key), ()

        envs, batch, _, episodes = rollout.collect(env, act, state.envs, act_key, task, config.num_steps)
        blocks = warmup_blocks + state.step
        buffer = replay.add(state.replay, rollout.flatten(batch), blocks)
        start = Learner(state.params, state.target, state.opt_state, drawing.written(state.ranks, blocks, hyper))

        # 2. A gradient step on a minibatch.
        def update(learner, now):
            number, key = now
            row_key, stock_key, target_key, tau_key = jax.random.split(key, 4)
            drawn, weight = drawing.draw(learner.ranks, row_key, blocks + 1, config.batch_size, hyper)
            batch = replay.steps(buffer, drawn, config.n_step, config.num_envs, gamma)
            if config.objective != "mean":
                ends = {"minval": hyper.stock_low, "maxval": hyper.stock_high}
                batch = stocks.renewed(batch, jax.random.uniform(stock_key, drawn.shape, **ends))
            target = target_of(learner, batch, hyper, acting, target_key)

            def loss(params):
                out, tau = outputs(params, batch.obs, config.num_taus[0], tau_key)
                out = chosen(out, batch.action)
                error = head.loss(out, target, hyper, squared, tau)
                return (weight * error).mean(), (error, head.value(out, hyper))

            grads, (error, q) = jax.grad(loss, has_aux=True)(learner.params)
            params, opt_state = optim.descend(adam, learner.params, learner.opt_state, grads)
            moved = optim.polyak(learner.target, params, hyper.tau)
            due = (number + 1) % config.target_every == 0
            target_params = jax.tree.map(lambda new, old: jnp.where(due, new, old), moved, learner.target)
            ranks = drawing.learned(learner.ranks, drawn, error if head.distributional else target - q, hyper)
            metrics = {"loss/critic": error.mean(), "value/q": q.mean()} | head.metrics(target, hyper)
            return Learner(params, target_params, opt_state, ranks), metrics

        numbers = config.num_updates * state.step + jnp.arange(config.num_updates)
        learner, metrics = jax.lax.scan(update, start, (numbers, jax.random.split(learn_key, config.num_updates)))

        metrics = jax.tree.map(jnp.mean, metrics) | {"policy/epsilon": acting.epsilon} | episodes
        if config.objective in stocks.FROM_BEST:
            metrics["policy/stock"] = acting.stock
        return State(*learner, buffer, envs, state.first_obs, acting, key, state.step + 1), metrics

    def value(state, hyper, obs, action):
        """Q(s, a), and no bonus."""
        out, _ = outputs(state.params, obs, config.num_taus[2])
        q = greedy.of_action(head.value(out, hyper), action)
        return q, jnp.zeros_like(q)

    functions = init, step, lambda state: Actor(state.params, state.acting), policy
    return Algorithm("dqn", config, env, hyper, env.params, *functions, rows, config.warmup, value)


_CLASSIC = Config(num_envs=8, num_steps=1, num_updates=2)  # an update for every four steps, as in all of these
_MINATAR = replace(_CLASSIC, batch_size=32, capacity=100_000, target_every=250, hidden=(128,))
_RAINBOW = replace(_MINATAR, head="c51", n_step=3, double=True, dueling=True, prioritised=True)
_ATARI = Hyper(learning_rate=2.5e-4, tau=1.0, epsilon_steps=250_000.0)  # Dopamine's numbers for MinAtar
presets = Presets(
    classic=Preset(_CLASSIC, Hyper(learning_rate=5e-4, tau=0.005)),
    minatar=Preset(_MINATAR, _ATARI),
    rainbow=Preset(_RAINBOW, _ATARI),
)
