"""DQN's family against NumPy: one whole update of each member with loops and finite differences; dqn.md, section 7."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, assert_same_bits, copy, finite_differences, float64, numpy_adam

import rlzoo
from rlzoo import dqn
from rlzoo.blocks import greedy, networks, priorities

KEY = jax.random.key(2)
SMALL = {"num_envs": 2, "num_steps": 3, "batch_size": 12, "capacity": 60, "warmup": 24, "hidden": (4,), "num_bins": 5}
NUMBERS = {"learning_rate": 1e-2, "adam_eps": 1e-8, "gamma": 0.9, "tau": 0.3, "epsilon_steps": 40.0}
NUMBERS |= {"value_low": -1.0, "value_high": 6.0, "kappa": 0.5, "temperature": 0.4, "munchausen_clip": -0.3}
HYPER = dqn.Hyper(**NUMBERS, munchausen_alpha=0.8, priority_exponent=0.7, importance_exponent=0.4)
Z = np.linspace(-1.0, 6.0, 5)
MIDPOINTS = (np.arange(5) + 0.5) / 5


def softmax(x):
    p = np.exp(x - x.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def forward(params, obs, tau=None, dueling=False, size=1):
    """QNetwork in NumPy, of CartPole's two actions: [B, 2, J]."""
    numbers = itertools.count()

    def linear(x):
        layer = params["params"][f"Linear_{next(numbers)}"]
        return x @ layer["kernel"] + layer["bias"]

    def stream(x, num):
        x = linear(np.maximum(linear(x), 0.0))
        return x.reshape(*x.shape[:-1], num, size)

    x = obs
    if tau is not None:
        x = np.maximum(linear(x), 0.0)
        x = x[:, None] * np.maximum(linear(np.cos(np.pi * tau[..., None] * np.arange(1, 65))), 0.0)
    out = stream(x, 2)
    if dueling:
        out = stream(x, 1) + out - out.mean(-2, keepdims=True)
    return out if tau is None else np.swapaxes(out[..., 0], 1, 2)


def value(kind, out):
    if kind == "scalar":
        return out[..., 0]
    return out.mean(-1) if kind in ("quantile", "iqn") else softmax(out) @ Z


def hat(y):
    """C51's share of each bin, of one number."""
    b = (np.clip(y, Z[0], Z[-1]) - Z[0]) / (Z[1] - Z[0])
    return np.maximum(0.0, 1.0 - np.abs(b - np.arange(5)))


def gaussian(y):
    from scipy.stats import norm

    width = Z[1] - Z[0]
    cdf = norm.cdf(np.append(Z - width / 2, Z[-1] + width / 2), np.clip(y, Z[0], Z[-1]), HYPER.sigma_ratio * width)
    return np.diff(cdf) / (cdf[-1] - cdf[0])


def several(replay, row, n):
    """n steps from a row on, or as many as there are before an end."""
    total = 0.0
    for k in range(n):
        now = jax.tree.map(lambda x: x[row + 2 * k], replay)  # noqa: B023
        total += 0.9**k * now.reward
        if now.terminated or now.truncated or k == n - 1:
            return total, 0.9 ** (k + 1) * (not now.terminated), now.next_obs


CASES = {
    "plain": {},
    "huber": {"huber": True},
    "double": {"double": True},
    "dueling": {"dueling": True, "n_step": 3},
    "munchausen": {"munchausen": True},
    "prioritised": {"prioritised": True, "n_step": 2},
    "mean": {"head": "mean"},
    "hl_gauss": {"head": "hl_gauss", "double": True},
    "two_hot": {"head": "two_hot"},
    "c51": {"head": "c51", "dueling": True},
    "munchausen c51": {"head": "c51", "munchausen": True},
    "rainbow": {"head": "c51", "double": True, "dueling": True, "n_step": 3, "prioritised": True},
    "quantile": {"head": "quantile", "double": True},
    "munchausen quantile": {"head": "quantile", "munchausen": True},
    "iqn": {"head": "iqn", "hidden": (3, 4), "num_taus": (5, 6, 7)},
    "munchausen iqn": {"head": "iqn", "munchausen": True, "hidden": (3, 4), "num_taus": (5, 6, 7)},
}


QUICK = (
    "plain",
    "dueling",
    "munchausen",
    "prioritised",
    "hl_gauss",
    "c51",
    "quantile",
    "iqn",
)  # the others combine these
EACH = [pytest.param(x, marks=() if name in QUICK else pytest.mark.slow, id=name) for name, x in CASES.items()]


@pytest.mark.parametrize("options", EACH)
def test_one_update_against_numpy(options):
    env, config = rlzoo.envs.make("gymnax/CartPole-v1"), dqn.Config(**SMALL | options)
    algo, kind, n = dqn.make(env, config, HYPER), config.head, config.n_step
    start = copy(rlzoo.train(algo, KEY, 2)[0])  # so that Adam's averages, and the target, are not those of the start
    after, metrics = rlzoo.resume(algo, copy(start), 1)

    # The same minibatch and noise: the keys that the update splits.
    learn_key = jax.random.split(start.key, 3)[2]
    row_key, _, target_key, tau_key = jax.random.split(jax.random.split(learn_key, 1)[0], 4)
    target_keys = jax.random.split(target_key, 4)
    drawable, weight = 24 + 3 * 6 - 2 * (n - 1), np.ones(12)
    rows = np.asarray(jax.random.randint(row_key, (12,), 0, drawable))
    if config.prioritised:
        drawing = priorities.Rows(True, 60, 6, 2 * (n - 1))
        ranks = drawing.written(start.ranks, jnp.int32(24 // 6 + 2), HYPER)
        rows, p = map(np.asarray, priorities.draw(ranks, row_key, 12))
        weight = (drawable * p) ** -0.4
        weight /= weight.max()
    replay, params, target_params = float64(after.replay), float64(start.params), float64(start.target)
    assert max(np.abs(x - y).max() for x, y in zip(*map(jax.tree.leaves, (params, target_params)), strict=True)) > 1e-4
    obs, action = replay.obs[rows], replay.action[rows].astype(int)
    reward, discount, next_obs = map(np.array, zip(*(several(replay, row, n) for row in rows), strict=True))
    assert n == 2 or (discount == 0.0).any()

    size = 1 if kind in ("scalar", "iqn") else 5

    def outputs(params, obs, num, key):
        tau = np.asarray(jax.random.uniform(key, (12, num)), np.float64) if kind == "iqn" else None
        return forward(params, obs, tau, config.dueling, size), tau

    num_learned, num_target, num_acting = config.num_taus
    out, _ = outputs(target_params, next_obs, num_target, target_keys[0])
    judge = params if config.double else target_params
    score = value(kind, outputs(judge, next_obs, num_acting, target_keys[1])[0])
    now = value(kind, outputs(target_params, obs, num_acting, target_keys[2])[0])
    targets = []  # of each row numbers and their shares
    for b in range(12):
        r = reward[b]
        if config.munchausen:
            log_pi, log_now = (0.4 * np.log(softmax(x[b] / 0.4)) for x in (score, now))
            r += 0.8 * np.clip(log_now[action[b]], -0.3, 0.0)
            pi = np.exp(log_pi / 0.4)
        else:
            pi, log_pi = np.eye(2)[score[b].argmax()], np.zeros(2)
        if kind in ("quantile", "iqn"):
            at = sum(pi[a] * (out[b, a] - log_pi[a]) for a in range(2))
            share = np.full(at.shape, 1.0 / len(at))
        elif kind == "c51":
            at = np.concatenate([Z - log_pi[a] for a in range(2)])
            share = np.concatenate([pi[a] * softmax(out[b, a]) for a in range(2)])
        else:
            at, share = np.array([sum(pi * (value(kind, out[b]) - log_pi))]), np.ones(1)
        targets.append((r + discount[b] * at, share))

    def errors(params):
        """Of each row the loss, and Q."""
        found, tau = outputs(params, obs, num_learned, tau_key)
        losses, qs = [], []
        for b in range(12):
            mine, (at, share) = found[b, action[b]], targets[b]
            q = value(kind, mine[None])[0]
            if kind in ("scalar", "mean"):
                u = abs(at[0] - q)
                losses.append(u - 0.5 if config.huber and u > 1.0 else 0.5 * u**2)
            elif kind in ("quantile", "iqn"):
                total = 0.0
                for i, theta in enumerate(mine):
                    for y, s in zip(at, share, strict=True):
                        u, t = y - theta, tau[b, i] if kind == "iqn" else MIDPOINTS[i]
                        bent = 0.5 * u**2 if abs(u) <= 0.5 else 0.5 * (abs(u) - 0.25)
                        total += s * abs(t - (u < 0)) * bent / 0.5
                losses.append(total)
            else:
                spread = gaussian if kind == "hl_gauss" else hat
                p = sum(s * spread(y) for y, s in zip(at, share, strict=True))
                losses.append(-(p * np.log(softmax(mine))).sum())
            qs.append(q)
        return np.array(losses), np.array(qs)

    losses, q = errors(params)
    assert float(metrics["loss/critic"][0]) == pytest.approx(losses.mean(), rel=1e-4)
    assert float(metrics["value/q"][0]) == pytest.approx(q.mean(), rel=1e-4)
    grads = finite_differences(lambda params: (weight * errors(params)[0]).mean(), params)
    new = numpy_adam(params, grads, start.opt_state, 1e-2)
    assert_close(after.params, new, rtol=1e-4, atol=2e-5)
    moved = jax.tree.map(lambda old, new: old + 0.3 * (new - old), target_params, new)
    assert_close(after.target, moved, rtol=1e-4, atol=2e-5)
    if config.prioritised:
        off = losses if kind == "c51" else [at[0] for at, _ in targets] - q
        expected = (np.abs(off) + 1e-6) ** 0.7
        mass = np.asarray(after.ranks.levels[0]).ravel()[rows]
        np.testing.assert_allclose(mass, expected, rtol=1e-3)


@pytest.mark.parametrize("tau", [1.0, 0.1])
def test_the_target_is_renewed_every_so_many_gradient_steps(tau):
    config = dqn.Config(**SMALL | {"num_updates": 2, "target_every": 3})
    algo = dqn.make(rlzoo.envs.make("gymnax/CartPole-v1"), config, HYPER._replace(tau=tau))
    state = rlzoo.init(algo, KEY)
    first = copy(state.params)
    assert_same_bits(state.target, first)
    state, _ = rlzoo.resume(algo, state, 1)
    assert_same_bits(state.target, first)  # after 2 steps
    between = copy(state.params)
    state, _ = rlzoo.resume(algo, state, 1)  # after 4: renewed after the third
    ends = [jax.tree.leaves(x)[0] for x in (first, between, state.target)]
    assert (np.asarray(ends[2]) != np.asarray(ends[0])).any()
    kept = copy(state.target)
    state, _ = rlzoo.resume(algo, state, 1)  # after 6, and the last of these was a sixth
    if tau == 1.0:
        assert_same_bits(state.target, state.params)
    assert any(
        (np.asarray(a) != np.asarray(b)).any() for a, b in zip(*map(jax.tree.leaves, (kept, state.target)), strict=True)
    )


def test_epsilon_falls_with_the_clock():
    algo = dqn.make(rlzoo.envs.make("gymnax/CartPole-v1"), dqn.Config(**SMALL), HYPER._replace(epsilon=0.2))
    _, metrics = rlzoo.train(algo, KEY, 9)
    steps = np.arange(9) * 6  # the first update acts as the warm-up did
    np.testing.assert_allclose(metrics["policy/epsilon"], np.maximum(0.2, 1.0 - 0.8 * steps / 40.0), rtol=1e-6)


def test_dueling_advantages_count_by_their_differences():
    config = dqn.Config(**SMALL | {"dueling": True, "head": "quantile"})
    algo = dqn.make(rlzoo.envs.make("gymnax/CartPole-v1"), config, HYPER)
    state = rlzoo.init(algo, KEY)
    obs = jax.random.normal(KEY, (6, 4))
    both = lambda state: jnp.stack(  # noqa: E731
        [algo.value(state, HYPER, obs, jnp.full(6, a))[0] for a in range(2)], axis=-1
    )
    params = float64(state.params)
    np.testing.assert_allclose(both(state), forward(params, np.asarray(obs), dueling=True, size=5).mean(-1), atol=1e-5)
    shifted = copy(state.params)
    shifted["params"]["Linear_1"]["bias"] += 3.0  # of every advantage
    moved = state._replace(params=shifted)
    np.testing.assert_allclose(both(moved), both(state), atol=1e-5)
    of_state = np.maximum(
        np.asarray(obs) @ params["params"]["Linear_2"]["kernel"] + params["params"]["Linear_2"]["bias"], 0
    )
    v = of_state @ params["params"]["Linear_3"]["kernel"] + params["params"]["Linear_3"]["bias"]
    np.testing.assert_allclose(both(state).mean(-1), v.mean(-1), atol=1e-5)


def test_munchausens_policy_is_stable_and_sharpens_to_the_greedy_one():
    q = jnp.array([[1000.0, 999.0, -1e9], [0.0, 0.0, 0.0]])
    for t in (1.0, 0.03, 1e-3):
        log_pi = np.asarray(greedy.scaled_log_policy(q, t))
        assert np.isfinite(log_pi).all()
        np.testing.assert_allclose(np.exp(log_pi / t).sum(-1), 1.0, rtol=1e-5)
        pi = np.exp(log_pi / t)
        following = (pi * (np.asarray(q) - log_pi)).sum(-1)
        shifted = np.asarray(q) - np.asarray(q).max(-1, keepdims=True)
        lse = np.asarray(q).max(-1) + t * np.log(np.exp(shifted / t).sum(-1))
        np.testing.assert_allclose(following, lse, rtol=1e-5)
    np.testing.assert_allclose(following, np.asarray(q).max(-1), atol=2e-3)  # t -> 0: Eq. 1


def test_cosines_of_iqn():
    y = np.concatenate([np.linspace(-70.0, 70.0, 10_001), np.arange(-8.0, 8.5, 0.5)]).astype(np.float32)
    np.testing.assert_allclose(networks.cos_pi(jnp.asarray(y)), np.cos(np.pi * y.astype(np.float64)), atol=1e-6)


def test_double_differs_in_the_action_alone():
    """Where network and target agree on the best action, so do both targets."""
    env = rlzoo.envs.make("gymnax/CartPole-v1")
    algos = [dqn.make(env, dqn.Config(**SMALL | {"double": x}), HYPER) for x in (False, True)]
    state = rlzoo.init(algos[0], KEY)  # where they are the same network
    results = [rlzoo.resume(algo, copy(state), 1)[0] for algo in algos]
    assert_close(results[0].params, results[1].params, rtol=1e-6)


def test_acting():
    """Uniform with probability epsilon, greedy otherwise, never what is illegal."""
    q, obs = jnp.tile(jnp.array([0.0, 2.0, 1.0]), (20_000, 1)), jnp.zeros((20_000, 1))
    action = greedy.now_and_then(jnp.argmax(q, -1), q, obs, 0.3, KEY)
    np.testing.assert_allclose(np.bincount(action, minlength=3) / 20_000, [0.1, 0.8, 0.1], atol=0.01)
    tied = greedy.any_best(jnp.tile(jnp.array([1.0, 0.0, 1.0]), (20_000, 1)), KEY)
    np.testing.assert_allclose(np.bincount(tied, minlength=3) / 20_000, [0.5, 0.0, 0.5], atol=0.01)
    legal = rlzoo.types.Observation(vector=obs, legal=jnp.tile(jnp.array([True, False, True]), (20_000, 1)))
    assert (jnp.argmax(greedy.among(q, legal), -1) == 2).all()
    action = greedy.now_and_then(jnp.full(20_000, 2), q, legal, 1.0, KEY)
    np.testing.assert_allclose(np.bincount(action, minlength=3) / 20_000, [0.5, 0.0, 0.5], atol=0.01)


def test_bad_input():
    cartpole = rlzoo.envs.make("gymnax/CartPole-v1")
    for options, said in (
        ({"n_step": 0}, "n_step=0; it must be a whole number, 1 or more"),
        ({"target_every": 0}, "target_every=0"),
        ({"num_bins": 1}, "num_bins=1; it must be a whole number, 2 or more"),
        ({"head": "c52"}, "unknown head 'c52'; did you mean 'c51'"),
        ({"n_step": 1001}, "n_step=1001 leaves 0 of the warmup"),
        ({"munchausen": True, "double": True}, "no double"),
        ({"num_taus": (4, 4)}, r"num_taus=\(4, 4\); give three"),
        ({"objective": "cvar"}, "use head='quantile' or 'iqn'"),
    ):
        with pytest.raises(ValueError, match=said):
            dqn.Config(**options)
    with pytest.raises(ValueError, match=r"value_low=3.0 is not below value_high=3.0"):
        dqn.make(cartpole, hyper=dqn.Hyper(value_low=3.0, value_high=3.0))
    with pytest.raises(ValueError, match="its actions are a box; DQN needs discrete ones"):
        dqn.make(rlzoo.envs.make("gymnax/Pendulum-v1"))
    config = dqn.Config(head="quantile", objective="cvar")
    with pytest.raises(ValueError, match=r"needs a stock.*rlzoo.envs.stock"):
        dqn.make(cartpole, config)
    with pytest.raises(ValueError, match=r"gamma=0.99 and the stock .* is discounted by 1.0"):
        dqn.make(rlzoo.envs.stock(cartpole), config)
