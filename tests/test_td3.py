"""TD3 and DDPG against NumPy: one whole update with gradients by finite differences; td3.md, section 7."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import (
    assert_close,
    assert_same_bits,
    copy,
    finite_differences,
    float64,
    numpy_act,
    numpy_adam,
    numpy_adam_state,
    numpy_feed_forward,
    plane,
)

import rlzoo
from rlzoo import td3, td3_bc
from rlzoo.blocks import networks, replay

KEY = jax.random.key(8)
SMALL = {
    "num_envs": 2,
    "num_steps": 3,
    "num_updates": 2,
    "batch_size": 12,
    "capacity": 60,
    "warmup": 24,
    "hidden": (4,),
}
RATES = {"actor_learning_rate": 1e-2, "critic_learning_rate": 2e-2}
HYPER = td3.Hyper(**RATES, gamma=0.9, tau=0.3, policy_noise=0.6, noise_clip=0.4, value_low=-3.0, value_high=5.0)
Z = np.linspace(-3.0, 5.0, 5)


def softmax(x):
    p = np.exp(x - x.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def steps_of(replay, row, n):
    """n steps of one environment of two, or as many as there are before an end."""
    total = 0.0
    for k in range(n):
        now = jax.tree.map(lambda x: x[row + 2 * k], replay)  # noqa: B023
        total += 0.9**k * now.reward
        if now.terminated or now.truncated or k == n - 1:
            return total, 0.9 ** (k + 1) * (not now.terminated), now.next_obs


CASES = {
    "td3": ({}, {}),
    "n steps": ({"n_step": 3, "num_critics": 3}, {}),
    "ddpg": ({"num_critics": 1, "policy_delay": 1}, {"policy_noise": 0.0}),
    "c51": ({"head": "c51", "num_bins": 5}, {}),
    "quantile": ({"head": "quantile", "num_bins": 5}, {"kappa": 0.5}),
}


@pytest.mark.parametrize(("options", "numbers"), CASES.values(), ids=CASES)
def test_one_update_against_numpy(options, numbers):
    config, hyper = td3.Config(**SMALL | options), HYPER._replace(**numbers)
    algo, n, E = td3.make(plane(), config, hyper), config.n_step, config.num_critics
    start = copy(rlzoo.train(algo, KEY, 2)[0])  # so that Adam's averages, and the targets, are not those of the start
    after, metrics = rlzoo.resume(algo, copy(start), 1)

    _, _, row_key, learn_key, _ = jax.random.split(start.key, 5)
    rows = np.asarray(jax.random.randint(row_key, (24,), 0, 24 + 3 * 6 - 2 * (n - 1))).reshape(2, 12)
    noise = np.asarray(jax.random.normal(learn_key, (2, 12, 2)), np.float64)
    rows_there = float64(after.replay)
    params, target, opt_state = float64(start.params), float64(start.target), start.opt_state

    def value(out):
        return {"scalar": lambda: out[..., 0], "c51": lambda: softmax(out) @ Z, "quantile": lambda: out.mean(-1)}[
            config.head
        ]()

    def outputs(critics, obs, action):
        x = np.concatenate([obs, action], -1)
        return np.stack([numpy_feed_forward(jax.tree.map(lambda x: x[i], critics)["params"], x) for i in range(E)])  # noqa: B023

    errors, ended = [], False
    for update, (some, draw) in enumerate(zip(rows, noise, strict=True)):
        obs, action = rows_there.obs[some], rows_there.action[some]
        reward, discount, next_obs = map(np.array, zip(*(steps_of(rows_there, row, n) for row in some), strict=True))
        ended |= (discount == 0.0).any()
        moved = np.clip(hyper.policy_noise * draw, -0.4, 0.4)
        next_action = np.clip(numpy_act(target.actor, next_obs) + moved, -1.0, 1.0)
        assert (np.abs(next_action) <= 1.0).all() and (np.abs(moved) <= 0.4).all()
        next_out = outputs(target.critics, next_obs, next_action)
        least = value(next_out).argmin(0)
        targets = []
        for b in range(12):
            out = next_out[least[b], b]
            at = {"scalar": out, "c51": Z, "quantile": out}[config.head]
            share = softmax(out) if config.head == "c51" else np.full(len(at), 1.0 / len(at))
            targets.append((reward[b] + discount[b] * at, share))

        def loss(critics):
            out, total = outputs(critics, obs, action), 0.0  # noqa: B023
            for i in range(E):
                for b, (at, share) in enumerate(targets):  # noqa: B023
                    mine = out[i, b]
                    if config.head == "scalar":
                        total += (mine[0] - at[0]) ** 2
                    elif config.head == "c51":
                        place = (np.clip(at, Z[0], Z[-1]) - Z[0]) / (Z[1] - Z[0])
                        hats = np.maximum(0.0, 1.0 - np.abs(place[:, None] - np.arange(5)))
                        total -= (share @ hats * np.log(softmax(mine))).sum()
                    else:
                        u = at[None] - mine[:, None]
                        bent = np.where(np.abs(u) <= 0.5, 0.5 * u**2, 0.5 * (np.abs(u) - 0.25)) / 0.5
                        tau = (np.arange(5) + 0.5)[:, None] / 5
                        total += (np.abs(tau - (u < 0)) * bent * share).sum()
            return total / 12

        errors.append(loss(params.critics))
        grads = finite_differences(loss, params.critics)
        critics = numpy_adam(params.critics, grads, opt_state.critics, 2e-2)
        opt_state = opt_state._replace(critics=numpy_adam_state(opt_state.critics, grads, params.critics))
        params = params._replace(critics=critics)
        if (update + 1) % config.policy_delay == 0:

            def policy_loss(actor):
                return -value(outputs(critics, obs, numpy_act(actor, obs)))[0].mean()  # noqa: B023

            grads = finite_differences(policy_loss, params.actor)
            actor = numpy_adam(params.actor, grads, opt_state.actor, 1e-2)
            opt_state = opt_state._replace(actor=numpy_adam_state(opt_state.actor, grads, params.actor))
            params = params._replace(actor=actor)
            target = jax.tree.map(lambda old, new: old + 0.3 * (new - old), target, params)
    assert ended
    assert float(metrics["loss/critic"][0]) == pytest.approx(np.mean(errors), rel=1e-4)
    assert_close(after.params, params, rtol=1e-4, atol=3e-5)
    assert_close(after.target, target, rtol=1e-4, atol=3e-5)


def test_critics_learn_as_in_td3_bc():
    """On one frozen minibatch bit for bit; the policy by td3_bc's value term, its weight undone and nothing cloned."""
    algo = td3.make(plane(), td3.Config(**SMALL), HYPER)
    state = rlzoo.init(algo, KEY)
    net = lambda features: networks.FeedForward(features, (2,), (4,))  # noqa: E731
    nets, rows = networks.TwinCritics(net(2), net(1)), jnp.arange(12)
    adam = optax.adam(2e-2)
    noise = jax.random.normal(KEY, (12, 2))
    hyper = td3_bc.Hyper(gamma=0.9, policy_noise=0.6, noise_clip=0.4)
    task = type("Task", (), {"transitions": state.replay})
    carry = state.params.critics, state.opt_state.critics
    expected = td3_bc.critic_step(nets, adam, state.target, task, hyper, carry, rows, noise)
    batch = replay.take_steps(state.replay, rows, 1, 2, 0.9)
    assert_same_bits(td3_bc.learned(nets, adam, state.target, batch, HYPER, carry, noise), expected)

    obs = state.replay.obs[:12]
    q = lambda actor: nets.first_q(state.params.critics, obs, nets.act(actor, obs))  # noqa: E731
    ours = jax.grad(lambda actor: -q(actor).mean())(state.params.actor)
    theirs = jax.grad(lambda actor: td3_bc.value_loss(q(actor), 1.0).mean())(state.params.actor)
    size = float(jnp.abs(q(state.params.actor)).mean())
    assert_close(ours, jax.tree.map(lambda x: size * x, theirs), rtol=1e-4, atol=1e-7)


def test_policy_and_targets_step_once_in_so_many_critic_steps():
    """Of 4 critic steps with a delay of 4 and of 2: once and twice, by Adam's count."""
    for delay in (4, 2):
        config = td3.Config(**SMALL | {"num_updates": 4, "policy_delay": delay})
        state, _ = rlzoo.train(td3.make(plane(), config, HYPER), KEY, 3)
        assert int(state.opt_state.critics[0].count) == 12 and int(state.opt_state.actor[0].count) == 12 // delay
    still, _ = rlzoo.train(td3.make(plane(), config, HYPER._replace(tau=0.0)), KEY, 3)
    assert_same_bits(still.target, rlzoo.init(td3.make(plane(), config, HYPER), KEY).target)


def test_acting():
    """Noise of the given share of the half width before it is clipped, none where the policy is deterministic."""
    algo = td3.make(plane(), td3.Config(**SMALL), HYPER._replace(exploration_noise=0.2))
    state = rlzoo.init(algo, KEY)
    obs = jnp.zeros((100_000, 2))
    actor = algo.actor(state)
    mean = np.asarray(algo.policy(actor, obs, KEY, deterministic=True))
    assert (mean == mean[0]).all() and (np.abs(mean[0]) < np.array([0.4, 1.2])).all()
    drawn = np.asarray(algo.policy(actor, obs, KEY))
    np.testing.assert_allclose(drawn.std(0), 0.2 * np.array([1.0, 3.0]), rtol=0.01)
    np.testing.assert_allclose(drawn.mean(0), mean[0], atol=0.01)
    assert (np.abs(drawn) <= np.array([1.0, 3.0])).all()


def test_the_warm_up_is_uniform_over_the_box_and_counts():
    config = td3.Config(**SMALL | {"num_envs": 20, "num_steps": 3, "capacity": 6000, "warmup": 6000})
    algo = td3.make(plane(), config, HYPER)
    assert algo.warmup_steps == 6000
    action = np.asarray(rlzoo.init(algo, KEY).replay.action)
    for axis in range(2):
        counts, _ = np.histogram(action[:, axis], 10, (-1.0, 1.0))
        assert ((counts - 600) ** 2 / 600).sum() < 34  # 9 degrees of freedom: p < 1e-4 beyond


def test_noise_of_many_environments():
    many = SMALL | {"num_envs": 4, "num_steps": 1, "capacity": 64, "warmup": 64}
    ladder = td3.make(plane(), td3.Config(**many, noise="ladder"), HYPER)
    state, _ = rlzoo.train(ladder, KEY, 2)
    np.testing.assert_allclose(state.noise, 0.05 * 10.0 ** (np.arange(4) / 3), rtol=1e-5)
    drawn = td3.make(plane(), td3.Config(**many, noise="drawn"), HYPER)
    state, seen = rlzoo.init(drawn, KEY), []
    for _ in range(12):
        before = copy((state.noise, state.envs.episode_length))
        state, _ = rlzoo.resume(drawn, state, 1)
        ended = np.asarray(state.envs.episode_length) == 0.0
        assert ((np.asarray(state.noise) != np.asarray(before[0])) == ended).all()
        seen.append(ended)
    assert 0 < np.sum(seen) < np.size(seen)
    assert (np.asarray(state.noise) >= 0.05).all() and (np.asarray(state.noise) <= 0.5).all()


def test_bad_input():
    with pytest.raises(ValueError, match="discrete, 2 actions; TD3 needs a bounded box; for discrete ones take dqn"):
        td3.make(rlzoo.envs.make("gymnax/CartPole-v1"))
    for options, said in (
        ({"policy_delay": 3}, "policy_delay=3 does not divide num_updates = 2"),
        ({"noise": "lader"}, "unknown noise 'lader'; did you mean 'ladder'"),
        ({"n_step": 0}, "n_step=0"),
        ({"num_critics": 0}, "num_critics=0"),
        ({"n_step": 2000}, "n_step=2000 leaves"),
    ):
        with pytest.raises(ValueError, match=said):
            td3.Config(**options)
