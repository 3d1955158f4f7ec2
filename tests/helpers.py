"""What several test modules need."""

import jax
import jax.numpy as jnp
import numpy as np


def plain(x):
    """A leaf as numpy; a typed key as its words."""
    x = jax.random.key_data(x) if jnp.issubdtype(jnp.asarray(x).dtype, jax.dtypes.prng_key) else x
    return np.asarray(x)


def named_leaves(tree):
    return [(jax.tree_util.keystr(path), plain(x)) for path, x in jax.tree_util.tree_leaves_with_path(tree)]


def assert_same_bits(first, second):
    """Equal leaf by leaf, bit by bit; the first that differs is named."""
    for (name, a), (_, b) in zip(named_leaves(first), named_leaves(second), strict=True):
        assert a.dtype == b.dtype and a.tobytes() == b.tobytes(), f"{name} differs"


def assert_close(first, second, **tolerance):
    for (name, a), (_, b) in zip(named_leaves(first), named_leaves(second), strict=True):
        np.testing.assert_allclose(a, b, err_msg=name, **tolerance)


def copy(tree):
    """A copy that survives the donation of the original."""
    return jax.tree.map(lambda x: x.copy(), tree)


# --- an actor-critic update in NumPy ----------------------------------------------------------------------------------


def numpy_forward(params, obs):
    """A tanh layer and a linear one, for the logits or mean and for the value."""

    def tower(p):
        hidden = np.tanh(obs @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"])
        return hidden @ p["Dense_1"]["kernel"] + p["Dense_1"]["bias"]

    return tower(params["actor"]), tower(params["critic"])[..., 0]


def numpy_log_prob_and_entropy(params, head, action, discrete):
    if discrete:
        log_probs = head - np.log(np.exp(head).sum(-1, keepdims=True))
        return np.take_along_axis(log_probs, action[..., None], -1)[..., 0], -(np.exp(log_probs) * log_probs).sum(-1)
    std = np.exp(params["log_std"])
    log_prob = (-0.5 * ((action - head) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)).sum(-1)
    return log_prob, np.broadcast_to((0.5 * np.log(2 * np.pi * np.e * std**2)).sum(), log_prob.shape)


def float64(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def numpy_gae(batch, reward, value, next_value, gamma, gae_lambda):
    """Eq. 16, backwards; flags of `batch` as numbers."""
    advantage, trace = np.zeros_like(value), np.zeros(value.shape[1])
    for t in reversed(range(len(value))):
        error = reward[t] + gamma * (1 - batch.terminated[t]) * next_value[t] - value[t]
        done = (batch.terminated[t] + batch.truncated[t]) > 0
        advantage[t] = trace = error + gamma * gae_lambda * (1 - done) * trace
    return advantage


def finite_differences(loss, params, width=1e-5):
    """The gradient by central differences: one array for each leaf."""
    leaves, treedef = jax.tree.flatten(params)
    grads = []
    for i, leaf in enumerate(leaves):
        grad = np.zeros_like(leaf)
        for index in np.ndindex(leaf.shape):
            ends = []
            for sign in (1, -1):
                moved = [x.copy() for x in leaves]
                moved[i][index] += sign * width
                ends.append(loss(jax.tree.unflatten(treedef, moved)))
            grad[index] = (ends[0] - ends[1]) / (2 * width)
        grads.append(grad)
    return grads


# --- an off-policy update in NumPy ------------------------------------------------------------------------------------


def numpy_feed_forward(params, x, keep=None, dropout=0.0):
    """Linear, dropout, LayerNorm if there are weights of one, ReLU; then a linear head. One hidden layer."""
    x = x @ params["Linear_0"]["kernel"] + params["Linear_0"]["bias"]
    if keep is not None:
        x = x * keep / (1.0 - dropout)
    if "LayerNorm_0" in params:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        x = x * params["LayerNorm_0"]["scale"] + params["LayerNorm_0"]["bias"]
    return np.maximum(x, 0.0) @ params["head"]["kernel"] + params["head"]["bias"]


def numpy_squashed(mean, std, noise):
    """A sample of tanh(N(mean, std^2)) and its log-density, by the textbook's change of variables."""
    u = mean + std * noise
    log_normal = -0.5 * noise**2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    return np.tanh(u), (log_normal - np.log(1.0 - np.tanh(u) ** 2)).sum(-1)


def numpy_adam(params, grads, state, rate):
    """One step of Adam on a pytree, from optax's state before it."""
    count = int(state[0].count) + 1
    updated = []
    leaves = (jax.tree.leaves(float64(tree)) for tree in (params, state[0].mu, state[0].nu))
    for x, m, n, g in zip(*leaves, grads, strict=True):
        m, n = 0.9 * m + 0.1 * g, 0.999 * n + 0.001 * g**2
        updated.append(x - rate * m / (1 - 0.9**count) / (np.sqrt(n / (1 - 0.999**count)) + 1e-8))
    return jax.tree.unflatten(jax.tree.structure(params), updated)
