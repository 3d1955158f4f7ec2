"""Optimisers whose numbers may be tracers, so that a learning rate is swept like any other number."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree


def adam(
    learning_rate: Float[Array, ""] | float, max_grad_norm: Float[Array, ""] | float, eps: float = 1e-5
) -> optax.GradientTransformation:
    """Adam on gradients clipped by their *global* L2 norm; ``max_grad_norm=inf`` does not clip.

    Build it inside `init` and `step`: its state does not depend on the numbers, so it is never stored.
    """
    return optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.adam(learning_rate, eps=eps))


def anneal(
    rate: Float[Array, ""] | float,
    steps_done: Int[Array, ""] | Float[Array, ""],
    anneal_steps: Float[Array, ""] | float,
) -> Float[Array, ""]:
    """rate (1 - steps_done / anneal_steps), not below zero. ``anneal_steps=inf`` keeps the rate constant.

    The horizon is a number of its own, not the length of a training call: a longer run is the same run continued.
    """
    return rate * jnp.maximum(0.0, 1.0 - steps_done / anneal_steps)


def polyak(target: PyTree, online: PyTree, tau: Float[Array, ""] | float) -> PyTree:
    """target + tau (online - target): a step of ``tau`` *towards* the online parameters."""
    return jax.tree.map(lambda old, new: old + tau * (new - old), target, online)
