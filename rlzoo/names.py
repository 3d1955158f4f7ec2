"""One way to say that a name is unknown: what was given, and the nearest that are allowed."""

import difflib
import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

LARGEST_SEED = 2**32 - 1

SYNONYMS: dict[str, tuple[str, ...]] = {  # what other libraries call it: what it is called here
    "actor_lr": ("actor_learning_rate",),
    "alpha_lr": ("alpha_learning_rate", "temperature_learning_rate"),
    "anneal_lr": ("anneal_steps",),
    "batch_size": ("num_minibatches", "num_steps"),
    "buffer_size": ("capacity",),
    "clip": ("clip_eps",),
    "clip_coef": ("clip_eps",),
    "clip_range": ("clip_eps",),
    "clip_range_vf": ("value_clip_eps",),
    "critic_lr": ("critic_learning_rate",),
    "discount": ("gamma",),
    "discount_factor": ("gamma",),
    "ent_coef": ("entropy_coef", "init_alpha"),
    "epochs": ("num_epochs",),
    "gae": ("gae_lambda",),
    "gradient_steps": ("num_updates",),
    "hidden_sizes": ("hidden",),
    "lam": ("gae_lambda",),
    "layers": ("hidden",),
    "learning_rate": ("actor_learning_rate", "critic_learning_rate", "score_learning_rate"),
    "learning_starts": ("warmup", "critic_start"),
    "lr": ("learning_rate", "actor_learning_rate", "critic_learning_rate", "score_learning_rate"),
    "max_grad_norm_clip": ("max_grad_norm",),
    "memory_size": ("capacity",),
    "minibatch_size": ("num_minibatches", "batch_size"),
    "n_critics": ("num_critics",),
    "n_envs": ("num_envs",),
    "n_epochs": ("num_epochs",),
    "n_steps": ("num_steps", "t_max", "update_every"),
    "net_arch": ("hidden",),
    "num_workers": ("num_envs",),
    "policy": ("network", "actor"),
    "policy_freq": ("policy_delay",),
    "polyak": ("tau",),
    "q_lr": ("critic_learning_rate",),
    "replay_size": ("capacity",),
    "rollout_length": ("num_steps",),
    "target_update_rate": ("tau",),
    "train_freq": ("num_steps", "update_every"),
    "update_epochs": ("num_epochs",),
    "utd_ratio": ("num_updates",),
    "vf_coef": ("value_coef",),
    "warmup_steps": ("warmup",),
}


def near(given: str, allowed: Iterable[str]) -> list[str]:
    """The allowed names that are nearest to one given, at most three; capitals make no name another."""
    lower = {name.lower(): name for name in allowed}
    if given.lower() in lower:
        return [lower[given.lower()]]
    return [lower[name] for name in difflib.get_close_matches(given.lower(), lower, n=3, cutoff=0.5)]


def unknown(what: str, given: str, allowed: Iterable[str], elsewhere: Mapping[str, Iterable[str]] = {}) -> ValueError:
    """The error to raise for a name that is not among the allowed ones.

    ``elsewhere``: names that are allowed in another place, by what to say of them.
    """
    allowed, given = list(allowed), given if isinstance(given, str) else str(given)
    meant = meanings(given, allowed)
    if meant:
        return ValueError(f"unknown {what} {given!r}; it is called {' or '.join(map(repr, meant))} here")
    for place, others in elsewhere.items():
        others = list(others)
        found = [given] if given in others else meanings(given, others)
        if found:
            return ValueError(f"unknown {what} {given!r}; {' or '.join(map(repr, found))} is {place}")
    if found := near(given, allowed):
        return ValueError(f"unknown {what} {given!r}; did you mean {' or '.join(map(repr, found))}?")
    shown = ", ".join(allowed[:12]) + (", …" if len(allowed) > 12 else "")
    return ValueError(f"unknown {what} {given!r}; allowed are {shown}")


def meanings(given: str, allowed: Iterable[str]) -> list[str]:
    """What a name of another library is called here."""
    allowed = list(allowed)
    return [name for name in SYNONYMS.get(given.lower(), ()) if name in allowed]


def check(what: str, given: Iterable[str], allowed: Iterable[str], elsewhere: Mapping[str, Iterable[str]] = {}) -> None:
    """Raise for the first of ``given`` that is not allowed."""
    allowed = list(allowed)
    for name in given:
        if name not in allowed:
            raise unknown(what, name, allowed, elsewhere)


def check_seed(name: str, given: Any) -> None:
    """Raise for what is no seed of a key: beyond 32 bits another seed's numbers would come again."""
    if not isinstance(given, int | np.integer) or isinstance(given, bool) or not 0 <= given <= LARGEST_SEED:
        raise ValueError(f"{name}={given!r}; it must be a whole number from 0 to {LARGEST_SEED}")


def comments(cls: type) -> dict[str, str]:
    """The comment behind each field of a `Config` or `Hyper`: what it sizes, or its unit and source."""
    lines = inspect.getsource(cls).splitlines()
    found = (re.match(r"\s+(\w+): .*?#\s*(.+)$", line) for line in lines)
    return {match[1]: match[2] for match in found if match}
