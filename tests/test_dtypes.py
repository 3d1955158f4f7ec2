"""`compute_dtype`: which numbers are bfloat16, which stay float32, and that both come to the same."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from helpers import assert_same_bits, plane, plane_dataset
from test_contract import CASES, TINY_PPO, algorithm
from test_lowering import calls
from test_probes import GAMMA, LEARNERS, value_of

import rlzoo
from rlzoo import ppo, sac, td3_bc
from rlzoo.blocks import networks
from rlzoo.blocks.distributions import Categorical
from rlzoo.drivers import manifest, named, runfile
from rlzoo.drivers.train import float32, strong
from rlzoo.files import plain, write_json

KEY = jax.random.key(3)
HALF = "bfloat16"
NETWORKS = ("ActorCritic", "FeedForward")
NAMES = ("ppo discrete", "ppo continuous", "ppo pixels", "sac discrete", "sac continuous", "td3_bc")


def made(name, **fields):
    case = CASES[name]
    return algorithm(case._replace(config=dataclasses.replace(case.config, **fields)))


def equations(jaxpr, network=False):
    """All of a jaxpr, those inside of others too; of each whether a network's own scope is around it."""
    for eqn in jaxpr.eqns:
        inside = network or any(name in str(eqn.source_info.name_stack) for name in NETWORKS)
        yield eqn, inside
        for value in eqn.params.values():
            for x in value if isinstance(value, tuple | list) else (value,):
                if hasattr(inner := getattr(x, "jaxpr", x), "eqns"):
                    yield from equations(inner, inside)


def is_half(var):
    return getattr(var.aval, "dtype", None) == jnp.bfloat16


def traced(algo, function="step"):
    """The equations of an update, its State before, and State and metrics after it: shapes alone."""
    arguments = float32(algo.hyper), algo.task
    start = jax.eval_shape(lambda key: strong(algo.init(key, *arguments)), KEY)
    jaxpr, after = jax.make_jaxpr(algo.step, return_shape=True)(start, *arguments)
    return list(equations(jaxpr.jaxpr)), start, after


@pytest.mark.parametrize("name", NAMES)
def test_products_of_networks_are_bfloat16_and_nothing_else_is(name):
    """Forwards and backwards. Distributions, advantages, losses, optimisers: no bfloat16 outside of a network."""
    (full, *shapes), (half, *same) = traced(made(name)), traced(made(name, compute_dtype=HALF))
    assert shapes == same
    assert {x.dtype for x in jax.tree.leaves(same[1][1])} == {jnp.dtype("float32")}
    assert not any(is_half(var) for eqn, _ in full for var in (*eqn.invars, *eqn.outvars))

    products = [eqn for eqn, _ in half if eqn.primitive.name == "dot_general"]
    assert len(products) == sum(eqn.primitive.name == "dot_general" for eqn, _ in full) > 10
    assert all(is_half(var) for eqn in products for var in eqn.invars)
    outside = {
        eqn.primitive.name
        for eqn, inside in half
        if not inside and any(is_half(var) for var in (*eqn.invars, *eqn.outvars))
    }
    assert not outside, f"bfloat16 outside of the networks: {outside}"
    # The activations are, and neither biases nor their gradients, which are sums over the batch.
    kinds = {eqn.primitive.name for eqn, _ in half if any(is_half(var) for var in eqn.invars)}
    assert {"tanh", "max"} & kinds and not {"add", "reduce_sum", "log", "exp"} & kinds


def test_a_product_is_of_rounded_factors_and_its_sum_is_not_rounded():
    """Against NumPy: forwards, and the two products of its derivative, which are rounded, of a rounded cotangent."""
    rng = np.random.default_rng(0)
    x, kernel, g = (rng.normal(size=size).astype(np.float32) for size in ((6, 300), (300, 5), (6, 5)))
    rounded = [a.astype(ml_dtypes.bfloat16).astype(np.float64) for a in (x, kernel, g)]
    arrays = jnp.asarray(x), jnp.asarray(kernel)
    np.testing.assert_array_equal(networks.product(*arrays), arrays[0] @ arrays[1])
    found, pull = jax.vjp(lambda *pair: networks.product(*pair, jnp.bfloat16), *arrays)
    np.testing.assert_allclose(found, rounded[0] @ rounded[1], rtol=1e-4, atol=1e-4)
    assert found.dtype == jnp.float32 and not np.array_equal(found, found.astype(jnp.bfloat16).astype(jnp.float32))
    for grad, wanted in zip(pull(jnp.asarray(g)), (rounded[2] @ rounded[1].T, rounded[0].T @ rounded[2]), strict=True):
        np.testing.assert_allclose(grad, wanted, rtol=2**-8, atol=2e-2)
        assert grad.dtype == jnp.float32


@pytest.mark.parametrize("dtype", [None, jnp.bfloat16], ids=["float32", HALF])
def test_the_gradient_of_a_bias_counts_every_row(dtype):
    """2,001 rows: a sum in bfloat16 stops at 256, and knows no odd numbers beyond."""
    for network in (networks.MLP((), 1, dtype=dtype), networks.Linear(1, dtype=dtype)):
        params = network.init(KEY, jnp.ones((1, 3)))
        grads = jax.grad(lambda params: network.apply(params, jnp.ones((2001, 3))).sum())(params)  # noqa: B023
        (bias,) = [x for x in jax.tree.leaves(grads) if x.ndim == 1]
        np.testing.assert_array_equal(bias, [2001.0])


@pytest.mark.parametrize(
    "network",
    [
        networks.ActorCritic((4,), 3, True),
        networks.ActorCritic((4,), 3, False, activation="swish"),
        networks.ActorCritic((6, 6, 2), 3, True, (32,), "relu"),
        networks.FeedForward(2, (4,)),
        networks.FeedForward(2, (4,), (64,), "gelu", layer_norm=True),
        networks.FeedForward(2, (6, 6, 2), (64,), layer_norm=True, norm_last=True),
    ],
    ids=["discrete", "continuous", "image", "off-policy", "norm", "norm of an image"],
)
def test_networks_give_the_same_to_rounding(network):
    """Parameters are the same bits; outputs and gradients are float32, and differ by some of bfloat16's 2^-8."""
    half = network.clone(dtype=jnp.bfloat16)
    obs = jax.random.normal(KEY, (64, *network.obs_shape))
    params = network.init(KEY, obs)
    assert_same_bits(params, half.init(KEY, obs))

    def both(network):
        def total(params):
            out = jax.tree.leaves(network.apply(params, obs))
            return sum(jnp.sum(jnp.sin(x)) for x in out), out

        (_, out), grads = jax.jit(jax.value_and_grad(total, has_aux=True))(params)
        return out, grads

    (out, grads), (half_out, half_grads) = both(network), both(half)
    for x, y in zip(jax.tree.leaves((out, grads)), jax.tree.leaves((half_out, half_grads)), strict=True):
        assert x.dtype == y.dtype == jnp.float32
        assert float(jnp.linalg.norm(x - y)) <= 0.05 * float(jnp.linalg.norm(x))
    assert not np.array_equal(jax.tree.leaves(out)[0], jax.tree.leaves(half_out)[0])


def test_it_learns_is_swept_saved_and_loaded(tmp_path):
    """A reward that comes a step late: V = gamma before it, and 1 with it, in both lanes."""
    tuned = LEARNERS["ppo"].make(rlzoo.envs.make("probe/delayed-reward", continuous=False))
    algo = ppo.make(tuned.env, dataclasses.replace(tuned.config, compute_dtype=HALF), tuned.hyper)
    runs = rlzoo.sweep(algo, rlzoo.grid(algo.hyper, learning_rate=[5e-3, 3e-3]))
    state, _ = rlzoo.train(runs, jax.random.split(KEY, 1), 75)
    rlzoo.save(tmp_path, runs, state)
    again = rlzoo.restore(tmp_path)
    assert_same_bits(again.state, state)
    assert again.algo.config.compute_dtype == HALF
    state, _ = rlzoo.resume(again.algo, again.state, 75)
    for i in range(2):
        values = value_of(algo, rlzoo.lane(state, i, 0), jnp.array([[0.0], [1.0]]))
        np.testing.assert_allclose(values, [GAMMA, 1.0], atol=0.05)
    with pytest.raises(ValueError, match="config.compute_dtype is 'bfloat16', expected is 'float32'"):
        rlzoo.load(tmp_path, rlzoo.sweep(tuned, rlzoo.grid(tuned.hyper, learning_rate=[5e-3, 3e-3])))


@pytest.mark.parametrize("name", ["ppo pixels", "sac continuous", "td3_bc"])
def test_it_lowers_for_accelerators_without_calls_into_libraries(name):
    runs = rlzoo.sweep(made(name, compute_dtype=HALF))
    numbers = float32(runs.hyper), runs.task
    keys = jax.eval_shape(lambda: jax.random.split(KEY))
    assert not calls(runs.step, jax.eval_shape(runs.init, keys, *numbers), *numbers)


@pytest.mark.parametrize("name", ["ppo continuous", "sac discrete", "td3_bc"])
def test_shapes_and_dtypes_stay_in_64_bits(name):
    with jax.enable_x64(True):
        _, start, (after, _) = traced(made(name, compute_dtype=HALF))
    assert start == after


# --- what is refused --------------------------------------------------------------------------------------------------


class Net(nn.Module):
    hidden: Any = jnp.float32
    head: Any = jnp.float32

    @nn.compact
    def __call__(self, obs):
        x = nn.tanh(nn.Dense(8, dtype=self.hidden)(obs))
        return Categorical(nn.Dense(2)(x)), nn.Dense(1, dtype=self.head)(x)[..., 0]


CRITIC = networks.FeedForward(1, (2,), (5,))


@pytest.mark.parametrize("module", [ppo, sac, td3_bc], ids=lambda module: module.__name__)
def test_another_name_is_refused_with_what_is_near(module):
    with pytest.raises(ValueError, match="unknown compute_dtype 'bfloat'; did you mean 'bfloat16'"):
        module.Config(compute_dtype="bfloat")
    for other in (None, jnp.bfloat16, ["bfloat16"]):
        with pytest.raises(ValueError, match="unknown compute_dtype .*(allowed are float32, bfloat16|did you mean)"):
            module.Config(compute_dtype=other)


@pytest.mark.parametrize(
    ("module", "own", "named"),
    [
        (ppo, {"network": Net()}, "config.network"),
        (sac, {"actor": CRITIC, "critic": CRITIC}, "config.actor and config.critic"),
        (td3_bc, {"actor": CRITIC, "critic": CRITIC}, "config.actor and config.critic"),
    ],
    ids=["ppo", "sac", "td3_bc"],
)
def test_with_own_networks_alone_it_is_refused(module, own, named):
    with pytest.raises(ValueError, match=f"compute_dtype='bfloat16' is of default networks, and {named} replaced"):
        module.Config(compute_dtype=HALF, **own)
    assert module.Config(compute_dtype="float32", **own)


def test_own_networks_may_compute_in_it_and_put_out_float32(cartpole):
    assert ppo.make(cartpole, ppo.Config(network=Net(hidden=jnp.bfloat16)))
    with pytest.raises(ValueError, match=r"config.network .*: the value is bfloat16\[3\], not float32\[3\]"):
        ppo.make(cartpole, ppo.Config(network=Net(head=jnp.bfloat16)))


@pytest.mark.parametrize("name", ["sac continuous", "td3_bc"])
def test_beside_one_own_network_it_is_of_the_other(name):
    """The own critic's two products, in each of its uses, stay what they are; all others are bfloat16."""
    shape = (2,) if name == "td3_bc" else (3,)
    eqns, *_ = traced(made(name, compute_dtype=HALF, critic=networks.FeedForward(1, shape, (7,))))
    products = [eqn for eqn, _ in eqns if eqn.primitive.name == "dot_general"]
    for eqn in products:
        own = any(7 in var.aval.shape for var in (*eqn.invars, *eqn.outvars))
        assert own != all(is_half(var) for var in eqn.invars)
    assert {is_half(eqn.invars[0]) for eqn in products} == {True, False}


def test_records_from_before_are_of_float32(cartpole, tmp_path, monkeypatch):
    """What was saved when there was no such field is loaded, resumed and given back."""
    algo = ppo.make(cartpole, TINY_PPO)
    state = rlzoo.init(algo, KEY)
    whole = manifest.as_dict
    with monkeypatch.context() as before:
        old = lambda config: {name: x for name, x in whole(config).items() if name != "compute_dtype"}  # noqa: E731
        before.setattr(manifest, "as_dict", old)
        rlzoo.save(tmp_path, algo, state)
    assert_same_bits(rlzoo.load(tmp_path, algo), state)
    assert rlzoo.restore(tmp_path).algo.config == algo.config
    with pytest.raises(ValueError, match="config.compute_dtype is 'float32', expected is 'bfloat16'"):
        rlzoo.load(tmp_path, ppo.make(cartpole, dataclasses.replace(TINY_PPO, compute_dtype=HALF)))


def test_the_file_of_a_run_from_before_too(tmp_path):
    """It is compared with what a command line gives: every field that a text can say, and no other."""
    fields = {name: getattr(ppo.Config(), name) for name in named.plain_fields(ppo.Config)}
    about = {"algorithm": "ppo", "env": "gymnax/CartPole-v1", "hyper": {}, "seeds": 1, "seed": 0, "steps": 1}
    for config in (fields, {name: x for name, x in fields.items() if name != "compute_dtype"}):
        write_json(tmp_path / runfile.FILE, about | {"config": config})
        assert runfile.read(tmp_path)["config"] == plain(fields)


def test_an_update_moves_parameters_alike():
    """One update of TD3+BC from one State: parameters move alike."""
    moved = []
    for dtype in ("float32", HALF):
        algo = td3_bc.make(plane(), td3_bc.Config(batch_size=16, hidden=(16,), compute_dtype=dtype), plane_dataset())
        start = rlzoo.init(algo, KEY)
        before = jax.device_get(start.params.critics)
        after, metrics = rlzoo.resume(algo, start, 1)
        moved.append((jax.tree.map(jnp.subtract, after.params.critics, before), metrics))
    (full, said), (half, said_half) = moved
    agreed = [np.mean(np.sign(x) == np.sign(y)) for x, y in zip(*map(jax.tree.leaves, (full, half)), strict=True)]
    assert np.mean(agreed) > 0.95  # Adam's first steps are signs
    for name in said:
        np.testing.assert_allclose(said_half[name], said[name], rtol=0.05, atol=0.01, err_msg=name)
