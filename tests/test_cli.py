"""The command line, called as a user does: exit codes, files, and what is printed."""

import json
import os
import re
import shutil
import socket
import threading
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_same_bits, plane_preferences

import rlzoo
from rlzoo import cli, lock, names
from rlzoo.data import About
from rlzoo.drivers import named, runfile
from rlzoo.report.sinks import read_csv

SMALL = "--config.num-envs 4 --config.num-steps 16 --config.num-epochs 1 --config.num-minibatches 2 --config.hidden 16"
TRAIN = f"train ppo --env gymnax/CartPole-v1 --steps 256 --report-every 2 --eval-episodes 4 {SMALL}"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def call(line, capsys):
    """Exit code, output, errors."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(line.split())
    said = capsys.readouterr()
    return exit_.value.code, said.out, said.err


def test_train_eval_plot_and_resume(capsys, tmp_path):
    sweep = "--hyper.learning-rate 1e-3 1e-2 --seeds 2 --directory out"
    code, out, err = call(f"{TRAIN} {sweep}", capsys)
    assert code == 0, err
    assert "2 learning_rate × 2 seeds, 256 steps each in 4 updates, one program" in out
    for name in ("curves.png", "sensitivity_learning_rate.png", "log.csv", "run.json", "checkpoints", "tensorboard"):
        assert (tmp_path / "out" / name).exists(), name
    assert "learning_rate=0.001" in out and "IQM" in out

    about = json.loads((tmp_path / "out" / "run.json").read_text())
    assert about["hyper"]["learning_rate"] == [1e-3, 1e-2] and about["config"]["hidden"] == [16]

    code, out, _ = call("eval out --episodes 8", capsys)
    assert code == 0 and "at 256 steps, deterministic return" in out and "learning_rate=0.01" in out
    assert "returns out/eval.csv" in out
    rows = rlzoo.drivers.study.read_csv(tmp_path / "out" / "eval.csv")
    assert len(rows) == 2 * 2 * 8 and {row["policy"] for row in rows} == {"deterministic"}
    assert [row["episode"] for row in rows[:9]] == [*range(8), 0] and rows[16]["hyper/learning_rate"] == 1e-2
    assert all(row["return"] == row["length"] and row["steps"] == 256 for row in rows)  # of CartPole
    code, out, _ = call("eval out --episodes 8 --stochastic --output new/sampled.csv", capsys)
    assert (tmp_path / "new" / "sampled.csv").read_text().count("sampled") == 32
    assert code == 0 and "sampled return" in out
    (tmp_path / "out" / "curves.png").unlink()
    code, out, _ = call("plot out", capsys)
    assert code == 0 and (tmp_path / "out" / "curves.png").exists()
    code, out, _ = call("render out --lane 1 0 --seed 3", capsys)
    assert code == 0 and out.split() == ["out/episode.gif"] and (tmp_path / "out" / "episode.gif").exists()

    code, _, err = call(f"{TRAIN} {sweep}", capsys)
    assert code == 2 and "holds a run already" in err
    code, _, err = call(f"{TRAIN} {sweep} --seed 7 --resume", capsys)
    assert code == 2 and "seed is 7, but the run in out has 0; resume with the same" in err
    longer = TRAIN.replace("--steps 256", "--steps 384")
    code, out, _ = call(f"{longer} {sweep} --resume", capsys)
    assert code == 0
    rows = rlzoo.report.sinks.read_csv(tmp_path / "out" / "log.csv")
    assert {row["update"] for row in rows} == {0, 2, 4, 6}


def test_a_run_goes_on_with_its_directory_alone(capsys, tmp_path):
    """Also before its first save, with a lost run.json, and for longer; what is asked beside it must be the same."""
    given = "--hyper.gamma 0.9 0.95 --seeds 2 --seed 3 --directory out"
    whole = f"{TRAIN} --config.no-normalise-obs {given}"
    code, out, err = call(f"{whole} --resume", capsys)  # nothing is there yet
    assert code == 0 and "nothing is saved in out yet: this is the beginning" in out, err
    about = json.loads((tmp_path / "out" / "run.json").read_text())
    state = rlzoo.restore("out").state
    shutil.rmtree("out/checkpoints")
    code, out, err = call("train --directory out --resume", capsys)
    assert code == 0 and "this is the beginning" in out and "2 gamma × 2 seeds, 256 steps each in 4 updates" in out, err
    assert_same_bits(rlzoo.restore("out").state, state)

    code, _, err = call("train sac --directory out --resume", capsys)
    assert code == 2 and "algorithm is 'sac', but the run in out has 'ppo'; resume with the same" in err
    for flag, message in (
        ("--seed 4", "seed is 4, but the run in out has 3"),
        ("--hyper.gamma 0.9", r"hyper.gamma is \[0.9\], but the run in out has \[0.9, 0.95\]"),
        ("--config.hidden 8", r"config.hidden is \[8\], but the run in out has"),
        ("--env gymnax/Acrobot-v1", "env is 'gymnax/Acrobot-v1', but the run in out has 'gymnax/CartPole-v1'"),
    ):
        code, _, err = call(f"train ppo --directory out --resume {flag}", capsys)
        assert code == 2 and re.search(message, err), err
    assert json.loads((tmp_path / "out" / "run.json").read_text()) == about

    code, out, err = call("train --directory out --resume --steps 384 --eval-episodes 2", capsys)
    assert code == 0 and "384 steps each in 6 updates" in out, err
    kept = json.loads((tmp_path / "out" / "run.json").read_text())
    assert kept["steps"] == 384 and kept["options"]["eval_episodes"] == 2 and kept["options"]["report_every"] == 2
    assert {row["update"] for row in rlzoo.report.sinks.read_csv("out/log.csv")} == {0, 2, 4, 6}

    (tmp_path / "out" / "run.json").unlink()
    assert "there is no run.json in out" in call("train --directory out --resume", capsys)[2]
    longer = whole.replace("--steps 256", "--steps 512")
    code, _, err = call(f"{longer.replace('0.95', '0.96')} --resume", capsys)
    assert code == 2 and "hyper.gamma is" in err and not (tmp_path / "out" / "run.json").exists()
    code, _, err = call(f"{longer} --resume", capsys)
    assert code == 0 and json.loads((tmp_path / "out" / "run.json").read_text())["steps"] == 512, err
    assert int(rlzoo.restore("out").state.step) == 8


def test_a_directory_in_use_is_refused_by_name(capsys, tmp_path):
    with lock.held(tmp_path / "out"):
        threads = [threading.Thread(target=lambda: said.append(call(f"{TRAIN} --directory out", capsys)))]
        said = []
        threads[0].start()
        threads[0].join()
    code, _, err = said[0]
    assert code == 2 and f"out is in use by process {os.getpid()} on {socket.gethostname()} since 20" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hyper": {"gamma": 0.9}}, "hyper.gamma is 0.9, which is not what rlzoo train writes"),
        ({"hyper": {"gamma": []}}, r"hyper.gamma is \[\]"),
        ({"hyper": {"gama": [0.9]}}, "did you mean 'gamma'"),
        ({"algorithm": ["ppo"]}, r"algorithm is \['ppo'\]"),
        ({"algorithm": "pppo"}, "unknown algorithm 'pppo'; did you mean 'ppo'"),
        ({"config": None}, "config is None"),
        ({"config": {"hidden": "wide"}}, "hidden='wide'; it must be a tuple"),
        ({"config": {"init_std": "wide"}}, "run.json: "),
        ({"config": {"nmu_envs": 3}}, "did you mean 'num_envs'"),
        ({"env_options": [1]}, r"env_options is \[1\]"),
        ({"env": 3}, "env is 3"),
        ({"seeds": True}, "seeds is True"),
        ({"steps": -4}, "steps is"),
        ({"options": {"sinks": "csv"}}, "options.sinks is 'csv'"),
    ],
)
def test_a_damaged_run_json_is_named(change, message, capsys, tmp_path):
    about = {"algorithm": "ppo", "env": "probe/constant-reward", "env_options": {}, "data": None, "config": {}}
    about |= {"hyper": {}, "seeds": 1, "seed": 0, "steps": 2000, "begin": None} | change
    (tmp_path / "run.json").write_text(json.dumps(about))
    for line in ("eval .", "plot .", "train --directory . --resume"):
        code, _, err = call(line, capsys)
        assert code == 2 and "run.json" in err and re.search(message, err), err
        assert "Traceback" not in err


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", "\xff", '{"algorithm": NaN}', "[" * 10_000])
def test_what_is_no_run_json_is_named(text, capsys, tmp_path):
    (tmp_path / "run.json").write_bytes(text.encode("latin-1"))
    for line in ("eval .", "render .", "train --directory . --resume"):
        code, _, err = call(line, capsys)
        assert code == 2 and "run.json" in err and "Traceback" not in err


def test_a_plan_is_said_and_nothing_is_run(capsys, tmp_path):
    code, out, err = call(f"{TRAIN} --seeds 3 --spread --plan", capsys)
    assert code == 0, err
    assert "1 settings x 3 seeds, 3 lanes" in out and "memory: " in out and "time: about" in out
    assert not list(tmp_path.iterdir())


def test_a_sweep_of_a_file(capsys, tmp_path):
    (tmp_path / "two.yaml").write_text("""
algorithm: ppo
env: gymnax/CartPole-v1
steps: 256
seeds: 2
eval_episodes: 4
config: {num_envs: 4, num_steps: 16, num_epochs: 1, num_minibatches: 2, hidden: [16]}
hyper:
  learning_rate: {low: 1e-4, high: 1e-2, scale: log}
sampler: sobol
samples: 3
""")
    code, out, err = call("sweep two.yaml --plan", capsys)
    assert code == 0 and "3 settings x 2 seeds, 6 lanes" in out and "time: about" in out, err
    assert not (tmp_path / "runs").exists()
    code, out, err = call("sweep two.yaml", capsys)
    assert code == 0 and "learning_rate=" in out and "IQM" in out, err
    results = (tmp_path / "runs" / "two" / "results.csv").read_text()
    assert len(results.splitlines()) == 7 and (tmp_path / "runs" / "two" / "results.png").exists()
    code, _, err = call("sweep two.yaml", capsys)
    assert code == 2 and "runs/two holds a sweep already; resume it" in err
    code, _, _ = call("sweep two.yaml --directory runs/two --resume", capsys)
    assert code == 0 and (tmp_path / "runs" / "two" / "results.csv").read_text() == results
    (tmp_path / "own.yaml").write_text("algorithm: ppo\nenv: own.py:Maze\n")
    code, _, err = call("sweep own.yaml", capsys)
    assert code == 2 and "a file of settings runs no code; write it in Python" in err
    code, _, err = call("sweep none.yaml", capsys)
    assert code == 2 and "there is no file none.yaml" in err


def test_a_run_gets_a_directory_of_its_own(capsys, tmp_path):
    for number in (1, 2):
        code, out, _ = call(TRAIN.replace("--steps 256", "--steps 64"), capsys)
        assert code == 0 and f"directory runs/ppo_CartPole-v1_{number}" in out
    assert (tmp_path / "runs" / "ppo_CartPole-v1_2" / "curves.png").exists()
    without = TRAIN.replace("--eval-episodes 4", "--eval-episodes 0").replace("--steps 256", "--steps 64")
    code, out, _ = call(without, capsys)
    assert code == 0 and "checkpoints runs/ppo_CartPole-v1_3" in out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("trian ppo", "unknown command 'trian'; did you mean 'train'"),
        ("train pppo --env gymnax/CartPole-v1", "unknown algorithm 'pppo'; did you mean 'ppo'"),
        ("train ppo --env gymnax/CartPole", "did you mean 'gymnax/CartPole-v1'"),
        ("train ppo --env gymnax/CartPole-v1 --preset clasic", "unknown preset 'clasic'; did you mean 'classic'"),
        ("train ppo --env gymnax/CartPole-v1 --steps 1001", "use 2,000"),
        ("train ppo --env gymnax/CartPole-v1 --config.num-minibatches 7", "num_minibatches=7 does not divide"),
        ("train ppo --env gymnax/CartPole-v1 --seeds 0", "--seeds 0; it must be 1 or more"),
        ("train ppo --env gymnax/CartPole-v1 --hyper.gamma --seeds 2", "--hyper.gamma got no number"),
        ("train ppo --env gymnax/CartPole-v1 --hyper.gamma 0.9 0.9", "--hyper.gamma got the same number twice"),
        ("train ppo --env brax/swimmer --backend spring", "brax/swimmer is not available on the backend spring"),
        ("train ppo --env gymnax/CartPole-v1 --sinks cvs --steps 2000", "unknown sink 'cvs'; did you mean 'csv'"),
        ("train ppo --env gymnax/CartPole-v1 --backend spring", "takes no option 'backend'"),
        ("train ppo --env brax/hopper --backend sprnig", "backend='sprnig'; allowed are"),
        (
            "train ppo --env gymnax/CartPole-v1 --hyper.learnin-rate 1",
            "unknown option --hyper.learnin-rate; did you mean --hyper.learning-rate",
        ),
        ("train ppo --env gymnax/CartPole-v1 --config.num-env 1", "did you mean --config.num-envs"),
        ("train ppo --env gymnax/CartPole-v1 --num_envs=3", "did you mean --config.num-envs\\?"),
        ("train ppo --env gymnax/CartPole-v1 --lr 1", "did you mean --hyper.learning-rate\\?"),
        ("train ppo --env gymnax/CartPole-v1 --zzzz 1", "unknown option --zzzz; `rlzoo train ppo --help` shows all"),
        ("train ppo --env gymnax/CartPole-v1 -steps 1", "unknown option -steps; did you mean --steps"),
        ("train ppo --env gymnax/CartPole-v1 --steps 1.5", "'1.5' is no whole number; give one"),
        ("train ppo --env gymnax/CartPole-v1 --steps 1e400", "'1e400' is no whole number"),
        ("train ppo --env gymnax/CartPole-v1 --seeds nan", "'nan' is no whole number"),
        ("train ppo --env gymnax/CartPole-v1 --config.hidden 1e1.5", "valid parse for arguments"),
        ("train ppo --env nofile.py:Maze", "there is no file .*nofile.py"),
        ("train ppo --env no_such_module:Maze", "No module named 'no_such_module'"),
        ("train ppo --env rlzoo.types:Maze", "module 'rlzoo.types' has no attribute 'Maze'"),
        ("train ppo --env rlzoo.types:Box", "environment 'rlzoo.types:Box' is a type; it must be an environment"),
        (
            "train ppo --env math:pi",
            "environment 'math:pi' is a float; it must be an environment, or a class or function",
        ),
        ("train ppo --env os:abort", "environment 'os:abort' is a builtin_function_or_method; it must be an env"),
        ("train ppo --env shutil:get_terminal_size.x", "AttributeError: 'function' object has no attribute 'x'"),
        ("train ppo --env :Maze", "environment ':Maze' is half a name; give module:object or path.py:object"),
        ("train ppo --env maze.py", "environment 'maze.py' is a file; say which object in it, such as maze.py:Maze"),
        ("help trian", "unknown command 'trian'; did you mean 'train'"),
        (
            "eval nowhere --episods 3",
            "unknown option --episods; did you mean --episodes.*`rlzoo eval --help` shows all",
        ),
        ("eval nowhere --episodes 1.5", "argument --episodes: '1.5' is no whole number.*; see `rlzoo eval --help`"),
        ("eval nowhere --episodes 0", "--episodes 0; it must be 1 or more"),
        ("eval", "arguments are required: directory; see `rlzoo eval --help`"),
        ("plot nowhere else", "unrecognized arguments: else; see `rlzoo plot --help`"),
        ("render nowhere --outptu x.gif", "unknown option --outptu; did you mean --output"),
        ("collect gymnax/Pendulum-v1 --rows 10", "arguments are required: --output"),
        ("collect gymnax/Pendulum-v1 --outpt x.npz", "did you mean --output"),
        ("sweep none.yaml --dir x", "unknown option --dir; did you mean --directory"),
        ("eject ppo --env own.py:Maze", "own.py:Maze is your own, of which rlzoo has no source"),
        ("eject pppo --env gymnax/CartPole-v1", "unknown algorithm 'pppo'; did you mean 'ppo'"),
        ("list --al", "unknown option --al"),
        ("train ppo --env gymnax/CartPole-v1 --directory /dev/null", "/dev/null is a file; choose another directory"),
        ("train ppo --env gymnax/CartPole-v1 --directory /dev/null/in", "/dev/null is a file; choose another"),
        ("train ppo --env gymnax/CartPole-v1 --hyper.gamma high", "Could not find valid parse"),
        ("train ppo", "--env"),
        ("eval nowhere", "nowhere holds no run"),
        ("plot nowhere", "nowhere holds no run"),
        ("train --directory none --resume", "there is no run.json in none, .*; give the whole command"),
    ],
)
def test_mistakes_end_with_code_2_and_name_the_remedy(line, message, capsys):
    code, out, err = call(line, capsys)
    assert code == 2
    assert re.search(message, err + out), err + out
    assert "Traceback" not in err
    assert not list(Path().iterdir())  # nothing is left behind


@pytest.mark.parametrize(
    "wrong",
    ["--sinks cvs", "--report-every 0", "--report-every -3", "--eval-episodes -1", "--seed -1 --report-every 0"],
)
def test_a_refused_value_leaves_no_directory(wrong, capsys):
    for where in ("", " --directory deep/in/out"):
        code, _, err = call(f"{TRAIN.replace('--report-every 2 --eval-episodes 4', '')} {wrong}{where}", capsys)
        assert code == 2 and err.startswith("rlzoo: ") and len(err.splitlines()) == 1, err
        assert not list(Path().iterdir())


def test_what_others_have_in_a_directory_is_left_there(tmp_path):
    (tmp_path / "runs").mkdir()
    with pytest.raises(ValueError, match="refused"), cli._made(tmp_path / "runs"):
        raise ValueError("refused")  # of a directory that was there
    with pytest.raises(ValueError, match="refused"), cli._made(tmp_path / "new" / "in" / "here"):
        (tmp_path / "new" / "other").mkdir()
        raise ValueError("refused")
    with pytest.raises(ValueError, match="failed"), cli._made(tmp_path / "trained"):
        (tmp_path / "trained" / "checkpoints" / "save_1").mkdir(parents=True)
        raise ValueError("failed")  # when there was something to keep
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == ["new", "new/other", "runs", "trained", "trained/checkpoints", "trained/checkpoints/save_1"]


OWN = """
import rlzoo

CART = rlzoo.envs.make("gymnax/CartPole-v1")


def make():
    return CART
"""


def test_an_environment_of_ones_own_file(capsys, tmp_path):
    """By its file or module, an object or what makes it; the record of the run finds it again from elsewhere."""
    place = tmp_path / "mine"
    place.mkdir()
    (place / "carts.py").write_text(OWN)
    train = TRAIN.replace("--steps 256", "--steps 64").replace("--report-every 2", "")
    own = train.replace("gymnax/CartPole-v1", "mine/carts.py:CART")
    code, out, err = call(own, capsys)
    assert code == 0 and "directory runs/ppo_CART_1" in out, err
    about = json.loads(Path("runs/ppo_CART_1/run.json").read_text())
    assert about["env"] == f"{place}/carts.py:CART"
    (tmp_path / "elsewhere").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path / "elsewhere")
        again = "--env ../mine/carts.py:CART"
        code, out, err = call(f"eval ../runs/ppo_CART_1 --episodes 2 {again}", capsys)
        assert code == 0 and "at 64 steps" in out, err
        code, out, err = call(f"collect ../runs/ppo_CART_1 --rows 1e1 --num-envs 2 --output rows.npz {again}", capsys)
        assert code == 0, err
        code, out, err = call(f"train --directory ../runs/ppo_CART_1 --resume --steps 128 {again}", capsys)
        assert code == 0 and "128 steps" in out, err
    for same in ("mine/carts.py:make", "mine.carts:CART"):
        line = train.replace("gymnax/CartPole-v1", same).replace("--steps 64", "--steps 65")
        code, _, err = call(line, capsys)
        assert code == 2 and "env_steps=65 is not a whole number" in err  # so the environment was made
    code, _, err = call(f"{own} --backend spring", capsys)
    assert code == 2 and "takes no backend; that is of brax" in err


def test_what_others_log_is_not_in_the_progress(capsys):
    from absl import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        assert call("--version", capsys)[0] == 0
        assert not logging.level_warning() and logging.level_error()
    finally:
        logging.set_verbosity(before)


def test_a_record_runs_no_code_that_its_reader_did_not_name(capsys, tmp_path):
    env = f"{tmp_path}/theirs/evil.py:Env"
    about = {"algorithm": "ppo", "env": env, "config": {}, "hyper": {}, "seeds": 1, "seed": 0, "steps": 2000}
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "evil.py").write_text("raise SystemExit(77)")
    for env in (about["env"], "evil:Env", "http.server:test"):
        (tmp_path / "theirs" / "run.json").write_text(json.dumps(about | {"env": env}))
        other = "--env other.py:Env"
        for line in (
            "eval theirs",
            "render theirs",
            "collect theirs --output x.npz",
            "train --directory theirs --resume",
        ):
            code, _, err = call(line, capsys)
            assert code == 2 and f"{env}, which is code; if it is yours, say so: --env {env}" in err, (line, err)
            code, _, err = call(f"{line} {other}", capsys)
            assert code == 2 and ("which is code" in err or f"the run in theirs has '{env}'" in err), (line, err)


def test_an_environment_given_again_must_be_the_one_on_record(capsys, tmp_path):
    preset = rlzoo.ppo.presets["classic"]
    config = {name: getattr(preset.config, name) for name in named.plain_fields(rlzoo.ppo.Config)}
    hyper = {name: [x] for name, x in preset.hyper._asdict().items()}
    about = {"algorithm": "ppo", "env": "gymnax/CartPole-v1", "config": config, "hyper": hyper, "seeds": 1, "seed": 0}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps(about | {"steps": 2000}))
    for command in ("eval run", "render run", "collect run --output x.npz"):
        code, _, err = call(f"{command} --env gymnax/Nonsense", capsys)
        assert code == 2 and "was trained in gymnax/CartPole-v1, given is gymnax/Nonsense; leave --env out" in err
    code, _, err = call("collect gymnax/CartPole-v1 --env own.py:X --output x.npz", capsys)
    assert code == 2 and "is an environment itself; leave --env out" in err
    code, _, err = call("train --resume --directory", capsys)
    assert code == 2 and err.startswith("rlzoo: argument --directory: expected one argument")
    for again in ("", "--env Gymnax/cartpole-v1"):  # what is not said once more is as on record
        code, _, err = call(f"train --directory run --resume {again} --hyper.gamma 2", capsys)
        assert code == 2 and "hyper.gamma=2; it must be between 0 and 1" in err
        code, _, err = call(f"train --directory run --resume {again} --seed 3", capsys)
        assert code == 2 and "seed is 3, but the run in run has 0" in err
    code, _, err = call("train ppo --env gymnax/CartPole-v1 --data-rule qlearning --steps 2000", capsys)
    assert code == 2 and "ppo learns online; leave the rule of data, qlearning, out" in err


def test_a_run_on_brax_without_a_backend_on_record_is_of_spring(tmp_path):
    about = {"algorithm": "ppo", "env": "brax/hopper", "config": {}, "hyper": {}, "seeds": 1, "seed": 0, "steps": 2000}
    (tmp_path / "run.json").write_text(json.dumps(about))
    assert runfile.read(tmp_path)["env_options"] == {"backend": "spring"}
    (tmp_path / "run.json").write_text(json.dumps(about | {"env_options": {"backend": "mjx"}}))
    assert runfile.read(tmp_path)["env_options"] == {"backend": "mjx"}


def test_names_in_other_capitals_are_taken_for_what_they_are(capsys):
    code, _, err = call("TRAIN Ppo --env Gymnax/cartpole_V1 --preset Classic --steps 2.1e3", capsys)
    assert code == 2 and "env_steps=2100 is not a whole number of updates of 2000 steps" in err  # and all else is
    code, _, err = call("train TD3+BC --env gymnax/pendulum-v1", capsys)
    assert code == 2 and "td3_bc learns from a dataset" in err
    code, _, err = call("train ppo --env brax/swimmer --backend Spring", capsys)
    assert code == 2 and "not available on the backend spring" in err
    code, out, err = call("eject A2C --env gymnax/cartpole-v1 --steps 1e6 --preset CLASSIC --output in/a2c.py", capsys)
    assert code == 0 and out.strip() == "in/a2c.py", err
    script = Path("in/a2c.py").read_text()
    assert "default=1_000_000" in script and "gymnax/CartPole-v1:" in script


def test_version_and_help_of_every_command(capsys):
    for line in ("--version", "-V"):
        assert call(line, capsys)[:2] == (0, f"rlzoo {rlzoo.__version__}\n")
    assert call("help", capsys) == call("", capsys) == call("--help", capsys) == call("help help", capsys)
    for command in ("train ppo", "sweep", "eval", "plot", "render", "collect", "eject", "list"):
        code, out, _ = call(f"help {command}", capsys)
        assert code == 0 and f"rlzoo {command}" in out and out == call(f"{command} --help", capsys)[1]
        assert command.split()[0] in call("help", capsys)[1]
    code, out, _ = call("help train", capsys)
    assert code == 0 and all(name in out for name in rlzoo.ALGORITHMS)
    for name, module in rlzoo.ALGORITHMS.items():
        if name in ("ppo", "qarl", "a2pr"):
            out = re.sub(r"[\s│]+", " ", call(f"train {name} --help", capsys)[1])
            assert f"hyperparameter set, of {', '.join(module.presets)}; default" in out


def test_pictures_of_offline_runs_say_gradient_steps_and_scores(tmp_path, monkeypatch):
    from rlzoo import report

    drawn = []
    monkeypatch.setattr(report, "curves", lambda *given, **labels: drawn.append(labels))
    monkeypatch.setattr(report, "table", lambda title, scores: drawn.append((title, scores)))
    log = "update,env_steps,setting,seed,eval/return{}\n1,5,0,0,-100.0{}\n"
    for algorithm, name, value, axes in (
        ("bc", ",eval/score", ",50.0", {"xlabel": "gradient steps", "ylabel": "normalised score"}),
        ("bc", "", "", {"xlabel": "gradient steps", "ylabel": "return"}),
        ("ppo", "", "", {"xlabel": "environment steps", "ylabel": "return"}),
    ):
        (tmp_path / "log.csv").write_text(log.format(name, value))
        cli._draw(tmp_path, {"algorithm": algorithm, "env": "gymnax/Pendulum-v1", "hyper": {}})
        labels, (title, scores) = drawn[-2:]
        assert {key: labels[key] for key in axes} == axes and f"{axes['ylabel']} at 5 steps" in title
        assert scores[algorithm].tolist() == [50.0 if name else -100.0]


def test_d4rls_files_by_either_rule_and_minaris_by_their_id(capsys, tmp_path, monkeypatch):
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    env = rlzoo.envs.make("gymnax/Pendulum-v1")
    dataset = rlzoo.data.collect(env, None, jax.random.key(0), 40, 2)
    rlzoo.data.minari.save("me/pendulum-v0", dataset, env)
    with h5py.File("own.hdf5", "w") as file:
        columns = {"observations": "obs", "actions": "action", "rewards": "reward", "terminals": "terminated"}
        for name, field in (columns | {"timeouts": "last", "next_observations": "next_obs"}).items():
            file[name] = np.asarray(getattr(dataset, field))
    bc = "train bc --env gymnax/Pendulum-v1 --steps 2 --eval-episodes 0 --config.hidden 4 --directory"
    kept = {}
    for number, data in enumerate(("me/pendulum-v0", "own.hdf5", "own.hdf5 --data-rule qlearning")):
        code, _, err = call(f"{bc} out{number} --data {data}", capsys)
        assert code == 0, err
        kept[data] = cli.build(runfile.read(Path(f"out{number}"))).task.num_rows
    assert list(kept.values()) == [40, 40, 38]  # two time-outs are left out
    about = json.loads(Path("out2/run.json").read_text())
    del about["data_rule"]  # as of a run from before there was another rule
    Path("out2/run.json").write_text(json.dumps(about))
    assert cli.build(runfile.read(Path("out2"))).task.num_rows == 38
    code, _, err = call(f"{bc} out2 --data own.hdf5 --data-rule true --resume", capsys)
    assert code == 2 and "data_rule is None, but the run in out2 has 'qlearning'; resume with the same" in err
    for data, message in (
        ("own.hdf5 --data-rule qleaning", "unknown rule 'qleaning'; did you mean 'qlearning'"),
        ("me/pendulum-v0 --data-rule qlearning", "is no file of D4RL, which alone has rules; leave 'qlearning' out"),
        ("me/pendulum-v1", "no dataset of id me/pendulum-v1"),
    ):
        code, _, err = call(f"{bc} none --data {data}", capsys)
        assert code == 2 and message in err, err


def test_list_names_everything(capsys):
    code, out, _ = call("list", capsys)
    assert code == 0
    for name in (*rlzoo.ALGORITHMS, *rlzoo.envs.names("gymnax"), *rlzoo.envs.names("brax"), *rlzoo.envs.names("probe")):
        assert name in out
    assert "not supported: gymnax/MNISTBandit-bsuite: it downloads" in out
    for name, module in rlzoo.ALGORITHMS.items():
        for field in (*module.Config.__dataclass_fields__, *module.Hyper._fields):
            assert field in out, (name, field)
        assert not named.is_offline(module) or f"--steps  {named.BUDGETS[name]}" in out
    assert re.search(r"learning_rate\s+0.0003\s+of Adam", out)


def test_every_field_has_a_comment_for_its_help():
    for name, module in rlzoo.ALGORITHMS.items():
        for cls in (module.Config, module.Hyper):
            fields = getattr(cls, "_fields", None) or list(cls.__dataclass_fields__)
            assert set(fields) == set(names.comments(cls)), name


def test_help(capsys):
    assert call("", capsys)[1].startswith("rlzoo: reinforcement learning in JAX")
    code, out, _ = call("train ppo --help", capsys)
    assert code == 0 and "--hyper.learning-rate" in out and "of Adam" in re.sub(r"\s+", " ", out)


def test_episodes_are_not_those_of_training():
    """No key of the one, nor what is split from it, is one of the other."""

    def all_of(key):
        keys = jax.random.key_data(jax.random.split(key, 64)).tolist()
        return {tuple(word) for word in [*keys, jax.random.key_data(key).tolist()]}

    trained = [*map(jax.random.key, range(4)), *jax.random.split(jax.random.key(0), 8)]
    for seed in range(4):
        assert not all_of(cli._episodes_key(seed)) & set().union(*map(all_of, trained))


def test_collect_train_offline_and_eval(capsys, tmp_path):
    collect = "collect gymnax/Pendulum-v1 --rows 4e2 --num-envs 4 --output own-medium.npz --random-score -1.2e3"
    code, out, err = call(f"{collect} --expert-score -150", capsys)
    assert code == 0, err
    assert "400 transitions in 4 episodes; mean return" in out and "own-medium.npz" in out
    dataset = rlzoo.data.load("own-medium.npz")
    assert dataset.about == ("own-medium", "gymnax/Pendulum-v1", -1200.0, -150.0)

    bc = "train bc --env gymnax/Pendulum-v1 --data own-medium.npz --steps 6 --report-every 3 --eval-episodes 2"
    code, out, err = call(f"{bc} --config.hidden 8 --seeds 2 --directory out", capsys)
    assert code == 0, err
    assert "2 seeds, 6 steps each in 6 updates" in out and "steps are gradient steps" in out
    assert "normalised score at 6 steps" in out
    for row in read_csv("out/log.csv"):
        assert row["eval/score"] == pytest.approx((row["eval/return"] + 1200.0) / 10.5, abs=1e-3)
    code, out, _ = call("eval out --episodes 2", capsys)
    assert code == 0 and "bc on gymnax/Pendulum-v1 at 6 steps" in out and "normalised score" in out
    code, out, err = call("collect out --lane 0 1 --rows 40 --num-envs 2 --deterministic --output again.npz", capsys)
    assert code == 0, err
    again = rlzoo.data.load("again.npz")
    assert again.num_rows == 40 and again.about.random_score is None
    code, out, err = call("collect out gymnax/Pendulum-v1 --rows 40 --output mixed.npz", capsys)
    assert code == 0 and "80 transitions in 40 episodes" in out, err
    for line, message in (
        (bc.replace("--data own-medium.npz ", ""), "bc learns from a dataset; give --data"),
        (f"{TRAIN} --data own-medium.npz", "ppo learns online; leave --data out"),
        (bc.replace("own-medium", "other"), "there is no file .*other.npz"),
        (
            bc.replace("Pendulum-v1", "MountainCarContinuous-v0"),
            "was recorded in gymnax/Pendulum-v1, not in gymnax/Mount",
        ),
        ("collect out --output x.npz --replay --rows 9", "--replay takes all that the buffer holds; leave --rows out"),
        ("collect gymnax/Pendulum-v1 --output x.npz --replay", "is no run's directory, and has no replay buffer"),
        (
            "collect out brax/hopper --rows 40 --output x.npz",
            "of different environments, gymnax/Pendulum-v1 and brax/h",
        ),
        ("collect out --output x.npz --replay", "bc has no replay buffer; leave --replay out"),
        ("collect out --lane 0 2 --output x.npz", r"lane \(0, 2\) is outside the sweep's lanes \[1, 2\]"),
    ):
        code, out, err = call(line, capsys)
        assert code == 2 and re.search(message, err), (line, err)


def test_two_phases_from_preferences(capsys):
    """Cloning is a run, and preferences are another that begins with it: its steps count, a sweep branches off."""
    rlzoo.data.preferences.save("said.npz", plane_preferences().replace(about=About(), obs=jnp.zeros((20, 4, 3))))
    said = rlzoo.data.preferences.load("said.npz")
    rlzoo.data.preferences.save("said.npz", said.replace(action=said.action[..., :1]))
    train = "train cpl --env gymnax/Pendulum-v1 --data said.npz --config.hidden 8 --eval-episodes 2 --seeds 2"
    code, _, err = call(f"{train} --config.phase bc --steps 4 --directory cloned", capsys)
    assert code == 0, err
    code, _, err = call(
        f"{train} --steps 10 --begin cloned --config.reference --hyper.bias 0.5 1 --directory out", capsys
    )
    assert code == 0, err
    state = rlzoo.load("out/checkpoints", cli.build(runfile.read(Path("out"))))
    assert int(state.step) == 10 and int(state.began[0, 0]) == 4 and state.key.shape == (2, 2)
    cloned = rlzoo.load("cloned/checkpoints", cli.build(runfile.read(Path("cloned"))))
    for first, reference in zip(jax.tree.leaves(cloned.params), jax.tree.leaves(state.reference), strict=True):
        np.testing.assert_array_equal(reference, np.concatenate([first, first]))
    code, _, err = call("train p_iql --env gymnax/Pendulum-v1 --data said.npz --config.hidden 8 --steps 4", capsys)
    assert code == 0, err
    for line, message in (
        (f"{train} --steps 9 --config.reference", "is the policy that cloning left: give the run of it with --begin"),
        (f"{train} --steps 9 --begin cloned --seeds 3", "seeds is 3, but the run in .*cloned has 2"),
        (f"{train} --steps 9 --begin nowhere", "nowhere holds no run"),
        (f"{train} --steps 3 --begin cloned", "is at update 4, beyond num_updates=3"),
        (f"{train.replace('cpl', 'p_iql')} --steps 9 --begin cloned", "p_iql has one phase; leave --begin out"),
    ):
        code, _, err = call(line, capsys)
        assert code == 2 and re.search(message, err), (line, err)


@pytest.mark.slow
def test_collect_what_an_agent_has_seen(capsys):
    sac = "train sac --env gymnax/Pendulum-v1 --steps 60 --config.warmup 20 --config.batch-size 4 --directory out"
    code, _, err = call(f"{sac} --config.hidden 8 --config.capacity 500 --eval-episodes 0", capsys)
    assert code == 0, err
    code, out, err = call("collect out --replay --output seen.npz", capsys)
    assert code == 0 and "60 transitions in 1 episodes" in out, err
    state = rlzoo.load("out/checkpoints", cli.build(runfile.read(Path("out"))))
    np.testing.assert_array_equal(rlzoo.data.load("seen.npz").reward, state.replay.reward[0, 0, :60])


def test_labels_follow_the_order_of_the_grid():
    about = {"algorithm": "ppo", "hyper": {"learning_rate": [1e-3, 1e-2], "gamma": [0.9, 0.99], "clip_eps": [0.2]}}
    hyper = rlzoo.grid(rlzoo.ppo.Hyper(), learning_rate=[1e-3, 1e-2], gamma=[0.9, 0.99])
    expected = [f"learning_rate={a:.6g}, gamma={b:.6g}" for a, b in zip(hyper.learning_rate, hyper.gamma, strict=True)]
    assert cli._labels(about) == expected
    assert np.size(hyper.learning_rate) == 4


def test_the_preset_for_an_environment():
    """Its own, its family's, or the classic one."""
    from rlzoo import a2pr, a3c, ppo, prdc, qarl, stac
    from rlzoo.drivers.named import preset_for

    chosen = {
        (stac, "rlzoo/RiskyPointMass-v0"): "risky_point_mass",
        (stac, "brax/hopper"): "hopper",
        (stac, "brax/reacher"): "brax",
        (ppo, "brax/hopper"): "brax",
        (ppo, "gymnax/Breakout-MinAtar"): "minatar",
        (a3c, "gymnax/Breakout-MinAtar"): "classic",
        (ppo, "gymnax/CartPole-v1"): "classic",
        (qarl, "rlzoo/CartpoleSwingup-v0"): "cartpole_swingup",
        (qarl, "brax/hopper mjx"): "hopper",
        (qarl, "brax/inverted_double_pendulum mjx"): "inverted_double_pendulum",
        (qarl, "gymnax/Pendulum-v1"): "pendulum",
    }
    for (module, env), preset in chosen.items():
        assert preset_for(env, module.presets) == preset
    assert preset_for("brax/hopper", a2pr.presets, "data/hopper-medium-replay-v2.hdf5") == "hopper_medium_replay"
    assert preset_for("brax/hopper", prdc.presets, "data/hopper-medium.npz") == "hopper"
    assert preset_for("own/maze", prdc.presets, "antmaze-umaze-diverse-v2.hdf5") == "antmaze"
