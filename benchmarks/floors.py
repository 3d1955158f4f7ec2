"""What an update of PPO and of SAC costs on paper, what it takes here, and what changes of it do to that.

    python benchmarks/floors.py [--rounds 5] [--agents 1 64] [--only "unroll"] [--record]

Operations, bytes and kernels are counted in the programs (`workers/costs.py`), of one agent of `benchmarks/speed.py`.
A trial is a change of PPO or SAC beside what it changes, in one process and in turns: A, B, A, B, …; its figure is the
median of the rounds' ratios of speed. Kernels of a CPU's program are its calls of compiled code.
"""

import argparse
import contextlib
import functools
import inspect
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.append(str(HERE / "workers"))

import costs  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
import ours  # noqa: E402
import tables  # noqa: E402
from speed import TASKS  # noqa: E402

import rlzoo  # noqa: E402
from rlzoo import ppo  # noqa: E402
from rlzoo.blocks import optim  # noqa: E402
from rlzoo.drivers.train import compiled_chunk, float32  # noqa: E402
from rlzoo.report.record import commit, hardware  # noqa: E402

BY_NAME = {task.name: task for task in TASKS}
UPDATES = {"ppo": {1: 20, 64: 1}, "sac": {1: 300, 64: 10}}  # of one measurement, by agents


def algorithm(name: str, **changes: Any) -> Any:
    task = BY_NAME[name]
    sizes = task.sizes | changes
    asked = {"algorithm": task.algorithm, "env": task.rlzoo, "env_options": task.env_options, "sizes": sizes}
    return ours.algorithm(asked)


class Measured:
    """A compiled program of one agent or of many, and its state."""

    def __init__(self, algo: Any, agents: int) -> None:
        self.updates = UPDATES[algo.name].get(agents, 1)
        self.runs, key = algo, jax.random.key(0)
        if agents > 1:
            self.runs, key = rlzoo.sweep(algo), jax.random.split(key, agents)
        self.state = rlzoo.init(self.runs, key, quiet=True)
        began = time.process_time()
        self.program = compiled_chunk(self.runs, self.state, self.updates)
        self.compile = time.process_time() - began
        self.kernels = costs.kernels(self.program)["launches"] / self.updates
        self.seconds()

    def seconds(self) -> float:
        """Of one update of all agents."""
        began = time.perf_counter()
        self.state, metrics = self.program(self.state, float32(self.runs.hyper), self.runs.task)
        jax.block_until_ready((self.state, metrics))
        return (time.perf_counter() - began) / self.updates


# --- trials -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def unrolled(length: int, by: int) -> Iterator[None]:
    """Forward scans of this length, unrolled."""
    scan = jax.lax.scan

    def other(f: Any, init: Any, xs: Any = None, length_: Any = None, reverse: bool = False, **options: Any) -> Any:
        n = options.pop("length", length_)
        n = jax.tree.leaves(xs)[0].shape[0] if n is None else n
        if n == length and not reverse:
            options["unroll"] = by
        return scan(f, init, xs, n, reverse, **options)

    jax.lax.scan = other
    try:
        yield
    finally:
        jax.lax.scan = scan


@contextlib.contextmanager
def rewritten(*changes: tuple[str, str]) -> Iterator[None]:
    """PPO of a source in which texts are others."""
    source, make = inspect.getsource(ppo.make), ppo.make
    for old, new in changes:
        if old not in source:
            raise ValueError(f"PPO has no longer {old!r}; write this trial anew")
        source = source.replace(old, new)
    names: dict[str, Any] = {}
    exec(compile(source, "a trial", "exec"), vars(ppo), names)
    ppo.make = names["make"]
    try:
        yield
    finally:
        ppo.make = make


def flat(rate: str) -> Callable[..., Any]:
    """Adam, clipped as ever, over all parameters as one vector."""
    return lambda hyper, step: optax.flatten(optim.adam(getattr(hyper, rate), getattr(hyper, "max_grad_norm", jnp.inf)))


CARTPOLE = functools.partial(algorithm, "PPO CartPole")
ONCE = (
    ("jax.tree.map(lambda x: x[rows], data)", "rows"),
    ("random_order(key, batch_size).reshape(minibatches_shape))", "jax.tree.map(lambda x: x[random_order("
     "key, batch_size).reshape(minibatches_shape)], data))"),
)  # fmt: skip
WHOLE = (("parts = max(n for n in range(1, config.num_minibatches + 1) if config.num_steps % n == 0)", "parts = 1"),)
EACH = ((WHOLE[0][0], "parts = config.num_steps"),)
TRIALS: dict[str, tuple[Any, Any, Any]] = {  # name -> what it is beside, itself, and within which change it is compiled
    **{f"PPO: rollout, unroll={k}": (CARTPOLE, CARTPOLE, functools.partial(unrolled, 64, k)) for k in (2, 4, 8)},
    **{f"PPO: minibatches, unroll={k}": (CARTPOLE, CARTPOLE, functools.partial(unrolled, 8, k)) for k in (2, 8)},
    "PPO: Adam over one vector": (
        CARTPOLE, functools.partial(CARTPOLE, optim=flat("learning_rate")), contextlib.nullcontext
    ),
    "PPO: rows gathered once an epoch": (CARTPOLE, CARTPOLE, functools.partial(rewritten, *ONCE)),
    "PPO: next values of all steps at once": (CARTPOLE, CARTPOLE, functools.partial(rewritten, *WHOLE)),
    "PPO: next values step by step": (CARTPOLE, CARTPOLE, functools.partial(rewritten, *EACH)),
    "PPO: products in bfloat16": (
        CARTPOLE, functools.partial(CARTPOLE, compute_dtype="bfloat16"), contextlib.nullcontext
    ),
    "SAC: Adam over one vector": (
        functools.partial(algorithm, "SAC Pendulum", optim=lambda hyper, step: optax.adam(3e-4)),
        functools.partial(algorithm, "SAC Pendulum", optim=lambda hyper, step: optax.flatten(optax.adam(3e-4))),
        contextlib.nullcontext,
    ),
}  # fmt: skip


@functools.lru_cache(maxsize=2)
def measured(make: Callable[[], Any], agents: int) -> Measured:
    return Measured(make(), agents)


def trial(name: str, agents: int, rounds: int) -> dict[str, Any]:
    before, after, within = TRIALS[name]
    first = measured(before, agents)
    with within():
        second = Measured(after(), agents)
    ratios = [first.seconds() / second.seconds() for _ in range(rounds)]
    line = {"trial": name, "agents": agents, "speed": float(np.median(ratios)), "low": min(ratios), "high": max(ratios)}
    line |= {"compile": second.compile, "compile_before": first.compile}
    temporary = [x.program.memory_analysis().temp_size_in_bytes for x in (second, first)]
    line |= {"temporary": temporary[0], "temporary_before": temporary[1]}
    return line | {"kernels": second.kernels, "kernels_before": first.kernels, "rounds": rounds}


# --- on paper, and the machine ----------------------------------------------------------------------------------------


def paper(name: str) -> dict[str, Any]:
    """Of one agent's update: products' operations and bytes, loops one after another, kernels."""
    algo, task = algorithm(name), BY_NAME[name]
    shapes = jax.eval_shape(algo.init, jax.random.key(0), float32(algo.hyper), algo.task)
    cost = costs.products(algo.step, shapes, float32(algo.hyper), algo.task)
    steps = {"of the environment": task.sizes.get("num_steps", 1)}
    if task.algorithm == "ppo":
        parts = next(n for n in range(task.sizes["num_minibatches"], 0, -1) if task.sizes["num_steps"] % n == 0)
        steps |= {"of the next values": parts, "of the advantages": task.sizes["num_steps"]}
    steps["of the optimiser"] = task.sizes.get("num_epochs", 1) * task.sizes.get("num_minibatches", 1)
    return {"task": name, "flop": cost.flop, "bytes": cost.bytes, "steps": steps}


def peaks(size: int = 2048, numbers: int = 2**25) -> dict[str, float]:
    """FLOP/s of square products, and bytes a second of a copy, read and written: the best of a few."""
    square, line = jnp.ones((size, size)) / size, jnp.ones(numbers)
    product, copy = jax.jit(jnp.matmul), jax.jit(lambda x: x + 1.0, donate_argnums=0)  # in place: new pages are dear

    def copied() -> Any:
        nonlocal line
        line = copy(line)
        return line

    def seconds(call: Callable[[], Any]) -> float:
        taken = []
        for _ in range(5):
            began = time.perf_counter()
            jax.block_until_ready(call())
            taken.append(time.perf_counter() - began)
        return min(taken)

    half = square.astype(jnp.bfloat16)
    found = {"float32": 2 * size**3 / seconds(lambda: product(square, square))}
    found["bfloat16"] = 2 * size**3 / seconds(lambda: product(half, half))
    return found | {"copy": 8 * numbers / seconds(copied)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--agents", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--only", help="trials with this in their names")
    parser.add_argument("--record", action="store_true", help="write what is found into docs/benchmarks and its page")
    options = parser.parse_args()
    about = {"hardware": hardware(), "commit": commit(), "date": date.today().isoformat(), "jax": version("jax")}
    about["command"] = shlex.join(["python", "benchmarks/floors.py", *sys.argv[1:]])
    record: dict[str, Any] = {"about": about, "trials": []}
    names = ("PPO CartPole", "SAC Pendulum")
    ones = {name: Measured(algorithm(name), 1) for name in names}
    found, seconds = peaks(), {name: min(ones[name].seconds() for _ in range(5)) for name in names}
    for name in TRIALS:
        for agents in options.agents:
            if options.only is None or options.only in name:
                record["trials"].append(trial(name, agents, options.rounds))
                print(json.dumps(record["trials"][-1]), flush=True)
                # Others may use the machine now and then: what it can do is the best of what it did at any time.
                found = {what: max(rate, found[what]) for what, rate in peaks().items()}
                seconds = {name: min(best, *(ones[name].seconds() for _ in range(3))) for name, best in seconds.items()}
    record |= {"peaks": found, "paper": [paper(name) for name in names]}
    for row in record["paper"]:
        row |= {"kernels": ones[row["task"]].kernels, "seconds": seconds[row["task"]]}
    print(json.dumps(record | {"trials": len(record["trials"])}, indent=1), flush=True)
    if options.record:
        (tables.DIRECTORY / "floors_cpu.json").write_text(json.dumps(record, indent=1) + "\n")
        tables.write()


if __name__ == "__main__":
    main()
