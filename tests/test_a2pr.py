"""A2PR: the checks of its specification, and one whole update against NumPy with gradients by finite differences."""

import itertools

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
    numpy_adam_state,
    numpy_batch,
    numpy_feed_forward,
    numpy_q,
    numpy_td3_critic,
    plane,
    plane_dataset,
)

import rlzoo
from rlzoo import a2pr, td3_bc

KEY = jax.random.key(6)
SMALL = {"batch_size": 16, "actor_hidden": (4, 3), "critic_hidden": (4,), "vae_hidden": (5,)}
HYPER = a2pr.Hyper(
    actor_learning_rate=1e-2,
    critic_learning_rate=2e-2,
    value_learning_rate=3e-2,
    vae_learning_rate=4e-2,
    gamma=0.9,
    tau=0.1,
    alpha=1.7,
    vae_weight=1.3,
    mask_weight=0.6,
    reward_scale=2.0,
    reward_shift=-0.3,
)


def reconstruct(vae, obs, action, noise):
    encoder, decoder = (one["params"] for one in vae)
    mean, log_std = np.split(numpy_feed_forward(encoder, np.concatenate([obs, action], -1)), 2, axis=-1)
    log_std = np.clip(log_std, -4, 15)
    z = mean + np.exp(log_std) * noise
    return np.tanh(numpy_feed_forward(decoder, np.concatenate([obs, z], -1))), mean, log_std


@pytest.mark.parametrize(("detach", "alpha"), [(False, 1.7), (True, 0.0)])
def test_one_update_against_numpy(detach, alpha):
    """alpha = 0 leaves the gated regression alone."""
    hyper = HYPER._replace(alpha=alpha)
    algo = a2pr.make(plane(), a2pr.Config(**SMALL, detach_target=detach), plane_dataset(), hyper)
    start = copy(rlzoo.train(algo, KEY, 2)[0])  # so that Adam's averages and the targets are not those of the start
    after, metrics = rlzoo.resume(algo, copy(start), 1)

    _, row_key, noise_key, latent_key, policy_key = jax.random.split(start.key, 5)  # the same minibatches and noise
    rows = np.asarray(jax.random.randint(row_key, (2, 16), 0, 200))
    noise, latent = (
        np.asarray(jax.random.normal(key, (2, 16, n)), np.float64) for key, n in ((noise_key, 2), (latent_key, 4))
    )
    params, target, opt_state = float64(start.params), float64(start.target), start.opt_state
    critics, value, vae = params.critics, params.value, params.vae
    critic_state, value_state, vae_state = opt_state.critics, opt_state.value, opt_state.vae
    seen = []
    for t in range(2):
        batch = numpy_batch(plane_dataset(), rows[t], HYPER)
        obs, action, next_obs, reward, terminated = batch
        critics, critic_state, _, wanted, next_action = numpy_td3_critic(
            target, critics, critic_state, batch, noise[t], HYPER
        )
        online = reward + 0.9 * (1 - terminated) * numpy_q(critics, next_obs, next_action).min(0)
        least = np.minimum(online, wanted)
        seen.append(online < wanted)

        def value_of(value):
            return numpy_feed_forward(value["params"], obs)[:, 0]  # noqa: B023

        def value_loss(value):
            return ((value_of(value) - least) ** 2).mean()  # noqa: B023

        v, q = value_of(value), numpy_q(critics, obs, action)[0]  # V before its step, Q after its
        grads = finite_differences(value_loss, value)
        value, value_state = numpy_adam(value, grads, value_state, 3e-2), numpy_adam_state(value_state, grads, value)

        def vae_loss(vae):
            found, mean, log_std = reconstruct(vae, obs, action, latent[t])  # noqa: B023
            error = (1.3 * (q > v)[:, None] * (found - action) ** 2).mean()  # noqa: B023
            return error - 0.25 * (1 + 2 * log_std - mean**2 - np.exp(2 * log_std)).mean()

        assert 0 < (q > v).sum() < 16
        grads = finite_differences(vae_loss, vae)
        vae, vae_state = numpy_adam(vae, grads, vae_state, 4e-2), numpy_adam_state(vae_state, grads, vae)
    assert 0 < np.sum(seen) < 32  # either one is the least
    for name, expected in (("critics", critics), ("value", value), ("vae", vae)):
        assert_close(getattr(after.params, name), expected, rtol=1e-5, atol=1e-5)

    lam = alpha / np.abs(numpy_q(critics, obs, numpy_act(params.actor, obs))[0]).mean()
    fresh = np.asarray(jax.random.normal(policy_key, (16, 4)), np.float64)
    fixed = reconstruct(vae, obs, numpy_act(params.actor, obs), fresh)[0]
    vae_q = numpy_q(critics, obs, fixed)[0]
    gate = np.where(vae_q >= q, vae_q >= v, q > v)[:, None]
    assert 0 < gate.sum() < 16 and 0 < (vae_q >= q).sum() < 16

    def policy_loss(actor):
        p = numpy_act(actor, obs)
        found = fixed if detach else reconstruct(vae, obs, p, fresh)[0]
        wanted = np.where((vae_q >= q)[:, None], found, action)
        return -lam * numpy_q(critics, obs, p)[0].mean() + (0.6 * gate * (p - wanted) ** 2).mean()

    actor = numpy_adam(params.actor, finite_differences(policy_loss, params.actor), opt_state.actor, 1e-2)
    assert_close(after.params.actor, actor, rtol=1e-5, atol=1e-5)
    moved = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, target, a2pr.Targets(actor, critics))
    assert_close(after.target, moved, rtol=1e-5, atol=1e-5)
    assert float(metrics["policy/guided"][0]) == pytest.approx(gate.mean())


def test_the_gate_is_the_advantage_of_the_chosen_action():
    """All orders of three numbers, with ties: the VAE's action needs Q >= V, the data's Q > V."""
    values = np.array(list(itertools.product([0.0, 1.0, 2.0], repeat=3)), np.float32)
    vae_q, q, value = jnp.asarray(values.T)
    wanted, gate = a2pr.guide(jnp.ones((27, 1)), jnp.zeros((27, 1)), vae_q, q, value)
    for i, (vae_q, q, value) in enumerate(values):
        assert bool(wanted[i, 0]) == (vae_q >= q)
        assert bool(gate[i]) == (vae_q >= value if vae_q >= q else q > value)


def test_the_reconstruction_is_a_mean_over_all_rows_and_the_divergence_is_not_gated():
    ones, zeros = jnp.ones((4, 2)), jnp.zeros((4, 3))
    gate = jnp.array([True, False, False, False])
    loss = a2pr.vae_loss(2 * ones, jnp.zeros((4, 2)), gate, zeros, zeros, 3.0)
    np.testing.assert_allclose(loss, [12.0, 0.0, 0.0, 0.0])
    nothing = a2pr.vae_loss(ones, ones, gate, zeros + 2.0, zeros + 1.0, 3.0)
    np.testing.assert_allclose(nothing, np.full(4, 0.5 * -0.5 * (1 + 2 - 4 - np.exp(2.0))), rtol=1e-6)


def test_the_baselines_target_is_the_least():
    next_q, wanted = jnp.array([[1.0, 5.0], [3.0, 4.0]]), jnp.array([2.0, 2.0])
    found = a2pr.baseline_target(jnp.ones(2), jnp.zeros(2, bool), next_q, wanted, 0.5)
    np.testing.assert_allclose(found, [1.5, 2.0])


def test_without_regularisation_it_is_td3():
    """mask_weight = 0: the policy follows TD3's gradient, times lambda."""
    algo = a2pr.make(plane(), a2pr.Config(**SMALL), plane_dataset(), HYPER._replace(mask_weight=0.0))
    start, _ = rlzoo.train(algo, KEY, 4)
    after, metrics = rlzoo.resume(algo, copy(start), 1)
    assert float(metrics["loss/constraint"][0]) == 0.0
    _, row_key, *_ = jax.random.split(start.key, 5)
    obs = numpy_batch(plane_dataset(), np.asarray(jax.random.randint(row_key, (2, 16), 0, 200))[1], HYPER)[0]
    critics, actor = float64(after.params.critics), float64(start.params.actor)

    def td3_loss(actor):
        return -numpy_q(critics, obs, numpy_act(actor, obs))[0].mean()

    lam = 1.7 / np.abs(numpy_q(critics, obs, numpy_act(actor, obs))[0]).mean()
    grads = [lam * x for x in finite_differences(td3_loss, actor)]
    expected = numpy_adam(actor, grads, start.opt_state.actor, 1e-2)
    assert_close(after.params.actor, expected, rtol=1e-5, atol=1e-5)


def test_the_latents_spread_is_bounded():
    """log sigma in [-4, 15]: outside the loss has no gradient to it."""
    algo = a2pr.make(plane(), a2pr.Config(**SMALL), plane_dataset(), HYPER)
    start, _ = rlzoo.train(algo, KEY, 1)
    encoder, decoder = start.params.vae
    for shift in (-100.0, 100.0):
        bias = encoder["params"]["head"]["bias"].at[4:].set(shift)  # of log sigma
        head = encoder["params"]["head"] | {"bias": bias}
        vae = ({"params": encoder["params"] | {"head": head}}, decoder)
        moved, metrics = rlzoo.resume(algo, copy(start._replace(params=start.params._replace(vae=vae))), 1)
        log_std = np.clip(shift, -4.0, 15.0)
        divergence = -0.25 * (1 + 2 * log_std - np.exp(2 * log_std))  # and of the mean some
        assert float(metrics["loss/vae"][0]) == pytest.approx(divergence, rel=0.4)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(moved.params.vae))


def test_always_gated_towards_the_data_it_is_td3_bc():
    """V = -inf, and the data's Q above the VAE's: the regularisation is TD3+BC's cloning times the weight."""
    p, action, vae_action = jax.random.normal(KEY, (3, 8, 2))
    wanted, gate = a2pr.guide(vae_action, action, jnp.zeros(8), jnp.ones(8), jnp.full(8, -jnp.inf))
    loss = a2pr.regularisation(p, wanted, gate, 0.6)
    np.testing.assert_allclose(loss, 0.6 * td3_bc.cloning_loss(p, action), rtol=1e-6)
    _, never = a2pr.guide(vae_action, action, jnp.zeros(8), jnp.ones(8), jnp.full(8, jnp.inf))
    assert (a2pr.regularisation(p, wanted, never, 0.6) == 0.0).all()


def test_everything_but_policy_and_targets_learns_in_every_step():
    """Adam counts: two of critics, V and VAE for one of the policy."""
    algo = a2pr.make(plane(), a2pr.Config(**SMALL), plane_dataset(), HYPER)
    state, _ = rlzoo.train(algo, KEY, 3)
    counts = {name: int(one[0].count) for name, one in state.opt_state._asdict().items()}
    assert counts == {"actor": 3, "critics": 6, "value": 6, "vae": 6}
    assert rlzoo.updates_for(algo, 100) == 50
