"""A dataset of transitions: the `task` of offline algorithms, shared by all lanes of a sweep."""

import math
import zlib
from dataclasses import replace
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rlzoo.machine import SHARE, device_memory, in_bytes
from rlzoo.types import Discrete, Env, Observation, Transition, mask_of, num_choices


class About(NamedTuple):
    """Where a dataset comes from; no array, so it does not take part in computing."""

    name: str = ""  # such as "hopper-medium-v2"
    env: str = ""  # the environment's name, such as "brax/hopper spring", or its family alone, "hopper"; empty: unknown
    random_score: float | None = None  # return of the uniformly random policy; None: unknown
    expert_score: float | None = None  # return of an expert


def about_of(name: Any, env: Any, random_score: Any, expert_score: Any) -> About:
    """Of what a file says: text as text, numbers as numbers; a `ValueError` or `TypeError` if they are none."""
    scores = (None if x is None else float(x) for x in (random_score, expert_score))
    return About(str(name), str(env), *scores)


@flax.struct.dataclass
class Dataset:
    """N transitions in the order in which they were recorded. Actions and rewards are the environment's own."""

    obs: jax.Array  # f32[N, ...]
    action: jax.Array  # f32[N, ...], or int32[N]
    reward: jax.Array  # f32[N]
    next_obs: jax.Array  # f32[N, ...], the true successor unless the file had none
    terminated: jax.Array  # bool[N], the episode ended by its own rules: no bootstrapping
    last: jax.Array  # bool[N], the next row belongs to another episode, or does not follow this one
    about: About = flax.struct.field(pytree_node=False, default=About())
    legal: jax.Array | None = None  # bool[N, K], the actions that might be taken at obs; None: nothing is said of it
    weight: jax.Array | None = None  # f32[N], probabilities of the rows, see `rlzoo.data.weighted`; None: all alike

    @property
    def num_rows(self) -> int:
        return self.reward.shape[0]

    def fingerprint(self) -> str:
        """A checksum of the arrays."""
        return checksum(self)

    def ends(self) -> np.ndarray:
        """Rows that are the last of their piece; the last row of all is one."""
        last = np.array(self.last)
        last[-1] = True
        return np.flatnonzero(last)

    def episode_returns(self) -> np.ndarray:
        """Undiscounted returns of the pieces that `last` bounds, f64[pieces]; rows dropped in loading are missing."""
        ends = self.ends()
        total = np.cumsum(np.asarray(self.reward, np.float64))[ends]
        return np.diff(total, prepend=0.0)


class Moments(NamedTuple):
    """Of observations, over a dataset: what normalises them."""

    mean: jax.Array  # f32[...]
    std: jax.Array  # f32[...], with `EPS` added


EPS = 1e-3


def observation_moments(dataset: Dataset) -> Moments:
    """Mean and population standard deviation + 0.001 of the current observations, per dimension (D4RL's custom)."""
    obs = np.asarray(dataset.obs, np.float64)
    return Moments(jnp.asarray(obs.mean(0), jnp.float32), jnp.asarray(obs.std(0) + EPS, jnp.float32))


class Pieces(NamedTuple):
    """Runs of rows of one weight: a table as small as there are trajectories, and exact."""

    cumulative: jax.Array  # f32[M], probabilities, summed up
    start: jax.Array  # int32[M], the first row
    length: jax.Array  # int32[M]


def pieces_of(weight: jax.Array | None) -> Pieces | None:
    """Of rows' weights; None of none."""
    if weight is None:
        return None
    each = np.asarray(weight, np.float64)
    start = np.flatnonzero(np.diff(each, prepend=np.nan))
    length = np.diff(start, append=len(each))
    mass = np.cumsum(each[start] * length)
    return Pieces(jnp.asarray(mass / mass[-1], jnp.float32), jnp.int32(start), jnp.int32(length))


def draw_rows(task: Any, key: jax.Array, shape: tuple[int, ...]) -> Int[Array, "..."]:
    """Numbers of rows of a task with ``num_rows`` and ``pieces``, with replacement: uniform, or by their weights."""
    if task.pieces is None:
        return jax.random.randint(key, shape, 0, task.num_rows)
    piece_key, row_key = jax.random.split(key)
    drawn = jnp.searchsorted(task.pieces.cumulative, jax.random.uniform(piece_key, shape), side="right")
    drawn = jnp.minimum(drawn, len(task.pieces.start) - 1)
    return task.pieces.start[drawn] + jax.random.randint(row_key, shape, 0, task.pieces.length[drawn])


class OfflineTask(NamedTuple):
    """What an offline algorithm learns on, made of a `Dataset` for an environment; shared by all lanes of a sweep."""

    transitions: Transition  # [N, ...]: observations normalised, actions in [-1, 1]
    moments: Moments  # that normalise what the policy sees
    pieces: Pieces | None = None  # by which rows are drawn; None: all alike

    @property
    def num_rows(self) -> int:
        return self.transitions.reward.shape[-1]


def normalise(moments: Moments, obs: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """(obs - mean) / std."""
    return (obs - moments.mean) / moments.std


def task_of(dataset: Dataset, env: Env, who: str, normalise_obs: bool = True) -> OfflineTask:
    """Normalise observations, current and next, by the moments of the current ones; map actions onto [-1, 1].

    Raises:
        ValueError: the dataset is not of this environment; for the algorithm ``who``.
    """
    check_for(dataset, env, who)
    if normalise_obs:
        moments = observation_moments(dataset)
    else:
        moments = Moments(jnp.zeros(env.obs_space.shape), jnp.ones(env.obs_space.shape))
    # On the host: the same numbers on every device, so that a run may be resumed on another.
    on_host = lambda obs: jnp.asarray(normalise(*jax.device_get((moments, obs))))  # noqa: E731
    transitions = Transition(
        obs=on_host(dataset.obs),
        action=env.action_space.to_policy(dataset.action),
        reward=dataset.reward,
        terminated=dataset.terminated,
        truncated=dataset.last & ~dataset.terminated,
        next_obs=on_host(dataset.next_obs),
    )
    return OfflineTask(transitions, moments, pieces_of(dataset.weight))


def concatenate(*datasets: Dataset, about: About | None = None) -> Dataset:
    """One dataset after another, such as medium-expert; no transition crosses from one to the next.

    Args:
        about: default: that of the first.
    Raises:
        ValueError: none is given, they are of different environments or shapes, or have weights, which would be of
            other sums.
    """
    if not datasets:
        raise ValueError("concatenate() needs one dataset or more")
    if any(one.weight is not None for one in datasets):
        raise ValueError("rows have weights; put the datasets together first, and weigh the whole")
    for other in datasets[1:]:
        for what in (lambda x: x.about.env, lambda x: (x.obs.shape[1:], x.action.shape[1:], x.action.dtype)):
            if what(other) != what(datasets[0]):
                raise ValueError(
                    f"datasets {datasets[0].about.name!r} and {other.about.name!r} are of different environments, "
                    f"{what(datasets[0])} and {what(other)}; concatenate those of one"
                )
    closed = [replace(one, last=one.last.at[-1].set(True), about=datasets[0].about) for one in datasets]
    joined = jax.tree.map(lambda *x: jnp.concatenate(x), *closed)
    return joined if about is None else replace(joined, about=about)


def best_episodes(dataset: Dataset, share: float) -> Dataset:
    """The ``share`` of the pieces that `last` bounds with the highest returns, at least one, in their order.

    What %BC clones (Chen et al. 2021, arXiv:2106.01345).
    """
    if not 0.0 < share <= 1.0:
        raise ValueError(f"share={share}; it must be above 0 and at most 1, such as 0.1 for the best tenth")
    returns, ends = dataset.episode_returns(), dataset.ends()
    best = np.argsort(-returns, kind="stable")[: max(1, math.ceil(share * len(returns)))]
    rows = np.flatnonzero(np.isin(np.searchsorted(ends, np.arange(dataset.num_rows)), best))
    chosen = jax.tree.map(lambda x: x[rows], dataset)
    return replace(chosen, last=chosen.last | jnp.asarray(np.isin(rows, ends)))


def normalised_score(about: About, returns: Any) -> Float[Array, "..."]:
    """100 (R - random) / (expert - random), D4RL's score.

    Raises:
        ValueError: the reference scores are unknown.
    """
    if about.random_score is None or about.expert_score is None:
        raise ValueError(
            f"dataset {about.name!r} has no reference scores; give them: "
            "dataset.about._replace(random_score=..., expert_score=...)"
        )
    return 100.0 * (jnp.asarray(returns) - about.random_score) / (about.expert_score - about.random_score)


# --- checks -----------------------------------------------------------------------------------------------------------


def checked(arrays: dict[str, np.ndarray], about: About, where: str) -> Dataset:
    """A `Dataset` of raw arrays, or a `ValueError` that names the file, the key, the row and the remedy.

    Args:
        arrays: obs, action, reward, next_obs, terminated, last, and perhaps legal. where: the file, for messages.
    """
    for key, x in arrays.items():
        if x.dtype.kind not in "biuf":
            raise ValueError(f"{where}: {key} holds {x.dtype}, not numbers")
    num_rows = equal_rows(arrays, where)
    if num_rows == 0:
        raise ValueError(f"{where} has no transitions; it needs one or more")
    for key in ("reward", "terminated", "last"):
        if arrays[key].ndim != 1:
            raise ValueError(f"{where}: {key} has shape {list(arrays[key].shape)}; it must be [{num_rows}]")
    if arrays["obs"].shape != arrays["next_obs"].shape:
        shapes = [list(arrays[key].shape) for key in ("obs", "next_obs")]
        raise ValueError(f"{where}: obs has shape {shapes[0]}, next_obs {shapes[1]}; they must be equal")
    fits(sum(arrays[key].size for key in ("obs", "action", "reward", "next_obs")), where)  # before anything is copied
    for key in [x for x in ("terminated", "last", "legal") if x in arrays]:
        arrays[key] = flags(arrays[key], where, key)
    discrete = np.issubdtype(arrays["action"].dtype, np.integer)
    for key in ("obs", "reward", "next_obs") if discrete else ("obs", "action", "reward", "next_obs"):
        with np.errstate(over="ignore"):  # becomes infinite, and is refused as such
            arrays[key] = arrays[key].astype(np.float32)
    if discrete:
        arrays["action"] = as_int32(arrays["action"], where, "action")
    for key in ("obs", "action", "reward", "next_obs"):
        finite(arrays[key], where, key)
    last = arrays["last"] | arrays["terminated"]
    last[-1] = True
    return Dataset(**{key: jnp.asarray(x) for key, x in (arrays | {"last": last}).items()}, about=about)


def equal_rows(arrays: dict[str, np.ndarray], where: str) -> int:
    """How many rows every array has; unequal numbers are refused."""
    rows = {key: len(x) if x.ndim else 0 for key, x in arrays.items()}
    if len(set(rows.values())) > 1:
        raise ValueError(f"{where}: its keys have unequal numbers of rows: {rows}; every key needs one row a step")
    return next(iter(rows.values()))


def checksum(tree: Any) -> str:
    """Of a pytree's arrays, to tell whether they are the same."""
    found = 0
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        found = zlib.crc32(np.asarray(leaf).tobytes(), found)
    return f"{found:08x}"


def flags(x: np.ndarray, where: str, key: str) -> np.ndarray:
    """Zeros and ones as booleans; anything else is refused."""
    bad = ~np.isin(x, (0, 1))
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"{where}: {key} of row {row} is {x[row]}; a flag is 0 or 1")
    return x.astype(bool)


def as_int32(x: np.ndarray, where: str, key: str) -> np.ndarray:
    """Integers as int32; those that it cannot hold are refused."""
    bounds = np.iinfo(np.int32)
    bad = (x < bounds.min) | (x > bounds.max)
    if bad.any():
        raise ValueError(f"{where}: {key} has {x[bad][0]}; integers are from {bounds.min} to {bounds.max}")
    return x.astype(np.int32)


def numbers_of(array: Any) -> int:
    """Of an array that was not read yet: how many, and more where one takes more than the 8 bytes of `fits`."""
    return math.prod(array.shape) * max(8, array.dtype.itemsize) // 8


def fits(numbers: int, where: str) -> None:
    """Refuse transitions that the device cannot hold twice: as they are, and normalised for learning."""
    limit = device_memory()
    if limit is not None and 2 * 4 * numbers > SHARE * limit:
        raise ValueError(
            f"{where} takes {in_bytes(2 * 4 * numbers)}, as transitions and normalised; the device has "
            f"{in_bytes(limit)}; files larger than memory are not streamed; cut it into parts"
        )


ENDS = "drop those rows, and mark the rows before them as the last of their episodes"


def finite(x: np.ndarray, where: str, key: str, remedy: str = ENDS) -> None:
    """Refuse NaN and infinities, by row."""
    rows = x.reshape(len(x), -1)
    bad = ~np.isfinite(rows)
    if bad.any():
        row = int(np.argmax(bad.any(axis=1)))
        value = rows[row, np.argmax(bad[row])]
        raise ValueError(
            f"{where}: {key} is not finite in {bad.any(axis=1).sum()} of {len(x)} rows, first in row {row}: {value}; "
            f"{remedy}"
        )


def array_shape(env: Env, who: str) -> tuple[int, ...]:
    """Of the array that a dataset keeps of an environment's observations, beside a mask of legal actions.

    Raises:
        ValueError: there are several, images and vectors.
    """
    space = env.obs_space
    if not isinstance(space, Observation):
        return space.shape
    shown = [box.shape for box in (space.vector, space.image) if box is not None]
    if len(shown) > 1:
        raise ValueError(f"{env.name}: its observations are images and vectors; {who} keeps one array of a step")
    return shown[0]


def shown(env: Env, obs: Any, legal: Any) -> Any:
    """A dataset's observations as the environment shows them, with the mask beside them if it has one."""
    space = env.obs_space
    if not isinstance(space, Observation):
        return obs
    return Observation(**{"image" if space.vector is None else "vector": obs}, legal=legal)


def same_env(about: About, env: Env) -> bool:
    """Whether data of this origin may be of this environment: by its name, its family's, or as nothing is known."""
    family = env.name.rpartition("/")[2].partition(" ")[0]  # of brax/hopper spring: hopper
    return about.env in ("", env.name, family)


def check_for(dataset: Dataset, env: Env, who: str) -> None:
    """Refuse a dataset that another environment recorded, as far as spaces and names can tell."""
    about, space = dataset.about, env.action_space
    what = f"{who}: dataset {about.name!r}"
    if not same_env(about, env):
        raise ValueError(
            f"{what} was recorded in {about.env}, not in {env.name}; evaluate in the same environment; if it is the "
            "same, dataset.replace(about=dataset.about._replace(env='')) says nothing about it"
        )
    if dataset.obs.shape[1:] != (shape := array_shape(env, who)):
        raise ValueError(
            f"{what} has observations {list(dataset.obs.shape[1:])}, {env.name} {list(shape)}; "
            "give the environment that it was recorded in"
        )
    masks = mask_of(env.obs_space) is not None
    given = None if dataset.legal is None else dataset.legal.shape[1:]
    if given != ((num_choices(space),) if masks else None):
        kind = "no masks of legal actions" if given is None else f"masks {list(given)}"
        raise ValueError(f"{what} has {kind}, {env.name} has {'some' if masks else 'none'}; record it there again")
    for key in ("obs", "reward", "next_obs"):
        finite(np.asarray(getattr(dataset, key)), what, key)
    discrete = jnp.issubdtype(dataset.action.dtype, jnp.integer)
    if discrete != isinstance(space, Discrete) or dataset.action.shape[1:] != space.shape:
        kind = "discrete" if discrete else f"{list(dataset.action.shape[1:])}, continuous"
        raise ValueError(f"{what} has actions {kind}, {env.name} {space}; give the environment that it was recorded in")
    inside = np.asarray(jax.vmap(space.contains)(dataset.action))
    if not inside.all():
        row = int(np.argmin(inside))
        raise ValueError(
            f"{what}: the action of row {row}, {np.asarray(dataset.action[row]).tolist()}, is outside of {env.name}'s "
            f"{space}; clip or rescale the actions ({(~inside).sum()} of {len(inside)} are outside)"
        )
