"""Preferences: segments inside of episodes, labels by hand, regret under a known critic, and damaged files."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_same_bits, plane, plane_dataset

import rlzoo
from rlzoo.data import About, Dataset, preferences
from rlzoo.types import Algorithm, Discrete

KEY = jax.random.key(21)
AGENT = SimpleNamespace(key=KEY)  # the State of one agent, of which `oracle` needs nothing


def ladder(lengths=(3, 7, 5), reward=None):
    """A dataset whose observations count the rows, in episodes of the given lengths."""
    total = sum(lengths)
    rows = jnp.arange(total, dtype=jnp.float32)
    last = np.zeros(total, bool)
    last[np.cumsum(lengths) - 1] = True
    obs = jnp.stack([rows, rows], 1)
    reward = rows if reward is None else reward
    return Dataset(obs, obs / 100, reward, obs + 1, jnp.zeros(total, bool), jnp.asarray(last), About("ladder"))


def test_segments_stay_inside_of_episodes_and_start_anywhere_in_them():
    drawn = preferences.segments(ladder(), 2000, 5, KEY)
    assert drawn.obs.shape == (2000, 5, 2) and drawn.action.shape == (2000, 5, 2) and drawn.reward.shape == (2000, 5)
    np.testing.assert_array_equal(drawn.obs[:, :, 0], drawn.obs[:, :1, 0] + np.arange(5))
    np.testing.assert_array_equal(drawn.reward, drawn.obs[:, :, 0])
    starts, counts = np.unique(np.asarray(drawn.obs[:, 0, 0]), return_counts=True)
    assert starts.tolist() == [3, 4, 5, 10]  # rows 3 to 9 and 10 to 14 are the episodes that are long enough
    assert (np.abs(counts - 500) < 100).all()  # uniform over the starts, not over the episodes


def test_a_segment_as_long_as_the_longest_episode():
    drawn = preferences.segments(ladder(), 4, 7, KEY)
    assert (drawn.obs[:, 0, 0] == 3).all()
    with pytest.raises(
        ValueError, match="no episode of dataset 'ladder' has 8 steps, the longest 7; use a length of at"
    ):
        preferences.segments(ladder(), 4, 8, KEY)
    for count, length in ((0, 3), (3, 0)):
        with pytest.raises(ValueError, match=f"num_segments={count} of length={length}; both must be 1 or more"):
            preferences.segments(ladder(), count, length, KEY)


def oracle(value_of, env=None):
    """A sweepless algorithm with Q(s, a) = value_of(s) + a_0, and a policy of a = +-0.5 in its first dimension."""
    env = plane() if env is None else env

    def policy(actor, obs, key, deterministic=False):
        sign = jnp.where(jax.random.bernoulli(key, shape=obs.shape[:1]), 0.5, -0.5)
        return jnp.stack([sign, jnp.zeros_like(sign)], -1)

    def value(state, hyper, obs, action):
        q = value_of(obs) + action[:, 0]
        return q, jnp.full_like(q, 1e6)  # the second is an entropy bonus, which is no part of Q

    return Algorithm("known", None, env, (), None, None, None, lambda state: (), policy, 1, value=value)


def test_regret_by_hand():
    """sum_{t < k-1} r_t + V(s_{k-1}) - V(s_0), V the mean of Q over sampled actions."""
    drawn = preferences.segments(ladder(), 6, 5, KEY)
    score = preferences.regret_score(drawn, oracle(lambda obs: obs[:, 0] ** 2), AGENT, KEY, num_actions=4096)
    s = np.asarray(drawn.obs[:, :, 0], np.float64)
    wanted = s[:, :-1].sum(1) + s[:, -1] ** 2 - s[:, 0] ** 2
    np.testing.assert_allclose(score, wanted, atol=0.06)  # V to 0.5 / sqrt(4096)


def test_regret_does_not_see_shaping_of_rewards_but_their_sum_does():
    """r' = r + Phi(s') - Phi(s) and V' = V - Phi, with gamma 1."""
    phi = lambda obs: 30.0 * jnp.sin(obs[..., 0])  # noqa: E731
    value = lambda obs: obs[:, 0] ** 2  # noqa: E731
    plain = ladder()
    shaped = plain.replace(reward=plain.reward + phi(plain.next_obs) - phi(plain.obs))
    first, second = (preferences.segments(dataset, 50, 5, KEY) for dataset in (plain, shaped))
    scores = preferences.regret_score(first, oracle(value), AGENT, KEY)
    np.testing.assert_allclose(
        preferences.regret_score(second, oracle(lambda obs: value(obs) - phi(obs)), AGENT, KEY), scores, atol=5e-3
    )
    scored = [preferences.reward_score(segments) for segments in (first, second)]
    labels = [preferences.compare(first, score).label for score in scored]
    assert (labels[0] != labels[1]).sum() >= 3


def test_regret_of_a_trained_oracle():
    """SAC's critics in reward units: the estimator follows from `value` and `policy`."""
    algo = rlzoo.sac.make(plane(), rlzoo.sac.Config(hidden=(8,), warmup=16, batch_size=8, capacity=64))
    state, _ = rlzoo.train(algo, KEY, 2)
    drawn = preferences.segments(plane_dataset(), 10, 3, KEY)
    assert drawn.about.env == "own/plane"
    score = preferences.regret_score(drawn, algo, state, KEY, num_actions=8)
    keys = jax.random.split(KEY, (2, 8))
    values = []
    for obs, some in ((drawn.obs[:, 0], keys[0]), (drawn.obs[:, -1], keys[1])):
        q = [algo.value(state, algo.hyper, obs, algo.policy(algo.actor(state), obs, key))[0] for key in some]
        values.append(np.mean(q, axis=0))
    np.testing.assert_allclose(score, drawn.reward[:, :-1].sum(1) + values[1] - values[0], rtol=1e-4, atol=1e-4)


def test_oracles_that_do_not_fit():
    drawn = preferences.segments(plane_dataset(), 4, 3, KEY)
    known = oracle(lambda obs: obs[:, 0])
    other = plane()._replace(name="own/other")
    for algo, message in (
        (known._replace(value=None), "the oracle, known, has no critic; use one with values"),
        (
            known._replace(env=plane()._replace(action_space=Discrete(3))),
            r"\[2\] and continuous actions \[2\], the oracle of own/plane .* and discrete actions \[\]",
        ),
        (known._replace(num_hypers=1), "the oracle must be one agent; give rlzoo.setting"),
        (known._replace(env=other), "the segments are of own/plane, the oracle of own/other; train one in that env"),
        (
            known._replace(env=plane()._replace(obs_space=SimpleNamespace(shape=(3,)))),
            r"the segments have observations \[2\] .*, the oracle of own/plane observations \[3\]",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            preferences.regret_score(drawn, algo, AGENT, KEY)
    with pytest.raises(ValueError, match="the oracle must be one agent"):
        preferences.regret_score(drawn, known, SimpleNamespace(key=KEY[None, None]), KEY)
    with pytest.raises(ValueError, match="num_actions=0; it must be 1 or more"):
        preferences.regret_score(drawn, known, AGENT, KEY, num_actions=0)
    family = drawn.replace(about=About(env="plane"))  # as files of others name it
    assert preferences.regret_score(family, known, AGENT, KEY).shape == (4,)


def test_what_a_load_would_refuse_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="the preferences for .*own: label of row 0 is 0.3"):
        preferences.save(tmp_path / "own", said().replace(label=said().label.at[0].set(0.3)))
    assert not list(tmp_path.iterdir())


def test_hard_labels_and_ties():
    drawn = preferences.segments(ladder(), 6, 2, KEY)
    said = preferences.compare(drawn, jnp.array([0.0, 2.0, 1.0, 1.0, 1.0, 1.0]))
    assert said.first.tolist() == [0, 1, 2] and said.second.tolist() == [3, 4, 5]
    assert said.label.tolist() == [1.0, 0.0, 0.5]
    np.testing.assert_array_equal(said.obs, drawn.obs)
    assert said.num_segments == 6 and said.length == 2
    assert said.fingerprint() != said.replace(label=1 - said.label).fingerprint()


def test_random_pairs_are_of_two_segments_and_uniform():
    drawn = preferences.segments(ladder(), 5, 2, KEY)
    said = preferences.compare(drawn, jnp.arange(5.0), num_pairs=10_000, key=KEY)
    assert (said.first != said.second).all()
    np.testing.assert_array_equal(said.label, (said.second > said.first).astype(np.float32))
    counts = np.bincount(np.asarray(said.first) * 5 + np.asarray(said.second), minlength=25)
    assert (np.abs(counts[counts > 0] - 500) < 120).all() and (counts > 0).sum() == 20


def test_drawn_labels_follow_the_logistic_law():
    drawn = preferences.segments(ladder(), 2, 2, KEY)
    said = preferences.compare(drawn, jnp.array([0.0, 1.0]), num_pairs=20_000, key=KEY, temperature=0.5)
    forward = np.asarray(said.label)[np.asarray(said.second) == 1]
    assert abs(forward.mean() - 1 / (1 + np.exp(-2.0))) < 0.01


def test_comparisons_that_cannot_be():
    drawn = preferences.segments(ladder(), 5, 2, KEY)
    for arguments, message in (
        ({"score": jnp.zeros(4)}, r"score has shape \[4\]; it must be \[5\], one of each segment"),
        ({"score": jnp.zeros(5)}, "5 segments cannot be halved into pairs; draw an even number, or give num_pairs"),
        ({"score": jnp.zeros(5), "num_pairs": 3}, "need a key"),
        ({"score": jnp.zeros(5), "num_pairs": 3, "key": KEY, "temperature": 0.0}, "temperature=0.0; it must be posi"),
        ({"score": jnp.full(5, jnp.nan)}, "preferences: score is not finite in 5 of 5 rows"),
    ):
        with pytest.raises(ValueError, match=message):
            preferences.compare(drawn, **arguments)
    one = preferences.segments(ladder(), 1, 2, KEY)
    with pytest.raises(ValueError, match="one segment has nothing to be compared with"):
        preferences.compare(one, jnp.zeros(1), num_pairs=3, key=KEY)


def said():
    return preferences.compare(preferences.segments(plane_dataset(), 6, 3, KEY), jnp.arange(6.0))


def test_there_and_back(tmp_path):
    path = preferences.save(tmp_path / "own", said())
    assert path.name == "own.npz"
    again = preferences.load(path)
    assert_same_bits(again, said())
    assert again.about == said().about
    unknown = said().replace(score=jnp.full(6, jnp.nan))  # of people only the labels are known
    assert_same_bits(preferences.load(preferences.save(tmp_path / "own", unknown)), unknown)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": np.array([0.0, 0.3, 1.0])}, "label of row 1 is 0.3.*; it must be 1 .*, 0 .* or 0.5"),
        ({"label": np.array([0.0, np.nan, 1.0])}, "label of row 1 is nan"),
        ({"label": np.zeros(2)}, "unequal numbers of rows"),
        ({"first": np.array([0, 6, 1])}, "first of row 1 is 6; it must be a segment, 0 to 5"),
        ({"second": np.array([-1, 2, 1])}, "second of row 0 is -1"),
        ({"obs": np.zeros((6, 2, 2))}, r"obs has shape \[6, 2, 2\], action \[6, 3, 2\]"),
        ({"obs": np.full((6, 3, 2), np.inf)}, "obs is not finite in 6 of 6 rows"),
        ({"score": np.zeros(5)}, "unequal numbers of rows"),
        ({"score": np.array([0, 0, 1e300, 0, 0, 0])}, "score of segment 2 is infinite; it must be finite, or NaN"),
        (
            {"action": np.full((6, 3, 2), 2**40)},
            "action has 1099511627776; integers are from -2147483648",
        ),
        ({"label": np.zeros((3, 1))}, r"label has shape \[3, 1\]; it must have one axis"),
        ({"label": np.array(["a", "b", "c"])}, "label holds <U1, not numbers"),
        (
            {"first": np.zeros(0, int), "second": np.zeros(0, int), "label": np.zeros(0)},
            "6 segments and 0 comparisons; it needs one or more of both",
        ),
    ],
)
def test_bad_files(tmp_path, change, message):
    arrays = {field: np.asarray(getattr(said(), field)) for field in preferences.FIELDS}
    np.savez(tmp_path / "own.npz", **(arrays | change))
    with pytest.raises(ValueError, match=message):
        preferences.load(tmp_path / "own.npz")


def test_a_dataset_is_no_preferences(tmp_path):
    path = rlzoo.data.save(tmp_path / "data", plane_dataset())
    with pytest.raises(ValueError, match="lacks score, first, second, label; it has .*; it needs obs, action, score"):
        preferences.load(path)
