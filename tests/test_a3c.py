"""A3C against a literal loop in Python: one worker after another, one environment step after another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, assert_same_bits, copy, float64, named_leaves

import rlzoo
from rlzoo import a3c
from rlzoo.blocks import networks

KEY = jax.random.key(5)
HYPER = a3c.Hyper(
    learning_rate=1e-2,
    anneal_steps=1e3,
    gamma=0.9,
    entropy_coef=0.03,
    value_coef=0.7,
    max_grad_norm=8.0,
    decay=0.8,
    eps=1e-3,
    reward_clip=0.8,
)


@pytest.fixture(scope="module")
def env():
    """CartPole cut at nine steps, so that rollouts of five end early, by time limit and by falling."""
    import gymnax

    raw, params = gymnax.make("CartPole-v1")
    return rlzoo.envs.make(raw, params=params.replace(max_steps_in_episode=9, tau=0.06))


def make(env, **fields):
    return a3c.make(env, a3c.Config(**({"num_workers": 4, "t_max": 5, "hidden": (8,)} | fields)), HYPER)


def worker(w, tree):
    return jax.tree.map(lambda x: x[w], tree)


class Literal:
    """Alg. S3 for W workers in a given order. Nothing of rlzoo.algorithms is called but for the network's forward."""

    def __init__(self, algo, state):
        config = algo.config
        network = networks.actor_critic(algo.env, config.hidden, config.activation, config.init_std)
        self.algo, self.forward, self.env_step = algo, jax.jit(network.apply), jax.jit(algo.env.step)
        self.gradient = jax.jit(jax.grad(self.loss))
        self.params = state.params
        self.g = jax.tree.map(np.zeros_like, float64(state.params))
        self.snapshots = [state.params] * config.num_workers
        self.envs = [worker(w, (state.envs.state, state.envs.obs)) for w in range(config.num_workers)]
        self.env_steps, self.key = 0, state.key
        self.history, self.snapshot_at = [state.params], [0] * config.num_workers
        self.staleness, self.lengths, self.ends, self.norms = [], [], [], []

    def loss(self, params, obs, action, target, taken):
        """The sum over the steps taken, with the logarithms written out."""
        pi, value = self.forward(params, obs)
        probs = jnp.exp(pi.logits) / jnp.exp(pi.logits).sum(-1, keepdims=True)
        log_prob = jnp.log(probs[jnp.arange(len(action)), action])
        advantage = target - jax.lax.stop_gradient(value)
        entropy = -(probs * jnp.log(probs)).sum(-1)
        each = -log_prob * advantage - HYPER.entropy_coef * entropy + HYPER.value_coef * 0.5 * (target - value) ** 2
        return (taken * each).sum()

    def turn(self, w, key):
        params, (env_state, obs) = self.snapshots[w], self.envs[w]
        steps = []
        for step_key in jax.random.split(key, self.algo.config.t_max):
            act_key, env_key = jax.random.split(step_key)
            action = self.forward(params, obs)[0].sample(act_key)
            env_state, now = self.env_step(env_key, env_state, action, self.algo.task)
            steps.append((obs, action, float(now.reward)))
            obs = now.obs
            if now.terminated or now.truncated:
                break
        self.envs[w] = env_state, obs
        self.ends.append((bool(now.terminated), bool(now.truncated)))
        total = 0.0 if now.terminated else float(self.forward(params, now.next_obs)[1])
        targets = []
        for _, _, reward in reversed(steps):
            total = min(reward, HYPER.reward_clip) + HYPER.gamma * total
            targets.append(total)
        n, short = len(steps), self.algo.config.t_max - len(steps)  # padded, so that one program serves all lengths
        obs_, action_ = (jnp.stack([step[i] for step in steps] + [steps[0][i]] * short) for i in (0, 1))
        target_ = jnp.array(targets[::-1] + [0.0] * short, jnp.float32)
        grads = float64(self.gradient(params, obs_, action_, target_, jnp.arange(n + short) < n))

        norm = np.sqrt(sum((x**2).sum() for x in jax.tree.leaves(grads)))
        grads = jax.tree.map(lambda x: x * min(1.0, HYPER.max_grad_norm / norm), grads)
        self.env_steps += n
        rate = HYPER.learning_rate * (1.0 - self.env_steps / HYPER.anneal_steps)
        self.g = jax.tree.map(lambda g, x: HYPER.decay * g + (1 - HYPER.decay) * x**2, self.g, grads)
        self.params = jax.tree.map(
            lambda p, x, g: np.asarray(p - rate * x / np.sqrt(g + HYPER.eps), np.float32), self.params, grads, self.g
        )
        self.staleness.append(len(self.history) - 1 - self.snapshot_at[w])
        self.history.append(self.params)
        self.snapshots[w], self.snapshot_at[w] = self.params, len(self.history) - 1
        self.lengths.append(n)
        self.norms.append(norm)

    def rounds(self, orders):
        for order in orders:
            self.key, round_key = jax.random.split(self.key)
            for w, key in zip(order, jax.random.split(round_key, len(order)), strict=True):
                self.turn(int(w), key)
        return self


def assert_equal_to(literal, state):
    assert_close(state.params, literal.params, rtol=2e-4, atol=2e-5)
    for w, snapshot in enumerate(literal.snapshots):
        assert_close(worker(w, state.snapshots), snapshot, rtol=2e-4, atol=2e-5)
    assert int(state.env_steps) == literal.env_steps == sum(literal.lengths)
    np.testing.assert_array_equal(state.synced, literal.snapshot_at)
    np.testing.assert_allclose(state.envs.obs, np.stack([obs for _, obs in literal.envs]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("schedule", ["round-robin", "sequential"])
@pytest.mark.parametrize("workers", [1, 4])
def test_equal_to_the_literal_loop(env, schedule, workers):
    """Checks 1, 2, 3, 7 and 8 of the specification; W = 1 is synchronous n-step actor-critic."""
    algo = make(env, schedule=schedule, num_workers=workers)
    rounds = 24 // workers
    literal = Literal(algo, rlzoo.init(algo, KEY)).rounds([range(workers)] * rounds)
    state, metrics = rlzoo.train(algo, KEY, rounds)
    assert_equal_to(literal, state)
    # The run saw what it is to be right about: both kinds of end, early ends, gradients on both sides of the norm.
    assert {(False, True), (True, False), (False, False)} <= set(literal.ends)
    assert min(literal.lengths) < algo.config.t_max and max(literal.lengths) == algo.config.t_max
    assert min(literal.norms) < HYPER.max_grad_norm < max(literal.norms)
    # Staleness: w in round 0, and exactly W - 1 from then on.
    assert literal.staleness == [*range(workers), *[workers - 1] * workers * (rounds - 1)]
    np.testing.assert_allclose(metrics["worker/staleness_max"], workers - 1)
    np.testing.assert_allclose(metrics["worker/staleness_mean"][1:], workers - 1)
    np.testing.assert_allclose(metrics["worker/steps"].sum(), literal.env_steps)


def test_random_schedule_is_the_literal_loop_in_another_order(env):
    speeds = (1.0, 2.0, 4.0, 8.0)
    algo = make(env, schedule="random", speeds=speeds, schedule_seed=3)
    order_key = jax.random.key(3)
    orders = [
        jax.random.categorical(jax.random.fold_in(order_key, r), jnp.log(jnp.array(speeds)), shape=(4,))
        for r in range(6)
    ]
    literal = Literal(algo, rlzoo.init(algo, KEY)).rounds(orders)
    state, metrics = rlzoo.train(algo, KEY, 6)
    assert_equal_to(literal, state)
    staleness = np.array(literal.staleness).reshape(6, 4)
    np.testing.assert_allclose(metrics["worker/staleness_mean"], staleness.mean(1))
    np.testing.assert_allclose(metrics["worker/staleness_max"], staleness.max(1))


def test_round_side_by_side_equals_the_round_in_turn(env):
    """Check 2 over a longer run: to rounding, and bit for bit in what is counted."""
    side, turn = (rlzoo.train(make(env, schedule=s), KEY, 50) for s in ("round-robin", "sequential"))
    assert_close(side[0].params, turn[0].params, rtol=1e-3, atol=1e-4)
    assert_same_bits((side[0].synced, side[0].env_steps), (turn[0].synced, turn[0].env_steps))
    assert_same_bits(
        worker(-1, side[0].snapshots), side[0].params
    )  # worker W - 1 synchronised last, with the newest parameters


def test_random_schedule_keeps_the_speeds_and_has_a_seed(env):
    speeds = (1.0, 1.0, 2.0, 4.0)

    def trained(seed):
        return rlzoo.train(make(env, schedule="random", speeds=speeds, schedule_seed=seed), KEY, 400)

    state, metrics = trained(0)
    assert_same_bits(state, trained(0)[0])
    assert not np.array_equal(state.synced, trained(1)[0].synced)
    # Worker w waits 8 / speed_w updates on average between its own; over all updates the mean staleness is W - 1.
    staleness = np.asarray(metrics["worker/staleness_mean"])[20:]
    assert staleness.mean() == pytest.approx(3.0, abs=0.3)
    assert metrics["worker/staleness_max"].max() > 10


def test_slow_workers_act_with_older_parameters(env):
    state, _ = rlzoo.train(make(env, schedule="random", speeds=(1.0, 1.0, 1.0, 97.0)), KEY, 100)
    age = 400 - np.asarray(state.synced)
    assert age[3] <= 3 and (age[:3] > 5).all()


def test_steps_after_the_end_are_not_taken():
    """Check 8: with episodes of five steps, rollouts of up to fifty are rollouts of five, bit for bit."""
    import gymnax

    raw, params = gymnax.make("Pendulum-v1")
    env = rlzoo.envs.make(raw, params=params.replace(max_steps_in_episode=5))
    (short, short_metrics), (long, long_metrics) = (rlzoo.train(make(env, t_max=t), KEY, 3) for t in (5, 50))
    assert int(long.env_steps) == 3 * 4 * 5 and float(long_metrics["worker/steps"][0]) == 20
    assert_close(long, short, rtol=1e-5, atol=1e-6)
    assert_close(long_metrics, short_metrics, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(long.envs.episode_length, np.zeros(4))  # held at the start of a fresh episode


def test_actor_critic_loss_and_its_gradients():
    """Check 6: the advantage is a constant of the policy's term, the target of the value's."""
    log_prob, value, target = jnp.array([-0.5, -2.0]), jnp.array([1.0, 3.0]), jnp.array([4.0, 1.0])
    surrogate, error = a3c.actor_critic_loss(log_prob, value, target)
    np.testing.assert_allclose(surrogate, [1.5, -4.0])
    np.testing.assert_allclose(error, [4.5, 2.0])
    grads = jax.grad(lambda *xs: a3c.actor_critic_loss(*xs)[0].sum(), (0, 1, 2))(log_prob, value, target)
    np.testing.assert_allclose(grads, [[-3.0, 2.0], [0.0, 0.0], [0.0, 0.0]])
    grads = jax.grad(lambda *xs: a3c.actor_critic_loss(*xs)[1].sum(), (0, 1, 2))(log_prob, value, target)
    np.testing.assert_allclose(grads, [[0.0, 0.0], [-3.0, 2.0], [0.0, 0.0]])  # -(R - V) dV


def test_entropy_bonus_raises_the_entropy(env):
    state = rlzoo.init(make(env), KEY)
    sharp = jax.tree_util.tree_map_with_path(
        lambda path, x: (
            x * 100.0 if "actor" in jax.tree_util.keystr(path) and "Dense_1" in jax.tree_util.keystr(path) else x
        ),
        state.params,
    )
    state = state._replace(params=sharp, snapshots=jax.tree.map(lambda x: jnp.stack([x] * 4), sharp))
    algo = make(env)
    entropy = {}
    for coef in (0.0, 1.0):
        _, metrics = rlzoo.resume(algo._replace(hyper=HYPER._replace(entropy_coef=coef)), copy(state), 20)
        entropy[coef] = float(metrics["policy/entropy"][-1])
    assert entropy[1.0] > entropy[0.0] + 0.02


def test_statistics_of_rmsprop_are_shared(env):
    """Check 4: two workers' gradients accumulate in one g."""
    algo = make(env, num_workers=2)
    state, _ = rlzoo.train(algo, KEY, 1)
    literal = Literal(algo, rlzoo.init(algo, KEY)).rounds([range(2)])
    shapes = [x.shape for x in jax.tree.leaves(state.params)]
    found = [x for _, x in named_leaves(state.opt_state)]
    assert [x.shape for x in found] == shapes
    for a, b in zip(found, jax.tree.leaves(literal.g), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-7)


def test_presets_build():
    for name, preset in a3c.presets.items():
        assert isinstance(preset.config, a3c.Config) and isinstance(preset.hyper, a3c.Hyper), name
