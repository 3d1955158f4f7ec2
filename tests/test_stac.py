"""STAC: the checks of its specification, and one whole update against NumPy with gradients by finite differences."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
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
from rlzoo import sac, stac
from rlzoo.blocks import masks, networks, optim, replay, rollout
from rlzoo.envs.episodes import with_episodes
from rlzoo.envs.risky_point_mass import in_danger
from rlzoo.types import Box, Env

KEY = jax.random.key(6)
SMALL = {"num_envs": 2, "num_steps": 3, "batch_size": 16, "capacity": 60, "warmup": 48, "hidden": (4,)}
RATES = {"actor_learning_rate": 1e-2, "critic_learning_rate": 2e-2, "alpha_learning_rate": 3e-2}
HYPER = stac.Hyper(**RATES, gamma=0.9, tau=0.1, beta=0.6, target_entropy=-0.7, init_alpha=0.4)
HALF = {"actor_dropout": 0.3, "critic_dropout": 0.2}


def softplus_std(raw):
    return np.log1p(np.exp(np.maximum(raw, -5.0)))


def normal_loss(mean, std, target):
    return 0.5 * np.log(2 * np.pi * std**2) + (target - mean) ** 2 / (2 * std**2)


def huber_by_pairs(quantiles, target):
    """The quantile Huber loss by two plain loops over quantiles and targets."""
    total, num = np.zeros(len(target)), quantiles.shape[-1]
    for i in range(num):
        for j in range(num):
            u = target[:, j] - quantiles[:, i]
            huber = np.where(np.abs(u) <= 1, 0.5 * u**2, np.abs(u) - 0.5)
            total += np.abs((i + 0.5) / num - (u < 0)) * huber
    return total / num**2


@pytest.mark.parametrize(
    ("critic", "options"),
    [
        ("gaussian", HALF | {"hidden": (4, 3)}),  # two dimensions of the action, two layers, episodes that end
        ("gaussian", {"actor_dropout": 0.0, "critic_dropout": 0.2, "target_dropout": False, "temperature": "adam"}),
        ("twin-gaussian", {"actor_dropout": 0.0, "critic_dropout": 0.0}),
        ("quantile", {"actor_dropout": 0.0, "critic_dropout": 0.0}),
    ],
)
def test_one_update_against_numpy(critic, options):
    env = plane() if "hidden" in options else rlzoo.envs.make("gymnax/Pendulum-v1")
    config = stac.Config(**SMALL | options, critic=critic)
    algo, copies = stac.make(env, config, HYPER), stac.CRITICS[critic].copies
    start = copy(rlzoo.train(algo, KEY, 2)[0])  # so that Adam's averages are not those of the start
    after, metrics = rlzoo.resume(algo, copy(start), 1)

    # The same minibatch, noise and masks: the keys that the update splits.
    _, _, learn_key = jax.random.split(start.key, 3)
    batch_key, actor_key, critic_key, next_key, now_key = jax.random.split(learn_key, (1, 5))[0]
    batch = float64(replay.sample_distinct(after.replay, batch_key, jnp.int32(60), 16))
    assert "hidden" not in options or batch.terminated.any()
    shape = 16, *env.action_space.high.shape
    next_noise, noise = (np.asarray(jax.random.normal(key, shape), np.float64) for key in (next_key, now_key))

    units = sum(config.hidden)

    def keeps(key, rate, *shape):
        if rate == 0.0:
            return [None] * shape[0]
        return np.asarray(masks.bernoulli_zeros(key, rate, int(np.prod(shape)) * units), np.float64).reshape(
            *shape, units
        )

    actor_keeps = keeps(actor_key, config.actor_dropout, 2, 16)
    critic_keeps = keeps(critic_key, config.critic_dropout, 3, copies, 16)
    params, target_params, alpha = float64(start.params), float64(start.target), np.exp(float(start.params.log_alpha))

    def sample(actor, obs, keep, noise):
        mean, raw = np.split(numpy_feed_forward(actor["params"], obs, keep, config.actor_dropout), 2, axis=-1)
        return numpy_squashed(mean, softplus_std(raw), noise)

    def outputs(critics, obs, action, keep):
        x, out = np.concatenate([obs, action], -1), []
        for i in range(copies):
            one = jax.tree.map(lambda x: x[i], critics)["params"]  # noqa: B023
            out.append(numpy_feed_forward(one, x, None if keep is None else keep[i], config.critic_dropout))
        return np.stack(out)

    def score(out):
        """What stands for the value: mu - beta sigma, the least mu, or quantiles."""
        if critic == "gaussian":
            return out[0, :, :1] - 0.6 * softplus_std(out[0, :, 1:])
        return out[..., :1].min(0) if critic == "twin-gaussian" else out.min(0)

    # (1) The target, (2) the critic, (3) Polyak.
    next_action, next_log_prob = sample(params.actor, batch.next_obs, actor_keeps[0], next_noise)
    keep = critic_keeps[0] if config.target_dropout else None
    value = score(outputs(target_params, batch.next_obs, next_action, keep)) - alpha * next_log_prob[:, None]
    target = batch.reward[:, None] + 0.9 * (1 - batch.terminated[:, None]) * value

    def critic_loss(critics):
        total = 0.0
        for out in outputs(critics, batch.obs, batch.action, critic_keeps[1]):
            each = (
                huber_by_pairs(out, target)
                if critic == "quantile"
                else normal_loss(out[:, 0], softplus_std(out[:, 1]), target[:, 0])
            )
            total += each.mean()
        return total

    assert float(metrics["loss/critic"][0]) == pytest.approx(critic_loss(params.critics), rel=1e-4)
    grads = finite_differences(critic_loss, params.critics)
    critics = numpy_adam(params.critics, grads, start.opt_state.critics, 2e-2)
    assert_close(after.params.critics, critics, rtol=1e-4, atol=1e-5)
    assert_close(
        after.target, jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, target_params, critics), rtol=1e-4, atol=1e-5
    )

    # (4) The policy at the new critic, (5) the temperature.
    def policy_loss(actor):
        action, log_prob = sample(actor, batch.obs, actor_keeps[1], noise)
        out = outputs(critics, batch.obs, action, critic_keeps[2])
        value = out.mean(-1).min(0) if critic == "quantile" else score(out)[:, 0]
        return -(value - alpha * log_prob).mean()

    grads = finite_differences(policy_loss, params.actor)
    actor = numpy_adam(params.actor, grads, start.opt_state.actor, 1e-2)
    assert_close(after.params.actor, actor, rtol=1e-4, atol=1e-5)
    entropy = -sample(params.actor, batch.obs, actor_keeps[1], noise)[1]
    if config.temperature == "adam":  # the paper: a sum over the batch
        wanted = numpy_adam(
            params.log_alpha, [alpha * (entropy + 0.7).sum()], start.opt_state.log_alpha, HYPER.alpha_learning_rate
        )
    else:  # alpha <- alpha exp(lr alpha (target - mean entropy)), for DSAC without the factor alpha
        factor = 1.0 if critic == "quantile" else alpha
        wanted = params.log_alpha + 3e-2 * factor * (-0.7 - entropy.mean())
    np.testing.assert_allclose(after.params.log_alpha, wanted, rtol=1e-4)


def test_the_target_is_linear_in_beta():
    """dy / dbeta = -gamma (1 - d) sigma', and y = r where the episode ended."""
    out = jnp.array([[[2.0, 0.3], [1.0, -7.0]]])  # E = 1, B = 2
    std = stac.positive_std(out[0, :, 1])

    def target(beta):
        value = stac.CRITICS["gaussian"].bootstrap(out, beta)[:, 0]
        return stac.soft_target(jnp.array([1.0, 1.0]), jnp.array([False, True]), value, 0.9)

    slope = (stac.CRITICS["gaussian"].bootstrap(out, 1.0) - stac.CRITICS["gaussian"].bootstrap(out, 0.0))[:, 0]
    np.testing.assert_allclose(slope, -std, rtol=1e-5)
    np.testing.assert_allclose(target(0.5) - target(0.0), [-0.9 * 0.5 * std[0], 0.0], rtol=1e-5)
    np.testing.assert_allclose(target(2.0) - target(0.0), 4 * (target(0.5) - target(0.0)), rtol=1e-5)
    assert float(target(0.5)[1]) == 1.0


def test_gaussian_loss_and_its_gradients():
    mean, std, y = 0.7, 1.3, 2.5
    loss, grads = jax.value_and_grad(stac.gaussian_loss, (0, 1))(jnp.float32(mean), jnp.float32(std), jnp.float32(y))
    assert float(loss) == pytest.approx(-stats.norm.logpdf(y, mean, std), abs=1e-6)
    assert float(grads[0]) == pytest.approx((mean - y) / std**2, rel=1e-5)
    assert float(grads[1]) == pytest.approx(1 / std - (y - mean) ** 2 / std**3, rel=1e-5)


def test_a_trained_head_is_the_mean_and_std_of_its_targets():
    """Constant inputs, targets of N(3, 2^2)."""
    net = networks.FeedForward(2, (1,), (16,), layer_norm=True)
    adam, target = optax.adam(1e-2), 3.0 + 2.0 * jax.random.normal(KEY, (4_000,))
    params = net.init(KEY, jnp.ones((1, 1)))

    def loss(params):
        out = net.apply(params, jnp.ones((1, 1)))
        return stac.gaussian_loss(out[:, 0], stac.positive_std(out[:, 1]), target).mean()

    def one(carry, _):
        return optim.descend(adam, *carry, jax.grad(loss)(carry[0])), None

    (params, _), _ = jax.jit(lambda carry: jax.lax.scan(one, carry, None, 1_500))((params, adam.init(params)))
    out = net.apply(params, jnp.ones((1, 1)))[0]
    assert float(out[0]) == pytest.approx(3.0, abs=0.15)
    assert float(stac.positive_std(out[1])) == pytest.approx(2.0, abs=0.1)


def test_with_sigma_one_and_no_pessimism_it_is_sac_with_one_critic():
    critic, target = stac.CRITICS["gaussian"], jnp.array([[2.0], [-1.0]])
    raw = jnp.full((1, 2), jnp.log(jnp.e - 1.0))  # softplus gives 1
    mean, log_prob, alpha = jnp.array([[0.5, 3.0]]), jnp.array([[0.3], [-0.8]]), jnp.float32(0.2)
    out = jnp.stack([mean, raw], axis=-1)
    of_stac = jax.grad(lambda mean: critic.loss(jnp.stack([mean, raw], -1), target).sum())(mean)
    of_sac = jax.grad(lambda mean: sac.critic_loss(mean, target[:, 0]).sum())(mean)
    np.testing.assert_allclose(of_stac, of_sac, rtol=1e-5)
    value = sac.soft_value(jnp.ones((2, 1)), log_prob, mean[0, :, None], alpha)
    np.testing.assert_allclose(critic.bootstrap(out, 0.0)[:, 0] - alpha * log_prob[:, 0], value, rtol=1e-5)
    np.testing.assert_allclose(critic.objective(out, 0.0), mean[0], rtol=1e-6)


def test_acting_drops_units():
    """The rollout's actions are samples of the policy with a mask of its own at every step."""
    algo = stac.make(plane(), stac.Config(**SMALL, **HALF), HYPER)
    start = copy(rlzoo.init(algo, KEY))
    after, _ = rlzoo.resume(algo, copy(start), 1)
    rows = jax.tree.map(lambda x: np.asarray(x)[48:54].reshape(3, 2, *x.shape[1:]), after.replay)
    dropped = []
    for t, key in enumerate(jax.random.split(jax.random.split(start.key, 3)[1], 3)):
        mask_key, action_key = jax.random.split(jax.random.split(key)[0])
        keep = np.asarray(masks.bernoulli_zeros(mask_key, 0.3, 8)).reshape(2, 4)
        head = numpy_feed_forward(float64(start.params.actor)["params"], rows.obs[t], keep, 0.3)
        mean, raw = np.split(head, 2, axis=-1)
        noise = np.asarray(jax.random.normal(action_key, (2, 2)), np.float64)
        np.testing.assert_allclose(
            rows.action[t], numpy_squashed(mean, softplus_std(raw), noise)[0], rtol=1e-4, atol=1e-5
        )
        dropped.append(keep == 0)
    assert np.any(dropped) and not np.array_equal(dropped[0], dropped[1])


def test_start():
    """Warm-up by tanh(normal) actions; weights and biases uniform within 1 / sqrt(inputs), but sigma's bias zero."""
    config = stac.Config(warmup=4_000, capacity=4_000, critic_dropout=0.0)
    state = rlzoo.init(stac.make(plane(), config), KEY)
    for one in np.asarray(state.replay.action).T:
        assert stats.kstest(np.arctanh(one), "norm").pvalue > 1e-3
    moved = np.asarray(state.replay.next_obs - state.replay.obs).T
    slopes = [np.polyfit(a, m, 1)[0] for a, m in zip(np.asarray(state.replay.action).T, moved, strict=True)]
    np.testing.assert_allclose(slopes, [0.5, 0.6], atol=0.01)

    critic = jax.tree.map(lambda x: np.asarray(x[0]), state.params.critics["params"])
    for name, inputs in (("Linear_0", 4), ("Linear_1", 256), ("head", 256)):
        for weights in critic[name].values():
            bounded = np.abs(weights) <= 1 / np.sqrt(inputs)
            assert bounded.all() and (weights.size < 100 or np.abs(weights).max() > 0.95 / np.sqrt(inputs))
    assert critic["head"]["bias"][1] == 0.0 != critic["head"]["bias"][0]
    assert (critic["LayerNorm_1"]["scale"] == 1.0).all() and (critic["LayerNorm_1"]["bias"] == 0.0).all()
    assert_close(state.target, state.params.critics, rtol=0, atol=0)


def test_value_is_the_mean_without_pessimism_and_the_entropy_bonus():
    algo = stac.make(plane(), stac.Config(**SMALL, **HALF), HYPER)
    state, obs = rlzoo.init(algo, KEY), jax.random.uniform(KEY, (3, 2))
    unit = np.array([[0.9, -0.9], [0.0, 0.0], [-0.3, 0.4]])
    q, bonus = algo.value(state, algo.hyper, obs, jnp.asarray(unit * [1.0, 3.0], jnp.float32))
    params = float64(state.params)
    critic = jax.tree.map(lambda x: x[0], params.critics)["params"]
    np.testing.assert_allclose(
        q, numpy_feed_forward(critic, np.concatenate([obs, unit], -1))[:, 0], rtol=1e-4, atol=1e-6
    )
    mean, raw = np.split(numpy_feed_forward(params.actor["params"], obs), 2, axis=-1)
    std = softplus_std(raw)
    np.testing.assert_allclose(bonus, -0.4 * numpy_squashed(mean, std, (np.arctanh(unit) - mean) / std)[1], rtol=1e-3)


def test_std_has_a_floor_without_gradient_below():
    raw = jnp.array([-100.0, -5.0, -4.0, 0.0, 30.0])
    std = stac.positive_std(raw)
    assert (std >= 0.0067153).all() and float(std[-1]) == pytest.approx(30.0)
    slope = jax.vmap(jax.grad(stac.positive_std))(raw)
    assert float(slope[0]) == 0.0 and (slope[2:] > 0).all()


def test_stop_gradients():
    """The target is a constant; the policy's gradient changes with beta, since sigma is differentiated too."""
    assert float(jax.grad(lambda v: stac.soft_target(jnp.float32(0), jnp.array(False), v, 0.9))(jnp.float32(1))) == 0.0
    env = rlzoo.envs.make("gymnax/Pendulum-v1")
    config = stac.Config(**SMALL, actor_dropout=0.0, critic_dropout=0.0)
    algo = stac.make(env, config, HYPER)
    runs = rlzoo.sweep(algo, rlzoo.grid(algo.hyper, beta=[0.0, 0.6], critic_learning_rate=[0.0]))
    state, _ = rlzoo.train(runs, KEY[None], 1)
    first, second = (rlzoo.lane(state, i, 0) for i in range(2))
    assert_close(first.params.critics, second.params.critics, rtol=0, atol=0)  # the same critic, another beta
    kernels = [state.params.actor["params"]["head"]["kernel"] for state in (first, second)]
    assert not np.allclose(*kernels)


def test_quantile_loss_by_pairs():
    rng = np.random.default_rng(0)
    quantiles, target = 2.0 * rng.normal(size=(2, 5, 7))
    found = stac.quantile_loss(jnp.asarray(quantiles, jnp.float32), jnp.asarray(target, jnp.float32))
    np.testing.assert_allclose(found, huber_by_pairs(quantiles, target), rtol=1e-5)


def test_dropout_comes_before_layer_norm():
    """A dropped unit is not zero behind LayerNorm; with nothing dropped training and evaluation are the same."""
    net = networks.FeedForward(1, (3,), (8,), layer_norm=True, dropout=0.5)
    obs = jax.random.normal(KEY, (4, 3))
    params = net.init(KEY, obs)
    keep = masks.bernoulli_zeros(KEY, 0.5, 32).reshape(4, 8)

    def behind_norm(keep):
        _, seen = net.apply(params, obs, keep=keep, capture_intermediates=True)
        return np.asarray(seen["intermediates"]["LayerNorm_0"]["__call__"][0])

    dropped = behind_norm(keep)[np.asarray(keep) == 0]
    assert dropped.size and (dropped != 0.0).all()
    assert not np.array_equal(behind_norm(keep), behind_norm(None))
    whole = networks.FeedForward(1, (3,), (8,), layer_norm=True, dropout=0.0)
    np.testing.assert_array_equal(whole.apply(params, obs, keep=jnp.ones((4, 8))), net.apply(params, obs))
    last = networks.FeedForward(1, (3,), (8,), layer_norm=True, norm_last=True)
    assert not np.allclose(last.apply(params, obs), net.apply(params, obs))


def test_evaluation_drops_nothing_and_averages_samples():
    env = rlzoo.envs.make("gymnax/Pendulum-v1")
    algo = stac.make(env, stac.Config(**SMALL, **HALF), HYPER)
    state, obs = rlzoo.init(algo, KEY), jnp.zeros((1, 3))
    undropped = stac.make(env, stac.Config(**SMALL, actor_dropout=0.0, critic_dropout=0.0), HYPER)
    for deterministic in (True, False):
        actions = [one.policy(state.params.actor, obs, KEY, deterministic) for one in (algo, undropped)]
        np.testing.assert_array_equal(*actions)

    def spread(samples):
        config = dataclasses.replace(algo.config, test_samples=samples)
        policy = stac.make(env, config, HYPER).policy
        keys = jax.random.split(KEY, 200)
        return float(jax.vmap(lambda key: policy(state.params.actor, obs, key, deterministic=True))(keys).std())

    assert spread(1) > 2 * spread(10) > 0.0 == spread(0)


def coin_chain():
    """s0 -> s1 -> end: reward 0, then +1 or -1 by a coin."""

    def reset(key, params):
        return jnp.zeros(1), jnp.zeros(1)

    def step(key, time, action, params):
        coin = jnp.where(jax.random.bernoulli(key), 1.0, -1.0)
        return time + 1.0, time + 1.0, time[0] * coin, time[0] >= 1.0

    reset, step = with_episodes(reset, step, 10)
    box = Box(-np.ones(1, np.float32), np.ones(1, np.float32))
    return Env("own/coin-chain", reset, step, {}, box, box, 10)


def test_sigma_is_of_one_step_and_pessimism_is_bootstrapped():
    """sigma(s1) = 1 of the coin but sigma(s0) = 0, unlike a return's; mu(s0) = mu(s1) - beta sigma(s1), mu(s1) = 0."""
    config = stac.Config(
        num_envs=16, num_updates=4, batch_size=128, capacity=3200, warmup=3200, hidden=(32,), critic_dropout=0.0
    )
    hyper = stac.Hyper(
        actor_learning_rate=0.0,
        alpha_learning_rate=0.0,
        critic_learning_rate=3e-3,
        init_alpha=1e-8,
        gamma=1.0,
        tau=0.05,
    )
    algo = stac.make(coin_chain(), config, hyper)
    runs = rlzoo.sweep(algo, rlzoo.grid(algo.hyper, beta=[0.0, 0.5]))
    state, _ = rlzoo.train(runs, KEY[None], 800)
    net = networks.FeedForward(2, (1,), (32,), layer_norm=True)
    for setting, beta in enumerate((0.0, 0.5)):
        critic = jax.tree.map(lambda x: x[0], rlzoo.lane(state, setting, 0).params.critics)
        out = np.asarray(net.apply(critic, jnp.array([[0.0], [1.0]]), jnp.zeros((2, 1))))
        mean, std = out[:, 0], np.asarray(stac.positive_std(out[:, 1]))
        assert std[1] == pytest.approx(1.0, abs=0.1) and std[0] <= 0.05
        assert mean[1] == pytest.approx(0.0, abs=0.12)
        assert mean[0] == pytest.approx(mean[1] - beta * std[1], abs=0.06)


@pytest.mark.parametrize("name", ["gymnax/CartPole-v1", "rlzoo/RiskyPointMass-v0"])
def test_action_spaces(name):
    env = rlzoo.envs.make(name)
    if "CartPole" in name:
        with pytest.raises(
            ValueError, match="its action space is discrete, 2 actions; STAC needs a bounded box; use s"
        ):
            stac.make(env)
    else:
        assert stac.make(env).hyper.target_entropy == -2.0
        # Two action dimensions, and an update: log-densities are summed, masks and warm-up have the right shapes.
        algo = stac.make(env, stac.Config(**SMALL, **HALF), HYPER)
        state, metrics = rlzoo.train(algo, KEY, 2)
        assert state.replay.action.shape == (60, 2) and (abs(state.replay.action) <= 1.0).all()
        assert all(np.isfinite(x).all() for x in metrics.values())


@pytest.mark.slow
def test_pessimism_lowers_the_value_error_and_avoids_danger():
    """The paper's two claims, on a small scale: beta = 0.5 against 0, medians of four seeds."""
    keys = jax.random.split(KEY, 4)
    sizes = {"hidden": (64, 64), "batch_size": 128, "warmup": 1_000, "capacity": 50_000}
    for name, steps in (("gymnax/Pendulum-v1", 10_000), ("rlzoo/RiskyPointMass-v0", 20_000)):
        env, risky = rlzoo.envs.make(name), "Risky" in name
        preset = stac.presets["risky_point_mass" if risky else "classic"]
        algo = stac.make(env, dataclasses.replace(preset.config, **sizes), preset.hyper)
        runs = rlzoo.sweep(algo, rlzoo.grid(algo.hyper, beta=[0.0, 0.5]))
        state, _ = rlzoo.train(runs, keys, rlzoo.updates_for(runs, steps))
        if risky:

            def share_in_danger(actor):
                envs = rollout.init(env, KEY, env.params, 200)  # noqa: B023
                act = lambda obs, key: (algo.policy(actor, obs, key), ())  # noqa: B023, E731
                return in_danger(rollout.collect(env, act, envs, KEY, env.params, env.horizon)[1].obs).mean()  # noqa: B023

            measured = jax.jit(jax.vmap(jax.vmap(share_in_danger)))(runs.actor(state))
        else:
            measured = rlzoo.value_error(runs, env, state, KEY, 32).mean(-1)
        # Of a seed that has learnt nothing yet the error is tens of times the others', in a mean all that counts.
        assert np.median(measured[1]) < np.median(measured[0])


@pytest.mark.parametrize("test_samples", [0, 10])
def test_what_a_deterministic_action_depends_on(test_samples):
    """Of a mean of samples the whole batch, as its description says; of the mode each observation alone."""
    algo = stac.make(plane(), stac.Config(**SMALL | {"test_samples": test_samples}), HYPER)
    actor = algo.actor(rlzoo.init(algo, KEY))
    obs = jax.random.normal(KEY, (4, 2))
    act = lambda obs: np.asarray(algo.policy(actor, obs, KEY, True))  # noqa: E731
    np.testing.assert_array_equal(act(obs), act(obs))
    alone = np.concatenate([act(obs[i : i + 1]) for i in range(4)])
    assert np.allclose(act(obs), alone, atol=1e-5) == (test_samples == 0)
    assert np.allclose(act(obs), act(obs[::-1])[::-1], atol=1e-5) == (test_samples == 0)
