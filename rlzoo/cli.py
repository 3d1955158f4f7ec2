"""The command line: ``rlzoo train | sweep | eval | plot | render | collect | eject | list``."""

import argparse
import dataclasses
import inspect
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import numpy as np

from rlzoo.drivers import named
from rlzoo.files import read_json, refuse_other, write_json, write_text

USAGE = """rlzoo: reinforcement learning in JAX, compiled whole

  rlzoo train ALGORITHM --env ENV …   train one agent, or a sweep over hyperparameters times seeds
  rlzoo sweep FILE                    train the settings of a file: grids, samples, halving, populations
  rlzoo eval DIRECTORY                evaluate what a run left
  rlzoo plot DIRECTORY                draw its curves and sensitivities, print its table
  rlzoo render DIRECTORY              film an episode of a run's agent
  rlzoo collect SOURCE … --output FILE  record a dataset: of runs' policies, of a replay, or of random actions
  rlzoo eject ALGORITHM --env ENV …   write the algorithm as one script that needs no rlzoo
  rlzoo list                          algorithms with their fields, and environments

`rlzoo COMMAND --help` shows the options. For example:

  rlzoo train ppo --env gymnax/CartPole-v1 --steps 100000 --hyper.learning-rate 1e-4 1e-3 --seeds 8
  rlzoo train prdc --env brax/hopper --data hopper-medium.npz --steps 100000
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Exit code 0; 2 for what the user must correct, 1 for what the machine refuses, each said in one line."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        sys.exit(_dispatch(argv))
    except ValueError as error:
        print(f"rlzoo: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # a full disk, a directory that may not be written, a coordinator that is not there
        print(f"rlzoo: {error}", file=sys.stderr)
        sys.exit(1)


def _dispatch(argv: list[str]) -> int:
    from rlzoo.names import unknown

    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
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
    if argv[0] not in commands:
        raise unknown("command", argv[0], commands)
    return commands[argv[0]](argv[1:])


# --- train ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    env: str
    """such as gymnax/CartPole-v1 or brax/halfcheetah"""
    steps: int = 1_000_000
    """environment steps per agent; offline, gradient steps"""
    data: Path | None = None
    """offline: the dataset, a .npz of rlzoo, a .hdf5 of D4RL, or a Minari dataset's folder; cpl, p_iql: preferences"""
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


def _train(argv: list[str]) -> int:
    import jax
    import tyro

    import rlzoo
    from rlzoo.drivers import checkpoint
    from rlzoo.drivers.evaluate import refuse
    from rlzoo.machine import LANE, refuse_more
    from rlzoo.names import check_seed, unknown

    if not argv or argv[0].startswith("-"):
        print(f"usage: rlzoo train {{{','.join(rlzoo.ALGORITHMS)}}} --env ENV …")
        return 0 if argv and argv[0] in ("-h", "--help") else 2
    if argv[0] not in rlzoo.ALGORITHMS:
        raise unknown("algorithm", argv[0], rlzoo.ALGORITHMS)
    module = rlzoo.ALGORITHMS[argv[0]]

    # The preset gives the defaults of the other options, so it is read first.
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--preset")
    early.add_argument("--env", default="")
    early.add_argument("--data", default="")
    known, _ = early.parse_known_args(argv[1:])
    preset = module.presets[known.preset or named.preset_for(known.env, module.presets, known.data)]

    options: Any = tyro.cli(
        _options(module, preset),
        args=argv[1:],
        prog=f"rlzoo train {argv[0]}",
        description=inspect.getdoc(module.make),
    )
    several = _connect(options)
    if options.seeds < 1:
        raise ValueError(f"--seeds {options.seeds}; it must be 1 or more")
    check_seed("--seed", options.seed)
    refuse_more("seeds", options.seeds, LANE)
    refuse(options.eval_episodes, options.seeds)
    named.check_data(argv[0], options.data, "--data")
    hyper = {field.name: getattr(options.hyper, field.name) for field in dataclasses.fields(options.hyper)}
    for name, values in hyper.items():
        if not values or len(set(map(str, values))) < len(values):
            what = "the same number twice" if values else "no number"
            raise ValueError(f"--hyper.{name.replace('_', '-')} got {what}; give one, or several to sweep")
    about = {
        "algorithm": argv[0],
        "env": options.env,
        "env_options": {"backend": options.backend} if options.backend else {},
        "data": str(options.data.resolve()) if options.data else None,
        "config": {name: value for name, value in vars(options.config).items()},
        "hyper": hyper,
        "seeds": options.seeds,
        "seed": options.seed,
        "steps": options.steps,
        "begin": str(options.begin.resolve()) if options.begin else None,
    }
    directory = options.directory or _fresh_directory(argv[0], options.env)
    about_file = directory / "run.json"
    _cache_programs()
    runs = build(about)
    num_updates = rlzoo.updates_for(runs, options.steps)
    runs = rlzoo.spread(runs) if options.spread or several else runs
    if options.plan:
        print(rlzoo.plan(runs, options.seeds, num_updates, eval_episodes=options.eval_episodes))
        return 0
    start = None if options.resume else _begun(module, runs, about)

    again = [*argv, *([] if options.directory else ["--directory", str(directory)])]
    command = shlex.join(["rlzoo", "train", *[word for word in again if word != "--resume"], "--resume"])
    leads = jax.process_index() == 0
    if leads:
        print(f"{_summary(module, about, runs, num_updates)}\ndirectory {directory}", flush=True)
    if options.resume:
        _refuse_other(about, directory)
    elif checkpoint.any_in(directory / "checkpoints"):
        raise ValueError(f"{directory} holds a run already; go on with --resume, or choose another directory")
    elif leads:
        directory.mkdir(parents=True, exist_ok=True)
        write_json(about_file, about)
    result = rlzoo.run(
        runs,
        _keys(about),
        num_updates,
        directory=directory,
        resume=options.resume,
        report_every=options.report_every,
        eval_episodes=options.eval_episodes,
        sinks=options.sinks,
        how_to_resume=command,
        start=start,
    )
    if result.interrupted:
        return 130
    if not leads:
        return 0
    if "csv" in options.sinks and options.eval_episodes:
        _draw(directory, about)
    print(f"checkpoints {directory / 'checkpoints'}")
    return 0


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
    before = _about(directory)
    for name in ("algorithm", "env", "data", "seeds"):
        if before[name] != about[name]:
            raise ValueError(
                f"{name} is {about[name]!r}, but the run in {directory} has {before[name]!r}; begin from one alike"
            )
    former = build(before)
    state = rlzoo.load(directory / "checkpoints", former)
    if former.num_hypers != runs.num_hypers:
        state = rlzoo.branch(state, runs.num_hypers)
    return module.begin(state, runs)


def _refuse_other(about: dict[str, Any], directory: Path) -> None:
    """A run is resumed as what it began as; only its length may change."""
    if not (directory / "run.json").exists():
        raise ValueError(f"there is no checkpoint in {directory} to resume from; run without --resume to start")
    begun = _about(directory)
    refuse_other({k: x for k, x in about.items() if k != "steps"}, begun, f"the run in {directory}")


def build(about: dict[str, Any]) -> Any:
    """The sweep that a ``run.json`` describes: every combination of the given hyperparameters, times seeds."""
    import rlzoo

    module = rlzoo.ALGORITHMS[about["algorithm"]]
    env = rlzoo.envs.make(about["env"], **about["env_options"])
    config = module.Config(**{name: tuple(x) if isinstance(x, list) else x for name, x in about["config"].items()})
    single = {name: values[0] for name, values in about["hyper"].items() if len(values) == 1}
    several = {name: values for name, values in about["hyper"].items() if len(values) > 1}
    dataset = named.load_data(module, about["data"]) if named.is_offline(module) else None
    algo = named.make(module, env, config, single, dataset)
    return rlzoo.sweep(algo, rlzoo.grid(algo.hyper, **several) if several else algo.hyper)


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


def _options(module: ModuleType, preset: Any) -> type:
    """`TrainOptions` with ``config`` and ``hyper`` of an algorithm, their defaults from the preset."""
    import tyro

    help_of = {**named.said(module.Config), **named.said(module.Hyper)}

    def option(name: str, kind: Any, default: Any) -> tuple[str, Any, Any]:
        return name, Annotated[kind, tyro.conf.arg(help=help_of.get(name, ""))], dataclasses.field(default=default)

    plain = named.plain_fields(module.Config)
    config = [option(name, kind, getattr(preset.config, name)) for name, kind in plain.items()]
    hyper = [option(name, tuple[float, ...], (value,)) for name, value in preset.hyper._asdict().items()]
    parts = {
        "config": dataclasses.make_dataclass("config", config, frozen=True),
        "hyper": dataclasses.make_dataclass("hyper", hyper, frozen=True),
    }
    fields = [(name, kind, dataclasses.field(default_factory=kind)) for name, kind in parts.items()]
    return dataclasses.make_dataclass("train", fields, bases=(TrainOptions,), frozen=True)


def _summary(module: ModuleType, about: dict[str, Any], runs: Any, num_updates: int) -> str:
    swept = {name: len(values) for name, values in about["hyper"].items() if len(values) > 1}
    settings = " × ".join(f"{count} {name}" for name, count in swept.items())
    lanes = " × ".join(filter(None, [settings, f"{about['seeds']} seeds"]))
    size = f"{about['steps']:,} steps each in {num_updates:,} updates"
    return f"{runs.name} on {runs.env.name}: {lanes}, {size}, one program"


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

    parser = argparse.ArgumentParser(
        prog="rlzoo sweep", description="Train the settings of a file; see docs/sweeps.md.", allow_abbrev=False
    )
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
    asked = dataclasses.replace(asked, spread=True) if several else asked
    directory = options.directory or Path("runs") / options.file.stem
    _cache_programs()
    if options.plan:
        print("\n".join(map(str, study.plan(asked))))
        return 0
    words = ["rlzoo", "sweep", str(options.file), "--directory", str(directory), "--resume"]
    results = study.run(asked, directory, options.resume, how_to_resume=shlex.join(words))
    if results is None:
        return 130
    if jax.process_index():
        return 0
    _draw_results(asked, directory, results)
    return 0


def _draw_results(asked: Any, directory: Path, results: list[dict[str, Any]]) -> None:
    """The table of the best settings, and a picture of all."""
    from rlzoo import report

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
    from rlzoo.drivers.train import steps_after

    parser = argparse.ArgumentParser(prog="rlzoo eval", description="Evaluate what a run left.", allow_abbrev=False)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--episodes", type=int, default=128, help="per agent (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the episodes")
    parser.add_argument("--stochastic", action="store_true", help="sample actions; default: the policy's mode")
    options = parser.parse_args(argv)

    about = _about(options.directory)
    _cache_programs()
    runs = build(about)
    state = rlzoo.load(options.directory / "checkpoints", runs)
    key = _episodes_key(options.seed)
    episodes = rlzoo.evaluate(runs, runs.env, state, key, options.episodes, deterministic=not options.stochastic)
    how = "sampled" if options.stochastic else "deterministic"
    title = f"{runs.name} on {runs.env.name} at {steps_after(runs, int(state.step)):,} steps, {how} return"
    by_setting = dict(zip(_labels(about), np.asarray(episodes.returns), strict=True))  # [S, E] each
    rlzoo.report.table(title, {label: returns.mean(-1) for label, returns in by_setting.items()})
    rlzoo.report.risks("over the episodes of all seeds", by_setting, levels=(0.05, 0.1, 0.25))
    return 0


def _plot(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="rlzoo plot", description="Draw a run's curves.", allow_abbrev=False)
    parser.add_argument("directory", type=Path)
    options = parser.parse_args(argv)
    _draw(options.directory, _about(options.directory))
    return 0


def _render(argv: list[str]) -> int:
    import rlzoo

    parser = argparse.ArgumentParser(prog="rlzoo render", description="Film an episode of a run.", allow_abbrev=False)
    parser.add_argument("directory", type=Path)
    parser.add_argument(
        "--output",
        type=Path,
        help=".gif, .mp4 (pip install imageio-ffmpeg), or brax's .html (default: episode.… in the directory)",
    )
    parser.add_argument("--lane", type=int, nargs=2, default=(0, 0), help="setting and seed of the agent")
    parser.add_argument("--seed", type=int, default=0, help="of the episode")
    parser.add_argument("--stochastic", action="store_true", help="sample actions; default: the policy's mode")
    options = parser.parse_args(argv)

    about = _about(options.directory)
    output = options.output or options.directory / f"episode.{'html' if about['env'].startswith('brax/') else 'gif'}"
    _cache_programs()
    algo, state = _agent(options.directory, about, options.lane)
    key = _episodes_key(options.seed)
    print(rlzoo.render(output, algo, algo.env, state, key, deterministic=not options.stochastic))
    return 0


def _agent(directory: Path, about: dict[str, Any], lane: Sequence[int]) -> tuple[Any, Any]:
    """One agent of a run: the algorithm under its setting, and its State."""
    import rlzoo

    runs = build(about)
    state = rlzoo.lane(rlzoo.load(directory / "checkpoints", runs), *lane)
    return rlzoo.setting(runs, lane[0]), state


def _collect(argv: list[str]) -> int:
    import jax

    import rlzoo

    parser = argparse.ArgumentParser(prog="rlzoo collect", description="Record a dataset.", allow_abbrev=False)
    parser.add_argument(
        "source", nargs="+", help="a run's directory, or an environment for random actions; several: one after another"
    )
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
        if options.replay:
            raise ValueError(f"{source} is no run's directory, and has no replay buffer; leave --replay out")
        env = rlzoo.envs.make(source, **({"backend": options.backend} if options.backend else {}))
        return rlzoo.data.collect(env, None, key, rows, options.num_envs, about=about)
    algo, state = _agent(Path(source), _about(Path(source)), options.lane)
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

    parser = argparse.ArgumentParser(
        prog="rlzoo eject", description="Write an algorithm as one script without rlzoo.", allow_abbrev=False
    )
    parser.add_argument("algorithm")
    parser.add_argument("--env", required=True, help="such as gymnax/CartPole-v1 or brax/halfcheetah")
    parser.add_argument("--steps", type=int, default=1_000_000, help="the script's default (default: %(default)s)")
    parser.add_argument("--data", help="offline: the dataset's path; cpl, p_iql: preferences")
    parser.add_argument("--preset", help="hyperparameter set; default: that of the environment's family")
    parser.add_argument("--backend", help="brax physics: generalized, positional, spring or mjx")
    parser.add_argument("--output", type=Path, help="the script (default: ALGORITHM.py)")
    options = parser.parse_args(argv)

    script = options.output or Path(f"{options.algorithm}.py")
    if script.exists():
        raise ValueError(f"{script} is there already; move it away, or choose another --output")
    asked = options.algorithm, options.env, options.steps, options.data, options.preset, options.backend
    write_text(script, eject(*asked, script=script.name))
    print(script)
    return 0


def _list(argv: list[str]) -> int:
    import rlzoo
    from rlzoo.envs import SUITES, brax, gymnax

    parser = argparse.ArgumentParser(prog="rlzoo list", description="List algorithms and environments.")
    parser.parse_args(argv)
    for name, module in rlzoo.ALGORITHMS.items():
        print(f"{name}: {(inspect.getdoc(module) or '').splitlines()[0]}")
        print(f"  presets  {', '.join(module.presets)}")
        for title, cls in (
            ("Config: static, a new value compiles a new program", module.Config),
            ("Hyper: traced, any field may be swept", module.Hyper),
        ):
            print(f"  {title}")
            defaults, said = cls()._asdict() if hasattr(cls, "_asdict") else vars(cls()), named.said(cls)
            for field, value in defaults.items():
                print(f"    {field:20} {value!s:12} {said.get(field, '')}")
    for suite, module in SUITES.items():
        print(f"{suite}/\n  {', '.join(module.names())}")
    for name, reason in gymnax.UNSUPPORTED.items():
        print(f"not supported: gymnax/{name}: {reason}")
    for (name, backend), reason in brax.UNSUPPORTED.items():
        print(f"not supported: brax/{name} on {backend}: {reason}")
    return 0


def _about(directory: Path) -> dict[str, Any]:
    path = directory / "run.json"
    if not path.exists():
        raise ValueError(f"{directory} holds no run: there is no {path.name} in it")
    return read_json(path)


def _labels(about: dict[str, Any]) -> list[str]:
    """A label per setting, naming the hyperparameters that vary, in the order of `rlzoo.grid`."""
    import itertools

    several = {name: values for name, values in about["hyper"].items() if len(values) > 1}
    if not several:
        return [about["algorithm"]]
    return [
        ", ".join(f"{name}={value:.6g}" for name, value in zip(several, values, strict=True))
        for values in itertools.product(*several.values())
    ]


def _draw(directory: Path, about: dict[str, Any]) -> None:
    """Curves, a sensitivity picture per swept hyperparameter, and the table of final returns."""
    from rlzoo import report
    from rlzoo.report import sinks

    log = directory / "log.csv"
    if not log.exists():
        raise ValueError(f"{directory} holds no log.csv: it was run without the csv sink")
    steps, scores = sinks.series(log, "eval/return")  # [K], [K, H, S]
    labels = _labels(about)
    title = f"{about['algorithm']} on {about['env']}"
    pictures = [directory / "curves.png"]
    report.curves(pictures[0], {label: (steps, scores[:, h]) for h, label in enumerate(labels)}, title=title)

    several = {name: values for name, values in about["hyper"].items() if len(values) > 1}
    final = scores[-1].reshape(*map(len, several.values()), -1)  # [*values, S]
    for axis, (name, values) in enumerate(several.items()):
        # Over one hyperparameter, the settings of the others count as more seeds.
        pooled = np.moveaxis(final, axis, 0).reshape(len(values), -1)
        pictures.append(directory / f"sensitivity_{name}.png")
        report.sensitivity(pictures[-1], name, np.asarray(values), pooled, title=title)
    report.table(f"{title}: return at {int(steps[-1]):,} steps", dict(zip(labels, scores[-1], strict=True)))
    print("\n".join(f"picture {picture}" for picture in pictures))
