"""Parameters by name, grids of them, and adversaries trained against frozen policies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_same_bits, plane

import rlzoo
from rlzoo.envs import adversarial, stochastic, vary
from rlzoo.types import Algorithm

KEY = jax.random.key(14)


@pytest.fixture(scope="module")
def pendulum():
    return rlzoo.envs.make("gymnax/Pendulum-v1")


def known(env, gain=1.0):
    """An algorithm whose policy needs no training: a torque of gain sin(theta)."""
    policy = lambda actor, obs, key, deterministic=False: actor * obs[..., 1:2]  # noqa: E731
    state = rlzoo.sac.State(*[()] * 5, key=KEY, step=jnp.int32(0))
    return Algorithm("known", None, env, (), env.params, None, None, lambda state: jnp.float32(gain), policy, 1), state


def test_every_combination_by_name(pendulum):
    params = vary(pendulum, {"m": [1.0, 2.0], "l": [0.5, 1.0, 1.5]})
    assert params.m.tolist() == [1, 1, 1, 2, 2, 2] and params.l.tolist() == [0.5, 1.0, 1.5] * 2
    assert jnp.ndim(params.g) == 0
    noisy = stochastic(pendulum)
    params = vary(noisy, {"action_noise": [0.0, 0.3], "g": [9.0, 10.0]})
    assert params.env.g.tolist() == [9.0, 10.0] * 2 and params.action_noise.tolist() == pytest.approx([0, 0, 0.3, 0.3])
    game = adversarial(pendulum)
    params = vary(game.env, {"disturbance 0": [-0.5, 0.5], "m": [1.0]})
    assert params.disturbance.tolist() == [[-0.5], [0.5]] and params.env.m.tolist() == [1.0, 1.0]
    assert vary(plane(), {"bonus": [1.0, 2.0]})["bonus"].tolist() == [1.0, 2.0]


def test_bodies_of_brax():
    env = rlzoo.envs.make("brax/walker2d", backend="spring")
    params = vary(env, {"mass torso": [2.0, 9.0], "mass foot": [3.0], "friction": [0.5], "gravity": [-5.0]})
    foot = env.params.link_names.index("foot") + 1
    np.testing.assert_allclose(params.body_mass[:, 1], [2.0, 9.0])
    np.testing.assert_allclose(params.body_mass[:, foot], [3.0, 3.0])
    np.testing.assert_allclose(params.body_mass[:, 2], np.repeat(env.params.body_mass[2], 2))
    np.testing.assert_allclose(params.link.inertia.mass[:, 0], [2.0, 9.0])
    assert (np.asarray(params.geom_friction)[:, :, 0] == 0.5).all()
    np.testing.assert_array_equal(params.geom_friction[0, :, 1:], env.params.geom_friction[:, 1:])
    assert params.gravity[:, 2].tolist() == params.opt.gravity[:, 2].tolist() == [-5.0, -5.0]


@pytest.mark.parametrize("backend", ["spring", "generalized"])
def test_what_is_varied_changes_what_happens(backend):
    """Five steps of a pole that is heavier, or under less gravity; brax's spring keeps masses from the reset on."""
    env = rlzoo.envs.make("brax/inverted_pendulum", backend=backend)

    @jax.jit
    def after(params):
        _, state = env.reset(KEY, params)
        one = lambda state, key: (env.step(key, state, jnp.full(1, 0.7), params)[0], ())  # noqa: E731
        return jax.lax.scan(one, state, jax.random.split(KEY, 5))[0].inner.obs

    still = after(env.params)
    for change in ({"mass pole": [20.0]}, {"gravity": [-2.0]}):
        one = jax.tree.map(lambda x, like: x[0] if jnp.ndim(x) > jnp.ndim(like) else x, vary(env, change), env.params)
        assert not np.allclose(after(one), still, rtol=1e-3, atol=1e-4), change


def test_masses_that_brax_does_not_know():
    env = rlzoo.envs.make("brax/hopper", backend="spring")
    with pytest.raises(ValueError, match="brax takes all its masses for 1 on this backend; use generalized or mjx"):
        vary(env, {"mass torso": [2.0]})
    assert vary(env, {"friction": [0.2, 0.4]}).geom_friction.shape[0] == 2


def test_names_and_numbers_that_cannot_be(pendulum):
    for env, values, message in (
        (pendulum, {"mass": [1.0]}, "unknown parameter of gymnax/Pendulum-v1 'mass'; .*max_speed"),
        (pendulum, {"m": [1.0, -1.0]}, r"m=\[1.0, -1.0\]; each must be positive, as the default 1"),
        (pendulum, {"m": [1.0, float("nan")]}, "it needs one or more finite numbers"),
        (pendulum, {"m": []}, r"m=\[\]; it needs one or more finite numbers"),
        (pendulum, {}, "nothing to vary; gymnax/Pendulum-v1 has .*max_torque"),
        (
            rlzoo.envs.make("brax/hopper", backend="spring"),
            {"mass hand": [1.0]},
            "unknown parameter of brax/hopper spring 'mass hand'",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            vary(env, values)


def test_a_grid_is_its_cells(pendulum):
    """Each cell as `evaluate` with that cell's parameters alone, and the same episodes in all."""
    algo, state = known(pendulum)
    grid = vary(pendulum, {"m": [0.5, 1.5], "l": [0.8, 1.0]})
    episodes = rlzoo.robustness(algo, pendulum, state, KEY, 3, grid)
    assert episodes.returns.shape == episodes.lengths.shape == (4, 3)
    for i in range(4):
        one = pendulum.params.replace(m=grid.m[i], l=grid.l[i])
        np.testing.assert_allclose(
            episodes.returns[i], rlzoo.evaluate(algo, pendulum, state, KEY, 3, task=one).returns, rtol=1e-3
        )
    assert len(np.unique(np.asarray(episodes.returns))) == 12
    with pytest.raises(ValueError, match="the varied parameters are missing"):
        rlzoo.robustness(algo, pendulum, state, KEY, 3, pendulum.params)
    with pytest.raises(ValueError, match=r"have lengths \[2, 4\]"):
        rlzoo.robustness(algo, pendulum, state, KEY, 3, grid.replace(g=jnp.ones(2)))


@pytest.fixture(scope="module")
def small():
    """SAC on `plane`, two settings times two seeds."""
    config = rlzoo.sac.Config(hidden=(16,), warmup=64, batch_size=32, capacity=512, num_envs=4, num_updates=4)
    algo = rlzoo.sac.make(plane(), config, rlzoo.sac.Hyper(actor_learning_rate=1e-2, critic_learning_rate=1e-2))
    runs = rlzoo.sweep(algo, rlzoo.grid(algo.hyper, gamma=[0.5, 0.9]))
    return runs, rlzoo.train(runs, jax.random.split(KEY, 2), 20)[0]


def test_a_grid_of_a_sweep(small):
    runs, state = small
    grid = vary(plane(), {"bonus": [0.5, 2.5, 1.0]})
    episodes = rlzoo.robustness(runs, runs.env, state, KEY, 4, grid)
    assert episodes.returns.shape == (3, 2, 2, 4)
    np.testing.assert_allclose(
        episodes.returns[1] - episodes.returns[0], 2.0 * episodes.lengths[0], rtol=1e-4, atol=1e-3
    )  # the bonus is a reward: the same episodes pay 2 a step more


def test_each_lane_against_its_own(small):
    """Adversaries that push by a constant: a sweep's lanes meet theirs, as one agent does."""
    runs, state = small
    game = adversarial(plane(), on="action", max_force=0.5)
    pushes = jnp.array([[0.0, 0.4], [-0.8, 1.0]])
    policy = lambda push, obs, key: jnp.full(2, push)  # noqa: E731
    episodes = rlzoo.against(runs, game, state, policy, pushes, KEY, 5)
    assert episodes.returns.shape == (2, 2, 5)
    for h, s in np.ndindex(2, 2):
        lane = rlzoo.lane(state, h, s)
        wanted = rlzoo.against(runs.base, game, lane, policy, pushes[h, s], KEY, 5)
        np.testing.assert_allclose(episodes.returns[h, s], wanted.returns, rtol=1e-4, atol=1e-4)


def test_one_agent_meets_what_its_lane_would(small):
    """`worst_case` without a sweep: shapes of one agent, and an adversary that costs it something too."""
    runs, state = small
    game = adversarial(plane(), on="action", max_force=0.8)
    config = rlzoo.sac.Config(hidden=(16,), warmup=200, batch_size=64, capacity=4_000, num_envs=10, num_updates=10)
    rates = rlzoo.sac.Hyper(actor_learning_rate=3e-3, critic_learning_rate=3e-3, gamma=0.9)
    attacked, alone = rlzoo.worst_case(runs.base, game, rlzoo.lane(state, 1, 0), KEY, 3_200, 64, config, rates)
    assert attacked.returns.shape == alone.returns.shape == (64,)
    assert attacked.returns.mean() < alone.returns.mean() - 0.1


def test_lanes_meet_adversaries_in_their_own_physics(small):
    """A sweep over the game's parameters is evaluated under them, whoever opposes."""
    game = adversarial(plane(), on="action", max_force=0.5)
    base = rlzoo.sac.make(game.env, small[0].config, small[0].base.hyper)
    runs = rlzoo.sweep(base, task=base.task._replace(max_force=jnp.array([0.01, 2.0])))
    state = rlzoo.init(runs, jax.random.split(KEY, 2), quiet=True)
    push = lambda actor, obs, key: jnp.full(2, actor)  # noqa: E731
    faced = lambda task: rlzoo.against(runs, game, state, push, jnp.full((2, 2), -1.0), KEY, 4, task).returns  # noqa: E731
    own = faced(None)
    for h, limit in enumerate((0.01, 2.0)):
        wanted = faced(game.env.params._replace(max_force=jnp.float32(limit)))[h]
        np.testing.assert_allclose(own[h], wanted, rtol=1e-5, atol=1e-5)
    assert not np.allclose(own[0], own[1])


def test_a_constant_adversary_is_a_disturbance(pendulum):
    algo, state = known(pendulum, 0.5)
    game = adversarial(pendulum, max_force=0.5)
    faced = rlzoo.against(algo, game, state, lambda push, obs, key: jnp.full(1, push), jnp.float32(0.6), KEY, 3)
    disturbed = game.env.params._replace(disturbance=jnp.array([0.3]))
    alone = rlzoo.evaluate(algo, game.env, state, KEY, 3, task=disturbed)
    np.testing.assert_allclose(faced.returns, alone.returns, rtol=1e-3)
    assert not np.allclose(alone.returns, rlzoo.evaluate(algo, game.env, state, KEY, 3).returns, rtol=1e-2)


def test_a_fresh_adversary_finds_the_weakness(small):
    """Against each lane its own: what it trains for costs every policy something; and the policies are as before."""
    runs, state = small
    game = adversarial(plane(), on="action", max_force=0.8)
    before = jax.tree.map(jnp.copy, state)
    config = rlzoo.sac.Config(hidden=(16,), warmup=200, batch_size=64, capacity=4_000, num_envs=10, num_updates=10)
    rates = rlzoo.sac.Hyper(actor_learning_rate=3e-3, critic_learning_rate=3e-3, gamma=0.9)
    attacked, alone = rlzoo.worst_case(runs, game, state, KEY, 3_200, 64, config, rates)
    attacked, alone = attacked.returns, alone.returns
    assert attacked.shape == alone.shape == (2, 2, 64)
    assert_same_bits(before, state)
    eval_key = jax.random.split(KEY)[1]
    np.testing.assert_allclose(alone, rlzoo.evaluate(runs, game.env, state, eval_key, 64).returns)
    assert attacked.mean() < alone.mean() - 0.1, (attacked.mean(-1), alone.mean(-1))


def test_a_task_with_an_axis_is_no_task_of_one_agent(pendulum):
    """Whoever meets it says so, and what to do."""
    algo = rlzoo.ppo.make(pendulum, rlzoo.ppo.Config(num_envs=2, num_steps=4, num_minibatches=1, hidden=(4,)))
    masses = rlzoo.envs.vary(pendulum, {"m": [0.5, 1.0, 2.0]})
    state, keys, heavy = rlzoo.init(algo, KEY), jax.random.split(KEY, 2), algo._replace(task=masses)
    runs = rlzoo.sweep(algo)
    lanes = rlzoo.init(runs, keys)
    advice = r"task.m has shape \[3\], and gymnax/Pendulum-v1 has \[\]; one agent learns on one task; .*rlzoo.sweep"
    for call in (
        lambda: rlzoo.init(heavy, KEY),
        lambda: rlzoo.train(heavy, KEY, 1),
        lambda: rlzoo.resume(heavy, state, 1),
        lambda: rlzoo.sweep(heavy),
    ):
        with pytest.raises(ValueError, match=advice):
            call()
    for made, task, message in (
        (algo, masses, "of one agent; sweep the algorithm, or give one task; or .*, rlzoo.robustness"),
        (heavy, None, "of one agent; sweep the algorithm"),
        (runs, masses, r"swept leaves of length \[3\], and the state has 1 settings; .*rlzoo.robustness"),
    ):
        for evaluate in (rlzoo.evaluate, rlzoo.value_error):
            with pytest.raises(ValueError, match=message):
                evaluate(made, pendulum, state if made is not runs else lanes, KEY, 2, task)
    with pytest.raises(ValueError, match="an episode is of one task; give one"):
        rlzoo.render("episode.gif", algo, pendulum, state, KEY, masses)
    with pytest.raises(ValueError, match="another structure"):
        rlzoo.train(algo._replace(task=None), KEY, 1)
