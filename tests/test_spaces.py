"""What `envs.make` refuses by name: spaces, horizons, steps and objects that would be read as what they are not."""

import collections
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_same_bits

import rlzoo
from rlzoo import a3c, ppo, sac
from rlzoo.blocks import networks
from rlzoo.envs.episodes import with_episodes
from rlzoo.types import Box, Discrete, Env, MultiDiscrete

KEY = jax.random.key(0)
INF, NAN = np.inf, np.nan


class Params(NamedTuple):
    max_steps_in_episode: int = 10


class Space:
    def __init__(self, **fields):
        self.__dict__.update(fields)


class Own:
    """An object of gymnax's interface with any spaces, state and observation."""

    name = "thing"

    def __init__(self, obs=Space(low=-1.0, high=1.0, shape=(3,)), action=Space(n=2), seen=jnp.zeros(3), **fields):
        self.obs, self.action, self.seen, self.state = obs, action, seen, {"t": 0}
        self.default_params = Params()
        self.__dict__.update(fields)

    def observation_space(self, params):
        return self.obs

    def action_space(self, params):
        return self.action

    def reset(self, key, params):
        return self.seen, self.state

    def after(self, state):
        return state | {"t": state["t"] + 1}

    def step(self, key, state, action, params):
        return self.seen, self.after(state), 0.0, False, state["t"] > 8, {"final_observation": self.seen}


BOX3 = Space(low=-1.0, high=1.0, shape=(3,))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"action": Space(n=3, shape=(3,))}, r"its action space is a Space\(n=3, shape=\(3,\)\); allowed are Discrete"),
        ({"action": Space(n=3, start=5, shape=())}, r"its action space is a Space\(n=3, start=5, shape=\(\)\)"),
        ({"action": Space(n=np.array([2, 3]))}, "its action space is a Space"),
        ({"action": Space(n=NAN)}, r"its action space is a Space\(n=nan\)"),
        ({"action": Space(n="3")}, r"its action space is a Space\(n='3'\)"),
        ({"action_space": lambda params: params.missing}, "own/thing: its spaces raise AttributeError"),
        ({"action": Space(n=2.5)}, r"its action space is a Space\(n=2.5\)"),
        ({"action": Space(nvec=[[2, 3]], shape=(1, 2))}, r"its action space is a Space\(nvec=\[\[2, 3\]\], shape="),
        (
            {"action": Space(nvec=[2, 3], start=[1, 0], shape=(2,))},
            r"its action space is a Space\(start=\[1, 0\], nvec=",
        ),
        (
            {"action": Space(nvec=[2, 0], shape=(2,))},
            r"MultiDiscrete\(n=\(2, 0\)\); it must have whole numbers of actions",
        ),
        ({"action": Space(nvec=[2], n=2)}, "its action space is a Space"),
        ({"action": Space(spaces={})}, "its action space is a Space"),
        ({"action": None}, "its action space is a NoneType"),
        ({"action": Space(n=0)}, r"Discrete\(0\); it must have a whole number of actions, 1 or more"),
        ({"action": Space(n=-1)}, r"Discrete\(-1\); it must have a whole number"),
        ({"action": Space(low=0, high=9, shape=(1,), dtype=np.int32)}, "action space is a Box of whole numbers"),
        ({"action": Space(low=np.zeros(2), high=1.0, shape=(3,))}, "low, high and shape that go together"),
        ({"action": Space(low=0.0, high=1.0, shape=(0,))}, r"action space has the shape \[0\], and nothing in it"),
        ({"action": Space(low=None, high=1.0, shape=(1,))}, "action space has low = nan and high = 1 at .*no bounds"),
        ({"obs": Space(n=4, shape=(4,)), "seen": jnp.ones(4, int)}, r"its observation space is a Space\(n=4, shape"),
        ({"obs": Space(n=4), "seen": jnp.ones(4, int)}, r"reset gives obs float32\[4, 4\]; .* says float32\[4\]"),
        ({"obs": Space(n=0), "seen": jnp.int32(0)}, r"its observation space has the shape \[0\]"),
        ({"seen": jnp.zeros(5)}, r"reset gives obs float32\[5\]; the observation space says float32\[3\]"),
        ({"seen": jnp.zeros((3, 1))}, r"reset gives obs float32\[3, 1\]"),
        ({"obs": Space(low=0.0, high=1.0, shape=(0,)), "seen": jnp.zeros(0)}, r"its observation space has the shape"),
        ({"obs": Space(low=0.0, high=1.0, shape=(2, 0)), "seen": jnp.zeros((2, 0))}, r"has the shape \[2, 0\]"),
        ({"obs": Space(low=2.0, high=1.0, shape=(3,))}, r"observation space has low = 2 and high = 1 at \[0\], the wr"),
        ({"obs": Space(low=NAN, high=1.0, shape=(3,))}, "observation space has low = nan"),
        ({"default_params": Params(0)}, "thing: its horizon is 0; it must be a whole number of steps, 1 to"),
        ({"default_params": Params(-3)}, "its horizon is -3"),
        ({"default_params": Params(2.5)}, "max_steps_in_episode is 2.5; it must be a whole number"),
        ({"default_params": Params(INF)}, "max_steps_in_episode is inf; it must be a whole number"),
        ({"default_params": {}}, "thing: its parameters lack `max_steps_in_episode`"),
        ({"after": lambda s: s | {"t": s["t"] + 0.5}}, r"step turns state\['t'\] from int32\[\] into float32\[\]"),
        ({"after": lambda s: s | {"t": jnp.zeros(2, int)}}, r"step turns state\['t'\] from int32\[\] into int32\[2\]"),
        ({"after": lambda s: s | {"new": 1}}, "another structure"),
        ({"reset": lambda key, p: {}["x"]}, "own/thing: reset raises KeyError"),
        ({"reset": lambda key, p: ({"a": jnp.zeros(3)}, {})}, "own/thing: reset gives obs a dict; .* says float32"),
        ({"step": lambda *_: jnp.zeros(3)}, "thing: step returned a "),
        ({"step": lambda *_: (1, 2, 3, 4)}, "^own/thing: step returned 4 values; allowed are gymnax 1.0's six"),
        (
            {"step": lambda *_: (1, 2, 3, 4, 5)},
            "step returned 5 values, as step did before gymnax 1.0, .*give it step_env",
        ),
        ({"step": lambda *_: (1, 2, 3, 4, 5, {})}, r"returned 6 values without info\['final_observation'\]"),
        ({"observation_space": BOX3}, "Own: observation_space must be functions of the parameters"),
    ],
)
def test_own_objects_that_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        rlzoo.envs.make(Own(**fields))


def test_own_objects_that_are_taken():
    assert rlzoo.envs.make(Own()).action_space == Discrete(2)
    assert rlzoo.envs.make(Own(action=Space(nvec=np.array([2, 3]), shape=(2,)))).action_space == MultiDiscrete((2, 3))
    assert rlzoo.envs.make(Own(action=Space(n=np.int64(3), start=np.int64(0), shape=()))).action_space == Discrete(3)
    half = rlzoo.envs.make(Own(action=Space(low=0.0, high=INF, shape=(2,))))
    assert half.action_space == Box(np.zeros(2, np.float32), np.full(2, INF, np.float32))
    assert rlzoo.envs.make(Own(obs=Space(n=4), seen=jnp.int32(2))).obs_space.shape == (4,)
    still = Space(low=1.0, high=1.0, shape=(3,))  # an observation may be fixed
    assert rlzoo.envs.make(Own(obs=still)).obs_space.shape == (3,)
    wide = Space(low=-3e38, high=3e38, shape=(3,))  # and its bounds as wide as they like, as in gymnax's CartPole
    assert not np.isinf(rlzoo.envs.make(Own(obs=wide)).obs_space.low).any()


PROBE = rlzoo.envs.make("probe/constant-reward", continuous=True)


def bounds(low, high):
    return Box(np.full(1, low, np.float32), np.full(1, high, np.float32))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"action_space": bounds(1, 1)}, r"action space has low = 1 and high = 1 at \[0\], the same"),
        ({"action_space": bounds(1, -1)}, "the wrong way round; low must be less than high"),
        ({"action_space": bounds(NAN, NAN)}, "which are no bounds"),
        ({"action_space": bounds(INF, INF)}, "which are no bounds"),
        ({"action_space": bounds(-3e38, 3e38)}, "a width that no float32 holds; use narrower bounds, or infinite ones"),
        ({"action_space": bounds(0, 1e-38)}, "closer than a float32 can tell"),
        ({"action_space": Box(np.full(1, 1.0), np.full(1, 1.0 + 1e-12))}, "low = 1 and high = 1 at"),
        ({"action_space": Box(np.zeros(2, np.float32), np.ones(3, np.float32))}, "must be arrays of one shape"),
        ({"action_space": Box(0.0, 1.0)}, "must be arrays of one shape"),
        ({"action_space": Box(np.zeros(0), np.zeros(0))}, r"has the shape \[0\]"),
        ({"action_space": Discrete(0)}, "1 or more"),
        ({"action_space": Discrete(True)}, "1 or more"),
        ({"action_space": Space(n=3)}, r"its action space is a Space\(n=3\); it must be a Box or a Discrete"),
        ({"obs_space": Discrete(3)}, r"its observation space is a Discrete\(n=3.*\); it must be a Box of rlzoo.types"),
        ({"obs_space": Box(np.zeros((2, 0)), np.zeros((2, 0)))}, r"its observation space has the shape \[2, 0\]"),
        ({"obs_space": bounds(NAN, 1)}, "its observation space has low = nan"),
        ({"horizon": 0}, "its horizon is 0"),
        ({"horizon": 1e3}, "its horizon is 1000.0"),
        ({"horizon": True}, "its horizon is True"),
        ({"horizon": None}, "its horizon is None"),
        ({"horizon": 2**31}, "its horizon is 2147483648; it must be a whole number of steps, 1 to 2,147,483,647"),
    ],
)
def test_environments_of_rlzoo_types_that_are_refused(fields, message):
    with pytest.raises(ValueError, match=f"probe/constant-reward continuous: .*{message}"):
        rlzoo.envs.make(PROBE._replace(**fields))


OWN = [f"rlzoo/{name}" for name in rlzoo.envs.names("rlzoo")]


@pytest.mark.parametrize("name", [*OWN, "brax/inverted_pendulum"])
@pytest.mark.parametrize("horizon", [0, -1, 2.5])
def test_horizons_of_names(name, horizon):
    options = {"backend": "spring"} if name.startswith("brax/") else {}
    with pytest.raises(ValueError, match=f"{name}.*its horizon is {horizon}; it must be a whole number of steps"):
        rlzoo.envs.make(name, horizon=horizon, **options)


def test_names_with_options_that_leave_nothing_to_see():
    with pytest.raises(ValueError, match="Catch-bsuite"):
        rlzoo.envs.make("gymnax/Catch-bsuite", rows=0)


# --- what is given in the place of an environment ---------------------------------------------------------------------


class Fields(NamedTuple):
    """An environment of one's own may be a NamedTuple."""

    default_params: Params
    reset: object
    step: object
    observation_space: object
    action_space: object


def test_objects_that_are_no_environments():
    import gymnasium
    import gymnax
    from brax import envs as brax_envs

    own = Own()
    algo = ppo.make(PROBE)
    for given, message in (
        (Own, r"Own is a class; give an object of it: make\(Own\(\)\)"),
        (gymnasium.make("CartPole-v1"), "an environment of gymnasium, which steps in Python and cannot be compiled"),
        (gymnax.make("CartPole-v1"), r"a tuple was given; .* make\(env, params=params\)"),
        (brax_envs.get_environment("inverted_pendulum", backend="spring"), r"brax's own object; give its name"),
        (algo, "an algorithm, ppo, was given; its environment is its field env"),
        ({"env": "gymnax/CartPole-v1"}, r"a dict was given, {'env': 'gymnax/CartPole-v1'}; allowed are a name such as"),
        ([], r"a list was given, \[\]; allowed"),
        (None, "a NoneType was given, None; allowed"),
        (__import__("pathlib").Path("runs/one"), "a PosixPath was given, runs/one; allowed are"),
        ("runs/one", "unknown environment 'runs/one'"),
        ("", "unknown environment ''"),
        ("gymnax/cartpole-v1", "did you mean 'gymnax/CartPole-v1'"),
        (lambda: own, "function lacks reset, step, observation_space, action_space"),
    ):
        with pytest.raises(ValueError, match=message):
            rlzoo.envs.make(given)
    with pytest.raises(ValueError, match="options horizon given with an object; allowed is params alone"):
        rlzoo.envs.make(own, horizon=5)
    with pytest.raises(ValueError, match="options params given with an object; allowed is none"):
        rlzoo.envs.make(PROBE, params=PROBE.params)
    taken = Fields(own.default_params, own.reset, own.step, own.observation_space, own.action_space)
    assert rlzoo.envs.make(taken).name == "own/Fields"


@pytest.mark.parametrize("name", rlzoo.ALGORITHMS)
def test_algorithms_take_environments_alone(name):
    module = rlzoo.ALGORITHMS[name]
    data = () if name in ("a2c", "a3c", "ga3c", "mixed_ne", "ppo", "qarl", "sac", "stac") else (None,)
    for given, message in (
        (
            "gymnax/CartPole-v1",
            r"takes an environment, an rlzoo.types.Env, not the name .*rlzoo.envs.make\('gymnax/CartPole-v1'\)",
        ),
        (Own(), "takes an environment, an rlzoo.types.Env, not a Own; build it: rlzoo.envs.make"),
        ({}, "takes an environment.*not a dict"),
        (PROBE._replace, "takes an environment.*not a method"),
    ):
        with pytest.raises(ValueError, match=message):
            module.make(given, module.Config(), *data)


def test_what_takes_an_environment_takes_no_name():
    name = "gymnax/Pendulum-v1"
    algo = ppo.make(PROBE)
    for call in (
        lambda: rlzoo.envs.adversarial(name),
        lambda: rlzoo.envs.stochastic(name),
        lambda: rlzoo.envs.vary(name, {"m": [1.0]}),
        lambda: rlzoo.data.collect(name, None, KEY, 10, 2),
        lambda: rlzoo.evaluate(algo, name, None, KEY, 1),
        lambda: rlzoo.robustness(algo, name, None, KEY, 1, None),
    ):
        with pytest.raises(
            ValueError, match=rf"takes an environment, .* not the name '{name}'; build it: rlzoo.envs.ma"
        ):
            call()


# --- names of fields mean nothing -------------------------------------------------------------------------------------


def walker(*names, params):
    """A point on a line; state and parameters under any names."""
    State = NamedTuple("State", [(name, jax.Array) for name in names])

    def reset(key, params):
        x = jax.random.normal(key, (2,))
        return x, State(x, jnp.int32(0), *[jnp.array(True)] * (len(names) - 2))

    def step(key, state, action, params):
        x = state[0] + (2.0 * action - 1.0) * params[0] + 0.1 * jax.random.normal(key, (2,))
        return State(x, state[1] + 1, *state[2:]), x, -x.sum(), x[0] > 2.0

    reset, step = with_episodes(reset, step, 7)
    space = Box(np.full(2, -INF, np.float32), np.full(2, INF, np.float32))
    return rlzoo.envs.make(Env("own/walker spring", reset, step, params, space, Discrete(2), 7))


def test_fields_of_states_and_parameters_are_never_read_by_name():
    plain, odd = (collections.namedtuple(f"Of{x}", [x, y]) for x, y in (("a", "b"), ("link_names", "mass")))
    names = "truncated", "terminated", "done", "time", "inner", "first", "key", "step", "shared", "replay", "params"
    found = []
    for fields, kind in ((tuple(f"x{i}" for i in range(len(names))), plain), (names, odd)):
        env = walker(*fields, params=kind(jnp.float32(0.5), jnp.ones(2)))
        varied = rlzoo.envs.vary(env, {f"{kind._fields[1]} 1": [1.0, 2.0]})
        assert varied[1].shape == (2, 2)
        noisy = rlzoo.envs.stochastic(env, sticky=0.3)
        algo = ppo.make(noisy, ppo.Config(num_envs=2, num_steps=16, num_minibatches=1, num_epochs=1, hidden=(4,)))
        state, metrics = rlzoo.train(rlzoo.sweep(algo), jax.random.split(KEY, 2), 2)
        found.append((state.params, metrics))
    assert_same_bits(*found)


def test_states_of_own_algorithms_may_have_any_field():
    """Of a State with fields called shared and replay: neither is the method nor the buffer of those names."""

    class State(NamedTuple):
        shared: jax.Array
        replay: jax.Array
        key: jax.Array
        step: jax.Array

    base = ppo.make(PROBE)
    algo = base._replace(
        config=None,
        init=lambda key, hyper, task: State(hyper.gamma, jnp.zeros(3), key, jnp.int32(0)),
        step=lambda state, hyper, task: (state._replace(step=state.step + 1, shared=2.0 * state.shared), {}),
    )
    state, _ = rlzoo.train(rlzoo.sweep(algo, rlzoo.grid(algo.hyper, gamma=[0.5, 0.25])), jax.random.split(KEY, 2), 2)
    np.testing.assert_array_equal(state.shared, [[2.0, 2.0], [1.0, 1.0]])


@pytest.mark.parametrize("name", ["probe/reward-by-both", *OWN, "gymnax/FrozenLake-misc"])
def test_environments_show_float32_in_64_bits(name):
    with jax.enable_x64(True):
        rlzoo.envs.make(rlzoo.envs.make(name))


# --- what outlives a trace --------------------------------------------------------------------------------------------


def remembers(where):
    """Raw dynamics that keep what a trace computed: on themselves, or in the dict that they are given."""
    kept = {}

    def reset(key, params):
        kept.setdefault("start", jax.random.uniform(key, (2,)))
        return kept["start"] + params, {"x": kept["start"], "last": jnp.float32(0.0)}

    def step(key, state, action, params):
        start = kept["start"] if where == "on itself" else 0.0
        state["last"] = jnp.float32(1.0) * action  # in place
        after = {"x": state["x"] + action + start, "last": state["last"]}
        return after, after["x"], -after["x"].sum(), jnp.array(False)

    if where == "in the state":
        kept["start"] = jnp.zeros(2)
    return reset, step


def test_what_a_trace_leaves_behind_is_said_at_make():
    reset, step = with_episodes(*remembers("on itself"), 5)
    space = Box(np.full(2, -INF, np.float32), np.full(2, INF, np.float32))
    env = Env("own/cache", reset, step, jnp.float32(0.0), space, Discrete(2), 5)
    with pytest.raises(ValueError, match="own/cache: step uses an array that an earlier trace left behind, .*or call "):
        rlzoo.envs.make(env)

    # Asked once before, as the message says, it keeps a number.
    raw = remembers("on itself")
    raw[0](KEY, jnp.float32(0.0))
    reset, step = with_episodes(*raw, 5)
    env = rlzoo.envs.make(env._replace(reset=reset, step=step))
    algo = ppo.make(env, ppo.Config(num_envs=2, num_steps=4, num_minibatches=1, num_epochs=1, hidden=(4,)))
    assert np.isfinite(rlzoo.train(algo, KEY, 1)[1]["loss/value"]).all()


def test_dynamics_that_write_into_their_state():
    """Of raw ones a copy is written into, so that a state may be stepped twice, within a trace of its own or not."""
    reset, step = with_episodes(*remembers("in the state"), 5)
    space = Box(np.full(2, -INF, np.float32), np.full(2, INF, np.float32))
    env = rlzoo.envs.make(Env("own/writes", reset, step, jnp.float32(0.0), space, Discrete(2), 5))
    _, state = env.reset(KEY, env.params)
    first = jax.jit(lambda action: env.step(KEY, state, action, env.params)[1].next_obs)(jnp.int32(1))
    assert float(state.inner["last"]) == 0.0  # neither 1, nor what a trace left behind
    np.testing.assert_array_equal(env.step(KEY, state, jnp.int32(1), env.params)[1].next_obs, first)

    def writes(key, state, action, params):
        state.inner["last"] = jnp.float32(0.0)
        return step(key, state, action, params)

    with pytest.raises(ValueError, match="own/writes: step writes into the state that it is given; let it begin with"):
        rlzoo.envs.make(env._replace(step=writes))
    counts = Own(step=lambda key, state, *_: _counted(state))
    assert rlzoo.envs.make(counts).name == "own/thing"


def _counted(state):
    state["t"] += 1
    return jnp.zeros(3), state, 0.0, False, state["t"] > 8, {"final_observation": jnp.zeros(3)}


# --- images -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 2, 3), (1, 8, 3), (8, 1, 3), (1, 1, 3), (2, 3, 1), (3, 3, 1), (3, 4, 2)])
def test_networks_see_all_of_an_image(shape):
    """Every pixel of it, however small: the value, the policy and a critic of every pixel's change."""
    obs = jax.random.normal(KEY, (1, *shape))
    nets = {
        "actor-critic": networks.ActorCritic(shape, 2, True, (16,)),
        "feed-forward": networks.FeedForward(2, shape, (16,)),
    }
    for name, net in nets.items():
        params = net.init(jax.random.key(1), obs)
        jacobian = jax.jacobian(lambda obs: jax.tree.leaves(net.apply(params, obs))[-1].sum())(obs)  # noqa: B023
        assert (jacobian != 0.0).mean() > 0.7, f"{name} {shape}"  # a ReLU may be off


def test_the_convolution_refuses_what_it_would_not_see():
    with pytest.raises(ValueError, match=r"images \[2, 9, 3\] are smaller than the 3 x 3 convolution; flatten them"):
        networks.CNN().init(KEY, jnp.zeros((1, 2, 9, 3)))


@pytest.mark.parametrize("make", [ppo.make, sac.make, a3c.make])
def test_policies_of_tiny_images_are_not_blind(make):
    seen = Space(low=0.0, high=1.0, shape=(2, 2, 3))
    algo = make(rlzoo.envs.make(Own(obs=seen, seen=jnp.zeros((2, 2, 3)))))
    state = jax.eval_shape(lambda key: algo.init(key, algo.hyper, algo.task), KEY)
    assert any(x.shape[-2:-1] == (12,) for x in jax.tree.leaves(state.params))
