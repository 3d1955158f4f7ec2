"""Stocks: what an agent has earned so far, beside its observation, and utilities of stock plus return.

After Pires et al. 2025, arXiv:2501.13028, from its abstract; CVaR by a stock: Rockafellar & Uryasev 2000.
Shapes: K atoms of a return's distribution, A actions.

  stock      c_{t+1} = (c_t + r_{t+1}) / gamma,   so that   c_0 + sum_t gamma^t r_{t+1} = gamma^t (c_t + G_t)
  objective  E f(c_0 + G), greedy at t: argmax_a E f(c_t + G_t(a))
  f(x)       mean: x; cvar: min(x, 0) / share; mean_cvar: mean_weight x + (1 - mean_weight) min(x, 0) / share;
             target: -|x|; quadratic: -x^2; threshold: 1[x >= 0]
  CVaR       max_c -c + E min(c + G, 0) / share, attained at minus G's quantile of that share

All but the threshold are homogeneous, f(k x) = k^d f(x), so that f orders actions alike at any time; the threshold does
because it sees the sign alone.

In observations a stock is four numbers: c_t, c_0 / gamma^t, 1 / gamma^t and the unit in which networks see it, as the
last number of the vector.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rlzoo.types import Env, Observation

OBJECTIVES = ("mean", "cvar", "mean_cvar", "target", "quadratic", "threshold")
FROM_BEST = ("cvar", "mean_cvar")  # those whose best initial stock is part of the policy


def utility(
    objective: str,
    x: Float[Array, "*B"],
    share: Float[Array, ""] | float,
    mean_weight: Float[Array, ""] | float,
) -> Float[Array, "*B"]:
    """f(x), of a stock and a return together."""
    loss = jnp.minimum(x, 0.0) / share
    return {
        "mean": lambda: x,
        "cvar": lambda: loss,
        "mean_cvar": lambda: mean_weight * x + (1.0 - mean_weight) * loss,
        "target": lambda: -jnp.abs(x),
        "quadratic": lambda: -(x**2),
        "threshold": lambda: (x >= 0.0).astype(jnp.float32),
    }[objective]()


def beside(obs: Any, amount: jax.Array, start: jax.Array, growth: jax.Array, scale: float) -> Observation:
    """An observation with a stock."""
    stock = jnp.stack([amount, start, growth, jnp.full_like(amount, scale)], axis=-1)
    vector = (amount / scale)[..., None]
    if isinstance(obs, Observation):
        both = vector if obs.vector is None else jnp.concatenate([obs.vector.astype(jnp.float32), vector], axis=-1)
        return obs._replace(vector=both, stock=stock)
    if obs.ndim - amount.ndim == 3:
        return Observation(image=obs, vector=vector, stock=stock)
    flat = obs.reshape(*amount.shape, -1).astype(jnp.float32)
    return Observation(vector=jnp.concatenate([flat, vector], axis=-1), stock=stock)


def amount(obs: Observation) -> Float[Array, "*B"]:
    """c_t."""
    return obs.stock[..., 0]


def edited(obs: Observation, amount: Float[Array, "*B"]) -> Observation:
    """The same, had the stock been another: dynamics do not depend on it."""
    vector = obs.vector.at[..., -1].set(amount / obs.stock[..., 3])
    return obs._replace(vector=vector, stock=obs.stock.at[..., 0].set(amount))


def renewed(batch: Any, amount: Float[Array, "*B"]) -> Any:
    """Steps of experience, `replay.Steps`, as they would have been with another stock at first."""
    growth = batch.next_obs.stock[..., 2] / batch.obs.stock[..., 2]
    following = edited(batch.next_obs, (amount + batch.reward) * growth)
    return batch._replace(obs=edited(batch.obs, amount), next_obs=following)


def had_it_begun(obs: Observation, start: Float[Array, ""]) -> Observation:
    """The same, had the episode begun with that stock; as it is where ``start`` is nan."""
    _, began, growth, _ = jnp.moveaxis(obs.stock, -1, 0)
    return edited(obs, jnp.where(jnp.isnan(start), amount(obs), amount(obs) - began + growth * start))


def best_start(starts: Float[Array, "G"], utilities: Float[Array, "G *N"]) -> Float[Array, ""]:
    """argmax_c -c + E f(c + G): of ``starts``, with the utility of the best action at first observations."""
    return starts[jnp.argmax(utilities.reshape(len(starts), -1).mean(axis=1) - starts)]


def refuse_without(env: Env, objective: str, gamma: Any) -> None:
    """Raise a `ValueError` of an environment without a stock, or with one of another discount than ``gamma``."""
    if env.stock is None:
        raise ValueError(
            f"{env.name}: objective={objective!r} needs a stock beside observations; wrap it: "
            "rlzoo.envs.stock(env, gamma=1.0, low=-10.0, high=10.0)"
        )
    if not isinstance(gamma, jax.core.Tracer) and not np.allclose(gamma, env.stock):
        raise ValueError(
            f"gamma={gamma} and the stock of {env.name} is discounted by {env.stock}; give both the same, "
            f"hyper._replace(gamma={env.stock})"
        )
