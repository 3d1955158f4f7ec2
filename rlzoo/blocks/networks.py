"""Networks as flax.linen modules. Any module of the same signature can be given in a Config instead."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float, Shaped

from rlzoo.blocks import heads
from rlzoo.blocks.distributions import Categorical, Categoricals, Distribution, Normal, among_legal
from rlzoo.types import Discrete, Env, MultiDiscrete, Observation

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": nn.tanh,
    "relu": nn.relu,
    "swish": nn.swish,
    "gelu": nn.gelu,
}
DTYPES: dict[str, Any] = {"float32": None, "bfloat16": jnp.bfloat16}  # of `product`, by the names in a Config


def product(x: Float[Array, "*B I"], kernel: Float[Array, "I O"], dtype: Any = None) -> Float[Array, "*B O"]:
    """x @ kernel, of factors rounded to ``dtype``, with float32 sums: what matrix units do. Without one as they are.

    The products of its derivative are of rounded factors too, the cotangent among them, and are rounded themselves.
    """
    if dtype is None:
        return x @ kernel

    @jax.custom_jvp
    def summed(x, kernel):
        return jnp.matmul(x, kernel, preferred_element_type=jnp.float32)

    @partial(summed.defjvp, symbolic_zeros=True)
    def derivative(given, changes):  # the default one multiplies float32 by bfloat16, which is done in float32
        (x, kernel), (dx, dkernel) = given, changes
        parts = [a @ b for a, b in ((dx, kernel), (x, dkernel)) if SymbolicZero not in (type(a), type(b))]
        return summed(x, kernel), sum(parts[1:], parts[0]).astype(jnp.float32)

    return summed(x.astype(dtype), kernel.astype(dtype))


def activated(x: Float[Array, "*B W"], activation: str, dtype: Any = None) -> Float[Array, "*B W"]:
    """A hidden layer's activation by its name, in ``dtype`` if there is one."""
    return ACTIVATIONS[activation](x if dtype is None else x.astype(dtype))


def orthogonal(key: jax.Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> Float[Array, "I O"]:
    """A uniformly random matrix with orthonormal columns (rows, if it is wider than tall).

    The polar factor of a Gaussian matrix, found by Newton and Schulz's iteration X <- X (3 - X'X) / 2, which needs
    matrix products only. The usual QR decomposition, vmapped over lanes on a CPU, can wait for ever: every thread of
    XLA's pool runs one and waits for its parts, which are queued behind them (jaxlib 0.10.2, in ParallelBatchMap).
    """
    x = jax.random.normal(key, (max(shape), min(shape)), dtype)
    x = x / jnp.linalg.norm(x)  # all singular values in (0, 1]: from there on they rise to 1

    def iterate(_, x):
        gram = jnp.matmul(x.T, x, precision="highest")
        return 1.5 * x - 0.5 * jnp.matmul(x, gram, precision="highest")

    x = jax.lax.fori_loop(0, 60, iterate, x)  # small ones grow by half each time: from 1e-8 to 1 in 46
    return x if shape[0] >= shape[1] else x.T


def dense(features: int, gain: float = math.sqrt(2.0), dtype: Any = None) -> nn.Dense:
    """A linear layer with orthogonal weights of the given gain (Saxe et al. 2014, arXiv:1312.6120) and zero bias."""
    return nn.Dense(
        features,
        kernel_init=lambda key, shape, dtype: gain * orthogonal(key, shape, dtype),
        dot_general=None if dtype is None else lambda x, kernel, *_, **__: product(x, kernel, dtype),
    )


class MLP(nn.Module):
    """Hidden layers, then a linear one of ``features`` whose orthogonal weights have ``gain``."""

    hidden: tuple[int, ...]
    features: int
    gain: float = 1.0
    activation: str = "tanh"
    dtype: Any = None  # of products' factors and of hidden activations; parameters and outputs are float32

    @nn.compact
    def __call__(self, x: Float[Array, "*B I"]) -> Float[Array, "*B O"]:
        for width in self.hidden:
            x = activated(dense(width, dtype=self.dtype)(x), self.activation, self.dtype)
        return dense(self.features, self.gain, self.dtype)(x)


class CNN(nn.Module):
    """One 3 x 3 convolution with ReLU, flattened: the network of MinAtar (Young & Tian 2019, arXiv:1903.03176).

    The convolution is written as a matrix product of its patches. The numbers are the same, but under a vmap over
    parameters it stays a batched product, where XLA turns a real convolution into a slow grouped one.

    Raises:
        ValueError: an image of fewer than 3 pixels in height or width, of which nothing would be left.
    """

    channels: int = 16
    dtype: Any = None  # see `MLP`
    layer_norm: bool = False  # over channels, before each activation

    @nn.compact
    def __call__(self, x: Float[Array, "*B H W C"]) -> Float[Array, "*B F"]:
        height, width = x.shape[-3] - 2, x.shape[-2] - 2
        if height < 1 or width < 1:
            raise ValueError(f"images {list(x.shape[-3:])} are smaller than the 3 x 3 convolution; flatten them")
        patches = [x[..., i : i + height, j : j + width, :] for i in range(3) for j in range(3)]
        sums = dense(self.channels, dtype=self.dtype)(jnp.concatenate(patches, axis=-1))
        sums = nn.LayerNorm(epsilon=1e-5)(sums) if self.layer_norm else sums
        features = activated(sums, "relu", self.dtype)
        return features.reshape(*features.shape[:-3], -1)


class NatureCNN(nn.Module):
    """Three strided convolutions with ReLU, flattened: for images of 36 pixels and more (Mnih et al. 2015)."""

    dtype: Any = None  # see `MLP`
    layer_norm: bool = False  # over channels, before each activation

    @nn.compact
    def __call__(self, x: Float[Array, "*B H W C"]) -> Float[Array, "*B F"]:
        batch = x.shape[:-3]
        x = x.reshape(-1, *x.shape[-3:])
        for channels, size, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
            gain = lambda key, shape, dtype: math.sqrt(2.0) * _orthogonal_kernel(key, shape, dtype)  # noqa: E731
            form = {"strides": stride, "padding": "VALID", "dtype": self.dtype, "kernel_init": gain}
            x = nn.Conv(channels, (size, size), **form)(x)
            x = nn.LayerNorm(epsilon=1e-5)(x) if self.layer_norm else x
            x = activated(x, "relu", self.dtype)
        return x.reshape(*batch, -1)


def _orthogonal_kernel(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """A convolution's: a patch's numbers are the inputs."""
    return orthogonal(key, (math.prod(shape[:-1]), shape[-1]), dtype).reshape(shape)


def real(x: jax.Array) -> jax.Array:
    """Booleans and whole numbers as float32, as which networks see them."""
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32)


def batch_of(obs: Any, space: Any) -> tuple[int, ...]:
    """The leading axes *B of observations of a space."""
    x, box = (
        next(x for x in given if x is not None) if isinstance(given, Observation) else given for given in (obs, space)
    )
    return x.shape[: x.ndim - len(box.shape)]


LARGE = 36  # pixels in height and width from which on `NatureCNN` takes images, the least that it leaves something of


def _features(obs: Any, obs_shape: Any, dtype: Any, privileged: bool = False, layer_norm: bool = False) -> jax.Array:
    """Inside a compact module, as one vector of float32: images through a CNN of their own, all else flattened.

    Of an `Observation` image, vector and, if asked for, what is ``privileged``, side by side. ``layer_norm`` is the
    CNN's.
    """
    if isinstance(obs_shape, Observation):
        parts = [name for name in ("image", "vector") if getattr(obs_shape, name) is not None]
        parts += ["privileged"] * (privileged and obs_shape.privileged is not None)
        found = [_features(getattr(obs, x), getattr(obs_shape, x), dtype, layer_norm=layer_norm) for x in parts]
        return found[0] if len(found) == 1 else jnp.concatenate(found, axis=-1)
    obs = real(obs)
    if len(obs_shape) == 3 and min(obs_shape[:2]) >= 3:
        return (NatureCNN if min(obs_shape[:2]) >= LARGE else CNN)(dtype=dtype, layer_norm=layer_norm)(obs)
    return obs.reshape(*obs.shape[: obs.ndim - len(obs_shape)], -1)


class Linear(nn.Module):
    """A linear layer; ``weights`` says how it starts.

    torch: weights and biases uniform within 1 / sqrt(inputs), as in PyTorch. xavier: biases so, weights uniform within
    gain sqrt(6 / (inputs + outputs)) (Glorot & Bengio 2010). orthogonal: weights orthogonal of gain 1, biases zero.
    """

    features: int
    weights: str = "torch"
    gain: float = 1.0  # of xavier
    dtype: Any = None  # see `MLP`

    @nn.compact
    def __call__(self, x: Float[Array, "*B I"]) -> Float[Array, "*B O"]:
        shape = x.shape[-1], self.features
        bound = 1.0 / math.sqrt(shape[0])
        bounds = {"torch": bound, "xavier": self.gain * math.sqrt(6.0 / sum(shape))}

        def uniform(key, shape, bound):
            return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

        if self.weights == "orthogonal":
            kernel, bias = self.param("kernel", orthogonal, shape), self.param("bias", nn.initializers.zeros, shape[1:])
        else:
            kernel = self.param("kernel", uniform, shape, bounds[self.weights])
            bias = self.param("bias", uniform, shape[1:], bound)
        return product(x, kernel, self.dtype) + bias


class FeedForward(nn.Module):
    """Off-policy networks: policies of obs, critics of obs and action.

    Each hidden block is Linear, dropout, LayerNorm, activation, of which dropout and LayerNorm may be left out; then
    a Linear head. Images [H, W, C], 3 x 3 or more, go through a CNN first.
    """

    features: int
    obs_shape: Any  # tuple[int, ...], or an `Observation` of such
    hidden: tuple[int, ...] = (256, 256)
    activation: str = "relu"
    layer_norm: bool = False
    dropout: float = 0.0  # the probability by which ``keep`` is 0
    norm_last: bool = False  # LayerNorm behind the activation
    weights: str = "torch"  # at the start, see `Linear`
    dtype: Any = None  # see `MLP`; the statistics of LayerNorm are float32 too
    privileged: bool = False  # whether it sees what is for critics alone

    @nn.compact
    def __call__(
        self,
        obs: Any,
        action: Float[Array, "*B A"] | None = None,
        keep: Shaped[Array, "*B W"] | None = None,
    ) -> Float[Array, "*B O"]:
        """``keep``: dropout's mask over all W hidden units, 1 or 0 or bools; None, as in evaluation, drops nothing."""
        x = _features(obs, self.obs_shape, self.dtype, self.privileged)
        if action is not None:
            x = jnp.concatenate([x, action], axis=-1)

        keeps: list[Any] = [None] * len(self.hidden)
        if keep is not None:
            keeps = jnp.split(keep / (1.0 - self.dropout), np.cumsum(self.hidden)[:-1], axis=-1)
        for width, factor in zip(self.hidden, keeps, strict=True):
            x = Linear(width, self.weights, math.sqrt(2.0), self.dtype)(x)
            x = x if factor is None else x * factor
            x = nn.LayerNorm(epsilon=1e-5)(x) if self.layer_norm and not self.norm_last else x
            x = activated(x, self.activation, self.dtype)
            x = nn.LayerNorm(epsilon=1e-5)(x) if self.layer_norm and self.norm_last else x
        return Linear(self.features, self.weights, dtype=self.dtype, name="head")(x)


def cos_pi(y: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """cos(pi y), to 1e-6 in float32 where y is: Taylor's series on a quarter of a wave, an eighth of jnp.cos's time."""
    x = jnp.pi * (0.5 - jnp.abs(y - 2.0 * jnp.round(0.5 * y)))  # of which it is the sine
    total = jnp.full_like(x, -1.0 / math.factorial(11))
    for power in (9, 7, 5, 3, 1):
        total = total * x**2 + (-1.0) ** (power // 2) / math.factorial(power)
    return x * total


class QNetwork(nn.Module):
    """Of discrete actions the outputs that a head makes values of: hidden layers, then a linear one.

    dueling: V(s) + Adv(s, a) - mean_b Adv(s, b), each with a last hidden layer of its own (Wang et al. 2016,
    arXiv:1511.06581, Eq. 9); of several outputs each by itself. With quantiles ``tau`` what is before the last hidden
    layer is multiplied by relu(W cos(pi i tau) + b), i = 1 .. 64 (Dabney et al. 2018, arXiv:1806.06923, Eq. 4, whose i
    begin at 0; from 1, as in the authors' code).
    """

    num_actions: int
    size: int  # J, outputs of an action
    obs_shape: Any  # tuple[int, ...], or an `Observation` of such
    hidden: tuple[int, ...] = (256, 256)
    activation: str = "relu"
    layer_norm: bool = False  # before each activation, the CNN's among them
    dueling: bool = False
    dtype: Any = None  # see `MLP`

    def block(self, x: Float[Array, "*B I"], width: int) -> Float[Array, "*B O"]:
        x = Linear(width, dtype=self.dtype)(x)
        x = nn.LayerNorm(epsilon=1e-5)(x) if self.layer_norm else x
        return activated(x, self.activation, self.dtype)

    def stream(self, x: Float[Array, "*B I"], num: int) -> Float[Array, "*B O J"]:
        for width in self.hidden[-1:]:
            x = self.block(x, width)
        x = Linear(num * self.size, dtype=self.dtype)(x)
        return x.reshape(*x.shape[:-1], num, self.size)

    @nn.compact
    def __call__(self, obs: Any, tau: Float[Array, "*B J"] | None = None) -> Float[Array, "*B A J"]:
        x = _features(obs, self.obs_shape, self.dtype, layer_norm=self.layer_norm)
        for width in self.hidden[:-1]:
            x = self.block(x, width)
        if tau is not None:
            waves = cos_pi(tau[..., None] * jnp.arange(1, 65))
            x = x[..., None, :] * nn.relu(Linear(x.shape[-1], dtype=self.dtype)(waves))
        out = self.stream(x, self.num_actions)
        if self.dueling:
            out = self.stream(x, 1) + out - out.mean(axis=-2, keepdims=True)
        return out if tau is None else jnp.swapaxes(out[..., 0], -1, -2)


def feed_forward(env: Env, config: Any, **fields: Any) -> partial[FeedForward]:
    """The form of an off-policy algorithm's default networks, by its `Config`; what it lacks is ``features``."""
    of_config = {"activation": config.activation, "dtype": DTYPES[config.compute_dtype]}
    return partial(FeedForward, obs_shape=env.obs_space.shape, hidden=config.hidden, **of_config, **fields)


def q_network(env: Env, config: Any, num_actions: int, size: int, **fields: Any) -> QNetwork:
    """The default network of a `Config` of discrete actions' values."""
    of_config = {"activation": config.activation, "dtype": DTYPES[config.compute_dtype]}
    of_config |= {"hidden": config.hidden, "layer_norm": config.layer_norm}
    return QNetwork(num_actions, size, env.obs_space.shape, **of_config, **fields)


class ScoreNetwork(nn.Module):
    """The noise in z, e(z, sigma), of which -e / sigma is the score of the noised data. The last layer starts at zero.

    ``conditional``: sigma, [*B, 1] or one for all, comes in as sines and cosines of its logarithm; otherwise it only
    scales the input.
    """

    features: int
    hidden: tuple[int, ...]
    conditional: bool

    @nn.compact
    def __call__(self, z: Float[Array, "*B D"], sigma: Float[Array, "... 1"]) -> Float[Array, "*B D"]:
        x = z / jnp.sqrt(1.0 + sigma**2)
        if self.conditional:
            angles = jnp.log(sigma) * jnp.geomspace(0.25, 8.0, 16)
            waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
            x = jnp.concatenate([x, jnp.broadcast_to(waves, (*z.shape[:-1], 32))], axis=-1)
        for width in self.hidden:
            x = nn.swish(Linear(width)(x))
        return nn.Dense(self.features, kernel_init=nn.initializers.zeros)(x)


class TwinCritics(NamedTuple):
    """A deterministic policy in [-1, 1] and E critics of one form, whose parameters have leaves [E, ...]: TD3's."""

    actor: Any  # module, obs -> [B, A], before the tanh
    critic: Any  # module, (obs, action) -> [B, K]
    head: heads.Head = heads.SCALAR  # what a critic's outputs mean
    num: int = 2  # E

    def init_critics(self, key: jax.Array, obs: Any, action: jax.Array) -> Any:
        return jax.vmap(lambda key: self.critic.init(key, obs, action))(jax.random.split(key, self.num))

    def act(self, params: Any, obs: Any) -> jax.Array:
        """pi(s) [B, A]."""
        return jnp.tanh(self.actor.apply(params, public(obs)))

    def outputs(self, params: Any, obs: Any, action: jax.Array) -> jax.Array:
        """[E, B, K] of all critics."""
        return jax.vmap(lambda one: self.critic.apply(one, obs, action))(params)

    def q(self, params: Any, obs: Any, action: jax.Array, hyper: Any = None) -> jax.Array:
        """Q(s, a) [E, B] of all critics; ``hyper`` has the numbers of a head with bins."""
        return self.head.value(self.outputs(params, obs, action), hyper)

    def first_q(self, params: Any, obs: Any, action: jax.Array, hyper: Any = None) -> jax.Array:
        """Q_1(s, a) [B]."""
        return self.head.value(self.critic.apply(jax.tree.map(lambda x: x[0], params), obs, action), hyper)


class ActorCritic(nn.Module):
    """Policy and value. Vectors: two separate MLPs. Images [H, W, C], 3 x 3 or more: both on a shared CNN.

    Of an `Observation` the value alone sees what is privileged.
    """

    obs_shape: Any  # tuple[int, ...], or an `Observation` of such
    num_outputs: int  # actions of a discrete policy, dimensions of a continuous one
    discrete: bool
    hidden: tuple[int, ...] = (64, 64)
    activation: str = "tanh"
    init_std: float = 1.0  # of a continuous policy, in units of half the action box
    dtype: Any = None  # see `MLP`
    sizes: tuple[int, ...] = ()  # of several discrete actions at once, whose sum is num_outputs
    value_size: int = 1  # K, outputs that a head makes the value of; one is the value itself, [*B]

    @nn.compact
    def __call__(self, obs: Any) -> tuple[Distribution, Float[Array, "*B"]]:
        features = _features(obs, self.obs_shape, self.dtype)
        head = MLP(self.hidden, self.num_outputs, 0.01, self.activation, self.dtype, name="actor")(features)
        policy: Distribution
        if self.discrete:
            policy = Categoricals(head, self.sizes) if self.sizes else Categorical(head)
        else:
            log_std = nn.initializers.constant(math.log(self.init_std))
            policy = Normal(head, self.param("log_std", log_std, (self.num_outputs,)))
        if isinstance(self.obs_shape, Observation) and self.obs_shape.privileged is not None:
            more = _features(obs.privileged, self.obs_shape.privileged, self.dtype)
            features = jnp.concatenate([features, more], axis=-1)
        value = MLP(self.hidden, self.value_size, 1.0, self.activation, self.dtype, name="critic")(features)
        return policy, value[..., 0] if self.value_size == 1 else value


def actor_critic(
    env: Env,
    hidden: tuple[int, ...],
    activation: str,
    init_std: float,
    compute_dtype: str = "float32",
    head: heads.Head = heads.SCALAR,
) -> ActorCritic:
    """The default network for an environment's spaces, and a head of the value."""
    space = env.action_space
    sizes = space.n if isinstance(space, MultiDiscrete) else ()
    num_outputs = sum(sizes) or (space.n if isinstance(space, Discrete) else math.prod(space.shape))
    form = hidden, activation, init_std, DTYPES[compute_dtype], sizes, head.size
    return ActorCritic(env.obs_space.shape, num_outputs, isinstance(space, Discrete | MultiDiscrete), *form)


class Own(NamedTuple):
    """A module of the user's own, which sees float32, and of an `Observation` of one array that array alone."""

    module: nn.Module

    def init(self, key: jax.Array, obs: Any, *rest: Any) -> Any:
        return self.module.init(key, seen(obs), *rest)

    def apply(self, params: Any, obs: Any, *rest: Any, **named: Any) -> Any:
        return self.module.apply(params, seen(obs), *rest, **named)


def seen(obs: Any) -> Any:
    """Arrays as float32, without the mask of legal actions and the stock; alone, if there is one."""
    if not isinstance(obs, Observation):
        return real(obs)
    found = Observation(*(None if x is None else real(x) for x in obs._replace(legal=None, stock=None)))
    alone = [x for x in found if x is not None]
    return alone[0] if len(alone) == 1 else found


def public(obs: Any) -> Any:
    """Observations, or their space, as policies see them: without what is privileged."""
    return obs._replace(privileged=None) if isinstance(obs, Observation) else obs


def policy_and_value(network: Any, head: heads.Head | None = None) -> Callable[[Any, Any], tuple[Any, jax.Array]]:
    """(params, obs) -> the policy, of what `Observation.legal` allows, and the value, or with a head its outputs."""

    def forward(params, obs):
        policy, value = network.apply(params, obs)
        return among_legal(policy, obs), value if head is None or head.size > 1 else value[..., None]

    return forward


def own(
    config: Any,
    field: str,
    default: nn.Module,
    *shapes: Any,
    batches: tuple[tuple[int, ...], ...] = ((3,),),
) -> Any:
    """The module in a field of a `Config`, as `Own`, if it gives what the default one gives; without one the default.

    Args:
        shapes: of its inputs but for the batch: an observation's, or an `Observation` of such, and an action's.
        batches: leading axes that it has to take, *B.
    Raises:
        ValueError: it is no module, fails on such inputs, gives other shapes, another kind of distribution, less than
            float32, or NaN; with what it must give.
    """
    module, name = getattr(config, field), f"config.{field}"
    if module is None:
        return default
    if not isinstance(module, nn.Module):
        instead = f"call it, {module.__name__}()" if isinstance(module, type) else "a text cannot name one; use Python"
        raise ValueError(f"{name} is {module!r}; it must be a flax.linen.Module, such as MLP((64, 64), 1); {instead}")
    key, module = jax.random.key(0), Own(module)

    def zeros(batch):
        fill = lambda shape: jnp.zeros((*batch, *shape))  # noqa: E731
        of = lambda x: x if not isinstance(x, Observation) else x._replace(legal=None, stock=None)  # noqa: E731
        return jax.tree.map(fill, list(map(of, shapes)), is_leaf=lambda x: type(x) is tuple)

    def run(module, batch):
        at_first, inputs = zeros(batches[0]), zeros(batch)
        said: list[str] = []

        def outputs(key):
            made = module.init(key, *at_first)
            return _measured(module.apply(made, *inputs), batch, key, said)

        return jax.eval_shape(outputs, key), said[0]

    for batch in batches:
        inputs = " and ".join(_described_input(seen(x)) for x in zeros(batch))
        wanted, must = run(default, batch)
        try:
            given, gives = run(module, batch)
        except Exception as error:  # of flax, of JAX, of one's own code
            what = " ".join(str(error).split())[:300]
            what = f"{name} fails on inputs {inputs}: {type(error).__name__}: {what}"
            raise ValueError(f"{what}; it must give {must}") from error
        for part, shape in wanted.items():
            found = given.get(part)
            kinds = [
                None if x is None else (x.shape, jnp.issubdtype(x.dtype, jnp.integer), x.dtype.itemsize < 4)
                for x in (found, shape)  # less than float32 would be too little for losses
            ]
            if kinds[0] != kinds[1] and not (part == "logits" and found is None):
                raise ValueError(
                    f"{name} gives {gives} on inputs {inputs}, where {must} is expected, *B = {list(batch)}: {part} is "
                    f"{'missing' if found is None else f'{found.dtype}{list(found.shape)}'}, not "
                    f"{shape.dtype}{list(shape.shape)}"
                )
    drawn = jax.tree.map(lambda x: jax.random.uniform(key, x.shape), zeros(batches[0]))
    measured = jax.jit(lambda key: _measured(module.apply(module.init(key, *drawn), *drawn), batches[0], key, []))(key)
    bad = [part for part, x in measured.items() if not isinstance(x, jax.core.Tracer) and bool(jnp.isnan(x).any())]
    if bad:
        raise ValueError(f"{name}: {bad[0]} is NaN at the start, on inputs in [0, 1]; look at its initialisation")
    return module


def _described_input(x: Any) -> str:
    """Such as f32[3, 4], or Observation(vector f32[3, 4], image f32[3, 9, 9, 2])."""
    if not isinstance(x, Observation):
        return f"f32{list(x.shape)}"
    parts = (f"{name} f32{list(part.shape)}" for name, part in x._asdict().items() if part is not None)
    return f"Observation({', '.join(parts)})"


def _measured(out: Any, batch: tuple[int, ...], key: jax.Array, said: list[str]) -> dict[str, jax.Array]:
    """The arrays that an algorithm takes from a module's output; what the output is goes into ``said``."""
    said.append(_described(out, batch))
    if not (isinstance(out, tuple) and len(out) == 2 and isinstance(out[0], Distribution)):
        leaves = jax.tree.leaves(out)
        return {"the output" if len(leaves) == 1 else f"output {i}": jnp.asarray(x) for i, x in enumerate(leaves)}
    policy, value = out
    action = policy.sample(key)
    found = {"an action": action, "its mode": policy.mode(), "log_prob": policy.log_prob(action)}
    found |= {"entropy": policy.entropy(), "the value": jnp.asarray(value)}
    return found | ({"logits": policy.logits} if isinstance(policy, Categorical) else {})


def _described(out: Any, batch: tuple[int, ...]) -> str:
    """Such as (Normal(mean [*B, 3], log_std [3]), [*B])."""
    if hasattr(out, "_fields"):
        inside = ", ".join(f"{name} {_described(x, batch)}" for name, x in zip(out._fields, out, strict=True))
        return f"{type(out).__name__}({inside})"
    if isinstance(out, tuple | list):
        return f"({', '.join(_described(x, batch) for x in out)})"
    if not hasattr(out, "shape"):
        return type(out).__name__
    begins = out.shape[: len(batch)] == batch
    return f"[{', '.join(map(str, (['*B'] if begins and batch else []) + list(out.shape[len(batch) * begins :])))}]"
