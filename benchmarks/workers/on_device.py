"""The worker of `benchmarks/accelerator.py`: prepares one job beside others, measures when its turn comes.

It prints one JSON line a result. Before anything is timed it says {"ready": true} and waits for a line on its standard
input, which gives the seconds that it may measure for; with {"done": true} it gives the device back to the others.
"""

import concurrent.futures
import contextlib
import ctypes
import functools
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parent), str(HERE.parent.parent / "tests")]
out, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no result
if sys.platform == "linux":  # to end with its parent, even while stopped: PR_SET_PDEATHSIG
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)

import costs  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import rlzoo  # noqa: E402
from rlzoo.drivers.train import compiled_chunk, float32, strong  # noqa: E402

REPEATS = 3


def say(**line: Any) -> None:
    print(json.dumps(line), file=out, flush=True)


@contextlib.contextmanager
def turn() -> Iterator[float]:
    """The device alone; gives the seconds that it may be used for."""
    say(ready=True)
    yield float(sys.stdin.readline())
    say(done=True)


def median_rate(call: Callable[[], Any], seconds: float) -> float:
    """Calls a second; ``call`` starts work and gives arrays of it. Calls follow each other without waiting."""
    jax.block_until_ready(call())
    began = time.perf_counter()
    jax.block_until_ready(call())
    calls = max(1, round(seconds / (time.perf_counter() - began)))
    rates = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        for _ in range(calls):
            last = call()
        jax.block_until_ready(last)
        rates.append(calls / (time.perf_counter() - began))
    return statistics.median(rates)


# --- the machine's own peaks ------------------------------------------------------------------------------------------


def peaks(job: dict[str, Any]) -> None:
    """FLOP/s of square products at each precision, and bytes a second of a copy (read and written)."""
    size, numbers = job["matrix"], job["copy"]
    key = jax.random.key(0)
    square, line = jax.random.normal(key, (size, size)), jax.random.normal(key, (numbers,))
    half = square.astype(jnp.bfloat16)
    product = {name: jax.jit(functools.partial(jnp.matmul, precision=name)) for name in ("highest", "default")}
    copy = jax.jit(lambda x: x + 1.0)
    with turn():
        calls = {
            "float32": lambda: product["highest"](square, square),
            "tf32": lambda: product["default"](square, square),
            "bfloat16": lambda: product["default"](half, half),
        }
        for name, call in calls.items():
            say(name=name, rate=median_rate(call, job["seconds"]) * 2 * size**3, unit="FLOP/s")
        say(name="copy", rate=median_rate(lambda: copy(line), job["seconds"]) * 8 * numbers, unit="B/s")


# --- is it right? -----------------------------------------------------------------------------------------------------

N = 2  # updates


def right(job: dict[str, Any]) -> None:
    """Each algorithm's contract case: here and on the CPU from one State, and stopped and resumed here."""
    from test_contract import CASES, algorithm

    for name in job["cases"]:
        try:
            say(case=name, **_right(algorithm(CASES[name])))
        except Exception as error:  # the others are worth their lines
            say(case=name, error=_first_line(error))


def _right(algo: Any) -> dict[str, Any]:
    here, cpu, key = jax.local_devices()[0], jax.devices("cpu")[0], jax.random.key(7)
    like = jax.eval_shape(algo.init, key, float32(algo.hyper), algo.task)

    def on(device, words):
        """A State of words, on a device."""
        put = lambda like, x: jax.random.wrap_key_data(jnp.array(x)) if _is_key(like) else jnp.array(x)  # noqa: E731
        with jax.default_device(device):
            return jax.tree.map(put, like, words)

    with jax.default_device(cpu):
        start = _words(rlzoo.init(algo, key, quiet=True))
        there = _words(rlzoo.resume(algo, on(cpu, start), N)[0])
    result = _words(rlzoo.resume(algo, on(here, start), N)[0])
    figures = {"init": _difference(_words(rlzoo.init(algo, key, quiet=True)), start)}
    figures |= {"state": _difference(result, there), "params": _difference(result.params, there.params)}
    figures |= {"whole_numbers_that_differ": _unequal(result, there)}

    whole = _words(rlzoo.train(algo, key, 2 * N)[0])
    half, _ = rlzoo.train(algo, key, N)
    with tempfile.TemporaryDirectory() as folder:
        rlzoo.save(folder, algo, half)
        resumed = _words(rlzoo.resume(algo, rlzoo.load(folder, algo), N)[0])
    pairs = zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True)
    return figures | {"resumes_bit_for_bit": all(x.tobytes() == y.tobytes() for x, y in pairs)}


def _words(state: Any) -> Any:
    """A State on the host, its keys as their words."""
    return jax.device_get(jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, state))


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _difference(one: Any, other: Any) -> float:
    """Of every leaf of real numbers the largest difference over the largest number; the worst leaf's."""
    worst = 0.0
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if np.issubdtype(x.dtype, np.floating) and x.size and not np.array_equal(x, y, equal_nan=True):
            x, y = x.astype(np.float64), y.astype(np.float64)
            finite = np.isfinite(x) & np.isfinite(y)
            if not finite.any():
                continue
            worst = max(worst, float(np.abs(x - y)[finite].max() / max(np.abs(y[finite]).max(), 1e-30)))
    return worst


def _unequal(one: Any, other: Any) -> int:
    """Whole numbers and flags that are not the same."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return sum(int((x != y).sum()) for x, y in pairs if not np.issubdtype(x.dtype, np.floating))


# --- is it fast? ------------------------------------------------------------------------------------------------------


def fast(job: dict[str, Any]) -> None:
    """Steps a second of one task with several numbers of agents, the fewest first, beside what the device could do."""
    began = time.perf_counter()
    algo, what = algorithm_of(job), job.get("what", "steps")
    prepare = time.perf_counter() - began  # of an offline algorithm the neighbours of its data
    sides = list(zip(job["agents"], job["updates"], strict=True))
    with concurrent.futures.ThreadPoolExecutor(len(sides)) as pool:
        programs = list(pool.map(lambda side: _compiled(algo, *side), sides))
    with turn():
        for (agents, updates), (runs, key, start, program, seconds, cost) in zip(sides, programs, strict=True):
            about = {"agents": agents, "compile": seconds, "prepare": prepare, "what": what}
            about |= {"flags": os.environ.get("XLA_FLAGS", "")}
            try:
                state, numbers = start(key, float32(runs.hyper), runs.task), (float32(runs.hyper), runs.task)
                box = [state]
                del state

                def call(box=box, program=program, numbers=numbers):
                    box[0], metrics = program(box[0], *numbers)
                    return metrics

                rate = median_rate(call, job["seconds"]) * updates  # of all agents together
                steps = agents * algo.steps_per_update
                about |= {"rate": rate * steps, "updates": rate, "steps": steps, "memory": _peak_memory()}
                about |= {"program": _program_bytes(program), "flop": cost.flop, "bytes": cost.bytes}
                if agents == job["agents"][0] and job.get("kernels"):
                    say(**about)
                    about = {"agents": agents, "kernels": _kernels(program, call, updates)}
                say(**about)
                del box, call
            except Exception as error:  # too little memory for so many; fewer were measured before
                say(**about, error=_first_line(error))
                break
    most, updates = max(sides)
    if job.get("plan") and most > 1:
        planned = rlzoo.plan(rlzoo.sweep(algo), most, updates, probe=False)
        say(agents=most, planned=planned.total)


def algorithm_of(job: dict[str, Any]) -> Any:
    if job["algorithm"] in ("ppo", "sac"):
        from ours import algorithm

        return algorithm(job)
    if job["algorithm"] == "cpl":
        import cpl

        return rlzoo.cpl.make(cpl.task()[0], rlzoo.cpl.Config(), cpl.task()[1])
    if job["algorithm"] == "qarl":
        game = rlzoo.envs.adversarial(rlzoo.envs.make("gymnax/Pendulum-v1"))
        return rlzoo.qarl.make(game, rlzoo.qarl.Config(**job["sizes"], hidden=(256, 256, 256), capacity=30_000))
    import offline

    env = rlzoo.envs.make("brax/halfcheetah", backend="spring")
    dataset = jax.tree.map(jnp.asarray, offline.synthetic(env, job["rows"]))
    module = rlzoo.ALGORITHMS[job["algorithm"]]
    return module.make(env, module.Config(), dataset)


def _compiled(algo: Any, agents: int, updates: int) -> tuple[Any, ...]:
    """A sweep of so many agents, or one; its key, what starts and what trains it, seconds to compile that, its cost."""
    runs, key = algo, jax.random.key(0)
    if agents > 1:
        runs, key = rlzoo.sweep(algo), jax.random.split(key, agents)
    numbers = float32(runs.hyper), runs.task
    start = jax.jit(lambda *arguments: strong(runs.init(*arguments))).lower(key, *numbers).compile()
    began = time.perf_counter()
    shapes = jax.eval_shape(runs.init, key, *numbers)
    program = compiled_chunk(runs, shapes, updates)
    seconds = time.perf_counter() - began
    return runs, key, start, program, seconds, costs.products(runs.step, shapes, *numbers)


def _peak_memory() -> float | None:
    """Bytes of the device, of this process so far, what XLA took to try out products included."""
    found = jax.local_devices()[0].memory_stats()
    return found["peak_bytes_in_use"] if found else None


def _program_bytes(program: Any) -> int:
    """What the compiled program says that it needs."""
    said = program.memory_analysis()
    sizes = said.argument_size_in_bytes + said.output_size_in_bytes + said.temp_size_in_bytes
    return sizes - said.alias_size_in_bytes


def _kernels(program: Any, call: Callable[[], Any], updates: int) -> dict[str, Any]:
    """Kernels an update, counted in the program and in a trace, and the ten that take longest."""
    counted = costs.kernels(program)
    found = {"launches": counted["launches"] / updates}
    found["by_kind"] = {kind: n / updates for kind, n in counted["by_kind"].items()}
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(call())
        traced = costs.costliest(folder)
    if traced:
        each = [one | {"launches": one["launches"] / updates} for one in traced[1]]
        found |= {"traced": traced[0] / updates, "costliest": each}
    return found


# --- does it learn? ---------------------------------------------------------------------------------------------------


def learning(job: dict[str, Any]) -> None:
    """Train as many seeds as asked for in one program, until the steps or the time are over; returns of all seeds."""
    algo = _learner(job)
    keys, runs = jax.random.split(jax.random.key(0), job["seeds"]), rlzoo.sweep(algo)
    whole = max(1, (job["steps"] - algo.warmup_steps) // algo.steps_per_update)
    chunk = max(1, min(whole, round(whole * job["share"])))
    numbers = float32(runs.hyper), runs.task
    began = time.perf_counter()
    state = rlzoo.init(runs, keys, quiet=True)
    program = compiled_chunk(runs, state, chunk)
    compile_seconds = time.perf_counter() - began

    def evaluated(state: Any) -> np.ndarray:
        episodes = rlzoo.evaluate(runs, runs.env, state, jax.random.key(1), job["episodes"])
        return np.asarray(episodes.returns)[0].mean(-1)

    curve = [[0, float(evaluated(state).mean())]]  # here it is compiled
    with turn() as seconds:
        began, done, spent = time.perf_counter(), 0, 0.0
        while done < whole:
            at = time.perf_counter()
            state, _ = jax.block_until_ready(program(state, *numbers))
            spent, done = spent + time.perf_counter() - at, done + chunk
            returns = evaluated(state)
            steps = algo.warmup_steps + done * algo.steps_per_update
            curve.append([steps, float(returns.mean())])
            line = {"steps": steps, "of": job["steps"], "seeds": job["seeds"], "returns": returns.tolist()}
            line |= {"seconds": spent, "rate": done * algo.steps_per_update * job["seeds"] / spent, "curve": curve}
            say(partial=done < whole, compile=compile_seconds, **line)
            each = (time.perf_counter() - began) / (done / chunk)
            if time.perf_counter() - began + each > seconds:
                break


def _learner(job: dict[str, Any]) -> Any:
    """What a job of learning trains: in an environment, in a game, or on data recorded in the environment."""
    module, env = rlzoo.ALGORITHMS[job["algorithm"]], rlzoo.envs.make(job["env"], **job["env_options"])
    where = rlzoo.envs.adversarial(env) if job["algorithm"] == "qarl" else env
    dataset = (_medium(env, job),) if "behaviour" in job else ()
    config = {name: tuple(x) if isinstance(x, list) else x for name, x in job["config"].items()}  # as JSON has them
    chosen, hyper = module.presets[job["preset"]] if "preset" in job else (module.Config(), module.Hyper())
    return module.make(where, replace(chosen, **config), *dataset, hyper._replace(**job["hyper"]))


def _medium(env: Any, job: dict[str, Any]) -> Any:
    """Rows of a policy a third of the way from random to where SAC ends, as experiments/make_datasets.py chooses it."""
    asked, keys = job["behaviour"], jax.random.split(jax.random.key(2), 3)
    algo = rlzoo.sac.make(env, rlzoo.sac.Config(**asked["config"]))
    updates = (asked["steps"] - algo.warmup_steps) // algo.steps_per_update
    kept = rlzoo.snapshots(algo, keys[0], updates, asked["snapshots"], job["episodes"])
    random = rlzoo.data.collect(env, None, keys[2], asked["rows"] // 10, 20)
    low, high = float(random.episode_returns().mean()), float(kept.returns[-1])
    medium = kept.actors[int(np.argmax(kept.returns >= low + (high - low) / 3))]

    def policy(obs, key):
        return algo.policy(medium, obs, key)

    return rlzoo.data.collect(env, policy, keys[1], asked["rows"], 20)


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"[:300]


STAGES = {"peaks": peaks, "right": right, "fast": fast, "learning": learning}

if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    try:
        STAGES[asked["stage"]](asked)
    except Exception as error:
        import traceback

        traceback.print_exc()
        say(error=_first_line(error))
        os._exit(1)
