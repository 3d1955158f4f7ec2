"""Environment parameters by name, at every combination of given values: masses, frictions, lengths, noise, forces."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from rlzoo import names
from rlzoo.types import Env, environment

Place = tuple[tuple[str, ...], tuple[Any, ...]]  # attributes down to a leaf, and an index into it


def vary(env: Env, values: Mapping[str, Sequence[float]]) -> Any:
    """``env.params`` at every combination of the values: changed leaves have one more axis [M], the last name fastest.

        rlzoo.envs.vary(env, {"m": np.linspace(0.5, 1.5, 11), "l": np.linspace(0.5, 1.5, 11)})   # [121], Pendulum-v1
        rlzoo.envs.vary(env, {"mass torso": [3.0, 6.0, 9.0], "friction": [0.1, 1.0]})            # [6], brax

    Names are the fields of the parameters, those of wrappers included (``action_noise``, ``max_force``); of vectors
    with an index, "disturbance 0". Of brax they are "mass BODY" (kg; the inertia stays, as in the tests of
    arXiv:2311.01642), "friction" (tangential, of every geom) and "gravity" (along z, m / s^2: -9.81). On its backends
    spring and positional brax takes masses to the power of 1 - ``spring_mass_scale``, for halfcheetah 0.7.

    Raises:
        ValueError: an unknown name, with those allowed; a number that is not finite; one that is not positive where
            the default is, or out of the ``ranges`` of the environment's parameters; a mass where brax takes all masses
            for 1.
    """
    environment(env, "vary")
    if not values:
        raise ValueError(f"nothing to vary; {env.name} has {', '.join(parameters(env.params))}")
    columns = np.array(list(itertools.product(*values.values())), np.float32)  # [M, names]
    return with_columns(env, dict(zip(values, columns.reshape(-1, len(values)).T, strict=True)))


def with_columns(env: Env, columns: Mapping[str, Sequence[float] | np.ndarray]) -> Any:
    """As `vary`, at M given combinations: name -> numbers [M]."""
    known, limits, params = parameters(env.params), _ranges(env.params), env.params
    for name, given in columns.items():
        names.check(f"parameter of {env.name}", [name], list(known))
        column = np.asarray(given, np.float32)
        text = f"{name}={list(dict.fromkeys(column.tolist()))}"
        if not column.size or not np.isfinite(column).all():
            raise ValueError(f"{text}; it needs one or more finite numbers")
        of_a_body = name.startswith("mass ") and known[name][0][0][-1] == "body_mass"  # not a vector called mass
        if of_a_body and {"spring", "positional"} & set(env.name.split()):
            power = 1.0 - _get(env.params, (*known[name][0][0][:-1], "spring_mass_scale"))
            if power == 0.0:
                raise ValueError(f"{env.name}: brax takes all its masses for 1 on this backend; use generalized or mjx")
        for path, index in known[name]:
            default = _get(env.params, path)
            if (default[index] > 0).all() and not (column > 0).all():
                raise ValueError(
                    f"{text}; each must be positive, as the default {float(np.ravel(default[index])[0]):g}"
                )
            low, high = limits.get(path[-1], (-np.inf, np.inf))
            if not ((low <= column) & (column <= high)).all():
                raise ValueError(f"{text}; {env.name} holds for {name} from {low:g} to {high:g}")
            leaf = _get(params, path)
            if leaf.ndim == default.ndim:
                leaf = jnp.broadcast_to(leaf, (len(column), *leaf.shape))
            spread = column.reshape(-1, *[1] * (default[index].ndim))
            params = _put(params, path, leaf.at[(slice(None), *index)].set(spread))
    return params


def put(env: Env, params: Any, name: str, value: Any) -> Any:
    """``params`` with one number by its name, which may be traced."""
    for path, index in parameters(env.params)[name]:
        params = _put(params, path, _get(params, path).at[index].set(value))
    return params


def parameters(params: Any) -> dict[str, list[Place]]:
    """What `vary` takes, and where each is."""
    if type(params).__module__.partition(".")[0] == "brax":  # what mjx reads, and what the other backends do
        found: dict[str, list[Place]] = {
            f"mass {body}": [(("body_mass",), (i + 1,)), (("link", "inertia", "mass"), (i,))]
            for i, body in enumerate(params.link_names)
            if body
        }
        return found | {
            "friction": [(("geom_friction",), (slice(None), 0))],
            "gravity": [(("gravity",), (2,)), (("opt", "gravity"), (2,))],
        }
    found = {}
    inside: dict[str, list[Place]] = {}
    for name in _fields(params):
        leaf = params[name] if isinstance(params, dict) else getattr(params, name)
        if _fields(leaf):
            inside |= {x: [((name, *path), index) for path, index in y] for x, y in parameters(leaf).items()}
        elif leaf is not None and jnp.issubdtype(jnp.result_type(leaf), jnp.floating) and jnp.ndim(leaf) < 2:
            places: list[tuple[int, ...]] = [(i,) for i in range(jnp.size(leaf))] if jnp.ndim(leaf) else [()]
            found |= {" ".join([name, *map(str, index)]): [((name,), index)] for index in places}
    return inside | found  # an outer field hides an inner one of its name


def _fields(params: Any) -> list[str]:
    if hasattr(params, "_fields"):
        return list(params._fields)
    if isinstance(params, dict):
        return list(params)
    return [field.name for field in dataclasses.fields(params)] if dataclasses.is_dataclass(params) else []


def _get(params: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        params = params[name] if isinstance(params, dict) else getattr(params, name)
    return jnp.asarray(params)


def _ranges(params: Any) -> dict[str, tuple[float, float]]:
    """In which parameters may be varied: what their class, or that of what they wrap, says in a property ``ranges``."""
    inner = [params[name] if isinstance(params, dict) else getattr(params, name) for name in _fields(params)]
    found = {name: ends for each in inner for name, ends in _ranges(each).items()}
    return found | (params.ranges if isinstance(getattr(type(params), "ranges", None), property) else {})


def _put(params: Any, path: tuple[str, ...], value: Any) -> Any:
    name, *rest = path
    if isinstance(params, dict):
        return params | {name: _put(params[name], tuple(rest), value) if rest else value}
    value = _put(getattr(params, name), tuple(rest), value) if rest else value
    change = params._replace if hasattr(params, "_replace") else params.replace
    return change(**{name: value})
