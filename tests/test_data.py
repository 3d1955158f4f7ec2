"""Datasets: D4RL's conversion against a literal loop, Minari, npz, and files that are damaged in every way."""

import json
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_same_bits, plane, plane_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

import rlzoo
from rlzoo import data
from rlzoo.blocks import replay
from rlzoo.data.dataset import check_for, observation_moments, task_of
from rlzoo.types import Box, Transition

RNG = np.random.default_rng(0)
KEY = jax.random.key(4)


def hdf5(path, num_rows=12, terminals=(), timeouts=None, **others):
    """A D4RL file of ``num_rows`` rows; keys set to None are left out."""
    content = {
        "observations": RNG.normal(size=(num_rows, 3)),
        "actions": RNG.uniform(-1, 1, size=(num_rows, 2)).astype(np.float32),
        "rewards": RNG.normal(size=num_rows).astype(np.float32),
        "terminals": np.isin(np.arange(num_rows), terminals),
    }
    if timeouts is not None:
        content["timeouts"] = np.isin(np.arange(num_rows), timeouts)
    with h5py.File(path, "w") as file:
        for key, x in (content | others).items():
            if x is not None:
                file[key] = x
    return content | others


def ends_by_loop(raw, horizon):
    """Which rows a time-out ends, row by row."""
    final, age = [], 0
    for i in range(len(raw["rewards"])):
        final.append(bool(raw["timeouts"][i]) if "timeouts" in raw else age == horizon - 1)
        age = 0 if raw["terminals"][i] or final[i] else age + 1
    return final


def by_loop(raw, horizon, rule):
    """Transitions as a rule is told, row by row: (row, successor, whether the next row goes on from it)."""
    obs, final, n = raw["observations"].astype(np.float32), ends_by_loop(raw, horizon), len(raw["rewards"])
    found = []
    for i in range(n):
        terminal = bool(raw["terminals"][i])
        if rule == "qlearning":
            if i < n - 1 and not final[i]:
                goes_on = not terminal and i + 1 < n - 1 and not final[i + 1]
                found.append((i, obs[i + 1], goes_on))
        elif "next_observations" in raw:
            truth = raw["next_observations"][i].astype(np.float32)
            goes_on = i + 1 < n and not terminal and not final[i] and (truth == obs[i + 1]).all()
            found.append((i, truth, goes_on))
        elif terminal:
            found.append((i, obs[i], False))
        elif i < n - 1 and not final[i]:
            goes_on = raw["terminals"][i + 1] or (i + 1 < n - 1 and not final[i + 1])
            found.append((i, obs[i + 1], goes_on))
    return found


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_d4rl_conversion_is_the_loop(tmp_path_factory, draw):
    num_rows = draw.draw(st.integers(1, 25))
    some = st.lists(st.integers(0, num_rows - 1), max_size=6)
    path = tmp_path_factory.mktemp("d4rl") / "own.hdf5"
    horizon, rule = draw.draw(st.integers(1, 6)), draw.draw(st.sampled_from(data.d4rl.RULES))
    raw = hdf5(path, num_rows, draw.draw(some), draw.draw(st.none() | some))
    if draw.draw(st.booleans()):  # the truth, which jumps where the file does not say so either
        raw["next_observations"] = np.roll(raw["observations"], -1, axis=0)
        raw["next_observations"][draw.draw(some)] += 1.0
        with h5py.File(path, "a") as file:
            file["next_observations"] = raw["next_observations"]
    expected = by_loop(raw, horizon, rule)
    if not expected:
        with pytest.raises(ValueError, match="has no transitions"):
            data.load(path, horizon=horizon, rule=rule)
        return
    rows, successors, goes_on = map(list, zip(*expected, strict=True))
    found = data.load(path, horizon=horizon, rule=rule)
    np.testing.assert_allclose(found.obs, raw["observations"][rows], rtol=1e-6)
    np.testing.assert_array_equal(found.next_obs, successors)
    np.testing.assert_array_equal(found.action, raw["actions"][rows])
    np.testing.assert_array_equal(found.reward, raw["rewards"][rows])
    np.testing.assert_array_equal(found.terminated, raw["terminals"][rows])
    np.testing.assert_array_equal(~np.asarray(found.last), np.array(goes_on, bool))


def ended_episodes(path, **others):
    """Three episodes of 4 steps, each ended by its own rules, with all of its reward in its last row."""
    ends = [3, 7, 11]
    obs = np.arange(12, dtype=np.float32)[:, None] * np.ones(11, np.float32)
    rewards = np.zeros(12, np.float32)
    rewards[ends] = [1, 2, 3]
    actions = np.zeros((12, 3), np.float32)
    hdf5(path, 12, ends, [], observations=obs, rewards=rewards, actions=actions, **others)


@pytest.mark.parametrize("known", [True, False], ids=["next_observations", "without"])
def test_terminal_rows_keep_their_reward(tmp_path, known):
    path = tmp_path / "hopper_medium-v2.hdf5"
    truth = np.arange(1, 13, dtype=np.float32)[:, None] * np.ones(11, np.float32)
    truth[[3, 7, 11]] = -100.0  # what the terminal states really were
    ended_episodes(path, **({"next_observations": truth} if known else {}))
    found = data.load(path)
    assert found.num_rows == 12 and found.episode_returns().tolist() == [1, 2, 3]
    assert data.best_episodes(found, 1 / 3).obs[:, 0].tolist() == [8, 9, 10, 11]
    terminal = [-100, -100, -100] if known else [3, 7, 11]  # unknown: the row's own, never that of another episode
    assert found.next_obs[[3, 7, 11], 0].tolist() == terminal
    as_published = data.load(path, rule="qlearning")
    assert as_published.num_rows == 11 and as_published.episode_returns().tolist() == [1, 2, 0]
    assert as_published.next_obs[[3, 7], 0].tolist() == [4, 8]


def test_a_minari_copy_ends_with_the_terminal_observation(minari, tmp_path):
    truth = np.arange(1, 13, dtype=np.float32)[:, None] * np.ones(11, np.float32)
    truth[[3, 7, 11]] = -100.0
    ended_episodes(tmp_path / "hopper_medium-v2.hdf5", next_observations=truth)
    wide = np.full(11, np.inf, np.float32)
    env = SimpleNamespace(obs_space=Box(-wide, wide), action_space=Box(-wide[:3], wide[:3]))
    data.minari.save("me/hopper-v0", data.load(tmp_path / "hopper_medium-v2.hdf5"), env)
    episodes = list(minari.load_dataset("me/hopper-v0").iterate_episodes())
    assert [float(one.observations[-1][0]) for one in episodes] == [-100.0] * 3
    assert [one.rewards.sum() for one in episodes] == [1, 2, 3]


def test_successors_tell_where_a_file_jumps(tmp_path):
    """Without a flag at the seam, and without a horizon: no episode runs over it, and nothing else ends one."""
    truth = np.arange(1.0, 11.0)[:, None]
    truth[4] = 50.0
    hdf5(tmp_path / "own.hdf5", 10, observations=np.arange(10.0)[:, None], next_observations=truth)
    found = data.load(tmp_path / "own.hdf5")
    assert found.num_rows == 10 and np.flatnonzero(found.last).tolist() == [4, 9]
    assert float(found.next_obs[4, 0]) == 50.0 and not found.terminated.any()


def test_no_transition_crosses_a_time_out(tmp_path):
    hdf5(tmp_path / "two.hdf5", 10, timeouts=[4, 9], observations=np.arange(10.0)[:, None])
    found = data.load(tmp_path / "two.hdf5")
    assert found.obs[:, 0].tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    assert (found.next_obs == found.obs + 1).all()
    assert np.flatnonzero(found.last).tolist() == [3, 7]
    assert len(found.episode_returns()) == 2


def test_d4rl_tolerates_what_files_have(tmp_path):
    """Scalars and groups of metadata, rewards [T, 1], flags as floats."""
    path = tmp_path / "hopper_medium-v2.hdf5"
    raw = hdf5(path, terminals=[5], timeouts=[8], rewards=RNG.normal(size=(12, 1)), **{"infos/qpos": np.zeros((12, 2))})
    with h5py.File(path, "a") as file:
        file["metadata/algorithm"] = "SAC"
        del file["terminals"]
        file["terminals"] = raw["terminals"].astype(np.float32)
    found = data.load(path)
    assert found.num_rows == 10 and found.terminated.sum() == 1 and found.obs.dtype == jnp.float32
    assert found.about == data.About("hopper_medium-v2", "hopper", -20.272305, 3234.3)
    assert float(data.normalised_score(found.about, 3234.3)) == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("name", "scores", "horizon"),
    [
        ("hopper-medium-replay-v2", (-20.272305, 3234.3), 1000),
        ("halfcheetah_medium_expert-v2", (-280.178953, 12135.0), 1000),
        ("walker_mixed", (1.629008, 4592.3), 1000),  # a file of v0
        ("ant-full-replay-v1", (-325.6, 3879.7), 1000),
        ("antmaze-umaze-diverse-v2", (0.0, 1.0), 700),
        ("antmaze-eval-umaze-v0", (0.0, 1.0), 700),
        ("antmaze-eval-umaze-diverse-v0", (0.0, 1.0), 700),
        ("antmaze-large-play-v2", (0.0, 1.0), 1000),
        ("Ant_maze_u-maze_noisy_multistart_False_multigoal_False_sparse_fixed", (0.0, 1.0), 700),
        ("Ant_maze_big-maze_noisy_multistart_True_multigoal_True_sparse_fixed", (0.0, 1.0), 1000),
        ("maze2d-open-v0", (0.01, 20.66), 150),
        ("maze2d-open-dense-v0", (11.17817, 27.166538620695782), 150),
        ("maze2d-umaze-v1", (23.85, 161.86), 300),
        ("maze2d-umaze-sparse-v1", (23.85, 161.86), 300),
        ("maze2d-umaze-v0", (0.94, 62.6), 150),
        ("maze2d-medium-v0", (5.77, 85.14), 250),
        ("maze2d-large-v0", (4.83, 191.99), 600),
        ("maze2d-umaze-dense-v0", (23.249793, 81.78995240126592), 150),
        ("maze2d-medium-dense-v0", (19.477620, 96.03474232952358), 250),
        ("maze2d-large-dense-v0", (27.388310, 215.09965671563742), 600),
        ("maze2d-large-dense-v1", (30.569041, 303.4857382709002), 800),
        ("pen-human-v1", (96.262799, 3076.8331017826877), 100),
        ("pen-human-longhorizon-v1", (96.262799, 3076.8331017826877), 200),
        ("hammer-human-longhorizon-v0", (-274.856578, 12794.134825156867), 600),
        ("door-human-longhorizon-v1", (-56.512833, 2880.5693087298737), 300),
        ("relocate-human-longhorizon-v0", (-6.425911, 4233.877797728884), 500),
        ("relocate-cloned-v1", (-6.425911, 4233.877797728884), 200),
        ("kitchen-mixed-v0", (0.0, 4.0), 280),
    ],
)
def test_reference_scores(name, scores, horizon):
    found = data.d4rl.reference(name)
    assert (found.random, found.expert) == scores and found.horizon == horizon


def test_names_are_known_exactly_or_not_at_all():
    """Nothing is guessed from how a name begins, and every file is of a name that is known."""
    assert set(data.references.FILES.values()) <= set(data.d4rl.REFERENCES)
    for name in (
        "hopper",
        "hopper-medium-v9",
        "hopper-medium-own",
        "antmaze",
        "antmaze-tiny-v2",
        "walker2d-own-v2",
        "",
    ):
        assert data.d4rl.reference(name) is None
    assert data.d4rl.family("hopper_medium-v2") == data.d4rl.family("hopper") == "hopper"
    assert data.d4rl.family("walker2d-own-v2") == data.d4rl.family("antelope") == ""


def test_no_reference_scores(tmp_path):
    assert data.d4rl.reference("pendulum-medium") is None and data.d4rl.reference("antelope") is None
    hdf5(tmp_path / "own.hdf5", timeouts=[])
    with pytest.raises(ValueError, match="'own' has no reference scores; give them"):
        data.normalised_score(data.load(tmp_path / "own.hdf5").about, 1.0)


def test_bad_hdf5(tmp_path, monkeypatch):
    path = tmp_path / "own.hdf5"
    nan = np.zeros((12, 3))
    nan[7, 1] = np.nan
    for others, message in (
        ({"actions": None}, r"own.hdf5 lacks actions; it has observations, rewards, terminals, timeouts; a D4RL file"),
        ({"actions": np.array(["left"] * 12, "S4")}, "own.hdf5: actions is no array of numbers; it must be one"),
        ({"actions": None, "actions/x": np.zeros(12)}, "own.hdf5: actions is no array of numbers; it must be one"),
        ({"timeouts": None, "timeouts/x": np.zeros(12)}, "own.hdf5: timeouts is no array of numbers"),
        ({"actions": h5py.Empty("f")}, "own.hdf5: actions is no array of numbers; it must be one"),
        ({"rewards": 1.0}, "unequal numbers of rows: .*'rewards': 0"),
        ({"rewards": np.zeros(11)}, "unequal numbers of rows: .*'rewards': 11"),
        ({"rewards": np.zeros((12, 2))}, r"rewards has shape \[12, 2\]; it must be \[12\]"),
        ({"observations": np.zeros(12)}, r"observations has shape \[12\]; it must be \[12, …\]"),
        ({"observations": nan}, "observations is not finite in 1 of 12 rows, first in row 7: nan"),
        ({"timeouts": range(12)}, "has no transitions: its 12 rows are all ends of episodes"),
        (
            {"next_observations": np.zeros((12, 2))},
            r"observations has shape \[12, 3\], next_observations \[12, 2\]; they must be equal",
        ),
        ({"next_observations": np.zeros(11)}, "unequal numbers of rows: .*'next_observations': 11"),
        ({"next_observations": nan}, "next_observations is not finite in 1 of 12 rows, first in row 7: nan"),
        (
            {"timeouts": None},
            r"no key 'timeouts', and 'own' is no dataset whose horizon is known; give rlzoo.data.load\(..., hor",
        ),
    ):
        hdf5(path, **({"timeouts": []} | others))
        with pytest.raises(ValueError, match=message):
            data.load(path)
    hdf5(path)
    for timeouts, message in (
        (np.zeros((12, 2)), r"timeouts has shape \[12, 2\]; it must be \[12\]"),
        (nan[:, 1], "timeouts of row 7 is nan; a flag is 0 or 1"),
        (np.full(12, 0.5), "timeouts of row 0 is 0.5; a flag is 0 or 1"),
    ):
        with h5py.File(path, "a") as file:
            file.pop("timeouts", None)
            file["timeouts"] = timeouts
        with pytest.raises(ValueError, match=message):
            data.load(path)
    hdf5(path, num_rows=0, timeouts=[])
    with pytest.raises(ValueError, match="has no rows; it needs one or more"):
        data.load(path)
    hdf5(path, num_rows=4000, timeouts=[])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="own.hdf5 is damaged, or no HDF5 file"):
        data.load(path)
    path.write_bytes(whole)
    monkeypatch.setattr(data.dataset, "device_memory", lambda: 2**16)
    with pytest.raises(ValueError, match="takes 281.2 KiB, as transitions and normalised; the device has 64.0 KiB"):
        data.load(path)
    with pytest.raises(ValueError, match="there is no file"):
        data.load(tmp_path / "none.hdf5")
    with pytest.raises(ValueError, match="there is nothing at"):
        data.load(tmp_path / "none")
    hdf5(path, timeouts=[])
    with pytest.raises(ValueError, match="unknown rule 'qleaning'; did you mean 'qlearning'"):
        data.load(path, rule="qleaning")
    for horizon in (0, 2.5, True, "5"):
        with pytest.raises(ValueError, match="horizon=.*; it must be a whole number of steps, 1 or more"):
            data.load(path, horizon=horizon)


@pytest.mark.parametrize("how", ["link", "soft", "storage", "virtual"])
def test_numbers_of_another_file_are_not_opened(tmp_path, how):
    """A dataset cannot make its reader open any other file of the machine."""
    path, other = tmp_path / "own.hdf5", tmp_path / "secret.hdf5"
    hdf5(path, timeouts=[])
    hdf5(other, timeouts=[])
    with h5py.File(path, "a") as file:
        del file["actions"]
        if how == "link":
            file["actions"] = h5py.ExternalLink(str(other), "/actions")
        elif how == "soft":
            file["there"] = h5py.ExternalLink(str(other), "/")
            file["actions"] = h5py.SoftLink("/there/actions")
        elif how == "storage":
            file.create_dataset("actions", (12, 2), "f4", external=[(str(other), 0, 96)])
        else:
            layout = h5py.VirtualLayout((12, 2), "f4")
            layout[:] = h5py.VirtualSource(str(other), "actions", (12, 2))
            file.create_virtual_dataset("actions", layout)
    with pytest.raises(ValueError, match="own.hdf5: (actions|there) is a link, or lies elsewhere"):
        data.load(path)


def recorded(num_rows=30, ends=(9, 14, 29), terminated=(14,)):
    """A dataset as our recorder writes it, with reference scores; the same at every call."""
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(num_rows, 3)).astype(np.float32)
    next_obs = np.roll(obs, -1, axis=0)
    last = np.isin(np.arange(num_rows), ends)
    next_obs[last] = rng.normal(size=(last.sum(), 3))
    fields = {
        "obs": obs,
        "action": rng.uniform(-2, 2, size=(num_rows, 1)).astype(np.float32),
        "reward": rng.normal(size=num_rows).astype(np.float32),
        "next_obs": next_obs,
        "terminated": np.isin(np.arange(num_rows), terminated),
        "last": last,
    }
    about = data.About("own", "gymnax/Pendulum-v1", -1200.0, -150.0)
    return data.Dataset(**{key: jnp.asarray(x) for key, x in fields.items()}, about=about)


def test_npz_there_and_back(tmp_path):
    dataset = recorded()
    path = data.save(tmp_path / "sub" / "own", dataset)
    assert path.name == "own.npz" and [file.name for file in path.parent.iterdir()] == ["own.npz"]
    found = data.load(path)
    assert_same_bits(found, dataset)
    assert found.about == dataset.about


def test_bad_npz(tmp_path):
    good = recorded()
    path = tmp_path / "own.npz"
    for change, message in (
        (
            {"last": good.last.at[9].set(False)},
            "next_obs of row 9 is not obs of row 10, but row 9 is not marked as the",
        ),
        ({"reward": good.reward.at[3].set(jnp.inf)}, "reward is not finite in 1 of 30 rows, first in row 3: inf"),
        ({"next_obs": good.next_obs[:, :2]}, r"obs has shape \[30, 3\], next_obs \[30, 2\]; they must be equal"),
        ({"reward": np.full(30, 1e39)}, "reward is not finite in 30 of 30 rows, first in row 0: inf"),
        ({"about": data.About("own", "", "high")}, "its text 'about' is damaged: could not convert"),
        ({"reward": good.reward[:20]}, "unequal numbers of rows"),
        ({"terminated": good.terminated[:, None]}, r"terminated has shape \[30, 1\]; it must be \[30\]"),
        ({"terminated": good.reward}, "terminated of row 0 is .*; a flag is 0 or 1"),
        ({"reward": jnp.float32(1.0)}, "unequal numbers of rows: .*'reward': 0"),
        ({"action": np.array(["left"] * 30)}, "own.npz: action holds <U4, not numbers"),
    ):
        data.save(path, good.replace(**change))
        with pytest.raises(ValueError, match=message):
            data.load(path)
    np.savez(path, obs=np.zeros(3))
    with pytest.raises(ValueError, match="lacks action, reward, next_obs, terminated, last; it has obs; it needs obs,"):
        data.load(path)
    np.savez(path, obs=np.array([{"code": "is not run"}], dtype=object))
    with pytest.raises(ValueError, match="is damaged, or no npz file"):
        data.load(path)
    empty = {key: np.zeros((0, 3) if "obs" in key else (0,)) for key in data.npz.FIELDS}
    np.savez(path, **empty)
    with pytest.raises(ValueError, match="has no transitions"):
        data.load(path)


def test_an_npz_larger_than_memory(tmp_path, monkeypatch):
    path = data.save(tmp_path / "own.npz", recorded())
    monkeypatch.setattr(data.dataset, "device_memory", lambda: 1000)
    with pytest.raises(ValueError, match="own.npz takes 2.3 KiB, as transitions and normalised; the device has 1000 B"):
        data.load(path)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A file's path and content, and its dataset."""
    path = tmp_path_factory.mktemp("npz") / "own.npz"
    data.save(path, good := recorded())
    return path, path.read_bytes(), good


def damaged(content, draw):
    """Some bytes changed, or the end cut off, at random."""
    content = bytearray(content)
    for _ in range(draw.draw(st.integers(0, 3))):
        content[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    return content[: draw.draw(st.integers(0, len(content)))] if draw.draw(st.booleans()) else content


@settings(max_examples=60, deadline=None)
@given(draw=st.data())
def test_damaged_npz_is_refused_or_read_whole(written, draw):
    """Bytes changed or cut off at random: the dataset as it was, or a `ValueError`; nothing else."""
    path, content, good = written
    path.write_bytes(damaged(content, draw))
    try:
        found = data.load(path)
    except ValueError as error:
        assert "own.npz" in str(error)
    else:
        assert_same_bits(found, good.replace(about=found.about))


@settings(max_examples=60, deadline=None)
@given(draw=st.data())
def test_damaged_hdf5_is_refused_or_read(tmp_path_factory, draw):
    """Bytes changed or cut off at random: numbers that are finite, or a `ValueError`; nothing else."""
    path = tmp_path_factory.getbasetemp() / "own.hdf5"
    hdf5(path, timeouts=[5])
    path.write_bytes(damaged(path.read_bytes(), draw))
    try:
        found = data.load(path)
    except ValueError as error:
        assert "own.hdf5" in str(error)
    else:
        assert all(np.isfinite(x).all() for x in (found.obs, found.action, found.reward, found.next_obs))


def test_concatenating_marks_the_seam():
    first, second = recorded(), recorded(10, ends=(9,), terminated=())
    both = data.concatenate(first.replace(last=first.last.at[-1].set(False)), second)
    assert both.num_rows == 40 and bool(both.last[29]) and both.about == first.about
    np.testing.assert_array_equal(both.obs[30:], second.obs)
    other = second.replace(about=second.about._replace(env="brax/hopper spring"))
    with pytest.raises(ValueError, match="are of different environments, gymnax/Pendulum-v1 and brax/hopper spring"):
        data.concatenate(first, other)
    with pytest.raises(ValueError, match=r"are of different environments, \(\(3,\), \(1,\), .* and \(\(2,\), \(1,\),"):
        data.concatenate(first, second.replace(obs=second.obs[:, :2]))
    with pytest.raises(ValueError, match=r"concatenate\(\) needs one dataset or more"):
        data.concatenate()


def test_fingerprint():
    first = recorded()
    assert first.fingerprint() == recorded().replace(about=data.About("another name")).fingerprint()
    assert first.fingerprint() != first.replace(reward=first.reward.at[3].add(1e-6)).fingerprint()


def test_normalising_uses_the_current_observations():
    dataset = recorded()
    moments = observation_moments(dataset)
    np.testing.assert_allclose(moments.mean, np.mean(dataset.obs, 0), atol=1e-6)
    np.testing.assert_allclose(moments.std, np.std(dataset.obs, 0) + 1e-3, rtol=1e-5)
    env = rlzoo.envs.make("gymnax/Pendulum-v1")
    task = task_of(dataset, env, "prdc")
    np.testing.assert_allclose(
        task.transitions.next_obs, (dataset.next_obs - moments.mean) / moments.std, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(np.mean(task.transitions.obs, 0), 0.0, atol=1e-5)
    np.testing.assert_allclose(task.transitions.action, dataset.action / 2.0, rtol=1e-6)
    raw = task_of(dataset, env, "prdc", normalise_obs=False)
    np.testing.assert_array_equal(raw.transitions.obs, dataset.obs)


def test_a_dataset_of_another_environment_is_refused():
    dataset, pendulum = recorded(), rlzoo.envs.make("gymnax/Pendulum-v1")
    check_for(dataset, pendulum, "prdc")
    unknown = dataset.replace(about=data.About("own"))
    far = unknown.replace(action=unknown.action.at[4].set(2.5))
    for wrong, env, message in (
        (dataset, "brax/hopper", "prdc: dataset 'own' was recorded in gymnax/Pendulum-v1, not in brax/hopper"),
        (unknown, "gymnax/MountainCarContinuous-v0", r"has observations \[3\], gymnax/MountainCarContinuous-v0 \[2\]"),
        (unknown, "gymnax/CartPole-v1", r"has observations \[3\], gymnax/CartPole-v1 \[4\]"),
        (
            far,
            "gymnax/Pendulum-v1",
            r"action of row 4, \[2.5\], is outside of .* clip or rescale .*1 of 30 are outside",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            check_for(wrong, rlzoo.envs.make(env), "prdc")
    walker = unknown.replace(about=data.About("walker2d-medium-v2", "walker2d"))
    with pytest.raises(
        ValueError, match="was recorded in walker2d, not in brax/halfcheetah spring; .* if it is the same"
    ):
        check_for(walker, rlzoo.envs.make("brax/halfcheetah", backend="spring"), "prdc")
    with pytest.raises(ValueError, match="has observations"):  # the family fits; it is the made-up rows that do not
        check_for(walker, rlzoo.envs.make("brax/walker2d", backend="spring"), "prdc")
    two = pendulum._replace(action_space=Box(-np.ones(2, np.float32), np.ones(2, np.float32)))
    with pytest.raises(ValueError, match=r"has actions \[1\], continuous"):
        check_for(unknown, two, "prdc")
    for key in ("obs", "reward", "next_obs"):
        broken = unknown.replace(**{key: getattr(unknown, key).at[7].set(jnp.nan)})
        with pytest.raises(ValueError, match=f"dataset 'own': {key} is not finite in 1 of 30 rows, first in row 7"):
            check_for(broken, pendulum, "prdc")
    integers = unknown.replace(action=jnp.zeros(30, jnp.int32))
    with pytest.raises(ValueError, match="has actions discrete"):
        check_for(integers, pendulum, "prdc")


# --- Minari -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def minari(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return pytest.importorskip("minari")


def test_minari_there_and_back(minari, tmp_path):
    dataset, env = recorded(), rlzoo.envs.make("gymnax/Pendulum-v1")
    data.minari.save("rlzoo/own-v0", dataset, env)
    found = data.load(tmp_path / "rlzoo" / "own-v0")
    assert_same_bits(found.replace(about=None), dataset.replace(about=None))
    assert found.about == dataset.about._replace(name="rlzoo/own-v0")
    cut = data.load(tmp_path / "rlzoo" / "own-v0", drop_timeouts=True)
    assert cut.num_rows == 28 and np.flatnonzero(cut.last).tolist() == [8, 13, 27]
    np.testing.assert_array_equal(cut.obs[9], dataset.obs[10])


def test_minari_dictionaries(minari, tmp_path):
    from gymnasium import spaces
    from minari.data_collector import EpisodeBuffer

    sizes = {"observation": 3, "achieved_goal": 2, "desired_goal": 1}
    obs = {key: RNG.normal(size=(5, size)) for key, size in sizes.items()}
    episode = EpisodeBuffer(
        observations=obs,
        actions=np.zeros((4, 1), np.float32),
        rewards=np.arange(4.0),
        terminations=np.zeros(4, bool),
        truncations=np.arange(4) == 3,
        infos={},
    )
    box = lambda size: spaces.Box(-np.inf, np.inf, (size,))  # noqa: E731
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        minari.create_dataset_from_buffers(
            "own/maze-v0",
            buffer=[episode],
            observation_space=spaces.Dict({key: box(size) for key, size in sizes.items()}),
            action_space=box(1),
        )
    path = tmp_path / "own" / "maze-v0"
    with pytest.raises(ValueError, match="unknown option of this format 'horizon'"):
        data.load(path, horizon=4)
    whole = data.load(path)
    np.testing.assert_allclose(whole.obs, np.concatenate([obs[key][:-1] for key in sorted(obs)], 1), rtol=1e-6)
    np.testing.assert_allclose(whole.next_obs[-1], np.concatenate([obs[key][-1] for key in sorted(obs)]), rtol=1e-6)
    assert not whole.terminated.any() and np.flatnonzero(whole.last).tolist() == [3]
    chosen = data.load(path, obs_keys=("observation", "achieved_goal"))
    np.testing.assert_allclose(
        chosen.obs, np.concatenate([obs["observation"], obs["achieved_goal"]], 1)[:-1], rtol=1e-6
    )
    with pytest.raises(ValueError, match="obs_keys goal are not among achieved_goal, desired_goal, observation"):
        data.load(path, obs_keys=("goal",))
    metadata = path / "data" / "metadata.json"
    metadata.write_text(json.dumps({"total_episodes": "many"}))
    with pytest.raises(ValueError, match="is damaged, or no Minari dataset"):
        data.load(path)


def test_minari_of_another_environment(minari, tmp_path):
    """What others recorded is known by the family in the dataset's id."""
    env = rlzoo.envs.make("gymnax/Pendulum-v1")
    data.minari.save("mujoco/walker2d/medium-v0", recorded().replace(about=data.About()), env)
    found = data.load(tmp_path / "mujoco" / "walker2d" / "medium-v0")
    assert found.about.env == "walker2d"
    with pytest.raises(ValueError, match="was recorded in walker2d, not in gymnax/Pendulum-v1"):
        check_for(found, env, "prdc")


def episode(**changes):
    """An episode of 4 steps as Minari hands it over."""
    fields = {
        "id": 7,
        "observations": RNG.normal(size=(5, 3)),
        "actions": np.zeros((4, 1), np.float32),
        "rewards": np.arange(4.0),
        "terminations": np.zeros(4, bool),
        "truncations": np.arange(4) == 3,
    }
    return SimpleNamespace(**(fields | changes))


def fake_minari(episodes):
    """What Minari's own reader shows of a folder."""
    from gymnasium.spaces import Box

    return SimpleNamespace(
        id="own",
        storage=SimpleNamespace(metadata={}),
        total_steps=4 * len(episodes),
        observation_space=Box(-1.0, 1.0, (3,)),
        iterate_episodes=lambda: episodes,
    )


def declare(folder, steps, **changes):
    """A Minari dataset's metadata, as far as we read them ourselves."""
    box = {"type": "Box", "dtype": "float32", "shape": [3], "low": [-1.0] * 3, "high": [1.0] * 3}
    about = {"total_steps": steps, "total_episodes": 1, "observation_space": json.dumps(box)}
    about["action_space"] = json.dumps(box | {"shape": [1], "low": [-1.0], "high": [1.0]})
    (folder / "metadata.json").write_text(json.dumps(about | changes))


def test_minari_does_not_open_other_files(minari, tmp_path):
    (tmp_path / "data").mkdir()
    with h5py.File(tmp_path / "data" / "main_data.hdf5", "w") as file:
        file["episode_0/actions"] = h5py.ExternalLink("/etc/secret.hdf5", "/actions")
    with pytest.raises(ValueError, match="main_data.hdf5: episode_0/actions is a link, or lies elsewhere"):
        data.minari.load(tmp_path)
    (tmp_path / "data" / "main_data.hdf5").write_bytes(b"no HDF5")
    with pytest.raises(ValueError, match="is damaged, or no Minari dataset"):
        data.minari.load(tmp_path)


def test_bad_minari(minari, tmp_path, monkeypatch):
    nan = np.full((5, 3), np.nan)
    declare(tmp_path, 8)
    for episodes, message in (
        ([], "has no episodes; it needs one or more"),
        ([episode(observations=nan)], "obs is not finite in 4 of 4 rows, first in row 0: nan"),
        ([episode(observations=np.zeros((4, 3)))], "episode 7: 4 observations of 4 steps; it needs one more than"),
        ([episode(observations=(nan, nan))], "episode 7: its observations are tuples"),
        (
            [episode(observations={"a": {"b": nan}})],
            "episode 7: its observations' entry a is a dict; it must be an array",
        ),
        ([episode(actions={"a": np.zeros(4)})], "episode 7: its actions are a dict of arrays"),
        ([episode(actions=np.zeros((3, 1)))], "episode 7: its keys have unequal numbers of rows: .*'action': 3"),
        ([episode(truncations=np.full(4, 0.5))], "episode 7: truncations of row 0 is 0.5; a flag is 0 or 1"),
        (
            [episode(), episode(actions=np.zeros((4, 2)))],
            r"a row of action has shape \[2\], of the first episode \[1\]",
        ),
    ):
        fake = fake_minari(episodes)
        monkeypatch.setattr(minari, "MinariDataset", lambda folder, fake=fake: fake)
        with pytest.raises(ValueError, match=message):
            data.minari.load(tmp_path)
    middle = episode(truncations=np.array([False, True, False, True]))
    fake = fake_minari([middle])
    monkeypatch.setattr(minari, "MinariDataset", lambda folder: fake)
    cut = data.minari.load(tmp_path, drop_timeouts=True)
    assert cut.reward.tolist() == [0.0, 2.0] and cut.last.tolist() == [True, True]  # a gap between them


def test_minari_sizes_are_counted_before_anything_is_made_of_them(minari, tmp_path, monkeypatch):
    """Neither a space nor an episode is allocated; and no environment is made, whose code would run."""

    def made(folder):
        raise AssertionError("Minari was asked")

    monkeypatch.setattr(minari, "MinariDataset", made)
    monkeypatch.setattr(data.dataset, "device_memory", lambda: 2**30)
    box = {"type": "Box", "dtype": "float32", "shape": [2 * 10**9], "low": 0.0, "high": 1.0}
    bits = {"type": "MultiBinary", "n": 2 * 10**9}
    nested = {"type": "Dict", "subspaces": {"a": bits, "b": {"type": "Tuple", "subspaces": [bits]}}}
    for changes, message in (
        ({"total_steps": 10**9}, "takes 52.2 GiB, as transitions and normalised; the device has 1.0 GiB"),
        ({"observation_space": json.dumps(bits)}, "takes 238.4 GiB, as transitions and normalised"),
        ({"observation_space": json.dumps(nested)}, "takes 476.8 GiB, as transitions and normalised"),
        ({"observation_space": json.dumps(box)}, "has other bounds than that"),
        ({"total_episodes": 10**10}, "total_episodes is 10000000000; it must be a whole number, 8 or less"),
        ({"total_steps": "8"}, "total_steps is '8'; it must be a whole number"),
        ({"total_steps": True}, "total_steps is True; it must be a whole number"),
        ({"observation_space": None, "env_spec": "{}"}, "has no observation_space, or no action_space"),
        ({"observation_space": "[" * 10**5}, "is damaged, or no Minari dataset: RecursionError"),
    ):
        declare(tmp_path, 8, **changes)
        with pytest.raises(ValueError, match=message):
            data.minari.load(tmp_path)
    declare(tmp_path, 8)
    with h5py.File(tmp_path / "main_data.hdf5", "w") as file:  # a few kilobytes
        file.create_dataset("episode_0/rewards", (10**9,), "f4", chunks=(10**6,), compression="gzip")
    with pytest.raises(ValueError, match="takes 7.5 GiB, as transitions and normalised"):
        data.minari.load(tmp_path)


def test_minari_by_its_id(minari, tmp_path):
    env = rlzoo.envs.make("gymnax/Pendulum-v1")
    data.minari.save("me/x-v0", recorded(), env)
    assert_same_bits(data.load("me/x-v0"), data.load(tmp_path / "me" / "x-v0"))
    assert data.load("me/x-v0", drop_timeouts=True).num_rows == 28
    for missing in ("me/x-v1", "D4RL/pen/human-v2"):
        with pytest.raises(ValueError, match=f"no dataset of id {missing}; .* or its id .after `minari download ID`"):
            data.load(missing)


def test_minari_writes_to_a_relative_place(minari, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", "here")
    data.minari.save("me/x-v0", recorded(), rlzoo.envs.make("gymnax/Pendulum-v1"))
    assert data.load("here/me/x-v0").num_rows == data.load("me/x-v0").num_rows == 30


def test_sizes_of_npz_and_hdf5_are_counted_before_they_are_read(tmp_path, monkeypatch):
    """Files of a few kilobytes that would take gigabytes; integers of a byte count as what they become."""
    monkeypatch.setattr(data.dataset, "device_memory", lambda: 2**20)
    monkeypatch.setattr(np.lib.format, "read_array", None)  # nothing may be read
    monkeypatch.setattr(h5py.Dataset, "__getitem__", None)
    path = tmp_path / "own.npz"
    zeros = np.zeros((1000, 200), np.uint8)
    one = {"action": zeros[:, :1], "reward": zeros[:, 0], "terminated": zeros[:, 0], "last": zeros[:, 0]}
    np.savez_compressed(path, obs=zeros, next_obs=zeros, **one)
    with pytest.raises(ValueError, match=r"own.npz takes 3.1 MiB, as transitions and normalised; the device has 1.0 M"):
        data.load(path)
    segments = {key: zeros[:, 0] for key in ("score", "first", "second", "label")}
    np.savez_compressed(path, obs=zeros[:, :, None], action=zeros[:, :, None], **segments)
    with pytest.raises(ValueError, match=r"own.npz takes 3.1 MiB"):
        data.preferences.load(path)
    with h5py.File(tmp_path / "own.hdf5", "w") as file:
        for key, shape in {"observations": (10**9, 3), "actions": (10**9, 1), "rewards": (10**9,)}.items():
            file.create_dataset(key, shape, "u1", chunks=(10**5, *shape[1:]), compression="gzip")
        file.create_dataset("terminals", (10**9,), "u1", chunks=(10**5,), compression="gzip")
    with pytest.raises(ValueError, match=r"own.hdf5 takes 59.6 GiB"):
        data.load(tmp_path / "own.hdf5")


@pytest.mark.parametrize("load", [data.load, data.preferences.load], ids=["dataset", "preferences"])
@pytest.mark.parametrize("version", ["raw", "2.0", "short", "text"])
def test_members_that_are_no_arrays_of_numbers(tmp_path, load, version):
    path = tmp_path / "own.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        if version == "raw":
            archive.writestr("obs", b"hello")
        with archive.open("obs.npy" if version != "raw" else "other.npy", "w") as file:
            if version == "2.0":
                np.lib.format.write_array(file, np.zeros(3), version=(2, 0))
            elif version == "short":  # of a billion numbers, says the header
                np.lib.format.write_array_header_1_0(file, {"shape": (10**9,), "fortran_order": False, "descr": "<f4"})
            else:
                np.lib.format.write_array(file, np.array(["a"] * 3))
    message = {
        "raw": "obs is no array, but a file of another kind",
        "2.0": r"obs.npy is of NumPy's format \(2, 0\)",
        "short": r"obs.npy is float32\[1000000000\], but has \d+ bytes",
        "text": "own.npz lacks action",
    }[version]
    with pytest.raises(ValueError, match=f"own.npz.*{message}|{message}"):
        load(path)


def test_numbers_that_their_type_cannot_hold(tmp_path):
    good = recorded()
    for action, message in (
        (np.full((30, 1), 1e39), "action is not finite in 30 of 30 rows, first in row 0: inf"),
        (np.full(30, 2**31), "action has 2147483648; integers are from -2147483648 to 2147483647"),
    ):
        data.save(tmp_path / "own.npz", good.replace(action=action))
        with pytest.raises(ValueError, match=message):
            data.load(tmp_path / "own.npz")


def test_datasets_are_pytrees_without_their_text():
    dataset = recorded()
    assert len(jax.tree.leaves(dataset)) == 6
    assert jax.jit(lambda x: x.reward.sum())(dataset).shape == ()


# --- recording --------------------------------------------------------------------------------------------------------


def assert_episodes_are_whole(dataset, env):
    """Inside an episode rows follow each other; the environment's own dynamics made them."""
    follows = ~np.asarray(dataset.last)[:-1]
    np.testing.assert_array_equal(np.asarray(dataset.next_obs)[:-1][follows], np.asarray(dataset.obs)[1:][follows])
    assert not np.asarray(dataset.terminated & ~dataset.last).any()
    assert jax.vmap(env.action_space.contains)(dataset.action).all()
    assert dataset.about.env == env.name
    moved = np.asarray(dataset.next_obs - dataset.obs) - np.asarray(dataset.action) * [0.5, 0.2]
    assert 0.09 < moved.std() < 0.11  # the noise of `plane`


def test_collecting():
    env = plane()
    dataset = data.collect(env, None, KEY, 400, num_envs=4)
    assert dataset.num_rows == 400
    assert_episodes_are_whole(dataset, env)
    assert np.asarray(dataset.last)[99::100].all()
    assert np.asarray(dataset.terminated).any() and np.asarray(dataset.last & ~dataset.terminated).sum() > 4
    assert_same_bits(dataset, data.collect(env, None, KEY, 400, num_envs=4))
    left = data.collect(env, lambda obs, key: jnp.full((2, 2), -1.0), KEY, 20, num_envs=2)
    assert (left.action == -1.0).all() and not left.terminated.any()
    for num_rows, num_envs in ((30, 4), (0, 4), (30, 0)):
        with pytest.raises(ValueError, match=f"num_rows={num_rows} is no multiple of num_envs={num_envs}"):
            data.collect(env, None, KEY, num_rows, num_envs=num_envs)
    with pytest.raises(ValueError, match="a recording of own/plane: obs is not finite in .*; drop those rows"):
        data.collect(env, lambda obs, key: jnp.full((2, 2), jnp.nan), KEY, 20, num_envs=2)
    cut = jax.tree.map(lambda x: x[:30], dataset)  # in the middle of an episode
    assert cut.ends()[-1] == 29 and cut.episode_returns().sum() == pytest.approx(float(cut.reward.sum()), rel=1e-5)


def test_the_best_episodes():
    """Of returns 45, 60 and 330 (rewards count the rows): the better ones, whole, in their order."""
    rows = np.arange(30, dtype=np.float32)
    dataset = recorded().replace(reward=jnp.asarray(rows))  # episodes end at rows 9, 14 and 29
    best = data.best_episodes(dataset, 0.5)
    assert best.reward.tolist() == rows[10:].tolist() and np.flatnonzero(best.last).tolist() == [4, 19]
    assert data.best_episodes(dataset, 0.01).reward.tolist() == rows[15:].tolist()
    assert_same_bits(data.best_episodes(dataset, 1.0), dataset)
    for share in (0.0, 1.1):
        with pytest.raises(ValueError, match=f"share={share}; it must be above 0 and at most 1"):
            data.best_episodes(dataset, share)


def test_a_replay_buffer_as_a_dataset():
    env = plane()
    config = rlzoo.sac.Config(num_envs=2, num_steps=3, batch_size=16, capacity=300, warmup=24, hidden=(4,))
    algo = rlzoo.sac.make(env, config)
    state, _ = rlzoo.train(algo, KEY, 20)
    dataset = data.from_replay(env, state.replay, 24 + 20 * 6, num_envs=2)
    assert dataset.num_rows == 144
    assert_episodes_are_whole(dataset, env)
    assert float(jnp.abs(dataset.action[:, 1]).max()) > 1.5  # in the environment's own units
    with pytest.raises(
        ValueError, match="written=301 of capacity=300; both must be multiples of num_envs=2, 1 or more"
    ):
        data.from_replay(env, state.replay, 301, num_envs=2)


def test_a_replay_buffer_that_is_full():
    """Two environments, 5 times in a buffer of 4: the oldest rows are gone, the rest is in the order of time."""
    times, env = jnp.arange(5.0), plane()
    buffer = replay.init(jax.tree.map(lambda x: x[0], row_at(0.0)), 8)
    for blocks, time in enumerate(times):
        buffer = replay.add(buffer, row_at(time), jnp.int32(blocks))
    dataset = data.from_replay(env, buffer, 10, num_envs=2)
    assert dataset.obs[:, 0].tolist() == [1, 2, 3, 4, 11, 12, 13, 14]
    assert (dataset.next_obs == dataset.obs + 1).all() and np.flatnonzero(dataset.last).tolist() == [3, 7]
    assert data.from_replay(env, buffer, 4, num_envs=2).num_rows == 4


def row_at(time):
    """One transition of each of two environments: the observation of the second is larger by 10."""
    obs = jnp.array([time, time + 10.0])[:, None] * jnp.ones(2)
    never = jnp.zeros(2, bool)
    return Transition(obs, jnp.zeros((2, 2)), jnp.zeros(2), never, never, obs + 1.0)


@pytest.mark.parametrize("name", ["random", "medium-replay", "medium", "medium-expert", "expert"])
def test_the_datasets_that_come_with_the_tests(name):
    path = Path(__file__).parent / "data" / f"pendulum-{name}.npz"
    assert path.stat().st_size < 2 * 2**20
    dataset = data.load(path)
    check_for(dataset, rlzoo.envs.make("gymnax/Pendulum-v1"), "prdc")
    score = data.quality(dataset).trajectory_quality
    low, high = {"random": (-0.1, 0.1), "expert": (0.9, 1.1)}.get(name, (-0.05, 0.95))
    assert dataset.about.name == f"pendulum-{name}" and low < score < high
    assert not dataset.terminated.any() and (np.diff(np.flatnonzero(dataset.last))[:-1] == 200).all()


def test_quality():
    dataset = plane_dataset(200)
    about = data.About("plane", "own/plane", -5.0, 5.0)
    found = data.quality(dataset.replace(about=about))
    ends = np.flatnonzero(dataset.last) + 1
    pieces = np.split(np.asarray(dataset.reward, np.float64), ends[:-1])
    np.testing.assert_allclose(found.returns, [piece.sum() for piece in pieces], rtol=1e-5)
    assert found.trajectory_quality == pytest.approx((np.mean(found.returns) + 5.0) / 10.0, rel=1e-5)
    assert found.num_episodes == len(ends) and 0.5 < found.coverage <= 1.0
    half = jax.tree.map(lambda x: x[:100], dataset)
    assert data.quality(half, reference=dataset).coverage < data.quality(dataset, reference=dataset).coverage == 1.0
    assert np.isnan(data.quality(dataset).trajectory_quality)
    same = data.quality(dataset.replace(obs=jnp.zeros((200, 2)), action=jnp.zeros((200, 2))))
    assert same.coverage == pytest.approx(1 / 200)
    assert f"200 transitions in {len(ends)} episodes; mean return" in str(found) and "█" in str(found)
