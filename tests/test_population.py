"""Samplers, successive halving and population-based training: what is chosen, what is copied, and how it goes on."""

import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY
from helpers import assert_same_bits
from scipy import stats

import rlzoo
from rlzoo import Range, ppo
from rlzoo.drivers import population
from rlzoo.drivers.run import Run
from rlzoo.drivers.sweep import map_lanes

KEYS = jax.random.split(jax.random.key(3), 2)
QUIET = {"quiet": True, "sinks": ("csv",), "eval_episodes": 4}
RATES = {"learning_rate": Range(1e-4, 1e-2, "log")}


# --- ranges and samplers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["random", "sobol"])
def test_samples_are_spread_evenly_on_their_scale(method):
    ranges = {"learning_rate": Range(1e-5, 1e-1, "log"), "gamma": Range(0.9, 0.999, "log_complement")}
    ranges |= {"clip_eps": Range(0.1, 0.3), "entropy_coef": [0.0, 0.01, 0.1]}
    hyper = rlzoo.sample(ppo.Hyper(), 300, method, seed=1, **ranges)
    even = {
        "learning_rate": (np.log10(hyper.learning_rate) + 5) / 4,
        "gamma": np.log10((1 - np.asarray(hyper.gamma, float)) / 0.1) / -2,
        "clip_eps": (hyper.clip_eps - 0.1) / 0.2,
    }
    for name, x in even.items():
        assert stats.kstest(np.asarray(x), "uniform").pvalue > 0.01, name
    numbers, counts = np.unique(hyper.entropy_coef, return_counts=True)
    np.testing.assert_allclose(numbers, [0.0, 0.01, 0.1], rtol=1e-6)
    assert counts.min() > 75 and np.ndim(hyper.gae_lambda) == 0
    again = rlzoo.sample(ppo.Hyper(), 300, method, seed=1, **ranges)
    other = rlzoo.sample(ppo.Hyper(), 300, method, seed=2, **ranges)
    assert_same_bits(hyper, again)
    assert not np.array_equal(hyper.gamma, other.gamma)


def test_sobol_leaves_no_part_empty():
    """Of 64 points each of the 8 x 8 cells has one; of random points some have none."""

    def cells(method):
        hyper = rlzoo.sample(ppo.Hyper(), 64, method, gamma=Range(0.0, 1.0), gae_lambda=Range(0.0, 1.0))
        return len({(int(x * 8), int(y * 8)) for x, y in zip(hyper.gamma, hyper.gae_lambda, strict=True)})

    assert cells("sobol") == 64 and cells("random") < 60


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ranges": {"lr": [1.0]}}, "unknown hyperparameter 'lr'"),
        ({"method": "halton"}, "unknown sampler 'halton'"),
        ({"num_settings": 0}, "num_settings=0; it must be a whole number, 1 or more"),
        ({"ranges": {}}, "nothing to sample"),
        ({"ranges": {"gamma": []}}, "gamma is .*; give a Range, or a sequence of numbers"),
        ({"ranges": {"gamma": 0.9}}, "gamma is 0.9; give a Range, or a sequence of numbers"),
        ({"ranges": {"gamma": Range("0.1", 1)}}, "low must be less than high, and both finite numbers"),
        ({"ranges": {"gamma": Range(0.9, 0.9)}}, "low must be less than high"),
        ({"ranges": {"gamma": Range(0.0, 0.9, "log")}}, "a log scale needs a low above 0"),
        ({"ranges": {"gamma": Range(0.5, 1.0, "log_complement")}}, "needs a high below 1"),
        ({"ranges": {"gamma": Range(0.5, float("nan"))}}, "both finite"),
        ({"ranges": {"gamma": Range(0.5, 0.9, "cubic")}}, "unknown scale of gamma 'cubic'"),
    ],
)
def test_what_cannot_be_sampled(changes, message):
    given = {"num_settings": 4, "method": "sobol", "ranges": RATES} | changes
    with pytest.raises(ValueError, match=message):
        rlzoo.sample(ppo.Hyper(), given["num_settings"], given["method"], **given["ranges"])


# --- what is chosen --------------------------------------------------------------------------------------------------


def test_the_best_are_kept_and_what_is_not_finite_is_the_worst():
    scores = np.array([1.0, np.nan, 5.0, -np.inf, 3.0, 5.0], np.float32)
    np.testing.assert_array_equal(population._best(scores, 3), [2, 4, 5])
    np.testing.assert_array_equal(population._best(scores, 5), [0, 1, 2, 4, 5])


@pytest.mark.parametrize("scale", ["log", "linear", "log_complement"])
def test_the_worst_become_copies_of_the_best_with_numbers_moved(scale):
    scores = np.array([1.0, np.nan, 5.0, 0.5, 3.0, 4.0, 2.0, 6.0], np.float32)
    numbers = {name: np.linspace(0.2, 0.8, 8, dtype=np.float32) for name in ("gamma", "clip_eps")}
    allowed = Range(0.1, 0.95, scale)
    seen = []
    for seed in range(60):
        evolved = population._evolved(jax.random.key(seed), scores, numbers, (("gamma", allowed),), 0.25, 1.25, 0.0)
        parents, new = jax.tree.map(np.asarray, evolved)
        changed = np.flatnonzero(parents != np.arange(8))
        np.testing.assert_array_equal(changed, [1, 3])  # a quarter of 8, NaN before all others
        assert set(parents[changed]) <= {7, 2}
        np.testing.assert_array_equal(new["clip_eps"], numbers["clip_eps"][parents])  # copied, not moved
        same = np.setdiff1d(np.arange(8), changed)
        np.testing.assert_array_equal(new["gamma"][same], numbers["gamma"][same])
        for i in changed:
            x = numbers["gamma"][parents[i]]
            both = [1 - (1 - x) * f if scale == "log_complement" else x * f for f in (1.25, 0.8)]
            distance = [abs(new["gamma"][i] - np.clip(y, 0.1, 0.95)) for y in both]
            assert min(distance) < 1e-6
            seen.append((int(parents[i]), int(np.argmin(distance))))
    assert len(set(seen)) == 4  # both parents, both directions


def test_numbers_drawn_anew_are_anywhere_in_the_range():
    scores, numbers = np.arange(4, dtype=np.float32), {"gamma": np.full(4, 0.5, np.float32)}
    moves = (("gamma", Range(0.1, 0.9)),)
    evolved = [population._evolved(jax.random.key(i), scores, numbers, moves, 0.25, 1.2, 1.0) for i in range(99)]
    drawn = np.array([numbers["gamma"] for _, numbers in evolved])
    assert stats.kstest((drawn[:, 0] - 0.1) / 0.8, "uniform").pvalue > 0.01
    np.testing.assert_array_equal(drawn[:, 1:], 0.5)


def test_draws_on_the_host_are_numpys_and_inside_of_their_range():
    for scale in ("linear", "log", "log_complement"):
        allowed = Range(0.1, 0.7, scale)
        ends = allowed.at(np.array([0.0, 1.0]))
        assert isinstance(ends, np.ndarray) and ends.dtype == np.float64
        np.testing.assert_allclose(ends, [0.1, 0.7], rtol=1e-12)
        assert ends.min() >= 0.1 and ends.max() <= 0.7
        np.testing.assert_allclose(allowed.at(jnp.array([0.3])), allowed.at(np.array([0.3])), rtol=1e-6)


def test_more_failures_than_share_are_all_replaced_by_what_is_left():
    scores = np.array([np.nan, np.nan, np.nan, 1.0], np.float32)
    parents, _ = population._evolved(jax.random.key(0), scores, {"gamma": np.ones(4, np.float32)}, (), 0.25, 1.2, 0.0)
    np.testing.assert_array_equal(parents, [3, 3, 3, 3])


# --- halving ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def settings(cartpole):
    """Four settings that one can order: a higher discount horizon does not matter, a rate of 0 does not learn."""
    tiny = ppo.make(cartpole, TINY)
    return rlzoo.sweep(tiny, rlzoo.grid(tiny.hyper, learning_rate=[0.0, 3e-3, 1e-2, 3e-2]))


@pytest.fixture(scope="module")
def halved(settings):
    return rlzoo.halving(settings, KEYS, 8, **(QUIET | {"sinks": ()}))


def test_halving_goes_on_with_the_best_as_if_they_had_been_alone(settings, halved):
    np.testing.assert_array_equal(halved.lineage.updates, [2, 4, 8])
    assert halved.lineage.scores.shape == (3, 4) and len(halved.settings) == 1 and not halved.interrupted
    np.testing.assert_array_equal(np.isfinite(halved.lineage.scores).sum(1), [4, 2, 1])
    first, second = halved.lineage.scores[0], halved.lineage.scores[1]
    kept = np.flatnonzero(halved.lineage.parents[0] >= 0)
    assert set(kept) == set(np.argsort(-first, kind="stable")[:2])
    assert halved.settings[0] == np.nanargmax(second)
    assert halved.lineage.of(halved.settings[0]) == [halved.settings[0]] * 3
    dropped = int(np.flatnonzero(halved.lineage.parents[0] < 0)[0])
    assert halved.lineage.of(dropped) == [dropped]
    alone = rlzoo.sweep(
        settings.base, settings.hyper._replace(learning_rate=settings.hyper.learning_rate[halved.settings])
    )
    assert_same_bits(halved.runs.hyper, alone.hyper)
    whole, _ = rlzoo.train(settings, KEYS, 8)
    for a, b in zip(jax.tree.leaves(halved.state.params), jax.tree.leaves(whole.params), strict=True):
        np.testing.assert_allclose(a, b[halved.settings], rtol=2e-3, atol=2e-4)
    keys, of_whole = (jax.random.key_data(state.key) for state in (halved.state, whole))
    np.testing.assert_array_equal(keys, of_whole[halved.settings])


def stopping(monkeypatch, when):
    """Training fails like a killed process at call number ``when``."""
    calls = []
    resume = rlzoo.drivers.run.training.resume

    def failing(*arguments):
        calls.append(1)
        if len(calls) == when:
            raise KeyboardInterrupt
        return resume(*arguments)

    monkeypatch.setattr(rlzoo.drivers.run.training, "resume", failing)


@pytest.mark.parametrize("when", [2, 4])
def test_halving_that_is_stopped_goes_on_bit_for_bit(settings, halved, tmp_path, monkeypatch, when):
    options = QUIET | {"directory": tmp_path}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stopping(patch, when)
        rlzoo.halving(settings, KEYS, 8, **options)
    again = rlzoo.halving(settings, KEYS, 8, resume=True, **options)
    assert_same_bits(again.state, halved.state)
    for a, b in zip(jax.tree.leaves(again.lineage), jax.tree.leaves(halved.lineage), strict=True):
        np.testing.assert_array_equal(a, b)
    over = rlzoo.halving(settings, KEYS, 8, resume=True, **options)  # nothing is left to do
    assert_same_bits(over.state, halved.state)
    with pytest.raises(ValueError, match="holds a competition already; resume it"):
        rlzoo.halving(settings, KEYS, 8, **options)
    with pytest.raises(ValueError, match="eta is 4, but the competition in .* has 2; resume with the same"):
        rlzoo.halving(settings, KEYS, 8, eta=4, resume=True, **options)
    log = tmp_path / "competition.json"
    found = json.loads(log.read_text())
    one = {"scores": [1.0], "parents": [], "numbers": {}}
    log.write_text(json.dumps(found | {"rungs": [one]}))
    with pytest.raises(ValueError, match="has 1 scores in rung 0, where 4 belong"):
        rlzoo.halving(settings, KEYS, 8, resume=True, **options)
    for damaged in ({"rungs": [one, one]}, {"rungs": [{"scores": 3}]}, {"about": 3}, {"rungs": 1}):
        log.write_text(json.dumps(found | damaged))
        with pytest.raises(ValueError, match="competition.json is damaged"):
            rlzoo.halving(settings, KEYS, 8, resume=True, **options)
    log.write_text("{")
    with pytest.raises(ValueError, match="competition.json is not readable"):
        rlzoo.halving(settings, KEYS, 8, resume=True, **options)


@pytest.mark.parametrize("when", ["before the decision is on file", "after it"])
def test_halving_killed_between_two_rungs(settings, halved, tmp_path, monkeypatch, when):
    """A rung is over and saved; its scores are not written yet, or just so."""
    options, write = QUIET | {"directory": tmp_path}, population.write_json

    def killed(path, value):
        if when == "after it":
            write(path, value)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(population, "write_json", killed)
        rlzoo.halving(settings, KEYS, 8, **options)
    again = rlzoo.halving(settings, KEYS, 8, resume=True, **options)
    assert_same_bits(again.state, halved.state)
    np.testing.assert_array_equal(again.lineage.scores, halved.lineage.scores)


def test_halving_stopped_by_a_signal_says_what_is_decided(settings, halved, tmp_path, monkeypatch):
    evaluate, calls = rlzoo.drivers.run.evaluate, []

    def interrupting(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:  # at the beginning of the second rung
            signal.raise_signal(signal.SIGTERM)
        return evaluate(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(rlzoo.drivers.run, "evaluate", interrupting)
        stopped = rlzoo.halving(settings, KEYS, 8, directory=tmp_path, **QUIET)
    assert stopped.interrupted and stopped.lineage.scores.shape == (1, 4)
    np.testing.assert_array_equal(stopped.lineage.parents, halved.lineage.parents[:1])
    np.testing.assert_array_equal(stopped.settings, np.flatnonzero(halved.lineage.parents[0] >= 0))
    assert_same_bits(rlzoo.halving(settings, KEYS, 8, directory=tmp_path, resume=True, **QUIET).state, halved.state)


def test_infinite_returns_are_no_good_ones(settings):
    state, _ = rlzoo.train(settings, KEYS, 1)
    returns = np.zeros((1, 4, 2, 3), np.float32)
    returns[0, 1, 0, 0], returns[0, 2, 1, 2] = np.inf, np.nan
    done = Run(state, {}, np.zeros(1), returns, [], False)
    found = population.final_returns(settings, done, 3)
    np.testing.assert_array_equal(np.isnan(found), [[False, False], [True, False], [False, True], [False, False]])


# --- population-based training ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evolved(settings):
    return rlzoo.pbt(settings, KEYS, 6, 2, RATES, share=0.5, **(QUIET | {"sinks": ()}))


def test_a_population_copies_agents_and_its_lineage_says_which(settings, evolved):
    lineage, state = evolved.lineage, evolved.state
    np.testing.assert_array_equal(lineage.updates, [2, 4, 6])
    assert lineage.parents.shape == (2, 4) and lineage.hyper["learning_rate"].shape == (3, 4)
    for k, parents in enumerate(lineage.parents):
        best = np.argsort(-lineage.scores[k], kind="stable")[:2]
        np.testing.assert_array_equal(parents[best], best)
        assert set(parents) <= set(best)
        before, after = lineage.hyper["learning_rate"][k], lineage.hyper["learning_rate"][k + 1]
        np.testing.assert_array_equal(after[best], before[best])
        copies = np.setdiff1d(np.arange(4), best)
        moved = np.clip(before[parents[copies]][:, None] * np.array([1.2, 1 / 1.2]), 1e-4, 1e-2)
        assert (np.abs(after[copies, None] - moved) < 1e-7).any(1).all()
    for setting in range(4):
        line = lineage.of(setting)
        assert line[-1] == setting
        assert line[1] == lineage.parents[1][setting] and line[0] == lineage.parents[0][line[1]]
    keys = jax.random.key_data(state.key).reshape(8, -1)
    assert len(np.unique(keys, axis=0)) == len({(line, seed) for line in range(4) for seed in range(2)})


def test_a_copy_is_the_parent_but_for_its_random_numbers(settings):
    state, _ = rlzoo.train(settings, KEYS, 1)
    parents, copies = jnp.array([1, 1, 2, 1]), jnp.array([True, False, False, True])
    new = population._copied(state, parents, copies, 1)
    gathered = map_lanes(lambda x: x[parents], state)
    assert_same_bits(new._replace(key=None), gathered._replace(key=None))
    keys = jax.random.key_data(new.key)
    np.testing.assert_array_equal(keys[1:3], jax.random.key_data(state.key)[1:3])
    assert len(np.unique(keys.reshape(8, -1), axis=0)) == 6  # seeds of settings 0 and 3 are new; 1 is shared with none
    later = population._copied(state, parents, copies, 2)
    assert not np.array_equal(jax.random.key_data(later.key)[0], keys[0])


def test_a_population_that_is_stopped_goes_on_bit_for_bit(settings, evolved, tmp_path, monkeypatch):
    options = {"share": 0.5, "directory": tmp_path, **QUIET}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stopping(patch, 3)
        rlzoo.pbt(settings, KEYS, 6, 2, RATES, **options)
    again = rlzoo.pbt(settings, KEYS, 6, 2, RATES, resume=True, **options)
    assert_same_bits(again.state, evolved.state)
    assert not list(tmp_path.glob("rung_0/checkpoints")) and (tmp_path / "rung_2" / "log.csv").exists()


def test_a_failed_setting_is_replaced(settings):
    """Losses that blow the parameters up: one setting of two, and then both."""
    rates = settings.base.hyper._replace(learning_rate=jnp.full(2, 3e-3))
    numbers = rates._replace(value_coef=jnp.array([0.5, 3e38]))
    runs = rlzoo.sweep(settings.base, numbers)
    done = rlzoo.pbt(runs, KEYS, 4, 2, RATES, **(QUIET | {"sinks": ()}))
    np.testing.assert_array_equal(np.isnan(done.lineage.scores), [[False, True], [False, False]])
    np.testing.assert_array_equal(done.lineage.parents, [[0, 0]])
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(done.state.params))
    runs = rlzoo.sweep(settings.base, rates._replace(value_coef=jnp.full(2, 3e38)))
    with pytest.raises(ValueError, match="after update 2 every setting has a seed that is not finite"):
        rlzoo.pbt(runs, KEYS, 4, 2, RATES, **(QUIET | {"sinks": ()}))


@pytest.mark.parametrize(
    ("compete", "message"),
    [
        (lambda runs: rlzoo.halving(runs.base, KEYS, 8), "of a sweep of two settings or more"),
        (lambda runs: rlzoo.halving(runs, KEYS, 3), "num_updates=3: 4 settings with eta=2 need 4 or more"),
        (lambda runs: rlzoo.halving(runs, KEYS, 8, eta=1), "eta must be 2 or more"),
        (lambda runs: rlzoo.halving(runs, KEYS, 8, eval_episodes=0), "settings are chosen by their returns"),
        (lambda runs: rlzoo.halving(runs, KEYS, 8, resume=True), "needs the directory"),
        (lambda runs: rlzoo.pbt(runs, KEYS, 8, 0, RATES), "every 1 or more"),
        (lambda runs: rlzoo.pbt(runs, KEYS, 8, 2, {"gamma": Range(0.9, 0.99)}), "unknown swept hyperparameter 'gamma'"),
        (lambda runs: rlzoo.pbt(runs, KEYS, 8, 2, {"learning_rate": Range(2, 1)}), "low must be less than high"),
        (lambda runs: rlzoo.pbt(runs, KEYS, 8, 2, {"learning_rate": [1, 2]}), "it must be an rlzoo.Range"),
        (
            lambda runs: rlzoo.halving(
                rlzoo.sweep(runs.base, runs.hyper, rlzoo.envs.vary(runs.env, {"gravity": [1, 2, 3, 4]})), KEYS, 8
            ),
            "the task is swept",
        ),
    ],
)
def test_what_cannot_compete(settings, compete, message):
    with pytest.raises(ValueError, match=message):
        compete(settings)
