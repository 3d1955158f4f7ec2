"""Small files that are there whole or not at all, and are read with errors that name them."""

import errno
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import yaml

from rlzoo.machine import in_bytes

LARGEST = 2**20  # bytes of a file of settings
LARGEST_JSON = 2**24  # of a record: in memory it takes up to twenty times as much


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes its place in one step: a kill, or a full disk, leaves what was there before."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with named(path), draft.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """An `OSError` while writing names the file, and of a full disk what is free there and what can be done."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        what = f"{path} cannot be written: {error.strerror}; {room(path)}; make room there"
        raise OSError(error.errno, f"{what}, and go on where it stopped: what was written before is whole") from error


def room(path: Path) -> str:
    """What is free where a path lies, for messages."""
    there = next((x for x in (path, *path.parents) if x.exists()), Path())
    try:
        return f"{in_bytes(shutil.disk_usage(there).free)} are free in {there}"
    except OSError:
        return f"what is free in {there} is not known"


def write_text(path: Path, text: str) -> None:
    with whole(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1) + "\n")


def plain(value: Any) -> Any:
    """A value as JSON can hold it; what it cannot is its repr, without an address that differs from run to run."""
    if isinstance(value, Mapping):
        return {name: plain(x) for name, x in value.items()}
    if isinstance(value, tuple | list):
        return [plain(x) for x in value]
    if isinstance(value, str | int | float | bool | None):
        return value
    text, cells = re.sub(r" at 0x\w+", "", repr(value)), getattr(value, "__closure__", None) or ()
    held = [x.cell_contents for x in cells if isinstance(getattr(x, "cell_contents", None), str | int | float)]
    return f"{text} of {held}" if held else text  # two functions that one text has made


def read_json(path: Path, kind: type = dict) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: it cannot be read, is no JSON, is larger than 16 mebibytes, or holds something else than a ``kind``.
    """
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_JSON + 1)
        if len(text) > LARGEST_JSON:
            raise ValueError(f"more than {LARGEST_JSON} bytes")
        value = json.loads(text.decode())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not readable: {error}") from error
    if not isinstance(value, kind):
        raise ValueError(f"{path} holds a {type(value).__name__}, where a {kind.__name__} is expected")
    return value


def first_difference(name: str, one: Any, other: Any) -> tuple[str, Any, Any]:
    """Two values under their name; of two mappings that differ the first field in which they do."""
    if isinstance(one, dict) and isinstance(other, dict):
        for field in one | other:
            if one.get(field) != other.get(field):
                return f"{name}.{field}", one.get(field), other.get(field)
    return name, one, other


def refuse_other(asked: dict[str, Any], found: dict[str, Any], what: str) -> None:
    """Raise a `ValueError` for the first field in which what is to be resumed is not what is asked for."""
    for name, value in json.loads(json.dumps(asked)).items():
        name, value, other = first_difference(name, value, found.get(name))
        if other != value:
            raise ValueError(f"{name} is {value!r}, but {what} has {other!r}; resume with the same")


def read_yaml(path: Path) -> dict[str, Any]:
    """What a file of settings in YAML holds: plain values only, nothing is executed.

    Raises:
        ValueError: not readable, larger than a mebibyte, no YAML mapping, a key twice, or an alias (``*name``), of
            which a small file can make a huge one.
    """
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise ValueError(f"more than {LARGEST} bytes")
        value = yaml.load(text, _Strict)
    except Exception as error:  # PyYAML's own constructors raise many kinds
        raise ValueError(f"{path} is not readable: {type(error).__name__}: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no fields; it needs lines such as `algorithm: ppo`")
    return value


class _Strict(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"aliases are not allowed, {self.peek_event().start_mark}")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        if isinstance(node, yaml.MappingNode):
            keys = Counter(key.value for key, _ in node.value if isinstance(key.value, str))
            twice = sorted(key for key, count in keys.items() if count > 1)
            if twice:
                raise yaml.YAMLError(f"{twice[0]} is there twice, {node.start_mark}")
        return super().construct_mapping(node, deep)
