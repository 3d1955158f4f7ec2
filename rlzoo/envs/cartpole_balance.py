"""CartpoleBalance-v0 and CartpoleSwingup-v0: a cart on a rail, a pole on the cart, and forces on the pole.

The cartpole of DeepMind's control suite (Tassa et al. 2018, arXiv:1801.00690) with its smooth reward, as the authors of
Reddi et al. 2024 (arXiv:2311.01642) set it: control steps of 0.01 s, 500 to an episode, no early end, and an adversary
that pushes the pole. Cart at x (m), pole at theta (rad, 0 upright, positive towards +x); the pole's centre of mass is
l = length / 2 from its hinge, at (x + l sin theta, l cos theta). With s, c = sin, cos theta, an action u in [-1, 1] and
a force (Fx, Fz) (N) at that centre, Lagrange's equations are

    (m_c + m_p) x'' + m_p l (c theta'' - s theta'^2) = gear u + Fx - d_c x' + f
    m_p l c x'' + (I + m_p l^2) theta''              = m_p g l s + l (c Fx - s Fz) - d_p theta'

    reward = (1 + c) / 2  (1 + g(x / 2)) / 2  (4 + max(0, 1 - u^2)) / 5  (1 + g(theta' / 5)) / 2  of the new state,
    g(y) = 0.1^(y^2),  in [0, 1]

f is the rail's end, MuJoCo's soft limit at |x| = 1.8, which pushes back and never pulls. While the cart is beyond it by
r > 0, moves away from the middle at the speed v, and would be accelerated that way by a_0 without it,

    f = max(0, a_0 + b v + k d r) / (A + (1 - d) / d A_0)  towards the middle,
    k = (0.95 T)^-2,  b = 2 / (0.95 T),  T = 0.08 s,

with A the inverse inertia of the cart here, A_0 that under an upright pole at the default masses, and d rising from 0.9
to 0.95 within the first mm. All is integrated by Runge and Kutta's method of fourth order, in one step.

Masses and the length may be varied alone, which leaves the pole's inertia I about its centre of mass as it is, as in
those authors' tests.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rlzoo.envs.episodes import with_episodes
from rlzoo.types import Box, Env

STEP = 0.01  # s, of control and of the integrator
MAX_FORCE = 2.0  # N, of the adversary along x and z
END, TIME, WIDTH = 1.8, 0.08, 0.001  # of the rail, m; of its limit's answer, s; over which that stiffens, m
LEAST, MOST = 0.9, 0.95  # shares of the violation that the limit answers
RADIUS = 0.045  # m, of the pole, a capsule; it matters for its inertia alone

# A step of 0.01 s is too long for more, in some combination: what follows is not finite. At the heavy end a pole that
# falls loses energy to it already, as in MuJoCo.
RANGES = {
    "cart_mass": (0.5, 100.0),
    "pole_mass": (0.01, 20.0),
    "length": (0.5, 10.0),
    "inertia": (8e-3, 100.0),
    "cart_damping": (0.0, 10.0),
    "pole_damping": (0.0, 0.1),
    "gear": (0.1, 20.0),
    "gravity": (0.1, 10.0),
    "force_x": (-20.0, 20.0),
    "force_z": (-20.0, 20.0),
    "max_force": (0.0, 20.0),  # of an adversary
    "disturbance": (-20.0, 20.0),  # beside an adversary
}
Real = jax.Array | float


class Params(NamedTuple):
    cart_mass: Real  # kg
    pole_mass: Real  # kg
    length: Real  # m, of the pole
    inertia: Real  # kg m^2, of the pole about its centre of mass
    cart_damping: Real  # N s / m
    pole_damping: Real  # N m s
    gear: Real  # N, of an action of 1
    gravity: Real  # m / s^2, downwards
    force_x: Real  # N, constant, on the pole's centre of mass
    force_z: Real

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """In which `rlzoo.envs.vary` varies them, and what an adversary adds to them."""
        return RANGES


class State(NamedTuple):
    position: jax.Array  # f32[2], x and theta
    velocity: jax.Array  # f32[2]


def capsule_inertia(mass: float, length: float, radius: float) -> float:
    """Of a solid cylinder with a half ball on either end, about an axis across it through its centre, kg m^2."""
    balls = mass * 4.0 * radius / (4.0 * radius + 3.0 * length)
    across = (mass - balls) * (3.0 * radius**2 + length**2) / 12.0
    return across + balls * (0.4 * radius**2 + length * (3.0 * radius + 2.0 * length) / 8.0)


DEFAULT = Params(1.0, 0.1, 1.0, capsule_inertia(0.1, 1.0, RADIUS), 5e-4, 2e-6, 10.0, 9.81, 0.0, 0.0)


def names() -> tuple[str, ...]:
    return ("CartpoleBalance-v0", "CartpoleSwingup-v0")


def make(name: str = "CartpoleBalance-v0", horizon: int = 500) -> Env:
    """Build one of `names`; its parameters are a `Params`. Observations are x, cos theta, sin theta, x', theta'."""
    reset, step = with_episodes(partial(_reset, name == "CartpoleSwingup-v0"), _step, horizon)
    end = np.array([np.inf, 1.0, 1.0, np.inf, np.inf], np.float32)
    one = np.ones(1, np.float32)
    return Env(
        f"rlzoo/{name}", reset, step, Params(*map(jnp.float32, DEFAULT)), Box(-end, end), Box(-one, one), horizon
    )


def acceleration(state: State, push: Float[Array, ""], params: Params) -> Float[Array, "2"]:
    """x'' and theta'' under a push of the cart in N, and the constant force on the pole."""
    (x, theta), (x_dot, theta_dot) = state
    sin, cos, lever = jnp.sin(theta), jnp.cos(theta), params.length / 2.0
    coupling = params.pole_mass * lever
    cart, pole = params.cart_mass + params.pole_mass, params.inertia + coupling * lever
    determinant = cart * pole - (coupling * cos) ** 2
    on_cart = push + params.force_x - params.cart_damping * x_dot + coupling * sin * theta_dot**2
    on_pole = coupling * params.gravity * sin + lever * (cos * params.force_x - sin * params.force_z)
    on_pole -= params.pole_damping * theta_dot

    # The rail's end adds a force that depends on what the cart would do without it.
    side, beyond = jnp.sign(x), jnp.abs(x) - END
    free = side * (pole * on_cart - coupling * cos * on_pole) / determinant
    share = jnp.clip(beyond / WIDTH, 0.0, 1.0)
    answered = LEAST + (MOST - LEAST) * jnp.where(share < 0.5, 2.0 * share**2, 1.0 - 2.0 * (1.0 - share) ** 2)
    wanted = free + 2.0 / (MOST * TIME) * side * x_dot + answered * beyond / (MOST * TIME) ** 2
    softness = (1.0 - answered) / answered * _lightness(DEFAULT)
    on_cart -= side * jnp.where(beyond > 0.0, jnp.maximum(wanted, 0.0) / (pole / determinant + softness), 0.0)

    return (
        jnp.stack([pole * on_cart - coupling * cos * on_pole, cart * on_pole - coupling * cos * on_cart]) / determinant
    )


def _lightness(params: Params) -> Real:
    """1 / kg, the inverse inertia of the cart under an upright pole."""
    coupling = params.pole_mass * params.length / 2.0
    pole = params.inertia + coupling * params.length / 2.0
    return pole / ((params.cart_mass + params.pole_mass) * pole - coupling**2)


def integrate(state: State, push: Float[Array, ""], params: Params) -> State:
    """One step of control, by the classical method of Runge and Kutta."""

    def slope(state):
        return State(state.velocity, acceleration(state, push, params))

    def along(slope, seconds):
        return jax.tree.map(lambda x, dx: x + seconds * dx, state, slope)

    first = slope(state)
    second = slope(along(first, STEP / 2.0))
    third = slope(along(second, STEP / 2.0))
    fourth = slope(along(third, STEP))
    mean = jax.tree.map(lambda a, b, c, d: (a + 2.0 * b + 2.0 * c + d) / 6.0, first, second, third, fourth)
    return along(mean, STEP)


def reward(state: State, action: Float[Array, ""]) -> Float[Array, ""]:
    """Upright, in the middle, with little control, and slowly: four factors of at most 1."""
    upright = (1.0 + jnp.cos(state.position[1])) / 2.0
    centred = (1.0 + _near(state.position[0] / 2.0)) / 2.0
    effort = (4.0 + jnp.maximum(1.0 - action**2, 0.0)) / 5.0
    slow = (1.0 + _near(state.velocity[1] / 5.0)) / 2.0
    return upright * centred * effort * slow


def _near(x: jax.Array) -> jax.Array:
    """1 at 0, and 0.1 at 1: a Gaussian."""
    return 0.1 ** (x**2)


def _observe(state: State) -> jax.Array:
    (x, theta), velocity = state
    return jnp.concatenate([jnp.stack([x, jnp.cos(theta), jnp.sin(theta)]), velocity])


def _reset(swing_up: bool, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
    position_key, velocity_key = jax.random.split(key)
    if swing_up:
        position = jnp.array([0.0, jnp.pi]) + 0.01 * jax.random.normal(position_key, (2,))
    else:
        position = jnp.array([0.1, 0.034]) * jax.random.uniform(position_key, (2,), minval=-1.0)
    state = State(position, 0.01 * jax.random.normal(velocity_key, (2,)))
    return _observe(state), state


def _step(key, state, action, params):
    action = jnp.clip(action[0], -1.0, 1.0)
    state = integrate(state, params.gear * action, params)
    return state, _observe(state), reward(state, action), jnp.array(False)
