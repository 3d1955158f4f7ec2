"""Every algorithm lowers for accelerators on a machine that has none, to programs that need no library of theirs."""

import re

import jax
import jax.numpy as jnp
import pytest
from test_contract import CASES, algorithm

import rlzoo
from rlzoo.drivers.train import float32

PLATFORMS = ("cuda", "rocm", "tpu")
KEY, KEYS = (jax.eval_shape(lambda key=key: key) for key in (jax.random.key(0), jax.random.split(jax.random.key(0))))
# What says where things lie is no call at all; threefry's kernel jaxlib brings for both makers of GPUs.
HARMLESS = {"Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape", "cu_threefry2x32_ffi", "hip_threefry2x32_ffi"}


def calls(function, *shapes):
    """The custom calls in the module that a function lowers to for all platforms."""
    exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(*shapes)
    return set(re.findall(r"custom_call @(\w+)", exported.mlir_module())) - HARMLESS


def test_a_call_into_a_library_is_seen():
    assert calls(jnp.linalg.qr, jax.ShapeDtypeStruct((4, 4), jnp.float32))
    assert not calls(jnp.sort, jax.ShapeDtypeStruct((4,), jnp.float32))


@pytest.mark.parametrize("name", CASES, ids=[name.replace(" ", "-") for name in CASES])
def test_a_sweep_trains_and_is_evaluated_without_calls_into_libraries(name):
    algo = algorithm(CASES[name])
    runs = rlzoo.sweep(algo, rlzoo.grid(algo.hyper, **{CASES[name].swept: CASES[name].values[:2]}))
    numbers = float32(runs.hyper), runs.task
    state = jax.eval_shape(runs.init, KEYS, *numbers)

    def train(state, hyper, task):
        return jax.lax.scan(lambda state, _: runs.step(state, hyper, task), state, None, 2)

    assert not calls(train, state, *numbers)
    assert not calls(lambda state, key: rlzoo.evaluate(runs, runs.env, state, key, 2), state, KEY)
