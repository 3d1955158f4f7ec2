"""Conformance of every adapter: one suite over all of gymnax, the probes, a user's own environment, and brax."""

import tempfile
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_same_bits, blank

import rlzoo
from rlzoo.blocks import rollout
from rlzoo.blocks.distributions import legal
from rlzoo.envs import EXTRAS, SUITES, brax, gymnax, names
from rlzoo.types import Algorithm, Box, Discrete, Env, MultiDiscrete, TimeStep

LIMIT = 3  # steps; every episode is cut here, so that a few steps see several resets

LARGE = ("Asterix-MinAtar", "Freeway-MinAtar", "Seaquest-MinAtar", "SpaceInvaders-MinAtar")  # to compile
GYMNAX = [pytest.param(f"gymnax/{name}", marks=pytest.mark.slow if name in LARGE else ()) for name in names("gymnax")]
PROBES = [f"probe/{name}" for name in names("probe")]
BRAX = [f"brax/{name}" for name in names("brax")]
QUICK = {("brax/inverted_pendulum", backend) for backend in ("spring", "mjx")}
MATRIX = [
    pytest.param(name, backend, marks=() if (name, backend) in QUICK else pytest.mark.slow)
    for name in BRAX
    for backend in brax.BACKENDS
    if (name.removeprefix("brax/"), backend) not in brax.UNSUPPORTED
]


# Observes its clock as a share of the limit, so that another limit is another observation.
SEES_THE_LIMIT = ("gymnax/DiscountingChain-bsuite",)
KEYS = jax.random.split(jax.random.key(0), 4)


def leaves(tree):
    """Boxes are leaves too."""
    return jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, Box))


def one_trajectory(env, params, key, steps=8):
    """Random actions from one reset on: obs, action and what each step showed, leaves [steps, ...]."""
    reset_key, key = jax.random.split(key)
    obs, state = env.reset(reset_key, params)

    def step(carry, key):
        obs, state = carry
        act_key, env_key = jax.random.split(key)
        action = env.action_space.sample(act_key)
        if (allowed := legal(obs)) is not None and isinstance(env.action_space, Discrete):
            action = jax.random.categorical(act_key, jnp.where(allowed, 0.0, -jnp.inf))
        state, now = env.step(env_key, state, action, params)
        return (now.obs, state), (obs, action, now)

    return jax.lax.scan(step, (obs, state), jax.random.split(key, steps))[1]


def trajectories(env):
    """The compiled function keys [K] -> K trajectories."""
    return jax.jit(jax.vmap(lambda key: one_trajectory(env, env.params, key)))


def cut(name, **options):
    """An environment whose episodes are cut at LIMIT steps, and its twin without that limit."""
    if name.startswith("gymnax/"):
        import gymnax as original

        raw, params = original.make(name.removeprefix("gymnax/"))
        limit = type(params.max_steps_in_episode)(LIMIT)
        return rlzoo.envs.make(raw, params=params.replace(max_steps_in_episode=limit)), rlzoo.envs.make(name)
    return tuple(rlzoo.envs.make(name, horizon=horizon, **options) for horizon in (LIMIT, 1_000))


class Kept(NamedTuple):
    envs: Any
    key: jax.Array
    step: jax.Array


class Numbers(NamedTuple):
    rate: float = 0.0


def is_saved(env):
    """A State that holds two of its environments, with whatever leaves and containers they have."""
    init = lambda key, hyper, task: Kept(rollout.init(env, key, task, 2), key, jnp.int32(0))  # noqa: E731
    algo = Algorithm("kept", None, env, Numbers(), env.params, init, None, None, None, 1)
    state = blank(algo, jax.random.key(0))
    with tempfile.TemporaryDirectory() as path:
        rlzoo.save(path, algo, state)
        found = rlzoo.load(path, algo)
    assert jax.tree.structure(found) == jax.tree.structure(state)
    assert_same_bits(found, state)


def conforms(env):
    """Shapes, dtypes, spaces, contiguity, determinism, checkpoints; returns the trajectories [4, 8, ...]."""
    is_saved(env)
    run = trajectories(env)
    obs, action, now = run(KEYS)
    assert isinstance(env, Env) and isinstance(now, TimeStep)
    boxes = leaves(env.obs_space)
    for seen in (obs, now.obs, now.next_obs):
        assert [(x.shape, x.dtype) for x in leaves(seen)] == [((4, 8, *x.shape), x.low.dtype) for x in boxes]
    assert now.reward.dtype == jnp.float32
    assert now.reward.shape == now.terminated.shape == now.truncated.shape == (4, 8)
    assert now.terminated.dtype == now.truncated.dtype == bool
    assert action.shape == (4, 8, *env.action_space.shape) and jax.vmap(env.action_space.contains)(action).all()
    assert isinstance(env.action_space, Box | Discrete | MultiDiscrete) and isinstance(env.horizon, int)
    assert all(np.isfinite(x).all() for x in leaves((obs, now.reward, now.next_obs)))

    # What the agent sees next is the successor, except behind an episode's end.
    done = np.asarray(now.terminated | now.truncated)
    for before, after, true in zip(*map(leaves, (obs, now.obs, now.next_obs)), strict=True):
        np.testing.assert_array_equal(np.asarray(before[:, 1:]), np.asarray(after[:, :-1]))
        np.testing.assert_allclose(np.asarray(after)[~done], np.asarray(true)[~done], rtol=1e-5, atol=1e-6)

    # The same keys give the same trajectories.
    again = jax.tree.leaves(run(KEYS))
    assert all(np.array_equal(a, b) for a, b in zip(again, jax.tree.leaves((obs, action, now)), strict=True))
    return obs, action, now


def time_limit_is_a_truncation(name, env, long, trajectory):
    """At the limit, and only there; with the true successor; and behind it a fresh reset."""
    obs, _, now = trajectory
    for lane in range(4):
        time = 0
        for t in range(8):
            time += 1
            assert bool(now.truncated[lane, t]) == (time >= LIMIT)
            time = 0 if time >= LIMIT or now.terminated[lane, t] else time

    uncut = trajectories(long)(KEYS)[2]  # the same keys and actions up to the limit
    whole = ~np.asarray(uncut.terminated[:, :LIMIT]).any(1)
    if name not in SEES_THE_LIMIT:
        for found, wanted in zip(leaves(now.next_obs), leaves(uncut.next_obs), strict=True):
            found, wanted = (np.asarray(x[:, LIMIT - 1])[whole] for x in (found, wanted))
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)

    flat = lambda obs, t: np.concatenate([np.asarray(x[:, t], float).reshape(4, -1) for x in leaves(obs)], 1)  # noqa: E731
    starts = flat(obs, 0)
    if len(np.unique(starts, axis=0)) == 4 and whole.all():  # where resets are random, so is the one at the limit
        resets = flat(now.obs, LIMIT - 1)
        assert not np.array_equal(resets, starts) and len(np.unique(resets, axis=0)) > 1


def vmaps_over_parameters(env, trajectory):
    """Two copies of all parameters along a new axis give the trajectory twice."""
    params = jax.tree.map(lambda x: jnp.stack([x, x]), env.params)
    both = jax.jit(jax.vmap(lambda p: one_trajectory(env, p, KEYS[0])))(params)
    for leaf, alone in zip(jax.tree.leaves(both), jax.tree.leaves(trajectory), strict=True):
        np.testing.assert_allclose(leaf, np.stack([alone[0]] * 2), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", GYMNAX)
def test_gymnax(name):
    env, long = cut(name)
    trajectory = conforms(env)
    time_limit_is_a_truncation(name, env, long, trajectory)
    vmaps_over_parameters(env, trajectory)


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("name", PROBES)
def test_probe(name, continuous):
    env = rlzoo.envs.make(name, continuous=continuous)
    vmaps_over_parameters(env, conforms(env))


@pytest.mark.parametrize(("name", "backend"), MATRIX)
def test_brax(name, backend):
    env, long = cut(name, backend=backend)
    time_limit_is_a_truncation(name, env, long, conforms(env))


@pytest.mark.parametrize("name", [f"rlzoo/{name}" for name in names("rlzoo")])
def test_rlzoos_own(name):
    env, long = cut(name)
    trajectory = conforms(env)
    time_limit_is_a_truncation(name, env, long, trajectory)
    vmaps_over_parameters(env, trajectory)


def test_risky_point_mass_against_its_definition():
    """Reward and end of the state *before* the move; the slip within 0.1 x 0.02; the penalty as often as it says."""
    env = rlzoo.envs.make("rlzoo/RiskyPointMass-v0")
    x = jnp.array([[0.5, 0.5], [0.6, 0.4], [0.5, 0.79], [0.9, 0.9], [0.03, 0.03], [1.0, 1.0]])
    action = jnp.array([0.5, -3.0])  # clipped to -1
    _, episode = env.reset(KEYS[0], env.params)
    step = jax.vmap(lambda key, x: env.step(key, episode._replace(inner=x), action, env.params)[1], (0, None))
    now = jax.jit(jax.vmap(step, (None, 0)))(jax.random.split(KEYS[1], 20_000), x)

    distance = np.linalg.norm(np.asarray(x) - 0.5, axis=-1)
    chance = np.where(distance <= 0.3, 0.1 * np.exp(-4 * distance**2 / 0.09), 0.0)
    base = -np.linalg.norm(np.asarray(x), axis=-1)[:, None] - 0.1
    struck = np.asarray(now.reward) < base - 5.0
    np.testing.assert_allclose(now.reward, base - 10.0 * struck, rtol=1e-5)
    assert (np.abs(struck.mean(1) - chance) <= 5 * np.sqrt(chance * (1 - chance) / 20_000)).all()
    np.testing.assert_array_equal(np.asarray(now.terminated)[:, 0], [False, False, False, False, True, False])
    moved = np.asarray(now.next_obs) - np.asarray(x)[:, None]
    inner = moved[:4] - 0.1 * np.array([0.5, -1.0])
    assert 0.0019 < np.abs(inner).max() <= 0.002 + 1e-6
    assert (np.asarray(now.next_obs) >= 0).all() and (np.asarray(now.next_obs) <= 1).all()


@pytest.mark.parametrize("clear", [0.0, 1.0])
def test_risky_point_mass_starts(clear):
    from rlzoo.envs.risky_point_mass import in_danger

    env = rlzoo.envs.make("rlzoo/RiskyPointMass-v0")
    params = env.params._replace(clear_start=jnp.float32(clear))
    starts, _ = jax.vmap(env.reset, (0, None))(jax.random.split(KEYS[0], 2_000), params)
    assert (starts >= 0.3).all() and (starts <= 1.0).all()
    assert bool(in_danger(starts).any()) == (clear == 0.0)


@pytest.mark.parametrize("name", ["gymnax/CartPole-v1", "gymnax/Pendulum-v1"])
def test_noise(name):
    """Zeros change nothing but the keys' use; each strength does what it says; all are swept like other parameters."""
    plain = rlzoo.envs.make(name)
    env = rlzoo.envs.stochastic(plain)
    vmaps_over_parameters(env, conforms(env))

    def once(params, action, key=KEYS[1]):
        _, state = env.reset(KEYS[0], params)
        state, now = env.step(key, state, action, params)
        return state, now

    low, high = (
        jnp.full(plain.action_space.shape, end, jax.eval_shape(plain.action_space.sample, KEYS[0]).dtype)
        for end in ((0, 1) if "CartPole" in name else (-1.5, 1.5))
    )
    many = jax.random.split(KEYS[2], 4_000)
    loud = env.params._replace(reward_noise=jnp.float32(2.0))
    rewards = jax.vmap(lambda key: once(loud, low, key)[1].reward)(many)
    assert float(rewards.std()) == pytest.approx(2.0, rel=0.1)
    assert float(rewards.mean()) == pytest.approx(float(once(env.params, low)[1].reward), abs=0.15)

    # Sticky: the second action is the first with the given probability; never at the start of an episode.
    def second(key, params):
        state, first = once(params, high)
        return first.obs, env.step(key, state, low, params)[1].next_obs

    sticky = env.params._replace(sticky=jnp.float32(0.3))
    first, after = jax.vmap(second, (0, None))(many, sticky)
    np.testing.assert_array_equal(first[0], once(env.params, high)[1].obs)
    state, _ = once(env.params, high)
    stuck = np.isclose(after, env.step(KEYS[3], state, high, env.params)[1].next_obs, atol=1e-5).all(-1)
    assert stuck.mean() == pytest.approx(0.3, abs=0.04)

    # Action noise: a random action, or a normal one inside the box.
    shaky = env.params._replace(action_noise=jnp.float32(0.5))
    reached = np.asarray(jax.vmap(lambda key: once(shaky, low, key)[1].next_obs)(many))
    still = np.isclose(reached, once(env.params, low)[1].next_obs, atol=1e-5).all(-1).mean()
    # CartPole: half of the actions are random, half of those as given. Pendulum: only what is clipped is alike.
    assert still == pytest.approx(0.75, abs=0.04) if "CartPole" in name else still < 0.05


def test_noise_is_refused_where_it_means_nothing():
    env = rlzoo.envs.make("gymnax/CartPole-v1")
    with pytest.raises(ValueError, match="action_noise=1.5; it must be between 0 and 1"):
        rlzoo.envs.stochastic(env, action_noise=1.5)
    with pytest.raises(ValueError, match="reward_noise=-1.0; it must be 0 or more"):
        rlzoo.envs.stochastic(env, reward_noise=-1.0)


def test_brax_sweeps_physics():
    """Gravity is a parameter: two values in one program, two trajectories."""
    env = rlzoo.envs.make("brax/inverted_pendulum", backend="spring")
    gravity = jnp.stack([env.params.gravity, 3.0 * env.params.gravity])
    params = env.params.replace(gravity=gravity)
    axes = jax.tree.map(lambda old, new: 0 if new.ndim > old.ndim else None, env.params, params)
    _, _, now = jax.jit(jax.vmap(lambda p: one_trajectory(env, p, KEYS[0]), (axes,)))(params)
    assert not np.allclose(now.obs[0], now.obs[1])
    _, _, alone = one_trajectory(env, env.params, KEYS[0])
    np.testing.assert_allclose(now.obs[0], alone.obs, rtol=1e-4, atol=1e-4)


def test_parameters_are_on_no_device_of_their_own():
    """mjx ties those of brax to the first device, which an evaluation of lanes on several refused."""
    tied = jax.device_put(jnp.float32(2.0), jax.devices()[0])
    mine = rlzoo.envs.make("gymnax/Pendulum-v1")
    mine = mine._replace(params=mine.params.replace(g=tied))
    for env in (rlzoo.envs.make("brax/hopper"), rlzoo.envs.make(mine)):
        assert not any(isinstance(x, jax.Array) and x.committed for x in jax.tree.leaves(env.params))
    assert rlzoo.envs.make(mine).params.g == 2.0


def test_cached_reset_replays_the_first_state():
    env = rlzoo.envs.make("brax/inverted_pendulum", backend="spring", horizon=LIMIT, cached_reset=True)
    obs, _, now = one_trajectory(env, env.params, KEYS[0])
    np.testing.assert_array_equal(now.obs[LIMIT - 1], obs[0])
    np.testing.assert_array_equal(now.obs[2 * LIMIT - 1], obs[0])
    assert "cached_reset" in env.name


def test_cartpole_at_500_is_truncated_not_terminated():
    """A controller that balances for ever meets the time limit (others report a death: Rejax, PureJaxRL, Stoa)."""
    env = rlzoo.envs.make("gymnax/CartPole-v1")

    def step(carry, key):
        obs, state = carry
        action = (obs @ jnp.array([0.5, 1.0, 10.0, 3.0]) > 0).astype(int)
        state, now = env.step(key, state, action, env.params)
        return (now.obs, state), now

    _, now = jax.jit(lambda key: jax.lax.scan(step, env.reset(key, env.params), jax.random.split(key, 600)))(KEYS[0])
    assert not now.terminated.any()
    np.testing.assert_array_equal(np.flatnonzero(now.truncated), [499])
    assert env.horizon == 500


def test_own_environment(tmp_path):
    """A user's object of gymnax's interface, and an rlzoo Env, are taken as they are and sweep their parameters."""
    import gymnax as original

    raw, params = original.make("Pendulum-v1")
    env = rlzoo.envs.make(raw)
    assert env.name == "own/Pendulum-v1" and env.action_space.high == 2.0
    assert rlzoo.envs.make(env) is env
    heavy = rlzoo.envs.make(raw, params=params.replace(m=3.0))
    assert float(heavy.params.m) == 3.0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gymnax/CartPol-v1", "did you mean 'gymnax/CartPole-v1'"),
        ("gymnas/CartPole-v1", "did you mean 'gymnax/CartPole-v1'"),
        ("CartPole-v1", "did you mean 'gymnax/CartPole-v1'"),
        ("brax/halfchetah", "did you mean 'brax/halfcheetah'"),
        ("gymnax/MNISTBandit-bsuite", "not supported: it downloads MNIST"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(ValueError, match=message):
        rlzoo.envs.make(name)


def test_unsupported_are_those_that_fail():
    """Each entry still fails; when gymnax mends one, this test says to take it off the list."""
    import gymnax as original

    for name in gymnax.UNSUPPORTED:
        with pytest.raises(Exception, match="urlopen|resolve|timed out|refused"):
            original.make(name)
    assert set(SUITES) - set(EXTRAS) == {"gymnax", "brax", "rlzoo", "probe"}


@pytest.mark.slow
def test_unsupported_backends_are_those_that_fail():
    """Each entry still fails; when brax mends one, this test says to take it off the list."""
    from brax import envs

    for name, backend in brax.UNSUPPORTED:
        with pytest.raises((ValueError, TypeError), match="Unsupported backend|a_min"):
            raw = envs.get_environment(name, backend=backend)
            jax.eval_shape(raw.step, raw.reset(KEYS[0]), jnp.zeros(raw.action_size))
        with pytest.raises(ValueError, match=f"brax/{name} is not available on the backend {backend}: "):
            rlzoo.envs.make(f"brax/{name}", backend=backend)


def test_the_bare_name_of_brax_is_what_brax_means_by_it():
    import inspect

    from brax import envs

    for name, kind in envs._envs.items():
        own = inspect.signature(kind).parameters.get("backend")
        assert own is None or own.default == brax.DEFAULT, name  # of one for tests there is no physics
    assert rlzoo.envs.make("brax/inverted_pendulum").name == "brax/inverted_pendulum generalized"
    with pytest.raises(ValueError, match="brax/swimmer is not available on the backend generalized: .*no other works"):
        rlzoo.envs.make("brax/swimmer")


def test_names_of_records_are_names():
    """What a record, a dataset or an `Env` is called makes it again."""
    for options in ({"backend": "spring"}, {"backend": "spring", "cached_reset": True}):
        env = rlzoo.envs.make("brax/inverted_pendulum", **options)
        again = rlzoo.envs.make(env.name)
        assert again.name == env.name and again.obs_space == env.obs_space
        assert rlzoo.envs.named(env.name, {}) == ("brax/inverted_pendulum", options)
    assert rlzoo.envs.named("brax/hopper", {"horizon": 9}) == ("brax/hopper", {"backend": "generalized", "horizon": 9})
    assert rlzoo.envs.named("gymnax/CartPole-v1", {}) == ("gymnax/CartPole-v1", {})
    with pytest.raises(ValueError, match="brax/hopper spring with backend='mjx'; give one of the two"):
        rlzoo.envs.make("brax/hopper spring", backend="mjx")
    for wrong, message in (
        ("brax/hopper sprng", "backend='sprng'; allowed are"),
        ("brax/hopper spring cached", "takes no option 'cached'"),
        ("brax/hoper spring", "did you mean 'brax/hopper'"),
        ("gymnax/CartPole-v1 spring", "did you mean 'gymnax/CartPole-v1'"),
    ):
        with pytest.raises(ValueError, match=message):
            rlzoo.envs.make(wrong)


def test_unknown_backend():
    with pytest.raises(ValueError, match="backend='mujoco'; allowed are generalized, positional, spring, mjx"):
        rlzoo.envs.make("brax/hopper", backend="mujoco")


def test_wrong_objects_are_refused():
    with pytest.raises(ValueError, match="lacks reset, step, observation_space, action_space"):
        rlzoo.envs.make(object())

    env = rlzoo.envs.make("probe/constant-reward")

    def with_step(change):
        def step(key, state, action, params):
            state, now = env.step(key, state, action, params)
            return change(state, now)

        return env._replace(name="own/broken", step=step)

    with pytest.raises(ValueError, match=r"own/broken: step gives reward float32\[1\]; it must be float32\[\]"):
        rlzoo.envs.make(with_step(lambda state, now: (state, now._replace(reward=now.reward[None]))))
    with pytest.raises(ValueError, match=r"step gives terminated float32\[\]; it must be bool\[\]"):
        rlzoo.envs.make(with_step(lambda state, now: (state, now._replace(terminated=jnp.float32(0)))))
    with pytest.raises(ValueError, match=r"step turns state.time from int32\[\] into float32\[\]"):
        rlzoo.envs.make(with_step(lambda state, now: (state._replace(time=1.0 * state.time), now)))
    with pytest.raises(ValueError, match="another structure"):
        rlzoo.envs.make(with_step(lambda state, now: ((state, 1), now)))
    with pytest.raises(ValueError, match="own/broken: step raises ZeroDivisionError: division by zero"):
        rlzoo.envs.make(with_step(lambda state, now: 1 / 0))
    with pytest.raises(ValueError, match=r"step gives a tuple; it must give \(state, TimeStep\)"):
        rlzoo.envs.make(with_step(lambda state, now: (state, now.reward, False, {})))
    with pytest.raises(ValueError, match=r"own/broken: reset gives a ShapeDtypeStruct; it must give \(obs, state\)"):
        rlzoo.envs.make(env._replace(name="own/broken", reset=lambda key, params: env.reset(key, params)[0]))


def test_the_old_five_values_are_told_apart():
    """Of an object with one ``done``: the time limit is a truncation, as of gymnax 1.0's own."""
    import gymnax as original

    class Old(type(original.make("CartPole-v1")[0])):
        def step(self, key, state, action, params=None):
            obs, state, reward, terminated, truncated, info = super().step(key, state, action, params)
            return obs, state, reward, terminated | truncated, info

    params = Old().default_params.replace(max_steps_in_episode=LIMIT)
    env = rlzoo.envs.make(Old(), params=params)
    time_limit_is_a_truncation("own", env, rlzoo.envs.make("gymnax/CartPole-v1"), conforms(env))
