"""benchmarks/accelerator.py: what it counts, what it writes, and that a command cut off leaves whole lines."""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

ROOT = Path(__file__).parent.parent
sys.path += [str(ROOT / "benchmarks"), str(ROOT / "benchmarks" / "workers")]

import costs  # noqa: E402
import device_tables  # noqa: E402

import rlzoo  # noqa: E402

SCRIPT = [sys.executable, str(ROOT / "benchmarks" / "accelerator.py"), "--scale", "0.01"]


def test_products_are_counted_through_loops_and_branches():
    def loop(x):
        return jax.lax.scan(lambda x, _: (x @ x, None), x, None, 5)[0]

    square = jax.ShapeDtypeStruct((8, 8), jnp.float32)
    each = costs.Cost(2 * 8**3, 3 * 4 * 64)
    assert costs.products(loop, square) == each.times(5)
    assert costs.products(jax.jit(jax.vmap(loop)), jax.ShapeDtypeStruct((3, 8, 8), jnp.float32)) == each.times(15)
    branch = lambda x: jax.lax.cond(x[0, 0] > 0, loop, lambda x: x @ x, x)  # noqa: E731
    assert costs.products(branch, square) == each.times(5)


def test_convolutions_count_their_kernel():
    def image(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2, 10, 10, 4), (3, 3, 4, 16))]
    assert costs.products(image, *shapes).flop == 2 * (2 * 10 * 10 * 16) * (3 * 3 * 4)


def test_kernels_in_a_loop_count_as_often_as_it_runs():
    def program(length):
        body = lambda x, _: (jnp.sort(jnp.sin(x @ x), axis=0), None)  # noqa: E731
        return jax.jit(lambda x: jax.lax.scan(body, x, None, length)[0]).lower(jnp.ones((64, 64))).compile()

    few, many = (costs.launches(program(n).as_text()) for n in (10, 30))
    assert few["sort"] == 10 and many["sort"] == 30
    once = sum(few.values()) - (sum(many.values()) - sum(few.values())) / 2  # what the loop has nothing to do with
    assert 0 <= once <= 10


@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_what_is_to_learn_can_be_made_and_has_updates(scale, monkeypatch):
    """Every job's structure is allowed; protagonists of one game have as many iterations, whoever opposes them."""
    for name in ("JAX_PLATFORMS", "XLA_PYTHON_CLIENT_PREALLOCATE"):  # which the script sets for its own process
        monkeypatch.setenv(name, os.environ.get(name, ""))
    import accelerator

    found = accelerator.jobs(argparse.Namespace(scale=scale, agents=None, only=["learning"]), 1)
    assert {"PPO halfcheetah", "SAC ant", "PRDC hopper-medium", "A2PR hopper-medium"} < {job.name for job in found}
    protagonist = set()
    for job in found:
        module = rlzoo.ALGORITHMS[job.case["algorithm"]]
        chosen = module.presets[job.case["preset"]].config if "preset" in job.case else module.Config()
        config = dataclasses.replace(chosen, **job.case["config"])
        if "behaviour" in job.case:
            sac = rlzoo.sac.Config(**job.case["behaviour"]["config"])
            assert (job.case["behaviour"]["steps"] - sac.warmup) // sac.num_envs >= job.case["behaviour"]["snapshots"]
        if module is rlzoo.qarl:
            phases = 1 if config.opponent == "none" else 2
            protagonist.add(job.case["steps"] // (phases * config.num_episodes * 500))
    assert protagonist == {max(1, round(200 * scale))}


ABOUT = {"stage": "about", "device": "a device", "precision": "highest", "flags": "", "command": "python x.py"}
ABOUT |= {"commit": "0", "date": "today", "jax": "0", "cores": 2}


def lines(path, *given):
    path.write_text("".join(json.dumps(line) + "\n" for line in given))
    return path


def test_a_cut_line_is_left_out_and_what_was_measured_later_replaces(tmp_path):
    rate = {"stage": "peaks", "name": "copy", "unit": "B/s"}
    failed = {"stage": "right", "name": "ppo", "error": "why"}
    path = lines(tmp_path / "a", ABOUT, rate | {"rate": 1e12}, failed)
    path.write_text(path.read_text() + '{"stage": "fast", "na')
    first = device_tables.read(path)
    assert [line["name"] for line in first] == ["copy", "ppo"] and first[0]["about"] == ABOUT
    assert "| right: ppo | why |" in device_tables.sections(first)

    there = {"stage": "right", "name": "ppo", "params": 1e-6, "state": 1e-5, "resumes_bit_for_bit": True}
    other = ABOUT | {"commit": "1"}
    later = lines(tmp_path / "b", other, rate | {"rate": 2e12}, there | {"whole_numbers_that_differ": 0})
    device_tables.merge(path, device_tables.read(later))
    merged = device_tables.read(path)
    assert [(line.get("rate"), line["about"]["commit"]) for line in merged] == [(2e12, "1"), (None, "1")]
    text = "\n".join(device_tables.sections(merged))
    assert "| ppo | 1.0e-06 | 1.0e-05 | 0 | yes |  |" in text and "not there" not in text and "copy 2 TB/s" in text


def test_what_failed_is_a_line_and_an_exit_code(tmp_path):
    command = [*SCRIPT, "--minutes", "1", "--only", "peaks", "--out", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"XLA_FLAGS": ""})
    assert result.returncode == 0, result.stdout + result.stderr
    found = device_tables.read(tmp_path / "accelerator.jsonl")
    assert {line["name"] for line in found} == {"float32", "tf32", "bfloat16", "copy"}
    assert all(line["rate"] > 0 for line in found) and "all is there" in result.stdout

    nothing = [*SCRIPT, "--minutes", "0.1", "--only", "CPL", "--out", str(tmp_path / "none")]
    result = subprocess.run(nothing, cwd=ROOT, capture_output=True, text=True)
    (line,) = device_tables.read(tmp_path / "none" / "accelerator.jsonl")
    assert result.returncode == 1 and "not reached in the time" in line["error"] and "CPL" in result.stdout


@pytest.mark.slow
def test_the_whole_of_it_on_a_processor_and_cut_off(tmp_path):
    """Every stage has its lines in the time, those not reached too; killed, it leaves whole lines."""
    environment = {name: x for name, x in os.environ.items() if name != "XLA_FLAGS"}
    began = time.monotonic()
    whole = subprocess.run([*SCRIPT, "--minutes", "3", "--out", str(tmp_path / "whole")], cwd=ROOT, env=environment)
    assert whole.returncode in (0, 1) and time.monotonic() - began < 200
    found = device_tables.read(tmp_path / "whole" / "accelerator.jsonl")
    assert {line["stage"] for line in found} == {"peaks", "right", "fast", "learning"}

    cut = subprocess.Popen([*SCRIPT, "--minutes", "3", "--out", str(tmp_path / "cut")], cwd=ROOT, env=environment)
    time.sleep(60)
    cut.kill()
    cut.wait()
    path = tmp_path / "cut" / "accelerator.jsonl"
    assert all(json.loads(text) for text in path.read_text().splitlines())
    assert device_tables.sections(device_tables.read(path))
