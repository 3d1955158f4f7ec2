"""Exact nearest neighbours among the N rows of a table, a graph of the nearest rows of every row, and their softened
form, the kernel mean.

Distances may weigh each dimension: d^2(x, y) = sum_i w_i (x_i - y_i)^2. They come from one matrix product,
|y|^2 - 2 x y, in full float32: rounded to TF32 its error is larger than the distances that decide. Its float32 error,
about 1e-6 of |x|^2, is put right by ranking the best few again by their differences. A matrix of all distances is never
there.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

SLOTS = 1024  # rows of a tile
AGAIN = 8  # candidates beyond k that are ranked again
GROUP = 32  # queries that `nearest_where` searches at a time
MATRIX = 2**24  # distances that `graph` holds at a time: 64 MiB
SLAB = 2**14  # queries that `graph` sends to the device at a time


class Neighbours(NamedTuple):
    """Rows of a table and their squared distances, nearest first."""

    row: jax.Array  # int32[*B, k]
    squared: jax.Array  # f32[*B, k]


class Table(NamedTuple):
    """N rows, cut into tiles once."""

    rows: jax.Array  # f32[N, D]
    tiles: jax.Array  # f32[T, SLOTS, D], the rows less their centre, padded
    centre: jax.Array  # f32[D]: without it distances are the same, but rounding errors are smaller


def table(rows: Float[Array, "N D"]) -> Table:
    """Cut a table for `nearest`."""
    num_rows, dims = rows.shape
    tiles, centre = -(-num_rows // SLOTS), rows.mean(axis=0)
    padded = jnp.pad(rows - centre, ((0, tiles * SLOTS - num_rows), (0, 0)))
    return Table(rows, padded.reshape(tiles, SLOTS, dims), centre)


def nearest(
    queries: Float[Array, "B D"], table: Table, weights: Float[Array, "D"] | None = None, k: int = 1
) -> Neighbours:
    """The k nearest rows of each query, by brute force. ``weights`` are of squared differences; default: ones.

    Tiles lie upon each other like sheets of ``SLOTS`` columns. A query keeps the k best rows of every column while a
    scan goes through the sheets, which needs no reduction, and then takes the best columns.
    Rows that are equally near to float32 may come in either order.
    """
    num_rows = table.rows.shape[0]
    _check_k(k, num_rows)
    columns = jnp.arange(SLOTS, dtype=jnp.int32)

    def absorb(best, number, value, tile):
        which = jnp.full(value.shape, number)
        kept = []
        for old_value, old_which in best:  # insert into the column's k best, pushing the worse one on
            better = value < old_value
            kept.append((jnp.where(better, value, old_value), jnp.where(better, which, old_which)))
            value, which = jnp.where(better, old_value, value), jnp.where(better, old_which, which)
        return tuple(kept)

    shape = queries.shape[0], SLOTS
    start = tuple((jnp.full(shape, jnp.inf), jnp.zeros(shape, jnp.int32)) for _ in range(k))
    best = _over_tiles(queries, table, weights, absorb, start)
    values = jnp.concatenate([value for value, _ in best], axis=1)
    rows = jnp.concatenate([which * SLOTS + columns for _, which in best], axis=1)

    _, chosen = jax.lax.top_k(-values, min(k + AGAIN, num_rows))
    candidates = jnp.minimum(jnp.take_along_axis(rows, chosen, axis=1), num_rows - 1)
    return among(queries, table.rows, candidates, weights, k)


def kernel_mean(
    queries: Float[Array, "B D"], table: Table, sigma: Float[Array, ""] | float
) -> tuple[Float[Array, "B D"], Float[Array, "B"]]:
    """The rows' mean under Gaussian weights around each query, and the log-density that these weights sum to.

        w_i = softmax_i(-|x - y_i|^2 / (2 sigma^2)),   mean = sum_i w_i y_i
        log p(x) = log 1/N sum_i N(x; y_i, sigma^2 I),   of which (mean - x) / sigma^2 is the gradient

    A scan over tiles with a running maximum, sum and weighted sum. For sigma -> 0 the mean is the nearest row; where
    sigma^2 is near the rounding error of squared distances, 1e-6 |x|^2, rows equally near to float32 share the weight.
    """
    num_rows, dims = table.rows.shape

    def absorb(carry, number, value, tile):
        most, total, weighted = carry
        logits = -value / sigma**2
        new = jnp.maximum(most, logits.max(axis=1))
        weights, scale = jnp.exp(logits - new[:, None]), jnp.exp(most - new)
        weighted = weighted * scale[:, None] + jnp.matmul(weights, tile, precision="highest")
        return new, total * scale + weights.sum(axis=1), weighted

    num_queries = queries.shape[0]
    start = jnp.full(num_queries, -jnp.inf), jnp.zeros(num_queries), jnp.zeros((num_queries, dims))
    most, total, weighted = _over_tiles(queries, table, None, absorb, start)
    own = jnp.sum((queries - table.centre) ** 2, axis=1) / (2.0 * sigma**2)
    log_density = most + jnp.log(total) - own - math.log(num_rows) - 0.5 * dims * jnp.log(2.0 * jnp.pi * sigma**2)
    return weighted / total[:, None] + table.centre, log_density


def _over_tiles(queries: jax.Array, table: Table, weights: jax.Array | None, absorb: Callable, carry: Any) -> Any:
    """A scan of ``absorb(carry, number, value [B, SLOTS], tile)`` over a table's tiles.

    ``value`` is half of the squared distance less that half which only depends on the query; infinite of padding.
    """
    num_rows, dims = table.rows.shape
    weights = jnp.ones(dims) if weights is None else weights
    x = (queries - table.centre) * weights
    columns = jnp.arange(SLOTS, dtype=jnp.int32)

    def one_tile(carry, now):
        number, tile = now
        half_norm = jnp.where(number * SLOTS + columns < num_rows, 0.5 * jnp.sum(tile**2 * weights, axis=-1), jnp.inf)
        return absorb(carry, number, half_norm - jnp.matmul(x, tile.T, precision="highest"), tile), None

    numbers = jnp.arange(table.tiles.shape[0], dtype=jnp.int32)
    return jax.lax.scan(one_tile, carry, (numbers, table.tiles))[0]


def nearest_where(
    needed: Bool[Array, "B"],
    found: Neighbours,
    queries: Float[Array, "B D"],
    table: Table,
    weights: Float[Array, "D"] | None = None,
) -> Neighbours:
    """``found``, but searched by brute force where ``needed``: a group of queries at a time, as many as it takes."""
    num_queries, k = found.row.shape
    group = min(GROUP, num_queries)
    order = jnp.argsort(~needed)  # those needed first

    def one_group(i, found):
        some = jax.lax.dynamic_slice_in_dim(order, i * group, group)
        new = nearest(queries[some], table, weights, k)
        return jax.tree.map(lambda x, y: x.at[some].set(y), found, new)

    return jax.lax.fori_loop(0, -(-needed.sum() // group), one_group, found)


def among(
    queries: Float[Array, "B D"],
    rows: Float[Array, "N D"],
    candidates: Int[Array, "B C"],
    weights: Float[Array, "D"] | None = None,
    k: int = 1,
) -> Neighbours:
    """The k nearest of each query's own candidates, by differences: nothing cancels."""
    differences = (queries[:, None] - rows[candidates]) ** 2
    squared = jnp.sum(differences if weights is None else differences * weights, axis=-1)
    return best_of(candidates, squared, k)


def best_of(candidates: Int[Array, "B C"], squared: Float[Array, "B C"], k: int) -> Neighbours:
    """The k candidates with the least squared distance."""
    values, chosen = jax.lax.top_k(-squared, k)
    return Neighbours(jnp.take_along_axis(candidates, chosen, axis=1), -values)


def graph(rows: Float[Array, "N D"], k: int) -> Neighbours:
    """The k nearest rows of every row, itself first: int32[N, k] and f32[N, k].

    Compiled once and run over slabs of the rows, and within a slab over a few queries at a time. Of the N distances of
    a query, blocks of 32 have their least taken first: the k nearest lie in the k blocks whose least ones are smallest.
    So all N are never sorted.
    """
    num_rows, width = rows.shape[0], 32
    _check_k(k, num_rows)
    blocks = -(-num_rows // width)
    again = min(k + AGAIN, num_rows)
    few = min(again, blocks)
    at_a_time = max(1, min(num_rows, MATRIX // num_rows))
    slab = -(-min(num_rows, SLAB) // at_a_time) * at_a_time

    y = rows - rows.mean(axis=0)
    half_norm = 0.5 * jnp.sum(y**2, axis=-1)

    def search(own, rows, y, half_norm):
        value = half_norm - jnp.matmul(y[own], y.T, precision="highest")
        value = value.at[jnp.arange(at_a_time), own].set(-jnp.inf)  # among equal rows it is not left out
        value = jnp.pad(value, ((0, 0), (0, blocks * width - num_rows)), constant_values=jnp.inf)
        value = value.reshape(-1, blocks, width)
        _, chosen = jax.lax.top_k(-value.min(axis=-1), few)
        values = jnp.take_along_axis(value, chosen[:, :, None], axis=1).reshape(-1, few * width)
        _, place = jax.lax.top_k(-values, again)
        candidates = jnp.take_along_axis(chosen, place // width, axis=1) * width + place % width
        return among(rows[own], rows, jnp.minimum(candidates, num_rows - 1), k=k)

    @jax.jit
    def of(start, *tables):
        own = jnp.minimum(start + jnp.arange(slab).reshape(-1, at_a_time), num_rows - 1)
        found = jax.lax.map(lambda own: search(own, *tables), own)
        return jax.tree.map(lambda x: x.reshape(slab, k), found)

    parts = [jax.device_get(of(start, rows, y, half_norm)) for start in range(0, num_rows, slab)]
    return jax.tree.map(lambda *x: jnp.asarray(np.concatenate(x)[:num_rows]), *parts)


def _check_k(k: int, num_rows: int) -> None:
    if not 1 <= k <= num_rows:
        raise ValueError(f"k={k} of a table of {num_rows} rows; it must be 1 to {num_rows}")
