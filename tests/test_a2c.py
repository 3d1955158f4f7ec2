"""A2C against NumPy, one whole update with gradients by finite differences; GA3C against A2C."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    assert_close,
    assert_same_bits,
    copy,
    finite_differences,
    float64,
    numpy_forward,
    numpy_gae,
    numpy_log_prob_and_entropy,
    numpy_return_moments,
    numpy_standardised,
)

import rlzoo
from rlzoo import a2c, ga3c
from rlzoo.blocks import moments, networks, rollout

KEY = jax.random.key(3)
SMALL = {"num_envs": 3, "num_steps": 40, "hidden": (3,)}
HYPER = {
    "learning_rate": 1e-2,
    "anneal_steps": 1e3,
    "gamma": 0.9,
    "gae_lambda": 0.8,
    "entropy_coef": 0.03,
    "value_coef": 0.7,
    "max_grad_norm": 0.4,
    "decay": 0.95,
    "eps": 1e-3,
}


def short(name, horizon=13):
    import gymnax

    raw, params = gymnax.make(name)
    return rlzoo.envs.make(raw, params=params.replace(max_steps_in_episode=horizon))


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("optimiser", ["rmsprop", "adam"])
@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
def test_one_update_against_numpy(name, optimiser, normalised):
    env, hyper = short(name), a2c.Hyper(**HYPER)
    config = a2c.Config(**SMALL, optimiser=optimiser, normalise_obs=normalised, normalise_reward=normalised)
    algo = a2c.make(env, config, hyper)
    discrete = "CartPole" in name
    start = copy(rlzoo.train(algo, KEY, 2)[0])  # so that the optimiser's averages are not those of the start
    after, metrics = rlzoo.resume(algo, copy(start), 1)

    # The experience of that update: the same keys through the same rollout.
    network = networks.actor_critic(env, config.hidden, config.activation, config.init_std)
    _, act_key = jax.random.split(start.key)

    def act(obs, key):
        obs = moments.normalise(start.obs_moments, obs) if normalised else obs
        action = network.apply(start.params, obs)[0].sample(key)
        return env.action_space.from_policy(action), action

    _, batch, action, _ = rollout.collect(env, act, start.envs, act_key, env.params, config.num_steps)
    batch, action = float64(batch), np.asarray(action, np.int64 if discrete else np.float64)
    assert batch.truncated.any()
    params, obs, next_obs, reward = float64(start.params)["params"], batch.obs, batch.next_obs, batch.reward
    if normalised:  # observations by the moments of before, rewards by those of now
        obs, next_obs = (numpy_standardised(float64(start.obs_moments), x) for x in (obs, next_obs))
        return_moments, running = numpy_return_moments(start, batch, hyper.gamma)
        np.testing.assert_allclose(after.return_moments.var, return_moments.var, rtol=1e-4)
        np.testing.assert_allclose(after.running_return, running, rtol=1e-4, atol=1e-4)
        reward = numpy_standardised(return_moments, reward, mean=False)
    value, next_value = (numpy_forward(params, x)[1] for x in (obs, next_obs))
    advantage = numpy_gae(batch, reward, value, next_value, hyper.gamma, hyper.gae_lambda)
    target = advantage + value

    def loss(params):
        head, new_value = numpy_forward(params, obs)
        log_prob, entropy = numpy_log_prob_and_entropy(params, head, action, discrete)
        surrogate, error = -(log_prob * advantage).mean(), 0.5 * ((new_value - target) ** 2).mean()
        return (
            surrogate + hyper.value_coef * error - hyper.entropy_coef * entropy.mean(),
            surrogate,
            error,
            entropy.mean(),
        )

    _, *terms = loss(params)
    for key, term in zip(("loss/policy", "loss/value", "policy/entropy"), terms, strict=True):
        assert float(metrics[key][0]) == pytest.approx(term, rel=1e-3, abs=1e-5), key

    grads = finite_differences(lambda params: loss(params)[0], params)
    norm = np.sqrt(sum((g**2).sum() for g in grads))
    assert norm > hyper.max_grad_norm  # so that clipping is tested
    grads = [g * hyper.max_grad_norm / norm for g in grads]
    rate = hyper.learning_rate * (1 - 2 * 120 / hyper.anneal_steps)
    averages = start.opt_state[1][0]
    nu = [
        hyper.decay * n + (1 - hyper.decay) * g**2
        for n, g in zip(jax.tree.leaves(float64(averages.nu)), grads, strict=True)
    ]
    if optimiser == "rmsprop":
        updates = [g / np.sqrt(n + hyper.eps) for g, n in zip(grads, nu, strict=True)]
    else:
        mu = [0.9 * m + 0.1 * g for m, g in zip(jax.tree.leaves(float64(averages.mu)), grads, strict=True)]
        count = int(averages.count) + 1
        updates = [
            m / (1 - 0.9**count) / (np.sqrt(n / (1 - hyper.decay**count)) + hyper.eps)
            for m, n in zip(mu, nu, strict=True)
        ]
    expected = [x - rate * u for x, u in zip(jax.tree.leaves(params), updates, strict=True)]
    found = jax.tree.leaves(float64(after.params)["params"])
    assert_close(found, expected, rtol=2e-3, atol=2e-5)


def test_lambda_one_is_the_longest_n_step_return():
    """The paper's target: rewards to the end of the rollout or episode, and the bootstrap there, by a plain loop."""
    env = short("CartPole-v1")
    algo = a2c.make(env, a2c.Config(**SMALL), a2c.Hyper(**HYPER | {"gae_lambda": 1.0}))
    state = rlzoo.init(algo, KEY)
    network = networks.actor_critic(env, (3,), "tanh", 1.0)
    _, act_key = jax.random.split(state.key)
    act = lambda obs, key: (network.apply(state.params, obs)[0].sample(key), ())  # noqa: E731
    _, batch, _, _ = rollout.collect(env, act, state.envs, act_key, env.params, 40)
    params, batch = float64(state.params)["params"], float64(batch)
    value, next_value = (numpy_forward(params, obs)[1] for obs in (batch.obs, batch.next_obs))
    target = np.zeros((40, 3))
    for n in range(3):
        for t in range(40):
            weight = 1.0
            for k in range(t, 40):
                target[t, n] += weight * batch.reward[k, n]
                weight *= 0.9
                if batch.terminated[k, n] or batch.truncated[k, n] or k == 39:
                    target[t, n] += weight * (1 - batch.terminated[k, n]) * next_value[k, n]
                    break
    _, metrics = rlzoo.resume(algo, state, 1)
    assert float(metrics["loss/value"][0]) == pytest.approx(0.5 * ((target - value) ** 2).mean(), rel=1e-4)


def test_ga3c_without_lag_is_a2c():
    env = short("CartPole-v1")
    config = {"num_envs": 4, "num_steps": 7, "hidden": (8,)}
    a = a2c.make(env, a2c.Config(**config), a2c.Hyper(**HYPER))
    g = ga3c.make(env, ga3c.Config(**config, prediction_lag=0, training_lag=0), ga3c.Hyper(**HYPER))
    first, second = rlzoo.init(a, KEY), rlzoo.init(g, KEY)
    # The same start: GA3C spends no key of A2C's on its queue.
    assert_same_bits((first.params, first.envs, first.key), (second.params, second.envs, second.key))
    first, a_metrics = rlzoo.resume(a, first, 10)
    second, g_metrics = rlzoo.resume(g, second, 10)
    assert_close(first.params, second.params, rtol=1e-5, atol=1e-6)
    assert_close(a_metrics["loss/policy"], g_metrics["loss/policy"], rtol=1e-4, atol=1e-6)
    assert float(jnp.abs(g_metrics["policy/approx_kl"]).max()) < 1e-6


@pytest.mark.parametrize(("prediction_lag", "training_lag"), [(3, 0), (0, 2), (2, 3)])
def test_ga3c_lags_by_recomputation(prediction_lag, training_lag):
    """Update j: experience of update j - d2, collected with theta_{j-d2-d1}, differentiated at theta_j."""
    env, updates = short("CartPole-v1"), 9
    config = {"num_envs": 4, "num_steps": 7, "hidden": (8,)}
    hyper = ga3c.Hyper(**HYPER)
    algo = ga3c.make(env, ga3c.Config(**config, prediction_lag=prediction_lag, training_lag=training_lag), hyper)
    reference = a2c.make(env, a2c.Config(**config), a2c.Hyper(**HYPER))
    network = networks.actor_critic(env, (8,), "tanh", 1.0)
    state = rlzoo.init(algo, KEY)
    thetas, envs, key, batches = [state.params], state.envs, state.key, []
    from rlzoo.blocks import optim, returns

    opt_state = state.opt_state
    for j in range(updates):
        acting = thetas[max(0, j - prediction_lag)]
        key, act_key = jax.random.split(key)
        act = lambda obs, key: (lambda a: (a, a))(network.apply(acting, obs)[0].sample(key))  # noqa: B023, E731
        envs, batch, action, _ = rollout.collect(env, act, envs, act_key, env.params, 7)
        value, next_value = (network.apply(acting, obs)[1] for obs in (batch.obs, batch.next_obs))
        target = value + returns.gae(
            batch.reward, batch.terminated, batch.truncated, value, next_value, hyper.gamma, hyper.gae_lambda
        )
        batches.append((batch.obs, action, target))
        if j < training_lag:
            thetas.append(thetas[-1])
            continue
        obs, action, target = batches[j - training_lag]

        def loss(params):
            pi, value = network.apply(params, obs)  # noqa: B023
            advantage = jax.lax.stop_gradient(target - value)  # noqa: B023
            each = -pi.log_prob(action) * advantage - hyper.entropy_coef * pi.entropy()  # noqa: B023
            return (each + 0.5 * hyper.value_coef * (target - value) ** 2).mean()  # noqa: B023

        rate = hyper.learning_rate * (1 - j * reference.steps_per_update / hyper.anneal_steps)
        optimiser = optim.rmsprop(rate, hyper.max_grad_norm, hyper.decay, hyper.eps)
        change, opt_state = optimiser.update(jax.grad(loss)(thetas[-1]), opt_state)
        thetas.append(jax.tree.map(jnp.add, thetas[-1], change))
    state, metrics = rlzoo.resume(algo, state, updates)
    assert_close(state.params, thetas[-1], rtol=1e-3, atol=1e-5)
    # Check 9: what is learned from was not done by the policy that learns.
    assert (metrics["policy/approx_kl"][training_lag + prediction_lag + 1 :] > 1e-6).all()
    np.testing.assert_array_equal(metrics["loss/value"][:training_lag], np.zeros(training_lag))


def test_presets_build():
    for module in (a2c, ga3c):
        for name, preset in module.presets.items():
            assert isinstance(preset.config, module.Config) and isinstance(preset.hyper, module.Hyper), name
