"""The command line: ``rlzoo train | sweep | eval | plot | render | collect | eject | list``."""

import argparse
import dataclasses
import inspect
import itertools
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, get_type_hints

import numpy as np

from rlzoo import names, report, stops
from rlzoo.algorithms import ALGORITHMS
from rlzoo.arguments import Parser, check_options, flags, same, typed, value_of
from rlzoo.drivers import named, runfile
from rlzoo.envs.brax import BACKENDS
from rlzoo.files import refuse_other, write_json, write_text
from rlzoo.report.sinks import SINKS
from rlzoo.report.tables import numbers

USAGE = """rlzoo: reinforcement learning in JAX, compiled whole

  rlzoo train ALGORITHM --env ENV …   train one agent, or a sweep over hyperparameters times seeds
  rlzoo sweep FILE                    train the settings of a file: grids, samples, halving, populations
  rlzoo eval DIRECTORY                evaluate what a run left
  rlzoo plot DIRECTORY                draw its curves and sensitivities, print its table
  rlzoo render DIRECTORY              film an episode of a run's agent
  rlzoo collect SOURCE … --output FILE  record a dataset: of runs' policies, of a replay, or of random actions
  rlzoo eject ALGORITHM --env ENV …   write the algorithm as one script that needs no rlzoo
  rlzoo list                          algorithms with their fields, and environments

`rlzoo help COMMAND` and `rlzoo COMMAND --help` show the options, `rlzoo --version` the version. For example:

  rlzoo train ppo --env gymnax/CartPole-v1 --steps 100000 --hyper.learning-rate 1e-4 1e-3 --seeds 8
  rlzoo train prdc --env brax/hopper --data hopper-medium.npz --steps 100000
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Exit code 0; 2 for what the user must correct, 1 for what the machine refuses, each said in one line."""
    argv = list(sys.argv[1:] if argv is None else argv)
    _quiet_libraries()
    try:
        with stops.watching():
            code = _dispatch(argv)
        sys.exit(code)
    except ValueError as error:
        print(f"rlzoo: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # a full disk, a directory that may not be written, a coordinator that is not there
        print(f"rlzoo: {error}", file=sys.stderr)
        sys.exit(1)


def _quiet_libraries() -> None:
    """What others log through absl, such as which files they write, would stand in the middle of the progress."""
    from absl import logging

    logging.set_verbosity(logging.ERROR)


def _dispatch(argv: list[str]) -> int:
    import rlzoo
    from rlzoo.names import unknown

    while argv[:1] == ["help"]:
        argv = [*argv[1:], "--help"]
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if argv[0] in ("-V", "--version"):
        print(f"rlzoo {rlzoo.__version__}")
        return 0
    commands: dict[str, Callable[[list[str]], int]] = {
        "train": _train,
        "sweep": _sweep,
        "eval": _eval,
        "plot": _plot,
        "render": _render,
        "collect": _collect,
        "eject": _eject,
        "list": _list,
    }
    command = same(argv[0], commands)
    if command not in commands:
        raise unknown("command", argv[0], [*commands, "help", "--version"])
    return commands[command](argv[1:])


# --- train ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    env: str
    """such as gymnax/CartPole-v1 or brax/halfcheetah; your own as module:object or path.py:object"""
    steps: int = 1_000_000
    """environment steps per agent; offline, gradient steps"""
    data: Path | None = None
    """offline: a .npz of rlzoo, a .hdf5 of D4RL, a Minari dataset's folder or id; cpl, p_iql: preferences"""
    data_rule: str | None = None
    """of a .hdf5 of D4RL: true successors (the default), or qlearning, its qlearning_dataset; see docs/data.md"""
    begin: Path | None = None
    """cpl: the run of cloning, --config.phase bc, whose policies are gone on from; --steps counts its steps too"""
    seeds: int = 1
    """agents per setting"""
    seed: int = 0
    """of the keys"""
    preset: str | None = None
    """hyperparameter set; default: that of the environment's family"""
    backend: str | None = None
    """brax physics: generalized, positional, spring or mjx"""
    directory: Path | None = None
    """for log, checkpoints and pictures; default: a new one under runs/"""
    resume: bool = False
    """continue the run in --directory"""
    spread: bool = False
    """over all devices; see docs/scaling.md"""
    distributed: bool = False
    """one of several processes that a scheduler has started; implies --spread"""
    coordinator: str | None = None
    """without a scheduler: host:port of process 0; with --num-processes and --process-id"""
    num_processes: int | None = None
    """with --coordinator"""
    process_id: int | None = None
    """with --coordinator"""
    plan: bool = False
    """say what it will take, memory and time, and stop"""
    report_every: int | None = None
    """updates between evaluations and saves; default: a twentieth of the run"""
    eval_episodes: int = 32
    """per agent and evaluation"""
    sinks: tuple[str, ...] = ("csv", "tensorboard")
    """of csv, tensorboard, wandb"""


FREE = ("report_every", "eval_episodes", "sinks", "spread")  # options that are on record, and may change on resuming


def _train(argv: list[str]) -> int:
    import jax
    import tyro

    import rlzoo
    from rlzoo.drivers import checkpoint
    from rlzoo.drivers.evaluate import refuse
    from rlzoo.drivers.run import alone_in
    from rlzoo.machine import LANE, refuse_more
    from rlzoo.names import check_seed, unknown

    recorded = _on_record(argv)
    if recorded and argv[0].startswith("-"):
        argv = [recorded["algorithm"], *argv]
    if not argv or argv[0].startswith("-"):
        print(f"usage: rlzoo train {{{','.join(rlzoo.ALGORITHMS)}}} --env ENV …")
        print("`rlzoo train ALGORITHM --help` shows the options of one, and `rlzoo list` what there is")
        return 0 if argv and argv[0] in ("-h", "--help") else 2
    algorithm = same(argv[0], rlzoo.ALGORITHMS)
    if algorithm not in rlzoo.ALGORITHMS:
        raise unknown("algorithm", argv[0], rlzoo.ALGORITHMS)
    module = rlzoo.ALGORITHMS[algorithm]

    # The preset gives the defaults of the other options, so it is read first.
    asked, env, data = (value_of(option, argv[1:]) or "" for option in ("--preset", "--env", "--data"))
    preset = module.presets[same(asked, module.presets) or named.preset_for(named.written(env), module.presets, data)]

    kind, prog = _options(module, preset, recorded), f"rlzoo train {algorithm}"
    check_options(argv[1:], [*flags(kind), "-h", "--help"], prog)
    with typed():
        options: Any = tyro.cli(kind, args=argv[1:], prog=prog, description=inspect.getdoc(module.make))
    env, backend = named.written(options.env), options.backend and same(options.backend, BACKENDS)
    sinks = tuple(same(name, SINKS) for name in options.sinks)
    names.check("sink", sinks, SINKS)
    several = _connect(options)
    if options.seeds < 1:
        raise ValueError(f"--seeds {options.seeds}; it must be 1 or more")
    check_seed("--seed", options.seed)
    refuse_more("seeds", options.seeds, LANE)
    refuse(options.eval_episodes, options.seeds)
    named.check_data(algorithm, options.data, "--data", options.data_rule)
    hyper = {field.name: getattr(options.hyper, field.name) for field in dataclasses.fields(options.hyper)}
    for name, values in hyper.items():
        if not values or len(set(map(str, values))) < len(values):
            what = "the same number twice" if values else "no number"
            raise ValueError(f"--hyper.{name.replace('_', '-')} got {what}; give one, or several to sweep")
    env, env_options = rlzoo.envs.named(env, {"backend": backend} if backend else {})
    about = {
        "algorithm": algorithm,
        "env": env,
        "env_options": env_options,
        "data": named.absolute(options.data) if options.data else None,
        "data_rule": None if options.data_rule == "true" else options.data_rule,  # true is the default
        "config": {name: value for name, value in vars(options.config).items()},
        "hyper": hyper,
        "seeds": options.seeds,
        "seed": options.seed,
        "steps": options.steps,
        "begin": str(options.begin.resolve()) if options.begin else None,
        "options": {name: getattr(options, name) for name in FREE},
    }
    directory = options.directory or _fresh_directory(algorithm, named.short(env))
    _refuse_file(directory)
    again = [*argv, *([] if options.directory else ["--directory", str(directory)])]
    command = shlex.join(["rlzoo", "train", *[word for word in again if word != "--resume"], "--resume"])
    short = shlex.join(["rlzoo", "train", "--directory", str(directory), "--resume"])  # the rest is on record
    stops.go_on_with(command)
    _cache_programs()
    runs = build(about)
    num_updates = rlzoo.updates_for(runs, options.steps)
    runs = rlzoo.spread(runs) if options.spread or several else runs
    if options.plan:
        print(rlzoo.plan(runs, options.seeds, num_updates, eval_episodes=options.eval_episodes))
        return 0
    leads = jax.process_index() == 0
    if leads:
        print(f"{_summary(module, about, runs, num_updates)}\ndirectory {directory}", flush=True)
    with _made(directory), alone_in(directory):
        there = checkpoint.any_in(directory / "checkpoints")
        start = None if there and options.resume else _begun(module, runs, about)
        with _opened(directory, about, options.resume, there):
            command = short if not several else command
            stops.go_on_with(command)
            result = rlzoo.run(
                runs,
                _keys(about),
                num_updates,
                directory=directory,
                resume=options.resume,
                report_every=options.report_every,
                eval_episodes=options.eval_episodes,
                sinks=sinks,
                how_to_resume=command,
                start=start,
            )
    if result.interrupted:
        return stops.exit_code()
    if not leads:
        return 0
    if "csv" in sinks and options.eval_episodes:
        _draw(directory, about)
    print(f"checkpoints {directory / 'checkpoints'}")
    return 0


@contextmanager
def _made(directory: Path) -> Iterator[None]:
    """The directory of a run; if the run is refused, no folder is left that was made for it here."""
    import jax

    new = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    try:
        directory.mkdir(parents=True)
    except FileExistsError:  # it was there, or another process has just made it
        new = []
    try:
        yield
    except ValueError:
        if new and jax.process_index() == 0 and not any(directory.rglob("checkpoints/*")):
            shutil.rmtree(directory, ignore_errors=True)
            with suppress(OSError):  # in those above it another run may be by now
                for folder in new[1:]:
                    folder.rmdir()
        raise


def _connect(options: Any) -> bool:
    """Whether this is one of several processes, which is made known to JAX."""
    import rlzoo

    told = options.coordinator, options.num_processes, options.process_id
    if not (options.distributed or any(x is not None for x in told)):
        return False
    if options.directory is None:
        raise ValueError("several processes need one --directory that all of them see")
    rlzoo.connect(*told)
    return True


def _begun(module: ModuleType, runs: Any, about: dict[str, Any]) -> Any:
    """The State that a second phase goes on from; None of a first."""
    import rlzoo

    if about["begin"] is None:
        if about["config"].get("reference") and about["config"].get("phase") == "cpl":
            raise ValueError("--config.reference is the policy that cloning left: give the run of it with --begin")
        return None
    if not hasattr(module, "begin"):
        raise ValueError(f"{about['algorithm']} has one phase; leave --begin out")
    directory = Path(about["begin"])
    before = runfile.read(directory)
    for name in ("algorithm", "env", "data", "seeds"):
        if before[name] != about[name]:
            raise ValueError(
                f"{name} is {about[name]!r}, but the run in {directory} has {before[name]!r}; begin from one alike"
            )
    former = _rebuilt(directory, before, about["env"])
    state = rlzoo.load(directory / "checkpoints", former)
    if former.num_hypers != runs.num_hypers:
        state = rlzoo.branch(state, runs.num_hypers)
    return module.begin(state, runs)


def _on_record(argv: list[str]) -> dict[str, Any] | None:
    """What is on record of a run that is to be resumed; None where the command says it all, and no record fits."""
    early = Parser(add_help=False, prog="rlzoo train")
    early.add_argument("--directory", type=Path)
    early.add_argument("--resume", action="store_true")
    early.add_argument("--env")
    early.add_argument("--preset")
    known, _ = early.parse_known_args(argv)
    if not known.resume or known.directory is None:
        return None
    there = (known.directory / runfile.FILE).exists()
    if known.env is not None and (known.preset or not there):
        return None
    if not there:
        raise ValueError(
            f"there is no run.json in {known.directory}, which says what to resume; give the whole command: "
            f"rlzoo train ALGORITHM --env ENV … --directory {known.directory} --resume"
        )
    found = runfile.read(known.directory)
    if known.env is not None and named.written(known.env) != found["env"]:
        if argv[0].startswith("-"):
            refuse_other({"env": named.written(known.env)}, found, f"the run in {known.directory}")
        return None
    _refuse_code(known.directory, found, known.env)
    if known.preset:
        raise ValueError(f"the numbers of {known.directory} are on record; leave --preset {known.preset} out")
    if not argv[0].startswith("-"):
        refuse_other({"algorithm": same(argv[0], ALGORITHMS)}, found, f"the run in {known.directory}")
    return found


@contextmanager
def _opened(directory: Path, about: dict[str, Any], resume: bool, there: bool) -> Iterator[None]:
    """Refuse what the directory is not for, and write ``run.json``, which stays as it was if the run is refused. A run
    is resumed as what it began as; only its length may change, and ``FREE``.
    """
    import jax

    from rlzoo.drivers import checkpoint

    path = directory / "run.json"
    if there and not resume:
        raise ValueError(f"{directory} holds a run already; go on with --resume, or choose another directory")
    before = None
    if resume and path.exists():
        asked = {k: x for k, x in about.items() if k not in ("steps", "options")}
        refuse_other(asked, runfile.read(directory), f"the run in {directory}")
        before = path.read_text(encoding="utf-8")
    leads = jax.process_index() == 0
    if leads:
        write_json(path, about)
    try:
        yield
    except ValueError:
        if leads and before is not None:
            write_text(path, before)
        elif leads and (there or not checkpoint.any_in(directory / "checkpoints")):
            path.unlink(missing_ok=True)
        raise


def build(about: dict[str, Any]) -> Any:
    """The sweep that a ``run.json`` describes: every combination of the given hyperparameters, times seeds."""
    import rlzoo

    module = rlzoo.ALGORITHMS[about["algorithm"]]
    env = named.environment(about["env"], about["env_options"])
    config = runfile.config_of(about)
    single = {name: values[0] for name, values in about["hyper"].items() if len(values) == 1}
    several = {name: values for name, values in about["hyper"].items() if len(values) > 1}
    dataset = named.load_data(module, about["data"], about.get("data_rule")) if named.is_offline(module) else None
    algo = named.make(module, env, config, single, dataset)
    return rlzoo.sweep(algo, rlzoo.grid(algo.hyper, **several) if several else algo.hyper)


def _refuse_code(directory: Path, about: dict[str, Any], env: str | None) -> None:
    """A record holds numbers: whoever opens somebody else's must not run the code that it names, unless they do too."""
    given = None if env is None else named.written(env)
    if given not in (None, about["env"]) and ":" not in about["env"]:
        raise ValueError(f"{directory} was trained in {about['env']}, given is {given}; leave --env out")
    if ":" in about["env"] and given != about["env"]:
        raise ValueError(
            f"{directory} was trained in {about['env']}, which is code; if it is yours, say so: --env {about['env']}"
        )


def _rebuilt(directory: Path, about: dict[str, Any], env: str | None) -> Any:
    """As `build`, of what a run's directory has on record; with its environment, where that is code."""
    _refuse_code(directory, about, env)
    try:
        return build(about)
    except ValueError as error:
        raise ValueError(f"{directory / runfile.FILE}: {error}") from error


def _keys(about: dict[str, Any]) -> Any:
    import jax

    return jax.random.split(jax.random.key(about["seed"]), about["seeds"])


def _episodes_key(seed: int) -> Any:
    """Of episodes that training has not seen: its own keys come of the seed alone."""
    import jax

    from rlzoo.drivers.evaluate import EVALUATION_SEED
    from rlzoo.names import check_seed

    check_seed("--seed", seed)
    return jax.random.fold_in(jax.random.key(EVALUATION_SEED), seed)


def _options(module: ModuleType, preset: Any, recorded: dict[str, Any] | None = None) -> type:
    """`TrainOptions` with ``config`` and ``hyper`` of an algorithm, their defaults of a preset, or of a record."""
    import tyro

    defaults: dict[str, Any] = {}
    if recorded is not None:
        numbers_of = preset.hyper._asdict() | {name: tuple(x) for name, x in recorded["hyper"].items()}
        preset = preset._replace(config=runfile.config_of(recorded), hyper=module.Hyper(**numbers_of))
        defaults = {name: recorded[name] for name in ("env", "steps", "seeds", "seed")}
        defaults |= {name: recorded[name] and Path(recorded[name]) for name in ("data", "begin")}
        defaults |= {"backend": recorded["env_options"].get("backend")}
        defaults |= {"data_rule": recorded["data_rule"]} if recorded["data_rule"] else {}
        defaults |= {k: x for k, x in recorded["options"].items() if k in FREE}
        defaults |= {"sinks": tuple(defaults["sinks"])} if "sinks" in defaults else {}
    help_of = {**named.said(module.Config), **named.said(module.Hyper)}

    def option(name: str, kind: Any, default: Any) -> tuple[str, Any, Any]:
        return name, Annotated[kind, tyro.conf.arg(help=help_of.get(name, ""))], dataclasses.field(default=default)

    plain = named.plain_fields(module.Config)
    config = [option(name, kind, getattr(preset.config, name)) for name, kind in plain.items()]
    hyper = [
        option(name, tuple[float, ...], value if isinstance(value, tuple) else (value,))
        for name, value in preset.hyper._asdict().items()
    ]
    parts = {
        "config": dataclasses.make_dataclass("config", config, frozen=True),
        "hyper": dataclasses.make_dataclass("hyper", hyper, frozen=True),
    }
    kinds = get_type_hints(TrainOptions)
    fields: list[Any] = [(name, kinds[name], dataclasses.field(default=x)) for name, x in defaults.items()]
    fields += [(name, kind, dataclasses.field(default_factory=kind)) for name, kind in parts.items()]
    presets = f"hyperparameter set, of {', '.join(module.presets)}; default: that of the environment's family"
    fields.append(("preset", Annotated[str | None, tyro.conf.arg(help=presets)], dataclasses.field(default=None)))
    return dataclasses.make_dataclass("train", fields, bases=(TrainOptions,), frozen=True)


def _summary(module: ModuleType, about: dict[str, Any], runs: Any, num_updates: int) -> str:
    swept = {name: len(values) for name, values in about["hyper"].items() if len(values) > 1}
    settings = " × ".join(f"{count} {name}" for name, count in swept.items())
    lanes = " × ".join(filter(None, [settings, f"{about['seeds']} seeds"]))
    size = f"{about['steps']:,} steps each in {num_updates:,} updates"
    said = f"\nsteps are {named.BUDGETS[runs.name]}" if runs.offline else ""
    return f"{runs.name} on {runs.env.name}: {lanes}, {size}, one program{said}"


def _fresh_directory(algorithm: str, env: str) -> Path:
    stem = f"{algorithm}_{env.rpartition('/')[2]}"
    number = 1
    while (directory := Path("runs") / f"{stem}_{number}").exists():
        number += 1
    return directory


def _cache_programs() -> None:
    """Keep compiled programs on disk: the second run of a command starts at once."""
    import jax

    if jax.config.values["jax_compilation_cache_dir"] is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "rlzoo" / "jax"
        jax.config.update("jax_compilation_cache_dir", str(cache))


# --- sweep ----------------------------------------------------------------------------------------------------------

BEST = 10  # settings in the table of a sweep


def _sweep(argv: list[str]) -> int:
    import jax

    from rlzoo import study

    parser = Parser(prog="rlzoo sweep", description="Train the settings of a file; see docs/sweeps.md.")
    parser.add_argument("file", type=Path, help="YAML, or Python that leaves a dictionary named study")
    parser.add_argument("--directory", type=Path, help="for results, logs and checkpoints (default: runs/FILE)")
    parser.add_argument("--resume", action="store_true", help="go on with what is in the directory")
    parser.add_argument("--plan", action="store_true", help="say what it will take, memory and time, and stop")
    parser.add_argument("--distributed", action="store_true", help="one of several processes, started by a scheduler")
    parser.add_argument("--coordinator", help="without a scheduler: host:port of process 0; and then")
    parser.add_argument("--num-processes", type=int, help="how many there are, and")
    parser.add_argument("--process-id", type=int, help="which this is, from 0")
    options = parser.parse_args(argv)

    several = _connect(options)
    asked = study.read(options.file)
    if isinstance(asked.env, str) and (":" in asked.env or asked.env.endswith(".py")):
        raise ValueError(
            f"{options.file}: env is {asked.env}, but a file of settings runs no code; write it in Python, with the "
            "environment itself as study['env']"
        )
    asked = dataclasses.replace(asked, spread=True) if several else asked
    directory = options.directory or Path("runs") / options.file.stem
    _refuse_file(directory)
    _cache_programs()
    if options.plan:
        print("\n".join(map(str, study.plan(asked))))
        return 0
    words = ["rlzoo", "sweep", str(options.file), "--directory", str(directory), "--resume"]
    stops.go_on_with(shlex.join(words))
    with _made(directory):
        results = study.run(asked, directory, options.resume, how_to_resume=shlex.join(words))
    if results is None:
        return stops.exit_code()
    if jax.process_index():
        return 0
    _draw_results(asked, directory, results)
    return 0


def _draw_results(asked: Any, directory: Path, results: list[dict[str, Any]]) -> None:
    """The table of the best settings, and a picture of all."""
    numbers = [name for name in results[0] if name.partition("/")[0] in ("config", "hyper", "params")]
    rows: dict[tuple, list[dict[str, Any]]] = {}  # of each setting its seeds, or in a competition its one row
    for row in results:
        rows.setdefault((row["part"], row["setting"]), []).append(row)
    scores = np.array([[row["return"] for row in of] for of in rows.values()])
    columns = {name: [of[0][name] for of in rows.values()] for name in numbers}

    def label(setting: int) -> str:
        said = [(name.partition("/")[2], columns[name][setting]) for name in numbers]
        values = ", ".join(f"{name}={x:.4g}" if isinstance(x, float) else f"{name}={x}" for name, x in said)
        return f"{setting}: {values}" if values else "all"

    means = scores.mean(axis=1)
    best = np.argsort(np.where(np.isfinite(means), -means, np.inf), kind="stable")[:BEST].tolist()
    of = f", the best {len(best)} of {len(rows)} settings" if len(rows) > len(best) else ""
    env = asked.env if isinstance(asked.env, str) else getattr(asked.env, "name", type(asked.env).__name__)
    title = f"{asked.algorithm} on {env}"
    report.table(f"{title}: final return{of}", {label(x): scores[x] for x in best})
    drawn = {k.partition("/")[2]: np.array(x) for k, x in columns.items() if np.array(x).dtype.kind in "if"}
    if drawn:
        report.scatter(directory / "results.png", drawn, scores, title=title)
        print(f"picture {directory / 'results.png'}")
    print(f"results {directory / 'results.csv'}")


# --- eval, plot, list ----------------------------------------------------------------------------------------------


def _eval(argv: list[str]) -> int:
    import rlzoo
    from rlzoo.drivers.evaluate import normalised
    from rlzoo.drivers.train import steps_after

    parser = Parser(prog="rlzoo eval", description="Evaluate what a run left.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--env", help="where the environment is one's own: its path.py:object once more")
    parser.add_argument("--episodes", type=int, default=128, help="per agent (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the episodes")
    parser.add_argument("--stochastic", action="store_true", help="sample actions; default: the policy's mode")
    parser.add_argument("--output", type=Path, help="the .csv of all returns (default: eval.csv in the directory)")
    options = parser.parse_args(argv)

    output = options.output or options.directory / "eval.csv"
    if output.is_dir():
        raise ValueError(f"--output {output} is a directory; give the file's name, such as {output / 'eval.csv'}")
    if options.episodes < 1:
        raise ValueError(f"--episodes {options.episodes}; it must be 1 or more")
    about = runfile.read(options.directory)
    _cache_programs()
    runs = _rebuilt(options.directory, about, options.env)
    state = rlzoo.load(options.directory / "checkpoints", runs)
    key = _episodes_key(options.seed)
    episodes = rlzoo.evaluate(runs, runs.env, state, key, options.episodes, deterministic=not options.stochastic)
    how = "sampled" if options.stochastic else "deterministic"
    steps = steps_after(runs, int(state.step))
    title = f"{runs.name} on {runs.env.name} at {steps:,} steps, {how} return"
    by_setting = dict(zip(_labels(about), np.asarray(episodes.returns), strict=True))  # [S, E] each
    means = {label: returns.mean(-1) for label, returns in by_setting.items()}
    rlzoo.report.table(title, means)
    if runs.references is not None:
        rlzoo.report.table("normalised score", {label: normalised(runs.references, x) for label, x in means.items()})
    rlzoo.report.risks("over the episodes of all seeds", by_setting, levels=(0.05, 0.1, 0.25))
    _write_episodes(output, about, {"steps": steps, "policy": how, "key": options.seed}, episodes)
    print(f"returns {output}")
    return 0


def _write_episodes(path: Path, about: dict[str, Any], how: dict[str, Any], episodes: Any) -> None:
    """A row an episode: how it was evaluated, whose it is with the numbers that are swept, return and length."""
    from rlzoo.drivers.study import write_csv

    settings = list(_settings(about))
    returns, lengths = np.asarray(episodes.returns), np.asarray(episodes.lengths)  # [H, S, E]
    rows = []
    for setting, seed, episode in np.ndindex(returns.shape):
        numbers = {f"hyper/{name}": value for name, value in settings[setting].items()}
        where = {"setting": setting, "seed": seed, **numbers, "episode": episode}
        at = setting, seed, episode
        rows.append(how | where | {"return": float(returns[at]), "length": int(lengths[at])})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(path, rows)


def _plot(argv: list[str]) -> int:
    parser = Parser(prog="rlzoo plot", description="Draw a run's curves.")
    parser.add_argument("directory", type=Path)
    options = parser.parse_args(argv)
    _draw(options.directory, runfile.read(options.directory))
    return 0


def _render(argv: list[str]) -> int:
    import rlzoo

    parser = Parser(prog="rlzoo render", description="Film an episode of a run.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--env", help="where the environment is one's own: its path.py:object once more")
    parser.add_argument(
        "--output",
        type=Path,
        help=".gif, .mp4 (pip install imageio-ffmpeg), or brax's .html (default: episode.… in the directory)",
    )
    parser.add_argument("--lane", type=int, nargs=2, default=(0, 0), help="setting and seed of the agent")
    parser.add_argument("--seed", type=int, default=0, help="of the episode")
    parser.add_argument("--stochastic", action="store_true", help="sample actions; default: the policy's mode")
    options = parser.parse_args(argv)

    about = runfile.read(options.directory)
    output = options.output or options.directory / f"episode.{'html' if about['env'].startswith('brax/') else 'gif'}"
    _cache_programs()
    algo, state = _agent(options.directory, about, options.lane, options.env)
    key = _episodes_key(options.seed)
    print(rlzoo.render(output, algo, algo.env, state, key, deterministic=not options.stochastic))
    return 0


def _agent(directory: Path, about: dict[str, Any], lane: Sequence[int], env: str | None) -> tuple[Any, Any]:
    """One agent of a run: the algorithm under its setting, and its State."""
    import rlzoo

    runs = _rebuilt(directory, about, env)
    state = rlzoo.lane(rlzoo.load(directory / "checkpoints", runs), *lane)
    return rlzoo.setting(runs, lane[0]), state


def _collect(argv: list[str]) -> int:
    import jax

    import rlzoo

    parser = Parser(prog="rlzoo collect", description="Record a dataset.")
    parser.add_argument(
        "source", nargs="+", help="a run's directory, or an environment for random actions; several: one after another"
    )
    parser.add_argument("--env", help="where a run's environment is one's own: its path.py:object once more")
    parser.add_argument("--output", type=Path, required=True, help="the .npz file")
    parser.add_argument("--rows", type=int, help="transitions of each source (default: 100000)")
    parser.add_argument("--num-envs", type=int, default=20, help="side by side (default: %(default)s)")
    parser.add_argument("--lane", type=int, nargs=2, default=(0, 0), help="setting and seed of the run's agent")
    parser.add_argument("--deterministic", action="store_true", help="act by the policy's mode; default: sample")
    parser.add_argument(
        "--replay", action="store_true", help="all that the agent's replay buffer holds, in place of acting"
    )
    parser.add_argument("--backend", help="brax physics of a source that is an environment")
    parser.add_argument("--seed", type=int, default=0, help="of the environments and actions")
    parser.add_argument("--random-score", type=float, help="reference return of the random policy")
    parser.add_argument("--expert-score", type=float, help="reference return of an expert")
    options = parser.parse_args(argv)

    if options.replay and options.rows is not None:
        raise ValueError("--replay takes all that the buffer holds; leave --rows out")
    _cache_programs()
    about = rlzoo.data.About(options.output.stem, "", options.random_score, options.expert_score)
    keys = jax.random.split(_episodes_key(options.seed), len(options.source))
    datasets = [_recorded(source, key, about, options) for source, key in zip(options.source, keys, strict=True)]
    dataset = rlzoo.data.concatenate(*datasets)
    print(rlzoo.data.quality(dataset))
    print(rlzoo.data.save(options.output, dataset))
    return 0


def _recorded(source: str, key: Any, about: Any, options: argparse.Namespace) -> Any:
    """The dataset of one source of `rlzoo collect`."""
    import rlzoo
    from rlzoo.drivers.train import steps_after

    rows = 100_000 if options.rows is None else options.rows
    if not Path(source).is_dir():
        if options.env:
            raise ValueError(f"{source} is an environment itself; leave --env out")
        if options.replay:
            raise ValueError(f"{source} is no run's directory, and has no replay buffer; leave --replay out")
        backend = {"backend": same(options.backend, BACKENDS)} if options.backend else {}
        env = named.environment(named.written(source), backend)
        return rlzoo.data.collect(env, None, key, rows, options.num_envs, about=about)
    algo, state = _agent(Path(source), runfile.read(Path(source)), options.lane, options.env)
    if not options.replay:
        actor = algo.actor(state)
        policy = lambda obs, key: algo.policy(actor, obs, key, options.deterministic)  # noqa: E731
        return rlzoo.data.collect(algo.env, policy, key, rows, options.num_envs, about=about)
    if not hasattr(state, "replay"):
        raise ValueError(f"{algo.name} has no replay buffer; leave --replay out")
    written = steps_after(algo, int(state.step))
    return rlzoo.data.from_replay(algo.env, state.replay, written, algo.config.num_envs, about)


def _eject(argv: list[str]) -> int:
    from rlzoo.eject import eject

    parser = Parser(prog="rlzoo eject", description="Write an algorithm as one script without rlzoo.")
    parser.add_argument("algorithm")
    parser.add_argument("--env", required=True, help="such as gymnax/CartPole-v1 or brax/halfcheetah")
    parser.add_argument("--steps", type=int, default=1_000_000, help="the script's default (default: %(default)s)")
    parser.add_argument("--data", help="offline: the dataset's path, or id of Minari; cpl, p_iql: preferences")
    parser.add_argument("--data-rule", help="of a .hdf5 of D4RL: true, or qlearning (default: true)")
    parser.add_argument(
        "--preset",
        help="hyperparameter set, as `rlzoo list` names them (default: that of the environment's family)",
    )
    parser.add_argument("--backend", help="brax physics: generalized, positional, spring or mjx")
    parser.add_argument("--output", type=Path, help="the script (default: ALGORITHM.py)")
    options = parser.parse_args(argv)

    if ":" in options.env:
        raise ValueError(
            f"--env {options.env} is your own, of which rlzoo has no source; eject with a suite's, and put yours into "
            "the script"
        )
    options.algorithm, options.env = same(options.algorithm, ALGORITHMS), named.written(options.env)
    if options.algorithm in ALGORITHMS and options.preset:
        options.preset = same(options.preset, ALGORITHMS[options.algorithm].presets)
    options.backend = options.backend and same(options.backend, BACKENDS)
    script = options.output or Path(f"{options.algorithm}.py")
    if script.exists():
        raise ValueError(f"{script} is there already; move it away, or choose another --output")
    asked = options.algorithm, options.env, options.steps, options.data, options.preset, options.backend
    text = eject(*asked, script=script.name, data_rule=options.data_rule)
    script.parent.mkdir(parents=True, exist_ok=True)
    write_text(script, text)
    print(script)
    return 0


def _list(argv: list[str]) -> int:
    import rlzoo
    from rlzoo.envs import brax, gymnax, jumanji

    parser = Parser(prog="rlzoo list", description="List algorithms and environments.")
    parser.parse_args(argv)
    for name, module in rlzoo.ALGORITHMS.items():
        print(f"{name}: {(inspect.getdoc(module) or '').splitlines()[0]}")
        print(f"  presets  {', '.join(module.presets)}")
        if named.is_offline(module):
            print(f"  --steps  {named.BUDGETS[name]}")
        for title, cls in (
            ("Config: static, a new value compiles a new program", module.Config),
            ("Hyper: traced, any field may be swept", module.Hyper),
        ):
            print(f"  {title}")
            defaults, said = cls()._asdict() if hasattr(cls, "_asdict") else vars(cls()), named.said(cls)
            for field, value in defaults.items():
                print(f"    {field:20} {value!s:12} {said.get(field, '')}")
    for suite in rlzoo.envs.SUITES:
        try:
            listed = ", ".join(rlzoo.envs.names(suite))
        except ValueError as error:  # an extra that is not installed
            listed = str(error)
        print(f"{suite}/\n  {listed}")
    for suite, module in (("gymnax", gymnax), ("jumanji", jumanji)):
        for name, reason in module.UNSUPPORTED.items():
            print(f"not supported: {suite}/{name}: {reason}")
    for (name, backend), reason in brax.UNSUPPORTED.items():
        print(f"not supported: brax/{name} on {backend}: {reason}")
    return 0


def _refuse_file(directory: Path) -> None:
    for place in (directory, *directory.parents):
        if place.exists() and not place.is_dir():
            raise ValueError(f"--directory {directory}: {place} is a file; choose another directory")


def _settings(about: dict[str, Any]) -> Iterator[dict[str, float]]:
    """The hyperparameters that vary, of each setting, in the order of `rlzoo.grid`."""
    several = {name: values for name, values in about["hyper"].items() if len(values) > 1}
    for values in itertools.product(*several.values()):
        yield dict(zip(several, values, strict=True))


def _labels(about: dict[str, Any]) -> list[str]:
    """A label per setting, naming the hyperparameters that vary."""
    said = {name: dict(zip(values, numbers(values), strict=True)) for name, values in about["hyper"].items()}
    labels = [", ".join(f"{name}={said[name][x]}" for name, x in one.items()) for one in _settings(about)]
    return [label or about["algorithm"] for label in labels]


def _draw(directory: Path, about: dict[str, Any]) -> None:
    """Curves, a sensitivity picture per swept hyperparameter, and the table of final returns, or offline scores."""
    from rlzoo.report import sinks

    log = directory / "log.csv"
    if not log.exists():
        raise ValueError(f"{directory} holds no log.csv: it was run without the csv sink")
    score = "eval/score" in sinks.columns(log)
    what = "normalised score" if score else "return"
    try:
        steps, scores = sinks.series(log, "eval/score" if score else "eval/return")  # [K], [K, H, S]
    except ValueError as error:
        raise ValueError(
            f"{error}: it was stopped before its first evaluation, or run with --eval-episodes 0"
        ) from error
    labels = _labels(about)
    title = f"{about['algorithm']} on {named.short(about['env'])}"
    pictures = [directory / "curves.png"]
    axes = {"xlabel": named.unit(ALGORITHMS[about["algorithm"]]), "ylabel": what}
    report.curves(pictures[0], {label: (steps, scores[:, h]) for h, label in enumerate(labels)}, title=title, **axes)

    several = {name: values for name, values in about["hyper"].items() if len(values) > 1}
    final = scores[-1].reshape(*map(len, several.values()), -1)  # [*values, S]
    for axis, (name, values) in enumerate(several.items()):
        # Over one hyperparameter, the settings of the others count as more seeds.
        pooled = np.moveaxis(final, axis, 0).reshape(len(values), -1)
        pictures.append(directory / f"sensitivity_{name}.png")
        report.sensitivity(pictures[-1], name, np.asarray(values), pooled, title=title, ylabel=f"final {what}")
    report.table(f"{title}: {what} at {int(steps[-1]):,} steps", dict(zip(labels, scores[-1], strict=True)))
    print("\n".join(f"picture {picture}" for picture in pictures))
