"""The cart and pole: against MuJoCo, against its energy, its reward by hand, and its adversary."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import rlzoo
from rlzoo.envs import cartpole_balance
from rlzoo.envs.cartpole_balance import DEFAULT, MAX_FORCE, STEP, State

MODEL = """
<mujoco>
  <option timestep="0.01" integrator="RK4"><flag contact="disable"/></option>
  <worldbody>
    <body pos="0 0 1">
      <joint name="slide" type="slide" axis="1 0 0" damping="5e-4"
             limited="true" range="-1.8 1.8" solreflimit="0.08 1"/>
      <geom type="box" size="0.2 0.15 0.1" mass="1"/>
      <body name="pole">
        <joint type="hinge" axis="0 1 0" damping="2e-6"/>
        <geom type="capsule" fromto="0 0 0 0 0 1" size="0.045" mass="0.1"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="slide" gear="10" ctrllimited="true" ctrlrange="-1 1"/></actuator>
</mujoco>
"""


def of_mujoco(position, velocity, actions, forces, masses=()):
    """Positions and velocities [T, 4] under actions [T] and forces on the pole [T, 2]."""
    model = mujoco.MjModel.from_xml_string(MODEL)
    if masses:
        model.body_mass[1:] = masses
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = position, velocity
    found = []
    for action, (x, z) in zip(actions, forces, strict=True):
        data.ctrl[0], data.xfrc_applied[2, [0, 2]] = action, (x, z)
        mujoco.mj_step(model, data)
        found.append([*data.qpos, *data.qvel])
    return np.array(found)


@jax.jit
def of_ours(position, velocity, actions, forces, params):
    def step(state, given):
        action, (x, z) = given
        state = cartpole_balance.integrate(state, params.gear * action, params._replace(force_x=x, force_z=z))
        return state, jnp.concatenate(state)

    return jax.lax.scan(step, State(position, velocity), (actions, forces))[1]


STARTS = {
    "balance": ([0.05, 0.03], [0.0, 0.01], {}),
    "swing-up": ([0.0, np.pi - 0.02], [0.01, -0.02], {}),
    "at speed": ([-0.5, 1.0], [1.0, -6.0], {}),
    "into the right end": ([1.5, 0.4], [2.0, 0.5], {}),
    "into the left end": ([-1.6, 3.0], [-3.0, 1.0], {}),
    "a pole of 20 kg": ([0.0, 0.02], [0.0, 0.0], {"pole_mass": 20.0}),
    "other masses": ([0.0, 3.0], [0.0, 0.0], {"cart_mass": 0.5, "pole_mass": 0.15}),
    "other masses into the right end": ([1.6, 1.0], [2.5, -1.0], {"cart_mass": 0.5, "pole_mass": 3.0}),
}
# In float32 the heaviest pole's rounding grows to 1.1e-3 of its speed of 3 rad / s within the second.
WITHIN = {(start, 32): 1e-4 for start in STARTS} | {("a pole of 20 kg", 32): 2e-3}


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("start", STARTS)
def test_trajectories_are_mujocos(start, bits):
    position, velocity, other = STARTS[start]
    rng = np.random.default_rng(0)
    actions = np.repeat(rng.uniform(-1.2, 1.2, 20), 5).clip(-1.0, 1.0)
    forces = np.repeat(rng.uniform(-MAX_FORCE, MAX_FORCE, (10, 2)), 10, axis=0)
    params = DEFAULT._replace(**other)
    with jax.enable_x64(bits == 64):
        given = [jnp.asarray(x, f"float{bits}") for x in (position, velocity, actions, forces)]
        ours = of_ours(*given, jax.tree.map(lambda x: jnp.asarray(x, f"float{bits}"), params))
    theirs = of_mujoco(position, velocity, actions, forces, other and (params.cart_mass, params.pole_mass))
    assert len(ours) == round(1.0 / STEP)
    np.testing.assert_allclose(ours, theirs, atol=WITHIN.get((start, bits), 1e-7), rtol=0.0)
    assert np.abs(theirs).max() > 0.5  # it moved
    if "end" in start:
        assert np.abs(theirs[:, 0]).max() > 1.8  # and reached the limit


def test_energy_is_kept_without_damping():
    params = DEFAULT._replace(cart_damping=0.0, pole_damping=0.0)
    lever = params.length / 2.0
    with jax.enable_x64(True):
        rest = jnp.zeros(100)
        path = of_ours(jnp.array([0.0, 2.0]), jnp.array([0.0, -3.0]), rest, jnp.zeros((100, 2)), params)
    _, theta, cart_speed, turn = np.array(path).T
    pole_speed = np.stack([cart_speed + lever * np.cos(theta) * turn, -lever * np.sin(theta) * turn])
    moving = params.cart_mass * cart_speed**2 + params.pole_mass * (pole_speed**2).sum(0) + params.inertia * turn**2
    energy = moving / 2.0 + params.pole_mass * params.gravity * lever * np.cos(theta)
    np.testing.assert_allclose(energy, energy[0], rtol=1e-6)


def test_the_inertia_is_mujocos():
    model = mujoco.MjModel.from_xml_string(MODEL)
    assert model.body_inertia[2, 0] == pytest.approx(DEFAULT.inertia, rel=1e-12)
    assert model.body_mass[1:].tolist() == [DEFAULT.cart_mass, DEFAULT.pole_mass]


def test_the_reward_by_hand():
    best = cartpole_balance.reward(State(jnp.zeros(2), jnp.zeros(2)), 0.0)
    assert best == 1.0
    state = State(jnp.array([1.0, np.pi / 3.0]), jnp.array([4.0, -2.5]))
    upright, centred, effort, slow = 0.75, (1.0 + 0.1**0.25) / 2.0, (4.0 + 0.75) / 5.0, (1.0 + 0.1**0.25) / 2.0
    assert cartpole_balance.reward(state, -0.5) == pytest.approx(upright * centred * effort * slow, rel=1e-6)
    assert cartpole_balance.reward(state, 1.0) == pytest.approx(upright * centred * 0.8 * slow, rel=1e-6)


@pytest.mark.parametrize("name", cartpole_balance.names())
def test_starts_and_episodes(name):
    env = rlzoo.envs.make(f"rlzoo/{name}", horizon=3)
    obs, _ = jax.vmap(env.reset, (0, None))(jax.random.split(jax.random.key(0), 1_000), env.params)
    x, cos, sin, *speeds = np.array(obs).T
    if "Balance" in name:
        assert np.abs(x).max() <= 0.1 and np.abs(sin).max() <= np.sin(0.034) + 1e-6 and cos.min() > 0.99
        assert np.ptp(x) > 0.19 and np.ptp(sin) > 0.065  # uniform
    else:
        assert cos.max() < -0.99 and x.std() == pytest.approx(0.01, rel=0.1) == sin.std()
    assert np.std(speeds) == pytest.approx(0.01, rel=0.1)

    _, state = env.reset(jax.random.key(0), env.params)
    ends = []
    for _ in range(6):
        state, now = env.step(jax.random.key(1), state, jnp.ones(1), env.params)
        ends.append((bool(now.terminated), bool(now.truncated)))
    assert ends == [(False, False), (False, False), (False, True)] * 2


def test_an_adversary_pushes_the_pole():
    game = rlzoo.envs.adversarial(rlzoo.envs.make("rlzoo/CartpoleBalance-v0"))
    assert game.forces == ("pole x", "pole z") and game.env.params.max_force == MAX_FORCE
    _, state = game.env.reset(jax.random.key(0), game.env.params)
    pushed, _ = game.step(jax.random.key(1), state, jnp.zeros(1), jnp.array([5.0, -0.5]), game.env.params)
    params = game.env.params.env._replace(force_x=jnp.float32(MAX_FORCE), force_z=jnp.float32(-MAX_FORCE / 2.0))
    expected = cartpole_balance.integrate(state.inner, 0.0, params)
    jax.tree.map(np.testing.assert_array_equal, pushed.inner, expected)


def test_what_the_model_does_not_hold_for_is_named():
    env = rlzoo.envs.make("rlzoo/CartpoleSwingup-v0")
    with pytest.raises(
        ValueError, match=r"pole_mass=\[0.1.*, 30.0\]; rlzoo/Cart.* holds for pole_mass from 0.01 to 20"
    ):
        rlzoo.envs.vary(env, {"pole_mass": [0.1, 30.0]})
    with pytest.raises(ValueError, match="max_force=50.0; it must be positive and at most 20, in N"):
        rlzoo.envs.adversarial(env, max_force=50.0)
    game = rlzoo.envs.adversarial(env)
    for name, low in {"force_x": -20, "disturbance 1": -20, "max_force": 0}.items():
        with pytest.raises(ValueError, match=f"holds for {name} from {low} to 20"):
            rlzoo.envs.vary(game.env, {name: [21.0]})
    with pytest.raises(ValueError, match="holds for pole_damping from 0 to 0.1"):
        rlzoo.envs.vary(env, {"pole_damping": [10.0]})
    assert rlzoo.envs.vary(game.env, {"pole_mass": np.linspace(1.0, 20.0, 11)}).env.pole_mass.shape == (11,)


@pytest.mark.parametrize("seed", range(3))
def test_all_that_the_model_holds_for_stays_finite(seed):
    """Parameters at the ends of their ranges, in 64 combinations, under full actions and forces."""
    rng = np.random.default_rng(seed)
    ends = {name: rng.choice(limits, 64) for name, limits in cartpole_balance.RANGES.items() if name in DEFAULT._fields}
    params = DEFAULT._replace(**{name: jnp.float32(x) for name, x in ends.items()})
    given = jnp.zeros(2), jnp.float32([3.0, 0.0]), jnp.float32(rng.choice([-1.0, 1.0], 500))
    forces = jnp.float32(rng.choice([-40.0, 40.0], (500, 2)))  # constant ones, and as much by an adversary
    axes = cartpole_balance.Params(*(0 if jnp.ndim(x) else None for x in params))
    path = jax.vmap(of_ours, (None, None, None, None, axes))(*given, forces, params)
    assert np.isfinite(path).all()


def test_an_own_field_named_ranges_is_no_range():
    class Params(NamedTuple):
        ranges: jax.Array
        drag: jax.Array

    env = rlzoo.envs.make("rlzoo/CartpoleBalance-v0")
    env = env._replace(params=Params(jnp.ones(2), jnp.float32(1.0)))
    assert rlzoo.envs.vary(env, {"drag": [1.0, 2.0], "ranges 1": [5.0, 6.0]}).drag.shape == (4,)
