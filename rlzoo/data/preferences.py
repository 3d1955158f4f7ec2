"""Preferences between segments of trajectories: drawn from datasets, labelled by an oracle's regret or by rewards.

    drawn = preferences.segments(dataset, 2_000, length=64, key=key)
    score = preferences.regret_score(drawn, oracle, oracle_state, key)      # or reward_score(drawn)
    data  = preferences.compare(drawn, score)                               # the `task` of rlzoo.cpl

Labels of people go into `Preferences` directly, with scores of NaN.

The regret estimator and the pairing are those of Hejna et al. 2024, arXiv:2310.13639, Section 4 and its code.
Shapes: M segments of k steps, P comparisons.
"""

from pathlib import Path
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rlzoo.data import npz
from rlzoo.data.dataset import (
    About,
    Dataset,
    array_shape,
    as_int32,
    check_for,
    checksum,
    equal_rows,
    finite,
    flags,
    same_env,
    shown,
)
from rlzoo.types import Algorithm, Box, Env

FIELDS = ("obs", "action", "score", "first", "second", "label")
BORDER = 1.0 - 1e-5  # of actions in a box


@flax.struct.dataclass
class Segments:
    """M pieces of k steps each, cut out of episodes."""

    obs: jax.Array  # f32[M, k, ...]
    action: jax.Array  # f32[M, k, ...], or int32[M, k]; the environment's own
    reward: jax.Array  # f32[M, k]
    about: About = flax.struct.field(pytree_node=False, default=About())
    legal: jax.Array | None = None  # bool[M, k, K], the actions that might be taken; None: nothing is said of it


@flax.struct.dataclass
class Preferences:
    """M segments, and P comparisons of two of them each. Rewards are not in it."""

    obs: jax.Array  # f32[M, k, ...]
    action: jax.Array  # f32[M, k, ...], or int32[M, k]; the environment's own
    score: jax.Array  # f32[M], higher is better; NaN: unknown
    first: jax.Array  # int32[P], a segment
    second: jax.Array  # int32[P], another
    label: jax.Array  # f32[P]: 1 the second is preferred, 0 the first, 0.5 a tie
    about: About = flax.struct.field(pytree_node=False, default=About())
    legal: jax.Array | None = None  # bool[M, k, K], the actions that might be taken; None: nothing is said of it

    @property
    def num_segments(self) -> int:
        return self.obs.shape[0]

    @property
    def length(self) -> int:
        """k."""
        return self.obs.shape[1]

    def fingerprint(self) -> str:
        """A checksum of the arrays."""
        return checksum(self)


class Task(NamedTuple):
    """Preferences as algorithms see them."""

    obs: Any  # f32[M, k, ...], or an `Observation` of such with masks
    action: jax.Array  # f32[M, k, A] inside of (-1, 1), or int32[M, k]
    score: jax.Array  # f32[M]
    first: jax.Array  # int32[P]
    second: jax.Array  # int32[P]
    label: jax.Array  # f32[P]


def task_of(preferences: Preferences, env: Env, who: str, ties: bool = False) -> Task:
    """Map actions onto [-1, 1], less a border that keeps their log-probability finite whatever the policy.

    Args:
        ties: whether all labels may be ties, where scores are compared.
    Raises:
        ValueError: the preferences fail a check of `checked`, are not of this environment, its box of actions is
            unbounded, or all of them are ties; for the algorithm ``who``.
    """
    where = f"{who}: the preferences of dataset {preferences.about.name!r}"
    if isinstance(env.action_space, Box) and not env.action_space.bounded:
        raise ValueError(
            f"{env.name}: its action space is an unbounded box; {who} needs a bounded one; wrap the actions"
        )
    preferences = checked(_arrays(preferences), preferences.about, where)
    num_segments, length = preferences.obs.shape[:2]
    flat = lambda x: x.reshape(num_segments * length, *x.shape[2:])  # noqa: E731
    obs, rows = flat(preferences.obs), jnp.zeros(num_segments * length)
    legal = None if preferences.legal is None else flat(preferences.legal)
    check_for(Dataset(obs, flat(preferences.action), rows, obs, rows, rows, preferences.about, legal), env, who)
    if not ties and np.all(np.asarray(preferences.label) == 0.5):
        raise ValueError(f"{where} are {len(preferences.label)} ties and no more: nothing can be learned from them")
    action = env.action_space.to_policy(preferences.action)
    if isinstance(env.action_space, Box):
        action = jnp.clip(action, -BORDER, BORDER)
    seen = shown(env, preferences.obs, preferences.legal)
    return Task(seen, action, *(getattr(preferences, name) for name in ("score", "first", "second", "label")))


def segments(dataset: Dataset, num_segments: int, length: int, key: jax.Array) -> Segments:
    """Segments of ``length`` rows, their starts uniform over all rows that the episode goes on for long enough after.

    Raises:
        ValueError: no episode is as long as a segment.
    """
    if num_segments < 1 or length < 1:
        raise ValueError(f"num_segments={num_segments} of length={length}; both must be 1 or more")
    ends = dataset.ends()
    left = ends[np.searchsorted(ends, np.arange(dataset.num_rows))] - np.arange(dataset.num_rows) + 1
    starts = np.flatnonzero(left >= length)
    if not len(starts):
        raise ValueError(
            f"no episode of dataset {dataset.about.name!r} has {length} steps, the longest {left.max()}; use a length "
            "of at most that"
        )
    chosen = jnp.asarray(starts)[jax.random.randint(key, (num_segments,), 0, len(starts))]
    rows = chosen[:, None] + jnp.arange(length)
    legal = None if dataset.legal is None else dataset.legal[rows]
    return Segments(dataset.obs[rows], dataset.action[rows], dataset.reward[rows], dataset.about, legal)


def reward_score(segments: Segments) -> Float[Array, "M"]:
    """sum_t r_t: the partial return."""
    return segments.reward.sum(axis=1)


def regret_score(
    segments: Segments, oracle: Algorithm, state: Any, key: jax.Array, num_actions: int = 64
) -> Float[Array, "M"]:
    """Minus the regret under an oracle: sum_{t < k-1} r_t + V(s_{k-1}) - V(s_0), undiscounted.

    V(s) is the mean of the oracle's Q(s, a) over ``num_actions`` actions of its policy. Where the dynamics are
    deterministic and gamma is 1 the sum is that of optimal advantages.

    Args:
        oracle: an algorithm with a critic, such as SAC, trained in the segments' environment.
        state: of one agent.
        num_actions: 1 or more.
    Raises:
        ValueError: the oracle has no critic, is a sweep, or is of another environment.
    """
    if num_actions < 1:
        raise ValueError(f"num_actions={num_actions}; it must be 1 or more")
    if oracle.num_hypers is not None or state.key.ndim:
        raise ValueError("the oracle must be one agent; give rlzoo.setting(runs, i) and rlzoo.lane(state, i, seed)")
    if oracle.value is None:
        raise ValueError(f"the oracle, {oracle.name}, has no critic; use one with values, such as sac")
    of, space = oracle.env.name, oracle.env.action_space
    if not same_env(segments.about, oracle.env):
        raise ValueError(
            f"the segments are of {segments.about.env}, the oracle of {of}; train one in that environment; if it is "
            "the same, segments.replace(about=segments.about._replace(env='')) says nothing about it"
        )
    discrete = jnp.issubdtype(segments.action.dtype, jnp.integer)
    given = segments.obs.shape[2:], segments.action.shape[2:], discrete
    needed = array_shape(oracle.env, "an oracle"), space.shape, not isinstance(space, Box)
    if given != needed:
        what = [
            f"observations {list(obs)} and {'discrete' if kind else 'continuous'} actions {list(action)}"
            for obs, action, kind in (given, needed)
        ]
        raise ValueError(f"the segments have {what[0]}, the oracle of {of} {what[1]}; train one in their environment")
    actor, critic = oracle.actor(state), oracle.value

    @jax.jit
    def values(obs, keys):
        def one(key):
            action = oracle.policy(actor, obs, key)
            if isinstance(space, Box):
                action = jnp.clip(action, space.low, space.high)
            return critic(state, oracle.hyper, obs, action)[0]

        return jax.lax.map(one, keys).mean(axis=0)

    start_keys, end_keys = jax.random.split(key, (2, num_actions))
    gained = segments.reward[:, :-1].sum(axis=1)
    obs = shown(oracle.env, segments.obs, segments.legal)
    first, last = (jax.tree.map(lambda x: x[:, at], obs) for at in (0, -1))  # noqa: B023
    return gained + values(last, end_keys) - values(first, start_keys)


def hard_label(ahead: Float[Array, "P"]) -> Float[Array, "P"]:
    """1 where the second's score is higher, 0 where the first's is, 0.5 where they are equal; of their difference."""
    return jnp.where(ahead == 0.0, 0.5, (ahead > 0.0).astype(jnp.float32))


def accuracy(first: Float[Array, "B"], second: Float[Array, "B"], label: Float[Array, "B"]) -> Float[Array, ""]:
    """The share of labels that a model's scores of both segments agree with; ties count as the first's."""
    return jnp.mean((second > first) == (jnp.round(label) == 1.0))


def compare(
    segments: Segments,
    score: Float[Array, "M"],
    num_pairs: int | None = None,
    key: jax.Array | None = None,
    temperature: float | None = None,
) -> Preferences:
    """Label pairs of segments by their scores.

    Args:
        num_pairs: random pairs of two different segments, drawn by ``key``; default: the first half of the segments
            against the second, every segment once.
        temperature: None labels hard, 1 where the second's score is higher, 0.5 where they are equal; a number draws
            labels, 1 with probability sigmoid((score_2 - score_1) / temperature), by ``key``.
    Raises:
        ValueError: an odd number of segments to halve, scores of another shape, no key where one is needed.
    """
    score, total = jnp.asarray(score, jnp.float32), segments.obs.shape[0]
    if score.shape != (total,):
        raise ValueError(f"score has shape {list(score.shape)}; it must be [{total}], one of each segment")
    finite(np.asarray(score), "preferences", "score", "an oracle's values or rewards are; train it again")
    if (num_pairs is not None or temperature is not None) and key is None:
        raise ValueError("random pairs and drawn labels need a key; give key=jax.random.key(0)")
    if temperature is not None and not temperature > 0.0:
        raise ValueError(f"temperature={temperature}; it must be positive, or None for hard labels")
    pair_key, label_key = jax.random.split(jax.random.key(0) if key is None else key)
    if num_pairs is None:
        if total % 2:
            raise ValueError(f"{total} segments cannot be halved into pairs; draw an even number, or give num_pairs")
        first = jnp.arange(total // 2, dtype=jnp.int32)
        second = first + total // 2
    else:
        if total < 2:
            raise ValueError("one segment has nothing to be compared with; draw more")
        first, gap = jax.random.randint(pair_key, (2, num_pairs), jnp.array([[0], [1]]), total)
        second = (first + gap) % total
    ahead = score[second] - score[first]
    if temperature is None:
        label = hard_label(ahead)
    else:
        label = jax.random.bernoulli(label_key, jax.nn.sigmoid(ahead / temperature)).astype(jnp.float32)
    return Preferences(segments.obs, segments.action, score, first, second, label, segments.about, segments.legal)


def save(path: str | Path, preferences: Preferences) -> Path:
    """Write ``path``, compressed; a kill in between leaves no half file. Returns the path, which ends in .npz.

    Raises:
        ValueError: the preferences fail a check of `checked`.
    """
    arrays = _arrays(preferences)
    checked(arrays, preferences.about, f"the preferences for {path}")
    return npz.write(path, arrays, preferences.about)


def load(path: str | Path) -> Preferences:
    """Read what `save` wrote.

    Raises:
        ValueError: not such a file, damaged, or it fails a check of `checked`.
    """
    arrays, about = npz.read(path, FIELDS)
    return checked(arrays, about, str(path))


def _arrays(preferences: Preferences) -> dict[str, np.ndarray]:
    return npz.arrays_of(preferences, FIELDS)


def checked(arrays: dict[str, np.ndarray], about: About, where: str) -> Preferences:
    """`Preferences` of raw arrays, or a `ValueError` that names the file, the key, the row and the remedy."""
    for key, x in arrays.items():
        if x.dtype.kind not in "biuf":
            raise ValueError(f"{where}: {key} holds {x.dtype}, not numbers")
    obs, action = arrays["obs"], arrays["action"]
    if obs.ndim < 2 or action.ndim < 2 or obs.shape[:2] != action.shape[:2]:
        raise ValueError(
            f"{where}: obs has shape {list(obs.shape)}, action {list(action.shape)}; both must begin with [segments, "
            "steps]"
        )
    equal_rows({key: arrays[key] for key in ("obs", "score", "legal") if key in arrays}, where)
    pairs = equal_rows({key: arrays[key] for key in ("first", "second", "label")}, where)
    for key in ("score", "first", "second", "label"):
        if arrays[key].ndim != 1:
            raise ValueError(f"{where}: {key} has shape {list(arrays[key].shape)}; it must have one axis")
    if not len(obs) or not pairs:
        raise ValueError(f"{where}: {len(obs)} segments and {pairs} comparisons; it needs one or more of both")
    for key in ("obs", "action"):
        finite(arrays[key].astype(np.float32), where, key, "rows are segments; drop those, and their comparisons")
    arrays = dict(arrays)
    if np.issubdtype(action.dtype, np.integer):
        arrays["action"] = as_int32(action, where, "action")
    with np.errstate(over="ignore"):
        arrays["score"] = arrays["score"].astype(np.float32)
    if (infinite := np.isinf(arrays["score"])).any():
        row = int(np.argmax(infinite))
        raise ValueError(f"{where}: score of segment {row} is infinite; it must be finite, or NaN: unknown")
    _one_of(arrays["label"], (0.0, 0.5, 1.0), where)
    for key in ("first", "second"):
        index = arrays[key]
        outside = (index < 0) | (index >= len(obs)) | (index != np.floor(index))
        if outside.any():
            row = int(np.argmax(outside))
            raise ValueError(f"{where}: {key} of row {row} is {index[row]}; it must be a segment, 0 to {len(obs) - 1}")
    dtypes: dict[str, Any] = dict.fromkeys(("obs", "score", "label"), np.float32)
    dtypes |= {"first": np.int32, "second": np.int32}
    dtypes["action"] = np.int32 if np.issubdtype(action.dtype, np.integer) else np.float32
    if npz.MASKS in arrays:
        dtypes[npz.MASKS] = bool
        arrays[npz.MASKS] = flags(arrays[npz.MASKS], where, npz.MASKS)
    return Preferences(**{key: jnp.asarray(arrays[key], dtype) for key, dtype in dtypes.items()}, about=about)


def _one_of(label: np.ndarray, allowed: tuple[float, ...], where: str) -> None:
    bad = ~np.isin(label, allowed)
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"{where}: label of row {row} is {label[row]}; it must be 1 (the second is preferred), 0 (the first) or 0.5"
        )
