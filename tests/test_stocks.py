"""Returns that carry a stock: stock_augmented.md, section 6."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, train_long

import rlzoo
from rlzoo import dqn
from rlzoo.blocks import replay, stocks
from rlzoo.envs import risky_tree

KEY = jax.random.key(3)
PLAIN = rlzoo.envs.make("gymnax/CartPole-v1")


def test_a_stock_and_what_is_still_to_come_are_what_was_wanted_all_along(gamma=0.9):
    """c_0 + sum gamma^t r = gamma^t (c_t + G_t) at every t, in float64 and in the environment's own numbers."""
    rewards = np.random.default_rng(0).normal(size=20)
    c, total = 1.5, 1.5 + (0.9 ** np.arange(20)) @ rewards
    for t, r in enumerate(rewards):
        rest = (0.9 ** np.arange(20 - t)) @ rewards[t:]
        assert 0.9**t * (c + rest) == pytest.approx(total, rel=1e-6)
        c = (c + r) / 0.9

    env = rlzoo.envs.stock(PLAIN, gamma, -2.0, 2.0)
    obs, state = env.reset(KEY, env.params)
    start = float(obs.stock[0])
    assert -2.0 <= start <= 2.0 and obs.vector[-1] == obs.stock[0] / 2.0
    c, growth = start, 1.0
    step = jax.jit(env.step)
    for t in range(40):
        state, now = step(jax.random.key(t), state, 1, env.params)
        c, growth = (c + float(now.reward)) / gamma, growth / gamma
        np.testing.assert_allclose(now.next_obs.stock, [c, start * growth, growth, 2.0], rtol=1e-4)
        if now.terminated:
            break
    assert now.terminated and now.obs.stock[2] == 1.0 and now.obs.stock[0] != now.next_obs.stock[0]
    np.testing.assert_array_equal(now.obs.stock[0], now.obs.stock[1])
    plain_state = PLAIN.reset(KEY, PLAIN.params)
    assert plain_state[0].shape == (4,) and now.next_obs.vector.shape == (5,)


def test_observations_of_every_kind_get_one():
    images = rlzoo.envs.stock(rlzoo.envs.make("gymnax/Breakout-MinAtar"), 1.0, 0.0, 10.0)
    obs, _ = images.reset(KEY, images.params)
    assert obs.image.dtype == bool and obs.vector.shape == (1,) and images.obs_space.image.shape == obs.image.shape
    assert images.obs_space.vector.shape == (1,) and images.name == "gymnax/Breakout-MinAtar stock"
    with pytest.raises(ValueError, match="has a stock already"):
        rlzoo.envs.stock(images)
    with pytest.raises(ValueError, match=r"wrap the other way: stock\(stochastic\(env\)\)"):
        rlzoo.envs.stochastic(images, 0.1)
    noisy = rlzoo.envs.stock(rlzoo.envs.stochastic(PLAIN, reward_noise=1.0), 1.0)
    _, state = noisy.reset(KEY, noisy.params)
    _, now = noisy.step(KEY, state, 1, noisy.params)
    assert now.next_obs.stock[0] == now.reward != 1.0
    for given, said in (
        ({"low": 1.0, "high": 0.0}, "low=1.0, high=0.0"),
        ({"gamma": 0.0}, "gamma=0.0; it must be above 0"),
        ({"gamma": 0.8}, "below 1e30; prefer 1"),
        ({"scale": 0.0}, "scale=0.0; it must be positive"),
    ):
        with pytest.raises(ValueError, match=said):
            rlzoo.envs.stock(PLAIN, **given)


def test_cvar_is_the_largest_over_stocks_and_at_minus_the_quantile():
    sample = np.random.default_rng(1).gamma(2.0, size=1000)
    for share in (0.1, 0.5):
        grid = jnp.linspace(-6.0, 0.0, 3001)
        objective = stocks.utility("cvar", grid[:, None] + sample, share, 0.0).mean(-1) - grid
        worst = np.sort(sample)[: int(share * 1000)]
        assert float(objective.max()) == pytest.approx(worst.mean(), abs=1e-2)
        found = stocks.best_start(grid, (objective + grid)[:, None])
        assert float(found) == pytest.approx(-np.quantile(sample, share), abs=2e-2)
        both = stocks.utility("mean_cvar", grid[:, None] + sample, share, 0.3).mean(-1) - grid
        assert float(both.max()) == pytest.approx(0.3 * sample.mean() + 0.7 * worst.mean(), abs=1e-2)
    neutral = stocks.utility("cvar", grid[:, None] + sample, 1.0, 0.0).mean(-1) - grid
    assert float(stocks.best_start(grid, (neutral + grid)[:, None])) <= -np.minimum(sample.max(), 6.0) + 2e-2


def test_utilities():
    x = jnp.array([-2.0, 0.0, 3.0])
    for name, expected in (
        ("mean", [-2.0, 0.0, 3.0]),
        ("cvar", [-8.0, 0.0, 0.0]),
        ("mean_cvar", [0.25 * -2 + 0.75 * -8, 0.0, 0.75]),
        ("target", [-2.0, 0.0, -3.0]),
        ("quadratic", [-4.0, 0.0, -9.0]),
        ("threshold", [0.0, 1.0, 1.0]),
    ):
        np.testing.assert_allclose(stocks.utility(name, x, 0.25, 0.25), expected)


def test_homogeneous_utilities_order_actions_alike_at_any_scale():
    theta, c = jax.random.normal(KEY, (50, 3, 8)), jax.random.normal(jax.random.key(4), (50, 1, 1))
    best = lambda name, theta, c: stocks.utility(name, c + theta, 0.3, 0.2).mean(-1).argmax(-1)  # noqa: E731
    for name in stocks.OBJECTIVES:
        for k in (0.1, 7.0):
            np.testing.assert_array_equal(best(name, k * theta, k * c), best(name, theta, c))
    moved = [best(name, theta, 7.0 * c) for name in ("threshold", "cvar")]  # of the stock alone it is another problem
    assert (np.asarray(moved[0]) != np.asarray(best("threshold", theta, c))).any()


def test_edited_rows_keep_all_but_the_stock():
    gamma = 0.9
    env = rlzoo.envs.stock(PLAIN, gamma, -2.0, 2.0)
    algo = dqn.make(env, dqn.Config(warmup=200, batch_size=8), dqn.Hyper(gamma=gamma))
    buffer = rlzoo.init(algo, KEY).replay
    for n in (1, 3):
        batch = replay.take_steps(buffer, jnp.arange(100), n, 1, gamma)
        c = jax.random.normal(KEY, (100,))
        edited = stocks.renewed(batch, c)
        for field in ("action", "reward", "discount"):
            np.testing.assert_array_equal(getattr(edited, field), getattr(batch, field))
        for before, after in ((batch.obs, edited.obs), (batch.next_obs, edited.next_obs)):
            np.testing.assert_array_equal(before.vector[:, :-1], after.vector[:, :-1])
            np.testing.assert_allclose(after.vector[:, -1] * 2.0, after.stock[:, 0], rtol=1e-6)
        steps = np.log(edited.next_obs.stock[:, 2] / edited.obs.stock[:, 2]) / np.log(1 / gamma)
        np.testing.assert_allclose(stocks.amount(edited.obs), c, rtol=1e-6)
        expected = (c + batch.reward) / gamma ** np.round(steps)
        np.testing.assert_allclose(stocks.amount(edited.next_obs), expected, rtol=1e-4, atol=1e-5)
        same = stocks.renewed(batch, stocks.amount(batch.obs))
        np.testing.assert_allclose(stocks.amount(same.next_obs), stocks.amount(batch.next_obs), rtol=1e-4, atol=1e-4)


def test_an_episode_as_if_it_had_begun_with_another_stock():
    env = rlzoo.envs.stock(PLAIN, 0.95, -2.0, 2.0)
    _, state = env.reset(KEY, env.params)
    other_state = state._replace(amount=jnp.float32(1.25), start=jnp.float32(1.25))
    for t in range(3):
        state, now = env.step(jax.random.key(t), state, 1, env.params)
        other_state, other = env.step(jax.random.key(t), other_state, 1, env.params)
    moved = stocks.had_it_begun(now.obs, jnp.float32(1.25))
    np.testing.assert_allclose(stocks.amount(moved), stocks.amount(other.obs), rtol=1e-5)
    np.testing.assert_allclose(moved.vector, other.obs.vector, rtol=1e-5)
    assert_close(stocks.had_it_begun(now.obs, jnp.float32(jnp.nan)), now.obs, rtol=1e-6)


SMALL = {"num_envs": 2, "num_steps": 2, "batch_size": 16, "capacity": 64, "warmup": 32, "hidden": (16,), "num_bins": 8}


def test_the_mean_orders_actions_whatever_the_stock():
    theta = jax.random.normal(KEY, (50, 3, 8))
    for c in (-4.0, 0.0, 9.0):
        best = stocks.utility("mean", c + theta, 0.3, 0.2).mean(-1).argmax(-1)
        np.testing.assert_array_equal(best, theta.mean(-1).argmax(-1))
    best = [stocks.utility("cvar", c + theta, 0.3, 0.2).mean(-1).argmax(-1) for c in (-4.0, 0.0)]
    assert (np.asarray(best[0]) != np.asarray(best[1])).any()


def test_sweeping_the_initial_stock_equals_separate_runs():
    env = rlzoo.envs.stock(PLAIN, 1.0, -5.0, 5.0)
    algo = dqn.make(env, dqn.Config(**SMALL, head="quantile", objective="target"), dqn.Hyper(gamma=1.0))
    starts = jnp.array([-3.0, 0.0, 2.0])
    runs = rlzoo.sweep(algo, task=env.params._replace(low=starts, high=starts))
    swept, _ = rlzoo.train(runs, KEY[None], 5)
    for i, start in enumerate(starts):
        alone = algo._replace(task=env.params._replace(low=start, high=start))
        state, _ = rlzoo.train(alone, KEY, 5)
        assert_close(rlzoo.lane(swept, i, 0).params, state.params, rtol=1e-4, atol=1e-6)
        first = state.replay.obs.stock[np.asarray(state.replay.obs.stock[:, 2]) == 1.0]
        np.testing.assert_allclose(first[:, 1], np.where(first[:, 3] == 0.0, 0.0, float(start)), atol=1e-6)


def test_the_trees_optimum_needs_the_stock():
    params, risk = risky_tree.make().params, 0.6
    knowing, policy = risky_tree.best(params, risk)
    assert policy == (1, 0) and knowing == pytest.approx(1.25 / 0.6)
    assert risky_tree.best(params, risk, knows=False)[0] == pytest.approx(1.0 / 0.6)
    assert risky_tree.best(params, 0.999)[1] == (1, 1)  # for the mean


def test_the_learned_policy_attains_the_trees_optimum():
    """CVaR within 2% of what enumeration finds best, which no policy without the stock attains."""
    plain, risk = rlzoo.envs.make("rlzoo/RiskyTree-v0"), 0.6
    env = rlzoo.envs.stock(plain, 1.0, -8.0, 4.0)
    config = dqn.Config(
        num_envs=32,
        num_steps=2,
        num_updates=4,
        batch_size=128,
        capacity=8192,
        warmup=1024,
        hidden=(64, 64),
        head="quantile",
        num_bins=32,
        objective="cvar",
    )
    numbers = {"learning_rate": 1e-3, "adam_eps": 1e-5, "tau": 0.02, "gamma": 1.0, "epsilon": 0.3, "kappa": 0.1}
    hyper = dqn.Hyper(**numbers, risk=risk, stock_low=-8.0, stock_high=4.0)
    algo = dqn.make(env, config, hyper)
    state, _ = train_long(algo, KEY, 800)
    best, policy = risky_tree.best(plain.params, risk)
    start = float(state.acting.stock)
    seen = stocks.beside(jnp.ones((2, 1)), start + jnp.array([0.0, 4.0]), jnp.full(2, start), jnp.ones(2), 8.0)
    assert tuple(np.asarray(algo.policy(algo.actor(state), seen, KEY, deterministic=True))) == policy
    assert -5.5 < start < -3.0  # minus the best policy's quantile

    returns = np.sort(rlzoo.evaluate(algo, env, state, jax.random.key(1), 40_000).returns)
    assert returns[: int(risk * 40_000)].mean() == pytest.approx(best, rel=0.02)
    assert best > 1.2 * risky_tree.best(plain.params, risk, knows=False)[0]


@pytest.mark.parametrize(
    "objective",
    ["mean_cvar", "threshold", *[pytest.param(x, marks=pytest.mark.slow) for x in ("cvar", "target", "quadratic")]],
)
def test_every_objective_trains(objective):
    env = rlzoo.envs.stock(PLAIN, 1.0, -5.0, 5.0)
    head = "iqn" if objective == "mean_cvar" else "quantile"
    config = dqn.Config(**SMALL, head=head, num_taus=(4, 4, 4), objective=objective)
    _, metrics = rlzoo.train(dqn.make(env, config, dqn.Hyper(gamma=1.0)), KEY, 3)
    assert all(np.isfinite(x).all() for x in metrics.values())
    assert ("policy/stock" in metrics) == (objective in stocks.FROM_BEST)
