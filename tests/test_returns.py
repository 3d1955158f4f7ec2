"""Advantages and running returns against plain loops over episodes, written from the equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlzoo.blocks import returns

T, N = 40, 3


@pytest.fixture(scope="module")
def data():
    """Episodes that end by termination, by truncation, and by both at once."""
    rng = np.random.default_rng(0)
    reward, value, next_value = rng.normal(size=(3, T, N))
    terminated, truncated = rng.random((2, T, N)) < 0.15
    assert (terminated & truncated).any() and (terminated & ~truncated).any() and (truncated & ~terminated).any()
    return reward, terminated, truncated, value, next_value


def gae_by_episode(reward, terminated, truncated, value, next_value, gamma, lam):
    """Eq. 16 as a sum, each episode alone: A_t = sum_k (gamma lambda)^k delta_{t+k} up to the episode's end."""
    out = np.zeros((T, N))
    for n in range(N):
        for t in range(T):
            weight = 1.0
            for k in range(t, T):
                bootstrap = 0.0 if terminated[k, n] else gamma * next_value[k, n]
                out[t, n] += weight * (reward[k, n] + bootstrap - value[k, n])
                if terminated[k, n] or truncated[k, n]:
                    break
                weight *= gamma * lam
    return out


@pytest.mark.parametrize(("gamma", "lam"), [(0.99, 0.95), (0.9, 0.5), (0.9, 0.0), (0.9, 1.0), (1.0, 1.0)])
def test_gae_is_the_sum_over_each_episode(data, gamma, lam):
    found = jax.jit(returns.gae)(*map(jnp.asarray, data), gamma, lam)
    np.testing.assert_allclose(found, gae_by_episode(*data, gamma, lam), rtol=1e-4, atol=1e-5)


def test_lambda_zero_is_the_one_step_error(data):
    reward, terminated, _, value, next_value = data
    found = returns.gae(*map(jnp.asarray, data), 0.9, 0.0)
    np.testing.assert_allclose(found, reward + 0.9 * (1 - terminated) * next_value - value, rtol=1e-5, atol=1e-6)


def test_lambda_one_is_the_longest_return_less_the_value(data):
    """With lambda = 1 the values inside an episode cancel: discounted rewards to its end, and the bootstrap there.

    Inside an episode V(next_obs_t) is V(obs_{t+1}), as it is for real experience.
    """
    reward, terminated, truncated, value, next_value = (x.copy() for x in data)
    inside = ~(terminated | truncated)[:-1]
    next_value[:-1][inside] = value[1:][inside]
    found = np.asarray(returns.gae(*map(jnp.asarray, (reward, terminated, truncated, value, next_value)), 0.9, 1.0))
    for n in range(N):
        for t in range(T):
            total, discount = 0.0, 1.0
            for k in range(t, T):
                total += discount * reward[k, n]
                discount *= 0.9
                if terminated[k, n] or truncated[k, n] or k == T - 1:
                    total += 0.0 if terminated[k, n] else discount * next_value[k, n]
                    break
            assert found[t, n] == pytest.approx(total - value[t, n], abs=1e-4)


def test_running_return_restarts_with_each_episode(data):
    reward, terminated, truncated, _, _ = data
    done, start = terminated | truncated, np.array([1.0, -2.0, 0.5])
    expected, total = np.zeros((T, N)), start.copy()
    for t in range(T):
        expected[t] = total = 0.9 * total + reward[t]
        total = np.where(done[t], 0.0, total)
    last, found = returns.running_return(jnp.asarray(start), jnp.asarray(reward), jnp.asarray(done), 0.9)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(last, total, rtol=1e-5, atol=1e-6)


def test_wrong_shapes_are_refused(data):
    from jaxtyping import TypeCheckError

    reward, terminated, truncated, value, next_value = map(jnp.asarray, data)
    with pytest.raises(TypeCheckError):
        returns.gae(reward[:-1], terminated, truncated, value, next_value, 0.9, 0.9)


@pytest.mark.parametrize(
    ("bootstrap", "answer"), [(10.0, [9.91, 9.9, 11.0]), (0.0, [2.62, 1.8, 2.0])], ids=["goes-on", "terminated"]
)
def test_n_step_returns_by_hand(bootstrap, answer):
    """Check 5 of A3C, with two steps behind the end that were not taken."""
    reward = jnp.array([1.0, 0.0, 2.0, 50.0, 70.0])
    taken = jnp.array([True, True, True, False, False])
    found = returns.n_step(reward, taken, jnp.float32(bootstrap), 0.9)
    np.testing.assert_allclose(found[:3], answer, rtol=1e-6)
    np.testing.assert_allclose(found[3:], bootstrap)
