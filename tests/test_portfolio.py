"""The example of an own environment: its accounting by hand, and that agents follow the tax."""

import runpy
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rlzoo

FOLDER = Path(__file__).parent.parent / "experiments" / "portfolio"
sys.path.insert(0, str(FOLDER))
from market import ESG, NUM_ASSETS, Market  # noqa: E402

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def env():
    return rlzoo.envs.make(Market())


def test_one_step_by_hand(env):
    params = env.params.replace(tax=0.01, cost=0.02, volatility=0.03)
    _, state = env.reset(KEY, params)
    before = np.asarray(state.weights, float)
    action = jnp.array([1.0, -1.0, 0.0, 0.5, -0.5])
    after, now = env.step(KEY, state, action, params)
    weights = np.exp(2.0 * np.asarray(action, float))
    weights /= weights.sum()
    log_return = 0.03 * np.asarray(now.next_obs[-NUM_ASSETS:], float)  # the newest row of the window
    wealth = (weights * np.exp(log_return)).sum() * (1 - 0.02 * np.abs(weights - before).sum())
    assert float(now.reward) == pytest.approx(np.log(wealth) + 0.01 * (weights * np.asarray(ESG)).sum(), rel=1e-4)
    drifted = weights * np.exp(log_return) / (weights * np.exp(log_return)).sum()
    np.testing.assert_allclose(after.weights, drifted, rtol=1e-5)
    assert not now.terminated


def test_a_year_ends_by_truncation_and_weights_stay_on_the_simplex(env):
    obs, state = env.reset(KEY, env.params)

    def one(state, key):
        state, now = env.step(key, state, env.action_space.sample(key), env.params)
        return state, now

    _, now = jax.lax.scan(one, state, jax.random.split(KEY, 200))
    assert np.flatnonzero(now.truncated).tolist() == [99, 199] and not now.terminated.any()
    np.testing.assert_allclose(now.obs[:, :NUM_ASSETS].sum(1), 1.0, rtol=1e-5)
    assert obs.shape == env.obs_space.shape


@pytest.mark.slow
def test_the_tax_raises_the_score_of_what_is_held(env, monkeypatch, capsys, tmp_path):
    """The script itself, with a small budget: its table of ESG scores rises with the tax, for both algorithms."""
    tables = {}
    monkeypatch.setattr(rlzoo.report, "table", lambda title, rows: tables.update({title: rows}))
    monkeypatch.setattr(sys, "argv", ["train.py", "--steps", "20000", "--seeds", "2"])
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(FOLDER / "train.py"))
    for name in ("A2C", "PPO"):
        scores = [x.mean() for x in tables[f"{name} on the portfolio: ESG score in %"].values()]
        assert (np.diff(scores) > 0.0).all() and scores[-1] > scores[0] + 2.0
        assert len(list((tmp_path / "runs").glob(f"portfolio_{name.lower()}_*.png"))) == 2
