"""TD3+BC against NumPy: one whole update with gradients by finite differences, and its losses by hand."""

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
    numpy_q,
    numpy_td3_critics,
    plane,
    plane_dataset,
)

import rlzoo
from rlzoo import td3_bc

KEY = jax.random.key(6)
SMALL = {"batch_size": 16, "hidden": (4, 3)}
HYPER = td3_bc.Hyper(
    actor_learning_rate=1e-2,
    critic_learning_rate=2e-2,
    gamma=0.9,
    tau=0.1,
    alpha=1.7,
    reward_scale=2.0,
    reward_shift=-0.3,
)


@pytest.mark.parametrize("policy_delay", [2, 3])
def test_one_update_against_numpy(policy_delay):
    algo = td3_bc.make(plane(), td3_bc.Config(**SMALL, policy_delay=policy_delay), plane_dataset(), HYPER)
    start = copy(rlzoo.train(algo, KEY, 2)[0])  # so that Adam's averages and the targets are not those of the start
    after, metrics = rlzoo.resume(algo, copy(start), 1)

    _, row_key, noise_key = jax.random.split(start.key, 3)  # the same minibatches and noise
    rows = np.asarray(jax.random.randint(row_key, (policy_delay, 16), 0, 200))
    noise = np.asarray(jax.random.normal(noise_key, (policy_delay, 16, 2)), np.float64)
    critics, error, obs, action = numpy_td3_critics(start, plane_dataset(), rows, noise, HYPER)
    assert_close(after.params.critics, critics, rtol=1e-5, atol=1e-5)
    assert float(metrics["loss/critic"][0]) == pytest.approx(error, rel=1e-4)

    params, target = float64(start.params), float64(start.target)
    lam = 1.7 / np.abs(numpy_q(critics, obs, numpy_act(params.actor, obs))[0]).mean()

    def policy_loss(actor):
        policy_action = numpy_act(actor, obs)
        return -lam * numpy_q(critics, obs, policy_action)[0].mean() + ((policy_action - action) ** 2).mean()

    actor = numpy_adam(params.actor, finite_differences(policy_loss, params.actor), start.opt_state.actor, 1e-2)
    assert_close(after.params.actor, actor, rtol=1e-5, atol=1e-5)
    moved = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, target, td3_bc.Params(actor, critics))
    assert_close(after.target, moved, rtol=1e-5, atol=1e-5)


def test_the_value_term_has_the_size_of_alpha():
    """-alpha mean q / mean |q|, whatever the scale of q; the denominator carries no gradient."""
    q = jnp.array([1.0, -2.0, 4.0])
    for scale in (1.0, 100.0):
        loss, grad = jax.value_and_grad(lambda q: td3_bc.value_loss(q, 2.5).mean())(scale * q)
        assert float(loss) == pytest.approx(-2.5 * 3.0 / 7.0)
        np.testing.assert_allclose(grad, -2.5 / (7.0 / 3.0 * scale) / 3.0, rtol=1e-5)


def test_target_noise_and_action_are_clipped():
    found = td3_bc.smoothed(jnp.array([0.0, 0.9, 0.0]), jnp.array([1.0, 5.0, -9.0]), 0.2, 0.5)
    np.testing.assert_allclose(found, [0.2, 1.0, -0.5], rtol=1e-6)


def test_no_bootstrap_where_it_terminated_and_no_gradient():
    target = td3_bc.td_target(jnp.ones(2), jnp.array([True, False]), jnp.array([[5.0, 5.0], [7.0, 3.0]]), 0.9)
    np.testing.assert_allclose(target, [1.0, 1.0 + 0.9 * 3.0])
    grad = jax.grad(lambda q: td3_bc.td_target(jnp.ones(2), jnp.zeros(2, bool), q, 0.9).sum())(jnp.ones((2, 2)))
    assert (grad == 0).all()


def test_without_value_it_clones():
    """alpha = 0: the policy's actions go to the data's."""
    dataset = plane_dataset()
    dataset = dataset.replace(action=jnp.clip(dataset.obs, -1, 1) * jnp.array([0.5, -2.0]))  # a policy to be found
    config = td3_bc.Config(batch_size=64, hidden=(32,), policy_delay=1)
    algo = td3_bc.make(plane(), config, dataset, HYPER._replace(alpha=0.0, actor_learning_rate=3e-3))
    state, metrics = rlzoo.train(algo, KEY, 1_500)
    assert float(metrics["loss/cloning"][-100:].mean()) < 0.003
    found = algo.policy(algo.actor(state), dataset.obs, KEY)
    assert float(jnp.abs(found - dataset.action).mean()) < 0.1


def test_lanes_share_one_dataset():
    """Eight seeds take eight times the State, and the dataset once."""
    from rlzoo.drivers.train import compiled_chunk

    dataset = jax.tree.map(lambda x: jnp.concatenate([x] * 100), plane_dataset())
    algo = td3_bc.make(plane(), td3_bc.Config(**SMALL), dataset, HYPER)
    sizes = []
    for seeds in (1, 8):
        runs = rlzoo.sweep(algo, in_lanes=seeds)
        memory = compiled_chunk(runs, rlzoo.init(runs, jax.random.split(KEY, seeds)), 10).memory_analysis()
        sizes.append(memory.argument_size_in_bytes + memory.temp_size_in_bytes)
    of_dataset = sum(x.nbytes for x in jax.tree.leaves(algo.task))
    assert of_dataset > 500_000 and sizes[1] - sizes[0] < 0.5 * of_dataset


def test_other_data_are_refused():
    with pytest.raises(
        ValueError, match="CartPole-v1: its action space is discrete, 2 actions; TD3\\+BC needs a bound"
    ):
        td3_bc.make(rlzoo.envs.make("gymnax/CartPole-v1"), td3_bc.Config(), plane_dataset())
    with pytest.raises(
        ValueError, match="td3_bc: dataset 'plane-random' was recorded in own/plane, not in gymnax/Pend"
    ):
        td3_bc.make(rlzoo.envs.make("gymnax/Pendulum-v1"), td3_bc.Config(), plane_dataset())
