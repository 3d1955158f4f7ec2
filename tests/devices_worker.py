"""Trains small agents on however many devices there are; `test_devices` runs it in processes of its own.

python tests/devices_worker.py OUT NUM_DEVICES [PROCESS NUM_PROCESSES PORT]
"""

import os
import re
import sys

out, which, num_devices, *processes = sys.argv[1:]
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={num_devices}"

import jax  # noqa: E402  after the flag

if processes:
    process, num_processes, port = map(int, processes)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes, process)

import numpy as np  # noqa: E402

import rlzoo  # noqa: E402
from rlzoo import a2c, ppo, sac, study  # noqa: E402
from rlzoo.drivers import devices  # noqa: E402
from rlzoo.drivers import evaluate as evaluation  # noqa: E402
from rlzoo.drivers.train import compiled_chunk  # noqa: E402

UPDATES = 3
KEYS = jax.random.split(jax.random.key(0), 4)
MOVES = ("all-reduce", "all-gather", "collective-permute", "all-to-all", "reduce-scatter", "collective-broadcast")
COLLECTIVES = "|".join((*MOVES, r" send\(", r" recv\("))

cartpole, pendulum = (rlzoo.envs.make(f"gymnax/{name}") for name in ("CartPole-v1", "Pendulum-v1"))
small = ppo.make(cartpole, ppo.Config(num_envs=8, num_steps=8, num_epochs=2, num_minibatches=2, hidden=(8,)))
agents = {
    "ppo": small,
    "a2c": a2c.make(cartpole, a2c.Config(num_envs=8, num_steps=8, hidden=(8,))),
    "sac": sac.make(pendulum, sac.Config(num_envs=8, num_updates=2, batch_size=16, warmup=64, hidden=(8,))),
}
spread = rlzoo.spread if len(jax.devices()) > 1 else lambda algo, devices=None: algo
compiled: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, _, **about: compiled.append(str(about)) if "backend_compile" in event else None
)
traces: list[int] = []  # grows whenever `step` is traced, that is when a program is compiled
counting = small._replace(step=lambda *arguments: traces.append(1) or small.step(*arguments))
runs = spread(rlzoo.sweep(counting, rlzoo.grid(small.hyper, learning_rate=[1e-3, 1e-2])))
grouped = spread(rlzoo.sweep(small, rlzoo.grid(small.hyper, learning_rate=[1e-3, 1e-2]), in_lanes=1))
pair = spread(rlzoo.sweep(small), [x for x in jax.devices() if x.id % 4 == 0][:2])  # of both processes
found = {}
for name, algo, key in (
    ("sweep", runs, KEYS),
    ("pair", pair, KEYS[:3]),
    ("groups", grouped, KEYS),
    *((name, spread(algo), KEYS[0]) for name, algo in agents.items()),
):
    if which == "few" and name not in ("sweep", "pair", "ppo"):
        continue
    compiled.clear()
    state, metrics = rlzoo.train(algo, key, UPDATES)
    found[f"{name}: programs"] = np.array(sum("scan" in what for what in compiled))
    there = slice(3 if name == "pair" else None)  # seeds asked for
    found |= {f"{name} {k}": x[..., there] for k, x in devices.on_host(metrics).items()}
    leaves = jax.tree.leaves(devices.on_host(state.params))
    found[f"{name} params"] = np.concatenate([(x[:, there] if name == "pair" else x).ravel() for x in leaves])
    found[f"{name}: seeds"] = np.array(state.key.shape[-1:])
    if name in ("sweep", "ppo"):
        text = compiled_chunk(algo, state, UPDATES).as_text()
        found[f"{name}: collectives"] = np.array(len(re.findall(COLLECTIVES, text)))
        found[f"{name}: parts"] = np.array(len(state.envs.obs.sharding.device_set))
    if name == "sweep":
        task, axes = evaluation._checked(algo, cartpole, state, 3, None)
        static = (cartpole.reset, cartpole.step, cartpole.horizon, 3, True, axes, 2)
        evaluating = evaluation._evaluation(algo.actor, algo.policy, *static)
        program = evaluating.lower(state, task, jax.random.key(1)).compile()
        found["evaluation: collectives"] = np.array(len(re.findall(COLLECTIVES, program.as_text())))
        found["returns"] = devices.on_host(rlzoo.evaluate(algo, cartpole, state, jax.random.key(1), 3).returns)
        directory, before = out.replace(".npz", ""), len(traces)
        rlzoo.save(directory, algo, state)
        later, _ = rlzoo.resume(algo, rlzoo.load(directory, algo), UPDATES)
        found["sweep: traces later"] = np.array(len(traces) - before)
        found["later params"] = np.concatenate([x.ravel() for x in jax.tree.leaves(devices.on_host(later.params))])
if which == "all" and not processes:  # a competition between lanes, which moves them from device to device
    options = {"quiet": True, "eval_episodes": 3}
    for name, compete in (
        ("halving", lambda: rlzoo.halving(runs, KEYS, 4, **options)),
        ("pbt", lambda: rlzoo.pbt(runs, KEYS, 4, 2, {"learning_rate": rlzoo.Range(1e-3, 1e-2)}, **options)),
    ):
        done = compete()
        leaves = jax.tree.leaves(devices.on_host(done.state.params))
        found[f"{name} params"] = np.concatenate([x.ravel() for x in leaves])
        found[f"{name} parents"] = done.lineage.parents
    # Five seeds on three devices are six; the sixth has no say, and is in no table.
    fields = {"config": {"num_envs": 8, "num_steps": 8, "num_epochs": 2, "num_minibatches": 2, "hidden": [8]}}
    fields |= {"hyper": {"learning_rate": [1e-3, 1e-2]}, "steps": 256, "seeds": 5, "eval_episodes": 3}
    for name, how in (("table", {}), ("halved", {"halving": {}})):
        asked = study.Study("ppo", cartpole, spread=len(jax.devices()) > 1, **fields, **how)
        rows = study.run(asked, f"{out.replace('.npz', '')}-{name}", quiet=True)
        found[f"{name} returns"] = np.array([row["return"] for row in rows])
if jax.process_index() == 0:
    np.savez(out, **found)
