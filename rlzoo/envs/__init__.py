"""Environments behind one interface, `rlzoo.types.Env`: ``make("suite/id")``, or ``make(your own object)``."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo.envs import (
    brax,
    cartpole_balance,
    craftax,
    gymnasium,
    gymnax,
    jumanji,
    navix,
    pgx,
    playground,
    probe,
    recipes,
    risky_point_mass,
    risky_tree,
    spaces,
    suites,
    xminigrid,
)
from rlzoo.envs.adversarial import adversarial, with_adversary, with_protagonist
from rlzoo.envs.randomised import randomised
from rlzoo.envs.stochastic import stochastic
from rlzoo.envs.stock import stock
from rlzoo.envs.to_gymnasium import to_gymnasium, to_gymnasium_vector
from rlzoo.envs.vary import vary
from rlzoo.names import unknown
from rlzoo.types import Algorithm, Box, Env, Observation, TimeStep, mask_of

__all__ = [
    "adversarial",
    "make",
    "names",
    "randomised",
    "stochastic",
    "stock",
    "to_gymnasium",
    "to_gymnasium_vector",
    "vary",
    "with_adversary",
    "with_protagonist",
]

SUITES = {
    "gymnax": (gymnax,),
    "brax": (brax,),
    "rlzoo": (risky_point_mass, risky_tree, cartpole_balance),
    "probe": (probe,),
}
EXTRAS = {
    "craftax": (craftax,),
    "gymnasium": (gymnasium,),
    "jumanji": (jumanji,),
    "navix": (navix,),
    "pgx": (pgx,),
    "playground": (playground,),
    "xminigrid": (xminigrid,),
}
SUITES |= EXTRAS  # each an extra of the installation


def names(suite: str) -> tuple[str, ...]:
    """The ids of a suite, such as gymnax or brax.

    Raises:
        ValueError: it is an extra that is not installed; with what to install.
    """
    return tuple(name for module in SUITES[suite] for name in module.names())


def module(env: str) -> ModuleType:
    """The module whose `make` builds the environment of a name, "suite/id"."""
    suite, _, name = env.partition("/")
    return next(module for module in SUITES[suite] if name in module.names())


def make(env: Any, **kwargs: Any) -> Env:
    """Build or adapt an environment.

    Args:
        env: one of
            ``"gymnax/CartPole-v1"``: any that gymnax registers;
            ``"brax/halfcheetah"``: with ``backend=`` (generalized, as in brax), ``horizon=`` and ``cached_reset=``,
            see `rlzoo.envs.brax.make`; or with the backend behind it, as in records, ``"brax/halfcheetah spring"``;
            ``"rlzoo/RiskyPointMass-v0"``, ``"rlzoo/CartpoleBalance-v0"``, with ``horizon=``, see the modules of
            `rlzoo.envs` so named;
            ``"probe/delayed-reward"``: with ``continuous=``, see `rlzoo.envs.probe`;
            an object of gymnax 1.0's interface, with ``params=`` (default: its ``default_params``);
            an `rlzoo.types.Env`, which is checked and returned.
        kwargs: for the suite's constructor.
    Raises:
        ValueError: an unknown or unsupported name or option, an object of another interface, or one whose spaces or
            steps cannot be used; with what to do.
    """
    if not isinstance(env, str):
        return _own(env, kwargs)

    env, kwargs = named(env, kwargs)
    suite, _, name = env.partition("/")
    if suite in suites.REFUSED:
        raise ValueError(f"environment {env!r} is of a suite that cannot live here: {suites.REFUSED[suite]}")
    if suite not in SUITES:
        light = [f"{suite}/{name}" for suite in SUITES if suite not in EXTRAS for name in names(suite)]
        raise unknown("environment", env, light + [f"{suite}/..." for suite in EXTRAS])
    if why := next((x.UNSUPPORTED[name] for x in SUITES[suite] if name in getattr(x, "UNSUPPORTED", ())), ""):
        raise ValueError(f"environment {env!r} is not supported: {why}")
    if name not in names(suite):
        raise unknown("environment", env, [f"{suite}/{name}" for name in names(suite)])
    try:
        maker = module(env).make
        made = recipes.named(spaces.check(maker(name, **kwargs)), env, maker, kwargs)
    except TypeError as error:
        unknown_option = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if not unknown_option:
            raise
        raise ValueError(f"environment {env!r} takes no option {unknown_option[1]!r}") from error
    if suite == "gymnax":  # whose observations may be of another shape than their space
        _check_reset(made)
    return _untied(made)


ALLOWED = (
    "allowed are a name such as 'gymnax/CartPole-v1', an rlzoo.types.Env, or an object of gymnax 1.0's interface "
    "(derive from its Environment)"
)


def named(env: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A name and its options as a record keeps them, also those behind the name; of brax the backend is always said."""
    suite, _, name = env.partition("/")
    if suite == "brax":
        name, options = brax.named(name, options)
        return f"brax/{name}", options
    if suite not in EXTRAS:
        return env, dict(options)
    name, *words = name.split(" ")
    behind = dict([("impl", word) if word == "warp" else (word, True) for word in words])
    return f"{suite}/{name}", behind | dict(options)


def _own(env: Any, options: dict[str, Any]) -> Env:
    names_of_options = () if isinstance(env, Env) else ("params",)
    if unknown_options := [name for name in options if name not in names_of_options]:
        known = "params alone" if names_of_options else "none, as it is made already"
        raise ValueError(f"options {', '.join(unknown_options)} given with an object; allowed is {known}")
    if isinstance(env, Env):
        return _untied(_checked(env))
    if why := _mistaken(env):
        raise ValueError(f"{why}; {ALLOWED}")
    params = options.get("params")
    if params is None and not hasattr(env, "default_params"):
        raise ValueError(f"{type(env).__name__} has no default_params; give them: make(env, params=...)")
    params = env.default_params if params is None else params
    adapter = gymnax.adapt_old if gymnax.is_old(env, params) else gymnax.adapt
    name = f"own/{getattr(env, 'name', type(env).__name__)}"
    try:
        adapted = adapter(env, params, name)
    except Exception as error:  # of a user's own spaces
        if str(error).startswith(name):
            raise
        raise ValueError(f"{name}: its spaces raise {type(error).__name__}: {error}; see its params") from error
    return _untied(_checked(adapted))


def _untied(env: Env) -> Env:
    """Its parameters on no device of their own: mjx ties its models' to the first, and then lanes on others fail."""

    def untied(x):
        return jnp.asarray(np.asarray(x)) if isinstance(x, jax.Array) and x.committed else x

    if any(isinstance(x, jax.Array) and x.committed for x in jax.tree.leaves(env.params)):
        return env._replace(params=jax.tree.map(untied, env.params))
    return env


def _mistaken(env: Any) -> str:
    """Why an object is no environment that can be adapted, and what was probably meant; empty if it is one."""
    kind = type(env).__name__
    if isinstance(env, type):
        return f"{env.__name__} is a class; give an object of it: make({env.__name__}())"
    if isinstance(env, Algorithm):
        return f"an algorithm, {env.name}, was given; its environment is its field env"
    suites = {base.__module__.partition(".")[0] for base in type(env).__mro__}
    if python := suites & {"gymnasium", "gym", "pettingzoo", "dm_env", "dm_control"}:
        return (
            f"{kind} is an environment of {python.pop()}, which steps in Python and cannot be compiled; take that of "
            "gymnax or brax, or write its dynamics in JAX; or train one agent in it as it is, "
            "rlzoo.envs.gymnasium.adapt(lambda: ..., name, horizon)"
        )
    missing = [name for name in ("reset", "step", "observation_space", "action_space") if not hasattr(env, name)]
    if missing and "brax" in suites:
        return f"{kind} is brax's own object; give its name: make('brax/...', backend=...)"
    if missing and isinstance(env, tuple) and env and hasattr(env[0], "reset"):
        return f"a {kind} was given; of a pair such as gymnax.make's give make(env, params=params)"
    if missing and (isinstance(env, Mapping | Sequence | PurePath) or env is None):
        return f"a {kind} was given, {str(env)[:60]}"
    if missing:
        return f"{kind} lacks {', '.join(missing)}"
    fixed = [name for name in ("observation_space", "action_space") if not callable(getattr(env, name))]
    return f"{kind}: {' and '.join(fixed)} must be functions of the parameters" if fixed else ""


def _checked(env: Env) -> Env:
    """Trace one reset and one step, and say what does not fit, before anything is compiled."""
    spaces.check(env)
    obs, state = _check_reset(env)
    key = jax.random.key(0)
    action = jax.eval_shape(env.action_space.sample, key)
    new_state, now = _traced(env, "step", _reads_only(env), key, state, action, env.params)

    shown = {name: _said(obs) for name in ("obs", "next_obs")}
    shown |= {"reward": "float32[]", "terminated": "bool[]", "truncated": "bool[]"}
    for name, wanted in shown.items():
        if (given := _said(getattr(now, name))) != wanted:
            raise ValueError(f"{env.name}: step gives {name} {given}; it must be {wanted}")

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


def _reads_only(env: Env) -> Callable[..., Any]:
    """The environment's step; an error if it writes into its state, which others still hold."""

    def step(key, state, action, params):
        before = jax.tree.leaves(state)
        given = env.step(key, state, action, params)
        after = jax.tree.leaves(state)
        if len(before) != len(after) or any(old is not new for old, new in zip(before, after, strict=True)):
            raise ValueError(
                f"{env.name}: step writes into the state that it is given; let it begin with a copy, "
                "state = jax.tree.map(lambda x: x, state)"
            )
        return given

    return step


def _check_reset(env: Env) -> tuple[Any, Any]:
    """The shapes of what a reset gives, if the observation is one of the space."""
    obs, state = _traced(env, "reset", env.reset, jax.random.key(0), env.params)
    if (given := _said(obs)) != (wanted := _said(env.obs_space)):
        raise ValueError(f"{env.name}: reset gives obs {given}; the observation space says {wanted}")
    if mask_of(obs) is not None:
        mask = mask_of(jax.jit(env.reset)(jax.random.key(0), env.params)[0])
        if not isinstance(mask, jax.core.Tracer) and not mask.any():
            raise ValueError(
                f"{env.name}: reset allows none of its actions, {env.action_space}; `legal` must allow one"
            )
    return obs, state


def _said(obs: Any) -> str:
    """Of an array, or of its `Box`: float32[3]; of an `Observation`: (vector float32[3], legal bool[2])."""
    if isinstance(obs, Observation):
        return f"({', '.join(f'{name} {_said(x)}' for name, x in obs._asdict().items() if x is not None)})"
    if isinstance(obs, Box):
        obs = obs.low
    return f"{obs.dtype}{list(obs.shape)}" if hasattr(obs, "shape") else f"a {type(obs).__name__}"


def _traced(env: Env, name: str, function: Any, *arguments: Any) -> tuple[Any, Any]:
    """The shapes of the pair that ``reset`` or ``step`` gives."""
    try:
        traced, given = jax.make_jaxpr(function, return_shape=True)(*arguments)
    except Exception as error:  # whatever a user's own code raises
        if str(error).startswith(env.name):  # said by the adapter
            raise
        what = str(error).splitlines()[0] if str(error) else "without a word"
        raise ValueError(f"{env.name}: {name} raises {type(error).__name__}: {what}") from error
    if any(isinstance(x, jax.core.Tracer) for x in traced.consts):  # JAX itself says so only when it compiles
        raise ValueError(
            f"{env.name}: {name} uses an array that an earlier trace left behind, on an object or in a cache; keep it "
            "in the state or in the parameters, or call reset once before any trace, so that a number is kept"
        )
    pair = {"reset": "(obs, state)", "step": "(state, TimeStep)"}[name]
    if not isinstance(given, tuple) or len(given) != 2 or (name == "step" and not isinstance(given[1], TimeStep)):
        raise ValueError(f"{env.name}: {name} gives a {type(given).__name__}; it must give {pair}")
    return given
