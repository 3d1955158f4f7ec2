"""Exact nearest neighbours among the N rows of a table, and a graph of the nearest rows of every row.

Squared distances come from one matrix product, |x|^2 - 2 x y + |y|^2, in full float32: rounded to TF32 its error is
larger than the distances that decide. Its float32 error (about 1e-6 of |x|^2 + |y|^2) is put right by ranking the best
few again by their differences. A [queries, N] matrix is never there: tiles of the table are gone through in a scan.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

SLOTS = 1024  # columns of a tile
AGAIN = 8  # candidates beyond k that are ranked again
MATRIX = 2**24  # distances that `graph` holds at a time: 64 MiB


class Neighbours(NamedTuple):
    """Rows of a table and their squared distances, nearest first."""

    row: jax.Array  # int32[*B, k]
    squared: jax.Array  # f32[*B, k]


def nearest(queries: Float[Array, "B D"], table: Float[Array, "N D"], k: int = 1) -> Neighbours:
    """The k nearest rows of each query, by brute force.

    The table's rows are dealt to ``SLOTS`` columns like cards. A query keeps the best row of every column while the
    scan goes through the table, which needs no reduction, and then the best columns. For k > 1 a column keeps its k
    best.
    Rows that are equally near to float32 may come in either order.
    """
    num_rows, dims = table.shape
    if not 1 <= k <= num_rows:
        raise ValueError(f"k={k} of a table of {num_rows} rows; it must be 1 to {num_rows}")
    centre = table.mean(axis=0)  # distances do not change, rounding errors shrink
    x, y = queries - centre, table - centre
    tiles = -(-num_rows // SLOTS)
    padding = tiles * SLOTS - num_rows
    y_tiles = jnp.pad(y, ((0, padding), (0, 0))).reshape(tiles, SLOTS, dims)
    half_norms = jnp.pad(0.5 * jnp.sum(y**2, axis=-1), (0, padding), constant_values=jnp.inf).reshape(tiles, SLOTS)

    def one_tile(best, now):
        tile, rows, half_norm = now
        # Half of |y|^2 - 2 x y: what of the squared distance depends on the row.
        value = half_norm - jnp.matmul(x, rows.T, precision="highest")
        which = jnp.full(value.shape, tile)
        kept = []
        for old_value, old_which in best:  # insert into the column's k best, pushing the worse one on
            better = value < old_value
            kept.append((jnp.where(better, value, old_value), jnp.where(better, which, old_which)))
            value, which = jnp.where(better, old_value, value), jnp.where(better, old_which, which)
        return tuple(kept), None

    shape = queries.shape[0], SLOTS
    start = tuple((jnp.full(shape, jnp.inf), jnp.zeros(shape, jnp.int32)) for _ in range(k))
    best, _ = jax.lax.scan(one_tile, start, (jnp.arange(tiles, dtype=jnp.int32), y_tiles, half_norms))
    values = jnp.concatenate([value for value, _ in best], axis=1)
    rows = jnp.concatenate([which * SLOTS + jnp.arange(SLOTS) for _, which in best], axis=1)

    again = min(k + AGAIN, num_rows)
    _, chosen = jax.lax.top_k(-values, again)
    candidates = jnp.take_along_axis(rows, chosen, axis=1)  # [B, again]
    return among(queries, table, jnp.minimum(candidates, num_rows - 1), k)


def among(
    queries: Float[Array, "B D"], table: Float[Array, "N D"], candidates: Int[Array, "B C"], k: int = 1
) -> Neighbours:
    """The k nearest of each query's own candidates."""
    squared = jnp.sum((queries[:, None] - table[candidates]) ** 2, axis=-1)  # by differences: nothing cancels
    values, chosen = jax.lax.top_k(-squared, k)
    return Neighbours(jnp.take_along_axis(candidates, chosen, axis=1), -values)


def graph(rows: Float[Array, "N D"], k: int) -> Neighbours:
    """The k nearest rows of every row, itself among them: int32[N, k] and f32[N, k].

    Compiled once and run over a few queries at a time. Of the N distances of a query, blocks of 32 have their least
    taken first: the k nearest lie in the k blocks whose least ones are smallest. So a full sort is never needed.
    """
    num_rows = rows.shape[0]
    if not 1 <= k <= num_rows:
        raise ValueError(f"k={k} of a table of {num_rows} rows; it must be 1 to {num_rows}")
    width = 32
    blocks = -(-num_rows // width)
    padding = blocks * width - num_rows
    again = min(k + AGAIN, num_rows)
    few = min(again, blocks)
    at_a_time = max(1, min(num_rows, MATRIX // num_rows))

    @jax.jit
    def of(queries, rows):
        y = rows - rows.mean(axis=0)
        x = queries - rows.mean(axis=0)
        value = 0.5 * jnp.sum(y**2, axis=-1) - jnp.matmul(x, y.T, precision="highest")
        value = jnp.pad(value, ((0, 0), (0, padding)), constant_values=jnp.inf).reshape(-1, blocks, width)
        _, chosen = jax.lax.top_k(-value.min(axis=-1), few)
        values = jnp.take_along_axis(value, chosen[:, :, None], axis=1).reshape(-1, few * width)
        _, place = jax.lax.top_k(-values, again)
        candidates = jnp.take_along_axis(chosen, place // width, axis=1) * width + place % width
        return among(queries, rows, jnp.minimum(candidates, num_rows - 1), k)

    parts = [of(rows[i : i + at_a_time], rows) for i in range(0, num_rows, at_a_time)]
    return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
