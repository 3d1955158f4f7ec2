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
