"""CDSA: closed forms of scores, the checks of its specification, an update and all corrections against NumPy."""

import functools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    assert_close,
    assert_same_bits,
    copy,
    finite_differences,
    float64,
    numpy_adam,
    numpy_feed_forward,
    numpy_normalised,
    plane,
    plane_dataset,
    train_long,
)

import rlzoo
from rlzoo import cdsa, kept
from rlzoo.blocks import neighbours
from rlzoo.data import About, Dataset
from rlzoo.drivers import evaluate
from rlzoo.types import Box, Env

KEY = jax.random.key(12)
SMALL = cdsa.Config(score_hidden=(8, 6), score_batch_size=16, dynamics_hidden=(5, 4), dynamics_batch_size=16)
HYPER = cdsa.Hyper(score_learning_rate=2e-2, dynamics_learning_rate=1e-2, anneal_steps=9.0, ema_decay=0.8)


@functools.cache
def trained(config=SMALL):
    """Models of `plane`'s data."""
    algo = cdsa.make(plane(), config, plane_dataset(), HYPER)
    return cdsa.fitted(algo, rlzoo.train(algo, KEY, 8)[0])


def far(strength=cdsa.Strength()):
    """Strengths that move every action."""
    return strength._replace(eta_action=0.7, eta_state=1.3, weight=0.4, sigma=0.5, anneal=1.6, reach=0.8)


def space_of(points, actions=1):
    """An environment that only has spaces, and a dataset of independent rows z = [s, a]."""
    dims = points.shape[1] - actions
    unbounded = Box(np.full(dims, -np.inf, np.float32), np.full(dims, np.inf, np.float32))
    box = Box(-np.full(actions, 10.0, np.float32), np.full(actions, 10.0, np.float32))
    env = Env("own/points", None, None, {}, unbounded, box, 10)
    obs, action = points[:, :dims], 10.0 * points[:, dims:]
    flags = jnp.zeros(len(points), bool)
    return env, Dataset(obs, action, jnp.zeros(len(points)), obs + 0.1 * points[:, :1], flags, flags, About("points"))


def numpy_noise(params, z, sigma, hidden=2, conditional=True):
    """The score network's e(z, sigma), in float64; sigma [B, 1]."""
    params = params["params"]
    x = z / np.sqrt(1.0 + sigma**2)
    if conditional:
        angles = np.log(sigma) * 0.25 * 2.0 ** (np.arange(16) / 3.0)
        x = np.concatenate([x, np.sin(angles), np.cos(angles)], axis=-1)
    for i in range(hidden):
        x = x @ params[f"Linear_{i}"]["kernel"] + params[f"Linear_{i}"]["bias"]
        x = x / (1.0 + np.exp(-x))
    return x @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]


def numpy_kernel(z, rows, sigma):
    """Softened nearest rows and log-density, by the definitions."""
    logits = -((z[:, None] - rows) ** 2).sum(-1) / (2.0 * sigma**2)
    most = logits.max(1, keepdims=True)
    weights = np.exp(logits - most)
    log_sum = most[:, 0] + np.log(weights.mean(1))
    return weights @ rows / weights.sum(1, keepdims=True), log_sum - 0.5 * z.shape[1] * np.log(2 * np.pi * sigma**2)


# --- the score --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_rows", [5, 1024, 2500])
@pytest.mark.parametrize("sigma", [0.05, 0.3, 2.0])
def test_the_kernel_mean_and_its_density(num_rows, sigma):
    rows = 2.0 + jax.random.normal(KEY, (num_rows, 4))
    z = rows[:7] + 0.3
    mean, log_density = jax.jit(neighbours.kernel_mean)(z, neighbours.table(rows), sigma)
    wanted = numpy_kernel(float64(z), float64(rows), sigma)
    np.testing.assert_allclose(mean, wanted[0], rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(log_density, wanted[1], rtol=1e-3, atol=2e-3)


def test_the_empirical_score_is_the_gradient_of_the_log_density():
    rows, sigma, width = jax.random.normal(KEY, (300, 3)), 0.4, 1e-3
    z = jax.random.normal(jax.random.key(1), (20, 3))
    table = neighbours.table(rows)
    psi = (neighbours.kernel_mean(z, table, sigma)[0] - z) / sigma**2
    density = lambda step: numpy_kernel(float64(z) + step, float64(rows), sigma)[1]  # noqa: E731
    slopes = np.stack([(density(step) - density(-step)) / (2 * width) for step in width * np.eye(3)], axis=-1)
    np.testing.assert_allclose(psi, slopes, atol=2e-4)


def test_without_noise_the_denoised_point_is_the_nearest_row():
    """As PRDC finds it with beta = 1 in the same coordinates."""
    rows = jax.random.normal(KEY, (2000, 4))
    z = rows[:50] + 0.2 * jax.random.normal(jax.random.key(1), (50, 4))
    table = neighbours.table(rows)
    found = neighbours.nearest(z, table)
    np.testing.assert_allclose(neighbours.kernel_mean(z, table, 1e-3)[0], rows[found.row[:, 0]], atol=2e-3)


def test_an_empirical_score_without_a_network():
    """Of the data themselves: in the models' coordinates, and the same as the kernel's."""
    config = replace(SMALL, score="empirical")
    fitted = trained(config)
    obs, action, _ = numpy_normalised(plane_dataset())
    rows = np.concatenate([obs, action], 1)
    np.testing.assert_allclose(fitted.models.table.rows, rows, atol=1e-5)
    z = jnp.asarray(rows[:9] + 0.2, jnp.float32)
    psi = cdsa._networks(2, 2, config).score(fitted.models, z, 0.3)
    np.testing.assert_allclose(psi, (numpy_kernel(float64(z), rows, 0.3)[0] - float64(z)) / 0.3**2, atol=1e-3)
    assert not jax.tree.leaves(fitted.models.params.score)


@pytest.mark.parametrize("eta", [0.25, 0.5, 1.0])
def test_an_action_step_by_the_exact_score_never_lowers_the_density(eta):
    config = replace(SMALL, score="empirical")
    models = trained(config).models
    rows, sigma = float64(models.table.rows), 0.6
    s = 1.5 * jax.random.normal(jax.random.key(2), (500, 2))
    a = jax.random.uniform(jax.random.key(3), (500, 2), minval=-1.0)
    strength = cdsa.Strength(eta_action=eta, weight=0.0, sigma=sigma)
    after = cdsa.correct(cdsa._networks(2, 2, config), config, models, strength, s, a)
    density = lambda a: numpy_kernel(np.concatenate([float64(s), float64(a)], 1), rows, sigma)[1]  # noqa: E731
    assert np.abs(after - a).max(-1).mean() > 0.02
    assert (density(after) >= density(a) - 1e-5).all() and density(after).mean() > density(a).mean() + 0.01


def test_noise_and_score_form_of_the_loss_are_one():
    """1/2 |e - eps|^2 and 1/2 |sigma Psi + eps|^2, of the network's own Psi."""
    models, nets = trained().models, cdsa._networks(2, 2, SMALL)
    z, noise = jax.random.normal(KEY, (2, 30, 4))
    predicted = nets.noise.apply(models.params.score, z, jnp.full((1, 1), 0.3))
    psi = nets.score(models, z, 0.3)
    assert np.abs(psi).mean() > 0.05
    score_form = 0.5 * ((0.3 * psi + noise) ** 2).sum(-1).mean()
    np.testing.assert_allclose(cdsa.score_loss(noise, predicted), score_form, rtol=1e-6)


TOY = cdsa.Config(score_hidden=(64, 64), score_batch_size=512, dynamics_hidden=(4,), dynamics_batch_size=4)
COMPONENTS = 0.8 * np.array([[-1.0, -0.5], [1.0, -0.2], [0.0, 0.5]])  # of the mixture, each N(m, 0.12^2 I)


@functools.cache
def learned(kind, score="conditional", num_updates=4000):
    """Toy rows z in the models' coordinates, the trained score as a function (z, sigma), and the metrics."""
    if kind == "gaussian":
        mix = np.array([[0.5, 0.3, 0.0], [0.0, 0.4, 0.2], [0.05, 0.0, 0.15]])
        points = jax.random.normal(KEY, (20_000, 3)) @ mix.T + jnp.array([0.2, -0.3, 0.1])
    else:
        which = jax.random.randint(KEY, (20_000,), 0, 3)
        points = jnp.asarray(COMPONENTS, jnp.float32)[which] + 0.12 * jax.random.normal(jax.random.key(1), (20_000, 2))
    env, dataset = space_of(points)
    hyper = cdsa.Hyper(score_learning_rate=5e-3, anneal_steps=num_updates, sigma_min=0.02, ema_decay=0.99)
    config = replace(TOY, score=score)
    algo = cdsa.make(env, config, dataset, hyper)
    state, metrics = train_long(algo, KEY, num_updates)
    models = cdsa.fitted(algo, state).models
    nets = cdsa._networks(points.shape[1] - 1, 1, config)
    return algo.task, lambda z, sigma: nets.score(models, z, sigma), metrics


def relative_error(found, wanted):
    found = np.asarray(found)
    return np.linalg.norm(found - wanted, axis=1).mean() / np.linalg.norm(wanted, axis=1).mean()


def noised(z, sigma):
    return float64(z[:500]) + sigma * np.asarray(jax.random.normal(jax.random.key(3), z[:500].shape))


@pytest.mark.parametrize("sigma", [0.05, 0.1, 0.2, 0.5])
def test_the_score_of_gaussian_data(sigma):
    """-(S + sigma^2 I)^-1 (z - m), within 10 %."""
    task, psi, _ = learned("gaussian")
    mean, cov = np.mean(float64(task.z), 0), np.cov(float64(task.z).T)
    queries = noised(task.z, sigma)
    wanted = -(queries - mean) @ np.linalg.inv(cov + sigma**2 * np.eye(3))
    assert relative_error(psi(jnp.asarray(queries, jnp.float32), sigma), wanted) < 0.1


def test_the_loss_falls_to_its_minimum():
    """Of Gaussian data 1/2 (d - sigma^2 tr (S + sigma^2 I)^-1), on average over the levels."""
    task, _, metrics = learned("gaussian")
    cov = np.cov(float64(task.z).T)
    levels = np.geomspace(0.02, 1.0, 400)
    least = np.mean([0.5 * (3 - s**2 * np.trace(np.linalg.inv(cov + s**2 * np.eye(3)))) for s in levels])
    np.testing.assert_allclose(metrics["loss/score"][-1000:].mean(), least, rtol=0.03)


@pytest.mark.parametrize(
    ("score", "sigma"), [("conditional", 0.1), ("conditional", 0.2), ("conditional", 0.5), ("single", 0.02**0.5)]
)
def test_the_score_of_a_mixture(score, sigma):
    """Three Gaussians, where the density is not negligible; the single level is the geometric mean of 0.02 and 1."""
    task, psi, _ = learned("mixture", score)
    scale = np.array([float(task.moments.std[0]), 1.0])  # states are normalised, actions are as they were
    means = (COMPONENTS - np.array([float(task.moments.mean[0]), 0.0])) / scale
    variances = (0.12 / scale) ** 2 + sigma**2
    queries = noised(task.z, sigma)
    apart = queries[:, None] - means
    weights = np.exp(-0.5 * (apart**2 / variances).sum(-1))
    wanted = -(weights[..., None] * apart / variances).sum(1) / weights.sum(1, keepdims=True)
    assert relative_error(psi(jnp.asarray(queries, jnp.float32), sigma), wanted) < 0.1


# --- training ---------------------------------------------------------------------------------------------------------


def test_one_update_against_numpy():
    algo = cdsa.make(plane(), SMALL, plane_dataset(), HYPER)
    start = copy(rlzoo.train(algo, KEY, 3)[0])
    after, metrics = rlzoo.resume(algo, copy(start), 1)
    task, params = algo.task, float64(start.params)

    _, row_key, level_key, noise_key, pair_key, held_key = jax.random.split(start.key, 6)  # the same rows and noise
    obs, action, next_obs = numpy_normalised(plane_dataset())
    z = np.concatenate([obs, action], 1)[np.asarray(jax.random.randint(row_key, (16,), 0, 200))]
    uniform = np.asarray(jax.random.uniform(level_key, (16, 1)), np.float64)
    sigma = 0.01 * 100.0**uniform
    noise = np.asarray(jax.random.normal(noise_key, z.shape), np.float64)
    pairs = np.asarray(task.pairs)[np.asarray(jax.random.randint(pair_key, (16,), 0, len(task.pairs)))]
    held = np.asarray(task.held_out)[np.asarray(jax.random.randint(held_key, (16,), 0, len(task.held_out)))]
    valid = ~np.asarray(plane_dataset().terminated)
    delta = (next_obs - obs)[valid].std(0)
    np.testing.assert_allclose(task.delta, delta, rtol=1e-5)

    def inverse(params, rows=pairs):
        x = np.concatenate([obs[rows], (next_obs - obs)[rows] / delta], 1)
        return ((np.tanh(numpy_feed_forward(params["params"], x)) - action[rows]) ** 2).mean()

    losses = {
        "score": lambda params: 0.5 * ((numpy_noise(params, z + sigma * noise, sigma) - noise) ** 2).sum(-1).mean(),
        "inverse": inverse,
        "forward": lambda params: (
            (
                numpy_feed_forward(params["params"], np.concatenate([obs[pairs], action[pairs]], 1))
                - (next_obs - obs)[pairs] / delta
            )
            ** 2
        ).mean(),
    }
    rates = {"score": 2e-2 * 0.5 * (1.0 + np.cos(np.pi * 3 / 9)), "inverse": 1e-2, "forward": 1e-2}
    for name, loss in losses.items():
        own = getattr(params, name)
        np.testing.assert_allclose(metrics[f"loss/{name}"][0], loss(own), rtol=1e-5)
        new = numpy_adam(own, finite_differences(loss, own), getattr(start.opt_state, name), rates[name])
        assert_close(getattr(after.params, name), new, atol=1e-5)
    average = jax.tree.map(lambda old, new: 0.8 * old + 0.2 * new, float64(start.average), float64(after.params.score))
    assert_close(after.average, average, atol=1e-6)
    held_out = inverse(float64(after.params.inverse), held)
    np.testing.assert_allclose(metrics["loss/inverse_held_out"][0], held_out, rtol=1e-4)


def test_dynamics_see_no_terminal_row_and_test_on_other_episodes():
    dataset = plane_dataset()
    task = cdsa.make(plane(), SMALL, dataset).task
    terminated = np.asarray(dataset.terminated)
    used, held = np.asarray(task.pairs), np.asarray(task.held_out)
    assert terminated.sum() > 5 and len(used) + len(held) == (~terminated).sum()
    assert not terminated[used].any() and not terminated[held].any()
    episode = np.searchsorted(dataset.ends(), np.arange(200))
    assert not set(episode[used]) & set(episode[held])
    assert len(set(episode[held])) == round(0.05 * len(set(episode[~terminated])))


def test_a_flat_file_trains_no_terminal_row(tmp_path):
    """Of D4RL's arrays: 12 rows, terminal ones 3 and 7, a time-out in row 5; the last has no successor."""
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "flat.hdf5", "w") as file:
        file["observations"], file["actions"] = rng.normal(size=(12, 2)), rng.uniform(-1, 1, (12, 2))
        file["rewards"] = np.zeros(12)
        file["terminals"], file["timeouts"] = np.isin(np.arange(12), [3, 7]), np.arange(12) == 5
    dataset = rlzoo.data.load(tmp_path / "flat.hdf5")
    task = cdsa.make(plane(), SMALL, dataset).task
    assert dataset.num_rows == 10 and len(task.z) == 10  # without the time-out and the last
    assert len(task.pairs) + len(task.held_out) == 8
    used = np.concatenate([task.pairs, task.held_out])
    assert not np.asarray(dataset.terminated)[used].any()


def test_one_episode_is_tested_on_its_end():
    flags = jnp.zeros(40, bool)
    env, dataset = space_of(jax.random.uniform(KEY, (40, 3)))
    dataset = dataset.replace(terminated=flags, last=flags.at[-1].set(True))
    task = cdsa.make(env, SMALL, dataset).task
    assert task.held_out.tolist() == [38, 39] and len(task.pairs) == 38


def test_inverse_dynamics_of_a_linear_system():
    """s' = A s + B a with B of full column rank: I is pinv(B) (s' - A s), and the auxiliary action pinv(B) u."""
    A, B = np.array([[1.0, 0.1], [-0.1, 0.9]]), np.array([[0.5], [1.0]])
    keys = jax.random.split(KEY, 2)
    obs = jax.random.normal(keys[0], (4000, 2))
    action = jax.random.uniform(keys[1], (4000, 1), minval=-1.0)
    next_obs = obs @ A.T + action @ B.T
    env, dataset = space_of(jnp.concatenate([obs, action], 1))
    dataset = dataset.replace(action=10.0 * action, next_obs=next_obs)
    config = replace(SMALL, dynamics_hidden=(64, 64), dynamics_batch_size=256)
    algo = cdsa.make(env, config, dataset, cdsa.Hyper(dynamics_learning_rate=2e-3))
    state, _ = rlzoo.train(algo, KEY, 4000)
    models, nets = cdsa.fitted(algo, state).models, cdsa._networks(2, 1, config)
    s = algo.task.z[:200, :2]
    found = nets.inverse(models.params.inverse, s, (algo.task.next_state[:200] - s) / models.delta)
    np.testing.assert_allclose(found, action[:200], atol=0.05)

    std = np.asarray(models.moments.std, np.float64)
    change = B[:, 0] / std * np.array([[-0.3], [0.2]])  # along B: what an action can do
    aux = [
        nets.inverse(models.params.inverse, s, jnp.broadcast_to((jnp.asarray(u, jnp.float32)) / models.delta, s.shape))
        - nets.inverse(models.params.inverse, s, jnp.zeros_like(s))
        for u in change
    ]
    drift = np.asarray(next_obs[:200] - action[:200] @ B.T - obs[:200])
    inside = np.abs(np.linalg.pinv(B) @ drift.T)[0] < 0.5  # where staying takes an action that there is
    for u, found in zip(change, aux, strict=True):
        wanted = float((np.linalg.pinv(B) @ (u * std))[0])
        np.testing.assert_allclose(np.asarray(found)[inside], wanted, atol=0.1)  # whatever s is


def test_models_of_the_same_data_are_trained_once(monkeypatch):
    calls = []
    kept._RESULTS.clear()
    fit = functools.partial(cdsa.fit, plane(), plane_dataset(), SMALL, HYPER, 3)
    first = fit()
    monkeypatch.setattr(
        cdsa, "kept", lambda name, compute, like, dear: calls.append(name) or kept.kept(name, None, like)
    )
    assert_same_bits(fit().models, first.models)
    algo = cdsa.make(plane(), SMALL, plane_dataset(), HYPER)
    assert_close(first.models, algo.actor(rlzoo.train(algo, jax.random.key(0), 3)[0]), rtol=1e-4, atol=1e-6)
    with pytest.raises(TypeError):  # of other data there are none yet
        cdsa.fit(plane(), plane_dataset(204), SMALL, HYPER, 3)
    with pytest.raises(TypeError):
        cdsa.fit(plane(), plane_dataset(), SMALL, HYPER._replace(sigma_max=2.0), 3)
    wider = plane()._replace(action_space=Box(*(2 * x for x in plane().action_space)))
    with pytest.raises(TypeError):  # other units of actions
        cdsa.fit(wider, plane_dataset(), SMALL, HYPER, 3)
    assert len(set(calls)) == 4
    other_rule = cdsa.fit(plane(), plane_dataset(), replace(SMALL, combine="add", iterations=3), HYPER, 3)
    assert_same_bits(other_rule.models, first.models)  # how they are used is no part of training


# --- corrections ------------------------------------------------------------------------------------------------------


def numpy_correct(config, models, strength, s, a):
    """The module's text, in float64."""
    params, delta = float64(models.params), float64(models.delta)
    count = config.iterations
    for j in range(count):
        left = 1.0 - j / (count - 1) if count > 1 else 0.0
        sigma = strength.sigma * strength.anneal**left
        z = np.concatenate([s, a], 1)
        psi = -numpy_noise(params.score, z, np.full((len(z), 1), sigma)) / sigma
        moved = {
            "tweedie": sigma**2 * psi,
            "raw": psi,
            "unit": psi / np.linalg.norm(psi, axis=1, keepdims=True),
        }[config.scale]
        u = np.clip(strength.eta_state * moved[:, :2], -strength.reach * delta, strength.reach * delta)

        def inverse(to, s=s):
            return np.tanh(numpy_feed_forward(params.inverse["params"], np.concatenate([s, (to - s) / delta], 1)))

        ahead = s + delta * numpy_feed_forward(params.forward["params"], z)
        towards, w = a + strength.eta_action * moved[:, 2:], strength.weight
        a = {
            "delta": towards + w * (inverse(s + u) - inverse(s)),
            "add": towards + w * inverse(s + u),
            "blend": (1 - w) * towards + w * inverse(s + u),
            "anchored": towards + w * (inverse(ahead + u) - a),
        }[config.combine]
        a = np.clip(a, -1.0, 1.0)
    return a


RULES = [(combine, "tweedie", count) for combine in ("delta", "add", "blend", "anchored") for count in (1, 3)]


@pytest.mark.parametrize(("combine", "scale", "iterations"), [*RULES, ("delta", "raw", 3), ("anchored", "unit", 1)])
def test_corrections_against_numpy(combine, scale, iterations):
    models = trained().models
    config = replace(SMALL, combine=combine, scale=scale, iterations=iterations)
    strength = far()._replace(eta_action=0.1 if scale == "raw" else 0.7)
    s, a = jax.random.normal(KEY, (30, 2)), jax.random.uniform(jax.random.key(1), (30, 2), minval=-1.0)
    correct = functools.partial(cdsa.correct, cdsa._networks(2, 2, config), config, models, strength)
    found = correct(s, a)
    np.testing.assert_allclose(found, numpy_correct(config, models, strength, float64(s), float64(a)), atol=1e-4)
    assert np.abs(found).max() <= 1.0 and np.abs(found - a).max() > 0.01
    np.testing.assert_allclose(jax.jit(correct)(s, a), found, atol=1e-5)
    one_by_one = jnp.concatenate([correct(s[i : i + 1], a[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(one_by_one, found[:5], atol=1e-5)


def test_a_correction_ends_inside_of_the_box():
    """Also of an action that begins outside of it, and if only the score's other part could bring it back."""
    fitted = trained()
    outside = lambda obs: jnp.broadcast_to(jnp.array([4.0, -9.0]), obs.shape)  # noqa: E731
    obs = jax.random.normal(KEY, (200, 2))
    for strength in (far(), far()._replace(eta_action=-2.0)):
        action = np.asarray(cdsa.wrap(outside, fitted, strength)(obs))
        assert (np.abs(action) <= np.array([1.0, 3.0]) + 1e-6).all()
    none = far()._replace(eta_action=0.0, weight=0.0)
    assert_same_bits(cdsa.wrap(outside, fitted, none)(obs), outside(obs))


def test_the_wished_change_of_state_is_bounded():
    """By reach * delta, whatever the score says: the inverse model is asked for nothing that no step does."""
    asked = []
    nets = SimpleNamespace(
        num_states=2,
        score=lambda models, z, sigma: 1e4 * z,
        inverse=lambda params, s, change: asked.append(np.asarray(change)) or change,
    )
    models = trained().models
    s, a = jax.random.normal(KEY, (30, 2)), jnp.zeros((30, 2))
    with jax.disable_jit():
        cdsa.correct(nets, SMALL, models, far(), s, a)
    np.testing.assert_allclose(np.abs(asked[0]), 0.8, rtol=1e-6)  # in units of delta


def base_of(name):
    """An algorithm for `plane` and its State."""
    if name == "sac":
        algo = rlzoo.sac.make(plane(), rlzoo.sac.Config(hidden=(8,), warmup=16, batch_size=8, capacity=64))
        return algo, rlzoo.train(algo, KEY, 2)[0]
    if name == "ppo":
        algo = rlzoo.ppo.make(plane(), rlzoo.ppo.Config(num_envs=2, num_steps=8, num_minibatches=2, hidden=(8,)))
        return algo, rlzoo.train(algo, KEY, 2)[0]
    algo = rlzoo.td3_bc.make(plane(), rlzoo.td3_bc.Config(hidden=(8,), batch_size=16), plane_dataset())
    return algo, rlzoo.train(algo, KEY, 5)[0]


@pytest.mark.parametrize(("name", "combine"), [("td3_bc", "delta"), ("sac", "anchored"), ("ppo", "blend")])
def test_strength_zero_is_the_base_bit_for_bit(name, combine):
    algo, state = base_of(name)
    before = copy(state)
    config = replace(SMALL, combine=combine, iterations=2)
    none = far()._replace(eta_action=0.0, weight=0.0)
    obs = 2.0 * jax.random.normal(KEY, (200, 2))
    safe, start = cdsa.corrected(algo, state, trained(), none, config)
    for deterministic in (True, False):
        actions = algo.policy(algo.actor(state), obs, KEY, deterministic)
        assert_same_bits(safe.policy(safe.actor(start), obs, KEY, deterministic), actions)
    key = jax.random.key(4)
    own = rlzoo.evaluate(algo, algo.env, state, key, 16)
    # To rounding: under the suite's flags another program rounds otherwise, under XLA's own it does not.
    assert_close(rlzoo.evaluate(safe, safe.env, start, key, 16), own, rtol=1e-5)
    safe, start = cdsa.corrected(algo, state, trained(), far(), config)
    moved = safe.policy(safe.actor(start), obs, KEY, True)
    assert np.abs(moved - algo.policy(algo.actor(state), obs, KEY, True)).max() > 0.05
    assert np.abs(moved / np.array([1.0, 3.0])).max() <= 1.0 + 1e-6  # inside of the box
    assert_same_bits(state, before)
    nothing, start = cdsa.corrected(algo, state, trained(), far(), replace(SMALL, iterations=0))
    actions = algo.policy(algo.actor(state), obs, KEY, True)
    assert_same_bits(nothing.policy(nothing.actor(start), obs, KEY, True), actions)


@pytest.mark.slow
def test_strength_zero_is_the_same_rollout_bit_for_bit():
    """Whole episodes, compiled as users compile them: in a process without the suite's flags."""
    script = """
import jax, jax.numpy as jnp
from test_cdsa import *
for name in ("td3_bc", "sac", "ppo"):
    algo, state = base_of(name)
    for config in (SMALL, replace(SMALL, combine="anchored", iterations=2)):
        none = far()._replace(eta_action=0.0, weight=0.0)
        safe, start = cdsa.corrected(algo, state, trained(), none, config)
        both = (algo, state), (safe, start)
        own, other = (rlzoo.evaluate(algo, algo.env, state, jax.random.key(4), 16) for algo, state in both)
        assert_same_bits(own, other)
"""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parent, env=environment, check=True)


def test_any_function_is_wrapped_vmapped_and_exported():
    policy = lambda obs, gain: jnp.stack([gain * obs[..., 0], 9.0 * obs[..., 1]], -1)  # noqa: E731
    obs = jax.random.normal(KEY, (6, 2))
    grid = rlzoo.grid(far(), weight=[0.0, 0.3], eta_action=[0.0, 0.5])
    fitted = trained()
    axes = cdsa.Strength(*(0 if jnp.ndim(x) else None for x in grid))
    over = jax.jit(jax.vmap(lambda strength: cdsa.wrap(policy, fitted, strength)(obs, 0.5), (axes,)))
    actions = over(grid)
    assert_same_bits(actions[0], policy(obs, 0.5))  # also where it is outside of the box
    for i in range(4):
        strength = jax.tree.map(lambda x: x[i] if jnp.ndim(x) else x, grid)  # noqa: B023
        np.testing.assert_allclose(actions[i], cdsa.wrap(policy, fitted, strength)(obs, 0.5), atol=1e-5)
    wrapped = jax.jit(cdsa.wrap(policy, fitted, far()))
    exported = jax.export.export(wrapped)(obs, jnp.float32(0.5))
    np.testing.assert_allclose(exported.call(obs, jnp.float32(0.5)), wrapped(obs, 0.5), atol=1e-6)
    single = cdsa.wrap(policy, fitted, far())(obs[0], 0.5)
    np.testing.assert_allclose(single, wrapped(obs, 0.5)[0], atol=1e-5)


def test_a_grid_of_strengths_is_one_rollout():
    """All settings of strengths times all seeds of the base, on the same episodes; other strengths compile nothing."""
    algo = rlzoo.sweep(base_of("td3_bc")[0])
    state, _ = rlzoo.train(algo, jax.random.split(KEY, 3), 5)
    grid = rlzoo.grid(far(), weight=[0.0, 0.4], eta_action=[0.0, 0.7, 1.0])
    safe, start = cdsa.corrected(algo, state, trained(), grid)
    key = jax.random.key(5)
    returns = rlzoo.evaluate(safe, safe.env, start, key, 8).returns
    assert returns.shape == (6, 3, 8)
    np.testing.assert_allclose(returns[0], rlzoo.evaluate(algo, algo.env, state, key, 8).returns[0], rtol=1e-5)
    one = jax.tree.map(lambda x: x[4] if jnp.ndim(x) else x, grid)
    alone, alone_start = cdsa.corrected(rlzoo.setting(algo, 0), rlzoo.lane(state, 0, 2), trained(), one)
    np.testing.assert_allclose(rlzoo.evaluate(alone, safe.env, alone_start, key, 8).returns, returns[4, 2], rtol=1e-4)
    assert_same_bits(rlzoo.lane(start, 4, 2).models, trained().models)

    before = evaluate._evaluation.cache_info().currsize
    other = cdsa.corrected(algo, state, trained(), rlzoo.grid(far(), weight=[0.1, 0.2], eta_action=[0.1, 0.2, 0.3]))
    assert not jnp.array_equal(rlzoo.evaluate(other[0], safe.env, other[1], key, 8).returns, returns)
    assert evaluate._evaluation.cache_info().currsize == before


def test_lanes_of_bases_and_strengths():
    """One agent under many strengths; many settings under one; as many of both together."""
    algo, state = base_of("td3_bc")
    three = far()._replace(weight=jnp.array([0.0, 0.2, 0.4]))
    key = jax.random.key(5)

    def returns(algo, state, strength):
        safe, start = cdsa.corrected(algo, state, trained(), strength)
        return np.asarray(rlzoo.evaluate(safe, safe.env, start, key, 4).returns), safe, start

    many, safe, start = returns(algo, state, three)
    assert many.shape == (3, 1, 4) and start.key.shape == (3, 1)
    one = returns(algo, state, jax.tree.map(lambda x: x[2] if jnp.ndim(x) else x, three))[0]
    np.testing.assert_allclose(many[2, 0], one, rtol=1e-4)
    lone = rlzoo.evaluate(rlzoo.setting(safe, 2), safe.env, rlzoo.lane(start, 2, 0), key, 4).returns
    np.testing.assert_allclose(many[2, 0], lone, rtol=1e-4)
    grid = rlzoo.sweep(rlzoo.setting(safe, 0), three)  # the same by rlzoo's own sweep
    swept = rlzoo.evaluate(grid, safe.env, rlzoo.init(grid, jax.random.split(KEY, 1)), key, 4).returns
    np.testing.assert_allclose(swept, many, rtol=1e-4)

    runs = rlzoo.sweep(algo, rlzoo.grid(algo.hyper, alpha=[1.0, 2.0, 3.0]))
    bases, _ = rlzoo.train(runs, jax.random.split(KEY, 2), 5)
    fixed, together = returns(runs, bases, far())[0], returns(runs, bases, three)[0]
    assert fixed.shape == together.shape == (3, 2, 4)
    alone = returns(rlzoo.setting(runs, 1), rlzoo.lane(bases, 1, 1), far()._replace(weight=0.2))[0]
    np.testing.assert_allclose(together[1, 1], alone, rtol=1e-4)
    np.testing.assert_allclose(fixed[2], together[2], rtol=1e-4)  # both of weight 0.4
    with pytest.raises(ValueError, match="got strength.weight: 2, the policy's settings: 3; all combinations"):
        cdsa.corrected(runs, bases, trained(), far()._replace(weight=jnp.ones(2)))


def test_training_goes_on_beside_a_correction(tmp_path):
    """The base's State is donated by `resume`; what was corrected and fitted lives on."""
    algo, state = base_of("td3_bc")
    models_algo = cdsa.make(plane(), SMALL, plane_dataset(), HYPER)
    models_state, _ = rlzoo.train(models_algo, KEY, 2)
    fitted = cdsa.fitted(models_algo, models_state)
    safe, start = cdsa.corrected(algo, state, fitted)
    rlzoo.resume(algo, state, 1), rlzoo.resume(models_algo, models_state, 1)
    rlzoo.save(tmp_path, safe, start)
    assert not any(x.is_deleted() for x in jax.tree.leaves((start, fitted.models)))


def test_distances_to_the_data():
    obs, action, _ = numpy_normalised(plane_dataset())
    seen = plane_dataset(2000)
    found = cdsa.distances(trained(), plane_dataset(), seen)
    std, mean = np.asarray(plane_dataset().obs, np.float64).std(0) + 1e-3, np.asarray(plane_dataset().obs).mean(0)
    z = np.concatenate([(np.asarray(seen.obs) - mean) / std, np.asarray(seen.action) / np.array([1.0, 3.0])], 1)
    rows = np.concatenate([obs, action], 1)
    wanted = np.sqrt(((z[:, None] - rows) ** 2).sum(-1).min(1))
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_images_and_their_models():
    """Observations of any shape are vectors to the models."""
    env = plane()._replace(obs_space=Box(np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)))
    data = plane_dataset()
    obs = jax.random.uniform(KEY, (200, 2, 3))
    data = data.replace(obs=obs, next_obs=jnp.roll(obs, -1, 0), about=About())
    fitted = cdsa.fit(env, data, SMALL, HYPER, 2)
    act = cdsa.wrap(lambda obs: obs[..., 0, :2] - 0.5, fitted, far())
    assert act(obs[:5]).shape == (5, 2) and act(obs[0]).shape == (2,)
    np.testing.assert_allclose(act(obs[:5])[0], act(obs[0]), atol=1e-6)


def test_a_corrected_agent_is_saved_and_loaded_but_not_trained(tmp_path):
    algo, state = base_of("td3_bc")
    safe, start = cdsa.corrected(algo, state, trained(), far())
    rlzoo.save(tmp_path, safe, start)
    again = rlzoo.load(tmp_path, safe)
    assert_same_bits(again, start)
    with pytest.raises(ValueError, match="td3_bc \\+ cdsa corrects a trained policy and learns nothing; train td3_bc"):
        rlzoo.resume(safe, start, 1)


def test_bad_input():
    algo, state = base_of("td3_bc")
    fitted = trained()
    for strength, message in (
        (far()._replace(sigma=2.0), r"sigma=2 is outside of 0.01 to 1, the noise that the score was trained on"),
        (rlzoo.grid(far(), sigma=[0.1, 1e-4]), r"sigma=0.0001 is outside of"),
        (far()._replace(sigma=float("nan")), r"strength.sigma=nan; it must be above 0"),
        (far()._replace(reach=-1.0), r"strength.reach=-1; it must be 0 or more"),
        (far()._replace(weight=jnp.ones((2, 2))), r"strength.weight has shape \[2, 2\]; allowed: \[\] or \[H\]"),
        (far()._replace(weight=jnp.ones(2), sigma=jnp.full(3, 0.1)), "one length, got strength.weight: 2, strength.si"),
    ):
        with pytest.raises(ValueError, match=message):
            cdsa.corrected(algo, state, fitted, strength)
    more = replace(SMALL, iterations=2)
    with pytest.raises(ValueError, match=r"sigma \* anneal=1.44 is outside of"):  # of the first iteration
        cdsa.corrected(algo, state, fitted, far()._replace(sigma=0.9), more)
    single = trained(replace(SMALL, score="single"))
    with pytest.raises(ValueError, match="sigma=0.05 is outside of 0.1 to 0.1"):
        cdsa.wrap(lambda obs: obs, single)
    with pytest.raises(ValueError, match="but the models were trained as"):
        cdsa.corrected(algo, state, fitted, config=replace(SMALL, score_hidden=(9,)))
    other = rlzoo.envs.make("gymnax/Pendulum-v1")
    with pytest.raises(ValueError, match=r"the models are of own/plane, the policy of gymnax/Pendulum-v1; fit models"):
        cdsa.corrected(rlzoo.sac.make(other), state, fitted)
    with pytest.raises(ValueError, match=r"of observations \[2\] and actions \[2\], but the policy is given \[5, 3\]"):
        cdsa.wrap(lambda obs: obs[:, :2], fitted)(jnp.ones((5, 3)))
    with pytest.raises(ValueError, match=r"but the policy is given \[5, 2\] and gives \[5, 1\]"):
        cdsa.wrap(lambda obs: obs[:, :1], fitted)(jnp.ones((5, 2)))
    with pytest.raises(ValueError, match="wrap takes a function"):
        cdsa.wrap(algo, fitted)
    ended = plane_dataset().replace(terminated=jnp.ones(200, bool).at[3].set(False))
    with pytest.raises(ValueError, match="1 of 200 transitions of dataset 'plane-random' have a valid next"):
        cdsa.make(plane(), SMALL, ended)
    with pytest.raises(ValueError, match="td3_bc \\+ cdsa is corrected already"):
        cdsa.corrected(*cdsa.corrected(algo, state, fitted), fitted)
    for hyper, message in (
        (HYPER._replace(sigma_min=0.0), "hyper.sigma_min=0; it must be above 0 and finite"),
        (HYPER._replace(sigma_min=2.0), "sigma_min=2.0, sigma_max=1.0; the second must not be smaller"),
        (HYPER._replace(anneal_steps=float("inf")), "anneal_steps=inf says no length; give num_updates"),
        (HYPER._replace(ema_decay=jnp.ones(2)), "fit trains one set of models; sweep cdsa.make"),
    ):
        with pytest.raises(ValueError, match=message):
            cdsa.fit(plane(), plane_dataset(), SMALL, hyper)
    runs = rlzoo.sweep(cdsa.make(plane(), SMALL, plane_dataset()))
    with pytest.raises(ValueError, match="models are of one agent"):
        cdsa.fitted(runs, rlzoo.init(runs, jax.random.split(KEY, 2)))


@pytest.mark.slow  # trains a TD3 that is too sure of itself
def test_an_over_optimistic_policy_is_raised():
    """TD3 without regularisation on Pendulum's medium data: mean return and CVaR of the worst tenth, paired."""
    from rlzoo import td3_bc

    env = rlzoo.envs.make("gymnax/Pendulum-v1")
    dataset = rlzoo.data.load(Path(__file__).parent / "data" / "pendulum-medium.npz")
    config = td3_bc.presets["pendulum"].config
    algo = rlzoo.sweep(td3_bc.make(env, config, dataset, td3_bc.Hyper(alpha=1e6)))
    state, _ = rlzoo.train(algo, jax.random.split(KEY, 1), 4000)
    models = cdsa.fit(env, dataset, cdsa.presets["pendulum"].config, num_updates=3000)
    strong = cdsa.Strength(eta_action=0.5, weight=0.25, sigma=0.2)
    safe, start = cdsa.corrected(algo, state, models, strong)
    key = jax.random.key(6)
    base, now = (np.asarray(rlzoo.evaluate(*x, key, 64).returns[0]) for x in ((algo, env, state), (safe, env, start)))
    assert base.mean() < -1400  # worse than a random one
    worst = functools.partial(rlzoo.report.conditional_value_at_risk, level=0.1)
    for statistic in (rlzoo.report.statistics.mean, worst):
        assert rlzoo.report.paired(base, now, statistic).low > 0.0
