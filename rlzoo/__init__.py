"""rlzoo: reinforcement-learning algorithms as pure functions in JAX, compiled whole and vmapped over everything."""

import rlzoo.stops  # noqa: F401  before all else: Ctrl-C during the imports of the command line
from rlzoo import data, envs, report
from rlzoo.algorithms import (
    ALGORITHMS,
    a2c,
    a2pr,
    a3c,
    bc,
    cdsa,
    cpl,
    dqn,
    ga3c,
    iql,
    mixed_ne,
    p_iql,
    ppo,
    pqn,
    prdc,
    qarl,
    sac,
    stac,
    td3,
    td3_bc,
)
from rlzoo.drivers import study
from rlzoo.drivers.checkpoint import load, save
from rlzoo.drivers.devices import connect, spread
from rlzoo.drivers.evaluate import evaluate, robustness, value_error
from rlzoo.drivers.outside import evaluate_on_host
from rlzoo.drivers.plan import plan
from rlzoo.drivers.population import halving, pbt
from rlzoo.drivers.ranges import Range, sample
from rlzoo.drivers.render import render
from rlzoo.drivers.restore import restore
from rlzoo.drivers.run import run
from rlzoo.drivers.snapshots import snapshots
from rlzoo.drivers.sweep import branch, grid, lane, setting, sweep, sweep_grid
from rlzoo.drivers.train import init, resume, train, updates_for
from rlzoo.drivers.versus import against, worst_case

__version__ = "0.1.0"

__all__ = [
    "ALGORITHMS",
    "Range",
    "a2c",
    "a2pr",
    "a3c",
    "against",
    "bc",
    "branch",
    "cdsa",
    "connect",
    "cpl",
    "data",
    "dqn",
    "envs",
    "evaluate",
    "evaluate_on_host",
    "ga3c",
    "grid",
    "halving",
    "init",
    "iql",
    "lane",
    "load",
    "mixed_ne",
    "p_iql",
    "pbt",
    "plan",
    "ppo",
    "pqn",
    "prdc",
    "qarl",
    "render",
    "report",
    "restore",
    "resume",
    "robustness",
    "run",
    "sac",
    "sample",
    "save",
    "setting",
    "snapshots",
    "spread",
    "stac",
    "study",
    "sweep",
    "sweep_grid",
    "td3",
    "td3_bc",
    "train",
    "updates_for",
    "value_error",
    "worst_case",
]
