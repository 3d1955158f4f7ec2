"""Every file that the library reads, with fields of wrong types, sizes, nesting and texts: it is read, or refused.

Refused is: a `ValueError` or an `OSError` that names the file, within 10 seconds, and with no more than 512 MiB on the
way. The files are sound in their form, unlike those of damaged bytes in the tests of each reader. A few hundred cases
run by default, always the same; 10,000 others in the slow suite.
"""

import contextlib
import csv
import io
import json
import shutil
import signal
import sys
import time
import warnings
import zipfile
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import rlzoo
from rlzoo import cli, data
from rlzoo.drivers import runfile, study
from rlzoo.drivers import settings as sweep_files
from rlzoo.report import sinks

MOST, SECONDS = 512 * 2**20, 10.0  # of one case
MEMORY = 128 * 2**20  # that the device is said to have

# --- what a case may do -----------------------------------------------------------------------------------------------


class Late(BaseException):
    """A case that did not end."""


@contextlib.contextmanager
def in_bounds():
    """Fail if what runs inside takes longer, or more memory, than a case may."""

    def late(number, frame):
        raise Late(f"not over after {2 * SECONDS:.0f} s")

    before, began, handler = resident("VmRSS"), time.monotonic(), signal.signal(signal.SIGALRM, late)
    reset_peak()
    signal.setitimer(signal.ITIMER_REAL, 2 * SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert time.monotonic() - began < SECONDS
    assert resident("VmHWM") - before < MOST


def resident(what):
    """Bytes of this process, now or at their peak; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(what)), 0)


def reset_peak():
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def read_or_refused(read, *names):
    """What a file gives, or None if it is refused as it should be."""
    with in_bounds(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return read()
        except (ValueError, OSError) as error:
            text, cause = str(error), error
            while cause is not None:  # not refused, but attempted
                assert not isinstance(cause, MemoryError | Late), text
                cause = cause.__cause__
            assert any(str(name) in text for name in names), f"{text!r} names none of {names}"
    return None


def cases(default, slow):
    """A test of a strategy twice: some cases by default, always the same, and more in the slow suite."""

    def of(test):
        # What fails is small as it is: to look for something smaller takes minutes, where cases take long.
        alike = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
        alike |= {"phases": [Phase.generate], "report_multiple_bugs": False}
        some = settings(max_examples=default, derandomize=True, **alike)
        many = settings(max_examples=slow, **alike)
        module = sys.modules[test.__module__]
        name, body = test.__name__, given(st.data())(test)
        marked = pytest.mark.slow(seed(20_261_126)(many(given(st.data())(test))))
        marked.__name__ = f"{name}_slow"
        setattr(module, marked.__name__, marked)
        return some(body)

    return of


# --- values -----------------------------------------------------------------------------------------------------------

WORDS = (
    "",
    " ",
    "a",
    "\0",
    "é",
    "../../etc/passwd",
    "1e400",
    "nan",
    "-1",
    "true",
    "null",
    "[1]",
    "{}",
    "%s",
    "a" * 5000,
)
NUMBERS = (0, -1, 1, 2, 2**31, -(2**31) - 1, 2**53 + 1, 2**63, 10**12, 10**30, 0.5, -0.0, 1e-320, 1e39, 1e308)
NAMES = ("ppo", "bc", "cpl", "gymnax/CartPole-v1", "gymnax/Pendulum-v1", "brax/hopper", "probe/truncation-only", "grid")


def nested(depth, of):
    return of if depth == 0 else [nested(depth - 1, of)]


JUNK = st.one_of(
    st.sampled_from([None, True, False, float("inf"), float("-inf"), float("nan")]),
    st.sampled_from(NUMBERS),
    st.sampled_from(WORDS + NAMES),
    st.text(max_size=8),
    st.integers(-5, 5),
    st.recursive(st.sampled_from(NUMBERS + WORDS[:6] + (None,)), lambda x: st.lists(x, max_size=3), max_leaves=4),
    st.dictionaries(
        st.sampled_from(("low", "high", "type", "a", "")), st.sampled_from(NUMBERS + WORDS[:6]), max_size=3
    ),
    st.builds(nested, st.sampled_from((1, 5, 90)), st.sampled_from((0, "a"))),
    st.builds(lambda x, n: [x] * n, st.sampled_from((0, 0.5, "a", None)), st.sampled_from((0, 2, 1000))),
)


def changed(draw, value, junk=JUNK):
    """A document of dictionaries and lists, in which something, somewhere, is something else, missing or added."""
    if isinstance(value, dict) and value and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(sorted(value)))
        how = draw(st.integers(0, 9))
        if how == 0:
            return {name: x for name, x in value.items() if name != key}
        if how == 1:
            return value | {draw(st.sampled_from(("other", "", "é", "__class__"))): draw(junk)}
        if how == 2:
            return value | {key: value[draw(st.sampled_from(sorted(value)))]}
        return value | {key: changed(draw, value[key], junk)}
    if isinstance(value, list) and value and draw(st.integers(0, 4)):
        place = draw(st.integers(0, len(value) - 1))
        how = draw(st.integers(0, 5))
        if how == 0:
            return value[:place] + value[place + 1 :]
        if how == 1:
            return [*value, value[place]]
        return [*value[:place], changed(draw, value[place], junk), *value[place + 1 :]]
    return draw(junk)


def often_changed(draw, value, junk=JUNK):
    for _ in range(draw(st.integers(1, 3))):
        value = changed(draw, value, junk)
    return value


# --- arrays -----------------------------------------------------------------------------------------------------------

DTYPES = ("u1", "i1", "i8", "u8", "f2", "f4", "f8", "g", "?", "c8", "S4", "U3", "M8[s]", "m8[s]", "V8", "f4,f4")
SHAPES = ((), (0,), (1,), (6,), (7,), (6, 0), (6, 1), (6, 3), (0, 3), (3, 6), (6, 2, 2), (1, 6, 3), (1,) * 20)
HUGE = ((10**12,), (10**9, 3), (2**40, 1), (6, 10**10), (2**62,), (2**31, 2**31), (4 * 10**7,))
FILLS = (0, 1, 2, -1, 0.5, 255, 1e39, float("nan"), float("inf"))


@st.composite
def arrays(draw):
    dtype, shape = np.dtype(draw(st.sampled_from(DTYPES))), draw(st.sampled_from(SHAPES))
    fill = draw(st.sampled_from(FILLS))
    array = np.zeros(shape, dtype)
    if array.size and dtype.kind in "biuf":
        with np.errstate(all="ignore"):
            array.reshape(-1)[draw(st.integers(0, array.size - 1)) :] = np.asarray(fill).astype(dtype)
    return array


def touched(draw, array):
    """An array with one of its numbers, its type or its shape changed."""
    how = draw(st.integers(0, 4))
    if how == 0:
        return draw(arrays())
    with np.errstate(all="ignore"):
        if how == 1:
            return array.astype(draw(st.sampled_from(DTYPES[:9])))
        if how == 2:
            return array[draw(st.integers(0, len(array))) :]
        if how == 3:
            return array[..., None] if draw(st.booleans()) else np.concatenate([array, array])
        array = array.astype(np.float64)
    array.reshape(-1)[draw(st.integers(0, array.size - 1))] = draw(st.sampled_from(FILLS))
    return array


def changed_arrays(draw, good):
    found = dict(good)
    for _ in range(draw(st.integers(1, 3))):
        key = draw(st.sampled_from(sorted(good)))
        if draw(st.integers(0, 9)) == 0:
            found.pop(key, None)
        else:
            found[key] = touched(draw, good[key])
    return found


def npy(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=True)
    return file.getvalue()


def header(shape, descr="<f4"):
    """An array of which the header alone is there."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"shape": shape, "fortran_order": False, "descr": descr})
    return file.getvalue()


def write_npz(draw, path, good, about):
    """Members that differ from the good ones, as arrays, as headers alone, as no arrays, twice, or not at all."""
    found = changed_arrays(draw, good)
    with zipfile.ZipFile(path, "w", draw(st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))) as file:
        for key, array in found.items():
            how = draw(st.integers(0, 30))
            if how == 0:
                file.writestr(key, draw(st.binary(max_size=20)))
            elif how == 1:
                file.writestr(f"{key}.npy", draw(st.binary(max_size=20)))
            elif how == 2:
                file.writestr(f"{key}.npy", header(draw(st.sampled_from(HUGE)), draw(st.sampled_from(("<f4", "|u1")))))
            elif how == 3:
                file.writestr(f"{key}.npy", npy(np.array([{"a": 1}] * 6, dtype=object)))
            elif how == 4:
                file.writestr(f"{key}.npy", b"\x93NUMPY\x02\x00" + (2**32 - 1).to_bytes(4, "little") + b" " * 1000)
            elif how == 5:  # a bomb: bytes, of which each becomes a float32
                file.writestr(f"{key}.npy", header((6, 4 * 10**6), "|u1") + bytes(24 * 10**6), zipfile.ZIP_DEFLATED)
            else:
                file.writestr(f"{key}.npy", npy(array))
        if draw(st.booleans()):
            text = json.dumps(often_changed(draw, about)) if draw(st.booleans()) else draw(st.sampled_from(WORDS))
            odd = draw(st.sampled_from((np.array(text), np.array([text]), np.array(text.encode()), np.zeros(3))))
            file.writestr("about.npy", npy(odd))


def sound(dataset):
    """Of numbers that may be learned from."""
    assert all(np.isfinite(x).all() for x in (dataset.obs, dataset.action, dataset.reward, dataset.next_obs))
    assert len({len(x) for x in jax.tree.leaves(dataset)}) == 1 and bool(dataset.last[-1])
    assert not bool((dataset.terminated & ~dataset.last).any())
    for x in jax.tree.leaves(dataset):
        assert x.dtype in (jnp.float32, jnp.int32, jnp.bool_)


RNG = np.random.default_rng(0)
OBS = RNG.normal(size=(7, 3)).astype(np.float32)
ENDS = np.arange(6) == 5
DATASET = {"obs": OBS[:6], "next_obs": OBS[1:], "action": np.zeros((6, 1), np.float32), "reward": OBS[:6, 0]}
DATASET |= {"terminated": np.zeros(6, bool), "last": ENDS}
D4RL = {"observations": OBS[:6], "next_observations": OBS[1:], "actions": np.zeros((6, 1)), "rewards": OBS[:6, 0]}
D4RL |= {"terminals": ENDS, "timeouts": np.zeros(6, bool)}
PREFERENCES = {"obs": OBS[:6].reshape(3, 2, 3), "action": np.zeros((3, 2, 1), np.float32), "score": OBS[:3, 0]}
PREFERENCES |= {"first": np.array([0, 1]), "second": np.array([1, 2]), "label": np.array([0.0, 0.5])}
ABOUT = {"name": "own", "env": "", "random_score": -1.0, "expert_score": 2.0}


@pytest.fixture(autouse=True)
def little_memory(monkeypatch):
    monkeypatch.setattr(data.dataset, "device_memory", lambda: MEMORY)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@cases(80, 2500)
def test_npz(place, draw):
    path = place / "own.npz"
    write_npz(draw.draw, path, DATASET, ABOUT)
    found = read_or_refused(lambda: data.load(path), "own.npz")
    if found is not None:
        sound(found)


@cases(60, 1500)
def test_preferences(place, draw):
    path = place / "prefs.npz"
    write_npz(draw.draw, path, PREFERENCES, ABOUT)
    found = read_or_refused(lambda: data.preferences.load(path), "prefs.npz")
    if found is not None:
        assert int(found.first.max()) < found.num_segments and bool(jnp.isfinite(found.obs).all())


def write_hdf5(draw, file, found):
    for key, array in found.items():
        how = draw(st.integers(0, 20))
        if how == 0:  # kilobytes that stand for much more
            shape = draw(st.sampled_from(((10**9,), (10**9, 3), (6, 10**8), (3 * 10**7,), (2**40,))))
            file.create_dataset(key, shape, draw(st.sampled_from(("u1", "f4", "f8"))), chunks=True, compression="gzip")
        elif how == 1:
            file[key] = h5py.Empty("f")
        elif how == 2:
            file.create_group(key)["x"] = 1
        elif how == 3:
            file[key] = draw(st.sampled_from(("text", ["a", "b"], b"bytes")))
        elif how == 4:
            file[key] = h5py.SoftLink(draw(st.sampled_from(("/nowhere", "/", f"/{key}"))))
        elif array.dtype.kind in "biuf":
            file[key] = array
        else:
            file[key] = np.array([b"a"] * 6)


@cases(80, 2000)
def test_hdf5(place, draw):
    path = place / draw.draw(st.sampled_from(("own.hdf5", "hopper_medium-v2.hdf5")))
    with h5py.File(path, "w") as file:
        write_hdf5(draw.draw, file, changed_arrays(draw.draw, D4RL))
    rule = draw.draw(st.sampled_from(data.d4rl.RULES))
    found = read_or_refused(lambda: data.load(path, rule=rule), path.name)
    if found is not None:
        sound(found)


# --- Minari -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def minari_folder(place):
    """A Minari dataset of two episodes, and the text of its metadata."""
    pytest.importorskip("minari")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(place))
        dataset = data.Dataset(**{key: jnp.asarray(x) for key, x in DATASET.items()}, about=data.About(*ABOUT.values()))
        dataset = dataset.replace(last=dataset.last.at[2].set(True))
        data.minari.save("me/own-v0", dataset, rlzoo.envs.make("gymnax/Pendulum-v1"))
    folder = place / "me" / "own-v0" / "data"
    return folder, json.loads((folder / "metadata.json").read_text()), (folder / "main_data.hdf5").read_bytes()


@cases(60, 1500)
def test_minari(minari_folder, draw):
    folder, about, content = minari_folder
    about = dict(about)
    if draw.draw(st.booleans()):
        space = draw.draw(st.sampled_from(("observation_space", "action_space")))
        about[space] = json.dumps(often_changed(draw.draw, json.loads(about[space])))
    if draw.draw(st.booleans()):
        about = often_changed(draw.draw, about)
    (folder / "metadata.json").write_text(json.dumps(about))
    (folder / "main_data.hdf5").write_bytes(content)
    if draw.draw(st.booleans()):
        with h5py.File(folder / "main_data.hdf5", "a") as file:
            episode = file[draw.draw(st.sampled_from(("episode_0", "episode_1")))]
            key = draw.draw(st.sampled_from(("observations", "actions", "rewards", "terminations", "truncations")))
            array = touched(draw.draw, episode[key][()])
            del episode[key]
            write_hdf5(draw.draw, episode, {key: array})
    found = read_or_refused(lambda: data.load(folder.parent), "own-v0")
    if found is not None:
        sound(found)


# --- text -------------------------------------------------------------------------------------------------------------

SWEEP = {
    "algorithm": "ppo",
    "env": "gymnax/CartPole-v1",
    "steps": 100_000,
    "seeds": 8,
    "seed": 0,
    "hyper": {"learning_rate": {"low": 1e-4, "high": 1e-2, "scale": "log"}, "entropy_coef": [0.0, 0.01]},
    "config": {"num_envs": [16, 32], "hidden": [[64, 64], [32]]},
    "params": {"length": [0.5, 1.0]},
    "sampler": "sobol",
    "samples": 32,
    "halving": {"eta": 2, "least": 1},
    "report_every": 5,
    "sinks": ["csv"],
}
FRAGMENTS = (
    "seeds: &a 8\nseed: *a",
    "hyper: !!python/object/apply:os.system ['true']",
    "hyper: !!set {a, b}",
    "samples: !!binary aGVsbG8=",
    "samples: 2026-11-26",
    "samples: 1:30:00",
    "samples: 0o17",
    "samples: .inf",
    "<<: {seeds: 2}",
    "? [a, b]\n: 1",
    "1: 2",
    "hyper: " + "[" * 900 + "]" * 900,
    "hyper: " + "{a: " * 900 + "1" + "}" * 900,
    "seeds: " + "1" * 5000,
    "a: b: c",
    "\t- x",
    "--- \n---\n",
    "%YAML 9.9\n---\nseeds: 1",
    "\ufeffseeds: 3",
    "env: \ud7ff",
)


@cases(80, 1000)
def test_sweep_files(place, draw):
    path = place / "sweep.yaml"
    text = yaml.safe_dump(often_changed(draw.draw, SWEEP))
    if draw.draw(st.integers(0, 3)) == 0:
        text = "\n".join(
            [yaml.safe_dump({"algorithm": "ppo", "env": "gymnax/CartPole-v1"}), draw.draw(st.sampled_from(FRAGMENTS))]
        )
    path.write_bytes(text.encode(draw.draw(st.sampled_from(("utf-8", "utf-16", "latin-1"))), "replace"))
    found = read_or_refused(lambda: sweep_files.read(path), "sweep.yaml")
    if found is not None:
        assert isinstance(found, sweep_files.Study) and sweep_files.configs(found)


RUN = {
    "algorithm": "ppo",
    "env": "gymnax/CartPole-v1",
    "env_options": {},
    "data": None,
    "data_rule": None,
    "config": {
        "num_envs": 4,
        "num_steps": 8,
        "num_minibatches": 2,
        "num_epochs": 1,
        "hidden": [8],
        "activation": "tanh",
    },
    "hyper": {"learning_rate": [1e-3, 1e-2], "gamma": [0.99]},
    "seeds": 2,
    "seed": 0,
    "steps": 64,
    "begin": None,
}


def written_json(draw, path, value):
    """As JSON; now and then cut, or with something before or behind it."""
    text = json.dumps(value)
    how = draw(st.integers(0, 12))
    if how == 0:
        text = text[: draw(st.integers(0, len(text)))]
    elif how == 1:
        text = draw(
            st.sampled_from(("", "[" * 5000, "{" * 10, "1" * 5000, '"\\ud800"', "NaN", "[]", '{"a": 1}{}', "null"))
        )
    path.write_bytes(text.encode(draw(st.sampled_from(("utf-8",) * 8 + ("utf-16", "utf-8-sig")))))


@cases(40, 600)
def test_run_json(place, draw):
    directory = place / "run"
    directory.mkdir(exist_ok=True)
    written_json(draw.draw, directory / "run.json", often_changed(draw.draw, RUN))

    def read():
        about = runfile.read(directory)
        return cli._rebuilt(directory, about, None), cli._labels(about), cli._keys(about)

    found = read_or_refused(read, "run.json")
    if found is not None:
        assert found[0].num_hypers == len(found[1])


LOG = ("update", "env_steps", "setting", "seed", "hyper/gamma", "eval/return", "loss/policy")
CELLS = st.one_of(
    st.sampled_from(
        ("", "nan", "inf", "-inf", "-1", "0.5", "1e400", "9" * 400, "1e12", "1_000", "a", "é", '"', "\0", "0x1f")
    ),
    st.integers(-3, 10**13).map(str),
)


def table(draw, columns, rows):
    """A table in CSV, with cells, columns and rows that are others, too many or missing."""
    columns, rows = list(columns), [list(row) for row in rows]
    for _ in range(draw(st.integers(0, 4))):
        how = draw(st.integers(0, 6))
        row = rows[draw(st.integers(0, len(rows) - 1))]
        if how == 0:
            columns[draw(st.integers(0, len(columns) - 1))] = draw(
                st.sampled_from(("", "é", "seed", "other", "eval/return"))
            )
        elif how == 1:
            row.append(draw(CELLS))
        elif how == 2 and row:
            row.pop(draw(st.integers(0, len(row) - 1)))
        elif how == 3:
            rows.append(list(row))
        elif row:
            row[draw(st.integers(0, len(row) - 1))] = draw(CELLS)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator=draw(st.sampled_from(("\n", "\r\n"))))
    writer.writerows([columns, *rows])
    text = file.getvalue()
    how = draw(st.integers(0, 12))
    if how == 0:
        text = text[: draw(st.integers(0, len(text)))]
    elif how == 1:
        text = draw(st.sampled_from(("", "\n\n", "\0", '"', "a,b\n1", "a" * 200_000, '"' + "a" * 200_000)))
    return text.encode(draw(st.sampled_from(("utf-8",) * 6 + ("utf-16", "latin-1"))), "replace")


ROWS = [[k, 64 * k, h, s, 0.9 + h / 10, 10.0 * k, 0.5] for k in range(2) for h in range(2) for s in range(2)]


@cases(60, 1000)
def test_log_csv(place, draw):
    directory = place / "logs"
    directory.mkdir(exist_ok=True)
    content = table(draw.draw, LOG, ROWS)
    path = directory / "log.csv"
    path.write_bytes(content)
    rows = read_or_refused(lambda: sinks.read_csv(path), "log.csv")
    series = read_or_refused(lambda: sinks.series(path, "eval/return"), "log.csv")
    if series is not None:
        assert rows is not None and series[1].shape[0] == len(series[0])

    def resumed():
        sink = sinks.CsvSink(directory, 1)
        sink.write([dict(zip(LOG, map(float, ROWS[-1]), strict=True))])
        return sinks.read_csv(path)

    again = read_or_refused(resumed, "log.csv")
    if again is None:
        assert path.read_bytes() == content  # what cannot be gone on with is left as it was
    else:
        assert again[-1]["update"] == 1 and rows is not None


RESULTS = ("part", "setting", "seed", "hyper/gamma", "env_steps", "return")


@cases(40, 500)
def test_results_csv(place, draw):
    path = place / "results.csv"
    path.write_bytes(table(draw.draw, RESULTS, [["part_0", h, s, 0.9, 64, 1.5] for h in range(2) for s in range(2)]))
    rows = read_or_refused(lambda: study.read_csv(path), "results.csv")
    if rows is not None:
        assert len({tuple(row) for row in rows}) == 1


SMALL_STUDY = {
    "algorithm": "bc",
    "env": "gymnax/Pendulum-v1",
    "steps": 4,
    "seeds": 2,
    "hyper": {"learning_rate": [1e-3, 1e-2]},
}


@cases(20, 300)
def test_sweep_json(place, made_study, draw):
    path = place / "sweep.json"
    good = {"study": made_study.about(), "parts": [list(part) for part in made_study.parts()]}
    written_json(draw.draw, path, often_changed(draw.draw, json.loads(json.dumps(good))))
    parts = read_or_refused(lambda: study._begun(path, made_study, True), "sweep.json", str(place))
    if parts is not None:
        assert all(isinstance(part, study.Part) for part in parts)


@pytest.fixture(scope="module")
def made_study():
    dataset = data.Dataset(**{key: jnp.asarray(x) for key, x in DATASET.items()})
    return study._Made(study.Study(**SMALL_STUDY, data=dataset))


# --- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(place):
    """A checkpoint, its algorithm, and its JSON files."""
    dataset = data.Dataset(**{key: jnp.asarray(x) for key, x in DATASET.items()})
    algo = rlzoo.bc.make(rlzoo.envs.make("gymnax/Pendulum-v1"), rlzoo.bc.Config(hidden=(2,), batch_size=2), dataset)
    path = place / "saved"
    rlzoo.save(path, algo, rlzoo.init(algo, jax.random.key(0)))
    found = []
    for file in sorted(path.rglob("*")):
        if file.is_file():
            with contextlib.suppress(ValueError):
                found.append((file.relative_to(path), json.loads(file.read_text())))
    return path, algo, found


@cases(25, 600)
def test_checkpoints(place, saved, draw):
    path, algo, found = saved
    copy = place / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(path, copy)
    name, content = draw.draw(st.sampled_from(found))
    written_json(draw.draw, copy / name, often_changed(draw.draw, content))
    state = read_or_refused(lambda: rlzoo.load(copy, algo), "copy")
    if state is not None:
        assert int(state.step) == 0
