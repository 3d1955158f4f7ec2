"""CPL: contrastive preference learning, a policy from preferences between segments, without rewards; offline.

Hejna et al. 2024, arXiv:2310.13639, Eq. 5 and 6, and the authors' code, which made the published numbers. People prefer
the segment of less regret; in maximum-entropy RL the optimal advantage is alpha log pi*(a|s), so that the preferences
are logistic in the policy's own log-probabilities:

  S(sigma) = alpha sum_t gamma^t log pi(a_t | s_t)
  loss     = -log sigmoid(S(winner) - bias S(loser)),  0 < bias <= 1

Shapes: B = batch_size, n segments of k steps in a batch, A action dimensions. A sweep adds leading axes, and all its
lanes share the preferences, the `task`. Actions are in [-1, 1], whatever the environment's box.

Two phases are two algorithms over one State: behaviour cloning, then preferences, with a new optimiser. The authors
train 500,000 updates from states, the first 200,000 of them cloning:

    first = cpl.make(env, cpl.Config(phase="bc"), data)
    state, _ = rlzoo.train(first, key, 10_000)
    algo = cpl.make(env, cpl.Config(), data)
    state, _ = rlzoo.resume(algo, cpl.begin(state, algo), 20_000)

SFT, the baseline, is cloning of all segments and then of the preferred ones, bc_on="preferred", with one optimiser.
CPL(BC) is bias 1 and bc_coef 1; CPL(KL) is Config(reference=True) in the second phase. Rankings have no bias. Of the
code's datasets the sparse ones are comparisons="given" (its mode `comparison`), and the dense ones from states "random"
(its mode `rank`). A batch is drawn with replacement, where the code permutes.

Defaults of `Config` and `Hyper` but for ``ranking_size``, and the presets ``cpl_bc`` and ``cpl_kl``, are the code's for
MetaWorld from states; ``small`` and ``pendulum`` are ours, the latter's alpha and bias chosen on other seeds than those
of the results.
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
from jaxtyping import Array, Float

from rlzoo.algorithms.config import Preset, Presets, Structure
from rlzoo.algorithms.hyper import Positive, Rate, Share, Weight, checked, numbers
from rlzoo.blocks import masks, networks, optim
from rlzoo.blocks.distributions import Categorical, among_legal, bounded_normal
from rlzoo.data.preferences import Preferences, accuracy, hard_label, task_of
from rlzoo.types import Algorithm, Discrete, Env, environment


@dataclass(frozen=True)
class Config(Structure):  # static: fixes shapes, loop lengths and branches
    phase: str = "cpl"  # cpl: preferences; bc: behaviour cloning
    comparisons: str = "given"  # given: labelled pairs; random: pairs by score; all: all in a batch; ranking: groups
    batch_size: int = 96  # B, comparisons; of "all" segments, of "ranking" groups
    ranking_size: int = 4  # segments in a group; ours
    bc_on: str = "all"  # all segments, or the preferred of each pair
    reference: bool = False  # CPL(KL): log-probabilities less those of the policy that `begin` was given
    head: str = "deterministic"  # of a box: deterministic, log pi = -|mu - a|^2; normal. Discrete: categorical
    hidden: tuple[int, ...] = (512, 512)  # widths of the policy's layers
    activation: str = "relu"  # tanh, relu, swish or gelu
    dropout: float = 0.25  # in training only, before each activation
    actor: nn.Module | None = None  # own module, obs -> [B, A] before the tanh, or logits [B, K]; it drops nothing
    optim: Callable[..., Any] | None = None  # own, (hyper, updates done) -> an optax transformation

    def __post_init__(self) -> None:
        self.choice("phase", ("cpl", "bc"))
        self.choice("comparisons", ("given", "random", "all", "ranking"))
        self.at_least(1, "batch_size")
        self.at_least(2, "ranking_size")
        self.choice("bc_on", ("all", "preferred"))
        self.choice("head", ("deterministic", "normal"))
        self.widths("hidden")
        self.choice("activation", networks.ACTIVATIONS)
        self.probability("dropout")
        if self.comparisons == "all" and self.batch_size < 2:
            raise ValueError("batch_size=1 of comparisons='all' has nothing to compare; use 2 or more")
        if self.bc_on == "preferred" and self.comparisons in ("all", "ranking"):
            raise ValueError(
                f"bc_on='preferred' needs pairs, and comparisons={self.comparisons!r} has none; use 'given'"
            )


@numbers
class Hyper(NamedTuple):  # traced: any leaf may carry a sweep axis
    learning_rate: Rate = 1e-4  # of Adam, in phase bc
    preference_rate: Weight = 1.0  # share of the learning rate that phase cpl rises to; CPL(KL): 0.1
    warmup_steps: Weight = 10_000.0  # updates over which the rate rises from 0, from the start of phase cpl
    alpha: Positive = 0.1  # temperature: regret units per nat
    bias: Share = 0.5  # lambda, on the loser: below 1 keeps the policy on the data; not of rankings
    bc_coef: Weight = 0.0  # of the cloning loss beside that of preferences
    gamma: Share = 1.0  # discount per environment step, inside of a segment


class Params(NamedTuple):
    network: chex.ArrayTree
    log_std: jax.Array | tuple[()]  # f32[A] of a normal head


class State(NamedTuple):  # all the next update needs, and nothing else
    params: Params
    reference: Params | tuple[()]  # of CPL(KL), where the phase began
    opt_state: optax.OptState
    began: jax.Array  # int32[], updates done when the phase began
    key: chex.PRNGKey
    step: jax.Array  # int32[], updates done; never batched


def segment_score(
    log_prob: Float[Array, "n k"], alpha: Float[Array, ""] | float, gamma: Float[Array, ""] | float
) -> Float[Array, "n"]:
    """S = alpha sum_t gamma^t log pi(a_t | s_t)."""
    return alpha * jnp.sum(gamma ** jnp.arange(log_prob.shape[1]) * log_prob, axis=1)


def pair_loss(
    first: Float[Array, "B"], second: Float[Array, "B"], label: Float[Array, "B"], bias: Float[Array, ""] | float
) -> Float[Array, "B"]:
    """Eq. 5, with the bias of Eq. 6 on the loser; a tie is half of each. Label 1: the second is preferred."""
    return label * jax.nn.softplus(bias * first - second) + (1.0 - label) * jax.nn.softplus(bias * second - first)


def all_pairs_loss(
    segment: Float[Array, "n"], by: Float[Array, "n"], bias: Float[Array, ""] | float
) -> Float[Array, ""]:
    """The mean of `pair_loss` over the n (n - 1) / 2 pairs, labelled by scores ``by``; of those that are not exactly 0.

    Equal scores are ordered by their place, as in the code.
    """
    ordered = segment[jnp.argsort(by)]
    losses = jnp.triu(jax.nn.softplus(bias * ordered[:, None] - ordered), k=1)  # rows lose against later columns
    return losses.sum() / jnp.maximum(1, jnp.sum(losses != 0.0))


def ranking_loss(segment: Float[Array, "G K"], by: Float[Array, "G K"]) -> Float[Array, "G"]:
    """Plackett and Luce: -sum_i log softmax_{j >= i}(S_j)[i] of each group, best by score first; K = 2 is Eq. 5."""
    ordered = jnp.take_along_axis(segment, jnp.argsort(-by, axis=1), axis=1)
    after = jax.lax.cumlogsumexp(ordered, axis=1, reverse=True)
    return jnp.sum(after - ordered, axis=1)


def proxy_log_prob(mean: Float[Array, "*B A"], action: Float[Array, "*B A"]) -> Float[Array, "*B"]:
    """-|mu - a|^2 of a deterministic policy: log N(a; mu, I / 2) + A log(pi) / 2. With a bias the constant matters."""
    return -jnp.sum((mean - action) ** 2, axis=-1)


def begin(state: State, algo: Algorithm) -> State:
    """The State that the next phase, ``algo``, goes on from: the same policy, a new optimiser, the warm-up to come.

    A copy: the phase before may go on from its own State too. Where ``algo`` has a reference, it is that policy. Where
    it clones too, as SFT does, the optimiser goes on. Without `begin` it would go on in the phase of preferences too,
    and the reference be the policy that training began with.
    """
    state = jax.tree.map(jnp.copy, state)
    reference = jax.tree.map(jnp.copy, state.params) if algo.config.reference else ()
    clones = algo.config.phase == "bc"
    opt_state = state.opt_state if clones else jax.tree.map(jnp.zeros_like, state.opt_state)
    return state._replace(reference=reference, opt_state=opt_state, began=jnp.zeros_like(state.began) + state.step)


def make(env: Env, config: Config, preferences: Preferences, hyper: Hyper = Hyper()) -> Algorithm:
    """CPL on preferences; ``env`` gives the spaces, and is what the policy is evaluated in.

    Raises:
        ValueError: the preferences are not of this environment, all of them are ties, or scores are needed and missing.
    """
    environment(env, "CPL", sees=("image", "legal"), several=False)
    hyper = checked(hyper)
    unlabelled = config.phase == "bc" and config.bc_on == "all"
    task = task_of(preferences, env, "cpl", ties=unlabelled or config.comparisons != "given")
    if config.phase == "cpl" and config.comparisons != "given":
        _refuse(preferences, config)
    discrete, (num_segments, length) = isinstance(env.action_space, Discrete), preferences.obs.shape[:2]
    num_outputs = env.action_space.n if isinstance(env.action_space, Discrete) else math.prod(env.action_space.shape)
    normal = config.head == "normal" and not discrete
    default = networks.FeedForward(
        num_outputs, env.obs_space.shape, config.hidden, config.activation, dropout=config.dropout, weights="orthogonal"
    )
    network = networks.own(config, "actor", default, env.obs_space.shape)
    dropout = config.dropout if config.actor is None else 0.0

    def optimiser(hyper, step, rate):
        return optim.own(config, hyper, step, optax.adam(rate))

    def distribution(params, obs, keep=None):
        """Of a box the mean alone, if the head is deterministic."""
        out = network.apply(params.network, obs, **({} if keep is None else {"keep": keep}))
        if discrete:
            return among_legal(Categorical(out), obs)
        return bounded_normal(jnp.tanh(out), params.log_std) if normal else jnp.tanh(out)

    def log_prob(params, obs, action, keep=None):
        """[n, k]; every step of every segment has a mask of its own."""
        n = action.shape[0]
        rows = lambda x: x.reshape(n * length, *x.shape[2:])  # noqa: E731
        pi = distribution(params, jax.tree.map(rows, obs), keep)
        action = rows(action)
        lp = pi.log_prob(action) if discrete or normal else proxy_log_prob(pi, action)
        return lp.reshape(n, length)

    def policy(params, obs, key, deterministic=False):
        pi = distribution(params, obs)
        if not (discrete or normal):
            return env.action_space.from_policy(pi)
        return env.action_space.from_policy(pi.mode() if deterministic else pi.sample(key))

    def init(key, hyper, task):
        key, network_key = jax.random.split(key)
        log_std = jnp.zeros(num_outputs) if normal else ()
        params = Params(network.init(network_key, jax.tree.map(lambda x: x[0, :1], task.obs)), log_std)
        reference = params if config.reference else ()
        opt_state = optimiser(hyper, 0, 0.0).init(params)
        return State(params, reference, opt_state, jnp.int32(0), key, jnp.int32(0))

    def drawn(key, task):
        """Segments of a batch [n], and of pairs their labels [B]."""
        first_key, second_key = jax.random.split(key)
        size = config.batch_size
        if config.comparisons == "given":
            row = jax.random.randint(first_key, (size,), 0, len(task.label))
            return jnp.concatenate([task.first[row], task.second[row]]), task.label[row]
        if config.comparisons == "random":
            first, second = jax.random.randint(first_key, (2, size), 0, num_segments)
            return jnp.concatenate([first, second]), hard_label(task.score[second] - task.score[first])
        size *= config.ranking_size if config.comparisons == "ranking" else 1
        return jax.random.randint(second_key, (size,), 0, num_segments), None

    def preference_loss(segment, by, label, bias):
        """Of S [n]; by their scores [n], or labels of pairs [B]."""
        if config.comparisons == "all":
            return all_pairs_loss(segment, by, bias), {}
        if config.comparisons == "ranking":
            groups = config.batch_size, config.ranking_size
            return ranking_loss(segment.reshape(groups), by.reshape(groups)).mean(), {}
        first, second = jnp.split(segment, 2)
        return pair_loss(first, second, label, bias).mean(), {"policy/accuracy": accuracy(first, second, label)}

    def step(state, hyper, task):
        key, row_key, mask_key = jax.random.split(state.key, 3)

        # 1. Draw segments, and dropout's masks.
        index, label = drawn(row_key, task)
        obs, action = jax.tree.map(lambda x: x[index], (task.obs, task.action))
        shape = index.shape[0] * length, sum(config.hidden)
        keep = masks.keep_bits(mask_key, dropout, shape) if dropout else None
        weights = jnp.ones(index.shape[0])
        if config.bc_on == "preferred":
            weights = jnp.concatenate([label <= 0.5, label >= 0.5]).astype(jnp.float32)
        reference = jnp.zeros(()) if not config.reference else log_prob(state.reference, obs, action)

        # 2. Cloning, or the preferences' loss with as much cloning as is wanted.
        def loss(params):
            lp = log_prob(params, obs, action, keep)
            cloning = -jnp.sum(weights * lp.mean(axis=1)) / weights.sum()
            if config.phase == "bc":
                return cloning, {"loss/cloning": cloning}
            segment = segment_score(lp - reference, hyper.alpha, hyper.gamma)
            preference, metrics = preference_loss(segment, task.score[index], label, hyper.bias)
            metrics |= {"loss/preference": preference, "loss/cloning": cloning}
            return preference + hyper.bc_coef * cloning, metrics

        # 3. Adam, its rate constant in cloning and rising from the start of the preferences' phase.
        grads, metrics = jax.grad(loss, has_aux=True)(state.params)
        warm = jnp.minimum(1.0, (state.step - state.began + 1) / hyper.warmup_steps)
        rate = hyper.learning_rate * (1.0 if config.phase == "bc" else hyper.preference_rate * warm)
        params, opt_state = optim.descend(optimiser(hyper, state.step, rate), state.params, state.opt_state, grads)
        return State(params, state.reference, opt_state, state.began, key, state.step + 1), metrics

    return Algorithm(
        "cpl",
        config,
        env,
        hyper,
        task,
        init,
        step,
        actor=lambda state: state.params,
        policy=policy,
        steps_per_update=1,
        offline=True,
    )


def _refuse(preferences: Preferences, config: Config) -> None:
    """Preferences by scores of which nothing can be learned."""
    about = f"cpl: the preferences of dataset {preferences.about.name!r}"
    score = np.asarray(preferences.score)
    if not np.isfinite(score).all():
        raise ValueError(
            f"{about} have no score for {(~np.isfinite(score)).sum()} of {len(score)} segments, which "
            f"comparisons={config.comparisons!r} needs; use comparisons='given', the labelled pairs"
        )
    if np.all(score == score[0]):
        raise ValueError(f"{about} all have the score {score[0]}: nothing can be learned from them")


SMALL = Config(batch_size=32, hidden=(64, 64), dropout=0.1)
presets = Presets(
    classic=Preset(Config(), Hyper()),
    small=Preset(SMALL, Hyper(learning_rate=1e-3, warmup_steps=500.0)),
    pendulum=Preset(SMALL, Hyper(learning_rate=1e-3, warmup_steps=500.0, alpha=0.3, bias=0.9)),
    cpl_bc=Preset(Config(), Hyper(bias=1.0, bc_coef=1.0)),
    cpl_kl=Preset(Config(reference=True), Hyper(preference_rate=0.1, alpha=0.2, bias=0.75)),
)
