"""SAC against NumPy: the losses by hand, and one whole update with gradients by finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    assert_close,
    copy,
    finite_differences,
    float64,
    numpy_adam,
    numpy_feed_forward,
    numpy_squashed,
    plane,
)
from scipy import stats

import rlzoo
from rlzoo import sac
from rlzoo.types import Box

KEY = jax.random.key(6)
SMALL = {"num_envs": 2, "num_steps": 3, "batch_size": 16, "capacity": 60, "warmup": 24, "hidden": (4,)}
RATES = {"actor_learning_rate": 1e-2, "critic_learning_rate": 2e-2, "alpha_learning_rate": 3e-2}
HYPER = sac.Hyper(**RATES, gamma=0.9, tau=0.1, target_entropy=0.3, init_alpha=0.4)


def mean_and_log_prob(head, noise, half_width):
    """The policy's sample in [-1, 1] and its log-density in the box's own units."""
    mean, log_std = np.split(head, 2, axis=-1)
    action, log_prob = numpy_squashed(mean, np.exp(np.clip(log_std, -20, 2)), noise)
    return action, log_prob - np.log(half_width).sum()


def environment(name):
    return plane() if name == "plane" else rlzoo.envs.make(f"gymnax/{name}")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plane", {"hidden": (4, 3)}),  # two dimensions of the action, two layers, episodes that end
        ("Pendulum-v1", {"num_critics": 3, "layer_norm": True}),  # REDQ
        ("CartPole-v1", {}),
    ],
)
def test_one_update_against_numpy(name, options):
    env = environment(name)
    config = sac.Config(**SMALL | options)
    algo, discrete = sac.make(env, config, HYPER), "CartPole" in name
    num_actions, half_width = (1, 1.0) if discrete else (env.action_space.high.size, env.action_space.high)
    start = copy(rlzoo.train(algo, KEY, 2)[0])  # so that Adam's averages are not those of the start
    after, metrics = rlzoo.resume(algo, copy(start), 1)

    # The same minibatch and noise: the keys that the update splits.
    _, _, sample_key, learn_key = jax.random.split(start.key, 4)
    critic_key, policy_key = jax.random.split(jax.random.split(learn_key, 1)[0])
    subset_key, action_key = jax.random.split(jax.random.split(critic_key, 1)[0])
    rows = np.asarray(jax.random.randint(sample_key, (16,), 0, 24 + 3 * 6))
    batch = float64(jax.tree.map(lambda x: x[rows], after.replay))
    noise = [np.asarray(jax.random.normal(key, (16, num_actions)), np.float64) for key in (action_key, policy_key)]
    assert name != "plane" or batch.terminated.any()
    params, target_params = float64(start.params), float64(start.target)
    alpha = np.exp(params.log_alpha)

    def one(critics, i):
        return jax.tree.map(lambda x: x[i], critics)["params"]

    def expectation(actor, critics, obs, noise):
        """weight, log_prob and Q of each critic [E, B, K]."""
        head = numpy_feed_forward(actor["params"], obs)
        if discrete:
            log_prob = head - np.log(np.exp(head).sum(-1, keepdims=True))
            return np.exp(log_prob), log_prob, np.stack([numpy_feed_forward(one(critics, i), obs) for i in range(2)])
        action, log_prob = mean_and_log_prob(head, noise, half_width)
        x = np.concatenate([obs, action], -1)
        q = np.stack([numpy_feed_forward(one(critics, i), x) for i in range(config.num_critics)])
        return np.ones((16, 1)), log_prob[:, None], q

    # Critics, Eq. 5.
    weight, log_prob, q = expectation(params.actor, target_params, batch.next_obs, noise[0])
    chosen = (
        np.asarray(jax.random.permutation(subset_key, config.num_critics))[:2] if config.num_critics > 2 else [0, 1]
    )
    next_value = (weight * (q[chosen].min(0) - alpha * log_prob)).sum(-1)
    target = batch.reward + 0.9 * (1 - batch.terminated) * next_value
    index = batch.action.astype(int) if discrete else None

    def critic_loss(critics):
        total = 0.0
        for i in range(config.num_critics):
            x = batch.obs if discrete else np.concatenate([batch.obs, batch.action], -1)
            out = numpy_feed_forward(one(critics, i), x)
            q = out[np.arange(16), index] if discrete else out[:, 0]
            total += 0.5 * ((q - target) ** 2).mean()
        return total

    assert float(metrics["loss/critic"][0]) == pytest.approx(critic_loss(params.critics), rel=1e-4)
    grads = finite_differences(critic_loss, params.critics)
    critics = numpy_adam(params.critics, grads, start.opt_state.critics, 2e-2)
    assert_close(after.params.critics, critics, rtol=1e-4, atol=1e-5)
    moved = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, target_params, critics)
    assert_close(after.target, moved, rtol=1e-4, atol=1e-5)

    # Policy, Eq. 9, at the new critics; temperature, Eq. 18.
    def policy_loss(actor):
        weight, log_prob, q = expectation(actor, critics, batch.obs, noise[1])
        q = q.mean(0) if config.num_critics > 2 else q.min(0)
        return (weight * (alpha * log_prob - q)).sum(-1).mean()

    grads = finite_differences(policy_loss, params.actor)
    actor = numpy_adam(params.actor, grads, start.opt_state.actor, 1e-2)
    assert_close(after.params.actor, actor, rtol=1e-4, atol=1e-5)
    weight, log_prob, _ = expectation(params.actor, critics, batch.obs, noise[1])
    entropy = -(weight * log_prob).sum(-1).mean() - np.log(half_width).sum()  # of the action in [-1, 1]
    assert float(metrics["policy/entropy"][0]) == pytest.approx(entropy, rel=1e-4)
    log_alpha = numpy_adam(params.log_alpha, [alpha * (entropy - 0.3)], start.opt_state.log_alpha, 3e-2)
    np.testing.assert_allclose(after.params.log_alpha, log_alpha, rtol=1e-4)


def test_the_rollout_is_what_the_buffer_gets():
    """New rows where the clock says, everything else untouched; rows of one environment are contiguous."""
    env = rlzoo.envs.make("gymnax/Pendulum-v1")
    algo = sac.make(env, sac.Config(**SMALL), HYPER)
    start = copy(rlzoo.train(algo, KEY, 5)[0])  # 24 + 5 * 6 = 54 rows: the next block is the last, then it wraps
    for block in (9, 0, 1):
        after, _ = rlzoo.resume(algo, copy(start), 1)
        new = np.zeros(60, bool)
        new[6 * block : 6 * block + 6] = True
        before, now = np.asarray(start.replay.obs), np.asarray(after.replay.obs)
        np.testing.assert_array_equal(before[~new], now[~new])
        assert (before[new] != now[new]).any(-1).all()
        rows = jax.tree.map(lambda x: np.asarray(x)[new].reshape(3, 2, *x.shape[1:]), after.replay)  # noqa: B023
        np.testing.assert_array_equal(rows.obs[0], start.envs.obs)
        np.testing.assert_array_equal(rows.next_obs[:-1], rows.obs[1:])
        assert (np.abs(rows.action) <= 1.0).all()
        start = after


def test_acting_is_the_policys_sample_in_the_environments_units():
    algo = sac.make(plane(), sac.Config(**SMALL), HYPER)
    start = copy(rlzoo.init(algo, KEY))
    after, _ = rlzoo.resume(algo, copy(start), 1)
    rows = jax.tree.map(lambda x: np.asarray(x)[24:30].reshape(3, 2, *x.shape[1:]), after.replay)
    act_key = jax.random.split(start.key, 4)[1]
    for t, key in enumerate(jax.random.split(act_key, 3)):
        noise = jax.random.normal(jax.random.split(key)[0], (2, 2))
        head = numpy_feed_forward(float64(start.params.actor)["params"], rows.obs[t])
        action, _ = mean_and_log_prob(head, np.asarray(noise, np.float64), np.ones(2))
        np.testing.assert_allclose(rows.action[t], action, rtol=1e-4, atol=1e-5)


def test_warm_up_is_uniform_and_held():
    config = sac.Config(**SMALL | {"warmup": 6_000, "capacity": 6_000, "warmup_hold": 5})
    rows = rlzoo.init(sac.make(plane(), config), KEY).replay
    action = np.asarray(rows.action).reshape(-1, 5, 2, 2)  # [blocks, hold, N, A]
    assert (action == action[:, :1]).all()
    for one in action[:, 0].reshape(-1, 2).T:
        assert stats.kstest(one, stats.uniform(-1.0, 2.0).cdf).pvalue > 1e-3
    moved = np.asarray(rows.next_obs - rows.obs)
    slopes = [np.polyfit(one, move, 1)[0] for one, move in zip(np.asarray(rows.action).T, moved.T, strict=True)]
    np.testing.assert_allclose(slopes, [0.5, 0.6], atol=0.01)  # of the environment's own actions, in +-1 and +-3

    cartpole = rlzoo.envs.make("gymnax/CartPole-v1")
    rows = rlzoo.init(sac.make(cartpole, sac.Config(**SMALL | {"warmup": 2_004, "capacity": 2_010})), KEY).replay
    assert abs(np.asarray(rows.action)[:2_004].mean() - 0.5) < 0.06


def test_value_is_the_mean_of_the_critics_and_the_entropy_bonus():
    algo = sac.make(plane(), sac.Config(**SMALL, num_critics=3), HYPER)
    state = rlzoo.init(algo, KEY)
    obs, action = (
        jax.random.uniform(KEY, (5, 2)),
        jnp.array([[0.9, -2.9], [0.0, 0.0], [-0.3, 1.0], [0.5, 0.5], [-1, 3]]),
    )
    q, bonus = algo.value(state, algo.hyper, obs, action)
    params, unit = float64(state.params), np.clip(np.asarray(action, np.float64) / [1.0, 3.0], -1 + 1e-6, 1 - 1e-6)
    x = np.concatenate([obs, np.asarray(action) / [1.0, 3.0]], -1)
    each = [numpy_feed_forward(jax.tree.map(lambda x: x[i], params.critics)["params"], x)[:, 0] for i in range(3)]  # noqa: B023
    np.testing.assert_allclose(q, np.mean(each, 0), rtol=1e-4)
    mean, log_std = np.split(numpy_feed_forward(params.actor["params"], obs), 2, axis=-1)
    _, log_prob = numpy_squashed(mean, np.exp(log_std), (np.arctanh(unit) - mean) / np.exp(log_std))
    np.testing.assert_allclose(bonus, -0.4 * (log_prob - np.log(3.0)), rtol=1e-2)  # 1 - 1e-6 in float32


def test_critics_and_policy_take_their_shares_of_steps():
    env = rlzoo.envs.make("gymnax/Pendulum-v1")
    algo = sac.make(env, sac.Config(**SMALL, num_updates=6, policy_delay=3), HYPER)
    state, _ = rlzoo.train(algo, KEY, 2)
    counts = [int(one[0].count) for one in state.opt_state]
    assert counts == [4, 12, 4]


def test_soft_value_is_finite_where_a_probability_underflows():
    def loss(logits):
        log_prob = jax.nn.log_softmax(logits)
        return sac.soft_value(jnp.exp(log_prob), log_prob, jnp.ones(2), jnp.float32(0.2))

    value, grads = jax.value_and_grad(loss)(jnp.array([0.0, 200.0]))
    assert float(value) == pytest.approx(1.0) and np.isfinite(grads).all()


def test_updates_are_finite_where_a_probability_underflows(cartpole):
    """log_softmax, not log of softmax (Rejax: NaN)."""
    algo = sac.make(cartpole, sac.Config(**SMALL), HYPER)
    state = rlzoo.init(algo, KEY)
    last = max(state.params.actor["params"])
    state.params.actor["params"][last]["bias"] = jnp.array([0.0, 200.0])
    state, metrics = rlzoo.resume(algo, state, 2)
    assert jax.nn.softmax(state.params.actor["params"][last]["bias"])[0] == 0.0
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((state.params, metrics)))


def test_temperature_rises_where_entropy_is_below_its_target():
    grad = jax.grad(lambda log_alpha, entropy: sac.temperature_loss(log_alpha, entropy, 1.0))
    log_alpha = jnp.log(jnp.float32(0.5))
    assert float(grad(log_alpha, jnp.float32(0.4))) == pytest.approx(0.5 * -0.6)  # descending it raises log alpha
    assert float(grad(log_alpha, jnp.float32(1.4))) == pytest.approx(0.5 * 0.4)


def test_target_entropy_means_the_same_in_every_box():
    """Two environments that differ in the unit of the action alone learn alike (of one step: a density in other units
    shifts every value by a constant), and where the target is another, not."""
    env = rlzoo.envs.make("gymnax/Pendulum-v1")

    def in_tenths(key, state, action, params):
        return env.step(key, state, action / 10.0, params)

    wide = env._replace(step=in_tenths, action_space=Box(10.0 * env.action_space.low, 10.0 * env.action_space.high))
    config, hyper = sac.Config(**SMALL), HYPER._replace(gamma=0.0)
    params = [rlzoo.train(sac.make(x, config, hyper), KEY, 5)[0].params for x in (env, wide)]
    assert_close(*params, rtol=1e-3, atol=1e-4)
    moved, _ = rlzoo.train(sac.make(wide, config, hyper._replace(target_entropy=-9.0)), KEY, 5)
    assert abs(float(moved.params.log_alpha - params[0].log_alpha)) > 1e-2


def test_default_target_entropies():
    pendulum, cartpole = (rlzoo.envs.make(f"gymnax/{name}") for name in ("Pendulum-v1", "CartPole-v1"))
    assert sac.make(pendulum).hyper.target_entropy == -1.0
    assert sac.make(cartpole).hyper.target_entropy == pytest.approx(0.98 * np.log(2))
    assert sac.make(cartpole, hyper=HYPER).hyper.target_entropy == 0.3
    with pytest.raises(ValueError, match="hyper.target_entropy is nan, where the algorithm has -1; start from"):
        rlzoo.sweep(sac.make(pendulum), rlzoo.grid(sac.Hyper(), gamma=[0.9, 0.99]))


def test_images_go_through_a_cnn():
    env = rlzoo.envs.make("gymnax/Breakout-MinAtar")
    state, metrics = rlzoo.train(sac.make(env, sac.Config(**SMALL), HYPER), KEY, 2)
    assert state.replay.obs.shape == (60, 10, 10, 4)
    assert state.params.actor["params"]["CNN_0"]["Dense_0"]["kernel"].shape == (9 * 4, 16)
    assert all(np.isfinite(x).all() for x in metrics.values())


def test_unbounded_boxes_are_refused():
    env = rlzoo.envs.make("gymnax/Pendulum-v1")
    infinite = np.full(1, np.inf, np.float32)
    with pytest.raises(ValueError, match="its action box is unbounded; SAC squashes onto a bounded one"):
        sac.make(env._replace(action_space=Box(-infinite, infinite)))


def test_budgets_count_the_warm_up():
    algo = sac.make(rlzoo.envs.make("gymnax/Pendulum-v1"), sac.Config(**SMALL))
    assert rlzoo.updates_for(algo, 24 + 5 * 6) == 5
    with pytest.raises(ValueError, match="env_steps=50 is not 24 of warm-up and a whole number .* use 48 or 54"):
        rlzoo.updates_for(algo, 50)
    with pytest.raises(ValueError, match="use 30"):
        rlzoo.updates_for(algo, 10)


def test_non_finite_rewards_are_reported_by_lane():
    env = rlzoo.envs.make("probe/reward-by-action", continuous=True)
    runs = rlzoo.sweep(sac.make(env, sac.Config(**SMALL)), task={"scale": jnp.array([1.0, jnp.nan])})
    result = rlzoo.run(runs, jax.random.split(KEY, 2), 4, eval_episodes=0, quiet=True)
    assert {(failure.setting, failure.seed) for failure in result.failures} == {(1, 0), (1, 1)}
    assert np.isfinite(result.metrics["loss/critic"][:, 0]).all()
