"""Observations of several arrays: masks of legal actions, images beside vectors, what critics alone see; and types."""

from collections import namedtuple
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_same_bits, named_leaves

import rlzoo
from rlzoo import a2c, a3c, cpl, ga3c, ppo, qarl, sac, stac
from rlzoo.blocks import networks
from rlzoo.blocks.distributions import Categorical, Categoricals, among_legal
from rlzoo.data import collect, preferences
from rlzoo.envs.episodes import with_episodes
from rlzoo.envs.observations import layout
from rlzoo.types import Box, Discrete, Env, MultiDiscrete, Observation

KEY = jax.random.key(7)
Seen = namedtuple("Seen", "board level")


def shapes(**fields: Any) -> dict[str, Any]:
    return {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in fields.items()}


# --- how observations are laid out ------------------------------------------------------------------------------------


def test_vectors_are_one_vector_in_the_order_of_sorted_keys():
    example = {"b": np.arange(4).reshape(2, 2), "a": np.float64([8.0, 9.0]), "c": np.bool_(True)}
    observe, space = layout("own", example, Discrete(2))
    assert observe(example).tolist() == [8.0, 9.0, 0.0, 1.0, 2.0, 3.0, 1.0] and observe(example).dtype == jnp.float32
    assert space.shape == (7,) and np.isinf(space.low).all()
    whole = {"x": np.int8([1, 2]), "y": np.int8([[3]])}
    observe, space = layout("own", whole, Discrete(2))
    assert observe(whole).dtype == jnp.int8 and space.low.dtype == np.int8 and (space.low == -128).all()


def test_images_go_to_a_convolution_and_the_rest_stands_beside_them():
    example = {"world": (np.ones((5, 4, 2), bool), np.zeros((5, 4, 1), bool)), "tiny": np.zeros((2, 5, 3))}
    observe, space = layout("own", example, Discrete(2))
    assert space.shape == Observation(vector=(30,), image=(5, 4, 3))
    assert observe(example).image.dtype == bool and observe(example).image[..., :2].all()
    assert layout("own", np.zeros((5, 4, 2), np.uint8), Discrete(2))[1].shape == (5, 4, 2)  # alone: as it is
    named = layout("own", Seen(np.zeros((9, 9)), np.zeros(())), Discrete(2))
    assert named[1].shape == (82,)


def test_fields_that_mean_something():
    example = {"obs": np.zeros(3), "action_mask": np.ones(2, bool), "privileged_state": np.zeros((2, 2))}
    observe, space = layout("own", example, Discrete(2))
    assert space.shape == Observation(vector=(3,), legal=(2,), privileged=(4,))
    assert observe(example).legal.all()
    assert layout("own", {"obs": np.zeros(3), "action_mask": np.ones(5, bool)}, MultiDiscrete((2, 3)))[1].legal


@pytest.mark.parametrize(
    ("example", "actions", "message"),
    [
        (
            {"a": np.zeros(2), "t": np.array("x")},
            2,
            r"its observation's entry \['t'\] is <U1; allowed are arrays of real",
        ),
        ({"a": np.zeros(2), "z": np.zeros(2, complex)}, 2, r"entry \['z'\] is complex128; allowed are arrays of real"),
        (shapes(a=((3, 3, 1), bool), b=((4, 4, 1), bool)), 2, r"images of several sizes, entry \['a'\] \[3, 3, 1\], "),
        (
            {"a": np.zeros(2), "action_mask": np.ones(3, bool)},
            2,
            r"bool\[3\], and the actions are .* must be bool\[2\]",
        ),
        ({"a": np.zeros(2), "legal": np.ones(2)}, 2, r"entry \['legal'\] is float64\[2\], .*it must be bool\[2\]"),
        ({"a": np.zeros(2), "legal": np.ones(2, bool)}, None, "it must be left out, as real actions have no mask"),
        ({"legal": np.ones(2, bool)}, 2, "nothing but a mask, or what critics see"),
    ],
)
def test_observations_that_are_refused(example, actions, message):
    space = Discrete(actions) if actions else Box(np.float32([-1]), np.float32([1]))
    with pytest.raises(ValueError, match=message):
        layout("own", example, space)


# --- masks ------------------------------------------------------------------------------------------------------------


def bandit(legal, rewards, horizon=4, actions=None):
    """Rewards of arms, of which some are legal; what is seen else is 1."""
    legal, rewards = jnp.asarray(legal), jnp.asarray(rewards)
    reward = lambda action: rewards[action] if actions is None else jnp.float32((action == 1).all())  # noqa: E731
    box = Box(np.full(1, -np.inf, np.float32), np.full(1, np.inf, np.float32))
    mask = Box(np.zeros(len(legal), bool), np.ones(len(legal), bool))
    obs = Observation(vector=jnp.ones(1), legal=legal)
    reset, step = with_episodes(
        lambda key, params: (obs, 0), lambda key, state, action, params: (state, obs, reward(action), False), horizon
    )
    space = Observation(vector=box, legal=mask)
    return rlzoo.envs.make(Env("own/bandit", reset, step, (), space, actions or Discrete(len(legal)), horizon))


SMALL = {"num_envs": 8, "num_steps": 4}
LEARNERS = {
    "ppo": lambda env: ppo.make(
        env, ppo.Config(**SMALL, num_minibatches=2, num_epochs=4, hidden=(8,)), ppo.Hyper(learning_rate=1e-2)
    ),
    "a2c": lambda env: a2c.make(env, a2c.Config(**SMALL, hidden=(8,)), a2c.Hyper(learning_rate=3e-2)),
    "a3c": lambda env: a3c.make(env, a3c.Config(num_workers=4, hidden=(8,)), a3c.Hyper(learning_rate=1e-2)),
    "ga3c": lambda env: ga3c.make(env, ga3c.Config(**SMALL, hidden=(8,)), ga3c.Hyper(learning_rate=1e-2)),
    "sac": lambda env: sac.make(
        env,
        sac.Config(num_envs=4, num_updates=4, capacity=256, warmup=32, batch_size=32, hidden=(8,)),
        sac.Hyper(1e-2, 1e-2, 1e-2, gamma=0.0, target_entropy=0.1),
    ),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_a_bandit_whose_best_arm_is_illegal(name):
    """The best of what is legal is learned; what is illegal is never done, in training and in evaluation."""
    algo = LEARNERS[name](bandit([False, True, True], [9.0, 0.0, 1.0]))
    state, metrics = rlzoo.train(algo, KEY, 100)
    for leaf, x in named_leaves((state, metrics)):
        assert not np.issubdtype(x.dtype, np.floating) or np.isfinite(x).all(), leaf
    assert metrics["episode/return_sum"].max() <= 4.0 * metrics["episode/count"].max()  # never 9
    assert (metrics["episode/nothing_legal"] == 0.0).all()
    assert (metrics["policy/entropy"] < np.log(2.0) + 1e-4).all()  # of two arms
    best = rlzoo.evaluate(algo, algo.env, state, KEY, 4)
    sampled = rlzoo.evaluate(algo, algo.env, state, KEY, 64, deterministic=False)
    assert (best.returns == 4.0).all() and (sampled.returns <= 4.0).all()
    if name == "sac":
        assert (state.replay.action > 0).all() and state.replay.obs.legal.dtype == bool


class Heads(nn.Module):
    """A bias for each arm, so that an arm that is left out leaves the others' parameters as they are."""

    arms: int
    policy: bool = False

    @nn.compact
    def __call__(self, obs):
        logits = [self.param(f"arm {i}", nn.initializers.constant(0.1 * i), ()) for i in range(self.arms)]
        out = jnp.broadcast_to(jnp.stack(logits), (*obs.shape[:-1], self.arms))
        value = self.param("value", nn.initializers.zeros, ())
        return (Categorical(out), jnp.broadcast_to(value, obs.shape[:-1])) if self.policy else out


OWN = {
    "ppo": lambda env, arms: ppo.make(
        env,
        ppo.Config(**SMALL, num_minibatches=2, num_epochs=2, network=Heads(arms, True)),
        ppo.Hyper(learning_rate=1e-2, entropy_coef=0.1),
    ),
    "a2c": lambda env, arms: a2c.make(env, a2c.Config(**SMALL, network=Heads(arms, True))),
    "a3c": lambda env, arms: a3c.make(env, a3c.Config(num_workers=4, network=Heads(arms, True))),
    "ga3c": lambda env, arms: ga3c.make(env, ga3c.Config(**SMALL, network=Heads(arms, True))),
    "sac": lambda env, arms: sac.make(
        env,
        sac.Config(num_envs=4, capacity=64, warmup=16, batch_size=16, actor=Heads(arms), critic=Heads(arms)),
        sac.Hyper(1e-2, 1e-2, 1e-2),
    ),
}


@pytest.mark.parametrize("name", OWN)
def test_updates_are_those_without_the_illegal_arms(name, monkeypatch):
    """Masked and left out, of the same draws: the first of what is legal wherever a uniform number says so."""

    def draw(key, logits, axis=-1, shape=None):
        uniform = jax.random.uniform(key, logits.shape[:-1])[..., None]
        return jnp.argmax(jnp.cumsum(jax.nn.softmax(logits), axis=-1) > uniform, axis=-1)

    monkeypatch.setattr(jax.random, "categorical", draw)
    algos = OWN[name](bandit([True, True, False], [0.0, 1.0, 9.0]), 3), OWN[name](bandit([True, True], [0.0, 1.0]), 2)
    states = [rlzoo.init(algo, KEY) for algo in algos]
    if name == "sac":  # whose warm-up has other draws
        cut = lambda obs: obs._replace(legal=obs.legal[:, :2])  # noqa: E731
        rows = states[0].replay
        states[1] = states[1]._replace(replay=rows._replace(obs=cut(rows.obs), next_obs=cut(rows.next_obs)))
        assert algos[0].hyper.target_entropy == pytest.approx(0.98 * np.log(3.0))  # of which log 2 / log 3 is reached
    states = [jax.tree.map(jnp.copy, state) for state in states]  # what one trains on is given up
    (masked, said), (without, wanted) = map(lambda *x: rlzoo.resume(*x, 5), algos, states)
    for part in ("actor", "critics") if name == "sac" else ("params",):
        one, two = (getattr(x.params, part) if name == "sac" else x.params for x in (masked, without))
        for arm in ("arm 0", "arm 1", "value"):
            np.testing.assert_allclose(one["params"][arm], two["params"][arm], rtol=1e-4, atol=1e-5, err_msg=arm)
        np.testing.assert_allclose(one["params"]["arm 2"], 0.2, atol=1e-6)  # without a gradient
    for metric in ("policy/entropy", "episode/return_sum"):
        np.testing.assert_allclose(said[metric], wanted[metric], rtol=1e-4, atol=1e-5, err_msg=metric)


def test_cpl_clones_and_prefers_among_what_is_legal(tmp_path):
    env = bandit([False, True, True], [9.0, 0.0, 1.0])
    dataset = collect(env, None, KEY, 400, 4)
    assert (dataset.action > 0).all() and dataset.legal.shape == (400, 3) and dataset.obs.shape == (400, 1)
    assert_same_bits(rlzoo.data.load(rlzoo.data.save(tmp_path / "bandit.npz", dataset)), dataset)
    drawn = preferences.segments(dataset, 200, 2, KEY)
    said = preferences.compare(drawn, preferences.reward_score(drawn))
    assert_same_bits(preferences.load(preferences.save(tmp_path / "said.npz", said)), said)
    algo = cpl.make(env, cpl.Config(hidden=(8,), dropout=0.0, batch_size=32), said, cpl.Hyper(learning_rate=1e-2))
    state, metrics = rlzoo.train(algo, KEY, 200)
    assert np.isfinite(metrics["loss/preference"]).all()
    assert (rlzoo.evaluate(algo, env, state, KEY, 8).returns == 4.0).all()
    oracle = LEARNERS["sac"](env)
    values = preferences.regret_score(drawn, oracle, rlzoo.init(oracle, KEY), KEY, 4)
    assert values.shape == (200,) and np.isfinite(values).all()
    unmasked = said.replace(legal=None)
    with pytest.raises(ValueError, match="has no masks of legal actions, own/bandit has some; record it there again"):
        cpl.make(env, cpl.Config(), unmasked)


def test_noise_and_stickiness_keep_to_what_is_legal():
    """The mask changes sides at every step: neither a random action nor the last one breaks it."""

    def look(time):
        return Observation(vector=jnp.ones(1), legal=jnp.arange(4) % 2 == time % 2)

    reset, step = with_episodes(
        lambda key, params: (look(0), jnp.int32(0)),
        lambda key, time, action, params: (time + 1, look(time + 1), jnp.float32(action % 2 == time % 2), False),
        50,
    )
    space = bandit([True] * 4, [0.0] * 4).obs_space
    env = rlzoo.envs.make(Env("own/sides", reset, step, (), space, Discrete(4), 50))
    noisy = rlzoo.envs.stochastic(env, action_noise=0.7, sticky=0.7)
    acts = lambda obs, key: jnp.argmax(obs.legal, axis=-1)  # noqa: E731
    for policy in (acts, None):
        dataset = collect(noisy, policy, KEY, 400, 4)
        assert (dataset.reward == 1.0).all()


def test_where_nothing_is_legal():
    """At a reset `make` says it; later all actions are taken for legal, finite, and counted."""
    with pytest.raises(ValueError, match="reset allows none of its actions, Discrete.n=2.; `legal` must allow one"):
        bandit([False, False], [0.0, 1.0])
    logits = jnp.array([[1.0, 2.0], [1.0, 2.0]])
    masks = jnp.array([[False, False], [False, True]])
    pi = among_legal(Categorical(logits), Observation(vector=logits, legal=masks))
    np.testing.assert_allclose(pi.entropy(), [float(Categorical(logits[0]).entropy()), 0.0], atol=1e-6)
    entropy = lambda x: among_legal(Categorical(x), Observation(legal=masks)).entropy().sum()  # noqa: E731
    assert np.isfinite(jax.grad(entropy)(logits)).all()

    env = bandit([True, True], [0.0, 1.0])
    nothing = Observation(vector=jnp.ones(1), legal=jnp.zeros(2, bool))

    def step(key, state, action, params):
        state, now = env.step(key, state, action, params)
        return state, now._replace(obs=nothing, next_obs=nothing)

    algo = LEARNERS["ppo"](env._replace(step=step))
    state, metrics = rlzoo.train(algo, KEY, 3)
    assert metrics["episode/nothing_legal"].tolist() == [24.0, 32.0, 32.0]
    assert all(np.isfinite(x).all() for _, x in named_leaves((state.params, metrics)))


# --- several discrete actions at once ---------------------------------------------------------------------------------


def test_categoricals_are_independent():
    pi = Categoricals(jnp.array([[0.3, -0.2, 1.0, 0.0, 2.0]]), (2, 3))
    parts = [jax.nn.log_softmax(x) for x in (pi.logits[:, :2], pi.logits[:, 2:])]
    action = jnp.array([[1, 2]])
    np.testing.assert_allclose(pi.log_prob(action), parts[0][:, 1] + parts[1][:, 2], rtol=1e-6)
    entropy = sum(-(jnp.exp(x) * x).sum(-1) for x in parts)
    np.testing.assert_allclose(pi.entropy(), entropy, rtol=1e-6)
    assert pi.mode().tolist() == [[0, 2]]
    drawn = jax.vmap(pi.sample)(jax.random.split(KEY, 4_000))[:, 0]
    for i, part in enumerate(parts):
        shares = np.bincount(drawn[:, i], minlength=part.shape[-1]) / 4_000
        np.testing.assert_allclose(shares, jnp.exp(part[0]), atol=0.03)
    masked = among_legal(pi, Observation(legal=jnp.array([[True, False, False, True, True]])))
    assert masked.mode().tolist() == [[0, 2]] and float(masked.log_prob(jnp.array([[0, 1]]))[0]) < 0.0
    assert (jax.vmap(masked.sample)(jax.random.split(KEY, 500))[:, 0, 0] == 0).all()


@pytest.mark.parametrize("name", ["ppo", "a2c", "a3c", "ga3c"])
def test_several_numbers_at_once_are_learned(name):
    """Reward where both are 1, of which the second has an illegal 0."""
    algo = LEARNERS[name](bandit([True, True, False, True, True], [0.0], actions=MultiDiscrete((2, 3))))
    state, _ = rlzoo.train(algo, KEY, 100)
    assert (rlzoo.evaluate(algo, algo.env, state, KEY, 4).returns == 4.0).all()
    with pytest.raises(
        ValueError, match=r"own/bandit: its actions are MultiDiscrete\(n=\(2, 3\)\); SAC takes a Box or"
    ):
        sac.make(algo.env)


# --- what critics alone see; images beside vectors; own types ---------------------------------------------------------


def hidden_goal(continuous):
    """The reward is 1 - |a - goal|, of which the critic sees the goal and the policy nothing; images are beside it."""

    def look(key):
        goal = jax.random.uniform(key, (1,), minval=-1.0)
        return Observation(vector=jnp.zeros(2, jnp.int8), image=jnp.zeros((4, 4, 1), bool), privileged=goal), goal

    def step(key, goal, action, params):
        obs, new = look(key)
        given = jnp.ravel(action)[0] if continuous else action - 1.0
        return new, obs, 1.0 - jnp.abs(given - goal[0]), True

    reset, step = with_episodes(lambda key, params: look(key), step, 3)
    boxes = jax.tree.map(lambda x: Box(np.full(x.shape, 0, x.dtype), np.full(x.shape, 1, x.dtype)), look(KEY)[0])
    boxes = boxes._replace(privileged=Box(-np.ones(1, np.float32), np.ones(1, np.float32)))
    actions = Box(-np.ones(1, np.float32), np.ones(1, np.float32)) if continuous else Discrete(3)
    return rlzoo.envs.make(Env("own/goal", reset, step, (), boxes, actions, 3))


@pytest.mark.parametrize("continuous", [True, False])
@pytest.mark.parametrize("name", ["ppo", "a2c", "a3c", "ga3c", "sac"])
def test_policies_do_not_see_what_is_privileged_and_critics_do(name, continuous):
    algo = LEARNERS[name](hidden_goal(continuous))
    state, metrics = rlzoo.train(algo, KEY, 6)
    assert all(np.isfinite(x).all() for _, x in named_leaves((state.params, metrics)))
    obs, _ = jax.vmap(algo.env.reset, (0, None))(jax.random.split(KEY, 8), ())
    other = obs._replace(privileged=-obs.privileged)
    acts = [algo.policy(algo.actor(state), x, KEY, True) for x in (obs, other)]
    assert_same_bits(*acts)
    values = [algo.value(state, algo.hyper, x, acts[0])[0] for x in (obs, other)]
    assert not np.allclose(*values)
    assert obs.image.dtype == bool and obs.vector.dtype == jnp.int8
    if name == "sac":  # as they are in the buffer
        assert [x.dtype for x in state.replay.obs if x is not None] == [jnp.int8, bool, jnp.float32]


def test_breakout_takes_a_quarter_of_the_memory():
    env = rlzoo.envs.make("gymnax/Breakout-MinAtar")
    algo = sac.make(env, sac.Config(capacity=1_000))
    replay = jax.eval_shape(algo.init, KEY, algo.hyper, algo.task).replay
    assert sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(replay)) <= 900 * 1_000


def test_large_images_go_through_natures_network():
    net = networks.ActorCritic((84, 84, 4), 3, True)
    made = jax.eval_shape(net.init, KEY, jnp.zeros((1, 84, 84, 4), jnp.uint8))["params"]
    kernels = [made["NatureCNN_0"][f"Conv_{i}"]["kernel"].shape for i in range(3)]
    assert kernels == [(8, 8, 4, 32), (4, 4, 32, 64), (3, 3, 64, 64)]
    assert made["actor"]["Dense_0"]["kernel"].shape[0] == 7 * 7 * 64
    for size in (36, 35, 3):
        net, images = networks.FeedForward(2, (size, size, 1)), jnp.zeros((2, size, size, 1))
        assert jax.eval_shape(net.init_with_output, KEY, images)[0].shape == (2, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda env: stac.make(env),
            "own/goal: its observations have 'image', images beside vectors, which STAC cannot use",
        ),
        (
            lambda env: qarl.make(env),
            "own/goal: its observations have 'image', images beside vectors, which QARL cannot use",
        ),
    ],
)
def test_who_cannot_use_them_says_so(make, message):
    with pytest.raises(ValueError, match=message):
        make(hidden_goal(True))
    with pytest.raises(ValueError, match="images and vectors; a dataset keeps one array of a step"):
        collect(hidden_goal(True), None, KEY, 16, 4)


# --- objects of before gymnax 1.0 -------------------------------------------------------------------------------------


class Old:
    """Counts to 5, a death at 3 if it is told so; five values, and one done for death and limit."""

    name = "old"
    default_params = namedtuple("Params", "max_steps_in_episode dies")(5, False)

    def observation_space(self, params):
        return namedtuple("Space", "low high shape")(0, 9, (1,))

    def action_space(self, params):
        return namedtuple("Space", "n")(2)

    def reset_env(self, key, params):
        return jnp.zeros(1), jnp.int32(0)

    def step_env(self, key, state, action, params):
        state = state + 1
        done = (state >= params.max_steps_in_episode) | (params.dies & (state == 3))
        return state[None].astype(float), state, 1.0, done, {}

    def reset(self, key, params):
        return self.reset_env(key, params)

    def step(self, key, state, action, params):
        obs, new, reward, done, info = self.step_env(key, state, action, params)
        return jnp.where(done, 0.0, obs), jnp.where(done, 0, new), reward, done, info


@pytest.mark.parametrize("dies", [False, True])
def test_five_values_are_told_apart_by_the_clock(dies):
    """The limit is a truncation, with the true last observation; a death is one."""
    env = rlzoo.envs.make(Old(), params=Old.default_params._replace(dies=dies))
    _, state = env.reset(KEY, env.params)
    for t in range(1, 4 if dies else 6):
        state, now = env.step(KEY, state, 0, env.params)
        assert now.next_obs.tolist() == [t]
    assert (bool(now.terminated), bool(now.truncated)) == (dies, not dies)
    assert now.obs.tolist() == [0.0] and env.horizon == 5
