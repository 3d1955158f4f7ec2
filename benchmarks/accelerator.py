"""Everything that is to be known of an accelerator, in minutes: is it right there, how fast, where the time goes.

    python benchmarks/accelerator.py --minutes 8 --out DIR [--scale 1] [--only right fast learning] [--record]

Stages in the order of their worth. Each job of a stage is a process of its own, prepared beside the others, so that
compiling fills the processor's cores; for what is timed it has the device alone, the others being stopped meanwhile.
Every result is one JSON line in DIR/accelerator.jsonl as soon as it is there: a command that is cut off loses only
what was being measured. What does not fit into the time, or fails, says so in a line.

  peaks     products at each precision and a copy: what the device can do
  right     two updates of every algorithm, of its contract case, here and on the CPU from one State; and whether
            training 2n updates equals n, saved, loaded, and n more, with and without deterministic operations
  fast      steps a second, seconds to compile, memory beside `rlzoo.plan`'s estimate, kernels an update
  learning  returns of PPO and SAC on brax, of offline algorithms on data recorded there, and of QARL's protagonists
            on their cartpole, with the time that is left

Float32 products are at full precision (JAX_DEFAULT_MATMUL_PRECISION=highest) unless --precision says otherwise. It runs
on a CPU too: `--scale 0.01` makes agents, rows and steps fewer. At the end there is a table of all that was measured,
and exit code 1 if anything failed or was not reached.
"""

import argparse
import contextlib
import json
import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

GIVEN = os.environ.get("JAX_PLATFORMS")
os.environ["JAX_PLATFORMS"] = "cpu"  # of this process, which leaves an accelerator to its workers

import device_tables  # noqa: E402
import tables  # noqa: E402
from speed import PPO, SAC, SPRING  # noqa: E402

from rlzoo import names  # noqa: E402

WORKER = Path(__file__).parent / "workers" / "on_device.py"
MJX = {"backend": "mjx"}
WIDE = {"num_envs": 2048, "num_steps": 16, "num_minibatches": 32}  # one agent that fills a device
NARROW = {"num_steps": 16}
HALF = {"compute_dtype": "bfloat16"}  # beside the same in float32
ROWS = 1_000_000
LEARNING = 0.3  # of the time that learning has in any case, once it is prepared
GRAPHS = "--xla_gpu_enable_command_buffer=+WHILE,+CONDITIONAL"  # a loop is launched whole, not iteration by iteration
# Of learning on brax: as many environments as keep an accelerator busy; numbers as usual for such.
MANY = {
    "num_envs": 1024,
    "num_steps": 32,
    "num_epochs": 4,
    "num_minibatches": 32,
    "hidden": (256, 256),
    "init_std": 0.5,
}
HYPER = {"learning_rate": 3e-4, "gamma": 0.99, "gae_lambda": 0.95, "entropy_coef": 1e-3}
OFF_POLICY = {"num_envs": 64, "num_updates": 64, "capacity": 1_000_000, "warmup": 8_192}


@dataclass
class Job:
    """One process: a task of a stage."""

    stage: str
    name: str
    case: dict[str, Any]
    flags: str = ""  # for XLA
    process: Any = None
    state: str = "waiting"  # waiting, preparing, ready, measuring, over
    lines: int = 0
    cases: set[str] = field(default_factory=set)  # of the contract, that it has told of
    errors: list[str] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        return self.state in ("preparing", "ready", "measuring")


def jobs(options: argparse.Namespace, groups: int) -> list[Job]:
    """All jobs in the order of their worth, smaller by the scale."""
    scale, seconds = options.scale, min(0.7, 0.7 * max(options.scale, 0.1))

    def sized(number: int, least: int = 1) -> int:
        return max(least, round(number * scale))

    found = [Job("peaks", "peaks", {"matrix": sized(8192, 512), "copy": sized(2**29, 2**26), "seconds": seconds})]
    cases = _cases(every=scale == 1)
    parts = [cases[i::groups] for i in range(groups) if cases[i::groups]]

    def right(flags: str = "") -> list[Job]:
        kind = "deterministic" if flags else "as on the CPU"
        return [Job("right", kind, {"cases": part, "deterministic": bool(flags)}, flags) for part in parts]

    def fast(name: str, agents: Sequence[int], updates: Sequence[int], flags: str = "", **case: Any) -> Job:
        few = dict(zip(map(sized, agents), updates, strict=True))  # the same number after scaling: once
        few = few if scale == 1 else {agents: few[agents] for agents in (min(few), max(few))}
        few = {agents: n for agents, n in few.items() if not options.agents or agents in options.agents}
        case |= {"agents": list(few), "updates": list(few.values()), "seconds": seconds}
        return Job("fast", name, case, flags)

    def brax(name: str, options: dict[str, str]) -> list[Job]:
        title = f"PPO {name}, {options['backend']}"
        case = {"algorithm": "ppo", "env": f"brax/{name}", "env_options": options}
        wide = WIDE | {"num_envs": sized(WIDE["num_envs"], 32)}
        return [
            fast(f"{title}, {wide['num_envs']} environments", [1], [2], **case, sizes=PPO | wide),
            fast(title, [64], [2], **case, sizes=PPO | NARROW),
        ]

    def data(name: str, rows: int) -> Job:
        rows = sized(rows, 2_000)
        title = f"{tables.TITLES.get(name, name.upper())}, {rows:,} rows"
        return fast(title, [1, 8], [200, 100], algorithm=name, rows=rows, what="critic steps")

    of_ppo, of_sac = {"algorithm": "ppo", "sizes": PPO}, {"algorithm": "sac", "sizes": SAC}
    cartpole, pendulum, breakout = (
        {"env": f"gymnax/{name}", "env_options": {}} for name in ("CartPole-v1", "Pendulum-v1", "Breakout-MinAtar")
    )
    hopper = {"env": "brax/hopper", "env_options": SPRING}
    more = {"kernels": True, "plan": True}
    found += [fast("PPO CartPole", [1, 256, 2048, 8192], [16, 8, 2, 1], **of_ppo, **cartpole, **more)]
    found += [fast("SAC Pendulum", [1, 64, 300], [200, 100, 50], **of_sac, **pendulum, **more)]
    found += right()
    found += [fast("PPO Breakout-MinAtar", [1, 64, 256], [8, 4, 2], **of_ppo, **breakout, plan=True)]
    found += [fast("SAC hopper", [1, 64, 300], [100, 50, 25], **of_sac, **hopper, plan=True)]
    found += brax("halfcheetah", SPRING)
    found += [data("td3_bc", ROWS), data("iql", ROWS), data("a2pr", ROWS), data("prdc", ROWS // 10)]
    found += brax("ant", SPRING)
    found += [
        fast("PPO CartPole, loops as graphs", [1, 2048], [16, 2], flags=GRAPHS, **of_ppo, **cartpole),
        fast("SAC Pendulum, loops as graphs", [1, 300], [200, 50], flags=GRAPHS, **of_sac, **pendulum),
    ]
    found += [
        fast("PPO CartPole, bfloat16", [2048], [2], algorithm="ppo", sizes=PPO | HALF, **cartpole),
        fast("SAC hopper, bfloat16", [64], [50], algorithm="sac", sizes=SAC | HALF, **hopper),
    ]
    found += [fast("CPL", [1, 8], [20, 4], algorithm="cpl", what="updates")]
    found += [fast("QARL", [1, 8], [1, 1], algorithm="qarl", sizes={"num_envs": 5})]
    found += right("--xla_gpu_deterministic_ops=true")
    found += [*brax("halfcheetah", MJX), *brax("ant", MJX), data("prdc", ROWS)]

    def learn(algorithm: str, task: str, steps: int, **case: Any) -> Job:
        case |= {"algorithm": algorithm, "seeds": 8, "steps": sized(steps), "share": 0.1, "episodes": 16}
        return Job("learning", f"{algorithm.upper()} {task}", case)

    for task in ("halfcheetah", "hopper", "walker2d", "ant"):
        config = MANY | {"num_envs": sized(MANY["num_envs"], 32)}
        where = {"env": f"brax/{task}", "env_options": SPRING}
        found += [learn("ppo", task, 50_000_000, **where, config=config, hyper=HYPER)]
    for task in ("halfcheetah", "hopper", "walker2d", "ant"):
        config = OFF_POLICY | ({"capacity": 16_384} if scale < 1 else {})
        found += [learn("sac", task, 1_000_000, env=f"brax/{task}", env_options=SPRING, config=config, hyper={})]
    behaviour = {"config": OFF_POLICY, "steps": 300_000, "snapshots": 20, "rows": sized(ROWS // 200, 10) * 200}
    if scale < 1:
        few = {"num_envs": 16, "num_updates": 4, "capacity": 16_384, "warmup": 1_024}
        behaviour |= {"config": few, "steps": 2_048, "snapshots": 2}
    for algorithm, preset in (("prdc", "hopper"), ("a2pr", "hopper_medium")):
        where = {"env": "brax/hopper", "env_options": SPRING, "behaviour": behaviour, "preset": preset}
        found += [learn(algorithm, "hopper-medium", 1_000_000, **where, config={}, hyper={})]
    where, nets = {"env": "rlzoo/CartpoleBalance-v0", "env_options": {}}, {} if scale == 1 else {"hidden": (16, 16)}
    # Training as in benchmarks/papers/qarl.py, which tries what is trained under pushes and other masses.
    for opponent, steps in {"quantal": 1_000_000, "rational": 1_000_000, "none": 500_000}.items():
        config = {"opponent": opponent, "num_envs": 5} | nets
        found += [learn("qarl", f"cartpole, {opponent}", steps, **where, config=config, hyper={})]
    found = [job for job in found if job.case.get("agents") != []]
    names.check("stage or job", options.only or (), {name for job in found for name in (job.stage, job.name)})
    return [job for job in found if not options.only or job.stage in options.only or job.name in options.only]


def _cases(every: bool) -> list[str]:
    """The contract's cases by name; one an algorithm where time is short."""
    sys.path.append(str(Path(__file__).parent.parent / "tests"))
    from test_contract import CASES

    first = {case.module.__name__: name for name, case in reversed(CASES.items())}
    return list(CASES) if every else sorted(first.values())


class Session:
    """Starts jobs as cores are free, gives them the device one at a time, and writes down what they say."""

    def __init__(self, found: list[Job], file: Path, seconds: float, at_once: int, environment: dict[str, str]) -> None:
        self.jobs, self.file, self.at_once, self.environment = found, file, at_once, environment
        self.began = time.monotonic()
        self.ends, self.learns = self.began + seconds, self.began + (1 - LEARNING) * seconds
        self.said: queue.Queue[tuple[Job, dict[str, Any] | None]] = queue.Queue()

    def write(self, **line: Any) -> None:
        """One line, at once."""
        with self.file.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def run(self) -> None:
        while any(job.state != "over" for job in self.jobs) and time.monotonic() < self.ends:
            self._start()
            self._give_turn()
            with contextlib.suppress(queue.Empty):
                self._hear(*self.said.get(timeout=0.2))
        for job in self.jobs:
            if job.state != "over":
                was = job.state
                self._end(job, f"not reached in the time ({was})")

    def _start(self) -> None:
        for job in self.jobs:
            if sum(job.alive for job in self.jobs) >= self.at_once:
                return
            if job.state == "waiting":
                environment = self.environment | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {job.flags}".strip()}
                command = [sys.executable, str(WORKER), json.dumps({"stage": job.stage} | job.case)]
                with self.file.with_suffix(".log").open("ab") as log:
                    job.process = subprocess.Popen(
                        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
                    )
                job.state = "preparing"
                threading.Thread(target=self._listen, args=(job,), daemon=True).start()

    def _listen(self, job: Job) -> None:
        for line in job.process.stdout:
            with contextlib.suppress(json.JSONDecodeError):
                self.said.put((job, json.loads(line)))
        self.said.put((job, None))

    def _hear(self, job: Job, line: dict[str, Any] | None) -> None:
        if job.state == "over":
            return
        if line is None:
            code = job.process.wait()
            self._end(job, None if job.lines and not code else f"ended with exit code {code}")
        elif "ready" in line:
            job.state = "ready"
        elif "done" in line:
            job.state = "preparing"  # what it still does is not timed
            self._signal(signal.SIGCONT, job)
        else:
            job.lines += 1
            if "error" in line:
                job.errors.append(line["error"])
            if "case" in line:
                job.cases.add(line["case"])
            kind = {k: job.case[k] for k in ("deterministic", "rows", "env_options") if k in job.case}
            self._tell(job, line.pop("case", line.pop("name", job.name)), **kind, **line)

    def _give_turn(self) -> None:
        if any(job.state == "measuring" for job in self.jobs):
            return
        job = next((job for job in self.jobs if job.state == "ready"), None)
        others = any(job.state != "over" and job.stage != "learning" for job in self.jobs)
        if job is None or (job.stage == "learning" and others and time.monotonic() < self.learns):
            return
        self._signal(signal.SIGSTOP, job)
        job.state = "measuring"
        with contextlib.suppress(OSError):  # it has just ended
            job.process.stdin.write(f"{max(1.0, self.ends - time.monotonic() - 10.0)}\n")
            job.process.stdin.flush()

    def _signal(self, number: int, but: Job) -> None:
        for job in self.jobs:
            if job.alive and job is not but:
                with contextlib.suppress(ProcessLookupError):
                    job.process.send_signal(number)

    def _end(self, job: Job, why: str | None) -> None:
        measured = job.state == "measuring"
        job.state = "over"
        if job.process is not None:
            job.process.kill()
        if measured:
            self._signal(signal.SIGCONT, job)
        if why is not None and not job.errors:
            job.errors.append(why)
            kind = {"deterministic": True} if job.case.get("deterministic") else {}
            for name in [name for name in job.case.get("cases", [job.name]) if name not in job.cases]:
                self._tell(job, name, **kind, error=why)

    def _tell(self, job: Job, name: str, **line: Any) -> None:
        self.write(stage=job.stage, name=name, **line)
        print(f"{time.monotonic() - self.began:5.0f} s  {job.stage} {name}: {_brief(line)}", flush=True)


def _brief(line: dict[str, Any]) -> str:
    shown = {k: v for k, v in line.items() if not isinstance(v, dict | list)}
    return ", ".join(f"{k} {v:,.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in shown.items())


def about(precision: str) -> dict[str, Any]:
    """The device, asked in a process of its own: this one leaves it to the workers."""
    ask = "import jax, json; d = jax.devices()[0]; s = d.memory_stats() or {}; "
    ask += "print(json.dumps([d.device_kind, d.platform, s.get('bytes_limit')]))"
    answer = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True, env=_environment())
    kind, platform, memory = json.loads(answer.stdout.strip().splitlines()[-1])
    found = {"device": kind, "platform": platform, "memory": memory, "precision": precision}
    found |= {"flags": os.environ.get("XLA_FLAGS", "")}
    return found | {"jax": version("jax"), "jaxlib": version("jaxlib"), "date": date.today().isoformat()}


def _environment() -> dict[str, str]:
    """Without a cache of programs, so that compiling is measured; several processes share the device's memory."""
    kept = {k: v for k, v in os.environ.items() if k not in ("JAX_COMPILATION_CACHE_DIR", "JAX_PLATFORMS")}
    kept |= {} if GIVEN is None else {"JAX_PLATFORMS": GIVEN}
    return kept | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_CPP_MIN_LOG_LEVEL": "2"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="in all")
    parser.add_argument("--out", type=Path, default=Path("runs/accelerator"), help="directory of the lines and the log")
    parser.add_argument("--scale", type=float, default=1.0, help="of numbers of agents, rows, environments and steps")
    parser.add_argument("--only", nargs="+", help="these stages, or jobs by name")
    parser.add_argument("--agents", type=int, nargs="+", help="these numbers of agents alone")
    parser.add_argument("--precision", default="highest", choices=("highest", "default"), help="of float32 products")
    parser.add_argument("--at-once", type=int, help="processes that prepare; default: a core each, but two")
    parser.add_argument("--commit", help="where there is no git")
    parser.add_argument("--record", action="store_true", help="write the lines and tables into docs/benchmarks")
    options = parser.parse_args()

    from rlzoo.report.record import commit, slug

    cores = len(os.sched_getaffinity(0))
    at_once = options.at_once or max(2, cores - 2)
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "accelerator.jsonl"
    environment = _environment() | {"JAX_DEFAULT_MATMUL_PRECISION": options.precision}
    session = Session(jobs(options, max(1, at_once // 2)), file, 60 * options.minutes - 5, at_once, environment)
    found = about(options.precision) | {"commit": options.commit or commit(), "cores": cores, "scale": options.scale}
    command = shlex.join(["python", "benchmarks/accelerator.py", *sys.argv[1:]])
    session.write(stage="about", command=command, **found)
    session.run()
    lines = device_tables.read(file)
    print("\n".join(device_tables.sections(lines)))
    if options.record:
        device_tables.merge(tables.DIRECTORY / f"accelerator_{slug(found['device'])}.jsonl", lines)
        tables.write()
    failed = [f"{job.stage} {job.name}: {job.errors[0]}" for job in session.jobs if job.errors]
    print("\n".join(["failed or not reached:", *failed] if failed else ["all is there"]))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
