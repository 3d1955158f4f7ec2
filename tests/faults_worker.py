"""Trains a small sweep with a checkpoint after every chunk, or goes on with one; `test_faults` stops it in many ways.

python tests/faults_worker.py DIRECTORY UPDATES [PROCESS NUM_PROCESSES PORT]
"""

import os
import sys
from importlib.metadata import version

os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0"
    + (" --xla_cpu_use_fusion_emitters=false" if version("jax").startswith("0.10.") else ""),
)

import jax

import rlzoo
from rlzoo import ppo
from rlzoo.drivers import checkpoint, devices

CHUNK = 2


def sweep():
    config = ppo.Config(num_envs=4, num_steps=16, num_epochs=2, num_minibatches=2, hidden=(16,))
    algo = ppo.make(rlzoo.envs.make("gymnax/CartPole-v1"), config)
    return rlzoo.sweep(algo, rlzoo.grid(algo.hyper, learning_rate=[1e-3, 1e-2]))


def main():
    directory, num_updates, *processes = sys.argv[1:]
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    if processes:
        process, num_processes, port = map(int, processes)
        devices.HEARTBEAT = 10
        rlzoo.connect(f"127.0.0.1:{port}", num_processes, process, timeout=60)
    runs = rlzoo.spread(sweep()) if processes else sweep()
    done = rlzoo.run(
        runs,
        jax.random.split(jax.random.key(0), 2),
        int(num_updates),
        directory=directory,
        resume=checkpoint.any_in(f"{directory}/checkpoints"),
        report_every=CHUNK,
        eval_episodes=0,
        sinks=("csv",),
        quiet=True,
    )
    print("interrupted" if done.interrupted else "over", flush=True)


if __name__ == "__main__":
    main()
