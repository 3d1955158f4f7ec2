"""Episodes as pictures: the right frames, for every environment that has a scene."""

import sys

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image, ImageSequence

import rlzoo
from rlzoo import ppo, report
from rlzoo.drivers.render import episode
from rlzoo.report import scenes

SMALL = ppo.Config(num_envs=2, num_steps=8, num_epochs=1, num_minibatches=1, hidden=(8,))
KEY = jax.random.key(3)


def frames(path):
    with Image.open(path) as image:
        return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]


def agent(name):
    env = rlzoo.envs.make(name)
    algo = ppo.make(env, SMALL)
    return algo, env, rlzoo.init(algo, jax.random.key(0))


def test_an_episode_is_what_evaluation_of_the_same_keys_gives(tiny, cartpole):
    """Its rewards are those of the steps until the first end; its last observation is the one before the reset."""
    state = rlzoo.init(tiny, KEY)
    seen = episode(tiny, cartpole, state, KEY)
    reset_key, run_key = jax.random.split(KEY)
    obs, inner = cartpole.reset(reset_key, cartpole.params)
    for t, key in enumerate(jax.random.split(run_key, cartpole.horizon)):
        np.testing.assert_allclose(seen.obs[t], obs, rtol=1e-5, atol=1e-6)
        act_key, env_key = jax.random.split(key)
        action = tiny.policy(tiny.actor(state), obs[None], act_key, True)[0]
        assert action == seen.action[t]
        inner, now = cartpole.step(env_key, inner, action, cartpole.params)
        obs = now.obs
        if now.terminated | now.truncated:
            break
    assert len(seen.reward) == t + 1 and len(seen.obs) == t + 2 and len(seen.states.time) == t + 1
    np.testing.assert_allclose(seen.obs[-1], now.next_obs, rtol=1e-5, atol=1e-6)
    assert abs(seen.obs[-1][2]) > 0.2  # the pole has fallen, which the observation after the reset does not show


SUITES = dict.fromkeys(rlzoo.envs.names("rlzoo"), "rlzoo")


@pytest.mark.parametrize("name", [*scenes.SCENES, "Breakout-MinAtar", "Catch-bsuite"])
def test_every_scene_moves(name, tmp_path):
    """What is below the caption differs between two observations, and is the same for the same one."""
    env = rlzoo.envs.make(f"{SUITES.get(name, 'gymnax')}/{name}")
    first, second = (np.asarray(env.reset(jax.random.key(i), env.params)[0]) for i in range(2))
    obs = np.stack([first, np.roll(second, 1, axis=0) + 0.3, first])
    drawn = frames(report.animate(tmp_path / "film.gif", obs, np.ones(2), scenes.scene_of(name, env.obs_space.shape)))
    below = [frame[60:] for frame in drawn]
    assert len(drawn) == 3 and (below[0] != below[1]).any()
    assert name == "RiskyPointMass-v0" or (below[0] == below[2]).mean() > 0.99  # it leaves a trail


def test_where_things_are_drawn():
    """The pole of a cart at 1 leans right by a right angle; an upright pendulum points up."""
    axes = Figure().add_subplot()
    scenes.cartpole(axes)(np.array([1.0, 0.0, np.pi / 2, 0.0]))
    np.testing.assert_allclose(axes.lines[-1].get_xydata(), [[1, 0.125], [2, 0.125]], atol=1e-6)
    axes = Figure().add_subplot()
    scenes.cart_and_pole(axes)(np.array([1.0, -1.0, 0.0, 0.0, 0.0]))  # the pole hangs
    np.testing.assert_allclose(axes.lines[-1].get_xydata(), [[1, 0.125], [1, -0.875]], atol=1e-6)
    axes = Figure().add_subplot()
    scenes.pendulum(axes)(np.array([1.0, 0.0, 0.0]))
    np.testing.assert_allclose(axes.lines[-1].get_xydata(), [[0, 0], [0, 1]], atol=1e-6)
    axes = Figure().add_subplot()
    scenes.acrobot(axes)(np.array([1.0, 0.0, 1.0, 0.0, 0.0, 0.0]))  # both links hang
    np.testing.assert_allclose(axes.lines[-1].get_xydata(), [[0, 0], [0, -1], [0, -2]], atol=1e-6)
    axes = Figure().add_subplot()
    cells = np.zeros((4, 5, 3))
    cells[1, 2, 2] = 1
    scenes.grid(cells.shape)(axes)(cells)
    assert np.argwhere(axes.images[0].get_array()).tolist() == [[1, 2]]


def test_steps_are_left_out_above_25_frames_a_second(tmp_path):
    obs = np.linspace(0, 1, 101)[:, None] * np.ones(4)
    path = report.animate(tmp_path / "a.gif", obs, np.ones(100), scenes.cartpole, seconds_per_step=0.02)
    with Image.open(path) as image:
        assert image.n_frames == 51 and image.info["duration"] == 40


def test_what_cannot_be_filmed_is_said(tmp_path, monkeypatch, tiny, cartpole):
    state = rlzoo.init(tiny, KEY)
    with pytest.raises(ValueError, match=r"film.avi is no moving picture; give a name that ends in .gif or .mp4"):
        rlzoo.render(tmp_path / "film.avi", tiny, cartpole, state, KEY)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ValueError, match="an MP4 needs ffmpeg"):
        rlzoo.render(tmp_path / "film.mp4", tiny, cartpole, state, KEY)
    runs = rlzoo.sweep(tiny)
    with pytest.raises(ValueError, match=r"holds agents \[1, 2\]; an episode is of one"):
        rlzoo.render(tmp_path / "film.gif", runs, cartpole, rlzoo.init(runs, jax.random.split(KEY)), KEY)
    assert not list(tmp_path.glob("film*"))


def test_a_scene_of_ones_own(tmp_path):
    algo, env, state = agent("probe/delayed-reward")
    with pytest.raises(ValueError, match="no scene of probe/delayed-reward .*is known"):
        rlzoo.render(tmp_path / "film.gif", algo, env, state, KEY)

    def scene(axes):
        (line,) = axes.plot([], [], "o")
        return lambda obs: line.set_data([obs[0]], [obs[0]])

    path = rlzoo.render(tmp_path / "film.gif", algo, env, state, KEY, scene=scene)
    assert len(frames(path)) >= 2


def test_an_mp4(tmp_path):
    """Of as many frames as the GIF; the ffmpeg is the machine's, or imageio-ffmpeg's."""
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    path = report.animate(tmp_path / "a.mp4", np.zeros((9, 4)), np.ones(8), scenes.cartpole)
    assert b"ftyp" in path.read_bytes()[:12]
    assert imageio_ffmpeg.count_frames_and_secs(path) == (9, pytest.approx(0.9, abs=0.05))


def test_brax_gives_its_page(tmp_path):
    """With a state of every step, also of an environment around it."""
    env = rlzoo.envs.make("brax/inverted_pendulum", backend="spring", horizon=5)
    algo = ppo.make(env, SMALL)
    state = rlzoo.init(algo, KEY)
    with pytest.raises(ValueError, match="brax is shown in a browser; give a name that ends in .html"):
        rlzoo.render(tmp_path / "film.gif", algo, env, state, KEY)
    page = rlzoo.render(tmp_path / "film.html", algo, env, state, KEY).read_text()
    assert "<html" in page and len(page) > 2_000
    noisy = rlzoo.envs.stochastic(env, action_noise=0.1)
    assert "<html" in rlzoo.render(tmp_path / "noisy.html", algo, noisy, state, KEY).read_text()
