"""Suites that are extras of the installation: their modules are imported when an environment of theirs is asked for."""

import importlib
import warnings
from collections.abc import Iterable
from types import ModuleType

REFUSED = {
    "kinetix": "kinetix-env 3 asks for jax 0.9 at the most, and for a dozen packages pinned to old versions",
    "jaxgcrl": "JaxGCRL asks for jax 0.4.25, and for a part of brax that is gone",
    "popgym_arcade": "popgym-arcade brings a package named gymnax, which overwrites the real one",
}


def imported(extra: str, module: str) -> ModuleType:
    """A module of a suite.

    Raises:
        ValueError: it is not installed, or needs what is not; with what to install.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of deprecations, which are theirs to mend
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        package = module.partition(".")[0]
        what = f"{extra} is not installed" if missing.partition(".")[0] == package else f"{extra} needs {missing}"
        raise ValueError(f"{what}; pip install 'rlzoo[{extra}]', or in a clone -e '.[{extra}]'") from error


def known(options: Iterable[str], allowed: Iterable[str]) -> None:
    """Raise of options that a suite does not have what Python raises of them, which `rlzoo.envs.make` names."""
    if unknown := sorted(set(options) - set(allowed)):
        raise TypeError(f"make() got an unexpected keyword argument '{unknown[0]}'")
