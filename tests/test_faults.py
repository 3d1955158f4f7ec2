"""What goes wrong on real machines: kills, full disks, damaged files, processes that do not come or that die."""

import gc
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import faults_worker
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_same_bits, free_port
from hypothesis import given, settings
from hypothesis import strategies as st

import rlzoo
from rlzoo import lock
from rlzoo.drivers import checkpoint, devices

WORKER = Path(__file__).with_name("faults_worker.py")
KEYS = jax.random.split(jax.random.key(0), 2)


@pytest.fixture(scope="module")
def runs():
    return faults_worker.sweep()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Compiled programs of the workers: of a killed one the next need not compile again."""
    return str(tmp_path_factory.mktemp("cache"))


def start(cache, directory, num_updates, *processes, before="", **options):
    """A worker; ``before`` is run in it first."""
    script = f"import sys; sys.argv[1:] = {list(map(str, (directory, num_updates, *processes)))!r}\n{before}\n"
    script += f"sys.path.insert(0, {str(WORKER.parent)!r})\nimport faults_worker\nfaults_worker.main()\n"
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache, "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, "-c", script], env=environment, **pipes, **options)


def finish(worker, timeout=300):
    said, _ = worker.communicate(timeout=timeout)
    return said


def go_on(runs, directory, num_updates):
    """What a worker does, here."""
    there = checkpoint.any_in(directory / "checkpoints")
    options = {"report_every": faults_worker.CHUNK, "eval_episodes": 0, "sinks": ("csv",), "quiet": True}
    return rlzoo.run(runs, KEYS, num_updates, directory=directory, resume=there, **options)


def saves(directory):
    """The newest complete save, as its number; 0: none."""
    names = [path.name for path in (directory / "checkpoints").glob("save_*")]
    return max((int(name[5:]) for name in names if name[5:].isdigit()), default=0)


# --- kills -----------------------------------------------------------------------------------------------------------


def killed_and_resumed(runs, cache, directory, num_updates, kills):
    """Kill at random moments of a run, most of whose time are saves; then let it end. How many were inside a save."""
    rng, inside = random.Random(0), 0
    for number in range(kills):
        before = saves(directory)
        worker = start(cache, directory, num_updates)
        while saves(directory) < before + 2 and worker.poll() is None:
            time.sleep(0.002)
        time.sleep(rng.uniform(0.0, 0.3))
        worker.send_signal(signal.SIGKILL)
        said = finish(worker)
        assert worker.returncode == -signal.SIGKILL, f"kill {number}: {said[-3000:]}"
        inside += any("tmp" in path.name for path in (directory / "checkpoints").iterdir())
    worker = start(cache, directory, num_updates)
    assert "over" in finish(worker), "the run that goes on does not end"
    whole = go_on(runs, directory.with_name("whole"), num_updates)
    assert_same_bits(rlzoo.load(directory / "checkpoints", runs), whole.state)
    rows = [rlzoo.report.sinks.read_csv(path / "log.csv") for path in (directory, directory.with_name("whole"))]
    assert str(rows[0]) == str(rows[1])  # no line is missing, and none is there twice
    return inside


def test_killed_at_any_moment_a_run_goes_on_bit_for_bit(runs, cache, tmp_path):
    killed_and_resumed(runs, cache, tmp_path / "killed", 60, 1)


@pytest.mark.soak
def test_killed_at_fifty_moments_a_run_goes_on_bit_for_bit(runs, cache, tmp_path):
    assert killed_and_resumed(runs, cache, tmp_path / "killed", 1500, 50) > 5


# --- disks -----------------------------------------------------------------------------------------------------------

FULL = """
import resource
from rlzoo.drivers.checkpoint import Checkpoints
save = Checkpoints.save
def limited(self, state):
    if int(state.step) == 8:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
    save(self, state)
Checkpoints.save = limited
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="the system has no such limit")
def test_a_full_disk_ends_the_run_with_what_was_saved_whole(runs, cache, tmp_path):
    """Files cannot grow any more from one save on: the error says what is left, and from there the run goes on."""
    worker = start(cache, tmp_path, 20, before=FULL)
    said = finish(worker)
    assert worker.returncode == 1
    assert "OSError: a checkpoint could not be written to" in said and "File too large" in said
    assert "what was saved before is whole: save_" in said and "; make room, and resume" in said
    assert 4 <= int(rlzoo.load(tmp_path / "checkpoints", runs).step) <= 8
    assert_same_bits(go_on(runs, tmp_path, 20).state, rlzoo.train(runs, KEYS, 20)[0])


@pytest.fixture(scope="module")
def saved(runs, tmp_path_factory):
    """Two saves, and what is in them."""
    path, states = tmp_path_factory.mktemp("saved"), []
    for updates in (2, 4):
        states.append(rlzoo.train(runs, KEYS, updates)[0])
        rlzoo.save(path, runs, states[-1])
    return path, states


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_checkpoint_is_never_taken_for_a_whole_one(runs, saved):
    """Bytes changed or cut off in any file of the newest save: it is read as it was, or the one before it is.

    The files of orbax have no checksums of their own: without ours one in fifty of such changes is not noticed.
    """
    path, (older, newer) = saved
    files = sorted(x for x in (path / "save_2").rglob("*") if x.is_file() and x.stat().st_size)

    @settings(max_examples=40, deadline=None)
    @given(draw=st.data())
    def damage_and_load(draw):
        file = draw.draw(st.sampled_from(files))
        whole = file.read_bytes()
        content = bytearray(whole)
        for _ in range(draw.draw(st.integers(1, 3))):
            content[draw.draw(st.integers(0, len(content) - 1))] ^= draw.draw(st.integers(1, 255))
        file.write_bytes(content[: draw.draw(st.none() | st.integers(0, len(content)))])
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                found = rlzoo.load(path, runs)
            passed_over = any("cannot be read and was passed over: save_2" in str(x.message) for x in said)
            assert_same_bits(found, older if passed_over else newer)
        finally:
            file.write_bytes(whole)

    damage_and_load()
    gc.collect()  # orbax's own threads have failed too, and say so when they go
    assert_same_bits(rlzoo.load(path, runs), newer)


def test_checksums_find_every_changed_word_and_are_the_same_anywhere(monkeypatch):
    key = jax.random.key(1)
    tree = {
        "f": jax.random.normal(key, (5, 7)),
        "i": jnp.arange(6, dtype=jnp.int32),
        "b": jnp.array([True, False, True]),
        "u": jnp.arange(5, dtype=jnp.uint8),
        "k": jax.random.split(key, 3),
        "s": jnp.float32(3.0),
        "h": jnp.arange(4, dtype=jnp.bfloat16),
        "c": jnp.array([1.0 + 2.0j, 3.0]),
        "n": jnp.arange(-3, 4).astype(jnp.int4),
        "z": jnp.zeros((0, 3)),
    }
    sums = checkpoint._checksums(tree)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "SMALL", -1)  # by a program, as large leaves are
        assert checkpoint._checksums(tree) == sums
    assert len(set(sums)) == len(tree) and sums == checkpoint._checksums(jax.tree.map(jnp.copy, tree))
    names = sorted(tree)
    for name, change in (
        ("f", lambda x: x.at[2, 3].multiply(-1)),
        ("f", lambda x: x.at[0].set(x[1]).at[1].set(x[0])),  # two rows change places
        ("i", lambda x: x.at[5].add(1)),
        ("b", lambda x: ~x),
        ("u", lambda x: x[::-1]),
        ("k", lambda x: x[::-1]),
        ("s", lambda x: -x),
    ):
        other = checkpoint._checksums(tree | {name: change(tree[name])})
        assert [a == b for a, b in zip(sums, other, strict=True)] == [x != name for x in names]
    # The definition, for one leaf, in NumPy.
    words, place = np.asarray(tree["f"]).view(np.uint32).ravel(), np.arange(35, dtype=np.uint32)
    (a, b), _ = checkpoint.MIXERS
    factor = ((place * np.uint32(a)) ^ (place >> 15)) * np.uint32(b) | np.uint32(1)
    assert sums[names.index("f")][:8] == f"{int((words * factor).sum(dtype=np.uint32)):08x}"


def test_files_written_in_one_step(tmp_path, monkeypatch):
    """An error in between leaves the old file, and no draft."""
    from rlzoo import files

    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        files.write_json(path, {"a": object()})
    with pytest.raises(RuntimeError), files.whole(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert files.read_json(path) == {"a": 1} and [x.name for x in tmp_path.iterdir()] == ["a.json"]
    monkeypatch.setattr(os, "fsync", lambda number: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        files.write_json(path, {"a": 2})
    assert files.read_json(path) == {"a": 1} and [x.name for x in tmp_path.iterdir()] == ["a.json"]


def test_a_save_that_fails_says_what_it_needs_and_what_is_free(runs, tmp_path, monkeypatch):
    state = rlzoo.init(runs, KEYS)
    for error, remedy in (("No space left on device", "make room"), ("Permission denied", "mend that")):

        def fails(*_, error=error, **__):
            raise OSError(error)

        with pytest.raises(OSError) as said, checkpoint.Checkpoints(tmp_path / remedy, runs) as saves:
            monkeypatch.setattr(saves._manager, "save", fails)
            saves.save(state)
        text = (
            rf"OSError: {error}; none was saved before; a save takes \d\S* KiB, and .*iB are free in .*; {remedy}, and"
        )
        assert re.search(text, str(said.value)), said.value


# --- one writer ------------------------------------------------------------------------------------------------------

HOLDER = """
import sys, time
from pathlib import Path
from rlzoo import lock
with lock.held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_directory_has_one_writer_and_a_dead_one_is_not_in_the_way(tmp_path, monkeypatch, capfd):
    directory = tmp_path / "new" / "run"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(directory)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    who = f"is in use by process {holder.pid} on {socket.gethostname()} since 20"
    with pytest.raises(ValueError, match=who), lock.held(directory):
        pass
    holder.kill()
    holder.communicate()
    assert (directory / lock.FILE).exists()
    with lock.held(directory), lock.held(directory):  # and once more in the same thread
        assert f'"process": {os.getpid()}' in (directory / lock.FILE).read_text()
        others = list[str]()

        def other():
            try:
                with lock.held(directory):
                    pass
            except ValueError as error:
                others.append(str(error))

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert f"process {os.getpid()} on" in others[0]
    assert [path.name for path in directory.iterdir()] == []  # which another process had made
    shutil.rmtree(tmp_path / "new")
    with lock.held(directory):
        pass
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("system", ["flock", "none"])
def test_a_lock_of_another_host_holds_while_it_gives_signs_of_life(tmp_path, monkeypatch, system):
    monkeypatch.setattr(lock, "DEAD", 0.5)
    monkeypatch.setattr(lock, "BEAT", 0.05)
    if system == "none":
        monkeypatch.setattr(lock, "_flock", lambda file: None)
    path = tmp_path / lock.FILE
    stop = threading.Event()

    def left(**about):
        path.write_text(json.dumps({"host": "elsewhere", "process": 7, "since": "then"} | about))

    left()
    file = os.open(path, os.O_RDONLY)
    alive = threading.Thread(target=lock._beat, args=(path, file, stop))
    alive.start()
    message = "is in use by process 7 on elsewhere since then; wait until it is over"
    with pytest.raises(ValueError, match=message), lock.held(tmp_path):
        pass
    stop.set()
    alive.join()
    os.close(file)
    with lock.held(tmp_path):  # no sign of life any more
        before = path.stat().st_mtime
        time.sleep(0.2)
        assert path.stat().st_mtime > before  # ours are given
    left()
    os.utime(path, (0, 0))
    began = time.monotonic()
    with lock.held(tmp_path):
        assert time.monotonic() - began < 0.4
    for content in ("", "{", "[1]", '{"host": 3}'):  # whatever a kill leaves
        path.write_text(content)
        os.utime(path, (0, 0))
        with lock.held(tmp_path):
            pass
    left(host=socket.gethostname(), process=os.getppid())
    if system == "none":
        with pytest.raises(ValueError, match=f"is in use by process {os.getppid()}"), lock.held(tmp_path):
            pass
    else:
        with lock.held(tmp_path):
            pass


# --- signals to the command line -------------------------------------------------------------------------------------


def command(cache, *words):
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-m", "rlzoo", *words], env=environment, **pipes)


def caught(process, number):
    """Whether a process handles a signal by now."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    mask = int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16)
    return bool(mask >> (number - 1) & 1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say which signals are caught")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_imports_ends_in_one_line(cache, number):
    process = command(cache, "list")
    while not caught(process, signal.SIGTERM):  # of Python's own there is none
        time.sleep(0.002)
    process.send_signal(number)
    said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert said == ("", f"rlzoo: stopped by {number.name}; what was saved before is whole\n")


def test_signals_before_the_first_chunk_and_twice_end_in_one_line_and_the_run_goes_on(cache, tmp_path):
    small = "--config.num-envs 4 --config.num-steps 16 --config.num-epochs 1 --config.num-minibatches 2"
    steps = "--steps 64000000 --report-every 20 --eval-episodes 0 --sinks csv"
    asked = f"train ppo --env probe/constant-reward {small} --config.hidden 8 {steps} --directory {tmp_path / 'run'}"
    again = f"go on with: rlzoo train --directory {tmp_path / 'run'} --resume\n"

    process = command(cache, *asked.split())
    while not (tmp_path / "run" / "run.json").exists():  # and now it compiles
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 143 and err.endswith(f"stopped by SIGTERM; what was saved before is whole; {again}")
    assert "Traceback" not in err and not saves(tmp_path / "run")

    process = command(cache, "train", "--directory", str(tmp_path / "run"), "--resume")
    while saves(tmp_path / "run") < 2:
        assert process.poll() is None
        time.sleep(0.01)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.001)
    out, err = process.communicate(timeout=120)
    assert "this is the beginning" in out and process.returncode == 130 and "Traceback" not in err
    assert again in (out + err).replace("Go on", "go on")  # two signals at once may arrive as one: the first

    process = command(cache, "train", "--directory", str(tmp_path / "run"), "--resume")
    before = saves(tmp_path / "run")
    while saves(tmp_path / "run") < before + 1:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert (
        process.returncode == 143 and "; saved. Go on with: rlzoo train --directory" in out and "Traceback" not in err
    )
    found = rlzoo.restore(tmp_path / "run")
    keys = jax.random.split(jax.random.key(0), 1)
    done = int(found.state.step)
    assert done % 20 == 0
    state = rlzoo.init(found.algo, keys)
    for _ in range(done // 20):
        state, _ = rlzoo.resume(found.algo, state, 20)
    assert_same_bits(found.state, state)


# --- several processes -----------------------------------------------------------------------------------------------


def test_a_coordinator_that_is_not_there(monkeypatch):
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"the coordinator at 127.0.0.1:\d+ cannot be reached within 1 s .*is pro"):
        rlzoo.connect(f"127.0.0.1:{free_port()}", 2, 1, timeout=1)
    assert time.monotonic() - began < 5.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("10.0.0.1:1234",), "num_processes and process_id missing; give all of coordinator, num_processes"),
        (("10.0.0.1", 2, 0), "coordinator is '10.0.0.1'; it must be host:port"),
        (("10.0.0.1:99999", 2, 0), "it must be host:port"),
        (("10.0.0.1:1234", 2, 2), "process_id=2 of num_processes=2; it must be 0 or more, and less"),
    ],
)
def test_wrong_ways_to_connect(arguments, message):
    with pytest.raises(ValueError, match=message):
        rlzoo.connect(*arguments)


def two_at_work(cache, directory):
    """Two processes that train one sweep, once they have saved three times."""
    port = free_port()
    workers = [start(cache, directory, 20_000, number, 2, port) for number in (0, 1)]
    while saves(directory) < 3 and all(worker.poll() is None for worker in workers):
        time.sleep(0.01)
    return workers


@pytest.mark.soak
def test_of_two_processes_one_is_killed_and_the_job_goes_on_with_one(runs, cache, tmp_path):
    """The other ends by itself, and says why; one process goes on from what both had saved."""
    workers = two_at_work(cache, tmp_path)
    workers[1].send_signal(signal.SIGKILL)
    began = time.monotonic()
    said = finish(workers[0], timeout=120)
    finish(workers[1])
    assert workers[0].returncode != 0 and time.monotonic() - began < 60
    assert "cannot reach the others" in said or "The tasks have crashed" in said, said[-3000:]
    reached = int(rlzoo.load(tmp_path / "checkpoints", runs).step)
    assert reached >= 4
    found, whole = go_on(runs, tmp_path, reached + 10).state, rlzoo.train(runs, KEYS, reached + 10)[0]
    assert int(found.step) == reached + 10
    np.testing.assert_array_equal(jax.random.key_data(found.key), jax.random.key_data(whole.key))


@pytest.mark.soak
def test_of_two_processes_one_is_asked_to_stop_and_both_do(runs, cache, tmp_path):
    workers = two_at_work(cache, tmp_path)
    workers[1].send_signal(signal.SIGTERM)
    for worker in workers:
        assert "interrupted" in finish(worker) and worker.returncode == 0
    assert int(rlzoo.load(tmp_path / "checkpoints", runs).step) < 20_000


@pytest.mark.soak
def test_process_0_waits_in_vain_and_ends():
    """JAX itself ends it, with a message, when the time is over."""
    script = f"import rlzoo; rlzoo.connect('127.0.0.1:{free_port()}', 2, 0, timeout=5)"
    began = time.monotonic()
    waiting = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert waiting.returncode != 0 and time.monotonic() - began < 60
    assert "waiting up to 5 s" in waiting.stderr and "DEADLINE_EXCEEDED" in waiting.stderr
    assert devices.HEARTBEAT == 30
