"""RiskyPointMass-v0: a point walks to the origin, and the straight way there is dangerous.

Ozalp 2026, arXiv:2601.00737, as in the author's code; every number is a parameter and may be swept. The point x lies
in [0, 1]^2, the action a in [-1, 1]^2. Reward and end depend on x *before* the move:

    reward = -|x| - 0.1, and -10 more with probability 0.1 exp(-4 rho^2 / 0.3^2) if rho = |x - (1/2, 1/2)| <= 0.3
    terminated if |x| < 0.05
    x <- clip(x + 0.1 (a + n), 0, 1),   n uniform in [-0.02, 0.02]^2

The paper's "slip of at most 0.02" is scaled by the step of 0.1 in the code. The code also lets episodes begin inside
the circle, which it means to forbid: ``clear_start=1`` forbids it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo.envs.episodes import with_episodes
from rlzoo.types import Box, Env

CENTRE = 0.5  # of the circle, in both coordinates
TRIES = 32  # points drawn for a start outside the circle, half of which lie there


class Params(NamedTuple):
    step_size: jax.Array  # of an action of 1
    slip: jax.Array  # largest, in units of the action
    radius: jax.Array  # of the dangerous circle
    danger: jax.Array  # probability of the penalty at its centre
    penalty: jax.Array  # reward units
    step_cost: jax.Array  # reward units
    goal_radius: jax.Array
    least_start: jax.Array  # episodes begin uniformly in [least_start, 1]^2
    clear_start: jax.Array  # 1: outside the circle; 0: anywhere there, as in the released code


def names() -> tuple[str, ...]:
    return ("RiskyPointMass-v0",)


def in_danger(x: jax.Array, radius: jax.Array | float = 0.3) -> jax.Array:
    """Whether points [..., 2] lie in the dangerous circle."""
    return jnp.linalg.norm(x - CENTRE, axis=-1) <= radius


def make(name: str = "RiskyPointMass-v0", horizon: int = 200) -> Env:
    """Build it; its parameters are a `Params`."""
    params = Params(*(jnp.float32(number) for number in (0.1, 0.02, 0.3, 0.1, 10.0, 0.1, 0.05, 0.3, 0.0)))

    def raw_reset(key, params):
        points = jax.random.uniform(key, (TRIES, 2), minval=params.least_start, maxval=1.0)
        allowed = ~in_danger(points, params.radius) | (params.clear_start == 0.0)
        x = points[jnp.argmax(allowed)]
        return x, x

    def raw_step(key, x, action, params):
        danger_key, slip_key = jax.random.split(key)
        distance = jnp.linalg.norm(x - CENTRE)
        probability = params.danger * jnp.exp(-4.0 * (distance / params.radius) ** 2) * in_danger(x, params.radius)
        struck = jax.random.bernoulli(danger_key, probability)
        reward = -jnp.linalg.norm(x) - params.step_cost - params.penalty * struck
        terminated = jnp.linalg.norm(x) < params.goal_radius

        slip = params.slip * jax.random.uniform(slip_key, (2,), minval=-1.0)
        x = jnp.clip(x + params.step_size * (jnp.clip(action, -1.0, 1.0) + slip), 0.0, 1.0)
        return x, x, reward, terminated

    reset, step = with_episodes(raw_reset, raw_step, horizon)
    unit, square = np.ones(2, np.float32), Box(np.zeros(2, np.float32), np.ones(2, np.float32))
    return Env(f"rlzoo/{name}", reset, step, params, square, Box(-unit, unit), horizon)
