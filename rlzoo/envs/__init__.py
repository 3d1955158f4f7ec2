"""Environments behind one interface, `rlzoo.types.Env`: ``make("suite/id")``, or ``make(your own object)``."""

import re
from typing import Any

import jax

from rlzoo.envs import brax, gymnax, probe, recipes, risky_point_mass
from rlzoo.envs.adversarial import adversarial, with_adversary, with_protagonist
from rlzoo.envs.stochastic import stochastic
from rlzoo.envs.vary import vary
from rlzoo.names import unknown
from rlzoo.types import Env, TimeStep

__all__ = ["adversarial", "make", "names", "stochastic", "vary", "with_adversary", "with_protagonist"]

SUITES = {"gymnax": gymnax, "brax": brax, "rlzoo": risky_point_mass, "probe": probe}


def names(suite: str) -> tuple[str, ...]:
    """The ids of a suite: gymnax, brax, rlzoo or probe."""
    return SUITES[suite].names()


def make(env: Any, **kwargs: Any) -> Env:
    """Build or adapt an environment.

    Args:
        env: one of
            ``"gymnax/CartPole-v1"``: any that gymnax registers;
            ``"brax/halfcheetah"``: with ``backend=``, ``horizon=`` and ``cached_reset=``, see `rlzoo.envs.brax.make`;
            ``"rlzoo/RiskyPointMass-v0"``, see `rlzoo.envs.risky_point_mass`;
            ``"probe/delayed-reward"``: with ``continuous=``, see `rlzoo.envs.probe`;
            an object of gymnax 1.0's interface, with ``params=`` (default: its ``default_params``);
            an `rlzoo.types.Env`, which is checked and returned.
        kwargs: for the suite's constructor.
    Raises:
        ValueError: an unknown or unsupported name, or an object of another interface.
    """
    if not isinstance(env, str):
        return _own(env, **kwargs)

    suite, _, name = env.partition("/")
    if suite not in SUITES:
        raise unknown("environment", env, [f"{suite}/{name}" for suite in SUITES for name in names(suite)])
    if suite == "gymnax" and name in gymnax.UNSUPPORTED:
        raise ValueError(f"environment {env!r} is not supported: {gymnax.UNSUPPORTED[name]}")
    if name not in names(suite):
        raise unknown("environment", env, [f"{suite}/{name}" for name in names(suite)])
    try:
        return recipes.named(SUITES[suite].make(name, **kwargs), env, SUITES[suite].make, kwargs)
    except TypeError as error:
        unknown_option = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if not unknown_option:
            raise
        raise ValueError(f"environment {env!r} takes no option {unknown_option[1]!r}") from error


def _own(env: Any, params: Any = None) -> Env:
    if isinstance(env, Env):
        return _checked(env)
    missing = [name for name in ("reset", "step", "observation_space", "action_space") if not hasattr(env, name)]
    if missing:
        raise ValueError(
            f"{type(env).__name__} lacks {', '.join(missing)}; allowed are a name such as 'gymnax/CartPole-v1', an "
            "rlzoo.types.Env, or an object of gymnax 1.0's interface (derive from its Environment)"
        )
    if params is None and not hasattr(env, "default_params"):
        raise ValueError(f"{type(env).__name__} has no default_params; give them: make(env, params=...)")
    params = env.default_params if params is None else params
    return _checked(gymnax.adapt(env, params, f"own/{getattr(env, 'name', type(env).__name__)}"))


def _checked(env: Env) -> Env:
    """Trace one reset and one step, and say what does not fit, before anything is compiled."""
    key = jax.random.key(0)
    action = jax.eval_shape(env.action_space.sample, key)
    obs, state = _traced(env, "reset", env.reset, key, env.params)
    new_state, now = _traced(env, "step", env.step, key, state, action, env.params)

    expected = {"obs": (obs.shape, "float32"), "next_obs": (obs.shape, "float32"), "reward": ((), "float32")}
    expected |= {"terminated": ((), "bool"), "truncated": ((), "bool")}
    for name, (shape, dtype) in expected.items():
        got = getattr(now, name)
        if got.shape != shape or got.dtype != dtype:
            raise ValueError(
                f"{env.name}: step gives {name} {got.dtype}{list(got.shape)}; it must be {dtype}{list(shape)}"
            )
    if obs.shape != env.obs_space.shape or obs.dtype != "float32":
        raise ValueError(
            f"{env.name}: reset gives obs {obs.dtype}{list(obs.shape)}; "
            f"the observation space says float32{list(env.obs_space.shape)}"
        )

    before, after = (jax.tree_util.tree_leaves_with_path(tree) for tree in (state, new_state))
    if [path for path, _ in before] != [path for path, _ in after]:
        raise ValueError(f"{env.name}: step returns a state of another structure than reset; they must be the same")
    for (path, old), (_, new) in zip(before, after, strict=True):
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            where = "state" + jax.tree_util.keystr(path)
            raise ValueError(
                f"{env.name}: step turns {where} from {old.dtype}{list(old.shape)} into {new.dtype}{list(new.shape)}; "
                "it must keep shape and dtype"
            )
    return env


def _traced(env: Env, name: str, function: Any, *arguments: Any) -> tuple[Any, Any]:
    """The shapes of the pair that ``reset`` or ``step`` gives."""
    try:
        given = jax.eval_shape(function, *arguments)
    except Exception as error:  # whatever a user's own code raises
        what = str(error).splitlines()[0] if str(error) else "without a word"
        raise ValueError(f"{env.name}: {name} raises {type(error).__name__}: {what}") from error
    pair = {"reset": "(obs, state)", "step": "(state, TimeStep)"}[name]
    if not isinstance(given, tuple) or len(given) != 2 or (name == "step" and not isinstance(given[1], TimeStep)):
        raise ValueError(f"{env.name}: {name} gives a {type(given).__name__}; it must give {pair}")
    return given
