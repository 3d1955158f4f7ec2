"""Policies' distributions as pytrees; the last axis is the action's, the leading ones are free."""

import math
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from rlzoo.types import mask_of


@runtime_checkable
class Distribution(Protocol):
    def sample(self, key: jax.Array) -> jax.Array: ...
    def mode(self) -> jax.Array: ...
    def log_prob(self, action: jax.Array) -> jax.Array: ...
    def entropy(self) -> jax.Array: ...


MASKED = -1e9  # nats, or a logit: where -inf, or anything below, has its place in sums: so 0 log 0 = 0


def finite(x: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """Logits or log-probabilities, of which those of masked actions are finite. Its derivative is that of x."""

    @jax.custom_jvp
    def raised(x):
        return jnp.where(x < MASKED, MASKED, x)

    raised.defjvp(lambda x, tangent: (raised(*x), *tangent))  # that of the choice would round other gradients anew
    return raised(x)


class Categorical(NamedTuple):
    """Over the integers 0 .. A-1, from unnormalised log-probabilities.

    Finite where a probability underflows. A logit of -inf, or far below the others, masks its action: it is never
    sampled, and counts for nothing in the entropy.
    """

    logits: jax.Array  # [*B, A]

    def sample(self, key: jax.Array) -> Int[Array, "*B"]:
        return jax.random.categorical(key, self.logits)

    def mode(self) -> Int[Array, "*B"]:
        return jnp.argmax(self.logits, axis=-1)

    def log_prob(self, action: Int[Array, "*B"]) -> Float[Array, "*B"]:
        return jnp.take_along_axis(self.log_probs(), action[..., None], axis=-1)[..., 0]

    def log_probs(self) -> Float[Array, "*B A"]:
        """Of all actions; finite, of masked ones some -1e9."""
        return jax.nn.log_softmax(finite(self.logits))

    def entropy(self) -> Float[Array, "*B"]:
        """In nats."""
        log_probs = self.log_probs()
        return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)


@struct.dataclass
class Categoricals:
    """Independent ones side by side, of the ``sizes`` of a `MultiDiscrete`: probabilities multiply, entropies add."""

    logits: jax.Array  # [*B, sum of sizes]
    sizes: tuple[int, ...] = struct.field(pytree_node=False)

    @property
    def parts(self) -> list[Categorical]:
        return [Categorical(x) for x in jnp.split(self.logits, np.cumsum(self.sizes)[:-1], axis=-1)]

    def sample(self, key: jax.Array) -> Int[Array, "*B D"]:
        keys = jax.random.split(key, len(self.sizes))
        return jnp.stack([one.sample(key) for one, key in zip(self.parts, keys, strict=True)], axis=-1)

    def mode(self) -> Int[Array, "*B D"]:
        return jnp.stack([one.mode() for one in self.parts], axis=-1)

    def log_prob(self, action: Int[Array, "*B D"]) -> Float[Array, "*B"]:
        return jnp.stack([one.log_prob(action[..., i]) for i, one in enumerate(self.parts)]).sum(0)

    def entropy(self) -> Float[Array, "*B"]:
        """In nats."""
        return jnp.stack([one.entropy() for one in self.parts]).sum(0)


def legal(obs: Any) -> Bool[Array, "*B K"] | None:
    """Which actions may be taken, all where none may; None where observations say nothing of it."""
    mask = mask_of(obs)
    return None if mask is None else _some(mask)


def reachable(obs: Any) -> Any:
    """log n / log K where n of K actions are legal: the share of the largest entropy that can be reached there."""
    allowed = legal(obs)
    return 1.0 if allowed is None else jnp.log(allowed.sum(axis=-1)) / math.log(max(allowed.shape[-1], 2))


def among_legal(policy: Any, obs: Any) -> Any:
    """A policy at ``obs`` without the actions that may not be taken; as it is where nothing is said of them."""
    mask = mask_of(obs)
    if mask is None:
        return policy
    sizes = policy.sizes if isinstance(policy, Categoricals) else (policy.logits.shape[-1],)
    parts = jnp.split(mask, np.cumsum(sizes)[:-1], axis=-1)
    allowed = jnp.concatenate([_some(part) for part in parts], axis=-1)
    masked = jnp.where(allowed, policy.logits, -jnp.inf)
    return Categoricals(masked, sizes) if isinstance(policy, Categoricals) else Categorical(masked)


def _some(allowed: Bool[Array, "*B K"]) -> Bool[Array, "*B K"]:
    return allowed | ~allowed.any(axis=-1, keepdims=True)


class Normal(NamedTuple):
    """Independent normals, one for each action dimension; ``log_std`` broadcasts against ``mean``."""

    mean: jax.Array  # [*B, A]
    log_std: jax.Array  # [*B, A], or [A] for all

    def sample(self, key: jax.Array) -> Float[Array, "*B A"]:
        return self.mean + jnp.exp(self.log_std) * jax.random.normal(key, self.mean.shape)

    def mode(self) -> Float[Array, "*B A"]:
        return self.mean

    def log_prob(self, action: Float[Array, "*B A"]) -> Float[Array, "*B"]:
        standardised = (action - self.mean) * jnp.exp(-self.log_std)
        return jnp.sum(-0.5 * standardised**2 - self.log_std - 0.5 * math.log(2 * math.pi), axis=-1)

    def entropy(self) -> Float[Array, "*B"]:
        """In nats: the sum over dimensions of 0.5 log(2 pi e sigma^2)."""
        each = jnp.broadcast_to(self.log_std, self.mean.shape) + 0.5 * math.log(2 * math.pi * math.e)
        return jnp.sum(each, axis=-1)


def bounded_normal(mean: jax.Array, log_std: jax.Array) -> Normal:
    """Its standard deviations, which are learned, between e^-5 and e^2."""
    return Normal(mean, jnp.clip(log_std, -5.0, 2.0))


class TanhNormal(NamedTuple):
    """A normal u squashed to the box: a = centre + half_width tanh(u).

    Its density is handled in terms of the *pre-tanh* sample u, which loses nothing near the border:
    log p(a) = log N(u) - sum log half_width - sum 2 (log 2 - u - softplus(-2u)).
    With the half-width in it, the density integrates to one over any box.
    """

    mean: jax.Array  # [*B, A]
    log_std: jax.Array  # [*B, A], or [A] for all
    low: jax.Array  # [A]
    high: jax.Array  # [A]

    def squash(self, u: Float[Array, "*B A"]) -> Float[Array, "*B A"]:
        return self.low + 0.5 * (jnp.tanh(u) + 1.0) * (self.high - self.low)

    def sample_pre_tanh(self, key: jax.Array) -> Float[Array, "*B A"]:
        return Normal(self.mean, self.log_std).sample(key)

    def log_prob_pre_tanh(self, u: Float[Array, "*B A"]) -> Float[Array, "*B"]:
        """Log-density of the *action* squash(u), in the action's own units."""
        log_slope = 2.0 * (math.log(2.0) - u - jax.nn.softplus(-2.0 * u))
        log_half_width = jnp.log(0.5 * (self.high - self.low))
        return Normal(self.mean, self.log_std).log_prob(u) - jnp.sum(log_slope + log_half_width, axis=-1)

    def sample(self, key: jax.Array) -> Float[Array, "*B A"]:
        return self.squash(self.sample_pre_tanh(key))

    def mode(self) -> Float[Array, "*B A"]:
        return self.squash(self.mean)


def pre_tanh(a: Float[Array, "*B A"]) -> Float[Array, "*B A"]:
    """artanh(a), clipped off the border, where an action that was rounded or averaged has no finite log-density."""
    return jnp.arctanh(jnp.clip(a, -1.0 + 1e-6, 1.0 - 1e-6))
