"""Results that are kept: computed once, found again in memory and on disk; a file that is not it is written anew."""

import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlzoo import kept

LIKE = {"x": jax.ShapeDtypeStruct((3,), jnp.float32)}


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """An empty place, and nothing in memory; what counts the computations."""
    monkeypatch.setattr(kept, "DEAR", 1)
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    kept._RESULTS.clear()
    yield tmp_path / "rlzoo"
    jax.config.update("jax_compilation_cache_dir", before)
    kept._RESULTS.clear()


def compute(calls):
    calls.append(1)
    return {"x": jnp.arange(3.0)}


def test_once_in_memory_and_on_disk(disk):
    calls = []
    for _ in range(2):
        kept.kept("a", lambda: compute(calls), LIKE)
    assert len(calls) == 1
    kept._RESULTS.clear()  # as another process
    np.testing.assert_array_equal(kept.kept("a", lambda: compute(calls), LIKE)["x"], np.arange(3.0))
    assert len(calls) == 1 and [path.name for path in disk.iterdir()] == ["a.npz"]


@pytest.mark.parametrize("content", [b"", b"PK nothing", None, "raw"])
def test_a_file_that_is_not_it_is_computed_again(disk, content):
    calls = []
    disk.mkdir()
    if content is None:
        np.savez(disk / "a.npz", **{"0": np.zeros(4, np.float32)})  # another shape
    elif content == "raw":
        with zipfile.ZipFile(disk / "a.npz", "w") as archive:
            archive.writestr("0", b"no array")
    else:
        (disk / "a.npz").write_bytes(content)
    for _ in range(2):
        np.testing.assert_array_equal(kept.kept("a", lambda: compute(calls), LIKE)["x"], np.arange(3.0))
        kept._RESULTS.clear()
    assert len(calls) == 1


def test_small_results_and_no_cache_leave_no_file(disk, monkeypatch):
    monkeypatch.setattr(kept, "DEAR", 100)
    kept.kept("a", lambda: compute([]), LIKE)
    assert not disk.exists()
    kept.kept("dear", lambda: compute([]), LIKE, dear=True)
    (disk / "dear.npz").unlink()
    disk.rmdir()
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setattr(kept, "DEAR", 1)
    kept.kept("b", lambda: compute([]), LIKE)
    assert not disk.exists()


def test_a_disk_that_cannot_be_written_costs_the_file_only(disk):
    disk.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="cannot be written and will be computed again"):
        np.testing.assert_array_equal(kept.kept("a", lambda: compute([]), LIKE)["x"], np.arange(3.0))


def test_memory_holds_the_newest(disk):
    for i in range(kept.NEWEST + 1):
        kept.kept(str(i), lambda: compute([]), LIKE)
    assert list(kept._RESULTS) == [str(i) for i in range(1, kept.NEWEST + 1)]


def test_names_tell_arrays_shapes_and_numbers_apart():
    x = jnp.arange(6.0)
    same = kept.name_of("graph-1", x, 3)
    assert same == kept.name_of("graph-1", jnp.arange(6.0), 3)
    others = [
        kept.name_of("graph-2", x, 3),
        kept.name_of("graph-1", x, 4),
        kept.name_of("graph-1", x.reshape(2, 3), 3),
        kept.name_of("graph-1", x + 1, 3),
        kept.name_of("graph-1", x.astype(jnp.int32), 3),
    ]
    assert len({same, *others}) == 6
