"""Optimisers whose numbers may be tracers, so that a learning rate is swept like any other number."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from rlzoo import names


def adam(
    learning_rate: Float[Array, ""] | float,
    max_grad_norm: Float[Array, ""] | float,
    decay: Float[Array, ""] | float = 0.999,
    eps: Float[Array, ""] | float = 1e-5,
) -> optax.GradientTransformation:
    """Adam on gradients clipped by their *global* L2 norm; ``max_grad_norm=inf`` does not clip.

    ``decay`` is beta_2, of the average of squared gradients; beta_1 = 0.9.
    Build it inside `init` and `step`: its state does not depend on the numbers, so it is never stored.
    """
    return optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.adam(learning_rate, b2=decay, eps=eps))


def rmsprop(
    learning_rate: Float[Array, ""] | float,
    max_grad_norm: Float[Array, ""] | float,
    decay: Float[Array, ""] | float,
    eps: Float[Array, ""] | float,
) -> optax.GradientTransformation:
    """RMSProp without momentum, centring or bias correction, on gradients clipped by their *global* L2 norm.

        g <- decay g + (1 - decay) grad^2,   x <- x - learning_rate grad / sqrt(g + eps),   g = 0 at the start

    The form of Mnih et al. 2016 (arXiv:1602.01783, Eq. S2 and S3), with eps inside the root.
    """
    clip = optax.clip_by_global_norm(max_grad_norm)
    return optax.chain(clip, optax.rmsprop(learning_rate, decay, eps, initial_scale=0.0, eps_in_sqrt=True))


OPTIMISERS: dict[str, Callable[..., optax.GradientTransformation]] = {"adam": adam, "rmsprop": rmsprop}


def anneal(
    rate: Float[Array, ""] | float,
    steps_done: Int[Array, ""] | Float[Array, ""],
    anneal_steps: Float[Array, ""] | float,
) -> Float[Array, ""]:
    """rate (1 - steps_done / anneal_steps), not below zero. ``anneal_steps=inf`` keeps the rate constant.

    The horizon is a number of its own, not the length of a training call: a longer run is the same run continued.
    """
    return rate * jnp.maximum(0.0, 1.0 - steps_done / anneal_steps)


def cosine(
    rate: Float[Array, ""] | float,
    steps_done: Int[Array, ""] | Float[Array, ""] | int,
    anneal_steps: Float[Array, ""] | float,
) -> Float[Array, ""]:
    """rate (1 + cos(pi steps_done / anneal_steps)) / 2, zero from ``anneal_steps`` on; inf keeps the rate constant."""
    return 0.5 * rate * (1.0 + jnp.cos(jnp.pi * jnp.minimum(steps_done / anneal_steps, 1.0)))


ANNEALING: dict[str, Callable[..., jax.Array]] = {"linear": anneal, "cosine": cosine}


def own(config: Any, hyper: Any, step: Any, default: Any) -> Any:
    """What ``config.optim(hyper, step)`` gives in place of the default; without it the default.

    Args:
        step: updates done, or what else the algorithm anneals by; traced, as ``hyper`` is.
        default: a transformation, or a NamedTuple of them, one a part. Of several, ``optim`` may give one for all
            parts, or a mapping from names of parts to transformations for some.
    Raises:
        ValueError: it gives something else, or fails on traced numbers.
    """
    if config.optim is None:
        return default
    if not callable(config.optim):
        raise ValueError(f"config.optim is {config.optim!r}; it must be a function (hyper, step) -> transformation")
    try:
        given = config.optim(hyper, step)
    except Exception as error:
        what = " ".join(str(error).split())[:160]
        raise ValueError(
            f"config.optim fails on traced numbers: {type(error).__name__}: {what}; choose with jnp.where, not if"
        ) from error
    alone = isinstance(default, optax.GradientTransformation)
    parts = () if alone else default._fields
    by_part = given if isinstance(given, Mapping) and not alone else dict.fromkeys(parts or ("all",), given)
    names.check("part in config.optim", by_part, parts or ("all",))
    for x in by_part.values():
        if not isinstance(x, optax.GradientTransformation):
            mapping = "" if alone else f", or a mapping of {', '.join(parts)}"
            raise ValueError(
                f"config.optim gives {type(x).__name__}; it must give an optax.GradientTransformation, such as "
                f"optax.adamw(1e-3){mapping}"
            )
    return given if alone else default._replace(**by_part)


def descend(
    optimiser: optax.GradientTransformation, params: PyTree, opt_state: PyTree, grads: PyTree
) -> tuple[PyTree, PyTree]:
    """One step of the optimiser against the gradients: the new parameters, and its new state."""
    updates, opt_state = optimiser.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state


def polyak(target: PyTree, online: PyTree, tau: Float[Array, ""] | float) -> PyTree:
    """target + tau (online - target): a step of ``tau`` *towards* the online parameters."""
    return jax.tree.map(lambda old, new: old + tau * (new - old), target, online)


class Langevin(NamedTuple):
    """State of `langevin`."""

    steps: jax.Array  # int32[], done
    square: PyTree  # average of squared gradients


def langevin_init(params: PyTree) -> Langevin:
    return Langevin(jnp.int32(0), jax.tree.map(jnp.zeros_like, params))


def langevin(
    params: PyTree,
    state: Langevin,
    grads: PyTree,
    key: jax.Array,
    learning_rate: Float[Array, ""] | float,
    decay: Float[Array, ""] | float,
    noise: Float[Array, ""] | float,
    eps: Float[Array, ""] | float = 1e-8,
) -> tuple[PyTree, Langevin]:
    """One step of stochastic gradient Langevin dynamics, preconditioned as RMSProp (Li et al. 2016, arXiv:1512.07666).

        v <- decay v + (1 - decay) grad^2,   d = sqrt(v) + eps,   v = 0 at the start
        x <- x - learning_rate grad / d + noise sqrt(2 learning_rate / d) N(0, 1)

    As in the cited work the preconditioner's own derivative is left out.
    """
    square = jax.tree.map(lambda v, g: decay * v + (1.0 - decay) * g**2, state.square, grads)

    def moved(x, g, v, draw):
        scale = jnp.sqrt(v) + eps
        return x - learning_rate * g / scale + noise * jnp.sqrt(2.0 * learning_rate / scale) * draw

    draws = optax.tree.random_like(key, params, jax.random.normal)
    return jax.tree.map(moved, params, grads, square, draws), Langevin(state.steps + 1, square)
