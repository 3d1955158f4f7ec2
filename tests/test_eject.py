"""Ejected scripts: one file without rlzoo, and the library's numbers, bit for bit."""

import ast
import re
import runpy
import subprocess
import sys

import h5py
import jax
import numpy as np
import pytest
from helpers import assert_same_bits
from test_contract import CASES

import rlzoo
from rlzoo import data
from rlzoo import eject as eject_module
from rlzoo.drivers import named
from rlzoo.eject import eject

FIRST = {case.module: case for case in reversed(CASES.values())}  # of each algorithm


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Pendulum under random actions, as files: transitions, and preferences by their rewards."""
    place = tmp_path_factory.mktemp("data")
    dataset = data.collect(rlzoo.envs.make("gymnax/Pendulum-v1"), None, jax.random.key(0), 400, 2)
    drawn = data.preferences.segments(dataset, 16, 4, jax.random.key(1))
    said = data.preferences.compare(drawn, data.preferences.reward_score(drawn), 24, jax.random.key(2))
    return {
        "dataset": data.save(place / "data.npz", dataset),
        "preferences": data.preferences.save(place / "preferences.npz", said),
    }


def options_of(module, recorded):
    """Of `eject`: the environment of the algorithm's first case, or Pendulum with its data."""
    if not named.is_offline(module):
        return {"env": FIRST[module].env, "data": None}
    preferences = named.loader(module, recorded["dataset"]) is data.preferences.load
    return {"env": "gymnax/Pendulum-v1", "data": recorded["preferences" if preferences else "dataset"]}


def written(name, module, recorded, place, **options):
    options = (options_of(module, recorded) if recorded else {"data": None}) | options
    steps = {"mixed_ne": 999_990, "pqn": 999_424}.get(name, 1_000_000)  # whole updates
    script = place / f"{name}_script.py"
    script.write_text(eject(name, steps=steps, script=script.name, **options))
    return script


@pytest.mark.parametrize("name", rlzoo.ALGORITHMS)
def test_scripts_need_no_rlzoo_and_are_clean(name, recorded, tmp_path):
    script = written(name, rlzoo.ALGORITHMS[name], recorded, tmp_path)
    tree = ast.parse(script.read_text())
    imported = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    imported += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [module for module in imported if module.startswith("rlzoo")]
    # Undefined names are asked for apart, for shapes such as Float[Array, "B D"] are taken for names.
    lint = [sys.executable, "-m", "ruff", "check", "--isolated", "--select=F,E7,E9", "--ignore=F722,F821,E731"]
    assert not subprocess.run([*lint, script], capture_output=True).returncode
    shapes = set("BDEGKMNPSTn")
    undefined = subprocess.run([*lint[:5], "--select=F821", "--output-format=concise", script], capture_output=True)
    names = {line.split("`")[1] for line in undefined.stdout.decode().splitlines() if "F821" in line}
    assert {x for x in names if x not in shapes} == set()
    text = re.sub(r'_load\(".*?"\)', '_load("data.npz")', script.read_text())  # the path here is long
    assert max(map(len, text.splitlines())) <= 140  # some grow with the names in them


@pytest.mark.parametrize("name", rlzoo.ALGORITHMS)
def test_a_script_gives_the_numbers_of_the_library(name, recorded, tmp_path):
    module = rlzoo.ALGORITHMS[name]
    case, options = FIRST[module], options_of(module, recorded)
    alone = runpy.run_path(str(written(name, module, recorded, tmp_path)))

    # What the script would train with is the preset.
    preset = module.presets[named.preset_for(options["env"], module.presets, str(options["data"] or ""))]
    assert vars(alone["CONFIG"]) == vars(preset.config)
    assert repr(alone["HYPER"]) == repr(preset.hyper)  # nan is nan

    dataset = named.load_data(module, options["data"]) if options["data"] else None
    algo = named.make(module, rlzoo.envs.make(options["env"]), case.config, case.hyper, dataset)
    build = alone["build"].__globals__
    build["CONFIG"], build["HYPER"] = build["Config"](**vars(case.config)), build["Hyper"](**case.hyper)
    same = alone["build"]()
    key, eval_key = jax.random.split(jax.random.key(3))
    state, mine = rlzoo.init(algo, key, quiet=True), alone["start"](same, key)
    assert_same_bits(tuple(state), tuple(mine))
    state, metrics = rlzoo.resume(algo, state, 3)
    mine, my_metrics = alone["training"](same)(mine, 3)
    assert_same_bits((tuple(state), metrics), (tuple(mine), my_metrics))
    returns = rlzoo.evaluate(algo, algo.env, state, eval_key, 4)
    assert_same_bits(tuple(returns), tuple(alone["evaluation"](same, 4)(mine, eval_key)))


@pytest.mark.parametrize(
    "env",
    [
        "brax/hopper",
        *(f"rlzoo/{name}" for name in rlzoo.envs.names("rlzoo")),
        "gymnax/Breakout-MinAtar",
        "probe/truncation-only",
    ],
)
def test_scripts_of_every_suite_are_whole(env, tmp_path):
    """Names that a suite's or a network's part needs are there: the script is built, not trained."""
    alone = runpy.run_path(str(written("ppo", rlzoo.ppo, None, tmp_path, env=env)))
    algo = alone["build"]()
    assert jax.eval_shape(algo.init, jax.random.key(0), alone["HYPER"], algo.task).key.shape == ()


def test_a_script_reads_d4rls_files(recorded, tmp_path):
    dataset, place = data.load(recorded["dataset"]), tmp_path / "pendulum.hdf5"
    with h5py.File(place, "w") as file:
        columns = {"observations": "obs", "actions": "action", "rewards": "reward", "terminals": "terminated"}
        for name, field in columns.items():
            file[name] = np.asarray(getattr(dataset, field))
        file["timeouts"] = np.asarray(dataset.last)
    same_rows(place, recorded, tmp_path)
    same_rows(place, recorded, tmp_path, "qlearning")


def test_a_script_reads_minaris_folders(recorded, tmp_path, monkeypatch):
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    data.minari.save("own/pendulum-v0", data.load(recorded["dataset"]), rlzoo.envs.make("gymnax/Pendulum-v1"))
    same_rows(tmp_path / "own" / "pendulum-v0", recorded, tmp_path)


def same_rows(place, recorded, tmp_path, rule=None):
    alone = runpy.run_path(str(written("bc", rlzoo.bc, recorded, tmp_path, data=place, data_rule=rule)))
    dataset = named.load_data(rlzoo.bc, place, rule)
    same = rlzoo.bc.make(rlzoo.envs.make("gymnax/Pendulum-v1"), rlzoo.bc.Config(), dataset)
    assert_same_bits(tuple(same.task.transitions), tuple(alone["build"]().task.transitions))


def test_a_script_runs_as_a_script(recorded, tmp_path):
    """It evaluates every so many updates, in equal chunks, of which the last may be shorter, and says how far it is."""
    script = written("ppo", rlzoo.ppo, recorded, tmp_path)
    command = [sys.executable, "-c", RUN, str(script), "--steps", "10000", "--evaluations", "2"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert not ran.returncode, ran.stderr
    lines = [line.split() for line in ran.stdout.splitlines()]
    assert [line[:3] for line in lines] == [
        [x, "steps", y] for x, y in (("4,000", "40%"), ("8,000", "80%"), ("10,000", "100%"))
    ]
    assert all(line[4:6] == ["s", "return"] for line in lines)
    assert "5 updates, evaluated every 2" in ran.stderr


# In a process that has no rlzoo.
RUN = """
import runpy, sys
sys.modules["rlzoo"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_what_does_not_fit_is_refused_before_anything_is_written(recorded):
    for asked, what in (
        (("pp", "gymnax/CartPole-v1"), "unknown algorithm 'pp'; did you mean 'ppo'"),
        (("ppo", "gymnax/CartPol-v1"), "unknown environment 'gymnax/CartPol-v1'; did you mean"),
        (("ppo", "gymnax/CartPole-v1", 1_001), "is not a whole number of updates of 2000 steps; use 2,000"),
        (("bc", "gymnax/Pendulum-v1"), "bc learns from a dataset; give --data"),
        (("ppo", "gymnax/CartPole-v1", 2_000, recorded["dataset"]), "ppo learns online; leave --data out"),
        (("ppo", "gymnax/CartPole-v1", 2_000, None, "clasic"), "unknown preset 'clasic'; did you mean 'classic'"),
        (("td3_bc", "gymnax/CartPole-v1", 1_000, recorded["dataset"]), "TD3\\+BC needs a bounded box"),
    ):
        with pytest.raises(ValueError, match=what):
            eject(*asked)


def test_the_command_writes_a_script_once(tmp_path, monkeypatch, capsys):
    from rlzoo import cli

    monkeypatch.chdir(tmp_path)
    words = ["eject", "ppo", "--env", "brax/hopper", "--backend", "positional", "--steps", "1000000"]
    for code in (0, 2):
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        assert ended.value.code == code
    assert "ppo.py is there already" in capsys.readouterr().err
    text = (tmp_path / "ppo.py").read_text()
    assert 'make(brax_make("hopper", backend="positional"), CONFIG, HYPER)' in text and "import gymnax" not in text


def test_local_names_are_no_uses_of_global_ones():
    text = """
def f(x, y=a, optim: optim = e):
    def g():
        return optim.adam, moments.mean, [moments for moments in b], lambda c: c, (z := d)
    try:
        return g
    except i as h:
        return h
"""
    (function,) = ast.parse(text).body
    found = [ast.unparse(use.attribute or use.name) for use in eject_module._uses(function)]
    assert sorted(found) == ["a", "b", "d", "e", "i", "moments.mean", "optim"]
