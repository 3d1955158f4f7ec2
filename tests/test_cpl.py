"""CPL: the nine checks of its specification, and one whole update against NumPy."""

from dataclasses import replace

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
    plane,
    plane_preferences,
)
from scipy import stats

import rlzoo
from rlzoo import cpl
from rlzoo.blocks import masks
from rlzoo.data import About
from rlzoo.data.preferences import Preferences
from rlzoo.envs.episodes import with_episodes
from rlzoo.types import Box, Discrete, Env

KEY = jax.random.key(31)
SMALL = cpl.Config(hidden=(5, 4), batch_size=6, dropout=0.25)
HYPER = cpl.Hyper(learning_rate=1e-2, warmup_steps=8.0, alpha=0.4, bias=0.6, bc_coef=0.3, gamma=0.9)


def scores(n=40):
    return jax.random.normal(KEY, (3, n))


def log_sigmoid(x):
    return -np.log1p(np.exp(-np.asarray(x, np.float64)))


# --- losses -----------------------------------------------------------------------------------------------------------


def test_without_bias_it_is_bradley_and_terry():
    first, second, _ = scores()
    label = (scores()[2] > 0).astype(jnp.float32)
    ahead = np.where(label == 1, second - first, first - second)
    np.testing.assert_allclose(cpl.pair_loss(first, second, label, 1.0), -log_sigmoid(ahead), atol=1e-6)
    np.testing.assert_allclose(cpl.pair_loss(first, first, label, 1.0), np.log(2.0), rtol=1e-6)


@pytest.mark.parametrize("bias", [0.3, 0.75, 1.0])
def test_swapping_the_pair_and_ties(bias):
    first, second, _ = scores()
    one, zero, tie = (jnp.full(40, x) for x in (1.0, 0.0, 0.5))
    np.testing.assert_allclose(
        cpl.pair_loss(first, second, one, bias), cpl.pair_loss(second, first, zero, bias), rtol=1e-6
    )
    both = 0.5 * (cpl.pair_loss(first, second, one, bias) + cpl.pair_loss(first, second, zero, bias))
    np.testing.assert_allclose(cpl.pair_loss(first, second, tie, bias), both, rtol=1e-6)


def test_the_bias_prefers_likely_segments():
    """Adding c to every log-probability moves the logit by alpha k c (1 - bias): nothing at bias 1."""
    lp = -jax.random.uniform(KEY, (2, 10, 7))
    label, c, alpha = jnp.ones(10), 0.8, 0.4

    def loss(lp, bias):
        first, second = (cpl.segment_score(x, alpha, 1.0) for x in lp)
        return cpl.pair_loss(first, second, label, bias)

    np.testing.assert_allclose(loss(lp + c, 1.0), loss(lp, 1.0), rtol=1e-5)
    assert (loss(lp + c, 0.5) < loss(lp, 0.5)).all()
    logit = lambda x: np.log(np.expm1(np.asarray(x, np.float64)))  # noqa: E731  softplus^-1
    moved = logit(loss(lp, 0.5)) - logit(loss(lp + c, 0.5))
    np.testing.assert_allclose(moved, alpha * 7 * c * 0.5, rtol=1e-4)


@pytest.mark.parametrize("bias", [0.4, 1.0])
def test_gradients_raise_the_winner_and_lower_the_loser(bias):
    lose, win, _ = scores()
    grads = jax.grad(lambda lose, win: cpl.pair_loss(lose, win, jnp.ones(40), bias).sum(), (0, 1))(lose, win)
    assert (grads[1] < 0).all() and (grads[0] > 0).all()
    np.testing.assert_allclose(grads[0], -bias * grads[1], rtol=1e-5)


def test_all_pairs_of_a_batch():
    """B (B - 1) / 2 terms, whatever the order; two segments are a pair with the hard label; zeros do not count."""
    segment, by, _ = scores(9)
    terms = [
        -log_sigmoid(segment[j] - 0.7 * segment[i]) for i in range(9) for j in range(9) if float(by[i]) < float(by[j])
    ]
    assert len(terms) == 36
    np.testing.assert_allclose(cpl.all_pairs_loss(segment, by, 0.7), np.mean(terms), rtol=1e-5)
    tied = sum(float(-log_sigmoid(segment[j] - 0.7 * segment[i])) for i in range(9) for j in range(i + 1, 9)) / 36
    assert cpl.all_pairs_loss(segment, jnp.zeros(9), 0.7) == pytest.approx(tied, rel=1e-5)  # by place, none left out
    order = jax.random.permutation(KEY, 9)
    np.testing.assert_allclose(
        cpl.all_pairs_loss(segment[order], by[order], 0.7), cpl.all_pairs_loss(segment, by, 0.7), rtol=1e-5
    )
    label = (by[1] > by[0]).astype(jnp.float32)[None]
    pair = cpl.pair_loss(segment[:1], segment[1:2], label, 0.7)[0]
    np.testing.assert_allclose(cpl.all_pairs_loss(segment[:2], by[:2], 0.7), pair, rtol=1e-6)
    far = jnp.array([-500.0, 0.0, 500.0])  # losses that underflow leave the denominator
    assert cpl.all_pairs_loss(far.at[1].set(-500.0), jnp.arange(3.0), 1.0) == pytest.approx(np.log(2.0))


def test_rankings():
    """Plackett and Luce by the definition; of two segments it is the pairs' loss."""
    segment, by = jax.random.normal(KEY, (2, 5, 4))
    wanted = []
    for s, score in zip(np.asarray(segment, np.float64), np.asarray(by), strict=True):
        s = s[np.argsort(-score)]
        wanted.append(-sum(s[i] - np.log(np.exp(s[i:]).sum()) for i in range(4)))
    np.testing.assert_allclose(cpl.ranking_loss(segment, by), wanted, rtol=1e-5)
    label = (by[:, 1] > by[:, 0]).astype(jnp.float32)
    pair = cpl.pair_loss(segment[:, 0], segment[:, 1], label, 1.0)
    np.testing.assert_allclose(cpl.ranking_loss(segment[:, :2], by[:, :2]), pair, rtol=1e-5)


def test_the_proxy_is_a_squared_error_and_discounting_is_inside_of_segments():
    mean, action = jax.random.normal(KEY, (2, 6, 3))
    np.testing.assert_allclose(cpl.proxy_log_prob(mean, action), -((mean - action) ** 2).sum(-1), rtol=1e-6)
    normal = stats.norm(np.asarray(mean), np.sqrt(0.5)).logpdf(np.asarray(action)).sum(-1)  # log N(a; mu, I / 2)
    np.testing.assert_allclose(cpl.proxy_log_prob(mean, action) - 1.5 * np.log(np.pi), normal, rtol=1e-5)
    lp = jax.random.normal(KEY, (2, 3))
    wanted = 0.2 * (lp[:, 0] + 0.5 * lp[:, 1] + 0.25 * lp[:, 2])
    np.testing.assert_allclose(cpl.segment_score(lp, 0.2, 0.5), wanted, rtol=1e-6)


# --- training ---------------------------------------------------------------------------------------------------------


def numpy_segments(task, index):
    return np.asarray(task.obs, np.float64)[index], np.asarray(task.action, np.float64)[index]


@pytest.mark.parametrize("reference", [False, True])
def test_one_update_against_numpy(reference):
    config = replace(SMALL, reference=reference)
    algo = cpl.make(plane(), config, plane_preferences(), HYPER)
    start = cpl.begin(rlzoo.train(algo, KEY, 2)[0], algo)
    start, _ = rlzoo.resume(algo, start, 3)
    start = copy(start)
    after, metrics = rlzoo.resume(algo, copy(start), 1)
    task = algo.task

    _, row_key, mask_key = jax.random.split(start.key, 3)  # the same comparisons and masks
    row = np.asarray(jax.random.randint(jax.random.split(row_key)[0], (6,), 0, 40))
    index = np.concatenate([task.first[row], task.second[row]])
    label = np.asarray(task.label, np.float64)[row]
    assert {0.0, 0.5, 1.0} <= set(label.tolist()), "choose another key"
    obs, action = numpy_segments(task, index)
    keep = np.asarray(masks.keep_bits(mask_key, 0.25, (48, 9)), np.float64)

    def log_prob(params, keep):
        mean = np.tanh(numpy_feed_forward(params["params"], obs.reshape(48, 2), keep, 0.25 if keep is not None else 0))
        return -((mean - action.reshape(48, 2)) ** 2).sum(-1).reshape(12, 4)

    def parts(params):
        lp = log_prob(params, keep)
        cloning = -lp.mean()
        lp = lp - log_prob(float64(start.reference.network), None) if reference else lp
        first, second = np.split(0.4 * (lp * 0.9 ** np.arange(4)).sum(1), 2)
        losses = -label * log_sigmoid(second - 0.6 * first) - (1 - label) * log_sigmoid(first - 0.6 * second)
        return losses.mean(), cloning, ((second > first) == (np.round(label) == 1)).mean()

    own = float64(start.params.network)
    preference, cloning, accuracy = parts(own)
    np.testing.assert_allclose(metrics["loss/preference"][0], preference, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss/cloning"][0], cloning, rtol=1e-5)
    np.testing.assert_allclose(metrics["policy/accuracy"][0], accuracy, rtol=1e-6)
    grads = finite_differences(lambda params: parts(params)[0] + 0.3 * parts(params)[1], own)
    state = tuple(x._replace(mu=x.mu.network, nu=x.nu.network) if hasattr(x, "mu") else x for x in start.opt_state)
    rate = 1e-2 * (5 - 2 + 1) / 8  # update 6, of which 2 were before the phase began
    assert_close(after.params.network, numpy_adam(own, grads, state, rate), atol=1e-5)


def test_the_reference_makes_every_segment_equal_at_first():
    """Right after cloning S is 0, and the loss log 2 whatever the bias; with one step of one state it is DPO's."""
    bc = cpl.make(plane(), replace(SMALL, phase="bc", dropout=0.0), plane_preferences(), HYPER)
    algo = cpl.make(plane(), replace(SMALL, reference=True, dropout=0.0), plane_preferences(), HYPER)
    state = cpl.begin(rlzoo.train(bc, KEY, 5)[0], algo)
    _, metrics = rlzoo.resume(algo, copy(state), 2)
    assert metrics["loss/preference"][0] == pytest.approx(np.log(2.0), rel=1e-6)
    assert metrics["loss/preference"][1] != pytest.approx(np.log(2.0), rel=1e-6)


@pytest.mark.parametrize("bias", [0.3, 1.0])
def test_single_steps_of_one_state_are_direct_preference_optimisation(bias):
    """An update's loss by DPO's formula with beta = alpha, of a categorical policy; at first log 2 at any bias."""
    data = Preferences(
        jnp.ones((4, 1, 1)), jnp.arange(4)[:, None], jnp.arange(4.0), *jnp.array([[0, 1, 2], [3, 2, 0]]), jnp.ones(3)
    )
    config = cpl.Config(hidden=(8,), dropout=0.0, batch_size=64, reference=True)
    hyper = cpl.Hyper(learning_rate=1e-2, warmup_steps=1.0, alpha=0.7, bias=bias)
    algo = cpl.make(bandit(), config, data, hyper)
    start = cpl.begin(rlzoo.train(cpl.make(bandit(), replace(config, phase="bc"), data, hyper), KEY, 3)[0], algo)
    state, metrics = rlzoo.resume(algo, copy(start), 20)
    assert metrics["loss/preference"][0] == pytest.approx(np.log(2.0), rel=1e-6)
    _, metrics = rlzoo.resume(algo, copy(state), 1)

    def log_policy(params):
        logits = numpy_feed_forward(float64(params.network)["params"], np.ones((1, 1)))[0]
        return logits - np.log(np.exp(logits).sum())

    row = np.asarray(jax.random.randint(jax.random.split(jax.random.split(state.key, 3)[1])[0], (64,), 0, 3))
    ratio = 0.7 * (log_policy(state.params) - log_policy(start.params))
    lose, win = np.array([0, 1, 2])[row], np.array([3, 2, 0])[row]
    np.testing.assert_allclose(
        metrics["loss/preference"][0], -log_sigmoid(ratio[win] - bias * ratio[lose]).mean(), rtol=1e-5
    )


def test_phases_optimiser_and_warm_up():
    """Cloning sees no preference; then Adam begins anew, and the rate rises from lr / warm-up to lr and stays."""
    hyper = cpl.Hyper(learning_rate=1e-2, warmup_steps=4.0)
    bc = cpl.make(plane(), replace(SMALL, phase="bc", dropout=0.0), plane_preferences(), hyper)
    flipped = plane_preferences().replace(label=1.0 - plane_preferences().label)
    other = cpl.make(plane(), replace(SMALL, phase="bc", dropout=0.0), flipped, hyper)
    state, metrics = rlzoo.train(bc, KEY, 6)
    assert_same_bits(state.params, rlzoo.train(other, KEY, 6)[0].params)
    assert set(metrics) == {"loss/cloning"}

    fine_tuning = cpl.make(plane(), replace(bc.config, bc_on="preferred"), plane_preferences(), hyper)
    assert_same_bits(cpl.begin(state, fine_tuning).opt_state, state.opt_state)  # SFT has one optimiser
    algo = cpl.make(plane(), replace(SMALL, dropout=0.0), plane_preferences(), hyper)
    began = cpl.begin(copy(state), algo)
    assert_same_bits(began.params, state.params)
    assert all((x == 0).all() for x in jax.tree.leaves(began.opt_state)) and int(began.began) == 6
    moved = []
    for _ in range(6):  # Adam's steps are of the size of its rate while gradients keep their signs
        now, _ = rlzoo.resume(algo, copy(began), 1)
        count = now.opt_state[0].count
        m, n = (jax.tree.leaves(x)[0] for x in (now.opt_state[0].mu, now.opt_state[0].nu))
        step = m / (1 - 0.9**count) / (jnp.sqrt(n / (1 - 0.999**count)) + 1e-8)
        before, after = (jax.tree.leaves(x.params)[0] for x in (began, now))
        moved.append(float(jnp.abs(after - before).sum() / jnp.abs(step).sum()))
        began = now
    np.testing.assert_allclose(moved, [2.5e-3, 5e-3, 7.5e-3, 1e-2, 1e-2, 1e-2], rtol=1e-2)
    changes = jax.tree.map(
        lambda a, b: jnp.abs(a - b).max(), rlzoo.train(bc, KEY, 1)[0].params, rlzoo.init(bc, KEY).params
    )
    assert max(jax.tree.leaves(changes)) == pytest.approx(1e-2, rel=1e-2)  # no warm-up of cloning


def test_dropout_is_of_training_only():
    on, off = (cpl.make(plane(), replace(SMALL, dropout=rate), plane_preferences(), HYPER) for rate in (0.25, 0.0))
    states = [rlzoo.train(algo, KEY, 2)[0] for algo in (on, off)]
    assert not np.allclose(jax.tree.leaves(states[0].params)[0], jax.tree.leaves(states[1].params)[0])
    obs = jax.random.normal(KEY, (50, 2))
    actions = [algo.policy(on.actor(states[0]), obs, key) for algo in (on, off) for key in jax.random.split(KEY, 2)]
    for action in actions[1:]:
        assert_same_bits(action, actions[0])


@pytest.mark.parametrize(("rate", "rows"), [(0.25, 4000), (0.1, 4001), (0.0, 30)])
def test_cheap_masks_are_independent_and_of_their_rate(rate, rows):
    one, two = (np.asarray(masks.keep_bits(key, rate, (rows, 33)), float) for key in jax.random.split(KEY, 2))
    kept = 1.0 - round(256 * rate) / 256
    bound = 5 * np.sqrt(kept * (1 - kept) / one.size) + 1e-9
    assert abs(one.mean() - kept) < bound and np.abs(one.mean(0) - kept).max() < 5 * bound * np.sqrt(33) + 1e-9
    if rate:
        for shifted in (one[:, 1:] * one[:, :-1], one[1:] * one[:-1], one * two, one[:, 4:] * one[:, :-4]):
            assert abs(shifted.mean() - kept**2) < 8 * bound
    assert_same_bits(masks.keep_bits(KEY, rate, (3, 5)), masks.keep_bits(KEY, rate, (3, 5)))


def bandit(num_actions=4):
    """One state, for one step."""

    def reset(key, params):
        return jnp.zeros(1), ()

    def step(key, state, action, params):
        return jnp.zeros(1), (), jnp.float32(0.0), jnp.array(False)

    reset, step = with_episodes(reset, step, 1)
    zero = np.zeros(1, np.float32)
    return Env("own/bandit", reset, step, {}, Box(zero, zero), Discrete(num_actions), 1)


def test_a_bandit_learns_the_boltzmann_policy():
    """Bernoulli labels of the optimal advantage, bias 1: the policy is softmax(r / alpha)."""
    reward, alpha = np.array([0.0, 0.3, 0.5, -0.4]), 0.5
    advantage = reward - alpha * np.log(np.exp(reward / alpha).sum())
    pair_key, label_key = jax.random.split(KEY)
    first, second = jax.random.randint(pair_key, (2, 40_000), 0, 4)
    chance = jax.nn.sigmoid(jnp.asarray(advantage)[second] - jnp.asarray(advantage)[first])
    label = jax.random.bernoulli(label_key, chance).astype(jnp.float32)
    data = Preferences(jnp.zeros((4, 1, 1)), jnp.arange(4)[:, None], jnp.asarray(reward), first, second, label)
    config = cpl.Config(hidden=(8,), dropout=0.0, batch_size=4000)
    algo = cpl.make(bandit(), config, data, cpl.Hyper(learning_rate=1e-2, warmup_steps=1.0, alpha=alpha, bias=1.0))
    state, _ = rlzoo.train(algo, KEY, 800)
    actions = algo.policy(algo.actor(state), jnp.zeros((40_000, 1)), KEY)
    learned = np.bincount(np.asarray(actions), minlength=4) / 40_000
    np.testing.assert_allclose(learned, np.exp(reward / alpha) / np.exp(reward / alpha).sum(), atol=0.03)


LEARNS = [("given", "deterministic"), ("random", "deterministic"), ("all", "normal"), ("ranking", "normal")]


@pytest.mark.parametrize(("comparisons", "head"), LEARNS)
def test_it_learns_what_is_preferred(comparisons, head):
    """Segments of `plane` whose actions are near (0.5, -0.5) are preferred: the policy goes there."""
    data = plane_preferences(200, 4)
    wanted = jnp.array([0.5, -1.5])  # of half widths (1, 3): (0.5, -0.5)
    score = -(((data.action - wanted) / jnp.array([1.0, 3.0])) ** 2).sum((1, 2))
    label = (score[data.second] > score[data.first]).astype(jnp.float32)
    config = cpl.Config(hidden=(16,), dropout=0.1, batch_size=32, comparisons=comparisons, head=head)
    # Rankings have no bias: of a deterministic policy only cloning keeps them from the box's corners.
    bc_coef = 0.3 if comparisons == "ranking" else 0.0
    hyper = cpl.Hyper(learning_rate=1e-2, warmup_steps=1.0, alpha=0.5, bc_coef=bc_coef)
    bc = cpl.make(plane(), replace(config, phase="bc"), data.replace(score=score, label=label), hyper)
    algo = cpl.make(plane(), config, data.replace(score=score, label=label), hyper)
    cloned, _ = rlzoo.train(bc, KEY, 200)
    obs = data.obs[:, 0]
    before = bc.policy(bc.actor(cloned), obs, KEY, True).mean(0)
    state, _ = rlzoo.resume(algo, cpl.begin(cloned, algo), 400)
    after = algo.policy(algo.actor(state), obs, KEY, True).mean(0)
    away = [np.linalg.norm((x - wanted) / np.array([1.0, 3.0])) for x in (before, after)]
    assert away[1] < 0.6 * away[0], away


def test_supervised_fine_tuning_clones_the_preferred():
    data = plane_preferences()
    config = replace(SMALL, phase="bc", bc_on="preferred", dropout=0.0)
    algo = cpl.make(plane(), config, data, HYPER)
    start = rlzoo.init(algo, KEY)
    _, metrics = rlzoo.resume(algo, copy(start), 1)
    row_key = jax.random.split(start.key, 3)[1]
    row = np.asarray(jax.random.randint(jax.random.split(row_key)[0], (6,), 0, 40))
    label = np.asarray(data.label)[row]
    index = np.concatenate([np.asarray(data.first)[row][label <= 0.5], np.asarray(data.second)[row][label >= 0.5]])
    obs, action = numpy_segments(algo.task, index)
    mean = np.tanh(numpy_feed_forward(float64(start.params.network)["params"], obs))
    np.testing.assert_allclose(metrics["loss/cloning"][0], ((mean - action) ** 2).sum(-1).mean(), rtol=1e-5)


def test_bad_input():
    data = plane_preferences()
    ties = data.replace(label=jnp.full(40, 0.5))
    with pytest.raises(ValueError, match="'plane-random' are 40 ties and no more: nothing can be learned from them"):
        cpl.make(plane(), SMALL, ties)
    unknown = data.replace(score=data.score.at[3].set(jnp.nan))
    cpl.make(plane(), SMALL, unknown)
    with pytest.raises(ValueError, match="no score for 1 of 20 segments, which comparisons='all' needs; use comp"):
        cpl.make(plane(), replace(SMALL, comparisons="all"), unknown)
    with pytest.raises(ValueError, match="all have the score 1.0: nothing can be learned"):
        cpl.make(plane(), replace(SMALL, comparisons="ranking"), data.replace(score=jnp.ones(20)))
    with pytest.raises(ValueError, match="was recorded in own/plane, not in gymnax/Pendulum-v1"):
        cpl.make(rlzoo.envs.make("gymnax/Pendulum-v1"), SMALL, data)
    blank = data.replace(about=About())
    with pytest.raises(ValueError, match=r"has observations \[2\], gymnax/Pendulum-v1 \[3\]"):
        cpl.make(rlzoo.envs.make("gymnax/Pendulum-v1"), SMALL, blank)
    with pytest.raises(ValueError, match="is outside of own/plane's"):
        cpl.make(plane(), SMALL, data.replace(action=4.0 * data.action))
    for change, message in (
        ({"label": data.label.at[2].set(0.3)}, "cpl: the preferences of .*: label of row 2 is 0.3.*; it must be 1"),
        ({"label": data.label.at[2].set(jnp.nan)}, "label of row 2 is nan"),
        ({"label": data.label[:, None]}, r"label has shape \[40, 1\]"),
        ({"label": data.label[:5]}, "unequal numbers of rows"),
        ({"first": data.first + 1000}, "first of row 0 is .*; it must be a segment, 0 to 19"),
        ({"score": data.score[:3]}, "unequal numbers of rows"),
        ({"action": data.action[:, :3]}, r"obs has shape \[20, 4, 2\], action \[20, 3, 2\]"),
    ):
        with pytest.raises(ValueError, match=message):
            cpl.make(plane(), SMALL, data.replace(**change))
    boundless = plane()._replace(action_space=Box(*(np.full(2, x, np.float32) for x in (-np.inf, np.inf))))
    with pytest.raises(ValueError, match="its action space is an unbounded box; cpl needs a bounded one"):
        cpl.make(boundless, SMALL, data)
    cpl.make(plane(), replace(SMALL, phase="bc"), ties)  # cloning needs no labels
    cpl.make(plane(), replace(SMALL, phase="bc", comparisons="all"), unknown)  # nor scores


def test_the_papers_numbers():
    assert cpl.presets["classic"] == (cpl.Config(), cpl.Hyper())
    config, hyper = cpl.presets["classic"]
    assert (config.batch_size, config.hidden, config.dropout, config.reference) == (96, (512, 512), 0.25, False)
    assert hyper == (1e-4, 1.0, 10_000.0, 0.1, 0.5, 0.0, 1.0)
    assert cpl.presets["cpl_bc"] == (config, hyper._replace(bias=1.0, bc_coef=1.0))
    kl = hyper._replace(preference_rate=0.1, alpha=0.2, bias=0.75)  # 1e-4 in cloning, then 1e-5
    assert cpl.presets["cpl_kl"] == (replace(config, reference=True), kl)


def test_a_sweep_branches_off_one_cloning():
    """Each setting of the second phase is what it would be alone."""
    bc, algo = (cpl.make(plane(), replace(SMALL, phase=x), plane_preferences(), HYPER) for x in ("bc", "cpl"))
    cloned, _ = rlzoo.train(rlzoo.sweep(bc), jax.random.split(KEY, 2), 3)
    runs = rlzoo.sweep(algo, rlzoo.grid(HYPER, bias=[0.5, 1.0]))
    state, _ = rlzoo.resume(runs, cpl.begin(rlzoo.branch(cloned, 2), runs), 4)
    alone, _ = rlzoo.resume(rlzoo.setting(runs, 1), cpl.begin(rlzoo.lane(cloned, 0, 1), algo), 4)
    assert_close(rlzoo.lane(state, 1, 1).params, alone.params, atol=1e-5)
    assert not np.allclose(*(jax.tree.leaves(rlzoo.lane(state, i, 1).params)[0] for i in range(2)))
