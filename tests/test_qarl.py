"""QARL: the curriculum by hand, one gradient step against NumPy, and the eight checks of its specification."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    assert_close,
    assert_same_bits,
    finite_differences,
    float64,
    numpy_adam,
    numpy_feed_forward,
    numpy_q,
    numpy_squashed,
    plane,
)
from scipy import integrate, stats

import rlzoo
from rlzoo.algorithms import qarl
from rlzoo.drivers.train import float32
from rlzoo.envs import adversarial, with_adversary
from rlzoo.types import Transition

KEY = jax.random.key(12)
HYPER = qarl.Hyper(
    actor_learning_rate=1e-2, critic_learning_rate=2e-2, temperature_learning_rate=3e-2, gamma=0.9, tau=0.1
)
# `plane` has episodes of 10 steps or fewer: 20 steps a phase are 6 chunks and 2 steps that are left.
SMALL = qarl.Config(
    num_episodes=2, batch_size=8, capacity=90, critic_start=0, actor_start=0, hidden=(4, 3), update_every=3
)


@pytest.fixture(scope="module")
def game():
    return adversarial(plane(), on="action", max_force=0.3)


@pytest.fixture(scope="module")
def algo(game):
    return qarl.make(game, SMALL, HYPER)


# --- the curriculum ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [(50.0, 43.0), (1.0, 7.5), (3.3, 3.3), (0.6, 20.0)])
def test_divergence_of_gammas_by_integration(first, second):
    one, two = stats.gamma(first, scale=1e-3), stats.gamma(second, scale=1e-3)
    integrand = lambda u: one.pdf(one.ppf(u)) and (one.logpdf(one.ppf(u)) - two.logpdf(one.ppf(u)))  # noqa: E731
    wanted, _ = integrate.quad(integrand, 0.0, 1.0, limit=400)
    with jax.enable_x64(True):
        assert float(qarl.gamma_kl(jnp.float64(first), jnp.float64(second))) == pytest.approx(wanted, abs=1e-6)
    assert float(qarl.gamma_kl(jnp.float32(first), jnp.float32(second))) == pytest.approx(wanted, abs=1e-4)


def test_the_fastest_schedule():
    """The list of the specification, where the threshold never binds."""
    wanted = [43.294, 37.081, 31.361, 26.134, 21.398, 17.153, 13.398, 10.131, 7.350, 5.052, 3.232, 1.881, 1.0, 1.0]
    shape, found = jnp.float32(50.0), []
    step = jax.jit(qarl.next_shape)
    for key in jax.random.split(KEY, len(wanted)):
        alpha = jax.random.gamma(key, shape, (30,)) / 1000.0
        shape = step(shape, alpha, jnp.full(30, 1e9), float32(qarl.Hyper()))
        found.append(float(shape))
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_the_threshold():
    """Below it nothing moves, bit for bit; above it the new shape keeps all bounds, and a step more breaks one."""
    hyper, step = float32(qarl.Hyper(threshold=10.0)), jax.jit(qarl.next_shape)
    bound = 0
    for key in jax.random.split(KEY, 20):
        draw_key, return_key, shape_key = jax.random.split(key, 3)
        old = jax.random.uniform(shape_key, minval=2.0, maxval=50.0)
        alpha = jax.random.gamma(draw_key, old, (30,)) / 1000.0
        slope = 40.0 * jax.random.uniform(return_key)  # rational adversaries cost more
        returns = 12.0 + slope * (alpha * 1000.0 / old - 1.0)
        assert_same_bits(step(old, alpha, returns - 10.0, hyper), old)
        new = step(old, alpha, returns, hyper)
        perf = lambda c: qarl.performance(c, old, 1000.0, alpha, returns)  # noqa: B023, E731
        if perf(old) < 10.0:
            assert_same_bits(new, old)
            continue
        assert 1.0 <= new <= old and qarl.gamma_kl(new, old) <= 0.5 + 1e-3 and perf(new) >= 10.0 - 1e-3
        further = new - 0.02 * (old - 1.0)
        assert further < 1.0 or qarl.gamma_kl(further, old) > 0.5 or perf(further) < 10.0
        bound += bool(qarl.gamma_kl(new, old) < 0.45) and bool(new > 1.01)
    assert bound >= 3, "the threshold never bound; choose another slope"


def test_performance_by_hand():
    alpha, returns = np.array([0.03, 0.05, 0.08]), np.array([1.0, 2.0, 4.0])
    old, new = (stats.gamma(c, scale=1e-3).pdf(alpha) for c in (50.0, 47.0))
    found = qarl.performance(jnp.float32(47.0), jnp.float32(50.0), 1000.0, jnp.asarray(alpha), jnp.asarray(returns))
    assert float(found) == pytest.approx(np.mean(new / old * returns), rel=1e-4)


def test_the_budget_of_force():
    tau = jnp.array([0.2, 0.051, 0.050, 0.026, 0.001, 0.0])
    np.testing.assert_allclose(qarl.budget(tau, qarl.Hyper()), [0.0, 0.0, 0.02, 0.5, 1.0, 1.0], atol=1e-6)


# --- a gradient step --------------------------------------------------------------------------------------------------


def batch_of(nets_inputs=3, actions=2, rows=8, alpha=None, key=KEY):
    keys = jax.random.split(key, 5)
    obs, next_obs = (jax.random.normal(k, (rows, nets_inputs)) for k in keys[:2])
    alpha = jax.random.uniform(keys[4], (rows,), minval=0.1, maxval=0.9) if alpha is None else jnp.full(rows, alpha)
    obs, next_obs = (x.at[:, -1].set(alpha) for x in (obs, next_obs))
    ended = jnp.arange(rows) % 3 == 0
    action = jax.random.uniform(keys[2], (rows, actions), minval=-1.0)
    return Transition(obs, action, jax.random.normal(keys[3], (rows,)), ended, jnp.arange(rows) % 3 == 1, next_obs)


def learner_of(nets, batch, temperature=0.3):
    params = nets.init(KEY, batch.obs[:1], batch.action[:1], jnp.float32(temperature))
    target = nets.init(jax.random.key(2), batch.obs[:1], batch.action[:1], jnp.float32(temperature)).critics
    rates = HYPER.actor_learning_rate, HYPER.critic_learning_rate, HYPER.temperature_learning_rate
    parts = zip((params.actor, params.critics, params.log_temperature), rates, strict=True)
    return qarl.Learner(params, target, qarl.Params(*(qarl.optax.adam(rate).init(part) for part, rate in parts)))


def step_of(nets, learner, batch, of_rows, hyper=HYPER, acts=True, scale=lambda action: 2.0 * action):
    arguments = KEY, float32(hyper), -2.0, scale, of_rows, jnp.array(acts)
    return qarl.gradient_step(nets, learner, batch, *arguments)


@pytest.mark.parametrize("of_rows", [False, True])
def test_one_gradient_step_against_numpy(algo, of_rows):
    """Both kinds of temperature, with the critics behind the policy's step, to 1e-5."""
    nets, batch = qarl.networks_of(algo.env, SMALL).protagonist, batch_of()
    start = learner_of(nets, batch)
    after, metrics = step_of(nets, start, batch, of_rows)
    policy_key, target_key = jax.random.split(KEY)
    noise, next_noise = (np.asarray(jax.random.normal(k, (8, 2)), np.float64) for k in (policy_key, target_key))
    obs, next_obs = np.asarray(batch.obs, np.float64), np.asarray(batch.next_obs, np.float64)
    params, target = float64(start.params), float64(start.target)

    def sample(actor, x, noise):
        mean, log_std = (numpy_feed_forward(actor[name]["params"], x) for name in ("mean", "log_std"))
        return numpy_squashed(mean, np.exp(np.clip(log_std, -20, 2)), noise)

    def policy_loss(actor):
        action, log_prob = sample(actor, obs, noise)
        temperature = obs[:, -1] if of_rows else np.exp(params.log_temperature)
        return (temperature * log_prob - numpy_q(params.critics, obs, 2.0 * action).min(0)).mean()

    actor = numpy_adam(params.actor, finite_differences(policy_loss, params.actor), start.opt_state.actor, 1e-2)
    assert_close(after.params.actor, actor, rtol=1e-5, atol=1e-5)
    log_temperature = params.log_temperature
    if not of_rows:  # the gradient of -log T (log pi - 2) is their difference
        grad = -(sample(params.actor, obs, noise)[1] - 2.0).mean()
        log_temperature = numpy_adam(log_temperature, [grad], start.opt_state.log_temperature, 3e-2)
    np.testing.assert_allclose(after.params.log_temperature, log_temperature, rtol=1e-5)

    next_action, next_log_prob = sample(actor, next_obs, next_noise)
    temperature = next_obs[:, -1] if of_rows else np.exp(log_temperature)
    soft = numpy_q(target, next_obs, 2.0 * next_action).min(0) - temperature * next_log_prob
    wanted = np.asarray(batch.reward, np.float64) + 0.9 * (1 - np.asarray(batch.terminated)) * soft

    def critic_loss(critics):
        return ((numpy_q(critics, obs, np.asarray(batch.action, np.float64)) - wanted) ** 2).mean(-1).sum()

    grads = finite_differences(critic_loss, params.critics)
    critics = numpy_adam(params.critics, grads, start.opt_state.critics, 2e-2)
    assert_close(after.params.critics, critics, rtol=1e-5, atol=1e-5)
    assert float(metrics["loss/critic"]) == pytest.approx(critic_loss(params.critics), rel=1e-5)
    assert_close(after.target, jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, target, critics), atol=1e-5)


def test_before_their_start_policy_and_temperature_rest_and_critics_learn(algo):
    nets, batch = qarl.networks_of(algo.env, SMALL).protagonist, batch_of()
    start = learner_of(nets, batch)
    after, _ = step_of(nets, start, batch, of_rows=False, acts=False)
    assert_same_bits(after.params.actor, start.params.actor)
    assert_same_bits(after.opt_state.actor, start.opt_state.actor)
    assert_same_bits(after.params.log_temperature, start.params.log_temperature)
    assert int(after.opt_state.critics[0].count) == 1


def test_an_irrational_adversary_maximises_its_entropy(algo):
    """alpha = 1e6: its gradient is alpha grad E[log pi], whatever it earns; trained, it acts all but uniformly."""
    nets, batch = qarl.networks_of(algo.env, SMALL).adversary, batch_of(alpha=1e6)
    start = learner_of(nets, batch)
    policy_key = jax.random.split(KEY)[0]

    def entropy_loss(actor):
        return 1e6 * nets.sample(actor, batch.obs, policy_key)[1].mean()

    wanted = jax.grad(entropy_loss)(start.params.actor)
    after, _ = step_of(nets, start, batch, of_rows=True)
    found = jax.tree.map(lambda m: m / 0.1, after.opt_state.actor[0].mu)  # Adam's average of one gradient
    size = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(wanted))
    assert_close(found, wanted, rtol=1e-4, atol=1e-5 * size)

    several = jax.jit(lambda learner, rows: step_of(nets, learner, rows, of_rows=True)[0])

    def learned(alpha, sign):
        """The policy after a few steps, by when its critics know the rewards."""
        learner, rows = start, batch_of(alpha=alpha)
        for _ in range(5):
            learner = several(learner, rows._replace(reward=sign * 10.0 * rows.reward))
        return jnp.concatenate([x.ravel() for x in jax.tree.leaves(learner.params.actor)])

    np.testing.assert_allclose(learned(1e6, 1.0), learned(1e6, -1.0), atol=1e-4)
    assert jnp.abs(learned(0.01, 1.0) - learned(0.01, -1.0)).max() > 1e-3

    blind = without_alpha(qarl.networks_of(algo.env, replace(SMALL, hidden=(16,))).adversary)
    learner, rows = learner_of(blind, batch), batch_of(alpha=1e6, rows=64)
    irrational = float32(HYPER._replace(actor_learning_rate=3e-3)), -2.0, lambda action: action, True, jnp.array(True)
    train = jax.jit(lambda learner, key: (qarl.gradient_step(blind, learner, rows, key, *irrational)[0], None))
    learner, _ = jax.lax.scan(train, learner, jax.random.split(KEY, 600))
    _, log_prob = blind.sample(learner.params.actor, jnp.repeat(rows.obs, 50, axis=0), KEY)
    assert float(-log_prob.mean()) > 2 * np.log(2.0) - 0.1


def without_alpha(nets):
    """The same networks, which do not see the last entry of an observation."""

    class Blind:
        def __init__(self, module):
            self.module = module

        def init(self, key, x, *action):
            return self.module.init(key, x[..., :-1], *action)

        def apply(self, params, x, *action):
            return self.module.apply(params, x[..., :-1], *action)

    return qarl.Networks(Blind(nets.head), Blind(nets.critic))


def test_at_one_temperature_it_is_sac_at_that_temperature(game):
    """Rows with alpha = 1 that the networks do not see, and a temperature of 1 that is not learned: the same bits."""
    nets = without_alpha(qarl.networks_of(game.env, replace(SMALL, opponent="rational")).adversary)
    batch = batch_of(alpha=1.0)
    start = learner_of(nets, batch, temperature=1.0)
    fixed = HYPER._replace(temperature_learning_rate=0.0)
    one, two = (step_of(nets, start, batch, of_rows, fixed)[0] for of_rows in (True, False))
    assert_same_bits(one.params, two.params)
    assert_same_bits(one.target, two.target)


def test_the_temperature_of_a_row_changes_the_target_of_that_row(game):
    """By -gamma (1 - terminated) d alpha log pi(a'|x'): read off the critics' error."""
    nets = without_alpha(qarl.networks_of(game.env, replace(SMALL, opponent="rational")).adversary)
    batch = batch_of()
    start = learner_of(nets, batch)
    hotter = batch._replace(next_obs=batch.next_obs.at[4, -1].add(0.5))
    still = HYPER._replace(actor_learning_rate=0.0)
    (after, before) = (step_of(nets, start, x, True, still)[1] for x in (hotter, batch))
    _, next_log_prob = nets.sample(start.params.actor, batch.next_obs, jax.random.split(KEY)[1])
    moved = -0.9 * 0.5 * float(next_log_prob[4])  # row 4 goes on
    q = np.asarray(nets.q(start.params.critics, batch.obs, batch.action), np.float64)[:, 4]
    action, log_prob = nets.sample(start.params.actor, batch.next_obs, jax.random.split(KEY)[1])
    next_q = nets.q(start.target, batch.next_obs, 2.0 * action).min(0)
    y = float(batch.reward[4] + 0.9 * (next_q[4] - batch.next_obs[4, -1] * log_prob[4]))
    wanted = (((q - y - moved) ** 2 - (q - y) ** 2) / 8).sum()
    assert float(after["loss/critic"] - before["loss/critic"]) == pytest.approx(wanted, rel=1e-3, abs=1e-5)
    ended = batch._replace(next_obs=batch.next_obs.at[3, -1].add(0.5))  # row 3 is terminated
    assert float(step_of(nets, start, ended, True, still)[1]["loss/critic"]) == float(before["loss/critic"])


# --- an iteration -----------------------------------------------------------------------------------------------------


def iterated(algo, num_iterations):
    """As `rlzoo.train`, one iteration after another: another number would be another program to compile."""
    state, each = rlzoo.init(algo, KEY), []
    for _ in range(num_iterations):
        state, metrics = rlzoo.resume(algo, state, 1)
        each.append(metrics)
    return state, jax.tree.map(lambda *x: np.concatenate(x), *each)


@pytest.fixture(scope="module")
def trained(algo):
    return iterated(algo, 4)


def test_what_the_replays_hold(algo, trained):
    """Alphas that were drawn, the same before and after a step; rewards of opposite signs; actions in their units."""
    state, _ = trained
    drawn = np.unique(np.asarray(state.curriculum.alpha))
    for role in ("adversary", "protagonist"):
        rows = getattr(state.replay, role)
        used = np.asarray(rows.obs[:72])  # 4 iterations of 6 chunks of 3
        assert not np.asarray(rows.obs[72:]).any() and used[:, :2].any(axis=1).all()
        np.testing.assert_array_equal(rows.obs[:, -1], rows.next_obs[:, -1])
        assert np.isin(used[18:, -1], drawn).all()  # of the last three iterations
        ended = np.asarray(rows.terminated)
        assert ended.any() and (np.asarray(rows.next_obs)[ended, 0] > 0.3).all()  # beyond the line, not reset
        width = [0.3, 0.3] if role == "adversary" else [1.0, 3.0]
        assert (np.abs(np.asarray(rows.action)) <= np.array(width) * 1.00001).all()
        assert (np.abs(np.asarray(rows.action)[:72]).max(0) > 0.5 * np.array(width)).all()
    # plane's reward is at most 0.5, where the point is at the origin.
    assert float(state.replay.protagonist.reward.max()) <= 0.5 and float(state.replay.adversary.reward.min()) >= -0.5
    assert float(state.replay.protagonist.reward.min()) < -0.6 and float(state.replay.adversary.reward.max()) > 0.6


def test_phases_are_isolated_and_of_the_right_length(algo, trained):
    """6 gradient steps of each player an iteration; what only the protagonist learns by changes nothing before it."""
    state, _ = trained
    for role in ("adversary", "protagonist"):
        opt_state = getattr(state.opt_state, role)
        assert int(opt_state.critics[0].count) == int(opt_state.actor[0].count) == 4 * 6
    other = algo._replace(hyper=algo.hyper._replace(target_entropy=3.0))
    one, two = (iterated(x, 1)[0] for x in (algo, other))
    for part in ("params", "target", "opt_state", "replay"):
        assert_same_bits(getattr(one, part).adversary, getattr(two, part).adversary)
    assert not np.array_equal(one.params.protagonist.log_temperature, two.params.protagonist.log_temperature)
    assert one.params.adversary.log_temperature == ()  # never learned


def test_starts_of_learning(game):
    """Critics from beyond 20 transitions, policies from beyond 40: 18 an iteration."""
    algo = qarl.make(game, replace(SMALL, critic_start=20, actor_start=40), HYPER)
    state = rlzoo.init(algo, KEY)
    counts = []
    for _ in range(3):
        state, _ = rlzoo.resume(algo, state, 1)
        opt_state = state.opt_state.protagonist
        counts.append((int(opt_state.critics[0].count), int(opt_state.actor[0].count)))
    # Of iteration 2 the blocks that make 21 to 36 rows, of iteration 3 all; policies the blocks that make 42 to 54.
    assert counts == [(0, 0), (6, 0), (12, 5)]


def test_the_curriculum_moves_every_third_iteration(algo):
    """Where the threshold never binds; and not at all where it always does."""
    one, two = (
        iterated(algo._replace(hyper=algo.hyper._replace(threshold=x)), 7)[1]["curriculum/shape"] for x in (-1e9, 1e9)
    )
    np.testing.assert_allclose(one[:2], 50.0)
    np.testing.assert_allclose(one[2:5], one[2])
    assert one[2] < 45.0 and one[5] < one[2] and one[5] == one[6]
    assert (np.asarray(two) == 50.0).all()


def courses(num_iterations, hyper, **config):
    """Temperatures that would be drawn, [iterations, E], and the last curriculum; all returns 1."""
    config = replace(SMALL, **config)
    curriculum, drawn = qarl.Curriculum(jnp.float32(50.0), jnp.zeros((3, 4)), jnp.zeros((3, 4))), []
    for i in range(num_iterations):
        alpha = qarl.draw(config, curriculum, jax.random.fold_in(KEY, i), float32(hyper))
        drawn.append(alpha)
        curriculum = qarl.moved(config, curriculum, jnp.tile(alpha, 2), jnp.ones(4), float32(hyper), jnp.int32(i))
    return np.array(drawn), curriculum


def test_other_curricula():
    """Linear by the clock, point by steps of 0.001, and one draw for all episodes."""
    linear, _ = courses(6, HYPER._replace(linear_iterations=4.0), curriculum="linear")
    np.testing.assert_allclose(linear[:, 0], [0.05, 0.03775, 0.0255, 0.01325, 0.001, 0.001], rtol=1e-4)
    point, _ = courses(7, HYPER._replace(threshold=0.5), curriculum="point")
    np.testing.assert_allclose(point[:, 1], [0.05] * 3 + [0.049] * 3 + [0.048], rtol=1e-4)
    waiting, _ = courses(4, HYPER._replace(threshold=1.5), curriculum="point")
    np.testing.assert_allclose(waiting, 0.05, rtol=1e-5)
    least, _ = courses(7, HYPER._replace(threshold=0.5, point_step=0.04), curriculum="point")
    np.testing.assert_allclose(least[-1], 1e-8, rtol=1e-3)
    several, last = courses(3, HYPER._replace(threshold=1.5))
    assert len(np.unique(several)) == 6 and float(last.shape) == 50.0
    np.testing.assert_array_equal(last.alpha, np.tile(several, 2))
    single, _ = courses(3, HYPER, draws="iteration")
    assert (single[:, 0] == single[:, 1]).all() and len(np.unique(single)) == 3


@pytest.mark.slow
def test_an_adversary_with_a_budget(game):
    """The force curriculum: pushes stay within the share of the limit that both players see."""
    algo = qarl.make(game, replace(SMALL, opponent="budgeted"), HYPER)
    forced, metrics = rlzoo.train(algo, KEY, 3)
    rows = forced.replay.adversary
    assert (np.abs(rows.action) <= 0.3 * np.asarray(rows.obs)[:, -1:] + 1e-6).all()
    assert 0.0 <= float(metrics["curriculum/context"][-1]) < 0.5 and np.asarray(rows.action).any()
    assert float(forced.params.adversary.log_temperature) != pytest.approx(np.log(0.005))  # learned


def test_cats_attack_by_hand():
    """Down the normal's density, 2 to 27 times, and inside of its ball; its radius by the iteration."""
    mean, std = np.array([[0.1, -0.4], [0.0, 0.0]]), np.array([[0.5, 1.0], [2.0, 0.05]])
    action = np.array([[0.3, -0.2], [0.5, 0.9]])
    wanted = []
    for m, s, a in zip(mean, std, action, strict=True):
        at = a.copy()
        for i in range(27):
            change = -3.0 * stats.norm(m, s).pdf(at) * -(at - m) / s**2
            at = at + change
            if i and (np.abs(change) <= 1e-3).all():
                break
        wanted.append(at - a)
    far, near = (
        qarl.attack(*(jnp.asarray(x, jnp.float32) for x in (mean, np.log(std), action)), jnp.full(2, radius))
        for radius in (1e3, 0.2)
    )
    np.testing.assert_allclose(far, wanted, rtol=1e-4, atol=1e-5)
    sizes = np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(near, wanted * np.minimum(1.0, 0.2 / sizes), rtol=1e-4, atol=1e-5)
    shares = [float(qarl.attack_share(jnp.int32(i), qarl.Hyper())) for i in (0, 40, 70, 100, 160, 199, 300)]
    np.testing.assert_allclose(shares, [0.0, 0.0, 0.25, 0.5, 1.0, 1.0, 1.0], atol=1e-6)


@pytest.mark.slow
def test_cat_stores_what_was_done(game):
    """Disturbed actions are in the replay: what moved the environment, not what the policy wanted."""
    hyper = HYPER._replace(attack_iterations=1.0)
    algo = qarl.make(game, replace(SMALL, opponent="myopic"), hyper)
    state, _ = rlzoo.train(algo, KEY, 3)
    rows = state.replay.protagonist
    used = slice(18, 54)  # of the second and third iteration, at the whole radius
    moved = (np.asarray(rows.next_obs) - np.asarray(rows.obs))[used] / [0.5, 0.2]
    error = moved - np.asarray(rows.action)[used]
    assert np.abs(error.mean(0)).max() < 0.15 and (np.abs(error) < 5 * 0.1 / np.array([0.5, 0.2])).all()
    with pytest.raises(ValueError, match="opponent='myopic' disturbs actions, not N m"):
        qarl.make(adversarial(rlzoo.envs.make("gymnax/Pendulum-v1")), replace(SMALL, opponent="myopic"))


@pytest.mark.slow  # a program of its own for each
@pytest.mark.parametrize("opponent", ["rational", "none"])
def test_baselines_see_no_alpha(game, opponent):
    state, metrics = rlzoo.train(qarl.make(game, replace(SMALL, opponent=opponent), HYPER), KEY, 2)
    assert state.replay.protagonist.obs.shape[1] == 2 and "curriculum/shape" not in metrics and state.curriculum == ()
    assert (state.params.adversary == ()) == (opponent == "none")
    assert any("adversary" in name for name in metrics) == (opponent == "rational")


def test_a_homogeneous_protagonist_plays_at_alpha_too(game):
    """Its temperature is the row's, and not learned: where alpha is large, entropy is what it learns to have."""
    algo = qarl.make(game, replace(SMALL, homogeneous=True), HYPER)
    state, _ = rlzoo.train(algo, KEY, 2)
    assert state.params.protagonist.log_temperature == () == state.params.adversary.log_temperature
    q, bonus = algo.value(state, algo.hyper, jnp.zeros((3, 2)), jnp.zeros((3, 2)))
    assert q.shape == (3,) and not np.asarray(bonus).any()  # at alpha 0
    entropy = [  # of means of alpha of 0.001 and 3
        float(rlzoo.train(algo._replace(hyper=algo.hyper._replace(start_shape=c)), KEY, 2)[1]["policy/entropy"][-1])
        for c in (1.0, 3e3)
    ]
    assert entropy[1] > entropy[0] + 0.1, entropy


@pytest.mark.slow  # two programs
def test_a_full_replay_forgets_the_oldest_rows(game):
    """18 rows of 6 blocks an iteration into a replay of 30: after three the last 30 of 54, newest up to row 24."""
    whole = qarl.make(game, replace(SMALL, capacity=90), HYPER)
    short = qarl.make(game, replace(SMALL, capacity=30), HYPER._replace(actor_learning_rate=0.0))
    still = whole._replace(hyper=short.hyper)
    (kept, _), (all_, _) = rlzoo.train(short, KEY, 3), rlzoo.train(still, KEY, 3)
    for role in ("adversary", "protagonist"):
        ring, rows = (np.asarray(getattr(x.replay, role).obs) for x in (kept, all_))
        np.testing.assert_array_equal(ring[:24], rows[30:54])
        np.testing.assert_array_equal(ring[24:], rows[24:30])


@pytest.mark.slow  # two programs; the probes sweep a task too
def test_physics_may_be_swept(game):
    """A lane of a sweep over the game's limit is the same run alone under that limit."""
    algo = qarl.make(game, SMALL, HYPER)
    limits = jnp.array([0.01, 0.3])
    runs = rlzoo.sweep(algo, task=algo.task._replace(max_force=limits))
    state, _ = rlzoo.train(runs, KEY[None], 2)
    pushes = np.abs(np.asarray(state.replay.adversary.action)).max((1, 2, 3))
    np.testing.assert_array_less(pushes, np.asarray(limits) * 1.0001)
    assert (pushes > 0.5 * np.asarray(limits)).all()
    alone, _ = rlzoo.train(algo._replace(task=algo.task._replace(max_force=limits[1])), KEY, 2)
    assert_close(rlzoo.lane(state, 1, 0).params, alone.params, rtol=1e-3, atol=1e-4)


def test_side_by_side_has_the_ratio_of_one_by_one(game):
    """2 environments, 10 steps each: 3 chunks of 2 gradient steps, and every episode has its own alpha."""
    algo = qarl.make(game, replace(SMALL, num_envs=2), HYPER)
    state, _ = rlzoo.train(algo, KEY, 1)
    assert int(state.opt_state.protagonist.critics[0].count) == 6 and algo.steps_per_update == 40
    alphas = np.asarray(state.replay.protagonist.obs)[:18, -1].reshape(9, 2)
    np.testing.assert_array_equal(alphas, np.broadcast_to(np.asarray(state.curriculum.alpha)[0, :2], (9, 2)))


def test_returns_belong_to_their_temperatures(game):
    """Read off the replays, where every step is kept: discounted, of the first E episodes; temperatures go round."""
    algo = qarl.make(game, replace(SMALL, update_every=2, capacity=20, critic_start=2, actor_start=2), HYPER)
    ended_early = 0
    for key in jax.random.split(KEY, 3):
        state, metrics = rlzoo.train(algo, key, 1)
        alpha, returns = (np.asarray(x)[0] for x in (state.curriculum.alpha, state.curriculum.returns))
        np.testing.assert_array_equal(alpha[:2], alpha[2:])
        assert metrics["curriculum/return"][0] == pytest.approx(returns.mean(), rel=1e-5)
        for role, sign, at in (("adversary", -1.0, 0), ("protagonist", 1.0, 2)):
            rows = jax.tree.map(np.asarray, getattr(state.replay, role))
            episode, weight, found = 0, 1.0, np.zeros(20)
            for t in range(20):
                assert rows.obs[t, -1] == alpha[at + episode % 2]
                found[episode] += weight * sign * rows.reward[t]
                weight *= 0.9
                if rows.terminated[t] or rows.truncated[t]:
                    episode, weight = episode + 1, 1.0
            np.testing.assert_allclose(returns[at : at + 2], found[:2], rtol=1e-4, atol=1e-5)
            ended_early += episode > 2
    assert ended_early >= 2, "no phase had more than two episodes; choose another key"


def test_evaluation_knows_no_adversary(game, algo, trained):
    """Against nobody it does not matter what the adversary learned; against it, it does."""
    state, _ = trained
    louder = jax.tree.map(lambda x: x + 1.0, state.params.adversary)
    changed = state._replace(params=state.params._replace(adversary=louder))
    plain = [rlzoo.evaluate(algo, game.env, x, KEY, 8).returns for x in (state, changed)]
    assert_same_bits(*plain)
    against = with_adversary(game, qarl.adversary(algo), state.params.adversary.actor)
    faced = [
        rlzoo.evaluate(algo, against, state, KEY, 8, task=against.params._replace(actor=actor)).returns
        for actor in (state.params.adversary.actor, louder.actor)
    ]
    assert not np.array_equal(faced[0], plain[0]) and not np.array_equal(*faced)


def test_bad_input(game):
    make = rlzoo.envs.make
    for arguments, message in (
        ((make("gymnax/CartPole-v1"),), "discrete, 2 actions; an adversary needs a continuous"),
        ((make("rlzoo/RiskyPointMass-v0"),), "no known site for a force; known are"),
        ((game, replace(SMALL, num_episodes=2, update_every=30, capacity=90)), "update_every=30 is more than the 20"),
    ):
        with pytest.raises(ValueError, match=message):
            qarl.make(*arguments)
    for change, message in (
        ({"num_envs": 3}, "num_envs=3 does not divide num_episodes = 5; use"),
        ({"capacity": 100}, r"capacity=100 is no multiple of num_envs \* update_every = 3; use 99"),
        (
            {"critic_start": 99, "actor_start": 40, "capacity": 99},
            "capacity=99 never holds more than the 99 transitions",
        ),
        ({"homogeneous": True, "opponent": "rational"}, "opponent='rational' has no alpha; use 'quantal'"),
        ({"opponent": "quantl"}, "unknown opponent 'quantl'; did you mean 'quantal'"),
    ):
        with pytest.raises(ValueError, match=message):
            qarl.Config(**change)
    alone = qarl.make(game, replace(SMALL, opponent="none"))
    with pytest.raises(ValueError, match="opponent='none' has no adversary that learns"):
        qarl.adversary(alone)
