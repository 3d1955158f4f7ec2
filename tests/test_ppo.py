"""PPO against NumPy: the losses by hand, and one whole update with gradients by finite differences."""

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    copy,
    finite_differences,
    float64,
    named_leaves,
    numpy_forward,
    numpy_gae,
    numpy_log_prob_and_entropy,
    numpy_return_moments,
    numpy_standardised,
)

import rlzoo
from rlzoo import a2c, ppo
from rlzoo.blocks import returns, rollout
from rlzoo.drivers import memory

KEY = jax.random.key(11)


def test_policy_loss_by_hand():
    """Eq. 7 in its four corners: ratio above and below the clip, advantage of either sign."""
    ratio, advantage = np.array([1.5, 1.5, 0.5, 0.5, 1.0]), np.array([1.0, -1.0, 1.0, -1.0, 2.0])
    found = ppo.policy_loss(jnp.log(ratio), jnp.zeros(5), jnp.asarray(advantage), 0.2)
    np.testing.assert_allclose(found, [-1.2, 1.5, -0.5, 0.8, -2.0], rtol=1e-6)


def test_policy_loss_has_no_gradient_where_clipped():
    grad = jax.grad(lambda x: ppo.policy_loss(x, 0.0, 1.0, 0.2))
    assert float(grad(jnp.log(1.5))) == 0.0 and float(grad(jnp.log(0.9))) == pytest.approx(-0.9, rel=1e-5)


def test_value_loss_by_hand():
    value, old, target = jnp.array([1.0, 3.0, 3.0]), jnp.array([1.0, 1.0, 1.0]), jnp.array([2.0, 4.0, 0.0])
    # V = 3 clipped to 1.5: (1.5 - 4)^2 = 6.25 is larger than (3 - 4)^2; (1.5 - 0)^2 is smaller than (3 - 0)^2.
    np.testing.assert_allclose(ppo.value_loss(value, old, target, 0.5), [1.0, 6.25, 9.0], rtol=1e-6)
    np.testing.assert_allclose(ppo.value_loss(value, old, target, jnp.inf), [1.0, 1.0, 9.0], rtol=1e-6)


def test_explained_variance():
    target = jnp.array([1.0, 2.0, 3.0, 4.0])
    assert float(returns.explained_variance(target, target)) == pytest.approx(1.0)
    assert float(returns.explained_variance(jnp.zeros(4), target)) == pytest.approx(0.0)
    assert float(returns.explained_variance(target, jnp.ones(4))) == 0.0


@pytest.mark.parametrize("n", [1, 2, 7, 2000, 4096])
def test_random_order_is_a_permutation(n):
    orders = np.asarray(jax.vmap(lambda key: ppo.random_order(key, n))(jax.random.split(KEY, 8)))
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.broadcast_to(np.arange(n), (8, n)))
    if n > 7:
        assert len({tuple(order[:50]) for order in orders}) == 8


def test_random_order_is_uniform():
    """Every index is equally often at every place: chi-square over 6 x 6 cells."""
    orders = np.asarray(jax.vmap(lambda key: ppo.random_order(key, 6))(jax.random.split(KEY, 30_000)))
    counts = np.stack([(orders == index).sum(0) for index in range(6)])
    assert ((counts - 5000) ** 2 / 5000).sum() < 60  # 25 degrees of freedom: p < 1e-4 beyond 60


# --- one whole update -----------------------------------------------------------------------------------------------

CONFIG = ppo.Config(num_envs=3, num_steps=40, num_epochs=1, num_minibatches=1, hidden=(3,))
HYPER = ppo.Hyper(learning_rate=1e-2, entropy_coef=0.03, value_coef=0.7, gamma=0.9, gae_lambda=0.8, max_grad_norm=0.4)


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
def test_one_update_against_numpy(name):
    raw, params = gymnax.make(name)
    env = rlzoo.envs.make(raw, params=params.replace(max_steps_in_episode=13))  # so that episodes are cut
    algo = ppo.make(env, CONFIG, HYPER)
    discrete = "CartPole" in name
    before, _ = rlzoo.train(algo, KEY, 2)  # so that moments and running returns are not those of the start
    before = copy(before)
    start = copy(before)
    after, metrics = rlzoo.resume(algo, before, 1)

    # The experience of that update: the same keys through the same rollout.
    params, obs_moments = float64(start.params)["params"], float64(start.obs_moments)
    _, act_key, _ = jax.random.split(start.key, 3)
    from rlzoo.blocks import moments, networks

    network = networks.actor_critic(env, CONFIG.hidden, CONFIG.activation, CONFIG.init_std)

    def act(obs, key):
        pi, _ = network.apply(start.params, moments.normalise(start.obs_moments, obs))
        action = pi.sample(key)
        return env.action_space.from_policy(action), action

    _, batch, action, _ = rollout.collect(env, act, start.envs, act_key, env.params, CONFIG.num_steps)
    batch, action = float64(batch), np.asarray(action, np.int64 if discrete else np.float64)
    assert batch.truncated.any()

    # Reward in units of the discounted return's standard deviation.
    return_moments, running = numpy_return_moments(start, batch, HYPER.gamma)
    np.testing.assert_allclose(after.return_moments.var, return_moments.var, rtol=1e-4)
    np.testing.assert_allclose(after.running_return, running, rtol=1e-4, atol=1e-4)
    reward = numpy_standardised(return_moments, batch.reward, mean=False)

    obs = numpy_standardised(obs_moments, batch.obs)
    head, value = numpy_forward(params, obs)
    _, next_value = numpy_forward(params, numpy_standardised(obs_moments, batch.next_obs))
    log_prob, _ = numpy_log_prob_and_entropy(params, head, action, discrete)
    advantage = numpy_gae(batch, reward, value, next_value, HYPER.gamma, HYPER.gae_lambda)
    target = advantage + value
    standardised = (advantage - advantage.mean()) / (advantage.std() + 1e-8)

    def loss(params):
        head, new_value = numpy_forward(params, obs)
        new_log_prob, entropy = numpy_log_prob_and_entropy(params, head, action, discrete)
        ratio = np.exp(new_log_prob - log_prob)
        surrogate = np.minimum(ratio * standardised, np.clip(ratio, 0.8, 1.2) * standardised).mean()
        error = 0.5 * ((new_value - target) ** 2).mean()
        return -surrogate + HYPER.value_coef * error - HYPER.entropy_coef * entropy.mean(), error, entropy.mean()

    _, error, entropy = loss(params)
    assert float(metrics["loss/value"][0]) == pytest.approx(error, rel=1e-3)
    assert float(metrics["policy/entropy"][0]) == pytest.approx(entropy, rel=1e-4)
    assert float(metrics["loss/policy"][0]) == pytest.approx(0.0, abs=1e-5)  # standardised advantages, ratio 1

    # The gradient by central differences, clipped by its global norm, through one step of Adam.
    leaves, grads = jax.tree.leaves(params), finite_differences(lambda params: loss(params)[0], params)
    norm = np.sqrt(sum((g**2).sum() for g in grads))
    assert norm > HYPER.max_grad_norm  # so that clipping is tested
    grads = [g * HYPER.max_grad_norm / norm for g in grads]

    adam = jax.tree.leaves(float64(start.opt_state[1][0].mu)), jax.tree.leaves(float64(start.opt_state[1][0].nu))
    count = int(start.opt_state[1][0].count) + 1
    expected = []
    for x, g, mu, nu in zip(leaves, grads, *adam, strict=True):
        mu, nu = 0.9 * mu + 0.1 * g, 0.999 * nu + 0.001 * g**2
        step = (mu / (1 - 0.9**count)) / (np.sqrt(nu / (1 - 0.999**count)) + 1e-5)
        expected.append(x - HYPER.learning_rate * step)
    for (name_, found), wanted in zip(named_leaves(after.params), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=2e-4, err_msg=name_)


def test_no_array_of_an_update_holds_a_hidden_layer_of_all_its_steps(cartpole):
    """Which would be the largest by far, of many agents on a small network too."""
    algo = ppo.make(cartpole, ppo.Config(num_envs=64, num_steps=64, hidden=(64, 64)))
    state = jax.eval_shape(algo.init, KEY, algo.hyper, algo.task)
    largest, shape = memory._largest(jax.make_jaxpr(algo.step)(state, algo.hyper, algo.task).jaxpr)
    assert largest < 64 * 64 * 64 * 4, shape


def test_moments_of_rewards_that_are_not_scaled_are_left_alone(cartpole):
    algo = ppo.make(cartpole, ppo.Config(num_envs=2, num_steps=4, num_minibatches=1, normalise_reward=False))
    state, _ = rlzoo.train(algo, KEY, 1)
    assert state.return_moments.samples == 0.0 and not state.running_return.any() and state.obs_moments.samples == 8.0


def test_ratio_is_one_on_the_first_minibatch():
    """Acting and learning use the same moments: before any gradient step, the policy is the one that acted."""
    env = rlzoo.envs.make("gymnax/Pendulum-v1")

    def divergence(num_epochs):
        config = ppo.Config(num_envs=4, num_steps=25, num_epochs=num_epochs, num_minibatches=1, hidden=(16,))
        _, metrics = rlzoo.train(ppo.make(env, config, ppo.Hyper(learning_rate=1e-2)), KEY, 6)
        return metrics  # six updates: the moments move after each

    assert float(jnp.abs(divergence(1)["policy/approx_kl"]).max()) < 1e-6
    assert float(divergence(1)["policy/clip_fraction"].max()) == 0.0
    assert float(divergence(4)["policy/approx_kl"].min()) > 1e-4  # the measure can fail


def test_kl_stop_takes_no_further_step_within_the_update():
    env = rlzoo.envs.make("gymnax/CartPole-v1")
    config = ppo.Config(num_envs=4, num_steps=16, num_epochs=5, num_minibatches=2, hidden=(16,))
    share = []
    for target_kl in (float("inf"), 1e-4, 0.0):
        algo = ppo.make(env, config, ppo.Hyper(learning_rate=1e-2, target_kl=target_kl))
        _, metrics = rlzoo.train(algo, KEY, 3)
        share.append(float(metrics["policy/steps_taken"].mean()))
    assert share[0] == 1.0 and 0.1 <= share[1] < 0.8 and share[2] <= 0.2


@pytest.mark.parametrize(
    ("module", "options"), [(ppo, {"num_minibatches": 2}), (a2c, {"normalise_obs": True})], ids=["ppo", "a2c"]
)
def test_the_policy_acts_on_normalised_observations(module, options, cartpole):
    """Those that are far from 0 are told apart as those around it are."""
    algo = module.make(cartpole, module.Config(num_envs=4, num_steps=16, hidden=(16,), **options))
    state, _ = rlzoo.train(algo, KEY, 3)
    actor = algo.actor(state)
    shifted = actor._replace(obs_moments=actor.obs_moments._replace(mean=actor.obs_moments.mean + 100.0))
    obs = jax.random.normal(KEY, (200, 4))
    actions = np.asarray(algo.policy(actor, obs, KEY, deterministic=True))
    assert 0.1 < actions.mean() < 0.9
    np.testing.assert_array_equal(algo.policy(shifted, obs + 100.0, KEY, deterministic=True), actions)


def test_own_network_module(cartpole):
    import flax.linen as nn

    from rlzoo.blocks.distributions import Categorical

    class Linear(nn.Module):
        @nn.compact
        def __call__(self, obs):
            return Categorical(nn.Dense(2)(obs)), nn.Dense(1)(obs)[..., 0]

    algo = ppo.make(cartpole, ppo.Config(num_envs=2, num_steps=4, num_minibatches=1, network=Linear()))
    state, metrics = rlzoo.train(algo, KEY, 2)
    assert state.params["params"]["Dense_0"]["kernel"].shape == (4, 2)
    assert np.isfinite(metrics["loss/value"]).all()


def test_presets_build():
    for name, preset in ppo.presets.items():
        assert isinstance(preset.config, ppo.Config) and isinstance(preset.hyper, ppo.Hyper), name


def test_a_head_with_another_loss_is_not_clipped():
    env = rlzoo.envs.make("gymnax/CartPole-v1")
    for head in ("hl_gauss", "two_hot", "quantile"):
        with pytest.raises(ValueError, match=f"value_clip_eps=0.2 clips a squared error; head='{head}' has none"):
            ppo.make(env, ppo.Config(head=head), ppo.Hyper(value_clip_eps=0.2))
    ppo.make(env, ppo.Config(head="mean"), ppo.Hyper(value_clip_eps=0.2))
    with pytest.raises(ValueError, match="unknown head 'c51'"):  # whose targets are distributions; PPO's are numbers
        ppo.Config(head="c51")
