"""Two-player zero-sum games: an environment, and an adversary that pushes its bodies or disturbs its actions.

    game = rlzoo.envs.adversarial(rlzoo.envs.make("gymnax/Pendulum-v1"))              # a torque
    game = rlzoo.envs.adversarial(rlzoo.envs.make("brax/hopper", backend="mjx"))      # forces on the foot, x and z
    game = rlzoo.envs.adversarial(env, on="action", max_force=0.2)                    # any box: 0.2 half widths

``game.env`` is the environment of the first player, the protagonist, alone: with a constant disturbance, zero by
default. `with_adversary` and `with_protagonist` put a policy of the other player into the environment, whose parameters
may be swept, so that any algorithm can be trained or evaluated against it.

The sites and limits of forces on bodies are those of the code of Reddi et al. 2024 (arXiv:2311.01642), where brax has
such a body, and of its cartpole; inverted_double_pendulum's is ours. A force acts during a whole step of control.
PointRobot shows its last action, and so the push in it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rlzoo.envs import cartpole_balance, recipes
from rlzoo.types import Box, Env, TimeStep, environment


class Params(NamedTuple):
    env: Any  # the inner environment's parameters
    max_force: jax.Array  # f32[], the adversary's limit of every component
    disturbance: jax.Array  # f32[F], a constant force beside the adversary's


class Game(NamedTuple):
    """One environment with two players. The adversary gets minus the protagonist's reward."""

    env: Env  # the protagonist's, alone; its parameters are `Params`
    step: Callable[..., tuple[Any, TimeStep]]  # (key, state, action, push [F], params); pushes of -1 to 1 max_force
    forces: tuple[str, ...]  # the F components by name
    unit: str
    on: str  # "force" or "action"


class Opposed(NamedTuple):
    """Parameters of an environment that has the other player in it."""

    game: Params
    actor: Any  # what the other player's policy takes


class Site(NamedTuple):
    """Where a force enters an environment, and how a step is taken under it."""

    forces: tuple[str, ...]
    max_force: float  # by default
    unit: str
    step: Callable[..., tuple[Any, TimeStep]]  # (key, state, action, force [F] in its unit, params)
    most: float = np.inf  # that the environment's model holds for


def adversarial(
    env: Env, on: str = "force", max_force: float | None = None, bodies: Mapping[str, str] | None = None
) -> Game:
    """A second player for an environment.

    Args:
        on: "force", on what moves; "action", added to the protagonist's action, in half widths of its box, and fitted
            into the box.
        max_force: the limit of every component, in the unit of the site; default: the site's own.
        bodies: of brax on the mjx backend: body -> the axes it is pushed along, of "xyz", and twisted about, of "XYZ",
            such as {"torso": "xzY"}; default: those of the paper's code.
    Raises:
        ValueError: discrete actions, an unbounded box, no known site of forces, unknown bodies or axes, or a limit that
            is not positive.
    """
    space = environment(env, "adversarial").action_space
    if not (isinstance(space, Box) and space.bounded):
        kind = "an unbounded box" if isinstance(space, Box) else f"discrete, {space.n} actions"
        raise ValueError(f"{env.name}: its action space is {kind}; an adversary needs a continuous, bounded one")
    if on not in ("force", "action"):
        raise ValueError(f"on={on!r}; allowed are 'force' and 'action'")
    if bodies is not None and (on != "force" or not env.name.startswith("brax/")):
        raise ValueError(f"{env.name}, on={on!r}: bodies are of forces in brax on the backend mjx; leave them out")
    site = _action_site(env, space) if on == "action" else _force_site(env, bodies)
    limit = site.max_force if max_force is None else max_force
    if not 0.0 < limit <= site.most:
        upto = f"positive and at most {site.most:g}" if np.isfinite(site.most) else "positive"
        raise ValueError(f"max_force={limit}; it must be {upto}, in {site.unit}; for no adversary evaluate game.env")

    def step(key, state, action, push, params):
        force = params.disturbance + params.max_force * jnp.clip(push, -1.0, 1.0)
        return site.step(key, state, action, force, params.env)

    def reset(key, params):
        return env.reset(key, params.env)

    def alone(key, state, action, params):
        return step(key, state, action, jnp.zeros(len(site.forces)), params)

    params = Params(env.params, jnp.float32(limit), jnp.zeros(len(site.forces)))
    own = env._replace(name=f"{env.name} adversarial {on}", reset=reset, step=alone, params=params)
    options = {"on": on, "max_force": float(limit), "bodies": bodies and dict(bodies)}
    return Game(recipes.wrapped(own, env, "adversarial", **options), step, site.forces, site.unit, on)


def with_adversary(game: Game, policy: Callable[..., jax.Array], actor: Any) -> Env:
    """The protagonist's environment with an adversary in it.

    Args:
        policy: (actor, obs, key) -> pushes [F], in shares of the limit. actor: its default; a parameter, `Opposed`.
    """
    opposed = _opposed(game, actor)

    def step(key, state, action, params):
        env_key, act_key = jax.random.split(key)
        obs, inner = state
        push = policy(params.actor, obs, act_key)
        inner, now = game.step(env_key, inner, action, push, params.game)
        return (now.obs, inner), now

    return game.env._replace(name=f"{game.env.name} with an adversary", step=step, **opposed)


def with_protagonist(game: Game, policy: Callable[..., jax.Array], actor: Any) -> Env:
    """The adversary's environment with a protagonist in it: its actions are pushes in [-1, 1], its rewards negated.

    Args:
        policy: (actor, obs, key) -> the environment's actions. actor: its default; a parameter, `Opposed`.
    """
    opposed = _opposed(game, actor)
    ones = np.ones(len(game.forces), np.float32)

    def step(key, state, push, params):
        env_key, act_key = jax.random.split(key)
        obs, inner = state
        action = policy(params.actor, obs, act_key)
        inner, now = game.step(env_key, inner, action, push, params.game)
        return (now.obs, inner), now._replace(reward=-now.reward)

    name = f"{game.env.name} with a protagonist"
    return game.env._replace(name=name, step=step, action_space=Box(-ones, ones), **opposed)


def _opposed(game: Game, actor: Any) -> dict[str, Any]:
    """What both players' environments share: the state holds the observation, for the other player to see."""

    def reset(key, params):
        obs, inner = game.env.reset(key, params.game)
        return obs, (obs, inner)

    return {"reset": reset, "params": Opposed(game.env.params, actor)}


# --- sites ------------------------------------------------------------------------------------------------------------


def _action_site(env: Env, space: Box) -> Site:
    """Noise added to actions; the environment counts what was done, not what was wanted."""
    names = tuple(f"action {i}" for i in range(int(np.prod(space.shape))))

    def step(key, state, action, force, params):
        return env.step(key, state, space.from_policy(space.to_policy(action) + force), params)

    return Site(names, 0.1, "half widths of the action box", step)


def _force_site(env: Env, bodies: Mapping[str, str] | None) -> Site:
    suite, _, rest = env.name.partition("/")
    name, *options = rest.split()
    if suite == "gymnax" and not options and name in _ADDITIVE:
        return _additive_site(env, *_ADDITIVE[name])
    if suite == "rlzoo" and not options and name in cartpole_balance.names():
        return _pole_site(env)
    if suite == "brax" and options[:1] == ["mjx"]:
        given = bodies if bodies is not None else _BODIES.get(name, ((), 0.0))[0]
        if given:
            return _body_site(env, given, _BODIES.get(name, ((), 1.0))[1])
    known = [f"gymnax/{other}" for other in _ADDITIVE] + [f"rlzoo/{other}" for other in cartpole_balance.names()]
    known += [f"brax/{other} mjx" for other in _BODIES]
    more = "; any other of brax's on the backend mjx with bodies={name: axes}" if suite == "brax" else ""
    raise ValueError(
        f"{env.name}: no known site for a force; known are {', '.join(known)}{more}; any other with on='action'"
    )


class _Limits(NamedTuple):
    """Of an environment whose action is a force that it clips: how to read the limits, and how to lift them."""

    low: Callable[[Any], Any] = lambda params: -jnp.inf
    high: Callable[[Any], Any] = lambda params: jnp.inf
    lift: Callable[[Any], Any] = lambda params: params


_ADDITIVE: dict[str, tuple[Sequence[str], float, str, float, _Limits]] = {
    # forces, limit, unit, what the reward takes off for each unit of the squared action, limits of the action
    "Pendulum-v1": (
        ("torque",),
        0.5,
        "N m",
        0.001,
        _Limits(lambda p: -p.max_torque, lambda p: p.max_torque, lambda p: p.replace(max_torque=jnp.inf)),
    ),
    "MountainCarContinuous-v0": (
        ("force",),
        0.2,
        "units of the engine's force",
        0.1,
        _Limits(
            lambda p: p.min_action, lambda p: p.max_action, lambda p: p.replace(min_action=-jnp.inf, max_action=jnp.inf)
        ),
    ),
    "Reacher-misc": (("torque 0", "torque 1"), 0.2, "rad / s^2", 0.0, _Limits()),
    "Swimmer-misc": (("x", "y"), 0.2, "m / s^2", 0.0, _Limits()),
    "PointRobot-misc": (
        ("x", "y"),
        0.02,
        "m a step",
        0.0,
        _Limits(lambda p: -p.max_force, lambda p: p.max_force, lambda p: p.replace(max_force=jnp.inf)),
    ),
}


def _additive_site(env: Env, forces: Sequence[str], max_force: float, unit: str, cost: float, limits: _Limits) -> Site:
    """Added to the protagonist's force after that was fitted into its limits. The reward counts the own force alone."""

    def step(key, state, action, force, params):
        own = jnp.clip(action, limits.low(params), limits.high(params))
        state, now = env.step(key, state, own + force, limits.lift(params))
        undo: Float[Array, ""] = cost * jnp.sum((own + force) ** 2 - own**2)
        return state, now._replace(reward=now.reward + undo)

    return Site(tuple(forces), max_force, unit, step)


def _pole_site(env: Env) -> Site:
    """On the pole's centre of mass, beside what pushes it constantly."""

    def step(key, state, action, force, params):
        pushed = params._replace(force_x=params.force_x + force[0], force_z=params.force_z + force[1])
        return env.step(key, state, action, pushed)

    _, most = cartpole_balance.RANGES["max_force"]
    return Site(("pole x", "pole z"), cartpole_balance.MAX_FORCE, "N", step, most)


# Bodies with the axes that they are pushed along (xyz) and twisted about (XYZ), and the limit: N, or N m.
_BODIES: dict[str, tuple[Mapping[str, str], float]] = {
    "ant": ({"torso": "xzY"}, 10.0),
    "halfcheetah": ({"torso": "xz", "bfoot": "xz", "ffoot": "xz"}, 1.0),
    "hopper": ({"foot": "xz"}, 1.0),
    "inverted_double_pendulum": ({"pole2": "xz"}, 1.0),
    "inverted_pendulum": ({"pole": "xz"}, 2.0),
    "reacher": ({"body0": "xy"}, 0.1),
    "walker2d": ({"foot": "xz", "foot_left": "xz"}, 1.0),
}
_AXES = "xyzXYZ"  # the order of MuJoCo's xfrc_applied


def _body_site(env: Env, bodies: Mapping[str, str], max_force: float) -> Site:
    """Through MuJoCo's ``xfrc_applied``, at the bodies' centres of mass, in the world's axes; set at every step."""
    names = env.params.link_names
    for body, axes in bodies.items():
        if body not in names or not body:
            raise ValueError(f"{env.name}: it has no body {body!r}; allowed are {', '.join(filter(None, names))}")
        if not axes or set(axes) - set(_AXES):
            raise ValueError(f"bodies={{{body!r}: {axes!r}}}; allowed are axes out of {_AXES!r}, one or more")
    where = [(names.index(body) + 1, _AXES.index(axis)) for body, axes in bodies.items() for axis in axes]
    row, column = np.array(where).T  # body 0 is the world

    def step(key, state, action, force, params):
        physics = state.inner.pipeline_state
        pushed = physics.replace(xfrc_applied=jnp.zeros_like(physics.xfrc_applied).at[row, column].set(force))
        state = state._replace(inner=state.inner.replace(pipeline_state=pushed))
        return env.step(key, state, action, params)

    return Site(
        tuple(f"{body} {axis}" for body, axes in bodies.items() for axis in axes), max_force, "N, of twists N m", step
    )
