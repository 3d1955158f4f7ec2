"""Random masks at a fraction of the cost of one random number for each entry, which on a CPU exceeds the network's."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def bernoulli_zeros(key: jax.Array, rate: float, n: int) -> Float[Array, "n"]:
    """n independent entries, 0 with probability ``rate`` and otherwise 1.

    The gaps between zeros are geometric: gap = 1 + floor(log u / log(1 - rate)), u uniform. So only about n rate
    random numbers are drawn, not n. Their number is fixed at seven standard deviations above the mean: once in 10^12
    masks the last entries would all be 1.
    """
    if not 0.0 < rate < 1.0:
        raise ValueError(f"rate={rate}; it must be between 0 and 1, both excluded")
    num_gaps = min(n, math.ceil(n * rate + 7.0 * math.sqrt(n * rate * (1.0 - rate)) + 7.0))
    uniform = jax.random.uniform(key, (num_gaps,), minval=jnp.finfo(jnp.float32).tiny)
    gaps = 1 + jnp.minimum(jnp.floor(jnp.log(uniform) / math.log1p(-rate)), n).astype(jnp.int32)
    return jnp.ones(n).at[jnp.cumsum(gaps) - 1].set(0.0, mode="drop", indices_are_sorted=True)


def keep_bits(key: jax.Array, rate: float, shape: tuple[int, ...]) -> Bool[Array, "..."]:
    """Independent entries, False with probability ``rate``, rounded to 1/256 and 255/256 at most: masks of millions.

    Four entries share a word, and a word is a hash of its number: two rounds of a multiplicative mixer (of C. Wellons,
    lowbias32) keyed by ``key``, a tenth of the work of JAX's generator. Good enough for dropout, not for statistics.
    """
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"rate={rate}; it must be at least 0 and less than 1")
    first, second = jax.random.bits(key, (2,), jnp.uint32)

    def mixed(x):
        x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
        x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
        return x ^ (x >> 16)

    total = math.prod(shape)
    threshold = min(round(256 * rate), 255)
    words = mixed(mixed(jnp.arange(-(-total // 4), dtype=jnp.uint32) ^ first) + second)
    return (jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)[:total] >= threshold).reshape(shape)
