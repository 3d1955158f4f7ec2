"""Trajectories that are drawn more often: trajectory_weighting.md, section 6."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_same_bits, plane, plane_dataset

import rlzoo
from rlzoo import bc, cdsa, iql, prdc, td3_bc
from rlzoo.data import About, Dataset, mix, weighted
from rlzoo.data.dataset import OfflineTask, draw_rows, pieces_of

KEY = jax.random.key(0)


def of_lengths(lengths, returns, starts=None, env="own/plane"):
    """Trajectories of so many rows, whose reward comes at the end."""
    rows = sum(lengths)
    last = np.zeros(rows, bool)
    ends = np.cumsum(lengths) - 1
    last[ends] = True
    reward = np.zeros(rows, np.float32)
    reward[ends] = returns
    obs = np.random.default_rng(0).normal(size=(rows, 2)).astype(np.float32)
    if starts is not None:
        obs[ends + 1 - np.array(lengths)] = starts
    arrays = (obs, np.zeros((rows, 2), np.float32), reward, obs, np.zeros(rows, bool), last)
    return Dataset(*map(jnp.asarray, arrays), about=About("made", env, 0.0, 1.0))


def masses(dataset):
    """Of each trajectory."""
    return np.add.reduceat(np.asarray(dataset.weight, np.float64), np.r_[0, dataset.ends()[:-1] + 1])


def test_weights_are_probabilities_and_long_trajectories_have_more():
    for by in ("return", "advantage", "top"):
        made = weighted(of_lengths([2, 8, 5], [1.0, 3.0, 2.0]), by, share=0.7)
        assert float(made.weight.sum()) == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(masses(weighted(of_lengths([2, 8], [1.0, 1.0]), "return")), [0.2, 0.8], rtol=1e-6)
    scores = np.exp(np.array([0.0, 1.0, 0.5]) / 0.1)
    expected = np.array([2, 8, 5]) * scores
    found = masses(weighted(of_lengths([2, 8, 5], [1.0, 3.0, 2.0]), "return"))
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-5)


def test_the_temperature_leads_from_uniform_to_the_best_alone():
    data = of_lengths([2, 8, 5], [1.0, 3.0, 2.0])
    np.testing.assert_allclose(weighted(data, "return", alpha=np.inf).weight, 1.0 / 15.0, rtol=1e-6)
    np.testing.assert_allclose(weighted(data, "return", alpha=1e6).weight, 1.0 / 15.0, rtol=1e-4)
    np.testing.assert_allclose(masses(weighted(data, "return", alpha=1e-4)), [0.0, 1.0, 0.0], atol=1e-6)


def test_advantages_leave_out_what_the_start_explains():
    rng = np.random.default_rng(1)
    starts, noise = rng.normal(size=(30, 2)), rng.normal(size=30)
    lengths = rng.integers(2, 9, 30).tolist()
    plain, shifted = (of_lengths(lengths, noise + slope * starts @ [5.0, -3.0], starts) for slope in (0.0, 1.0))
    np.testing.assert_allclose(weighted(plain).weight, weighted(shifted).weight, rtol=1e-3)
    ratio = np.asarray(weighted(plain, "return").weight) / np.asarray(weighted(shifted, "return").weight)
    assert ratio.max() > 2.0
    inputs = np.column_stack([np.float32(starts), np.ones(30)]).astype(np.float64)
    returns = shifted.episode_returns()
    advantage = returns - inputs @ np.linalg.lstsq(inputs, returns, rcond=None)[0]
    score = (advantage - advantage.min()) / (advantage.max() - advantage.min())
    expected = np.array(lengths) * np.exp(score / 0.1)
    np.testing.assert_allclose(masses(weighted(shifted)), expected / expected.sum(), rtol=1e-4)
    same = of_lengths(lengths, noise, np.ones((30, 2)))  # of no rank: the mean alone
    np.testing.assert_allclose(weighted(same).weight, weighted(same, "return").weight, rtol=1e-4)


def test_rows_are_drawn_by_their_weights():
    lengths = [3, 1, 7, 4, 6]
    data = weighted(of_lengths(lengths, [0.0, 1.0, 0.4, 0.2, 0.9]), "return", alpha=0.5)
    task = OfflineTask(None, None, pieces_of(data.weight))
    rows = np.asarray(draw_rows(task, KEY, (1000, 1000))).ravel()
    p = np.asarray(data.weight, np.float64)
    error = np.sqrt(p * (1.0 - p) / rows.size)
    assert (np.abs(np.bincount(rows, minlength=len(p)) / rows.size - p) <= 4.0 * error).all()


def test_the_best_share_is_drawn_uniformly():
    returns = np.arange(23.0)
    data = weighted(of_lengths([2] * 23, returns), "top", share=0.2)
    np.testing.assert_array_equal(masses(data) > 0.0, returns >= 19.0)  # the floor of 4.6
    np.testing.assert_allclose(masses(data)[-4:], 0.25, rtol=1e-6)
    task = OfflineTask(None, None, pieces_of(data.weight))
    assert (np.asarray(draw_rows(task, KEY, (10_000,))) >= 38).all()


@pytest.mark.parametrize("module", [bc, td3_bc, iql, prdc], ids=lambda module: module.__name__.rpartition(".")[2])
def test_every_offline_algorithm_draws_by_weights(module):
    """Of one trajectory alone is as of the data without the others; of equal weights it is another draw of the same."""
    data, env = plane_dataset(), plane()
    first = int(data.ends()[0]) + 1
    only = data.replace(weight=jnp.where(jnp.arange(data.num_rows) < first, 1.0 / first, 0.0))
    config = module.Config(batch_size=16, hidden=(8,))
    algos = [module.make(env, config, x) for x in (data, only)]
    states = [rlzoo.train(algo, KEY, 2)[0] for algo in algos]
    assert any((np.asarray(a) != np.asarray(b)).any() for a, b in zip(*map(jax.tree.leaves, states), strict=True))
    rows = draw_rows(algos[1].task, KEY, (1000,))
    assert set(np.asarray(rows)) == set(range(first))
    assert_same_bits(algos[0].task.moments, algos[1].task.moments)
    sweep = rlzoo.sweep(algos[1])
    assert np.isfinite(jax.tree.leaves(rlzoo.train(sweep, KEY[None], 2)[0].params)[0]).all()


def test_mixtures():
    good, bad = of_lengths([4] * 5, [9.0] * 5), of_lengths([5] * 20, [1.0] * 20)
    both = mix(good, bad, 0.1)
    assert both.num_rows == 100 and both.episode_returns().max() == 9.0
    np.testing.assert_array_equal(both.obs[:10], good.obs[:10])
    np.testing.assert_array_equal(both.obs[10:], bad.obs[:90])
    assert both.ends()[2] == 9 and both.about.name == "made-made-10%"
    for share, said in ((0.0, "share=0.0 of 100 rows is 0"), (0.5, "of the 20 that the good data have")):
        with pytest.raises(ValueError, match=said):
            mix(good, bad, share)


def test_bad_input(tmp_path):
    data = of_lengths([2, 3], [0.0, 1.0])
    for options, said in (
        ({"by": "advantge"}, "unknown by 'advantge'; did you mean 'advantage'"),
        ({"alpha": 0.0}, "alpha=0.0; it must be above 0"),
        ({"by": "top", "share": 0.1}, "share=0.1 of 2 trajectories is none"),
    ):
        with pytest.raises(ValueError, match=said):
            weighted(data, **options)
    made = weighted(data)
    with pytest.raises(ValueError, match="rows' weights are not saved"):
        rlzoo.data.save(tmp_path / "x", made)
    with pytest.raises(ValueError, match="put the datasets together first"):
        rlzoo.data.concatenate(made, made)
    with pytest.raises(ValueError, match="cdsa: its score is of the data's density"):
        cdsa.make(plane(), cdsa.Config(), weighted(plane_dataset()))
