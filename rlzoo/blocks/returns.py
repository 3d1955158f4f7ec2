"""Advantages and discounted sums over time-major arrays [T, N].

Two flags, two meanings. ``terminated``: the episode ended by its own rules, so the successor is worth nothing and
nothing is bootstrapped. ``truncated``: a time limit cut it, so the successor is worth what the critic says. Either
one ends the trace: what follows in the array belongs to another episode.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def gae(
    reward: Float[Array, "T *N"],
    terminated: Bool[Array, "T *N"],
    truncated: Bool[Array, "T *N"],
    value: Float[Array, "T *N"],
    next_value: Float[Array, "T *N"],
    gamma: Float[Array, ""] | float,
    gae_lambda: Float[Array, ""] | float,
) -> Float[Array, "T *N"]:
    """Generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438, Eq. 16).

        delta_t = r_t + gamma (1 - terminated_t) V(next_obs_t) - V(obs_t)
        A_t     = delta_t + gamma lambda (1 - (terminated_t | truncated_t)) A_{t+1},    A_T = 0

    ``next_value`` is V at the successor *before* any reset. lambda = 0 gives the one-step error; lambda = 1 the
    longest n-step return available, less the value. Add ``value`` for the lambda-return.

    Args:
        reward, terminated, truncated, value, next_value: at times 0 .. T-1.
        gamma: discount per step. gae_lambda: trace decay per step.
    Returns:
        advantages in reward units.
    """
    delta = reward + gamma * (1.0 - terminated) * next_value - value
    keep = gamma * gae_lambda * (1.0 - (terminated | truncated))

    def backwards(advantage, now):
        delta, keep = now
        advantage = delta + keep * advantage
        return advantage, advantage

    return jax.lax.scan(backwards, jnp.zeros_like(delta[0]), (delta, keep), reverse=True)[1]


def n_step(
    reward: Float[Array, "T *N"],
    taken: Bool[Array, "T *N"],
    bootstrap: Float[Array, "*N"],
    gamma: Float[Array, ""] | float,
) -> Float[Array, "T *N"]:
    """The longest n-step return that a rollout allows (Mnih et al. 2016, arXiv:1602.01783, Alg. S3).

        R_t = r_t + gamma R_{t+1},    R after the last step taken = bootstrap

    Args:
        reward: at times 0 .. T-1. taken: False after the rollout ended; such times have no part in it.
        bootstrap: the value of the state after the last step taken, 0 if that step terminated the episode.
    Returns:
        R_t; at times that were not taken, the bootstrap.
    """

    def backwards(total, now):
        reward, taken = now
        total = jnp.where(taken, reward + gamma * total, total)
        return total, total

    return jax.lax.scan(backwards, bootstrap, (reward, taken), reverse=True)[1]


def running_return(
    start: Float[Array, "*N"],
    reward: Float[Array, "T *N"],
    done: Bool[Array, "T *N"],
    gamma: Float[Array, ""] | float,
) -> tuple[Float[Array, "*N"], Float[Array, "T *N"]]:
    """Discounted sum of the rewards so far in each episode, forwards in time.

        G_t = gamma G_{t-1} + r_t,  and 0 before the first step of an episode

    Its standard deviation is the unit by which rewards are scaled.

    Args:
        start: G before time 0. done: the episode ended with this step.
    Returns:
        the carry for the next call, and G_t at every time.
    """

    def forwards(total, now):
        reward, done = now
        total = gamma * total + reward
        return jnp.where(done, 0.0, total), total

    return jax.lax.scan(forwards, start, (reward, done))


def explained_variance(value: Float[Array, "*B"], target: Float[Array, "*B"]) -> Float[Array, ""]:
    """1 - Var(target - value) / Var(target): 1 is perfect, 0 no better than a constant, or all targets are equal."""
    variance = jnp.var(target)
    return jnp.where(variance > 1e-8, 1.0 - jnp.var(target - value) / jnp.maximum(variance, 1e-8), 0.0)
