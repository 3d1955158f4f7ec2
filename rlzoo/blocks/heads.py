"""Heads of critics: what a network's outputs mean as a value, and the loss that fits them to a target.

Classification: Farebrother et al. 2024, arXiv:2403.03950, Section 3 and Appendix A; HL-Gauss: Imani & White 2018,
arXiv:1806.04613; C51: Bellemare et al. 2017, arXiv:1707.06887, Alg. 1; quantiles: Dabney et al. 2018,
arXiv:1710.10044, Eq. 9 and 10.
Shapes: K outputs for a value; z [K] the locations of bins, evenly spaced by w; p [*B, K] probabilities.

  value     sum_i softmax(l)_i z_i; of quantiles the mean of theta_i at tau_i = (i - 1/2) / K; of a scalar itself
  two-hot   p_i = max(0, 1 - |y - z_i| / w), whose mean is y
  HL-Gauss  p_i = P(bin i) under N(y, (sigma_ratio w)^2), cut to the bins
  C51       p_i = sum_j q_j max(0, 1 - |y_j - z_i| / w), of a target with atoms y_j of probabilities q_j
  loss      -sum_i p_i log softmax(l)_i, p held constant
  quantiles sum_i sum_j q_j |tau_i - 1[y_j < theta_i]| huber_kappa(y_j - theta_i) / kappa

One support serves all: centres from ``low`` to ``high``, so that the outer edges stick out by w / 2. The paper's text
has its edges at the ends instead. Targets are clipped to [low, high]; near an end HL-Gauss's mean is off by up to
0.37 w, so choose them a few bins wider than the values. The hat function puts no mass aside where an atom falls on a
bin, and needs no scatter.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

CLASSES = ("mean", "hl_gauss", "two_hot", "c51")  # whose outputs are logits over bins
HEADS = ("scalar", *CLASSES, "quantile")
NUMBERS = tuple(x for x in HEADS if x not in ("c51",))  # those that can be fitted to targets that are numbers


def support(low: Float[Array, ""] | float, high: Float[Array, ""] | float, num_bins: int) -> Float[Array, "K"]:
    """The bins' centres, from low to high."""
    return low + (high - low) * jnp.arange(num_bins) / (num_bins - 1)


def mean(logits: Float[Array, "*B K"], z: Float[Array, "K"]) -> Float[Array, "*B"]:
    """sum_i softmax(l)_i z_i."""
    return jnp.sum(jax.nn.softmax(logits) * z, axis=-1)


def hl_gauss(y: Float[Array, "*B"], z: Float[Array, "K"], ratio: Float[Array, ""] | float) -> Float[Array, "*B K"]:
    """Each bin's share of a normal around y, clipped to the support, whose standard deviation is ``ratio`` bins."""
    edges = jnp.arange(len(z) + 1) - 0.5
    below = jax.scipy.special.erf((edges - _bin(y, z)[..., None]) / (math.sqrt(2.0) * ratio))
    mass = jnp.maximum(0.0, jnp.diff(below))  # erf of float32 rises, but for its last bit
    return mass / (below[..., -1:] - below[..., :1])


def two_hot(y: Float[Array, "*B"], z: Float[Array, "K"]) -> Float[Array, "*B K"]:
    """y, clipped to the support, shared by the two bins around it: its mean is y."""
    return _hat(y, z)


def project(atoms: Float[Array, "*B J"], share: Float[Array, "*B J"], z: Float[Array, "K"]) -> Float[Array, "*B K"]:
    """A distribution with probabilities ``share`` at ``atoms``, each clipped to the support and shared as `two_hot`."""
    return jnp.einsum("...j,...jk->...k", share, _hat(atoms, z))


def _bin(y: jax.Array, z: jax.Array) -> jax.Array:
    """Where y, clipped to the support, lies among the centres 0 .. K-1: HL-Gauss always has mass between its edges."""
    return (jnp.clip(y, z[0], z[-1]) - z[0]) * ((len(z) - 1) / (z[-1] - z[0]))


def _hat(y: jax.Array, z: jax.Array) -> jax.Array:
    return jnp.maximum(0.0, 1.0 - jnp.abs(_bin(y, z)[..., None] - jnp.arange(len(z))))


def cross_entropy(logits: Float[Array, "*B K"], p: Float[Array, "*B K"]) -> Float[Array, "*B"]:
    """-sum_i p_i log softmax(l)_i, p held constant: by the logits its gradient is softmax(l) - p."""
    return -jnp.sum(jax.lax.stop_gradient(p) * jax.nn.log_softmax(logits), axis=-1)


def midpoints(num_quantiles: int) -> Float[Array, "K"]:
    """tau_i = (i - 1/2) / K."""
    return (jnp.arange(num_quantiles) + 0.5) / num_quantiles


def huber(error: Float[Array, "*B"], kappa: Float[Array, ""] | float = 1.0) -> Float[Array, "*B"]:
    """u^2 / 2 within kappa, kappa (|u| - kappa / 2) outside."""
    size = jnp.abs(error)
    return jnp.where(size <= kappa, 0.5 * error**2, kappa * (size - 0.5 * kappa))


def quantile_loss(
    theta: Float[Array, "*B K"],
    tau: Float[Array, "*#B K"],
    atoms: Float[Array, "*B J"],
    share: Float[Array, "*B J"],
    kappa: Float[Array, ""] | float,
) -> Float[Array, "*B"]:
    """Summed over the quantiles predicted, averaged over the target's atoms, held constant; kappa = 0: |u|."""
    error = jax.lax.stop_gradient(atoms)[..., None, :] - theta[..., :, None]  # [*B, K, J]
    bend = jnp.maximum(kappa, 1e-6)
    size = jnp.where(kappa > 0.0, huber(error, bend) / bend, jnp.abs(error))
    each = jnp.abs(tau[..., :, None] - (error < 0.0)) * size
    return jnp.sum(each * share[..., None, :], axis=(-2, -1))


class Atoms(NamedTuple):
    """A distribution of returns: what a target is for heads that learn one."""

    at: jax.Array  # [*B, J]
    share: jax.Array  # [*B, J], probabilities

    def after(self, reward: Float[Array, "*B"], discount: Float[Array, "*B"]) -> "Atoms":
        """That of reward + discount times what it is of, held constant."""
        return Atoms(jax.lax.stop_gradient(reward[..., None] + discount[..., None] * self.at), self.share)

    def mixed(self, weight: Float[Array, "*B A"]) -> "Atoms":
        """Of [*B, A, J] the mixture over A by ``weight``, [*B, A J]."""
        share = weight[..., None] * self.share
        return Atoms(*(x.reshape(*x.shape[:-2], -1) for x in (jnp.broadcast_to(self.at, share.shape), share)))


class Head(NamedTuple):
    """What the outputs [*B, size] of a critic mean, by the ``head`` and ``num_bins`` of a Config.

    ``hyper`` is a `Hyper` with the numbers `value_low`, `value_high` and `sigma_ratio` of bins, `kappa` of quantiles.
    """

    kind: str
    size: int

    @property
    def distributional(self) -> bool:
        """Whether targets are distributions, `Atoms`; otherwise they are numbers."""
        return self.kind in ("c51", "quantile")

    def support(self, hyper: Any) -> Float[Array, "K"]:
        return support(hyper.value_low, hyper.value_high, self.size)

    def value(self, out: Float[Array, "*B K"], hyper: Any) -> Float[Array, "*B"]:
        """The mean."""
        if self.kind == "scalar":
            return out[..., 0]
        return out.mean(axis=-1) if self.kind == "quantile" else mean(out, self.support(hyper))

    def atoms(self, out: Float[Array, "*B K"], hyper: Any) -> Atoms:
        """The distribution that a distributional head has learned."""
        if self.kind == "quantile":
            return Atoms(out, jnp.full_like(out, 1.0 / out.shape[-1]))
        share = jax.nn.softmax(out)
        return Atoms(jnp.broadcast_to(self.support(hyper), share.shape), share)

    def loss(
        self, out: Float[Array, "*B K"], target: Any, hyper: Any, squared: Any = None, tau: Any = None
    ) -> Float[Array, "*B"]:
        """By how much the outputs are off a target: numbers [*B], or `Atoms`.

        Args:
            squared: (value, number) -> the algorithm's own squared error, of a head that has no other.
            tau: of quantiles, [*B, K]; default: `midpoints`.
        """
        if self.kind in ("scalar", "mean"):
            return squared(self.value(out, hyper), target)
        if not isinstance(target, Atoms):
            target = Atoms(target[..., None], jnp.ones_like(target)[..., None])
        if self.kind == "quantile":
            tau = midpoints(out.shape[-1]) if tau is None else tau
            return quantile_loss(out, tau, target.at, target.share, hyper.kappa)
        z = self.support(hyper)
        if self.kind == "hl_gauss":
            return cross_entropy(out, hl_gauss(target.at[..., 0], z, hyper.sigma_ratio))
        return cross_entropy(out, project(target.at, target.share, z))

    def target(self, next_out: Float[Array, "E *B K"], reward: jax.Array, discount: jax.Array, hyper: Any) -> Any:
        """reward + discount min_i V_i, held constant: numbers [*B], or `Atoms`, of the critic with the least mean."""
        value = self.value(next_out, hyper)
        if not self.distributional:
            return jax.lax.stop_gradient(reward + discount * value.min(axis=0))
        return self.atoms(least(next_out, value), hyper).after(reward, discount)

    def metrics(self, target: Any, hyper: Any) -> dict[str, jax.Array]:
        """Of bins the share of a target, numbers or `Atoms`, that lies outside of them."""
        if self.kind not in CLASSES:
            return {}
        at, share = target if isinstance(target, Atoms) else (target[..., None], 1.0)
        outside = (at < hyper.value_low) | (at > hyper.value_high)
        return {"value/clipped": jnp.mean(jnp.sum(outside * share, axis=-1))}


SCALAR = Head("scalar", 1)


def of(kind: str, num_bins: int) -> Head:
    """The head of a `Config` that names it, and says how many bins or quantiles it has."""
    return SCALAR if kind == "scalar" else Head(kind, num_bins)


def least(out: Float[Array, "E *B K"], value: Float[Array, "E *B"]) -> Float[Array, "*B K"]:
    """Of E critics' outputs those of the critic with the least mean, row by row."""
    return jnp.take_along_axis(out, value.argmin(axis=0)[None, ..., None], axis=0)[0]
