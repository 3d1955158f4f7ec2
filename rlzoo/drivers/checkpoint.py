"""Checkpoints: orbax writes the arrays, atomically, with a JSON manifest that says what they are.

A directory holds the newest few saves, ``save_1``, ``save_2``, …: the order of saving, not the update, so that the
newest is the newest also after a fresh start. A save that was cut short has no commit mark and is never loaded.
"""

import json
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo.drivers import devices
from rlzoo.drivers.manifest import manifest, other_numbers, refuse_other
from rlzoo.drivers.memory import size_in_bytes
from rlzoo.drivers.train import check_state, float32
from rlzoo.files import room
from rlzoo.machine import in_bytes
from rlzoo.types import Algorithm

SEAL = "crc32"  # of the manifest
SMALL = 2**20  # numbers of a leaf that are added up by hand
MIXERS = ((0x9E3779B1, 0x85EBCA77), (0xC2B2AE3D, 0x27D4EB2F))  # large odd numbers without a pattern


def save(path: str | Path, algo: Algorithm, state: Any, keep: int = 3) -> None:
    """Write a State; the newest ``keep`` saves in ``path`` stay.

    Raises:
        ValueError: ``path`` holds checkpoints of another algorithm, Config or environment; nothing is written.
    """
    with Checkpoints(path, algo, keep) as checkpoints:
        checkpoints.save(state)


def load(path: str | Path, algo: Algorithm, step: int | None = None) -> Any:
    """Read the newest State, or the newest at update ``step``.

    If the newest cannot be read, the one before it is taken, with a warning. Another warning names the hyperparameters
    of ``algo`` that are not those saved: `rlzoo.restore` gives back those.

    Raises:
        ValueError: there is none, none can be read, or it is of another algorithm, Config, environment or shape: the
            first difference is named, with what was found and what was expected.
    """
    state, about = load_with_manifest(path, algo, step)
    other = [f"{name} {saved}, now {given}" for name, (saved, given) in other_numbers(algo, about).items()]
    if other:
        warnings.warn(f"the State in {path} was trained with other numbers: {'; '.join(other)}", stacklevel=2)
    return state


def load_with_manifest(path: str | Path, algo: Algorithm, step: int | None = None) -> tuple[Any, dict[str, Any]]:
    """As `load`, with what was written beside the State."""
    return _read(Path(path).absolute(), algo, step)


def about(path: str | Path, step: int | None = None) -> dict[str, Any]:
    """What was written beside the newest State, or the newest at update ``step``.

    Raises:
        ValueError: there is none that can be read.
    """
    path = Path(path).absolute()
    if not any_in(path):
        raise ValueError(f"there is no complete checkpoint in {path}")
    manager = _manager(path)
    failures: list[str] = []
    saved: list[int] = []
    try:
        for _, found in _saves(manager, failures):
            saved.append(int(found.get("step", -1)))
            if step is None or found.get("step") == step:
                return found
    finally:
        manager.close()
    raise _none_of(path, step, saved, failures)


class Checkpoints:
    """The checkpoints of one run; saving goes on in the background until the next save or the end of the `with`."""

    def __init__(self, path: str | Path, algo: Algorithm, keep: int = 3, seeds: list[int] | None = None) -> None:
        if keep < 1:
            raise ValueError(f"keep={keep}; it must be 1 or more")
        self.path, self.algo = Path(path).absolute(), algo
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file; checkpoints need a directory")
        self._manager = _manager(self.path, keep)
        self._size = 0  # bytes of the State
        self._about: dict[str, Any] = {}  # the manifest; all but the clock is the same in every save
        self._seeds = {} if seeds is None else {"seeds": seeds}  # asked for, which may be fewer than fill the devices

    def save(self, state: Any) -> None:
        """Begin to write a State, once the one before is written.

        Raises:
            OSError: the one before could not be, such as on a full disk; what was saved earlier is whole.
        """
        import orbax.checkpoint as ocp

        if not self._about:
            check_state(self.algo, state)
        state = jax.tree.map(lambda x: x if isinstance(x, jax.Array) else jnp.asarray(x), state)
        if not self._about:
            about = manifest(self.algo, state) | self._seeds
            self._refuse_other_runs(about)
            self._about = about
        about = _sealed(self._about | {"step": int(state.step), "checksums": _checksums(state)})
        self._size = size_in_bytes(state)
        arrays = ocp.args.StandardSave(_stored(jax.tree.leaves(state)))
        arguments = ocp.args.Composite(state=arrays, manifest=ocp.args.JsonSave(about))
        with self._said():
            self._manager.wait_until_finished()
            self._manager.save((self._manager.latest_step() or 0) + 1, args=arguments)

    def _refuse_other_runs(self, about: dict[str, Any]) -> None:
        for index in self._manager.all_steps():
            try:
                found = _manifest(self._manager, index)
            except Exception:  # an unreadable save is no reason not to write a good one
                continue
            refuse_other(found, about, f"{self.path} holds checkpoints of another run", "; save elsewhere")

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with suppress(OSError) if isinstance(error, OSError) else nullcontext():  # the same thing once more
            try:
                with self._said():
                    self._manager.wait_until_finished()
            finally:
                with suppress(Exception):  # of the save that failed
                    self._manager.close()

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Whatever orbax raises where it cannot write becomes one error."""
        try:
            yield
        except Exception as error:
            with suppress(Exception):
                self._manager.reload()
            whole = [f"save_{step}" for step in self._manager.all_steps()]
            left = f"what was saved before is whole: {', '.join(whole)}" if whole else "none was saved before"
            if len(whole) > 1:
                left += " (of which all but the newest may go)"
            size = f"a save takes {in_bytes(self._size)}" if self._size else "a save takes as much as the State"
            remedy = "make room" if _is_room(error) else "mend that"
            remedy += "" if jax.process_count() == 1 else ", if no other process has stopped"
            raise OSError(
                f"a checkpoint could not be written to {self.path}: {_first_line(error)}; {left}; {size}, and "
                f"{room(self.path)}; {remedy}, and resume"
            ) from error


def any_in(path: str | Path) -> bool:
    """Whether a directory holds a complete checkpoint."""
    path = Path(path).absolute()
    if not devices.anywhere(path.is_dir()):  # to open it is something that all processes do together
        return False
    manager = _manager(path)
    found = manager.latest_step() is not None
    manager.close()
    return found


def _read(path: Path, algo: Algorithm, step: int | None) -> tuple[Any, dict[str, Any]]:
    if not any_in(path):
        raise ValueError(f"there is no complete checkpoint in {path}")
    manager = _manager(path)
    failures: list[str] = []
    saved: list[int] = []
    try:
        for index, about in _saves(manager, failures):
            saved.append(int(about.get("step", -1)))
            if step is not None and about.get("step") != step:
                continue
            keys = _keys_like(about)
            refuse_other(about, _identity(algo, keys, about), f"{path}/save_{index} does not fit")
            try:
                state = _restore(manager, index, algo, keys, about["format"])
                _refuse_changed(state, about)
            except Exception as error:
                failures.append(f"save_{index}: {_first_line(error)}")
                continue
            for failure in failures:
                warnings.warn(f"a checkpoint in {path} cannot be read and was passed over: {failure}", stacklevel=4)
            return state, about
    finally:
        manager.close()
    raise _none_of(path, step, saved, failures)


def _saves(manager: Any, failures: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """What is written beside each save, the newest first; of those that cannot be read ``failures`` says why."""
    for index in sorted(manager.all_steps(), reverse=True):
        try:
            found = _manifest(manager, index)
        except Exception as error:  # orbax and the file system raise many kinds; every one means unreadable
            failures.append(f"save_{index}: {_first_line(error)}")
            continue
        yield index, found


def _none_of(path: Path, step: int | None, saved: list[int], failures: list[str]) -> ValueError:
    if step is not None and step not in saved:
        unread = f"; not readable: {'; '.join(failures)}" if failures else ""
        return ValueError(f"{path} holds no checkpoint at update {step}; there are {sorted(saved)}{unread}")
    return ValueError(f"no checkpoint in {path} can be read: {'; '.join(failures)}")


def _keys_like(about: dict[str, Any]) -> jax.Array:
    """Some keys, of the kind and number that a State was begun with."""
    kinds = [jax.random.key(0, impl=name) for name in ("threefry2x32", "rbg", "unsafe_rbg")]
    said = str(about.get("leaves", {}).get(".key"))
    key = next((key for key in kinds if said.startswith(str(key.dtype))), jax.random.key(0))
    return jax.random.split(key, about["lanes"][-1]) if about.get("lanes") else key


def _restore(manager: Any, index: int, algo: Algorithm, keys: jax.Array, written: int) -> Any:
    import orbax.checkpoint as ocp

    shapes = _template(algo, keys)
    spread = devices.layout(algo, shapes.key.shape)
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    places = jax.tree.map(lambda _: device, shapes) if spread is None else spread.shardings(shapes)
    template = jax.tree.map(lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes, places)
    if written == 2:
        return manager.restore(index, args=ocp.args.Composite(state=ocp.args.StandardRestore(template))).state
    leaves, structure = jax.tree.flatten(template)
    wanted = ocp.args.StandardRestore(_stored(leaves))
    arrays = manager.restore(index, args=ocp.args.Composite(state=wanted)).state
    found = [arrays[str(i)] if x.size else jnp.zeros(x.shape, x.dtype) for i, x in enumerate(leaves)]
    return jax.tree.unflatten(structure, found)


def _stored(leaves: list[Any]) -> dict[str, Any]:
    """What is written of a State: its leaves by their places, whatever holds them; orbax takes none of size zero."""
    return {str(i): x for i, x in enumerate(leaves) if x.size}


def _template(algo: Algorithm, keys: jax.Array) -> Any:
    return jax.eval_shape(algo.init, keys, float32(algo.hyper), algo.task)


def _identity(algo: Algorithm, keys: jax.Array, found: dict[str, Any]) -> dict[str, Any]:
    """The manifest that a State of this algorithm would have, with as many seeds as were found."""
    if bool(found.get("lanes")) != (algo.num_hypers is not None):
        one, many = "one agent", "a sweep"
        saved, wanted = (many, one) if found.get("lanes") else (one, many)
        raise ValueError(f"the checkpoint is of {saved}; expected is {wanted}")
    return manifest(algo, _template(algo, keys)._replace(step=found.get("step", 0)))


def _manager(path: Path, keep: int | None = None) -> Any:
    """Orbax's manager: to write the newest ``keep``, or with None to read."""
    import orbax.checkpoint as ocp

    options = ocp.CheckpointManagerOptions(max_to_keep=keep, step_prefix="save", create=keep is not None)
    try:
        return ocp.CheckpointManager(path, options=options)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:  # of one of orbax's own files
        raise ValueError(
            f"{path} cannot be opened: {_first_line(error)}; move the save whose _CHECKPOINT_METADATA is damaged, "
            "or all of them, out of it"
        ) from error


def _manifest(manager: Any, index: int) -> dict[str, Any]:
    import orbax.checkpoint as ocp

    about = manager.restore(index, args=ocp.args.Composite(manifest=ocp.args.JsonRestore())).manifest
    if about != _sealed({name: value for name, value in about.items() if name != SEAL}):
        raise ValueError("the manifest is not what was saved")
    return about


def _sealed(about: dict[str, Any]) -> dict[str, Any]:
    """With a checksum of itself."""
    return about | {SEAL: zlib.crc32(json.dumps(about, sort_keys=True).encode())}


def _checksums(state: Any) -> list[str]:
    """Of every leaf, in their order; the files have none that would find every change on a disk."""
    keys = jax.dtypes.prng_key
    leaves = [jax.random.key_data(x) if jnp.issubdtype(x.dtype, keys) else x for x in jax.tree.leaves(state)]
    # A program for the small ones of a State would take longer to compile than adding them up by hand.
    by_hand = [x.size <= SMALL and x.is_fully_addressable and jax.dtypes.itemsize_bits(x.dtype) >= 8 for x in leaves]
    with devices.reaching():
        large = iter(_sums([x for x, small in zip(leaves, by_hand, strict=True) if not small]))
        sums = [_sum(np.asarray(x), np) if small else next(large) for x, small in zip(leaves, by_hand, strict=True)]
        return [f"{int(a):08x}{int(b):08x}" for a, b in map(np.asarray, sums)]


def _sum(x: Any, xp: Any) -> Any:
    """u32[2]: sums of an array's words, each times an odd number that belongs to its place; ``xp`` is NumPy or JAX's.

    A changed word always changes them. Whole numbers add up to the same in any order, on whatever devices they lie.
    """
    if xp.iscomplexobj(x):
        x = xp.stack([x.real, x.imag], axis=-1)
    if x.dtype != bool and jax.dtypes.itemsize_bits(x.dtype) >= 8:  # whole numbers of fewer bits are words already
        x = x[..., None].view(f"uint{min(32, 8 * x.dtype.itemsize)}")
    words = x.astype(xp.uint32)
    place = xp.zeros(x.shape, xp.uint32)
    for axis, size in enumerate(x.shape):
        place = place * size + xp.arange(size, dtype=xp.uint32).reshape(-1, *[1] * (x.ndim - axis - 1))
    mixed = (((place * xp.uint32(a)) ^ (place >> 15)) * xp.uint32(b) | xp.uint32(1) for a, b in MIXERS)
    return xp.stack([xp.sum(words * factor, dtype=xp.uint32) for factor in mixed])


@jax.jit
def _sums(leaves: list[jax.Array]) -> list[jax.Array]:
    return [_sum(x, jnp) for x in leaves]


def _refuse_changed(state: Any, about: dict[str, Any]) -> None:
    leaves = jax.tree_util.tree_leaves_with_path(state)
    for (path, _), found, saved in zip(leaves, _checksums(state), about["checksums"], strict=True):
        if found != saved:
            raise ValueError(f"state{jax.tree_util.keystr(path)} is not what was saved")


def _is_room(error: Exception) -> bool:
    """Whether there was no room, as far as a message tells."""
    text = str(error).lower()
    return any(word in text for word in ("no space", "quota", "file too large", "resource_exhausted"))


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"
