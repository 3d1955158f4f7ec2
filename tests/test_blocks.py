"""Distributions, moments, optimiser, networks and rollouts against NumPy, SciPy or arithmetic by hand."""

import math

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import rlzoo
from rlzoo.blocks import moments, networks, optim, rollout
from rlzoo.blocks.distributions import Categorical, Normal, TanhNormal
from rlzoo.blocks.vmapping import vmap
from rlzoo.types import Box

KEY = jax.random.key(3)


# --- distributions ---------------------------------------------------------------------------------------------------


def test_categorical_against_numpy():
    logits = jax.random.normal(KEY, (5, 4))
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    pi, action = Categorical(logits), jnp.array([0, 1, 2, 3, 0])
    np.testing.assert_allclose(pi.log_prob(action), np.log(probs[np.arange(5), action]), rtol=1e-5)
    np.testing.assert_allclose(pi.entropy(), -(probs * np.log(probs)).sum(-1), rtol=1e-5)
    np.testing.assert_array_equal(pi.mode(), probs.argmax(-1))
    draws = jax.vmap(pi.sample)(jax.random.split(KEY, 20_000))
    shares = np.stack([(np.asarray(draws) == a).mean(0) for a in range(4)], -1)
    np.testing.assert_allclose(shares, probs, atol=0.015)


def test_categorical_is_finite_where_a_probability_underflows():
    def loss(logits):
        pi = Categorical(logits)
        return pi.entropy() + pi.log_prob(jnp.int32(0))

    value, grad = jax.value_and_grad(loss)(jnp.array([0.0, 200.0]))
    assert np.isfinite(value) and np.isfinite(grad).all()


def test_normal_against_scipy():
    mean, log_std = jax.random.normal(KEY, (6, 3)), jnp.array([-1.0, 0.0, 0.7])
    pi = Normal(mean, log_std)
    action = pi.sample(jax.random.key(1))
    reference = stats.norm(np.asarray(mean), np.exp(log_std))
    np.testing.assert_allclose(pi.log_prob(action), reference.logpdf(action).sum(-1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(pi.entropy(), np.broadcast_to(reference.entropy().sum(-1), 6), rtol=1e-5)
    draws = np.asarray(jax.vmap(pi.sample)(jax.random.split(KEY, 20_000)))
    np.testing.assert_allclose(draws.mean(0), mean, atol=0.06)
    np.testing.assert_allclose(draws.std(0), np.broadcast_to(np.exp(log_std), (6, 3)), rtol=0.03)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (-2.0, 2.0), (0.0, 0.1), (-3.0, 5.0)])
def test_tanh_normal_integrates_to_one_over_any_box(low, high):
    pi = TanhNormal(jnp.array([0.3]), jnp.array([-0.2]), jnp.array([low]), jnp.array([high]))
    u = jnp.linspace(-9.0, 9.0, 20_001)[:, None]
    action = np.asarray(jax.vmap(pi.squash)(u), float)[:, 0]
    density = np.exp(np.asarray(jax.vmap(pi.log_prob_pre_tanh)(u), float))
    assert np.trapezoid(density, action) == pytest.approx(1.0, abs=2e-3)
    assert action.min() >= low - 1e-6 and action.max() <= high + 1e-6


def test_tanh_normal_is_finite_at_the_border():
    pi = TanhNormal(jnp.zeros(1), jnp.zeros(1), -jnp.ones(1), jnp.ones(1))
    value, grad = jax.value_and_grad(lambda u: pi.log_prob_pre_tanh(u))(jnp.array([40.0]))
    assert np.isfinite(value) and np.isfinite(grad).all()


def test_box_maps_the_unit_cube_onto_itself_and_clips():
    box = Box(np.float32([-2.0, 0.0]), np.float32([2.0, 10.0]))
    np.testing.assert_allclose(
        box.from_policy(jnp.array([[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0]])), [[-2, 0], [0, 5], [2, 10]]
    )
    np.testing.assert_allclose(box.from_policy(jnp.array([-7.0, 7.0])), [-2, 10])
    unbounded = Box(np.float32([-np.inf]), np.float32([np.inf]))
    np.testing.assert_allclose(unbounded.from_policy(jnp.array([7.0])), [7.0])


# --- moments ---------------------------------------------------------------------------------------------------------


def test_moments_merge_to_those_of_all_the_data():
    rng = np.random.default_rng(0)
    batches = [rng.normal(3.0, 2.0, (n, 4, 5)) * np.arange(1, 6) for n in (2, 7, 30)]
    found = moments.init((5,))
    for batch in batches:
        found = jax.jit(moments.update)(found, jnp.asarray(batch, jnp.float32))
    everything = np.concatenate([batch.reshape(-1, 5) for batch in batches])
    assert float(found.samples) == len(everything)
    np.testing.assert_allclose(found.mean, everything.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.var, everything.var(0), rtol=1e-4)


def test_moments_are_per_feature_whatever_the_batch():
    """A state of statistics serves an evaluation with another number of environments."""
    shaped = moments.update(moments.init((3,)), jnp.ones((8, 16, 3)))
    assert shaped.mean.shape == (3,)
    assert moments.normalise(shaped, jnp.ones((2, 3))).shape == (2, 3) and moments.normalise(
        shaped, jnp.ones(3)
    ).shape == (3,)


def test_normalise_is_the_identity_before_any_data_and_clips():
    x = jnp.array([-20.0, -1.0, 0.0, 2.5, 20.0])
    np.testing.assert_allclose(moments.normalise(moments.init(), x), [-10, -1, 0, 2.5, 10], rtol=1e-6)
    scaled = moments.scale(moments.Moments(jnp.float32(9), jnp.float32(100.0), jnp.float32(4.0)), x)
    np.testing.assert_allclose(scaled, [-10, -0.5, 0, 1.25, 10], rtol=1e-6)


# --- optimiser -------------------------------------------------------------------------------------------------------


def test_adam_clips_the_global_norm_and_keeps_the_direction():
    grads = {"a": jnp.array([3.0, -4.0]), "b": jnp.array([12.0])}  # norm 13
    clipped, _ = optax.clip_by_global_norm(0.5).update(grads, optax.EmptyState())
    _, state = optim.adam(1e-3, 0.5).update(grads, optim.adam(1e-3, 0.5).init(grads))
    first_moment = optax.tree_utils.tree_get(state, "mu")
    for name in grads:
        np.testing.assert_allclose(first_moment[name], 0.1 * clipped[name], rtol=1e-5)
        np.testing.assert_allclose(clipped[name], np.asarray(grads[name]) * 0.5 / 13.0, rtol=1e-5)
    _, unclipped = optim.adam(1e-3, jnp.inf).update(grads, optim.adam(1e-3, jnp.inf).init(grads))
    np.testing.assert_allclose(optax.tree_utils.tree_get(unclipped, "mu")["a"], [0.3, -0.4], rtol=1e-5)


def test_rmsprop_by_hand():
    """Check 4 of A3C: g <- .99 g + .01 grad^2, and eps inside the root; the second step finds the first one's g."""
    optimiser = optim.rmsprop(7e-4, jnp.inf, 0.99, 0.1)
    grads = np.array([3.0, -0.2, 0.0])
    state = optimiser.init(jnp.zeros(3))
    first, state = optimiser.update(jnp.asarray(grads), state)
    np.testing.assert_allclose(first, -7e-4 * grads / np.sqrt(0.01 * grads**2 + 0.1), rtol=1e-5)
    second, _ = optimiser.update(jnp.asarray(2.0 * grads), state)
    g = 0.99 * 0.01 * grads**2 + 0.01 * 4.0 * grads**2
    np.testing.assert_allclose(second, -7e-4 * 2.0 * grads / np.sqrt(g + 0.1), rtol=1e-5)


def test_rmsprop_clips_the_global_norm():
    """Check 7 of A3C: whatever is summed into a gradient, no more than the norm gets through."""
    optimiser = optim.rmsprop(1.0, 40.0, 0.0, 1e-12)  # decay 0: g is the clipped gradient squared
    grads = {"a": jnp.array([300.0, -400.0]), "b": jnp.array([1200.0])}
    _, state = optimiser.update(grads, optimiser.init(grads))
    norm = jnp.sqrt(sum(x.sum() for x in jax.tree.leaves(optax.tree_utils.tree_get(state, "nu"))))
    assert float(norm) == pytest.approx(40.0, rel=1e-5)


def test_adam_takes_a_traced_rate_and_keeps_it_out_of_its_state():
    def update(rate):
        optimiser = optim.adam(rate, 1.0)
        updates, state = optimiser.update(jnp.ones(2), optimiser.init(jnp.ones(2)))
        return updates, state

    updates, states = jax.jit(jax.vmap(update))(jnp.array([1e-3, 1e-2]))
    np.testing.assert_allclose(updates[1], 10 * updates[0], rtol=1e-5)
    assert not any(np.allclose(np.asarray(x).max(), 1e-2) for x in jax.tree.leaves(states) if x.ndim == 1)


def test_anneal_is_linear_and_ends_at_zero():
    steps = jnp.array([0, 25, 50, 100, 200])
    rates = jax.vmap(optim.anneal, (None, 0, None))
    np.testing.assert_allclose(rates(0.4, steps, 100.0), [0.4, 0.3, 0.2, 0.0, 0.0], rtol=1e-6)
    np.testing.assert_allclose(rates(0.4, steps, jnp.inf), np.full(5, 0.4), rtol=1e-6)


def test_descend_is_a_step_against_the_gradients():
    adam = optax.adam(0.1)  # whose first step is the rate against the gradient's sign
    params = jnp.array([1.0, -2.0])
    params, opt_state = optim.descend(adam, params, adam.init(params), jnp.array([3.0, -0.5]))
    np.testing.assert_allclose(params, [0.9, -1.9], rtol=1e-6)
    assert int(optax.tree.get(opt_state, "count")) == 1


def test_polyak_steps_towards_the_new_parameters():
    assert float(optim.polyak(jnp.float32(1.0), jnp.float32(3.0), 0.25)) == pytest.approx(1.5)


# --- vmapping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3])
def test_vmap_is_jax_vmap(size):
    def fun(pair, shared, optional):
        total = pair["x"].sum() + pair["shared"] + shared
        return {"total": total, "row": pair["x"] * total}, shared

    args = {"x": jnp.arange(2.0 * size).reshape(size, 2), "shared": jnp.float32(5.0)}, jnp.float32(7.0), None
    in_axes, out_axes = ({"x": 0, "shared": None}, None, None), (0, None)
    expected = jax.vmap(fun, in_axes, out_axes)(*args)
    chex.assert_trees_all_equal(vmap(fun, in_axes, out_axes)(*args), expected)
    chex.assert_trees_all_equal(vmap(jnp.sum)(args[0]["x"]), jax.vmap(jnp.sum)(args[0]["x"]))
    product = jax.make_jaxpr(vmap(lambda x: x @ x.T))(jnp.ones((size, 4, 4)))
    batched = any(x.primitive.name == "dot_general" and x.outvars[0].aval.ndim == 3 for x in product.eqns)
    assert batched == (size > 1)


# --- networks --------------------------------------------------------------------------------------------------------


def test_cnn_is_the_convolution_it_replaces():
    x = jax.random.normal(KEY, (2, 10, 10, 4))
    params = networks.CNN().init(KEY, x)
    found = networks.CNN().apply(params, x)
    kernel, bias = params["params"]["Dense_0"]["kernel"], params["params"]["Dense_0"]["bias"]
    conv = nn.Conv(16, (3, 3), padding="VALID")
    expected = nn.relu(conv.apply({"params": {"kernel": kernel.reshape(3, 3, 4, 16), "bias": bias}}, x))
    np.testing.assert_allclose(found, expected.reshape(2, -1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(64, 64), (4, 64), (64, 2), (1, 8), (8, 1), (1, 1), (130, 128)])
def test_orthogonal_for_every_shape_and_many_keys(shape):
    found = np.asarray(jax.vmap(lambda key: networks.orthogonal(key, shape))(jax.random.split(KEY, 50)))
    tall = found if shape[0] >= shape[1] else found.swapaxes(1, 2)
    np.testing.assert_allclose(
        tall.swapaxes(1, 2) @ tall, np.broadcast_to(np.eye(min(shape)), (50, min(shape), min(shape))), atol=2e-5
    )


def test_orthogonal_is_uniform():
    """Over all 3 x 3 orthogonal matrices: entries of mean 0 and variance 1/3, either determinant equally often."""
    found = np.asarray(jax.vmap(lambda key: networks.orthogonal(key, (3, 3)))(jax.random.split(KEY, 20_000)))
    np.testing.assert_allclose(found.mean(0), 0.0, atol=0.02)
    np.testing.assert_allclose(found.var(0), 1 / 3, atol=0.01)
    assert np.mean(np.linalg.det(found) > 0) == pytest.approx(0.5, abs=0.02)


def test_initialisation_calls_no_lapack(tiny):
    """Batched LAPACK calls of a vmapped initialisation can wait for each other for ever (see `networks.orthogonal`)."""
    runs = rlzoo.sweep(tiny)
    text = jax.jit(runs.init).lower(jax.random.split(KEY, 8), tiny.hyper, tiny.task).as_text()
    assert "lapack" not in text and "Qr" not in text


def test_orthogonal_initialisation():
    params = networks.MLP((32,), 5, gain=0.01).init(KEY, jnp.ones(16))["params"]
    hidden, head = params["Dense_0"]["kernel"], params["Dense_1"]["kernel"]
    np.testing.assert_allclose(hidden @ hidden.T, 2.0 * np.eye(16), atol=1e-5)
    np.testing.assert_allclose(head.T @ head, 1e-4 * np.eye(5), atol=1e-8)


@pytest.mark.parametrize("name", ["gymnax/CartPole-v1", "gymnax/PointRobot-misc", "gymnax/Freeway-MinAtar"])
def test_actor_critic_takes_any_leading_axes(name):
    env = rlzoo.envs.make(name)
    network = networks.actor_critic(env, (8,), "relu", 0.5)
    obs = jnp.ones((2, 3, *env.obs_space.shape))
    params = network.init(KEY, obs[0, 0])
    pi, value = network.apply(params, obs)
    assert value.shape == (2, 3)
    assert pi.sample(KEY).shape == (2, 3, *env.action_space.shape)
    assert pi.log_prob(pi.sample(KEY)).shape == pi.entropy().shape == (2, 3)
    if isinstance(pi, Normal):
        np.testing.assert_allclose(pi.log_std, math.log(0.5), rtol=1e-6)


# --- rollout ---------------------------------------------------------------------------------------------------------


def test_rollout_is_time_major_contiguous_and_counts_episodes(cartpole):
    """The next row's obs is this row's successor, except behind an episode's end, where it is a reset."""
    steps, num_envs = 60, 5

    def act(obs, key):
        return jax.random.randint(key, (num_envs,), 0, 2), obs[:, 0]

    envs = rollout.init(cartpole, KEY, cartpole.params, num_envs)
    after, batch, memory, episodes = jax.jit(lambda e, k: rollout.collect(cartpole, act, e, k, cartpole.params, steps))(
        envs, jax.random.key(5)
    )
    assert batch.obs.shape == batch.next_obs.shape == (steps, num_envs, 4)
    np.testing.assert_array_equal(memory, batch.obs[..., 0])
    done = np.asarray(batch.terminated | batch.truncated)
    assert done.any()
    same = (np.asarray(batch.obs[1:]) == np.asarray(batch.next_obs[:-1])).all(-1)
    np.testing.assert_array_equal(same, ~done[:-1])
    assert (np.abs(np.asarray(batch.obs[1:])[done[:-1]]) <= 0.05).all()  # CartPole resets to +-0.05

    lengths, running = [], np.zeros(num_envs)
    for t in range(steps):
        running += 1
        lengths += list(running[done[t]])
        running[done[t]] = 0
    assert float(episodes["episode/count"]) == done.sum()
    assert float(episodes["episode/length_sum"]) == sum(lengths) == float(episodes["episode/return_sum"])
    np.testing.assert_array_equal(after.episode_length, running)
