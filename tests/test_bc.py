"""Behaviour cloning against NumPy, and a policy that it must find."""

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
    plane,
    plane_dataset,
)

import rlzoo
from rlzoo import bc

KEY = jax.random.key(6)


def test_one_update_against_numpy():
    algo = bc.make(plane(), bc.Config(batch_size=16, hidden=(4, 3)), plane_dataset(), bc.Hyper(1e-2))
    start = copy(rlzoo.train(algo, KEY, 2)[0])  # so that Adam's averages are not those of the start
    after, metrics = rlzoo.resume(algo, copy(start), 1)
    rows = np.asarray(jax.random.randint(jax.random.split(start.key)[1], (16,), 0, 200))
    obs, action, _ = numpy_normalised(plane_dataset())

    def loss(params):
        return ((numpy_act(params, obs[rows]) - action[rows]) ** 2).mean()

    params = float64(start.params)
    assert float(metrics["loss/cloning"][0]) == pytest.approx(loss(params), rel=1e-4)
    params = numpy_adam(params, finite_differences(loss, params), start.opt_state, 1e-2)
    assert_close(after.params, params, rtol=1e-4, atol=1e-5)


def test_it_finds_a_linear_policy_and_acts_on_raw_observations():
    dataset = plane_dataset()
    dataset = dataset.replace(action=jnp.clip(dataset.obs, -1, 1) * jnp.array([0.5, -2.0]))
    algo = bc.make(plane(), bc.Config(batch_size=64, hidden=(32,)), dataset, bc.Hyper(3e-3))
    state, metrics = rlzoo.train(algo, KEY, 1_500)
    assert float(metrics["loss/cloning"][-100:].mean()) < 0.003
    found = algo.policy(algo.actor(state), dataset.obs, KEY)
    assert float(jnp.abs(found - dataset.action).mean()) < 0.1


def test_it_has_no_critic():
    algo = bc.make(plane(), bc.Config(), plane_dataset())
    with pytest.raises(ValueError, match="bc has no critic"):
        rlzoo.value_error(algo, algo.env, rlzoo.init(algo, KEY), KEY, 2)
