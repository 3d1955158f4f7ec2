"""The command line, called as a user does: exit codes, files, and what is printed."""

import json
import os
import re
import shutil
import socket
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_same_bits, plane_preferences

import rlzoo
from rlzoo import cli, lock
from rlzoo.data import About
from rlzoo.drivers import named

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
    code, out, _ = call("eval out --episodes 8 --stochastic", capsys)
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
        ("--hyper.gamma 0.9", r"hyper is .*'gamma': \[0.9\]"),
        ("--config.hidden 8", "config is .*'hidden': \\[8\\]"),
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
        ("train ppo --env gymnax/CartPole-v1 --hyper.learnin-rate 1", "--hyper.learning-rate"),
        ("train ppo --env gymnax/CartPole-v1 --config.num-env 1", "--config.num-envs"),
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


def test_list_names_everything(capsys):
    code, out, _ = call("list", capsys)
    assert code == 0
    for name in (*rlzoo.ALGORITHMS, *rlzoo.envs.names("gymnax"), *rlzoo.envs.names("brax"), *rlzoo.envs.names("probe")):
        assert name in out
    assert "not supported: gymnax/MNISTBandit-bsuite: it downloads" in out
    for name, module in rlzoo.ALGORITHMS.items():
        for field in (*module.Config.__dataclass_fields__, *module.Hyper._fields):
            assert field in out, (name, field)
    assert re.search(r"learning_rate\s+0.0003\s+of Adam", out)


def test_every_field_has_a_comment_for_its_help():
    for name, module in rlzoo.ALGORITHMS.items():
        for cls in (module.Config, module.Hyper):
            fields = getattr(cls, "_fields", None) or list(cls.__dataclass_fields__)
            assert set(fields) == set(named.comments(cls)), name


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
    collect = "collect gymnax/Pendulum-v1 --rows 400 --num-envs 4 --output own-medium.npz --random-score -1200"
    code, out, err = call(f"{collect} --expert-score -150", capsys)
    assert code == 0, err
    assert "400 transitions in 4 episodes; mean return" in out and "own-medium.npz" in out
    dataset = rlzoo.data.load("own-medium.npz")
    assert dataset.about == ("own-medium", "gymnax/Pendulum-v1", -1200.0, -150.0)

    bc = "train bc --env gymnax/Pendulum-v1 --data own-medium.npz --steps 6 --report-every 3 --eval-episodes 2"
    code, out, err = call(f"{bc} --config.hidden 8 --seeds 2 --directory out", capsys)
    assert code == 0, err
    assert "2 seeds, 6 steps each in 6 updates" in out
    code, out, _ = call("eval out --episodes 2", capsys)
    assert code == 0 and "bc on gymnax/Pendulum-v1 at 6 steps" in out
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
    state = rlzoo.load("out/checkpoints", cli.build(cli._about(Path("out"))))
    assert int(state.step) == 10 and int(state.began[0, 0]) == 4 and state.key.shape == (2, 2)
    cloned = rlzoo.load("cloned/checkpoints", cli.build(cli._about(Path("cloned"))))
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
    state = rlzoo.load("out/checkpoints", cli.build(cli._about(Path("out"))))
    np.testing.assert_array_equal(rlzoo.data.load("seen.npz").reward, state.replay.reward[0, 0, :60])


def test_labels_follow_the_order_of_the_grid():
    about = {"algorithm": "ppo", "hyper": {"learning_rate": [1e-3, 1e-2], "gamma": [0.9, 0.99], "clip_eps": [0.2]}}
    hyper = rlzoo.grid(rlzoo.ppo.Hyper(), learning_rate=[1e-3, 1e-2], gamma=[0.9, 0.99])
    expected = [f"learning_rate={a:.6g}, gamma={b:.6g}" for a, b in zip(hyper.learning_rate, hyper.gamma, strict=True)]
    assert cli._labels(about) == expected
    assert np.size(hyper.learning_rate) == 4


def test_the_preset_for_an_environment():
    """Its own, its family's, or the classic one."""
    from rlzoo import a2pr, a3c, ppo, prdc, stac
    from rlzoo.drivers.named import preset_for

    chosen = {
        (stac, "rlzoo/RiskyPointMass-v0"): "risky_point_mass",
        (stac, "brax/hopper"): "hopper",
        (stac, "brax/reacher"): "brax",
        (ppo, "brax/hopper"): "brax",
        (ppo, "gymnax/Breakout-MinAtar"): "minatar",
        (a3c, "gymnax/Breakout-MinAtar"): "classic",
        (ppo, "gymnax/CartPole-v1"): "classic",
    }
    for (module, env), preset in chosen.items():
        assert preset_for(env, module.presets) == preset
    assert preset_for("brax/hopper", a2pr.presets, "data/hopper-medium-replay-v2.hdf5") == "hopper_medium_replay"
    assert preset_for("brax/hopper", prdc.presets, "data/hopper-medium.npz") == "hopper"
    assert preset_for("own/maze", prdc.presets, "antmaze-umaze-diverse-v2.hdf5") == "antmaze"
