"""Heads of critics against NumPy: value_heads.md, section 7, and dqn.md, section 7."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rlzoo.blocks import heads

LOW, HIGH, BINS = -10.0, 10.0, 51
Z = heads.support(LOW, HIGH, BINS)
WIDTH = (HIGH - LOW) / (BINS - 1)
HYPER = SimpleNamespace(value_low=LOW, value_high=HIGH, sigma_ratio=0.75, kappa=1.0)
INSIDE = np.linspace(LOW, HIGH, 997)


def test_support_is_of_centres_from_low_to_high():
    np.testing.assert_allclose(Z, LOW + WIDTH * np.arange(BINS), atol=1e-5)


def test_a_value_is_the_mean_over_the_bins_of_one_hot_and_of_any_logits(rng=np.random.default_rng(0)):
    one_hot = np.where(np.eye(BINS), 0.0, -np.inf)
    np.testing.assert_allclose(heads.mean(jnp.asarray(one_hot), Z), Z, atol=1e-6)
    logits = rng.normal(size=(7, BINS))
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(heads.mean(jnp.asarray(logits), Z), p @ np.asarray(Z), atol=1e-5)


@pytest.mark.parametrize("make", [heads.two_hot, lambda y, z: heads.hl_gauss(y, z, 0.75)], ids=["two_hot", "hl_gauss"])
def test_targets_are_distributions_anywhere(make):
    y = np.concatenate([INSIDE, [LOW, HIGH, LOW - 3.0, HIGH + 3.0, -1e6, 1e6]]).astype(np.float32)
    p = np.asarray(make(jnp.asarray(y), Z))
    assert (p >= 0.0).all() and np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(-1), 1.0, atol=1e-6)


def test_the_mean_of_two_hot_is_the_target_clipped():
    y = np.concatenate([INSIDE, [-17.0, 12.5]])
    np.testing.assert_allclose(heads.two_hot(jnp.float32(y), Z) @ Z, np.clip(y, LOW, HIGH), atol=1e-5)
    with jax.enable_x64(True):
        z = heads.support(LOW, HIGH, BINS)
        np.testing.assert_allclose(heads.two_hot(jnp.asarray(y), z) @ z, np.clip(y, LOW, HIGH), atol=1e-6 * WIDTH)


def test_hl_gauss_is_of_a_normal_cut_to_the_bins():
    """Against scipy in float64; and no more biased than the specification's table says."""
    y = np.concatenate([INSIDE, [-11.0, 10.4]])
    edges, sigma = LOW + WIDTH * (np.arange(BINS + 1) - 0.5), 0.75 * WIDTH
    cdf = stats.norm.cdf(edges, np.clip(y, LOW, HIGH)[:, None], sigma)
    expected = np.diff(cdf) / (cdf[:, -1:] - cdf[:, :1])
    with jax.enable_x64(True):
        z = heads.support(LOW, HIGH, BINS)
        np.testing.assert_allclose(heads.hl_gauss(jnp.asarray(y), z, 0.75), expected, atol=1e-9)
    found = np.asarray(heads.hl_gauss(jnp.float32(y), Z, 0.75))
    np.testing.assert_allclose(found, expected, atol=2e-6)

    bias = np.abs(np.asarray(found[: len(INSIDE)] @ np.asarray(Z)) - INSIDE) / WIDTH
    near = np.minimum(INSIDE - LOW, HIGH - INSIDE) / sigma
    for at_least, bound in ((0.0, 0.375), (1.0, 0.09), (2.0, 0.0097), (3.0, 5e-4)):
        assert bias[near >= at_least].max() <= bound
    assert bias.max() > 0.3  # which is why a support should be wider than the values


def test_the_ratio_narrows_hl_gauss_to_one_bin_and_spreads_it_over_six():
    y = jnp.float32(INSIDE[200:-200])
    assert np.sort(heads.hl_gauss(y, Z, 0.75), axis=-1)[:, -6:].sum(-1).min() > 0.999
    off = np.abs(np.asarray(y) / WIDTH % 1.0 - 0.5) > 0.01  # not on an edge
    np.testing.assert_allclose(np.asarray(heads.hl_gauss(y, Z, 1e-3))[off].max(-1), 1.0, atol=1e-6)


def floor_and_ceil(atoms, share, low, high, num_bins):
    """C51's projection as in its Alg. 1, the mass of atoms on a bin put right."""
    width = (high - low) / (num_bins - 1)
    found = np.zeros((len(atoms), num_bins))
    for row, (ys, qs) in enumerate(zip(atoms, share, strict=True)):
        for y, q in zip(ys, qs, strict=True):
            b = (np.clip(y, low, high) - low) / width
            lower, upper = int(np.floor(b + 1e-9)), int(np.ceil(b - 1e-9))
            if lower == upper:
                found[row, lower] += q
            else:
                found[row, lower] += q * (upper - b)
                found[row, upper] += q * (b - lower)
    return found


@pytest.mark.parametrize("num_bins", [11, 51])
def test_c51_projects_as_its_algorithm(num_bins):
    rng = np.random.default_rng(num_bins)
    z = np.linspace(LOW, HIGH, num_bins)
    reward, gamma = rng.normal(0.0, 4.0, 1000), rng.uniform(size=1000)
    reward[:50], gamma[:50] = z[rng.integers(num_bins, size=50)], 1.0  # atoms fall on bins
    terminated = rng.random(1000) < 0.2
    share = rng.dirichlet(np.ones(num_bins), 1000)
    atoms = reward[:, None] + (gamma * ~terminated)[:, None] * z
    found = np.asarray(heads.project(*map(jnp.asarray, (atoms, share, z))))
    np.testing.assert_allclose(found, floor_and_ceil(atoms, share, LOW, HIGH, num_bins), atol=2e-5)
    np.testing.assert_allclose(found.sum(-1), 1.0, atol=1e-5)
    np.testing.assert_allclose(found[terminated], heads.two_hot(*map(jnp.asarray, (reward[terminated], z))), atol=1e-5)
    whole = (atoms.min(-1) >= LOW) & (atoms.max(-1) <= HIGH)
    assert whole.sum() > 20
    np.testing.assert_allclose(found[whole] @ z, (atoms * share).sum(-1)[whole], atol=1e-4)


def test_the_gradient_of_the_cross_entropy_is_the_difference_of_probabilities():
    logits = jax.random.normal(jax.random.key(0), (5, BINS))
    p = heads.hl_gauss(jnp.linspace(-9.0, 9.0, 5), Z, 0.75)
    by_logits, by_p = jax.grad(lambda *x: heads.cross_entropy(*x).sum(), (0, 1))(logits, p)
    np.testing.assert_allclose(by_logits, jax.nn.softmax(logits) - p, atol=1e-6)
    np.testing.assert_array_equal(by_p, 0.0)


def test_quantile_loss_against_three_loops():
    rng = np.random.default_rng(1)
    theta, atoms = rng.normal(size=(3, 5)), rng.normal(size=(3, 7))
    share, tau = rng.dirichlet(np.ones(7), 3), rng.random((3, 5))
    for kappa in (1.0, 0.1, 0.0):
        expected = np.zeros(3)
        for b in range(3):
            for i in range(5):
                for j in range(7):
                    u = atoms[b, j] - theta[b, i]
                    inside = 0.5 * u**2 if abs(u) <= kappa else kappa * (abs(u) - 0.5 * kappa)
                    size = inside / kappa if kappa else abs(u)
                    expected[b] += share[b, j] * abs(tau[b, i] - (u < 0)) * size
        np.testing.assert_allclose(
            heads.quantile_loss(*map(jnp.asarray, (theta, tau, atoms, share)), kappa), expected, rtol=1e-5
        )


def test_what_minimises_the_quantile_loss_are_the_quantiles():
    """Of an asymmetric sample, so that tau on the wrong axis would be seen."""
    sample = jnp.exp(jax.random.normal(jax.random.key(2), (1000,)))
    tau, share = heads.midpoints(9), jnp.full((1000,), 1e-3)
    loss = lambda theta: heads.quantile_loss(theta, tau, sample, share, 0.0)  # noqa: E731

    def step(theta, rate):
        return theta - rate * jax.grad(loss)(theta), None

    theta, _ = jax.lax.scan(step, jnp.ones(9), jnp.geomspace(1.0, 1e-3, 3000))
    np.testing.assert_allclose(theta, np.quantile(sample, tau), atol=1e-2)


def test_terminated_and_mixed_distributions():
    head = heads.Head("c51", BINS)
    out = jax.random.normal(jax.random.key(3), (4, 3, BINS))  # of three actions
    weight = jax.nn.softmax(jax.random.normal(jax.random.key(4), (4, 3)))
    of_each = head.atoms(out, HYPER)
    mixed = of_each.mixed(weight)
    assert mixed.at.shape == (4, 3 * BINS)
    np.testing.assert_allclose(mixed.share.sum(-1), 1.0, atol=1e-6)
    np.testing.assert_allclose((mixed.at * mixed.share).sum(-1), (weight * head.value(out, HYPER)).sum(-1), atol=1e-5)


@pytest.mark.parametrize("kind", heads.HEADS)
def test_a_head_fits_numbers(kind):
    """Descending its loss leads its value to the target, and the loss is no less anywhere near."""
    head = heads.Head(kind, 1 if kind == "scalar" else BINS)
    y, out = jnp.array([-3.3, 0.0, 7.1]), jnp.zeros((3, head.size))
    squared = lambda v, y: 0.5 * (v - y) ** 2  # noqa: E731
    loss = lambda out: head.loss(out, y, HYPER, squared).sum()  # noqa: E731
    rate = {"scalar": 0.1, "quantile": 0.5, "mean": 0.5}.get(kind, 1.0)
    out, _ = jax.lax.scan(lambda out, _: (out - rate * jax.grad(loss)(out), None), out, length=3000)
    np.testing.assert_allclose(head.value(out, HYPER), y, atol=0.06)


def test_supports_are_traced():
    y = jnp.linspace(-3.0, 3.0, 5)
    ends = jnp.array([[-4.0, 4.0], [-10.0, 10.0], [0.0, 1.0]])
    found = jax.vmap(lambda end: heads.hl_gauss(y, heads.support(*end, 11), 0.75))(ends)
    for one, end in zip(found, ends, strict=True):
        np.testing.assert_allclose(one, heads.hl_gauss(y, heads.support(*end, 11), 0.75), atol=1e-6)


def test_the_share_of_what_is_clipped():
    y = jnp.array([-11.0, 0.0, 3.0, 10.5])
    assert float(heads.Head("hl_gauss", BINS).metrics(y, HYPER)["value/clipped"]) == 0.5
    assert not heads.Head("quantile", BINS).metrics(y, HYPER)
    at = jnp.array([[-11.0, 0.0], [0.0, 0.0]])
    target = heads.Atoms(at, jnp.array([[0.25, 0.75], [0.5, 0.5]]))
    assert float(heads.Head("c51", 2).metrics(target, HYPER)["value/clipped"]) == 0.125


def test_of_several_critics_the_one_with_the_least_mean():
    out = jax.random.normal(jax.random.key(5), (2, 6, BINS))
    value = heads.mean(out, Z)
    found = heads.least(out, value)
    np.testing.assert_allclose(heads.mean(found, Z), value.min(0), rtol=1e-6)


def test_a_target_is_of_the_least_critic():
    out = jax.random.normal(jax.random.key(6), (2, 6, BINS))
    reward, discount = jnp.arange(6.0), jnp.linspace(0.0, 1.0, 6)
    expected = reward + discount * heads.mean(out, Z).min(0)
    np.testing.assert_allclose(heads.Head("hl_gauss", BINS).target(out, reward, discount, HYPER), expected, rtol=1e-5)
    at, share = heads.Head("c51", BINS).target(out, reward, discount, HYPER)
    np.testing.assert_allclose((at * share).sum(-1), expected, rtol=1e-4)
    at, share = heads.Head("quantile", BINS).target(out, reward, discount, HYPER)
    np.testing.assert_allclose((at * share).sum(-1), reward + discount * out.mean(-1).min(0), rtol=1e-4, atol=1e-5)
