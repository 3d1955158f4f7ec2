"""Sweep files: what they may say, what is made of them, and that a sweep that was stopped goes on where it was."""

import dataclasses
import json
import math
import os
import signal
from multiprocessing import pool

import jax
import numpy as np
import pytest
from conftest import TINY
from helpers import assert_same_bits, plane, plane_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

import rlzoo
from rlzoo import Range, lock, study
from rlzoo.blocks import optim
from rlzoo.drivers import settings as reading
from rlzoo.drivers import study as training
from rlzoo.drivers.plan import Fit

TEXT = """
algorithm: ppo
env: gymnax/CartPole-v1
steps: 256
seeds: 2
hyper:
  learning_rate: {low: 1e-4, high: 1e-2, scale: log}
  gamma: [0.9, 0.99]
  entropy_coef: 1e-3
config:
  num_envs: 4
  num_steps: [16, 32]
  num_epochs: 1
  num_minibatches: 2
  hidden: [16]
params:
  gravity: [9.8, 15]
sampler: sobol
samples: 3
eval_episodes: 2
report_every: 2
"""
LEAST = {"algorithm": "ppo", "env": "gymnax/CartPole-v1"}
SMALL = {
    **LEAST,
    "steps": 256,
    "eval_episodes": 2,
    "report_every": 2,
    "config": {"num_envs": 4, "num_steps": 16, "num_epochs": 2, "num_minibatches": 2, "hidden": [16]},
}


@pytest.fixture
def file(tmp_path):
    def write(text, name="sweep.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_file_is_read_as_it_is_meant(file):
    found = study.read(file(TEXT))
    assert found.hyper["learning_rate"] == Range(1e-4, 1e-2, "log")  # which YAML takes for text
    assert found.hyper["entropy_coef"] == (1e-3,) and found.hyper["gamma"] == (0.9, 0.99)
    assert reading.configs(found) == [{"num_steps": 16}, {"num_steps": 32}]
    columns = reading.settings(found)
    assert sorted(columns) == ["hyper/gamma", "hyper/learning_rate", "params/gravity"]
    assert all(len(x) == 3 for x in columns.values())
    assert set(columns["params/gravity"]) <= {9.8, 15.0}


def test_a_grid_is_every_combination_and_without_values_one_setting():
    grid = study.Study(**LEAST, hyper={"gamma": [0.9, 0.99], "clip_eps": 0.1}, params={"gravity": [1, 2, 3]})
    columns = reading.settings(grid)
    assert list(zip(*columns.values(), strict=True)) == [(g, p) for g in (0.9, 0.99) for p in (1, 2, 3)]
    assert reading.settings(study.Study(**LEAST)) == {} and reading.configs(study.Study(**LEAST)) == [{}]


def test_tuples_of_structure_are_one_value_or_several():
    def widths(given):
        return reading.configs(study.Study(**LEAST, config={"hidden": given}))

    assert widths([64, 64]) == [{}]
    assert widths([[64], [64, 64]]) == [{"hidden": [64]}, {"hidden": [64, 64]}]


def test_a_file_in_python_has_environments_of_its_own(file):
    path = file(
        """
import rlzoo
from rlzoo import Range
study = {"algorithm": "ppo", "env": rlzoo.envs.make("gymnax/Acrobot-v1"), "sampler": "random", "samples": 2,
         "hyper": {"gamma": Range(0.9, 0.99)}}
""",
        "mine.py",
    )
    found = study.read(path)
    assert found.env.name == "gymnax/Acrobot-v1" and found.hyper["gamma"] == Range(0.9, 0.99)
    with pytest.raises(ValueError, match="leaves no dictionary named study"):
        study.read(file("studdy = {}", "other.py"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("algorithm: ppo", "sweep.yaml: env missing; the least is algorithm: ppo, env: gymnax/CartPole-v1"),
        ("", "holds no fields"),
        ("- a", "holds no fields"),
        ("algorithm: pppo\nenv: x", "unknown algorithm 'pppo'; did you mean 'ppo'"),
        ("algorithm: ppo\nenv: 3", "env is 3; it must be a name or path"),
        ("algorithm: ppo\nenv: x\nhypr: {gamma: 1}", "unknown field 'hypr'; did you mean 'hyper'"),
        ("algorithm: ppo\nenv: x\nhyper: {num_envs: [4, 8]}", "hyper.num_envs is structure and cannot be traced"),
        ("algorithm: ppo\nenv: x\nconfig: {gamma: 0.9}", "config.gamma is a traced number: put it under hyper"),
        ("algorithm: ppo\nenv: x\nhyper: {gama: 0.9}", "unknown field of hyper 'gama'; did you mean 'gamma'"),
        ("algorithm: ppo\nenv: x\nhyper: [1]", r"hyper is \[1\]; it must be fields with their values"),
        ("algorithm: ppo\nenv: x\nhyper: {gamma: high}", "hyper.gamma is 'high'; it must be between 0 and 1"),
        ("algorithm: ppo\nenv: x\nhyper: {gamma: true}", "hyper.gamma is True; it must be between 0 and 1"),
        ("algorithm: ppo\nenv: x\nhyper: {gamma: .nan}", "hyper.gamma is nan; it must be between 0 and 1"),
        ("algorithm: ppo\nenv: x\nhyper: {gamma: [0.9, 0.9]}", "hyper.gamma has the same number twice"),
        ("algorithm: ppo\nenv: x\nhyper: {gamma: []}", "hyper.gamma has no number"),
        ("algorithm: ppo\nenv: x\nhyper: {gamma: {low: 1}}", "a range needs low and high"),
        ("algorithm: ppo\nenv: x\nhyper: {gamma: {low: 0, hi: 1}}", "unknown field of hyper.gamma, a range 'hi'"),
        (
            "algorithm: ppo\nenv: x\nhyper: {gamma: {low: 0, high: 1}}",
            "hyper.gamma is a range, but the sampler is grid",
        ),
        ("algorithm: ppo\nenv: x\nsamples: 3", "samples is 3, but the sampler is grid"),
        ("algorithm: ppo\nenv: x\nsampler: sobol", "say how many settings to draw"),
        ("algorithm: ppo\nenv: x\nsampler: halton", "unknown sampler 'halton'; allowed are grid, random, sobol"),
        ("algorithm: ppo\nenv: x\nconfig: {num_envs: {low: 1, high: 2}}", "structure takes a value, or a list"),
        ("algorithm: ppo\nenv: x\nsteps: 1.5", "steps is 1.5; it must be a whole number, 1 or more"),
        ("algorithm: ppo\nenv: x\nseed:", "seed is None; it must be a finite number"),
        ("algorithm: ppo\nenv: x\nseeds: 0", "seeds is 0; it must be a whole number, 1 or more"),
        ("algorithm: ppo\nenv: x\nspread: maybe", "spread is 'maybe'; it must be true or false"),
        ("algorithm: ppo\nenv: x\nhalving: {}\npbt: {every: 5}", "two ways to compete"),
        ("algorithm: ppo\nenv: x\npbt: {every: 5}", "and ranges under hyper to move numbers in"),
        ("algorithm: ppo\nenv: x\nhalving: {et: 3}", "unknown field of halving 'et'"),
        ("algorithm: ppo\nenv: x\nhalving: {}\nparams: {gravity: [1, 2]}", "different params do not compare"),
        ("algorithm: ppo\nenv: x\ndata: d.npz", "ppo learns online; leave data out"),
        ("algorithm: bc\nenv: x", "bc learns from a dataset; give data"),
        ("algorithm: ppo\nalgorithm: sac\nenv: x", "algorithm is there twice"),
        ("algorithm: &a ppo\nenv: *a", "aliases are not allowed"),
        ("algorithm: !!python/object/apply:os.system ['false']\nenv: x", "could not determine a constructor"),
        ("algorithm: ppo\nenv: !!bool x", "is not readable: KeyError"),
        ("algorithm: ppo\nenv: !!timestamp x", "is not readable: AttributeError"),
        ("algorithm: ppo\nsteps: !!int ''", "is not readable: "),
        ("algorithm: ppo\nhyper: !!map [a]", "is not readable: ConstructorError"),
        ("{" + ", ".join(f"k{i}" for i in range(100_000)) + "}", "field 'k0'"),
        (
            "algorithm: ppo\nenv: x\nseed: 5_000_000_000",
            "seed=5000000000; it must be a whole number from 0 to 4294967295",
        ),
        ("algorithm: ppo\nenv: x\nsinks: [cvs]", "unknown sink 'cvs'; did you mean 'csv'"),
        ("algorithm: [", "is not readable"),
        ("[" * 100_000, "is not readable"),
        ("a: " + "x" * 2**21, "more than 1048576 bytes"),
    ],
    ids=[str(i) for i in range(45)],
)
def test_mistakes_are_named(file, text, message):
    with pytest.raises(ValueError, match=message):
        study.read(file(text))


def test_a_pair_is_no_range():
    hyper = rlzoo.ppo.Hyper()
    with pytest.raises(
        ValueError, match=r"may be a range or two choices; say rlzoo.Range\(0.1, 0.9\), or the list \[0.1"
    ):
        rlzoo.sample(hyper, 4, gamma=(0.1, 0.9))
    assert set(rlzoo.sample(hyper, 4, gamma=[0.25, 0.5]).gamma.tolist()) <= {0.25, 0.5}


def test_no_file_and_other_files(tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        study.read(tmp_path / "none.yaml")
    with pytest.raises(ValueError, match="is no sweep file; it must be YAML"):
        study.read(tmp_path / "sweep.toml")


@settings(max_examples=200, deadline=None)
@given(draw=st.data())
def test_damaged_files_are_refused_or_read(tmp_path_factory, draw):
    """Bytes changed, lines taken out, lines of another kind put in: a study, or a `ValueError`; never anything else."""
    content = bytearray(TEXT.encode())
    for _ in range(draw.draw(st.integers(0, 4))):
        content[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    lines = bytes(content).splitlines()
    for _ in range(draw.draw(st.integers(0, 3))):
        lines.insert(draw.draw(st.integers(0, len(lines))), draw.draw(st.binary(max_size=20)).replace(b"\n", b""))
    keep = draw.draw(st.lists(st.booleans(), min_size=len(lines), max_size=len(lines)))
    path = tmp_path_factory.getbasetemp() / "damaged.yaml"
    path.write_bytes(
        b"\n".join(line for line, kept in zip(lines, keep, strict=True) if kept or draw.draw(st.booleans()))
    )
    try:
        found = study.read(path)
    except ValueError as error:
        assert "damaged.yaml" in str(error)
    else:
        assert isinstance(found, study.Study)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates(),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=5), x, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(draw=st.data())
def test_any_value_in_any_field_is_taken_or_refused(draw):
    name = draw.draw(st.sampled_from(list(study.Study.__dataclass_fields__)))
    inner = draw.draw(st.sampled_from(["gamma", "num_envs", "hidden", "eta", "every", "low"]))
    value = draw.draw(VALUES | VALUES.map(lambda x: {inner: x}))
    try:
        found = study.Study(**(LEAST | {name: value}))
        reading.configs(found), reading.settings(found)
    except ValueError:
        pass


# --- training --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gammas():
    return study.Study(**SMALL, seeds=2, hyper={"gamma": [0.9, 0.99], "learning_rate": [3e-3]})


@pytest.fixture(scope="module")
def trained(gammas, tmp_path_factory):
    directory = tmp_path_factory.mktemp("gammas")
    return directory, study.run(gammas, directory, quiet=True)


def test_results_are_those_of_the_sweep_by_hand(gammas, trained, cartpole):
    directory, rows = trained
    algo = rlzoo.ppo.make(cartpole, TINY, rlzoo.ppo.presets["classic"].hyper._replace(learning_rate=3e-3))
    runs = rlzoo.sweep(algo, rlzoo.grid(algo.hyper, gamma=[0.9, 0.99]))
    done = rlzoo.run(runs, jax.random.split(jax.random.key(0), 2), 4, report_every=2, eval_episodes=2, quiet=True)
    np.testing.assert_allclose([row["return"] for row in rows], done.returns[-1].mean(-1).ravel())
    assert [(row["setting"], row["seed"], row["hyper/gamma"]) for row in rows] == [
        (0, 0, 0.9),
        (0, 1, 0.9),
        (1, 0, 0.99),
        (1, 1, 0.99),
    ]
    assert training.read_csv(directory / "results.csv") == rows and {row["env_steps"] for row in rows} == {256}
    assert_same_bits(rlzoo.load(directory / "part_0" / "checkpoints", runs), done.state)


def test_a_sweep_that_is_resumed_before_it_began_begins(gammas, trained, tmp_path):
    """And one in use is refused, by name."""
    with lock.held(tmp_path / "sweep"):
        refused = pool.ThreadPool(1).apply_async(study.run, (gammas, tmp_path / "sweep"))
        with pytest.raises(ValueError, match=f"sweep is in use by process {os.getpid()} on "):
            refused.get()
    assert study.run(gammas, tmp_path / "sweep", resume=True, quiet=True) == trained[1]
    assert not (tmp_path / "sweep" / lock.FILE).exists()


def test_a_sweep_goes_on_part_by_part(trained, tmp_path, monkeypatch):
    """Stopped in the second of two structures: the first is not trained again, and the results are the same."""
    given = study.Study(**{**SMALL, "config": SMALL["config"] | {"num_epochs": [2, 1]}}, hyper={"gamma": [0.9, 0.99]})
    whole = study.run(given, tmp_path / "whole", quiet=True)
    assert len(whole) == 4 and [row["config/num_epochs"] for row in whole] == [2, 2, 1, 1]
    calls, resume = [], rlzoo.drivers.run.training.resume

    def failing(runs, *arguments):
        calls.append(runs.config.num_epochs)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return resume(runs, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(rlzoo.drivers.run.training, "resume", failing)
        study.run(given, tmp_path / "stopped", quiet=True)
    assert calls == [2, 2, 1, 1] and (tmp_path / "stopped" / "part_0" / "results.csv").exists()
    monkeypatch.setattr(rlzoo.drivers.run.training, "resume", failing)
    assert study.run(given, tmp_path / "stopped", resume=True, quiet=True) == whole
    assert calls[4:] == [1]  # the second half of the second part
    assert study.run(given, tmp_path / "stopped", resume=True, quiet=True) == whole and len(calls) == 5


def test_a_sweep_stopped_by_a_signal_goes_on(gammas, trained, tmp_path, monkeypatch):
    evaluate = rlzoo.drivers.run.evaluate

    def interrupting(*arguments, **options):
        signal.raise_signal(signal.SIGTERM)
        return evaluate(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(rlzoo.drivers.run, "evaluate", interrupting)
        assert study.run(gammas, tmp_path, quiet=True) is None
    assert study.run(gammas, tmp_path, resume=True, quiet=True) == trained[1]


def test_groups_of_a_structure_share_its_program(gammas, monkeypatch):
    """Groups are of about one size, and made from one algorithm."""
    given = dataclasses.replace(gammas, hyper={"gamma": [0.9, 0.92, 0.94, 0.96, 0.98]})
    made = training._Made(given)
    monkeypatch.setattr(training, "device_memory", lambda: 1)
    monkeypatch.setattr(training, "fitted", lambda *arguments: Fit(3, 2, None))
    parts = made.parts()
    assert [tuple(part) for part in parts] == [(0, 0, 2, 2), (0, 2, 5, 2)]
    assert made.runs(parts[0]).base.step is made.runs(parts[1]).base.step


def test_structure_of_all_kinds_is_a_cell_and_known_again():
    given = study.Study(**LEAST, config={"hidden": [(64,), (64, 64)], "optim": lambda *given: optim.adam(1e-3, 1.0)})
    made = training._Made(given)
    rows = [made._numbers(training.Part(i, 0, 1, None), {}) for i in (0, 1)]
    assert rows == [{"config/hidden": "[64]"}, {"config/hidden": "[64, 64]"}]
    assert json.dumps(made.about()) == json.dumps(training._Made(given).about()) and " at 0x" not in str(made.about())


def test_what_is_resumed_is_what_was_begun(gammas, trained, tmp_path):
    directory, _ = trained
    with pytest.raises(ValueError, match="holds a sweep already; resume it"):
        study.run(gammas, directory)
    other = study.Study(**SMALL, seeds=3, hyper=gammas.hyper)
    with pytest.raises(ValueError, match="seeds is 3, but the sweep in .* has 2; resume with the same"):
        study.run(other, directory, resume=True)
    assert (
        study.run(dataclasses.replace(gammas, in_lanes=1, sinks=()), directory, resume=True, quiet=True) == trained[1]
    )
    log = tmp_path / "sweep.json"
    about = json.loads((directory / "sweep.json").read_text())
    damages = [{"parts": x} for x in ([[1]], [[0, 0, 9, None]], [["a", 0, 1, None]], [])]
    damages.append({"study": 1})
    whole = [(json.dumps(about | damage), "is damaged") for damage in damages]
    for damaged, message in (("{", "not readable"), ("[]", "holds a list"), *whole):
        log.write_text(damaged)
        with pytest.raises(ValueError, match=message):
            study.run(gammas, tmp_path, resume=True)
    (tmp_path / "part_0").mkdir()
    log.write_text(json.dumps(about))
    whole = (directory / "part_0" / "results.csv").read_bytes()
    lines = whole.splitlines(keepends=True)
    cut = [whole[:-4], whole[:-2], b"".join(lines[:-1]), b"".join([lines[0], *lines[2:]]), whole.replace(b"256", b"x")]
    for damaged in (b"", b"a,b\n1\n", b"a,b\n1,2,3\n", b"\xff" + whole, b"\0\n" * 9, *cut):
        (tmp_path / "part_0" / "results.csv").write_bytes(damaged)
        with pytest.raises(ValueError, match="results.csv is damaged"):
            study.run(gammas, tmp_path, resume=True)


def test_what_does_not_fit_is_trained_in_groups(gammas, trained, tmp_path, monkeypatch):
    """A little memory, and room for one setting, of it one agent at a time: the numbers are the same."""
    monkeypatch.setattr(training, "device_memory", lambda: 1)
    monkeypatch.setattr(training, "fitted", lambda *arguments: Fit(1, 1, None))
    rows = study.run(gammas, tmp_path, quiet=True)
    assert [row["part"] for row in rows] == ["part_0"] * 2 + ["part_1"] * 2
    assert [row["setting"] for row in rows] == [0, 0, 1, 1]
    np.testing.assert_allclose([row["return"] for row in rows], [row["return"] for row in trained[1]])
    assert study.run(gammas, tmp_path, resume=True, quiet=True) == rows


def test_what_competes_fits_or_is_refused(tmp_path, monkeypatch):
    given = study.Study(**SMALL, halving={}, hyper={"gamma": [0.9, 0.99]})
    monkeypatch.setattr(training, "device_memory", lambda: 1)
    plan = rlzoo.plan(training._Made(given).runs(training.Part(0, 0, 2, None)), 1, 4, probe=False)
    fit = Fit(1, 1, plan)
    monkeypatch.setattr(training, "fitted", lambda *arguments: fit)
    with pytest.raises(ValueError, match=r"2 settings x 1 seeds compete, and so are trained together; they do not fit"):
        study.run(given, tmp_path)
    fit = Fit(2, None, dataclasses.replace(plan, limit=int(plan.total * 1.2)))  # once, but not twice
    with pytest.raises(ValueError, match="they do not fit"):
        study.run(given, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "how", [{"halving": {"eta": 2}}, {"pbt": {"every": 128, "share": 0.5}}], ids=["halving", "population"]
)
def test_competitions_from_a_file(how, tmp_path):
    rate = {"low": 1e-3, "high": 1e-2, "scale": "log"}
    given = study.Study(**SMALL, **how, hyper={"learning_rate": rate}, sampler="sobol", samples=2)
    rows = study.run(given, tmp_path, quiet=True)
    assert [row["setting"] for row in rows] == [0, 1] and max(row["rungs"] for row in rows) == 2
    assert {row["env_steps"] for row in rows} == ({128, 256} if "halving" in how else {256})
    assert study.run(given, tmp_path, resume=True, quiet=True) == rows


def test_competitions_that_cannot_be(tmp_path):
    given = study.Study(
        **SMALL,
        pbt={"every": 100},
        hyper={"gamma": Range(0.9, 0.99)},
        sampler="sobol",
        samples=2,
    )
    for fields, message in (
        ({}, "pbt.every=100 is not in whole updates of 64 steps; use 64"),
        ({"pbt": {"every": 64, "share": 0.9}}, "share must be above 0 and at most 0.5"),
        ({"pbt": None, "halving": {"eta": 1}}, "eta must be 2 or more"),
        ({"pbt": None, "halving": {}, "samples": 8}, "num_updates=4: 8 settings with eta=2 need 8 or more"),
        ({"pbt": None, "halving": {}, "samples": 1}, "a competition is of a sweep of two settings or more"),
    ):
        with pytest.raises(ValueError, match=message):
            study.run(dataclasses.replace(given, **fields), tmp_path, quiet=True)
        assert not list(tmp_path.iterdir())


def test_a_sweep_over_environment_parameters_and_one_of_data(tmp_path):
    given = study.Study(**SMALL, params={"gravity": [9.8, 20.0], "length": 0.7})
    runs = training._Made(given).runs(training.Part(0, 0, 2, None))
    np.testing.assert_allclose(runs.task.gravity, [9.8, 20.0])
    np.testing.assert_allclose(runs.task.length, [0.7, 0.7])
    offline = study.Study("bc", plane(), data=plane_dataset(), steps=5, eval_episodes=2, config={"hidden": [8]})
    assert len(study.run(offline, tmp_path, quiet=True)) == 1
    with pytest.raises(ValueError, match="bc learns from a dataset, not from params"):
        training._Made(study.Study("bc", plane(), data=plane_dataset(), params={"bonus": 1.0}))


def test_wrong_values_of_structure_are_named(tmp_path):
    for config, message in (
        ({"num_envs": "many"}, "config.num_envs is 'many'; it must be a finite number"),
        ({"normalise_obs": 1}, "config.normalise_obs is 1; it must be true or false"),
        ({"num_minibatches": 7}, "num_minibatches=7 does not divide"),
    ):
        with pytest.raises(ValueError, match=message):
            study.run(study.Study(**(SMALL | {"config": SMALL["config"] | config})), tmp_path)
    with pytest.raises(ValueError, match="env_steps=100 is not a whole number of updates of 64 steps"):
        study.run(study.Study(**(SMALL | {"steps": 100})), tmp_path)
    assert not list(tmp_path.iterdir())


# --- numbers that are not finite, single parameters, sizes ------------------------------------------------------------


def test_infinite_numbers_are_swept_written_and_known_again(file, tmp_path):
    """Once as YAML has them, once as the command line does; with an empty number where `make` fills one in."""
    path = file(
        "algorithm: ppo\nenv: probe/constant-reward\nsteps: 16\neval_episodes: 1\n"
        "config: {num_envs: 2, num_steps: 8, num_epochs: 1, num_minibatches: 1, hidden: [4]}\n"
        "hyper: {anneal_steps: [.inf, 1e6], target_kl: inf}\n"
    )
    asked = study.read(path)
    assert asked.hyper == {"anneal_steps": (math.inf, 1e6), "target_kl": (math.inf,)}
    rows = study.run(asked, tmp_path / "out", quiet=True)
    assert [row["hyper/anneal_steps"] for row in rows] == [math.inf, 1e6]
    assert study.run(study.read(path), tmp_path / "out", resume=True, quiet=True) == rows
    made = training._Made(
        study.Study("sac", "gymnax/Pendulum-v1", hyper={"target_entropy": [math.nan, -2.0], "tau": [0.1]})
    )
    assert made.runs(made.whole(0)).hyper.target_entropy.tolist() == [-1.0, -2.0]
    assert made._numbers(made.whole(0), {"hyper/target_entropy": math.nan}) == {"hyper/target_entropy": -1.0}
    assert json.loads(json.dumps(made.about())) is not None


def test_settings_compete_under_one_value_of_a_parameter(tmp_path):
    given = study.Study(**LEAST | SMALL, params={"gravity": 12.0}, hyper={"gamma": [0.9, 0.99]}, halving={"eta": 2})
    made = training._Made(given)
    runs = made.runs(made.whole(0))
    assert runs.task.gravity.shape == () and float(runs.task.gravity) == 12.0
    assert made.ends(made.whole(0))
    assert len(training._Made(dataclasses.replace(given, halving=None)).runs(made.whole(0)).task.gravity) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sampler: random\nsamples: 2000000000\nhyper: {gamma: {low: 0.1, high: 0.2}}", "2,000,000,000 agents, of sam"),
        ("seeds: 1000000000000", "1,000,000,000,000 agents, of seeds=1000000000000, take .*; use [0-9,]+ or fewer"),
        (f"hyper: {{gamma: {[i / 2000 for i in range(1000)]}, gae_lambda: {[i / 2000 for i in range(1000)]}, "
         f"clip_eps: {[1 + i for i in range(1000)]}}}\nseeds: 1000", "1,000,000,000,000 agents, of hyper.gamma x "),
        ("eval_episodes: 10000000000", "num_episodes=10000000000; it must be a whole number from 0 to 2,147,483,647"),
        ("eval_episodes: 2000000000\nseeds: 1000", "2,000,000,000 episodes in an evaluation of 1,000 agents take"),
    ],
)  # fmt: skip
def test_sizes_are_counted_before_anything_is_made(file, text, message):
    with pytest.raises(ValueError, match=message):
        training._Made(study.read(file(f"algorithm: ppo\nenv: gymnax/CartPole-v1\n{text}\n")))


@pytest.mark.parametrize("given", ["os.system", "[a, b]", "3"])
def test_yaml_names_no_network(file, given):
    with pytest.raises(ValueError, match=r"config.network is .*; YAML cannot name a network or a function, use a .py"):
        study.read(file(f"algorithm: ppo\nenv: gymnax/CartPole-v1\nconfig: {{network: {given}}}\n"))
    assert study.read(file("algorithm: ppo\nenv: x\nconfig: {network: null}\n")).config == {"network": None}
