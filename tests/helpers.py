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
