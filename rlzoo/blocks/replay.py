"""A replay buffer: a pytree of arrays [capacity, ...], oldest rows overwritten first.

It holds no position and no count. Both follow from the clock: every update writes one block of the same number of
rows, so that the blocks written so far say where the next one goes and which rows are there. They are the same in
all lanes of a sweep, and cannot disagree with the data. No operation's cost depends on the capacity.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree


def init(row: PyTree, capacity: int) -> PyTree:
    """An empty buffer of ``capacity`` rows like ``row``: arrays or `jax.ShapeDtypeStruct`."""
    return jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), row)


def add(buffer: PyTree, rows: PyTree, blocks: Int[Array, ""]) -> PyTree:
    """Write a block of n rows after ``blocks`` earlier ones of the same size.

    n divides the capacity, or the block is the first. It goes to rows n (blocks mod capacity / n) and those behind
    it, and is written always: a write inside a `cond` copies the whole buffer.
    """
    n = jax.tree.leaves(rows)[0].shape[0]
    start = n * (blocks % (capacity(buffer) // n))
    return jax.tree.map(lambda x, new: jax.lax.dynamic_update_slice_in_dim(x, new, start, 0), buffer, rows)


def size(buffer: PyTree, n: int, blocks: Int[Array, ""]) -> Int[Array, ""]:
    """How many rows are there after ``blocks`` blocks of n."""
    return n * jnp.minimum(blocks, capacity(buffer) // n)


def sample(buffer: PyTree, key: jax.Array, size: Int[Array, ""], batch_size: int) -> PyTree:
    """``batch_size`` of the first ``size`` rows, each uniform and independent of the others."""
    return _read(buffer, jax.random.randint(key, (batch_size,), 0, size))


def sample_distinct(buffer: PyTree, key: jax.Array, size: Int[Array, ""], batch_size: int) -> PyTree:
    """As `sample`, but without replacement inside the batch.

    Drawing one by one and passing over what was drawn before is uniform without replacement. Of twice as many draws
    as needed and some more, the first ``batch_size`` distinct ones are taken; only if there are not as many, which
    from ``size`` >= 2 ``batch_size`` on practically never happens, the rest repeats.
    """
    num_draws = 2 * batch_size + 32
    draws = jax.random.randint(key, (num_draws,), 0, size)
    index = jnp.arange(num_draws)
    # All pairs, as numbers of a few hundred; on a CPU less than half of what sorting takes.
    again = jnp.any((draws[:, None] == draws) & (index[:, None] > index), axis=1)
    place = jnp.cumsum(~again) - 1
    rows = draws[:batch_size].at[jnp.where(again, num_draws, place)].set(draws, mode="drop")
    return _read(buffer, rows)


class Steps(NamedTuple):
    """Several steps of experience as one: n of them, or fewer where an episode ended."""

    obs: Any  # [*B, ...] at the first step
    action: jax.Array
    reward: jax.Array  # f32[*B], sum_j gamma^j r_j
    discount: jax.Array  # f32[*B], gamma^k (1 - terminated) after k steps
    next_obs: Any  # the true successor of the last step


def steps(buffer: PyTree, rows: Int[Array, "B"], num_steps: int, stride: int, gamma: Float[Array, ""] | float) -> Steps:
    """`take_steps`, for programs that write to the buffer."""
    return _read(buffer, rows, lambda buffer, rows: take_steps(buffer, rows, num_steps, stride, gamma))


def take_steps(
    buffer: PyTree, rows: Int[Array, "*B"], num_steps: int, stride: int, gamma: Float[Array, ""] | float
) -> Steps:
    """The steps from ``rows`` of transitions on, until the first that ended an episode or until ``num_steps``.

    Rows of one environment are ``stride`` apart, and the ``(num_steps - 1) stride`` newest have too few behind them. A
    truncated episode ends the sum, and goes on in its value: that of its true last observation.
    """
    after = [(rows + i * stride) % capacity(buffer) for i in range(num_steps)]
    flags = [take((buffer.reward, buffer.terminated, buffer.truncated), x) for x in after]
    reward, terminated, truncated = (jnp.stack(x) for x in zip(*flags, strict=True))  # [n, *B]
    goes_on = jnp.cumprod(~(terminated | truncated)[:-1], axis=0, dtype=jnp.float32)
    counts = jnp.concatenate([jnp.ones_like(reward[:1]), goes_on])
    last = counts.sum(axis=0).astype(jnp.int32) - 1
    powers = gamma ** jnp.arange(num_steps + 1).reshape(-1, *(1,) * rows.ndim)
    ended = jnp.take_along_axis(terminated, last[None], axis=0)[0]
    return Steps(
        obs=take(buffer.obs, rows),
        action=take(buffer.action, rows),
        reward=jnp.sum(powers[:-1] * counts * reward, axis=0),
        discount=gamma ** (last + 1) * (1.0 - ended),
        next_obs=take(buffer.next_obs, (rows + last * stride) % capacity(buffer)),
    )


def _read(buffer: PyTree, rows: Int[Array, "B"], how: Callable[..., PyTree] | None = None) -> PyTree:
    """As `take`, or ``how``, in a loop over two halves.

    Without a loop around the reading XLA merges a write before it into it, reads what was there before the write, and
    so must copy the whole buffer in every update: at a million rows of Pendulum twice the time.
    """
    halves = jnp.pad(rows, (0, rows.shape[0] % 2)).reshape(2, -1)
    found = jax.lax.map(lambda half: (how or take)(buffer, half), halves)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[: rows.shape[0]], found)


def take(buffer: PyTree, rows: Int[Array, "*B"]) -> PyTree:
    """Rows by their numbers, which must be there."""
    return jax.tree.map(lambda x: x.at[rows].get(mode="promise_in_bounds"), buffer)


def capacity(buffer: PyTree) -> int:
    return jax.tree.leaves(buffer)[0].shape[0]
