"""What several test modules need."""

import functools
import itertools
import os
import socket

import jax
import jax.numpy as jnp
import numpy as np

import rlzoo
from rlzoo.data import About, collect, preferences
from rlzoo.drivers.train import compiled_chunk, float32
from rlzoo.envs.episodes import with_episodes
from rlzoo.types import Box, Env


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
    return jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))(tree)


def cached(function):
    """Its results are made once, apart for wide and for narrow numbers: each would be programs to compile."""
    each = functools.cache(lambda wide, *arguments: function(*arguments))
    return functools.wraps(function)(lambda *arguments: each(jax.config.jax_enable_x64, *arguments))


def train_long(algo, key, num_updates):
    """As `rlzoo.train`, of a program so long in running that it is optimised, where conftest has none be so."""
    state = rlzoo.init(algo, key, quiet=True)
    optimised = {"xla_backend_optimization_level": 1} if "optimization_level=0" in os.environ["XLA_FLAGS"] else {}
    return compiled_chunk(algo, state, num_updates, optimised)(state, float32(algo.hyper), algo.task)


def blank(algo, key):
    """A State of the right shapes, as fast as it is traced: every leaf of one number, every key another."""
    shapes = jax.eval_shape(algo.init, key, float32(algo.hyper), algo.task)
    numbers = itertools.count()

    def one(x):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            kinds = [jax.random.key(next(numbers), impl=impl) for impl in ("threefry2x32", "rbg")]
            return jnp.broadcast_to(next(key for key in kinds if key.dtype == x.dtype), x.shape)
        return jnp.asarray(np.full(x.shape, next(numbers) % 2, x.dtype))

    return jax.tree.map(one, shapes)


def free_port():
    """Of this machine, a moment ago."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


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


@cached
def plane():
    """Points pushed about by actions from [-1, 1] x [-3, 3]; an episode ends beyond a line."""

    def reset(key, params):
        point = jax.random.uniform(key, (2,), minval=-1.0)
        return point, point

    def step(key, point, action, params):
        after = point + action * jnp.array([0.5, 0.2]) + 0.1 * jax.random.normal(key, (2,))
        return after, after, -jnp.abs(after).sum() + params["bonus"], after[0] > 0.3

    width = np.array([1.0, 3.0], np.float32)
    reset, step = with_episodes(reset, step, 10)
    obs_space = Box(np.full(2, -np.inf, np.float32), np.full(2, np.inf, np.float32))
    return Env("own/plane", reset, step, {"bonus": jnp.float32(0.5)}, obs_space, Box(-width, width), 10)


def any_of(envs):
    """Environments of one form as one, so that one program trains on all; its parameter ``which`` says on which."""

    def chosen(which, results):
        return jax.tree.map(lambda *x: jnp.stack(x)[which], *results)

    def reset(key, params):
        return chosen(params["which"], [env.reset(key, params) for env in envs])

    def step(key, state, action, params):
        return chosen(params["which"], [env.step(key, state, action, params) for env in envs])

    params, horizon = envs[0].params | {"which": jnp.int32(0)}, max(env.horizon for env in envs)
    return envs[0]._replace(name="own/any", reset=reset, step=step, params=params, horizon=horizon)


@cached
def plane_preferences(num_segments=20, length=4):
    """Comparisons of `plane`'s segments by their rewards, one in five a tie."""
    drawn = preferences.segments(plane_dataset(), num_segments, length, jax.random.key(4))
    said = preferences.compare(drawn, preferences.reward_score(drawn), 40, jax.random.key(5))
    return said.replace(label=jnp.where(jnp.arange(40) % 5 == 0, 0.5, said.label))


@cached
def plane_dataset(num_rows=200):
    """A dataset of `plane` under uniformly random actions: 4 environments, one after the other."""
    return collect(plane(), None, jax.random.key(3), num_rows, 4, about=About("plane-random"))


def numpy_feed_forward(params, x, keep=None, dropout=0.0):
    """Blocks of Linear, dropout, LayerNorm if there are weights of one, ReLU; then a linear head."""
    used = 0
    for i in range(sum(name.startswith("Linear") for name in params)):
        x = x @ params[f"Linear_{i}"]["kernel"] + params[f"Linear_{i}"]["bias"]
        if keep is not None:
            x = x * keep[:, used : used + x.shape[-1]] / (1.0 - dropout)
            used += x.shape[-1]
        if f"LayerNorm_{i}" in params:
            x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
            x = x * params[f"LayerNorm_{i}"]["scale"] + params[f"LayerNorm_{i}"]["bias"]
        x = np.maximum(x, 0.0)
    return x @ params["head"]["kernel"] + params["head"]["bias"]


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


def numpy_adam_state(state, grads, like):
    """Adam's averages after a step, as optax keeps them."""
    tree = jax.tree.structure(like)
    leaves = zip(jax.tree.leaves(float64(state[0].mu)), jax.tree.leaves(float64(state[0].nu)), grads, strict=True)
    mu, nu = zip(*((0.9 * m + 0.1 * g, 0.999 * n + 0.001 * g**2) for m, n, g in leaves), strict=True)
    averages = {"mu": jax.tree.unflatten(tree, mu), "nu": jax.tree.unflatten(tree, nu)}
    return (state[0]._replace(count=state[0].count + 1, **averages), *state[1:])


# --- an offline update in NumPy ---------------------------------------------------------------------------------------


def numpy_act(actor, obs):
    return np.tanh(numpy_feed_forward(actor["params"], obs))


def numpy_q(critics, obs, action):
    """Q [E, B] of every critic."""
    x, num = np.concatenate([obs, action], -1), len(jax.tree.leaves(critics)[0])
    each = [jax.tree.map(lambda leaf: leaf[i], critics)["params"] for i in range(num)]  # noqa: B023
    return np.stack([numpy_feed_forward(one, x)[:, 0] for one in each])


def numpy_normalised(dataset, half_width=(1.0, 3.0)):
    """Observations, actions in [-1, 1] and next observations in float64, normalised by the current observations."""
    obs, next_obs = np.asarray(dataset.obs, np.float64), np.asarray(dataset.next_obs, np.float64)
    mean, std = obs.mean(0), obs.std(0) + 1e-3
    return (obs - mean) / std, np.asarray(dataset.action, np.float64) / half_width, (next_obs - mean) / std


def numpy_batch(dataset, rows, hyper):
    """obs, action, next_obs, scaled reward and terminated of some rows."""
    obs, action, next_obs = (x[rows] for x in numpy_normalised(dataset))
    reward = hyper.reward_scale * np.asarray(dataset.reward, np.float64)[rows] + hyper.reward_shift
    return obs, action, next_obs, reward, np.asarray(dataset.terminated)[rows]


def numpy_td3_critic(target, critics, opt_state, batch, noise, hyper):
    """TD3's critic step: critics, optimiser's state, loss, target and the target's action."""
    obs, action, next_obs, reward, terminated = batch
    noise = np.clip(hyper.policy_noise * noise, -hyper.noise_clip, hyper.noise_clip)
    next_action = np.clip(numpy_act(target.actor, next_obs) + noise, -1, 1)
    wanted = reward + hyper.gamma * (1 - terminated) * numpy_q(target.critics, next_obs, next_action).min(0)

    def loss(critics):
        return ((numpy_q(critics, obs, action) - wanted) ** 2).mean(-1).sum()

    grads = finite_differences(loss, critics)
    new = numpy_adam(critics, grads, opt_state, hyper.critic_learning_rate)
    return new, numpy_adam_state(opt_state, grads, critics), loss(critics), wanted, next_action


def numpy_td3_critics(start, dataset, rows, noise, hyper):
    """TD3's critic steps on minibatches ``rows`` [T, B]: critics, their mean loss, and obs and action of the last."""
    critics, opt_state, errors, ended = float64(start.params.critics), start.opt_state.critics, [], False
    for some, noise_of_some in zip(rows, noise, strict=True):
        batch = numpy_batch(dataset, some, hyper)
        critics, opt_state, error, _, _ = numpy_td3_critic(
            float64(start.target), critics, opt_state, batch, noise_of_some, hyper
        )
        errors.append(error)
        ended |= batch[-1].any()
    assert ended, "no terminated row among these: choose another key"
    return critics, np.mean(errors), batch[0], batch[1]


def numpy_standardised(moments, x, mean=True):
    """In standard deviations, clipped to +-10; rewards keep their mean."""
    return np.clip((x - moments.mean * mean) / np.sqrt(moments.var + 1e-8), -10, 10)


def numpy_return_moments(state, batch, gamma):
    """The running moments of the discounted return over everything seen so far, and the returns that go on."""
    old, running = float64((state.return_moments, state.running_return))
    done, discounted = batch.terminated + batch.truncated > 0, np.zeros_like(batch.reward)
    for t in range(len(batch.reward)):
        discounted[t] = running = gamma * running + batch.reward[t]
        running = np.where(done[t], 0.0, running)
    n, m = float(old.samples), discounted.size
    delta = discounted.mean() - old.mean
    var = (n * old.var + m * discounted.var() + delta**2 * n * m / (n + m)) / (n + m)
    return old._replace(samples=n + m, mean=old.mean + delta * m / (n + m), var=var), running
