"""The second player: where forces enter, what they may be, and the two environments that a game is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_same_bits

import rlzoo
from rlzoo.envs import adversarial, with_adversary, with_protagonist

KEY = jax.random.key(8)
ADDITIVE = ["Pendulum-v1", "MountainCarContinuous-v0", "Reacher-misc", "Swimmer-misc", "PointRobot-misc"]


@pytest.fixture(scope="module")
def pendulum():
    return adversarial(rlzoo.envs.make("gymnax/Pendulum-v1"), max_force=0.4)


@pytest.mark.parametrize("name", ADDITIVE)
@pytest.mark.parametrize("on", ["force", "action"])
def test_without_a_push_it_is_the_environment(name, on):
    env = rlzoo.envs.make(f"gymnax/{name}")
    game = adversarial(env, on=on)
    obs, state = env.reset(KEY, env.params)
    assert_same_bits(game.env.reset(KEY, game.env.params), (obs, state))
    action = env.action_space.sample(KEY)
    theirs, now = env.step(KEY, state, action, env.params)
    ours, same = game.env.step(KEY, state, action, game.env.params)
    np.testing.assert_allclose(same.next_obs, now.next_obs, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(same.reward, now.reward, rtol=1e-6)
    assert jax.tree.structure(theirs) == jax.tree.structure(ours)
    assert game.env.action_space == env.action_space and len(game.forces) == env.action_space.shape[0]


def test_a_torque_on_the_pendulum_by_hand(pendulum):
    """The own torque is clipped to 2, the adversary's comes on top, and the reward counts the own alone."""
    _, state = pendulum.env.reset(KEY, pendulum.env.params)
    th, dot = float(state.theta), float(state.theta_dot)
    for own, push, total in ((5.0, 1.0, 2.4), (-5.0, 3.0, -1.6), (0.5, -0.25, 0.4), (5.0, 0.0, 2.0)):
        _, now = pendulum.step(KEY, state, jnp.array([own]), jnp.array([push]), pendulum.env.params)
        faster = np.clip(dot + (15.0 * np.sin(th) + 3.0 * total) * 0.05, -8.0, 8.0)
        wanted = [np.cos(th + faster * 0.05), np.sin(th + faster * 0.05), faster]
        np.testing.assert_allclose(now.next_obs, wanted, rtol=1e-5, atol=1e-6)
        angle = (th + np.pi) % (2 * np.pi) - np.pi
        cost = angle**2 + 0.1 * dot**2 + 0.001 * np.clip(own, -2.0, 2.0) ** 2
        np.testing.assert_allclose(now.reward, -cost, rtol=1e-5)


def test_the_cars_reward_counts_its_own_force():
    game = adversarial(rlzoo.envs.make("gymnax/MountainCarContinuous-v0"), max_force=0.3)
    _, state = game.env.reset(KEY, game.env.params)
    _, now = game.step(KEY, state, jnp.array([1.0]), jnp.array([1.0]), game.env.params)
    position = float(state.position)
    velocity = 1.3 * 0.0015 - np.cos(3 * position) * 0.0025
    np.testing.assert_allclose(now.next_obs, [position + velocity, velocity], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(now.reward, -0.1, rtol=1e-5)


def test_pushes_on_the_arm_the_swimmer_and_the_point_by_hand():
    """An acceleration of both joints; of the body; and a step of the point, whose own one is clipped before."""
    both = jnp.array([1.0, -0.5])
    game = adversarial(rlzoo.envs.make("gymnax/Reacher-misc"), max_force=0.3)
    _, state = game.env.reset(KEY, game.env.params)
    after, _ = game.step(KEY, state, jnp.array([0.2, 0.4]), both, game.env.params)
    inner = game.env.params.env
    wanted = state.angle_vels + inner.dt * inner.torque_scale * jnp.array([0.5, 0.25])
    np.testing.assert_allclose(after.angle_vels, wanted, rtol=1e-5, atol=1e-6)

    game = adversarial(rlzoo.envs.make("gymnax/Swimmer-misc"), max_force=0.3)
    _, state = game.env.reset(KEY, game.env.params)
    after, _ = game.step(KEY, state, jnp.array([0.2, 0.4]), both, game.env.params)
    wanted = state.xy_vel + game.env.params.env.dt * jnp.array([0.5, 0.25])
    np.testing.assert_allclose(after.xy_vel, wanted, rtol=1e-5, atol=1e-6)

    game = adversarial(rlzoo.envs.make("gymnax/PointRobot-misc"), max_force=0.03)
    _, state = game.env.reset(KEY, game.env.params)
    limit = float(game.env.params.env.max_force)
    after, _ = game.step(KEY, state, jnp.array([9.0, 0.5 * limit]), both, game.env.params)
    wanted = state.pos + jnp.array([limit + 0.03, 0.5 * limit - 0.015])
    np.testing.assert_allclose(after.pos, wanted, rtol=1e-5, atol=1e-6)


def test_limit_and_disturbance_are_parameters(pendulum):
    """Under vmap: twice the limit with half the push is the same, and a constant disturbance is a push of nobody's."""
    params = pendulum.env.params
    _, state = pendulum.env.reset(KEY, params)
    action = jnp.array([0.3])

    def step(push, limit, constant):
        changed = params._replace(max_force=limit, disturbance=constant)
        return pendulum.step(KEY, state, action, push, changed)[1].next_obs

    obs = jax.vmap(step)(
        jnp.array([[0.5], [0.25], [0.0], [9.0]]),
        jnp.array([0.4, 0.8, 0.4, 0.1]),
        jnp.array([[0.0], [0.0], [0.2], [0.1]]),
    )
    np.testing.assert_allclose(obs, jnp.broadcast_to(obs[0], obs.shape), rtol=1e-6)
    still = pendulum.env.step(KEY, state, action, params)[1].next_obs
    assert not np.allclose(still, obs[0])


def test_pushed_actions_stay_in_their_box():
    env = rlzoo.envs.make("gymnax/Pendulum-v1")
    game = adversarial(env, on="action", max_force=0.25)
    _, state = env.reset(KEY, env.params)
    for own, push, done in ((1.0, 1.0, 1.5), (2.0, 1.0, 2.0), (0.0, -1.0, -0.5)):
        _, pushed = game.step(KEY, state, jnp.array([own]), jnp.array([push]), game.env.params)
        _, wanted = env.step(KEY, state, jnp.array([done]), env.params)
        np.testing.assert_allclose(pushed.next_obs, wanted.next_obs, rtol=1e-6)
        np.testing.assert_allclose(pushed.reward, wanted.reward, rtol=1e-6)


def test_both_players_see_one_zero_sum_game(pendulum):
    """Each in the other's environment, with the same policies: the same observations, opposite rewards."""
    push = lambda gain, obs, key: gain * obs[:1]  # noqa: E731
    act = lambda gain, obs, key: gain * obs[1:2]  # noqa: E731
    first = with_adversary(pendulum, push, jnp.float32(0.7))
    second = with_protagonist(pendulum, act, jnp.float32(1.5))
    (obs, one), (same, two) = first.reset(KEY, first.params), second.reset(KEY, second.params)
    for _ in range(3):
        np.testing.assert_array_equal(obs, same)
        one, now = first.step(KEY, one, act(1.5, obs, KEY), first.params)
        two, other = second.step(KEY, two, push(0.7, obs, KEY), second.params)
        obs, same = now.obs, other.obs
        assert float(now.reward) == -float(other.reward) != 0.0
    assert second.action_space.shape == (1,) and first.action_space == pendulum.env.action_space
    softer = first.params._replace(actor=jnp.float32(0.0))
    _, now = first.step(KEY, one, act(1.5, obs, KEY), softer)
    _, alone = pendulum.env.step(jax.random.split(KEY)[0], one[1], act(1.5, obs, KEY), pendulum.env.params)
    np.testing.assert_allclose(now.next_obs, alone.next_obs, rtol=1e-6)


@pytest.mark.slow  # compiles mjx
def test_a_force_on_a_foot():
    """mjx: pushes reach the named body, persist through the frame-skip, and are gone with the next step."""
    env = rlzoo.envs.make("brax/hopper", backend="mjx")
    game = adversarial(env, max_force=100.0)
    assert game.forces == ("foot x", "foot z") and game.unit == "N, of twists N m"
    step, reset = jax.jit(game.step), jax.jit(game.env.reset)
    _, state = reset(KEY, game.env.params)
    still, pushed = (step(KEY, state, jnp.zeros(3), jnp.array(x), game.env.params) for x in ([0.0, 0.0], [1.0, 0.0]))
    applied = pushed[0].inner.pipeline_state.xfrc_applied
    assert float(applied[4, 0]) == 100.0 and float(jnp.abs(applied).sum()) == 100.0
    speed = lambda now: float(now[0].inner.pipeline_state.xd.vel[3, 0])  # noqa: E731  of the foot along x
    assert speed(pushed) > speed(still) + 0.05
    after, _ = step(KEY, pushed[0], jnp.zeros(3), jnp.zeros(2), game.env.params)
    assert not np.asarray(after.inner.pipeline_state.xfrc_applied).any()


def test_bodies_and_axes_of_ones_own():
    env = rlzoo.envs.make("brax/hopper", backend="mjx")
    game = adversarial(env, bodies={"torso": "xY", "leg": "z"}, max_force=2.0)
    assert game.forces == ("torso x", "torso Y", "leg z") and game.env.params.disturbance.shape == (3,)
    with pytest.raises(ValueError, match="it has no body 'hand'; allowed are torso, thigh, leg, foot"):
        adversarial(env, bodies={"hand": "x"})
    with pytest.raises(ValueError, match="allowed are axes out of 'xyzXYZ'"):
        adversarial(env, bodies={"torso": "w"})


def test_what_has_no_second_player():
    make = rlzoo.envs.make
    for env, arguments, message in (
        (make("gymnax/CartPole-v1"), {}, "discrete, 2 actions; an adversary needs a continuous"),
        (make("rlzoo/RiskyPointMass-v0"), {}, "no known site for a force; known are gymnax/Pendulum-v1"),
        (
            make("brax/hopper", backend="spring"),
            {},
            "known are .*brax/hopper mjx.*; any other of brax's on the backend mjx",
        ),
        (rlzoo.envs.stochastic(make("gymnax/Pendulum-v1")), {}, "no known site for a force"),
        (make("gymnax/Pendulum-v1"), {"max_force": 0.0}, "max_force=0.0; it must be positive, in N m"),
        (make("gymnax/Pendulum-v1"), {"max_force": -1.0}, "must be positive"),
        (make("gymnax/Pendulum-v1"), {"on": "mass"}, "on='mass'; allowed are 'force' and 'action'"),
        (make("gymnax/Pendulum-v1"), {"bodies": {"pole": "x"}}, "bodies are of forces in brax on the backend mjx"),
    ):
        with pytest.raises(ValueError, match=message):
            adversarial(env, **arguments)
