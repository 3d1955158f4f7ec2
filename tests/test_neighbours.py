"""Neighbours against brute force in float64 and against SciPy's KD-tree."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import cKDTree

from rlzoo import envs, prdc
from rlzoo.blocks import neighbours
from rlzoo.data import load

KEY = jax.random.key(8)


def by_differences(queries, table, k):
    """Squared distances of the k nearest, and their rows, in float64."""
    squared = ((np.asarray(queries, np.float64)[:, None] - np.asarray(table, np.float64)) ** 2).sum(-1)
    rows = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return rows, np.take_along_axis(squared, rows, axis=1)


@pytest.mark.parametrize(("num_rows", "dims"), [(5, 3), (1024, 5), (2500, 14), (3000, 23)])
@pytest.mark.parametrize("k", [1, 3])
def test_nearest_is_brute_force_in_float64(num_rows, dims, k):
    table_key, query_key = jax.random.split(KEY)
    table = 3.0 + jax.random.normal(table_key, (num_rows, dims))
    queries = table[:40] + 0.4 * jax.random.normal(query_key, (min(40, num_rows), dims))
    found = jax.jit(neighbours.nearest, static_argnames="k")(queries, neighbours.table(table), k=k)
    rows, squared = by_differences(queries, table, k)
    np.testing.assert_array_equal(found.row, rows)
    np.testing.assert_allclose(found.squared, squared, rtol=1e-5, atol=1e-10)
    distance, tree_rows = cKDTree(np.asarray(table)).query(np.asarray(queries), [k])
    np.testing.assert_array_equal(found.row[:, k - 1], tree_rows[:, 0])
    np.testing.assert_allclose(found.squared[:, k - 1], distance[:, 0] ** 2, rtol=1e-5)


def test_ranking_again_mends_rounded_products(monkeypatch):
    """A matrix unit that rounds to TF32, as GPUs do by default, changes nothing: the best are ranked again."""

    def tf32(x):  # 10 bits of mantissa
        return ((x.view(jnp.int32) + 0x1000) & ~0x1FFF).view(jnp.float32)

    base_key, row_key, query_key = jax.random.split(KEY, 3)
    groups = jnp.tile(jax.random.normal(base_key, (1700, 23)), (6, 1))  # of six rows that TF32 cannot tell apart
    rows = groups + 0.02 * jax.random.normal(row_key, groups.shape)
    queries = rows[:256] + 0.02 * jax.random.normal(query_key, (256, 23))
    table = neighbours.table(rows)
    exact = neighbours.nearest(queries, table)
    matmul = jnp.matmul
    monkeypatch.setattr(jnp, "matmul", lambda x, y, precision: matmul(tf32(x), tf32(y), precision=precision))
    rounded = neighbours.nearest(queries, table)
    np.testing.assert_array_equal(rounded.row, exact.row)
    monkeypatch.setattr(neighbours, "AGAIN", 0)
    assert (neighbours.nearest(queries, table).row != exact.row).mean() > 0.02


@pytest.mark.parametrize("beta", [0.0, 0.5, 7.5])
def test_weights_scale_dimensions(beta):
    table = jax.random.normal(KEY, (1500, 6))
    queries = table[:30] + 0.5 * jax.random.normal(KEY, (30, 6))
    scale = jnp.array([beta] * 4 + [1.0] * 2)
    found = neighbours.nearest(queries, neighbours.table(table), scale**2)
    rows, squared = by_differences(queries * scale, table * scale, 1)
    np.testing.assert_array_equal(found.row, rows)
    np.testing.assert_allclose(found.squared, squared, rtol=1e-4)


@pytest.mark.parametrize("needed", [0, 1, 32, 33, 70])
def test_searching_again_where_needed(needed):
    """All that are needed, 70 being no multiple of the group; the others stay, or become exact with their group."""
    rows = jax.random.normal(KEY, (500, 4))
    queries = rows[:70] + 0.5
    wrong = neighbours.Neighbours(jnp.full((70, 2), -1), jnp.full((70, 2), jnp.inf))
    where = jax.random.permutation(KEY, 70) < needed
    found = jax.jit(neighbours.nearest_where)(where, wrong, queries, neighbours.table(rows))
    exact = neighbours.nearest(queries, neighbours.table(rows), k=2)
    same = (np.asarray(found.row) == exact.row).all(1)
    assert same[np.asarray(where)].all() and (found.row[~same] == -1).all()
    assert same.sum() == min(70, -(-needed // 32) * 32)


@pytest.mark.parametrize("k", [1, 3])
def test_nearest_of_recorded_data(k):
    """Pendulum's states and actions, as PRDC searches them: brute force, and the table of nearest states."""
    dataset = load(Path(__file__).parent / "data" / "pendulum-medium.npz")
    task = prdc.make(envs.make("gymnax/Pendulum-v1"), prdc.Config(search="exact", k=k), dataset).task
    index = jax.random.randint(KEY, (256,), 0, task.num_rows)
    action = jax.random.uniform(KEY, (256, 1), minval=-1.0)
    table = np.concatenate([np.asarray(x, np.float64) for x in (2 * task.transitions.obs, task.transitions.action)], 1)
    queries = np.concatenate([table[np.asarray(index), :3], np.asarray(action, np.float64)], 1)
    rows, squared = by_differences(queries, table, k)
    brute = prdc.brute_search(task, index, action, 2.0, k)
    np.testing.assert_allclose(brute.squared, squared, rtol=1e-4, atol=1e-9)
    assert (np.asarray(brute.row) == rows).mean() > 0.995  # the rest are ties to float32
    found, certified = prdc.table_search(task, index, action, 2.0, k)
    certified = np.asarray(certified)
    assert certified.sum() > 10
    np.testing.assert_allclose(found.squared[certified], squared[certified], rtol=1e-4, atol=1e-9)
    states = task.transitions.obs
    rows, squared = by_differences(states[index], states, 64)
    np.testing.assert_allclose(task.states.squared[index], squared, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("num_rows", [6, 200])
def test_cancellation_is_put_right(num_rows):
    """Rows 1e-3 apart at a distance of 100: differences tell them apart, where |x|^2 - 2 x y + |y|^2 cannot.

    Of a cluster larger than what is ranked again the row that is found is none of the farther ones.
    """
    table = 100.0 * jax.random.normal(KEY, (1, 10)) + 1e-3 * jax.random.normal(KEY, (num_rows, 10))
    table = jnp.concatenate([table, -table])  # so that no shift of the origin helps
    found = neighbours.nearest(table, neighbours.table(table))
    if num_rows < neighbours.AGAIN:
        np.testing.assert_array_equal(found.row[:, 0], np.arange(2 * num_rows))
        np.testing.assert_array_equal(found.squared, 0.0)
    assert float(found.squared.max()) < 1e-4


def test_the_graph_is_brute_force(monkeypatch):
    monkeypatch.setattr(neighbours, "MATRIX", 100 * 1500)  # several slabs of several parts, the last ones not full
    monkeypatch.setattr(neighbours, "SLAB", 400)
    rows = jax.random.normal(KEY, (1500, 17)).at[70].set(0.0).at[71].set(0.0)  # two equal rows
    found = neighbours.graph(rows, 20)
    expected, squared = by_differences(rows, rows, 20)
    np.testing.assert_allclose(found.squared, squared, rtol=1e-5, atol=1e-10)
    assert (np.sort(found.row, 1) == np.sort(expected, 1)).all(1).mean() > 0.999
    np.testing.assert_array_equal(found.row[:, 0], np.arange(1500))
    assert {70, 71} == set(np.asarray(found.row)[70, :2].tolist())


def test_the_graph_holds_the_own_row_among_many_equal_ones():
    rows = jnp.concatenate([jnp.full((100, 3), 0.7), jax.random.normal(KEY, (50, 3))])
    found = neighbours.graph(rows, 4)
    np.testing.assert_array_equal(found.row[:, 0], np.arange(150))
    np.testing.assert_array_equal(found.squared[:100], 0.0)
    assert (found.row[:100] < 100).all()


def test_no_matrix_of_all_distances_is_held():
    """Of 64 queries and 200,000 rows it would take 51 MB."""
    sizes = {}
    for num_rows in (20_000, 200_000):
        rows = jax.ShapeDtypeStruct((num_rows, 8), jnp.float32)
        shapes = jax.ShapeDtypeStruct((64, 8), jnp.float32), jax.eval_shape(neighbours.table, rows)
        sizes[num_rows] = jax.jit(neighbours.nearest).lower(*shapes).compile().memory_analysis().temp_size_in_bytes
    assert sizes[200_000] < 1.1 * sizes[20_000] < 5e6


@pytest.mark.parametrize("k", [0, 6])
def test_wrong_k(k):
    rows = jnp.zeros((5, 2))
    for search in (lambda: neighbours.nearest(rows, neighbours.table(rows), k=k), lambda: neighbours.graph(rows, k)):
        with pytest.raises(ValueError, match=f"k={k} of a table of 5 rows; it must be 1 to 5"):
            search()
