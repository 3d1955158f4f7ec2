"""The replay buffer and random masks."""

import re
import time
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rlzoo
from rlzoo import sac, stac
from rlzoo.blocks import masks, priorities, replay
from rlzoo.drivers import memory
from rlzoo.drivers.train import compiled_chunk, float32
from rlzoo.types import Transition

KEY = jax.random.key(0)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 5), per_capacity=st.integers(1, 6), blocks=st.integers(1, 20))
def test_rows_are_where_the_clock_says(n, per_capacity, blocks):
    """A counter written block by block: the buffer holds the newest, `size` counts them, no other row is sampled."""
    capacity = n * per_capacity
    buffer = replay.init(jax.ShapeDtypeStruct((), jnp.int32), capacity)
    for block in range(blocks):
        buffer = replay.add(buffer, 1 + block * n + jnp.arange(n), jnp.int32(block))
    size = int(replay.size(buffer, n, jnp.int32(blocks)))
    written = np.arange(1, 1 + blocks * n)[-capacity:]
    assert size == len(written)
    np.testing.assert_array_equal(np.sort(np.asarray(buffer)[:size]), written)
    for sample in (replay.sample, replay.sample_distinct):
        assert set(np.asarray(sample(buffer, KEY, jnp.int32(size), 64)).tolist()) <= set(written.tolist())


def test_sampling_is_uniform_and_distinct():
    buffer = jnp.arange(120)
    keys = jax.random.split(KEY, 6_000)
    for sample, distinct in ((replay.sample, False), (replay.sample_distinct, True)):
        rows = np.asarray(jax.vmap(lambda key: sample(buffer, key, jnp.int32(100), 4))(keys))  # noqa: B023
        counts = np.stack([np.bincount(rows[:, i], minlength=120) for i in range(4)])
        assert (counts[:, 100:] == 0).all()
        assert (((counts[:, :100] - 60) ** 2 / 60).sum(1) < 160).all()  # 99 degrees of freedom: p < 1e-4 beyond 160
        unique = np.array([len(set(row)) for row in rows])
        assert (unique == 4).all() == distinct


def test_the_cost_does_not_depend_on_the_capacity():
    """Write a row and draw a batch inside a scan, donated: 10^4 and 10^6 rows take the same time, not 100 times."""

    def program(capacity):
        def one(buffer, now):
            block, key = now
            buffer = replay.add(buffer, jnp.ones((1, 4)), block)
            return buffer, replay.sample(buffer, key, jnp.int32(capacity), 64).sum()

        clock = jnp.arange(500), jax.random.split(KEY, 500)
        run = jax.jit(lambda buffer: jax.lax.scan(one, buffer, clock), donate_argnums=0)
        buffer, _ = run(jnp.zeros((capacity, 4)))
        times = []
        for _ in range(5):
            began = time.perf_counter()
            buffer, _ = jax.block_until_ready(run(buffer))
            times.append(time.perf_counter() - began)
        return min(times)

    assert program(1_000_000) < 5 * program(10_000) + 2e-3


@pytest.mark.parametrize("rate", [0.01, 0.3, 0.9])
def test_masks_are_independent_bernoulli(rate):
    """Frequency, variance of the count, and the frequency of a zero behind a zero."""
    n, num = 2_000, 400
    zeros = 1.0 - np.asarray(jax.vmap(lambda key: masks.bernoulli_zeros(key, rate, n))(jax.random.split(KEY, num)))
    assert set(np.unique(zeros)) == {0.0, 1.0}
    error = np.sqrt(rate * (1 - rate) / (n * num))
    assert abs(zeros.mean() - rate) < 5 * error
    assert zeros.sum(1).var() == pytest.approx(n * rate * (1 - rate), rel=0.35)
    pairs = zeros[:, :-1] * zeros[:, 1:]
    assert abs(pairs.mean() - rate**2) < 5 * np.sqrt(rate**2 / (n * num))
    assert abs(zeros[:, -1].mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / num)  # the last is dropped as often


def test_impossible_rates_are_refused():
    with pytest.raises(ValueError, match="rate=1.0; it must be between 0 and 1"):
        masks.bernoulli_zeros(KEY, 1.0, 10)


def test_memory_is_said_and_refused_with_what_fits(capsys, monkeypatch):
    env = rlzoo.envs.make("gymnax/Pendulum-v1")
    runs = rlzoo.sweep(sac.make(env, sac.Config(capacity=10_240, warmup=256, hidden=(8,))))
    keys = jax.random.split(KEY, 4)
    memory._say.cache_clear()
    rlzoo.init(runs, keys)
    assert "sac: replay of 10,240 transitions, 340.0 KiB a lane, 1.3 MiB in 4 lanes" in capsys.readouterr().err
    rlzoo.init(runs, keys)
    assert capsys.readouterr().err == ""  # once

    monkeypatch.setattr(memory, "device_memory", lambda: 2**20)
    huge = rlzoo.sweep(sac.make(env, sac.Config(capacity=10_000_000, warmup=256, hidden=(8,))))
    with pytest.raises(
        ValueError, match="capacity=10,000,000 transitions of 34 bytes do not fit; use capacity="
    ) as info:
        rlzoo.init(huge, keys)
    fits = int(str(info.value).split("use capacity=")[1].split()[0])
    config = sac.Config(capacity=fits, warmup=256, hidden=(8,))
    rlzoo.init(rlzoo.sweep(sac.make(env, config)), keys, quiet=True)
    with pytest.raises(ValueError, match="do not fit"):
        config = sac.Config(capacity=fits + 16, warmup=256, hidden=(8,))
        rlzoo.init(rlzoo.sweep(sac.make(env, config)), keys)
    monkeypatch.setattr(memory, "device_memory", lambda: 2**12)
    with pytest.raises(ValueError, match="not even the warmup of 256 fits"):
        rlzoo.init(huge, keys)


@pytest.mark.parametrize("module", [sac, stac])
@pytest.mark.parametrize("batch_size", [16, 15])
def test_no_update_copies_the_buffer(module, batch_size):
    """Neither a copy in the program nor room for one; one update of one environment step is the hard case."""
    config = module.Config(batch_size=batch_size, capacity=54_321, warmup=56, hidden=(4,))
    algo = module.make(rlzoo.envs.make("gymnax/Pendulum-v1"), config)
    program = compiled_chunk(algo, jax.eval_shape(algo.init, KEY, float32(algo.hyper), algo.task), 4)
    assert not re.findall(r"= \w+\[54321.*? copy\(", program.as_text())
    assert program.memory_analysis().temp_size_in_bytes < 54_321


def ring(capacity, stride, blocks, ends, seed=0):
    """A ring of transitions, one block of ``stride`` rows at a time, and all of them in a list in the order of time."""
    rng, written, buffer = np.random.default_rng(seed), [], None
    for block in range(blocks):
        kind = rng.random(stride)
        rows = Transition(
            obs=jnp.float32([[100 * block + i] for i in range(stride)]),
            action=jnp.arange(stride),
            reward=jnp.asarray(rng.normal(size=stride), jnp.float32),
            terminated=jnp.asarray(kind < ends),
            truncated=jnp.asarray(kind > 1.0 - ends),
            next_obs=jnp.float32([[100 * (block + 1) + i + 0.5] for i in range(stride)]),
        )
        buffer = replay.init(jax.tree.map(lambda x: x[0], rows), capacity) if buffer is None else buffer
        buffer = replay.add(buffer, rows, jnp.int32(block))
        written.append(rows)
    return buffer, written


def several(written, block, i, n, gamma):
    """Of a list of blocks the n steps of environment i from a block on, by a loop."""
    total = 0.0
    for k in range(n):
        now = written[block + k]
        total += gamma**k * float(now.reward[i])
        if now.terminated[i] or now.truncated[i] or k == n - 1:
            return total, gamma ** (k + 1) * (not now.terminated[i]), float(now.next_obs[i, 0])


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("blocks", [5, 6, 9])  # part of the ring, all of it, and over its end
def test_several_steps_are_those_of_a_loop(n, blocks):
    stride, capacity, gamma = 3, 18, 0.9
    buffer, written = ring(capacity, stride, blocks, ends=0.2)
    kept = range(max(0, blocks - capacity // stride), blocks - n + 1)  # blocks that enough others follow
    uniform = priorities.Rows(False, capacity, stride, (n - 1) * stride)
    rows, weight = uniform.draw((), KEY, jnp.int32(blocks), 400, None)
    assert (weight == 1.0).all()
    found = replay.steps(buffer, rows, n, stride, gamma)
    seen = set()
    for obs, action, reward, discount, next_obs in zip(*map(np.asarray, found), strict=True):
        block, i = divmod(int(obs[0]), 100)
        assert i == action
        seen.add((block, i))
        expected = several(written, block, i, n, gamma)
        np.testing.assert_allclose((reward, discount, next_obs[0]), expected, rtol=1e-5, atol=1e-6)
    assert seen == {(block, i) for block in kept for i in range(stride)}
    ends = [x for row in written for x in np.asarray(row.terminated | row.truncated)]
    assert any(ends) and not all(ends)


def test_one_step_is_the_plain_row_and_gamma_is_traced():
    buffer, _ = ring(12, 2, 6, ends=0.3)
    rows = jnp.arange(12)
    plain, one = replay.take(buffer, rows), replay.take_steps(buffer, rows, 1, 2, 0.9)
    for field in ("obs", "action", "reward", "next_obs"):
        np.testing.assert_array_equal(getattr(one, field), getattr(plain, field))
    np.testing.assert_allclose(one.discount, 0.9 * ~plain.terminated, rtol=1e-6)
    lanes = jax.vmap(lambda gamma: replay.take_steps(buffer, rows, 3, 2, gamma).reward)(jnp.array([0.0, 0.5]))
    np.testing.assert_allclose(lanes[0], plain.reward)
    np.testing.assert_allclose(lanes[1], replay.take_steps(buffer, rows, 3, 2, 0.5).reward)


@pytest.mark.parametrize("capacity", [7, 32, 1500])
def test_rows_are_drawn_by_their_priorities(capacity):
    rng = np.random.default_rng(capacity)
    mass = rng.random(capacity) ** 4
    mass[rng.random(capacity) < 0.3] = 0.0
    tree = priorities.put(priorities.init(capacity), jnp.arange(capacity), jnp.float32(mass))
    changed = rng.integers(capacity, size=5)  # and some of them anew
    mass[changed] = 0.5
    tree = priorities.put(tree, jnp.asarray(changed), jnp.full(5, 0.5))
    for level, above in zip(tree.levels, tree.levels[1:], strict=False):
        np.testing.assert_allclose(level.sum(-1), above.ravel()[: len(level)], rtol=1e-5)

    rows, p = priorities.draw(tree, KEY, 200_000)
    rows = np.asarray(rows)
    share = mass / mass.sum()
    np.testing.assert_allclose(p, share[rows], rtol=1e-4)
    counts = np.bincount(rows, minlength=capacity)
    assert (counts[share == 0.0] == 0).all()
    np.testing.assert_allclose(counts, 200_000 * share, atol=5.0 * np.sqrt(200_000 * share.max()))
    np.testing.assert_allclose(counts, 200_000 * share, atol=3.0)  # one from each equal part: far less than by chance


def test_a_single_row_with_mass_is_always_drawn():
    tree = priorities.put(priorities.init(5000), jnp.array([4321]), jnp.array([1e-3]))
    rows, p = priorities.draw(tree, KEY, 64)
    assert (rows == 4321).all() and (p == 1.0).all()


def test_importance_weights_and_errors():
    p = jnp.array([0.5, 0.1, 0.4])
    expected = (3 * np.asarray(p)) ** -0.4
    np.testing.assert_allclose(priorities.weights(p, jnp.int32(3), 0.4), expected / expected.max(), rtol=1e-6)
    np.testing.assert_allclose(priorities.weights(p, jnp.int32(3), 0.0), 1.0)
    np.testing.assert_allclose(priorities.of_errors(jnp.array([-4.0, 0.0]), 0.5), [2.0, 1e-3], rtol=1e-4)


@pytest.mark.parametrize("n", [1, 3])
def test_rows_can_be_drawn_once_enough_others_follow(n):
    """By their priorities what can be drawn is what uniform drawing draws; what is new comes with the largest error."""
    capacity, block, stride, hyper = 24, 4, 2, SimpleNamespace(priority_exponent=1.0, importance_exponent=0.0)
    rows, uniform = (priorities.Rows(x, capacity, block, (n - 1) * stride) for x in (True, False))
    ranks = rows.init(12, hyper)
    ranks = rows.learned(ranks, jnp.array([1, 2]), jnp.array([5.0, -0.5]), hyper)
    for blocks in range(3, 12):
        ranks = rows.written(ranks, jnp.int32(blocks), hyper)
        mass = np.asarray(ranks.levels[0]).ravel()[:capacity]
        allowed = np.unique(uniform.draw((), KEY, jnp.int32(blocks + 1), 1000, hyper)[0])
        np.testing.assert_array_equal(np.flatnonzero(mass), allowed)
        newest = (block * blocks + block - 1 - (n - 1) * stride) % capacity
        np.testing.assert_allclose(mass[newest], 5.0, rtol=1e-5)
    assert float(ranks.highest) == 5.0
