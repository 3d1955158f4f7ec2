"""Acting by the values of discrete actions: greedily, at random now and then, or by the softmax that they give."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from rlzoo.blocks.distributions import MASKED, Categorical, among_legal, legal


def epsilon_at(hyper: Any, steps: Float[Array, ""] | float) -> Float[Array, ""]:
    """From ``epsilon_start`` to ``epsilon``, linear over ``epsilon_steps``."""
    left = jnp.maximum(0.0, 1.0 - steps / hyper.epsilon_steps)
    return hyper.epsilon + (hyper.epsilon_start - hyper.epsilon) * left


def among(q: Float[Array, "*B A"], obs: Any) -> Float[Array, "*B A"]:
    """Values, of which those of actions that may not be taken are finite, and far below all others."""
    allowed = legal(obs)
    return jnp.maximum(q, MASKED) if allowed is None else jnp.where(allowed, q, MASKED)


def any_best(q: Float[Array, "*B A"], key: jax.Array) -> Int[Array, "*B"]:
    """An action of the largest value; of several that are equal, each as often."""
    return jax.random.categorical(key, jnp.where(q < q.max(axis=-1, keepdims=True), -jnp.inf, 0.0))


def now_and_then(
    action: Int[Array, "*B"], q: Float[Array, "*B A"], obs: Any, epsilon: Float[Array, ""] | float, key: jax.Array
) -> Int[Array, "*B"]:
    """The action; with probability epsilon a uniform one of those that may be taken."""
    choice_key, action_key = jax.random.split(key)
    anything = among_legal(Categorical(jnp.zeros_like(q)), obs).sample(action_key)
    return jnp.where(jax.random.uniform(choice_key, action.shape) < epsilon, anything, action)


def scaled_log_policy(q: Float[Array, "*B A"], temperature: Float[Array, ""] | float) -> Float[Array, "*B A"]:
    """t log softmax(Q / t), at t the temperature, without dividing what is large."""
    q = q - q.max(axis=-1, keepdims=True)
    return q - temperature * jax.nn.logsumexp(q / temperature, axis=-1, keepdims=True)


def of_action(x: Shaped[Array, "*B A"], action: Int[Array, "*B"]) -> Shaped[Array, "*B"]:
    """The entry of one action each."""
    return jnp.take_along_axis(x, action[..., None], axis=-1)[..., 0]
