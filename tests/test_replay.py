"""The replay buffer and random masks."""

import re
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rlzoo
from rlzoo import sac, stac
from rlzoo.blocks import masks, replay
from rlzoo.drivers import memory
from rlzoo.drivers.train import compiled_chunk, float32

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
