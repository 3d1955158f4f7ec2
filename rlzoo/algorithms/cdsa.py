"""CDSA-style conservative denoising scores: a correction of any trained policy's actions towards the data; offline.

After Liu, Yang & Li 2024, arXiv:2406.07541, of which only the abstract's idea is public: *reconstructed from it, not a
reproduction*. Known are: a score model, by denoising, of the data's density; an inverse dynamics model, which turns the
states' part of that score into actions; both correct the actions of a policy that is left as it is. Every formula
below, every size and every number is our choice, the presets' too; those of `Strength` were chosen on other keys than
those of the results. The score's formulas come from Vincent 2011 and Song & Ermon 2019 (arXiv:1907.05600), and the
embedding of its noise level from Ho et al. 2020 (arXiv:2006.11239).

Notation: s normalised observation [S], a action in [-1, 1] [A], z = [s, a] [D]; p_sigma the density of the data's z
with noise of standard deviation sigma added; delta [S] the standard deviation of s' - s.

  score    Psi(z, sigma), near grad_z log p_sigma(z); so sigma^2 Psi is what denoising moves z by (Tweedie)
  inverse  I(s, s'), the action that led from s to s'
  forward  F(s, a), the s' that it leads to; only "anchored" asks it

At decision time, K = iterations times, from a_0 = pi(s):

  [D_s, D_a] = sigma^2 Psi([s, a_j], sigma)
  u          = clip(eta_state D_s, -reach delta, reach delta)
  a_{j+1}    = clip(a_j + eta_action D_a + weight (I(s, s + u) - I(s, s)), -1, 1)

That is combine = "delta", which leaves an action alone where the score is zero. Other last terms are "add",
weight I(s, s + u); "blend", the same with the rest times 1 - weight; "anchored", weight (I(s, F(s, a_j) + u) - a_j).

Only transitions with a true successor count for delta, whose least is 0.001.

`make` gives the models as an algorithm, trained like any other; `fit` trains them once for each dataset, for they
depend on nothing else. `wrap` corrects a policy, `corrected` an algorithm with its State. The action part alone is
weight = 0, the state part alone eta_action = 0. Alone, the models act by correcting the middle of the action box.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from rlzoo.algorithms.config import Preset, Presets, Structure, bounded_box
from rlzoo.algorithms.hyper import Decay, Limit, Positive, Rate, Real, Steps, checked, numbers
from rlzoo.blocks import neighbours, networks, optim
from rlzoo.blocks.neighbours import Table
from rlzoo.data.dataset import Dataset, Moments, normalise, task_of
from rlzoo.kept import kept, name_of
from rlzoo.types import Algorithm, Box, Env

HELD_OUT = 0.05  # of the episodes, on which the inverse dynamics are tested and not trained
LEAST = 1e-3  # of delta, where a dimension hardly changes
OWN = ("score_network", "inverse_network", "forward_network", "optim")
ACTING = ("iterations", "combine", "scale")  # fields of `Config` that training has no use for


@dataclass(frozen=True)
class Config(Structure):  # static: fixes shapes, loop lengths and branches
    score: str = "conditional"  # on the noise level; single: one level; empirical: of the data themselves, no network
    score_hidden: tuple[int, ...] = (256, 128)  # widths of the score network's layers
    score_batch_size: int = 1024  # drawn with replacement
    dynamics_hidden: tuple[int, ...] = (128, 128)  # widths of the inverse and of the forward model's layers
    dynamics_batch_size: int = 256  # drawn with replacement
    iterations: int = 1  # K, corrections of an action
    combine: str = "delta"  # delta, add, blend or anchored: how the inverse model's action comes in
    scale: str = "tweedie"  # of the score: tweedie sigma^2 Psi, raw Psi, or unit Psi / |Psi|
    anneal: str = "cosine"  # how the score's learning rate falls to 0 over anneal_steps: cosine or linear
    score_network: nn.Module | None = None  # own module, (z [B, S + A], sigma [B, 1]) -> noise [B, S + A]
    inverse_network: nn.Module | None = None  # own module, (s, change [B, S]) -> [B, A] before the tanh
    forward_network: nn.Module | None = None  # own module, (s, a) -> change [B, S]
    optim: Callable[..., Any] | None = None  # own, (hyper, updates done) -> optax transformation, or one a part

    def __post_init__(self) -> None:
        self.choice("score", ("conditional", "single", "empirical"))
        self.at_least(1, "score_batch_size", "dynamics_batch_size")
        self.at_least(0, "iterations")
        self.widths("score_hidden", "dynamics_hidden")
        self.choice("combine", ("delta", "add", "blend", "anchored"))
        self.choice("scale", ("tweedie", "raw", "unit"))
        self.choice("anneal", optim.ANNEALING)


@numbers
class Hyper(NamedTuple):  # traced: any leaf may carry a sweep axis; of training
    score_learning_rate: Rate = 1e-3  # of Adam, falling to 0
    dynamics_learning_rate: Rate = 1e-3  # of Adam
    anneal_steps: Steps = 100_000.0  # updates after which the score's learning rate is 0
    ema_decay: Decay = 0.999  # of the score's averaged parameters, which are those used
    sigma_min: Positive = 0.01  # least noise of training; states have standard deviation 1, actions half-width 1
    sigma_max: Positive = 1.0  # greatest noise of training; the single level is the geometric mean of both


@numbers
class Strength(NamedTuple):  # traced: any leaf may carry a sweep axis; of acting. Weak, so that good policies stay good
    eta_action: Real = 0.25  # of the score's action part; 1 is one step to the posterior mean
    eta_state: Real = 1.0  # of the score's state part
    weight: Real = 0.05  # of the inverse model's action; 0: by the action part alone
    sigma: Positive = 0.05  # noise level of the score
    anneal: Positive = 1.0  # the first iteration's sigma over the last one's, between them geometrically
    reach: Limit = 1.0  # bound of the wished change of state, in units of delta


class Params(NamedTuple):  # of the networks, or of their optimisers
    score: chex.ArrayTree  # () of an empirical score
    inverse: chex.ArrayTree
    forward: chex.ArrayTree


class Models(NamedTuple):
    """What a correction computes with: a pytree, shared by all that is corrected."""

    params: Params  # the score's are averaged
    moments: Moments  # of the dataset's observations
    delta: jax.Array  # f32[S], of s' - s
    sigmas: jax.Array  # f32[2], the noise levels that the score was trained between
    table: Table | tuple[()]  # the rows z [N, D] of an empirical score


class Task(NamedTuple):
    """The dataset, as the models need it."""

    z: jax.Array  # f32[N, D], all rows
    pairs: jax.Array  # int32[M], rows with a true successor that the dynamics are trained on
    held_out: jax.Array  # int32[M'], such rows of other episodes
    next_state: jax.Array  # f32[N, S]
    moments: Moments
    delta: jax.Array  # f32[S]
    table: Table | tuple[()]

    @property
    def num_states(self) -> int:
        return self.next_state.shape[-1]


class State(NamedTuple):  # all the next update needs, and nothing else
    params: Params
    average: chex.ArrayTree  # of the score's parameters
    opt_state: Params
    models: Models  # without parameters: acting needs the rest
    key: chex.PRNGKey
    step: jax.Array  # int32[], updates done; never batched


class Fitted(NamedTuple):
    """Trained models and where they belong; of `fit` or `fitted`."""

    models: Models
    config: Config
    env: Env


class Corrected(NamedTuple):
    """State of an algorithm that `corrected` made: nothing in it is learned."""

    params: Any  # the base's actor, all that acting needs
    models: Models
    strength: Strength
    key: chex.PRNGKey
    step: jax.Array  # of the base

    @staticmethod
    def shared() -> tuple[str, ...]:
        """Fields that all lanes share."""
        return "models", "step"


def score_loss(noise: Float[Array, "B D"], predicted: Float[Array, "B D"]) -> Float[Array, ""]:
    """E 1/2 |e(z + sigma eps, sigma) - eps|^2; with Psi = -e / sigma it is 1/2 |sigma Psi + eps|^2."""
    return 0.5 * jnp.sum((predicted - noise) ** 2, axis=-1).mean()


class Networks(NamedTuple):
    """The modules for a number of state and of action dimensions, and what they stand for."""

    noise: Any
    inverse_net: Any
    forward_net: Any
    num_states: int

    def score(self, models: Models, z: Float[Array, "B D"], sigma: Float[Array, ""] | float) -> Float[Array, "B D"]:
        """Psi(z, sigma)."""
        if isinstance(models.table, Table):
            mean, _ = neighbours.kernel_mean(z, models.table, sigma)
            return (mean - z) / sigma**2
        return -self.noise.apply(models.params.score, z, jnp.full((len(z), 1), sigma)) / sigma

    def inverse(self, params: Any, s: Float[Array, "B S"], change: Float[Array, "B S"]) -> Float[Array, "B A"]:
        """I(s, s'), of the change (s' - s) / delta."""
        return jnp.tanh(self.inverse_net.apply(params, s, change))

    def forward(self, params: Any, s: Float[Array, "B S"], a: Float[Array, "B A"]) -> Float[Array, "B S"]:
        """(F(s, a) - s) / delta."""
        return self.forward_net.apply(params, s, a)


def _networks(num_states: int, num_actions: int, config: Config) -> Networks:
    dynamics = functools.partial(networks.FeedForward, obs_shape=(num_states,), hidden=config.dynamics_hidden)
    score = networks.ScoreNetwork(num_states + num_actions, config.score_hidden, config.score == "conditional")
    states, actions, both = (num_states,), (num_actions,), (num_states + num_actions,)
    return Networks(
        networks.own(config, "score_network", score, both, (1,)),
        networks.own(config, "inverse_network", dynamics(num_actions), states, states),
        networks.own(config, "forward_network", dynamics(num_states), states, actions),
        num_states,
    )


def correct(
    nets: Networks, config: Config, models: Models, strength: Strength, s: Float[Array, "B S"], a: Float[Array, "B A"]
) -> Float[Array, "B A"]:
    """a_K of a_0 = ``a``, as the module's text says; s and a in the models' coordinates."""
    if config.iterations == 0:
        return a
    bound = strength.reach * models.delta
    left = jnp.arange(config.iterations - 1, -1, -1) / max(1, config.iterations - 1)
    sigmas = strength.sigma * strength.anneal**left

    def one(a, sigma):
        psi = nets.score(models, jnp.concatenate([s, a], axis=-1), sigma)
        if config.scale == "unit":
            psi = psi / (jnp.linalg.norm(psi, axis=-1, keepdims=True) + 1e-8)
        moved = sigma**2 * psi if config.scale == "tweedie" else psi
        change = jnp.clip(strength.eta_state * moved[..., : nets.num_states], -bound, bound) / models.delta
        towards = a + strength.eta_action * moved[..., nets.num_states :]

        inverse = functools.partial(nets.inverse, models.params.inverse, s)
        if config.combine == "delta":
            a = towards + strength.weight * (inverse(change) - inverse(jnp.zeros_like(change)))
        elif config.combine == "add":
            a = towards + strength.weight * inverse(change)
        elif config.combine == "blend":
            a = (1.0 - strength.weight) * towards + strength.weight * inverse(change)
        else:  # anchored: what the action leads to, moved
            a = towards + strength.weight * (inverse(nets.forward(models.params.forward, s, a) + change) - a)
        return jnp.clip(a, -1.0, 1.0), None

    return jax.lax.scan(one, a, sigmas)[0]


@functools.lru_cache(maxsize=64)
def _acting(obs_shape: tuple[int, ...], space: Box, config: Config) -> Callable:
    """(models, strength, obs, action) -> the corrected action, in the environment's units."""
    num_states, num_actions = math.prod(obs_shape), math.prod(space.shape)
    nets = _networks(num_states, num_actions, config)

    def act(models, strength, obs, action):
        batch = obs.shape[: obs.ndim - len(obs_shape)]
        if obs.shape != (*batch, *obs_shape) or action.shape != (*batch, *space.shape):
            raise ValueError(
                f"cdsa: the models are of observations {list(obs_shape)} and actions {list(space.shape)}, but the "
                f"policy is given {list(obs.shape)} and gives {list(action.shape)}; fit models of its own data"
            )
        s = normalise(models.moments, obs).reshape(-1, num_states)
        given = space.to_policy(action).reshape(-1, num_actions)
        start = jnp.clip(given, -1.0, 1.0)
        after = correct(nets, config, models, strength, s, start)
        # What is not corrected is the base's number itself, not the same through two changes of units; outside of the
        # box only if nothing is to be corrected.
        idle = (strength.eta_action == 0.0) & (strength.weight == 0.0) | (config.iterations == 0)
        own = ((after == start) & ((given == start) | idle)).reshape(action.shape)
        return jnp.where(own, action, space.from_policy(after.reshape(*batch, num_actions)))

    return act


def make(env: Env, config: Config, dataset: Dataset, hyper: Hyper = Hyper()) -> Algorithm:
    """The score and dynamics models of a dataset; ``env`` gives the spaces.

    Only transitions that are not terminated train the dynamics, for of the others a flat file has no successor. How
    many they are differs between datasets, so that their tasks do not stack into a sweep.

    Raises:
        ValueError: the dataset is not of this environment, has weights, its actions are discrete, or it has no two
            transitions with a true successor; sigma_min or sigma_max is none.
    """
    hyper = checked(hyper)
    space = bounded_box(env, "CDSA")
    if not np.all(np.asarray(hyper.sigma_max) >= hyper.sigma_min):
        raise ValueError(f"sigma_min={hyper.sigma_min}, sigma_max={hyper.sigma_max}; the second must not be smaller")
    task = _task(dataset, env, config)
    num_states, num_rows = task.num_states, len(task.z)
    nets = _networks(num_states, task.z.shape[-1] - num_states, config)
    act = _acting(env.obs_space.shape, space, config)
    has_network = config.score != "empirical"

    def optimisers(hyper, step):
        rate = optim.ANNEALING[config.anneal](hyper.score_learning_rate, step, hyper.anneal_steps)
        default = Params(optax.adam(rate), *[optax.adam(hyper.dynamics_learning_rate)] * 2)
        return optim.own(config, hyper, step, default)

    def sigma_range(hyper):
        if config.score == "conditional":
            return jnp.stack([hyper.sigma_min, hyper.sigma_max])
        if config.score == "single":
            return jnp.full(2, jnp.sqrt(hyper.sigma_min * hyper.sigma_max))
        return jnp.array([1e-3, jnp.inf])

    def init(key, hyper, task):
        key, score_key, inverse_key, forward_key = jax.random.split(key, 4)
        s, a = task.z[:1, :num_states], task.z[:1, num_states:]
        params = Params(
            score=nets.noise.init(score_key, task.z[:1], jnp.ones((1, 1))) if has_network else (),
            inverse=nets.inverse_net.init(inverse_key, s, s),
            forward=nets.forward_net.init(forward_key, s, a),
        )
        opt_state = Params(*(adam.init(x) for adam, x in zip(optimisers(hyper, 0), params, strict=True)))
        models = Models(Params((), (), ()), task.moments, task.delta, sigma_range(hyper), ())
        return State(params, params.score, opt_state, models, key, jnp.int32(0))

    def step(state, hyper, task):
        key, row_key, level_key, noise_key, pair_key, held_key = jax.random.split(state.key, 6)

        # 1. Noise the data, each row at a level of its own, uniform in its logarithm.
        z = task.z[jax.random.randint(row_key, (config.score_batch_size,), 0, num_rows)]
        low, high = jnp.log(sigma_range(hyper))
        sigma = jnp.exp(jax.random.uniform(level_key, (config.score_batch_size, 1)) * (high - low) + low)
        noise = jax.random.normal(noise_key, z.shape)

        # 2. Transitions with a true successor, and others to test the inverse dynamics on.
        def transitions(key, rows):
            rows = rows[jax.random.randint(key, (config.dynamics_batch_size,), 0, len(rows))]
            s, a = task.z[rows, :num_states], task.z[rows, num_states:]
            return s, a, (task.next_state[rows] - s) / task.delta

        seen, unseen = transitions(pair_key, task.pairs), transitions(held_key, task.held_out)

        # 3. One step of Adam on each loss, and the score's average.
        def score_error(params):
            return score_loss(noise, nets.noise.apply(params, z + sigma * noise, sigma))

        def inverse_error(params, batch=seen):
            s, a, change = batch
            return jnp.mean((nets.inverse(params, s, change) - a) ** 2)

        def forward_error(params):
            s, a, change = seen
            return jnp.mean((nets.forward(params, s, a) - change) ** 2)

        errors = Params(score_error if has_network else None, inverse_error, forward_error)
        metrics, params, opt_state = {}, state.params, state.opt_state
        for name, error, adam in zip(Params._fields, errors, optimisers(hyper, state.step), strict=True):
            if error is not None:
                own = getattr(params, name)
                metrics[f"loss/{name}"], grads = jax.value_and_grad(error)(own)
                own, own_state = optim.descend(adam, own, getattr(opt_state, name), grads)
                params, opt_state = params._replace(**{name: own}), opt_state._replace(**{name: own_state})
        metrics["loss/inverse_held_out"] = inverse_error(params.inverse, unseen)
        average = optim.polyak(state.average, params.score, 1.0 - hyper.ema_decay)
        return State(params, average, opt_state, state.models, key, state.step + 1), metrics

    def policy(models, obs, key, deterministic=False):
        batch = obs.shape[: obs.ndim - len(env.obs_space.shape)]
        middle = jnp.broadcast_to(space.from_policy(jnp.zeros(math.prod(space.shape))), (*batch, *space.shape))
        strength = Strength()
        sigma: Any = jnp.clip(strength.sigma, *models.sigmas)
        return act(models._replace(table=task.table), strength._replace(sigma=sigma), obs, middle)

    return Algorithm(
        "cdsa",
        config,
        env,
        hyper,
        task,
        init,
        step,
        actor=lambda state: state.models._replace(params=state.params._replace(score=state.average)),
        policy=policy,
        steps_per_update=1,
        offline=True,
    )


def _task(dataset: Dataset, env: Env, config: Config) -> Task:
    if dataset.weight is not None:
        raise ValueError(
            "cdsa: its score is of the data's density, which rows' weights would change; give them without"
        )
    task = task_of(dataset, env, "cdsa")
    num_rows = task.num_rows
    s, next_s = (x.reshape(num_rows, -1) for x in (task.transitions.obs, task.transitions.next_obs))
    z = jnp.concatenate([s, task.transitions.action], axis=-1)

    # Behind a terminal row a flat file has the next episode's first observation: no successor at all.
    pairs = np.flatnonzero(~np.asarray(dataset.terminated))
    if len(pairs) < 2:
        raise ValueError(
            f"cdsa: {len(pairs)} of {num_rows} transitions of dataset {dataset.about.name!r} have a valid next "
            "observation, those that are not terminated; inverse dynamics need two or more"
        )
    episode = np.searchsorted(dataset.ends(), pairs)
    order = np.random.default_rng(0).permutation(np.unique(episode))
    held = np.isin(episode, order[: max(1, round(HELD_OUT * len(order)))])
    if held.all():  # one episode: its end
        held = np.arange(len(pairs)) >= min(len(pairs) - 1, round((1.0 - HELD_OUT) * len(pairs)))
    change = np.asarray(next_s)[pairs] - np.asarray(s)[pairs]
    delta = jnp.maximum(jnp.asarray(change.std(axis=0), jnp.float32), LEAST)
    table = neighbours.table(z) if config.score == "empirical" else ()
    trained, tested = (jnp.asarray(pairs[x], jnp.int32) for x in (~held, held))
    return Task(z, trained, tested, next_s, task.moments, delta, table)


# --- corrections of what is trained ----------------------------------------------------------------------------------


def fitted(algo: Algorithm, state: State) -> Fitted:
    """The trained models out of the State of `make`'s algorithm, of one agent; copies, so that training may go on."""
    if algo.num_hypers is not None:
        raise ValueError("models are of one agent; give rlzoo.setting(runs, i) and rlzoo.lane(state, i, seed)")
    found = jax.tree.map(jnp.copy, algo.actor(state))
    return Fitted(found._replace(table=algo.task.table), algo.config, algo.env)


def fit(
    env: Env,
    dataset: Dataset,
    config: Config = Config(),
    hyper: Hyper = Hyper(),
    num_updates: int | None = None,
    key: jax.Array | None = None,
) -> Fitted:
    """The models of a dataset, trained once: of the same data and numbers they are kept (`rlzoo.kept`).

    Args:
        num_updates: default ``hyper.anneal_steps``. key: default ``jax.random.key(0)``.
    Raises:
        ValueError: as of `make`; a number of ``hyper`` is swept.
    """
    if any(jnp.ndim(x) for x in hyper):
        raise ValueError("fit trains one set of models; sweep cdsa.make(...) and take cdsa.fitted of the best lane")
    if num_updates is None and not np.isfinite(hyper.anneal_steps):
        raise ValueError(f"anneal_steps={hyper.anneal_steps} says no length; give num_updates")
    algo = make(env, config, dataset, hyper)
    key = jax.random.key(0) if key is None else key
    length = round(hyper.anneal_steps) if num_updates is None else num_updates
    if length < 0:
        raise ValueError(f"num_updates={length}; it must be 0 or more")

    @jax.jit
    def train(key, hyper, task):
        state = algo.init(key, hyper, task)
        state, _ = jax.lax.scan(lambda state, _: algo.step(state, hyper, task), state, None, length)
        return algo.actor(state)

    numbers = jax.tree.map(jnp.float32, hyper)
    of_training = replace(config, **{name: getattr(Config(), name) for name in ACTING})
    name = name_of("cdsa-1", (algo.task, numbers, jax.random.key_data(key)), of_training, length)
    like = jax.eval_shape(train, key, numbers, algo.task)
    if any(getattr(config, field) is not None for field in OWN):  # whose repr is no name for what they compute
        found = train(key, numbers, algo.task)
    else:
        found = kept(name, lambda: train(key, numbers, algo.task), like, dear=True)
    return Fitted(found._replace(table=algo.task.table), config, env)


def joint(fitted: Fitted, obs: Float[Array, "*B"], action: Float[Array, "*B"]) -> Float[Array, "N D"]:
    """z = [s, a] as the models see it, such as to measure distances to the data by `neighbours.nearest`."""
    s = normalise(fitted.models.moments, obs)
    a = bounded_box(fitted.env, "CDSA").to_policy(action)
    return jnp.concatenate([s.reshape(len(obs), -1), a], axis=-1)


def distances(fitted: Fitted, dataset: Dataset, seen: Dataset) -> Float[Array, "N"]:
    """Of every state and action in ``seen``, such as a policy's, to the nearest one in the dataset; see `joint`."""
    table = neighbours.table(joint(fitted, dataset.obs, dataset.action))
    search = lambda z: neighbours.nearest(z[None], table).squared[0, 0]  # noqa: E731
    return jnp.sqrt(jax.lax.map(search, joint(fitted, seen.obs, seen.action), batch_size=1024))


def score(fitted: Fitted, z: Float[Array, "N D"], sigma: Float[Array, ""] | float) -> Float[Array, "N D"]:
    """Psi(z, sigma), near grad_z log p_sigma(z), where `joint` gives z."""
    models, num_states = fitted.models, len(fitted.models.delta)
    return _networks(num_states, z.shape[-1] - num_states, fitted.config).score(models, z, sigma)


def wrap(policy: Callable, fitted: Fitted, strength: Strength = Strength(), config: Config | None = None) -> Callable:
    """A policy's actions, corrected.

    Nothing is learned, and nothing of the policy changes; where ``eta_action = weight = 0`` its actions stay the same
    bits. Pure: jit it, vmap it over strengths, export it.

    Args:
        policy: (obs [*B, ...], ...) -> action [*B, ...], such as ``lambda obs, key: algo.policy(actor, obs, key)``.
        strength: its leaves may be tracers, whose values are not checked. config: default the models' own; another one
            may differ from it in ``iterations``, ``combine`` and ``scale``.
    Returns:
        a function of the same arguments. It closes over the models: of an empirical score jit makes the whole dataset a
        constant, which `corrected` does not.
    Raises:
        ValueError: sigma is outside of what the score was trained on, or the models are of other dimensions.
    """
    if isinstance(policy, Algorithm):
        raise ValueError("wrap takes a function (obs, ...) -> action; of an algorithm take cdsa.corrected(algo, state)")
    config = _checked(fitted, strength, config)
    act = _acting(fitted.env.obs_space.shape, bounded_box(fitted.env, "CDSA"), config)

    def corrected_policy(obs, *args, **kwargs):
        return act(fitted.models, strength, obs, policy(obs, *args, **kwargs))

    return corrected_policy


def corrected(
    algo: Algorithm, state: Any, fitted: Fitted, strength: Strength = Strength(), config: Config | None = None
) -> tuple[Algorithm, Corrected]:
    """An algorithm whose trained policy is corrected, and its State: evaluate and save them as any other.

        safe, safe_state = cdsa.corrected(algo, state, cdsa.fit(env, dataset))
        rlzoo.evaluate(safe, env, safe_state, key, 128)

    Args:
        algo: one agent's, or a sweep, whose lanes are corrected each.
        state: its State.
        strength: leaves [H] make lanes [H, S] of S seeds: a whole grid of strengths (`rlzoo.grid(cdsa.Strength(),
            ...)`) is evaluated in one program, on the same episodes.
        config: as of `wrap`.
    Raises:
        ValueError: as of `wrap`; the models are of another environment; or the lengths of swept leaves differ.
    """
    if isinstance(state, Corrected):
        raise ValueError(f"{algo.name} is corrected already; correct its base, with more iterations if need be")
    if (algo.env.name, algo.env.action_space) != (fitted.env.name, fitted.env.action_space):
        raise ValueError(
            f"cdsa: the models are of {fitted.env.name}, the policy of {algo.env.name}; fit models of data of its "
            "environment, or, if both are the same, give fitted._replace(env=algo.env)"
        )
    config = _checked(fitted, strength, config)
    act = _acting(fitted.env.obs_space.shape, bounded_box(fitted.env, "CDSA"), config)
    actor, policy = _corrected(algo.policy, act)

    def step(state, hyper, task):
        raise ValueError(f"{algo.name} + cdsa corrects a trained policy and learns nothing; train {algo.name} itself")

    # Copied: training may go on from the base's State, which donates it.
    params, key, clock = jax.tree.map(jnp.copy, (algo.actor(state), state.key, state.step))

    def algorithm(params):
        def init(key, hyper, task):
            numbers = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), hyper)
            return Corrected(params, fitted.models, numbers, key, clock)

        return algo._replace(
            name=f"{algo.name} + cdsa",
            config=config,
            hyper=Strength(),
            init=init,
            step=step,
            actor=actor,
            policy=policy,
            value=None,
            num_hypers=None,
            base=None,
        )

    own, lanes = state.key.shape, _lanes(state.key.shape, strength)
    if not lanes:
        safe = algorithm(params)._replace(hyper=strength)
        return safe, safe.init(key, strength, None)

    # To all lanes [H, S]: the base is there once or for its own lanes, each strength once or for H settings.
    params, key = jax.tree.map(lambda x: _spread(x, len(own), lanes), (params, key))
    strengths = jax.tree.map(lambda x: _spread(jnp.asarray(x, jnp.float32), jnp.ndim(x), lanes), strength)
    start = Corrected(params, fitted.models, strengths, key, clock)
    one = algorithm(jax.tree.map(lambda x: x[0, 0], params))
    many = one._replace(hyper=strength, init=lambda key, hyper, task: start, num_hypers=lanes[0], base=one)
    return many, start


def _spread(x: jax.Array, axes: int, lanes: tuple[int, ...]) -> jax.Array:
    """An array with the first ``axes`` of the lanes' axes in front, repeated along the others."""
    x = jnp.expand_dims(x, tuple(range(axes, len(lanes))))
    return jnp.broadcast_to(x, (*lanes, *x.shape[len(lanes) :]))


@functools.lru_cache(maxsize=64)
def _corrected(policy: Callable, act: Callable) -> tuple[Callable, Callable]:
    """Actor and policy; the same ones for other models and strengths, so that nothing is compiled again."""

    def corrected_policy(actor, obs, key, deterministic=False):
        params, models, strength = actor
        return act(models, strength, obs, policy(params, obs, key, deterministic))

    return lambda state: (state.params, state.models, state.strength), corrected_policy


def _lanes(own: tuple[int, ...], strength: Strength) -> tuple[int, ...]:
    """() or [H, S] of a base's lanes and its strengths'."""
    deep = [name for name, x in strength._asdict().items() if jnp.ndim(x) > 1 or jnp.size(x) == 0]
    if deep:
        raise ValueError(
            f"strength.{deep[0]} has shape {list(jnp.shape(getattr(strength, deep[0])))}; allowed: [] or [H]"
        )
    lengths = {f"strength.{name}": len(x) for name, x in strength._asdict().items() if jnp.ndim(x)}
    if own and own[0] > 1:
        lengths["the policy's settings"] = own[0]
    if len(set(lengths.values())) > 1:
        given = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise ValueError(
            f"swept leaves vary together and must have one length, got {given}; all combinations of strengths are "
            "rlzoo.grid's; of many settings correct one, rlzoo.setting and rlzoo.lane"
        )
    if not lengths and not own:
        return ()
    return next(iter(lengths.values()), 1), own[1] if own else 1


def _checked(fitted: Fitted, strength: Strength, config: Config | None) -> Config:
    """The static choices of a correction; refused if the models cannot be used so."""
    checked(strength, "strength")
    config = fitted.config if config is None else config
    own = replace(fitted.config, **{name: getattr(config, name) for name in ACTING})
    if own != config:
        raise ValueError(f"config is {config}, but the models were trained as {fitted.config}; replace() that one")
    used = {"sigma": strength.sigma}
    if config.iterations > 1:
        used["sigma * anneal"] = strength.sigma * strength.anneal
    for name, sigma in used.items():
        if _traced(sigma) or _traced(fitted.models.sigmas):
            continue
        low, high = np.asarray(fitted.models.sigmas)
        outside = ~((np.asarray(sigma) >= 0.999 * low) & (np.asarray(sigma) <= 1.001 * high) & np.isfinite(sigma))
        if outside.any():
            given = np.asarray(sigma)[outside].flat[0]
            raise ValueError(
                f"cdsa: {name}={given:.4g} is outside of {low:.4g} to {high:.4g}, the noise that the score was trained "
                "on; use a number in there, or fit with other sigma_min and sigma_max"
            )
    return config


def _traced(x: Any) -> bool:
    """Inside of jit, where numbers cannot be seen."""
    return isinstance(x, jax.core.Tracer)


presets = Presets(
    classic=Preset(Config(), Hyper()),
    pendulum=Preset(
        Config(score_hidden=(128, 128), score_batch_size=256, dynamics_hidden=(64, 64)),
        Hyper(score_learning_rate=5e-3, anneal_steps=20_000.0),
    ),
    brax=Preset(
        Config(score_hidden=(512, 512, 512), dynamics_hidden=(256, 256)),
        Hyper(score_learning_rate=3e-4, anneal_steps=300_000.0),
    ),
)
