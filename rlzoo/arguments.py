"""Words of a command line: options that are known or named with their nearest, whole numbers such as 1e6, any case."""

import argparse
import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

from rlzoo.names import near

LARGEST = 2**63  # of a whole number


class Parser(argparse.ArgumentParser):
    """Argparse whose errors are a `ValueError` of one line, with the nearest options for one that is not known."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)
        self.register("type", int, whole)
        self._negative_number_matcher = re.compile(r"-(\d|\.\d|inf$|nan$)")  # -1e3 is none to argparse

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see `{self.prog} --help`")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        check_options(args, self._option_string_actions, self.prog)
        return super().parse_args(args, namespace)


def check_options(argv: Iterable[str], allowed: Iterable[str], command: str) -> None:
    """Raise a `ValueError` for the first word that looks like an option and is none of the command's."""
    allowed = list(allowed)
    for word in argv:
        option = word.partition("=")[0].replace("_", "-")
        if option in allowed or not re.match(r"--?[A-Za-z]", option) or _is_number(word):
            continue
        wanted = option.lstrip("-").lower()
        meant = [name for name in allowed if wanted in _short_forms(name)]
        meant = meant or near(option, [name for name in allowed if name.startswith("--")])
        hint = f"did you mean {' or '.join(meant)}? " if meant else ""
        raise ValueError(f"unknown option {option}; {hint}`{command} --help` shows all")


def _short_forms(option: str) -> tuple[str, str]:
    """What stands for an option with a group before it: learning-rate and lr, of --hyper.learning-rate."""
    last = option.lstrip("-").rpartition(".")[2].lower()
    return last, "".join(word[:1] for word in last.split("-")) if "-" in last else last


def whole(text: str) -> int:
    """A whole number, also as 1e6 or 1_000_000.

    Raises:
        ValueError: another number, none, or one beyond 64 bits.
    """
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite() or abs(number) >= LARGEST or number != int(number):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number; give one such as 1000000 or 1e6")
    return int(number)


def same(given: str, allowed: Iterable[str]) -> str:
    """The allowed name that is written like ``given`` but for case and dashes, such as td3_bc for TD3+BC; or given."""
    allowed = list(allowed)
    if given in allowed:
        return given
    found = [name for name in allowed if _letters(name) == _letters(given)]
    return found[0] if len(found) == 1 else given


def typed() -> Any:
    """Tyro's registry in which whole numbers are written as `whole` takes them: ``with typed(): tyro.cli(...)``."""
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, UnsupportedTypeAnnotationError

    def read(words: Sequence[str]) -> int:
        try:
            return whole(words[0])
        except argparse.ArgumentTypeError as error:
            raise ValueError(str(error)) from None

    registry = ConstructorRegistry()

    @registry.primitive_rule
    def of_int(kind: Any) -> PrimitiveConstructorSpec | UnsupportedTypeAnnotationError | None:
        if kind.type is not int:
            return None
        return PrimitiveConstructorSpec(1, "INT", read, lambda x: isinstance(x, int), lambda x: [str(x)])

    return registry


def flags(options: type, before: str = "") -> Iterator[str]:
    """The options that tyro makes of a dataclass, and of the dataclasses in it."""
    for field in dataclasses.fields(options):
        name = before + field.name.replace("_", "-")
        if dataclasses.is_dataclass(kind := field.default_factory):
            yield from flags(kind, f"{name}.")
        else:
            yield f"--{name}"
            if isinstance(field.default, bool):
                head, dot, last = name.rpartition(".")
                yield f"--{head}{dot}no-{last}"


def value_of(option: str, argv: Sequence[str]) -> str | None:
    """What an option is given, before the rest is understood; None if it is not there."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    early.add_argument(option, dest="value", nargs="?")
    return early.parse_known_args(argv)[0].value


def _letters(name: str) -> str:
    return re.sub(r"[-_+ ]", "", name.lower())


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
