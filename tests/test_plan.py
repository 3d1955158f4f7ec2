"""Plans: their bytes beside those that the compiler counts, and what they say."""

import math

import jax
import pytest
from helpers import plane, plane_dataset

import rlzoo
from rlzoo import ppo, prdc, sac
from rlzoo.drivers import plan as planning
from rlzoo.drivers.train import compiled_chunk, float32

SEEDS, UPDATES = 6, 20


def counted(runs):
    """Bytes of the program that trains: arguments, results that are not written over them, and what is temporary."""
    keys = jax.random.split(jax.random.key(0), SEEDS)
    shapes = jax.eval_shape(runs.init, keys, float32(runs.hyper), runs.task)
    memory = compiled_chunk(runs, shapes, UPDATES).memory_analysis()
    kept = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return kept + memory.temp_size_in_bytes


def algorithm(name, size):
    cartpole, pendulum = (rlzoo.envs.make(f"gymnax/{x}") for x in ("CartPole-v1", "Pendulum-v1"))
    if name == "ppo":
        num_envs, num_steps, width = ((4, 32, 16), (32, 128, 64), (16, 64, 128))[size]
        return ppo.make(cartpole, ppo.Config(num_envs=num_envs, num_steps=num_steps, hidden=(width, width)))
    if name == "sac":
        capacity, width = ((4_000, 16), (100_000, 64), (20_000, 256))[size]
        return sac.make(pendulum, sac.Config(capacity=capacity, hidden=(width, width)))
    rows, width = ((200, 16), (2_000, 64), (20_000, 256))[size]
    return prdc.make(plane(), prdc.Config(hidden=(width, width)), plane_dataset(rows))


@pytest.mark.parametrize("in_lanes", [None, 3])
@pytest.mark.parametrize(
    ("name", "size"),
    [
        pytest.param(name, size, marks=pytest.mark.slow if size or name != "sac" else ())
        for name in ("ppo", "sac", "prdc")
        for size in range(3)
    ],
)
def test_bytes_are_those_of_the_compiler(name, size, in_lanes):
    """Within a tenth: all lanes at once, or three at a time; from programs of few lanes."""
    algo = algorithm(name, size)
    runs = rlzoo.sweep(algo, rlzoo.grid(algo.hyper, gamma=[0.9, 0.99, 0.999]), in_lanes=in_lanes)
    plan = rlzoo.plan(runs, SEEDS, UPDATES, probe=False)
    assert plan.total == pytest.approx(counted(runs), rel=0.1)
    assert (plan.settings, plan.seeds, plan.lanes, plan.seconds) == (3, SEEDS, 18, None)
    assert (plan.replay > 0) == (name == "sac") and plan.fits


@pytest.fixture(scope="module")
def runs():
    algo = algorithm("ppo", 0)
    return rlzoo.sweep(algo, rlzoo.grid(algo.hyper, gamma=[0.9, 0.99]))


def test_what_a_plan_says(runs, monkeypatch):
    plan = rlzoo.plan(runs, 3, 10)
    text = str(plan)
    assert "ppo on gymnax/CartPole-v1: 2 settings x 3 seeds, 6 lanes, 6 at a time; one program" in text
    assert "fits: state" in text and "time: about" in text and 0.0 < plan.seconds < 600.0
    monkeypatch.setattr(planning, "device_memory", lambda: 1000)
    small = rlzoo.plan(runs, 3, 10, probe=False)
    assert not small.fits and "does NOT fit" in str(small)


def test_lanes_of_a_plan_are_those_of_a_device(runs):
    four = runs._replace(devices=tuple(jax.devices()) * 4)
    plan = rlzoo.plan(four, 4, 10, probe=False)
    assert (plan.num_devices, plan.lanes) == (4, 2) and "2 lanes on each of 4 devices" in str(plan)
    assert math.isclose(plan.state, rlzoo.plan(runs, 4, 10, probe=False).state)


def passes(fit, settings):
    return -(-settings // fit.settings) * -(-fit.plan.lanes // fit.plan.in_lanes)


@pytest.mark.parametrize(("name", "size"), [("ppo", 0), ("sac", 0)])
@pytest.mark.slow
def test_what_does_not_fit_goes_in_groups(name, size, monkeypatch):
    """Less and less memory: more and more passes, each within the memory as the compiler counts it; then an error."""
    algo = algorithm(name, size)
    runs = rlzoo.sweep(algo, rlzoo.grid(algo.hyper, gamma=[0.9, 0.95, 0.99, 0.999]))
    whole = rlzoo.plan(runs, SEEDS, UPDATES, probe=False)
    before = 1
    for share in (1.2, 0.7, 0.4, 0.3):
        limit = int(whole.total * share)
        monkeypatch.setattr(planning, "device_memory", lambda limit=limit: limit)
        fit = planning.fitted(runs, SEEDS, UPDATES, probe=False)
        part = rlzoo.grid(algo.hyper, gamma=runs.hyper.gamma[: fit.settings])
        assert counted(rlzoo.sweep(algo, part, in_lanes=fit.in_lanes)) <= 1.05 * limit, (share, fit)
        assert fit.plan.fits and passes(fit, 4) >= before
        before = passes(fit, 4)
    assert before > 2
    monkeypatch.setattr(planning, "device_memory", lambda: 1000)
    with pytest.raises(ValueError, match="not even one setting of 6 seeds fits: it takes .*; use fewer seeds"):
        planning.fitted(runs, SEEDS, UPDATES, probe=False)


def test_groups_on_several_devices_are_of_the_lanes_that_lie_on_one(runs, monkeypatch):
    """A hundred settings on eight devices: of 34 there would be 17 on a device, of 20 only 4."""
    from rlzoo.drivers import devices

    spread = runs._replace(devices=tuple(jax.devices()) * 8)
    assert [devices.lanes_on_a_device(spread, n, 1) for n in (100, 34, 20, 16)] == [20, 17, 4, 2]
    assert devices.lanes_on_a_device(spread, 2, 5) == 2 and devices.lanes_on_a_device(runs, 2, 5) == 10


def test_what_cannot_be_probed_is_planned(runs, monkeypatch):
    one = rlzoo.plan(runs, 3, 10, probe=False).state
    monkeypatch.setattr(planning, "device_memory", lambda: one // 2)
    assert rlzoo.plan(runs, 3, 10).seconds is None


def test_one_agent_is_not_planned(runs):
    with pytest.raises(ValueError, match=r"ppo is one agent; plan a sweep of it"):
        rlzoo.plan(runs.base, 3, 10)
