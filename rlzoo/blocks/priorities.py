"""Prioritised replay: rows drawn in proportion to their priority (Schaul et al. 2016, arXiv:1511.05952, Section 3.3).

A tree of sums in arrays: each level holds groups of `FAN` numbers, of which the level above holds the sums; to draw a
row is to choose one of `FAN` numbers at each level. What is above a changed row is summed anew, so that no rounding
adds up. The cost does not depend on the capacity, but for its logarithm.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

FAN = 32  # a choice among as many is one small sum of a batch: three levels and a bit are a hundred thousand rows
LEAST = 1e-6  # added to errors, so that no row is lost for ever


class Priorities(NamedTuple):
    """Of the rows of a replay buffer, to the power of the exponent; 0 of rows that are not to be drawn."""

    levels: tuple[jax.Array, ...]  # f32[groups, FAN], rows first, the last one of a single group
    highest: jax.Array  # f32[], of all errors so far: that of rows which were never drawn


def init(capacity: int) -> Priorities:
    """None of the rows can be drawn."""
    levels: list[jax.Array] = []
    size = capacity
    while not levels or size > 1:
        size = -(-size // FAN)
        levels.append(jnp.zeros((size, FAN)))
    return Priorities(tuple(levels), jnp.float32(1.0))


def put(priorities: Priorities, rows: Int[Array, "B"], priority: Float[Array, "B"]) -> Priorities:
    """Give rows their priorities; of a row that is there twice, either."""
    levels, numbers, place = list(priorities.levels), priority, rows
    for i, level in enumerate(levels):
        group, place = place // FAN, place % FAN
        levels[i] = level.at[group, place].set(numbers, mode="promise_in_bounds")
        numbers, place = levels[i].at[group].get(mode="promise_in_bounds").sum(axis=-1), group
    return priorities._replace(levels=tuple(levels))


def of_errors(errors: Float[Array, "*B"], exponent: Float[Array, ""] | float) -> Float[Array, "*B"]:
    """(|error| + a little)^exponent."""
    return (jnp.abs(errors) + LEAST) ** exponent


def draw(priorities: Priorities, key: jax.Array, batch_size: int) -> tuple[Int[Array, "B"], Float[Array, "B"]]:
    """Rows, one from each of ``batch_size`` equal parts of the whole mass, and the probability of each."""
    total = priorities.levels[-1].sum()
    parts = jnp.arange(batch_size) + jax.random.uniform(key, (batch_size,))
    left, row = total * parts / batch_size, jnp.zeros(batch_size, jnp.int32)
    for level in reversed(priorities.levels):
        group = level.at[row].get(mode="promise_in_bounds")
        ends = jnp.cumsum(group, axis=-1)
        left = jnp.minimum(left, jnp.nextafter(ends[:, -1], 0.0))  # that rounding does not lead to a row without mass
        chosen = jnp.sum(ends <= left[:, None], axis=-1, dtype=jnp.int32)
        here = jnp.take_along_axis(group, chosen[:, None], axis=-1)[:, 0]
        left -= jnp.take_along_axis(ends, chosen[:, None], axis=-1)[:, 0] - here
        left, row = jnp.maximum(left, 0.0), row * FAN + chosen
    return row, here / total


def weights(
    probability: Float[Array, "B"], size: Int[Array, ""], exponent: Float[Array, ""] | float
) -> Float[Array, "B"]:
    """(size P(i))^-exponent, over the largest of the batch: what makes up for drawing some rows more often."""
    weight = (size * probability) ** -exponent
    return weight / weight.max()


class Rows(NamedTuple):
    """Which rows of a replay buffer are drawn: uniformly, with () for what is to be remembered, or by `Priorities`.

    ``hyper`` has a `priority_exponent` and an `importance_exponent`.
    """

    prioritised: bool
    capacity: int
    block: int  # rows that are written at a time
    newest: int  # rows that have too few others behind them, and are not drawn yet

    def init(self, warmup: int, hyper: Any) -> Any:
        """After a first block of ``warmup`` rows."""
        if not self.prioritised:
            return ()
        return self._welcome(init(self.capacity), jnp.arange(warmup - self.newest), hyper)

    def written(self, ranks: Any, blocks: Int[Array, ""], hyper: Any) -> Any:
        """A block was written, after so many others: what is new may be drawn as what had the largest error so far."""
        if not self.prioritised:
            return ()
        end = self.block * (blocks % (self.capacity // self.block)) + self.block
        if self.newest:
            ranks = put(ranks, (end - 1 - jnp.arange(self.newest)) % self.capacity, jnp.zeros(self.newest))
        return self._welcome(ranks, (end - 1 - self.newest - jnp.arange(self.block)) % self.capacity, hyper)

    def _welcome(self, ranks: Priorities, rows: Int[Array, "B"], hyper: Any) -> Priorities:
        return put(ranks, rows, jnp.full(rows.shape, of_errors(ranks.highest, hyper.priority_exponent)))

    def draw(
        self, ranks: Any, key: jax.Array, blocks: Int[Array, ""], batch_size: int, hyper: Any
    ) -> tuple[Int[Array, "B"], Float[Array, "B"]]:
        """Rows, after ``blocks`` blocks, and the weights of their losses."""
        per_capacity = self.capacity // self.block
        size = self.block * jnp.minimum(blocks, per_capacity) - self.newest
        if self.prioritised:
            rows, probability = draw(ranks, key, batch_size)
            return rows, weights(probability, size, hyper.importance_exponent)
        oldest = jnp.where(blocks < per_capacity, 0, self.block * (blocks % per_capacity))
        rows = (oldest + jax.random.randint(key, (batch_size,), 0, size)) % self.capacity
        return rows, jnp.ones(batch_size)

    def learned(self, ranks: Any, rows: Int[Array, "B"], errors: Float[Array, "B"], hyper: Any) -> Any:
        """Rows have these errors now."""
        if not self.prioritised:
            return ()
        highest = jnp.maximum(ranks.highest, jnp.abs(errors).max().astype(jnp.float32))
        return put(ranks, rows, of_errors(errors, hyper.priority_exponent))._replace(highest=highest)
