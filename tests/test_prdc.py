"""PRDC: the checks of its specification, and one whole update against NumPy with a search in float64."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    assert_close,
    copy,
    finite_differences,
    float64,
    numpy_act,
    numpy_adam,
    numpy_normalised,
    numpy_q,
    numpy_td3_critics,
    plane,
    plane_dataset,
)

import rlzoo
from rlzoo import kept, prdc, td3_bc
from rlzoo.data.dataset import task_of
from rlzoo.drivers.train import compiled_chunk

KEY = jax.random.key(6)
SMALL = {"batch_size": 16, "hidden": (4, 3), "table_size": 8}
HYPER = prdc.Hyper(
    actor_learning_rate=1e-2,
    critic_learning_rate=2e-2,
    gamma=0.9,
    tau=0.1,
    alpha=1.7,
    beta=0.6,
    reward_scale=2.0,
    reward_shift=-0.3,
)


def made(search="table", k=1, table_size=8, hyper=HYPER, dataset=None):
    config = prdc.Config(batch_size=16, hidden=(4, 3), table_size=table_size, search=search, k=k)
    return prdc.make(plane(), config, plane_dataset() if dataset is None else dataset, hyper)


def by_differences(queries_obs, queries_action, obs, action, beta):
    """Squared distances [B, N] in float64."""
    states = ((queries_obs[:, None] - obs) ** 2).sum(-1)
    return beta**2 * states + ((queries_action[:, None] - action) ** 2).sum(-1)


@pytest.mark.parametrize(("search", "k"), [("exact", 1), ("brute", 3)])
def test_one_update_against_numpy(search, k):
    algo = made(search, k)
    start = copy(rlzoo.train(algo, KEY, 2)[0])  # so that Adam's averages and the targets are not those of the start
    after, metrics = rlzoo.resume(algo, copy(start), 1)

    _, row_key, noise_key = jax.random.split(start.key, 3)  # the same minibatches and noise
    rows = np.asarray(jax.random.randint(row_key, (2, 16), 0, 200))
    noise = np.asarray(jax.random.normal(noise_key, (2, 16, 2)), np.float64)
    critics, error, obs, action = numpy_td3_critics(start, plane_dataset(), rows, noise, HYPER)
    assert_close(after.params.critics, critics, rtol=1e-5, atol=1e-5)
    assert float(metrics["loss/critic"][0]) == pytest.approx(error, rel=1e-4)

    params, target = float64(start.params), float64(start.target)
    all_obs, all_action, _ = numpy_normalised(plane_dataset())
    squared = by_differences(obs, numpy_act(params.actor, obs), all_obs, all_action, HYPER.beta)
    wanted = all_action[np.argsort(squared, axis=1)[:, k - 1]]
    assert not np.allclose(wanted, action)  # not TD3+BC
    lam = 1.7 / np.abs(numpy_q(critics, obs, numpy_act(params.actor, obs))[0]).mean()

    def policy_loss(actor):
        policy_action = numpy_act(actor, obs)
        return -lam * numpy_q(critics, obs, policy_action)[0].mean() + ((policy_action - wanted) ** 2).mean()

    actor = numpy_adam(params.actor, finite_differences(policy_loss, params.actor), start.opt_state.actor, 1e-2)
    assert_close(after.params.actor, actor, rtol=1e-5, atol=1e-5)
    moved = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, target, prdc.Params(actor, critics))
    assert_close(after.target, moved, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0, 5.0])
def test_the_wanted_action_is_nearer_than_the_datas_own(beta):
    """|p - a_nn|^2 <= d^2 <= |p - a|^2 of every query, since its own row is in the table."""
    task = made("exact").task
    index = jax.random.randint(KEY, (300,), 0, task.num_rows)
    action = jax.random.uniform(KEY, (300, 2), minval=-1.0)
    own = jnp.sum((action - task.transitions.action[index]) ** 2, -1)
    for found in (prdc.table_search(task, index, action, beta, 1)[0], prdc.brute_search(task, index, action, beta, 1)):
        squared = found.squared[:, 0]
        nearest = jnp.sum((action - task.transitions.action[found.row[:, 0]]) ** 2, -1)
        assert (nearest <= squared * (1 + 1e-5) + 1e-9).all() and (squared <= own * (1 + 1e-5) + 1e-9).all()


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("beta", [0.3, 2.0])
def test_certified_queries_are_exact(beta, k):
    """10,000 random queries on and off the data; brute force is float64's."""
    task = made("exact").task
    index = jax.random.randint(KEY, (10_000,), 0, task.num_rows)
    noise = jax.random.uniform(KEY, (10_000, 1)) * jax.random.normal(KEY, (10_000, 2))
    action = jnp.clip(task.transitions.action[index] + noise, -1, 1)
    found, certified = prdc.table_search(task, index, action, beta, k)
    brute = prdc.brute_search(task, index, action, beta, k)
    np.testing.assert_allclose(found.squared[certified], brute.squared[certified], rtol=1e-4, atol=1e-6)
    assert 0.0 < certified.mean() < 1.0
    assert (found.squared >= brute.squared * (1 - 1e-4) - 1e-6).all()
    obs, actions = (np.asarray(x, np.float64) for x in (task.transitions.obs, task.transitions.action))
    squared = by_differences(obs[np.asarray(index)], np.asarray(action, np.float64), obs, actions, beta)
    np.testing.assert_allclose(brute.squared, np.sort(squared, axis=1)[:, :k], rtol=1e-4, atol=1e-6)


def test_a_table_of_all_rows_is_certain():
    algo = made(table_size=1_000)
    _, metrics = rlzoo.train(algo, KEY, 3)
    assert (metrics["search/certified"] == 1.0).all()


def test_limits_of_beta():
    """Very large: the state's own row, TD3+BC. Zero: the nearest action of all."""
    task = made("exact").task
    index, action = jnp.arange(200), jax.random.uniform(KEY, (200, 2), minval=-1.0)
    for found in (prdc.table_search(task, index, action, 1e6, 1)[0], prdc.brute_search(task, index, action, 1e6, 1)):
        np.testing.assert_array_equal(found.row[:, 0], index)
    nearest = jnp.argmin(jnp.sum((action[:, None] - task.transitions.action) ** 2, -1), axis=1)
    np.testing.assert_array_equal(prdc.brute_search(task, index, action, 0.0, 1).row[:, 0], nearest)

    of_prdc, _ = rlzoo.train(made(hyper=HYPER._replace(beta=1e6)), KEY, 3)
    hyper = td3_bc.Hyper(**{name: value for name, value in HYPER._asdict().items() if name != "beta"})
    config = td3_bc.Config(batch_size=16, hidden=(4, 3))
    of_td3_bc, _ = rlzoo.train(td3_bc.make(plane(), config, plane_dataset(), hyper), KEY, 3)
    assert_close(of_prdc.params, of_td3_bc.params, rtol=1e-5, atol=1e-6)


def test_the_three_searches_agree():
    """exact and brute in every update; the table where it covers the data."""
    states = [rlzoo.train(made(search, table_size=size), KEY, 5)[0] for search, size in SEARCHES]
    for state in states[1:]:
        assert_close(state.params, states[0].params, rtol=1e-4, atol=1e-5)


SEARCHES = (("brute", 8), ("exact", 8), ("table", 200))


def test_gradient_of_the_constraint():
    """2 (p - a_nn) / (B A) with respect to p, and none of the search."""
    task = made("exact").task
    index = jnp.arange(16)
    action = jax.random.uniform(KEY, (16, 2), minval=-1.0)

    def loss(action):
        found, _ = prdc.table_search(task, index, jax.lax.stop_gradient(action), 2.0, 1)
        return td3_bc.cloning_loss(action, task.transitions.action[found.row[:, 0]]).mean()

    found, _ = prdc.table_search(task, index, action, 2.0, 1)
    expected = 2.0 * (action - task.transitions.action[found.row[:, 0]]) / 32
    np.testing.assert_allclose(jax.grad(loss)(action), expected, rtol=1e-5, atol=1e-8)


def test_without_value_it_regresses_on_the_neighbours():
    """alpha = 0: the policy's step is Adam's on the mean squared difference to the nearest rows' actions."""
    algo = made("exact", hyper=HYPER._replace(alpha=0.0))
    start, _ = rlzoo.train(algo, KEY, 2)
    after, metrics = rlzoo.resume(algo, copy(start), 1)
    assert float(metrics["loss/policy"][0]) == 0.0
    _, row_key, _ = jax.random.split(start.key, 3)
    rows = np.asarray(jax.random.randint(row_key, (2, 16), 0, 200))[1]
    obs, action, _ = numpy_normalised(plane_dataset())
    actor = float64(start.params.actor)
    squared = by_differences(obs[rows], numpy_act(actor, obs[rows]), obs, action, HYPER.beta)
    wanted = action[squared.argmin(1)]
    grads = finite_differences(lambda actor: ((numpy_act(actor, obs[rows]) - wanted) ** 2).mean(), actor)
    assert_close(after.params.actor, numpy_adam(actor, grads, start.opt_state.actor, 1e-2), rtol=1e-5, atol=1e-5)


def test_rewards_are_scaled_and_shifted():
    """AntMaze: 1 becomes 9999 and 0 becomes -1; next states stay."""
    preset = prdc.presets["antmaze"].hyper
    assert [preset.reward_scale * r + preset.reward_shift for r in (0.0, 1.0)] == [-1.0, 9999.0]
    task = task_of(plane_dataset(), plane(), "prdc")
    np.testing.assert_array_equal(made().task.transitions.next_obs, task.transitions.next_obs)


def test_exact_share():
    algo = made(hyper=HYPER._replace(beta=1.0))
    state, metrics = rlzoo.train(algo, KEY, 20)
    share = prdc.exact_share(algo, state, KEY, 500)
    assert share["certified"] == pytest.approx(float(metrics["search/certified"][-5:].mean()), abs=0.2)
    index = jax.random.randint(KEY, (500,), 0, 200)  # the same queries, in float64
    obs, actions = (np.asarray(x, np.float64) for x in (algo.task.transitions.obs, algo.task.transitions.action))
    policy_action = numpy_act(float64(state.params.actor), obs[np.asarray(index)])
    rows, _ = algo.task.states
    squared = by_differences(obs[np.asarray(index)], policy_action, obs, actions, 1.0)
    of_table = np.take_along_axis(squared, np.asarray(rows)[np.asarray(index)], axis=1).min(1)
    exact = np.mean(of_table <= squared.min(1) * (1 + 1e-6))
    assert 0.0 < share["certified"] < share["exact"] < 1.0
    assert share["exact"] == pytest.approx(exact, abs=0.002)
    with pytest.raises(ValueError, match=r"exact_share measures one agent; give rlzoo.setting"):
        prdc.exact_share(rlzoo.sweep(algo), state, KEY)


def test_the_search_is_in_full_precision():
    """Rounded to TF32 or bfloat16, products err by more than the distances that decide."""
    algo = made("exact")
    step = str(jax.make_jaxpr(algo.step)(rlzoo.init(algo, KEY), rlzoo.drivers.train.float32(algo.hyper), algo.task))
    sizes = re.findall(r"f32\[(\d+),1024\] = dot_general\[(.*?)\]\s", step, flags=re.S)
    assert sizes and all("precision=(Precision.HIGHEST, Precision.HIGHEST)" in text for _, text in sizes)


def test_lanes_share_one_table():
    """Eight seeds take eight times the State, and the dataset, its table and its graph once."""
    dataset = jax.tree.map(lambda x: jnp.concatenate([x] * 40), plane_dataset())
    algo = made("exact", dataset=dataset)
    sizes = []
    for seeds in (1, 8):
        runs = rlzoo.sweep(algo, in_lanes=seeds)
        state = jax.eval_shape(lambda: rlzoo.init(runs, jax.random.split(KEY, seeds)))  # noqa: B023
        memory = compiled_chunk(runs, state, 2).memory_analysis()
        sizes.append(memory.argument_size_in_bytes + memory.temp_size_in_bytes)
    of_task = sum(x.nbytes for x in jax.tree.leaves(algo.task))
    assert of_task > 900_000 and sizes[1] - sizes[0] < 3.0 * of_task  # and not 7


def test_a_graph_is_made_once(monkeypatch):
    calls, graph = [], prdc.neighbours.graph
    monkeypatch.setattr(prdc.neighbours, "graph", lambda states, k: calls.append(k) or graph(states, k))
    kept._RESULTS.clear()
    made(), made("exact"), made(hyper=HYPER._replace(beta=9.0))
    assert calls == [8]
    made(table_size=9)
    assert calls == [8, 9]


def test_a_table_larger_than_memory(monkeypatch):
    monkeypatch.setattr(prdc, "device_memory", lambda: 10_000)
    with pytest.raises(
        ValueError, match="table of 8 nearest states of 200 rows takes 12.5 KiB; the device has 9.8 KiB"
    ):
        made()
    made("brute")


def test_a_rank_beyond_the_dataset():
    with pytest.raises(ValueError, match="k=300 of a dataset of 200 rows; use a smaller k"):
        made("brute", k=300)
