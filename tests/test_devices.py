"""Lanes and environments on several devices: the same numbers, nothing between lanes, and errors that help."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import free_port, plane, plane_dataset

import rlzoo
from rlzoo import ppo
from rlzoo.drivers import devices
from rlzoo.envs import adversarial

WORKER = Path(__file__).with_name("devices_worker.py")
KEYS = jax.random.split(jax.random.key(3), 3)


def results(out, *arguments):
    """What workers wrote; each argument is a process's."""
    commands = [[sys.executable, str(WORKER), str(out), *map(str, each)] for each in arguments]
    workers = [subprocess.Popen(x, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for x in commands]
    for worker in workers:
        said, _ = worker.communicate(timeout=400)
        assert worker.returncode == 0, said[-4000:]
    return dict(np.load(out))


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return results(tmp_path_factory.mktemp("one") / "one.npz", ("few", 1))


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    return results(tmp_path_factory.mktemp("eight") / "eight.npz", ("few", 8))


def assert_same(found, wanted):
    """All metrics of all updates, parameters and evaluated returns, to float tolerance."""
    names = [name for name in wanted if ":" not in name]
    assert len(names) > 20 and set(names) <= set(found)
    for name in names:
        np.testing.assert_allclose(found[name], wanted[name], rtol=2e-3, atol=2e-4, err_msg=name)


def test_eight_devices_give_the_numbers_of_one(one, eight):
    """Sweeps with their lanes spread, with more seeds than were asked for, and one agent with its environments."""
    assert_same(eight, one)


def test_lanes_know_of_no_others(one, eight):
    """A sweep's program has nothing that goes between devices; one agent's must have."""
    assert eight["sweep: parts"] == eight["ppo: parts"] == 8 and one["sweep: parts"] == 1
    assert eight["pair: seeds"] == 4 and one["pair: seeds"] == 3
    assert eight["sweep: collectives"] == 0 and eight["ppo: collectives"] > 0
    assert eight["evaluation: collectives"] == 0
    assert eight["sweep: programs"] == one["sweep: programs"] == 1  # eight devices compile no more than one does
    assert eight["sweep: traces later"] == one["sweep: traces later"] == 0  # loaded and resumed: the same program


@pytest.mark.slow  # three processes that compile everything
def test_eight_devices_and_two_processes_of_four_give_the_numbers_of_one(tmp_path):
    """Lanes in groups and agents of A2C and SAC too."""
    port, names = free_port(), [tmp_path / f"{name}.npz" for name in ("one", "eight", "two")]
    one = results(names[0], ("all", 1))
    assert_same(results(names[1], ("all", 8)), one)
    one = {name: x for name, x in one.items() if name.split()[0] not in ("halving", "pbt", "table", "halved")}
    assert_same(results(names[2], ("all", 4, 0, 2, port), ("all", 4, 1, 2, port)), one)


def test_a_checkpoint_goes_on_on_other_devices(eight, one, tmp_path_factory):
    """Saved from eight devices, resumed on one: as on eight, and as if there had never been more than one."""
    directory = max(tmp_path_factory.getbasetemp().glob("eight*")) / "eight"
    small = ppo.make(
        rlzoo.envs.make("gymnax/CartPole-v1"),
        ppo.Config(num_envs=8, num_steps=8, num_epochs=2, num_minibatches=2, hidden=(8,)),
    )
    runs = rlzoo.sweep(small, rlzoo.grid(small.hyper, learning_rate=[1e-3, 1e-2]))
    state, _ = rlzoo.resume(runs, rlzoo.load(directory, runs), 3)
    params = np.concatenate([np.ravel(x) for x in jax.tree.leaves(state.params)])
    np.testing.assert_allclose(params, eight["later params"], rtol=2e-3, atol=2e-4)
    np.testing.assert_allclose(params, one["later params"], rtol=2e-3, atol=2e-4)


@pytest.fixture(scope="module")
def algo():
    return ppo.make(
        rlzoo.envs.make("gymnax/CartPole-v1"),
        ppo.Config(num_envs=6, num_steps=8, num_epochs=1, num_minibatches=2, hidden=(8,)),
    )


@pytest.mark.parametrize(
    ("lanes", "num_devices", "grid", "seeds"),
    [
        ((2, 4), 8, (2, 4), 4),
        ((1, 3), 2, (1, 2), 4),  # one more than to leave a device idle every other time
        ((1, 13), 8, (1, 7), 14),
        ((7, 1), 8, (7, 1), 1),  # nothing to fill: the eighth would not help
        ((3, 4), 8, (3, 2), 4),
        ((100, 1), 8, (5, 1), 1),
    ],
)
def test_the_grid_of_devices(algo, lanes, num_devices, grid, seeds):
    """As few lanes on a device as can be, then as few in all."""
    rates = np.geomspace(1e-4, 1e-2, lanes[0])
    runs = rlzoo.sweep(algo, rlzoo.grid(algo.hyper, learning_rate=rates))
    runs = runs._replace(devices=tuple(jax.devices()) * num_devices)  # one device stands for all
    assert len(devices.filled(runs, jax.random.split(KEYS[0], lanes[1]), quiet=True)) == seeds
    assert devices.mesh_of(runs, (lanes[0], seeds)).devices.shape == grid


def test_seeds_that_fill_devices_are_new_ones(algo, capsys):
    """Behind those asked for; and none is among the keys that a training makes of the last one."""
    runs = rlzoo.sweep(algo)._replace(devices=tuple(jax.devices()) * 4)
    keys = jax.random.split(KEYS[0], 5)
    filled = devices.filled(runs, keys)
    numbers = np.asarray(jax.random.key_data(filled))
    np.testing.assert_array_equal(numbers[:5], jax.random.key_data(keys))
    used = np.concatenate([numbers, np.asarray(jax.random.key_data(jax.random.split(keys[-1], 64)))])
    assert len(filled) == 6 and len(np.unique(used, axis=0)) == 6 + 64
    assert "1 settings x 5 seeds do not fill 4 devices evenly: 1 more seeds are trained" in capsys.readouterr().err
    devices.filled(runs, keys)
    assert not capsys.readouterr().err  # said once
    assert devices.filled(rlzoo.sweep(algo), keys) is keys


def test_what_cannot_be_spread(algo):
    with pytest.raises(ValueError, match="devices is empty"):
        rlzoo.spread(algo, [])
    with pytest.raises(ValueError, match="num_envs=6 is no multiple of the 4 devices"):
        rlzoo.spread(algo, jax.devices() * 4)
    game = adversarial(plane(), on="action")
    for other in (rlzoo.bc.make(plane(), rlzoo.bc.Config(), plane_dataset()), rlzoo.qarl.make(game)):
        with pytest.raises(ValueError, match="one agent is spread by its environments, and this one has none; sweep"):
            rlzoo.spread(other)
