"""The contract that every algorithm keeps (DESIGN 10), parametrised: an algorithm joins with one line in CASES."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, assert_same_bits, blank, copy, named_leaves, plane, plane_dataset, plane_preferences

import rlzoo
from rlzoo import (
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
from rlzoo.algorithms.config import as_dict
from rlzoo.algorithms.hyper import ranges_of
from rlzoo.drivers.train import float32, strong

SMALL = {"num_envs": 4, "num_steps": 16, "num_epochs": 2, "num_minibatches": 2, "hidden": (16,)}
TINY_PPO = ppo.Config(**SMALL)


class Case(NamedTuple):
    module: Any
    env: str
    config: Any
    hyper: dict[str, float]  # numbers at which every other number has an effect
    shared: tuple[str, ...] = ()  # leaves that are rightly equal for two seeds
    bad: tuple[tuple[dict[str, Any], str], ...] = ()  # wrong Config values, and what the error must say
    idle: tuple[str, ...] = ()  # numbers that this structure rightly has no use for
    swept: str = "gamma"
    values: tuple[float, ...] = (0.99, 0.9, 0.5, 0.6)  # of it: in the sweep, and in another of the same program


# Every number matters only where nothing else switches it off: annealing on, a value clip and a norm that bind.
PPO_HYPER = {
    "learning_rate": 3e-3,
    "anneal_steps": 1e4,
    "entropy_coef": 0.01,
    "max_grad_norm": 0.1,
    "value_clip_eps": 0.05,
    "clip_eps": 0.02,
}
PPO_SHARED = (".obs_moments.samples", ".return_moments.samples", ".step", ".count")
PPO_BAD = (
    ({"num_envs": 0}, "num_envs=0; it must be a whole number, 1 or more"),
    ({"num_steps": 2.5}, "num_steps=2.5; it must be a whole number"),
    ({"num_minibatches": 7}, "num_minibatches=7 does not divide num_envs \\* num_steps = 64; use 4 or 8"),
    ({"num_minibatches": 64}, "leaves one transition in each"),
    ({"activation": "tahn"}, "unknown activation 'tahn'; did you mean 'tanh'"),
    ({"hidden": 64}, "hidden=64; it must be a tuple"),
    ({"init_std": 0.0}, "init_std=0.0; it must be positive"),
    ({"nmu_envs": 4}, "unknown ppo.Config field 'nmu_envs'; did you mean 'num_envs'"),
)

A2C_HYPER = {"learning_rate": 3e-3, "anneal_steps": 1e4, "gae_lambda": 0.9, "max_grad_norm": 0.1}
A2C_SMALL = {"num_envs": 4, "num_steps": 8, "hidden": (16,)}
A2C_ALL = {"normalise_obs": True, "normalise_reward": True, "optimiser": "adam"}
# Nothing is normalised by default, so that moments and running returns stay as they began.
A2C_SHARED = (".obs_moments.mean", ".obs_moments.var", ".return_moments.mean", ".return_moments.var", *PPO_SHARED)
A2C_SHARED += (".running_return",)
A2C_BAD = (
    ({"num_steps": 0}, "num_steps=0; it must be a whole number, 1 or more"),
    ({"optimiser": "rmsporp"}, "unknown optimiser 'rmsporp'; did you mean 'rmsprop'"),
    ({"num_env": 4}, "unknown a2c.Config field 'num_env'; did you mean 'num_envs'"),
)
A3C_HYPER = {"learning_rate": 3e-3, "anneal_steps": 1e4, "max_grad_norm": 0.1, "reward_clip": 0.9}
A3C_SHARED = (".synced", ".env_steps", ".step")
A3C_BAD = (
    ({"t_max": 0}, "t_max=0; it must be a whole number, 1 or more"),
    ({"num_workers": -3}, "num_workers=-3; it must be a whole number, 1 or more"),
    ({"schedule": "randm"}, "unknown schedule 'randm'; did you mean 'random'"),
    ({"schedule": "random", "speeds": (1.0, 2.0)}, "2 speeds for num_workers=4; give one for each worker"),
    ({"schedule": "random", "speeds": (1.0, 2.0, 0.0, 1.0)}, "speeds=.*; each must be a positive number"),
    ({"schedule": "round-robin", "speeds": (1.0, 2.0, 3.0, 1.0)}, "schedule='round-robin' has none; use"),
    ({"schedule_seed": -1}, "schedule_seed=-1; it must be a whole number from 0 to"),
)
A3C_SMALL = {"num_workers": 4, "t_max": 8, "hidden": (16,)}
RANDOM = {"schedule": "random", "speeds": (1.0, 1.0, 2.0, 4.0)}
GA3C_BAD = (
    ({"prediction_lag": -1}, "prediction_lag=-1; it must be a whole number, 0 or more"),
    ({"training_lag": 1.5}, "training_lag=1.5; it must be a whole number, 0 or more"),
)

SAC_HYPER = {"target_entropy": 0.5, "actor_learning_rate": 3e-3, "critic_learning_rate": 3e-3, "tau": 0.05}
SAC_SMALL = {"num_envs": 2, "num_steps": 2, "num_updates": 2, "batch_size": 16, "capacity": 64, "warmup": 56}
SAC_SMALL |= {"hidden": (16,)}
SAC_SHARED = (".count", ".step", ".truncated", ".terminated", ".episode_length")
SAC_BAD = (
    ({"batch_size": 0}, "batch_size=0; it must be a whole number, 1 or more"),
    ({"batch_size": 57}, "batch_size=57 is more than the warmup=56 transitions"),
    ({"capacity": 66}, "capacity=66 is no multiple of num_envs \\* num_steps = 4; use 64 or 68"),
    ({"warmup": 3}, "warmup=3 is no multiple of num_envs \\* num_steps = 4; use 4"),
    ({"capacity": 48}, "warmup=56 does not fit into capacity=48"),
    ({"bacth_size": 8}, "unknown (dqn|sac|stac|td3).Config field 'bacth_size'; did you mean 'batch_size'"),
)
SAC_ONLY_BAD = (
    ({"policy_delay": 3}, "policy_delay=3 does not divide num_updates = 2; use 1 or 2"),
    ({"num_target_critics": 3}, "num_target_critics=3 of num_critics=2; use at most 2"),
)
STAC_BAD = (
    ({"critic": "gausian"}, "unknown critic 'gausian'; did you mean 'gaussian'"),
    ({"actor_dropout": 1.0}, "actor_dropout=1.0; it must be at least 0 and less than 1"),
    ({"batch_size": 30}, "warmup=56 is too little for distinct rows in batches of batch_size=30; use 60 or more"),
    ({"temperature": "sdg"}, "unknown temperature 'sdg'; did you mean 'sgd'"),
)
REDQ = {"num_critics": 3, "policy_delay": 2}
QUANTILE = {"critic": "quantile", "temperature": "adam"}

OFFLINE_SMALL = {"batch_size": 16, "hidden": (16,)}
OFFLINE_HYPER = {"actor_learning_rate": 3e-3, "critic_learning_rate": 3e-3, "noise_clip": 0.25}
OFFLINE_SHARED = (".step", ".count", ".moments.mean", ".moments.std")
OFFLINE_BAD = (
    ({"batch_size": 0}, "batch_size=0; it must be a whole number, 1 or more"),
    ({"bacth_size": 8}, "unknown (bc|iql|td3_bc|prdc|a2pr).Config field 'bacth_size'; did you mean 'batch_size'"),
)
PRDC_BAD = (
    ({"search": "tabel"}, "unknown search 'tabel'; did you mean 'table'"),
    ({"k": 9}, "k=9 of table_size=8 rows; use a larger table_size"),
)
A2PR_BAD = (({"vae_hidden": 750}, "vae_hidden=750; it must be a tuple"),)
A2PR_SMALL = {"batch_size": 16, "actor_hidden": (16,), "critic_hidden": (16,), "vae_hidden": (16,)}

CDSA_SMALL = {"score_hidden": (16,), "score_batch_size": 16, "dynamics_hidden": (16,), "dynamics_batch_size": 16}
CDSA_BAD = (
    ({"score": "singel"}, "unknown score 'singel'; did you mean 'single'"),
    ({"combine": "sum"}, "unknown combine 'sum'"),
    ({"scale": "unti"}, "unknown scale 'unti'; did you mean 'unit'"),
    ({"iterations": -1}, "iterations=-1; it must be a whole number, 0 or more"),
    ({"score_hidden": 64}, "score_hidden=64; it must be a tuple"),
)

CPL_SMALL = {"hidden": (16,), "batch_size": 8}
CPL_BIASES = (".reference.network['params']['Linear_0']['bias']", ".reference.network['params']['head']['bias']")
CPL_BAD = (
    ({"phase": "pretrain"}, "unknown phase 'pretrain'"),
    ({"comparisons": "ranknig"}, "unknown comparisons 'ranknig'; did you mean 'ranking'"),
    ({"head": "gaussian"}, "unknown head 'gaussian'"),
    ({"dropout": 1.0}, "dropout=1.0; it must be at least 0 and less than 1"),
    ({"comparisons": "all", "bc_on": "preferred"}, "bc_on='preferred' needs pairs, and comparisons='all' has none"),
    ({"comparisons": "all", "batch_size": 1}, "batch_size=1 of comparisons='all' has nothing to compare"),
    ({"ranking_size": 1}, "ranking_size=1; it must be a whole number, 2 or more"),
)

MIXED_SMALL = {"num_envs": 2, "num_steps": 2, "num_updates": 2, "batch_size": 16, "capacity": 64, "warmup": 56}
MIXED_SMALL |= {"hidden": (16,), "actor_start": 0}
MIXED_BAD = (
    ({"actor_start": 64}, "capacity=64 never holds more than the actor_start=64"),
    ({"capacity": 66}, "capacity=66 is no multiple of num_envs \\* num_steps = 4; use 64 or 68"),
)

DQN_SMALL = {"num_envs": 2, "num_steps": 2, "num_updates": 2, "batch_size": 16, "capacity": 64, "warmup": 56}
DQN_SMALL |= {"hidden": (16, 16), "num_bins": 11, "num_taus": (4, 4, 4)}
RAINBOW = {"head": "hl_gauss", "double": True, "dueling": True, "n_step": 3, "prioritised": True}
IQN = {"head": "iqn", "munchausen": True}
DQN_HYPER = {"learning_rate": 3e-3, "tau": 0.3, "epsilon_start": 0.9, "epsilon": 0.1, "epsilon_steps": 40.0}
DQN_HYPER |= {"munchausen_clip": -0.01, "kappa": 3.0, "temperature": 0.3}
DQN_SHARED = (".reward", ".count", ".step", ".truncated", ".terminated", ".episode_length", ".highest")
DQN_SHARED += tuple(f".acting.{x}" for x in dqn.Acting._fields)
_SOFT = ("temperature", "munchausen_alpha", "munchausen_clip")
_RANKS, _STOCK = ("priority_exponent", "importance_exponent"), ("risk", "mean_weight", "stock_low", "stock_high")
DQN_IDLE = {"scalar": (*_SOFT, *_RANKS, *_STOCK), "hl_gauss": (*_SOFT, *_STOCK), "iqn": (*_RANKS, *_STOCK)}
_BINS = ("value_low", "value_high")
HEAD_IDLE = {  # numbers that a head has no use for
    "scalar": (*_BINS, "sigma_ratio", "kappa"),
    "hl_gauss": ("kappa",),
    "c51": ("sigma_ratio", "kappa"),
    "quantile": (*_BINS, "sigma_ratio"),
    "iqn": (*_BINS, "sigma_ratio"),
}
DQN_BAD = (
    ({"n_step": 0}, "n_step=0; it must be a whole number, 1 or more"),
    ({"num_bins": 1}, "num_bins=1; it must be a whole number, 2 or more"),
    ({"head": "c15"}, "unknown head 'c15'; did you mean 'c51'"),
)
TD3_HYPER = {
    "actor_learning_rate": 3e-3,
    "critic_learning_rate": 3e-3,
    "tau": 0.05,
    "policy_noise": 0.6,
    "noise_clip": 0.3,
}
TD3_SMALL = {"num_envs": 2, "num_steps": 2, "num_updates": 2, "batch_size": 16, "capacity": 64, "warmup": 56}
TD3_SMALL |= {"hidden": (16,)}
MANY = {"head": "hl_gauss", "num_bins": 11, "noise": "drawn", "n_step": 3}
PQN_HYPER = {"learning_rate": 3e-3, "anneal_steps": 1e4, "epsilon_steps": 200.0, "max_grad_norm": 0.01}
PQN_SHARED = (".step", ".count", ".epsilon")
IQL_HYPER = {"actor_learning_rate": 3e-3, "critic_learning_rate": 3e-3, "anneal_steps": 100.0}
TD3_NOISE = ("noise_low", "noise_high")

QARL_SMALL = {"num_episodes": 1, "update_every": 10, "batch_size": 16, "capacity": 600, "hidden": (16,)}
QARL_SMALL |= {"critic_start": 20, "actor_start": 40}
QARL_HYPER = {
    "target_entropy": 0.5,
    "actor_learning_rate": 3e-3,
    "tau": 0.05,
    "threshold": -1e9,
    "init_temperature": 0.1,
}
QARL_IDLE = (
    "threshold",
    "target_shape",
    "point_step",
    "linear_iterations",
    "attack_iterations",
)  # of other curricula, or not binding here
QARL_SHARED = (".count", ".step", ".truncated", ".terminated", ".curriculum.shape")
QARL_BAD = (({"opponent": "quantl"}, "unknown opponent 'quantl'; did you mean 'quantal'"),)

CASES = {
    "a2c discrete": Case(a2c, "gymnax/CartPole-v1", a2c.Config(**A2C_SMALL), A2C_HYPER, A2C_SHARED, A2C_BAD),
    "a2c continuous": Case(
        a2c, "gymnax/Pendulum-v1", a2c.Config(**A2C_SMALL, **A2C_ALL), A2C_HYPER, (*PPO_SHARED, ".episode_length")
    ),
    "a2pr": Case(
        a2pr, "own/plane", a2pr.Config(**A2PR_SMALL), OFFLINE_HYPER, OFFLINE_SHARED, (*OFFLINE_BAD, *A2PR_BAD)
    ),
    "a2c pixels": Case(
        a2c, "gymnax/Breakout-MinAtar", a2c.Config(**A2C_SMALL), A2C_HYPER, (*A2C_SHARED, ".episode_return")
    ),
    "a3c discrete": Case(a3c, "gymnax/CartPole-v1", a3c.Config(**A3C_SMALL), A3C_HYPER, A3C_SHARED, A3C_BAD),
    "a3c continuous": Case(
        a3c, "gymnax/Pendulum-v1", a3c.Config(**A3C_SMALL), A3C_HYPER, (*A3C_SHARED, ".episode_length")
    ),
    "a3c random": Case(a3c, "gymnax/CartPole-v1", a3c.Config(**A3C_SMALL, **RANDOM), A3C_HYPER, A3C_SHARED),
    "bc": Case(
        bc,
        "own/plane",
        bc.Config(**OFFLINE_SMALL),
        {},
        OFFLINE_SHARED,
        OFFLINE_BAD,
        swept="learning_rate",
        values=(1e-3, 2e-3, 3e-3, 4e-3),
    ),
    "cdsa": Case(
        cdsa,
        "own/plane",
        cdsa.Config(**CDSA_SMALL),
        {"anneal_steps": 40.0, "ema_decay": 0.5},
        (".step", ".count", ".moments.mean", ".moments.std", ".delta", ".sigmas"),
        CDSA_BAD,
        swept="score_learning_rate",
        values=(1e-3, 2e-3, 3e-3, 4e-3),
    ),
    "dqn": Case(
        dqn, "gymnax/CartPole-v1", dqn.Config(**DQN_SMALL), DQN_HYPER, DQN_SHARED, SAC_BAD + DQN_BAD, DQN_IDLE["scalar"]
    ),
    "dqn bins": Case(
        dqn, "gymnax/CartPole-v1", dqn.Config(**DQN_SMALL, **RAINBOW), DQN_HYPER, DQN_SHARED, idle=DQN_IDLE["hl_gauss"]
    ),
    "dqn quantiles": Case(
        dqn, "gymnax/CartPole-v1", dqn.Config(**DQN_SMALL, **IQN), DQN_HYPER, DQN_SHARED, idle=DQN_IDLE["iqn"]
    ),
    "dqn pixels": Case(
        dqn,
        "gymnax/Breakout-MinAtar",
        dqn.Config(**DQN_SMALL, double=True),
        DQN_HYPER,
        (*DQN_SHARED, ".reward", ".episode_return"),
        idle=DQN_IDLE["scalar"],
    ),
    "cpl": Case(
        cpl,
        "own/plane",
        cpl.Config(**CPL_SMALL, reference=True),
        {"warmup_steps": 10.0},
        (".step", ".count", ".began", *CPL_BIASES),
        CPL_BAD,
        swept="learning_rate",
        values=(1e-3, 2e-3, 3e-3, 4e-3),
    ),
    "ga3c discrete": Case(ga3c, "gymnax/CartPole-v1", ga3c.Config(**A2C_SMALL), A2C_HYPER, (".step",), GA3C_BAD),
    "ga3c continuous": Case(
        ga3c, "gymnax/Pendulum-v1", ga3c.Config(**A2C_SMALL, prediction_lag=2), A2C_HYPER, (".step", ".episode_length")
    ),
    "iql": Case(
        iql,
        "own/plane",
        iql.Config(**OFFLINE_SMALL),
        IQL_HYPER,
        OFFLINE_SHARED,
        (*OFFLINE_BAD, ({"head": "nromal"}, "unknown head 'nromal'; did you mean 'normal'")),
    ),
    "mixed_ne": Case(
        mixed_ne,
        "gymnax/Pendulum-v1",
        mixed_ne.Config(**MIXED_SMALL),
        {"target_entropy": 0.5, "critic_learning_rate": 3e-3, "tau": 0.05, "noise": 0.1, "noise_decay": 0.01},
        (*SAC_SHARED, ".steps"),
        MIXED_BAD,
    ),
    "p_iql": Case(
        p_iql,
        "own/plane",
        p_iql.Config(hidden=(16,), batch_size=8),
        {"actor_learning_rate": 3e-3, "critic_learning_rate": 3e-3, "anneal_steps": 100.0, "reward_steps": 3.0},
        (".step", ".count"),
        (({"head": "nromal"}, "unknown head 'nromal'; did you mean 'normal'"),),
    ),
    "pqn": Case(pqn, "gymnax/CartPole-v1", pqn.Config(**SMALL), PQN_HYPER, PQN_SHARED, PPO_BAD[:3]),
    "ppo discrete": Case(ppo, "gymnax/CartPole-v1", ppo.Config(**SMALL), PPO_HYPER, PPO_SHARED, PPO_BAD),
    "ppo continuous": Case(ppo, "gymnax/Pendulum-v1", ppo.Config(**SMALL), PPO_HYPER, (*PPO_SHARED, ".episode_length")),
    "ppo pixels": Case(ppo, "gymnax/Breakout-MinAtar", ppo.Config(**SMALL), PPO_HYPER, PPO_SHARED),
    "prdc": Case(
        prdc,
        "own/plane",
        prdc.Config(**OFFLINE_SMALL, table_size=8),
        OFFLINE_HYPER,
        OFFLINE_SHARED,
        (*OFFLINE_BAD, *PRDC_BAD),
    ),
    "prdc exact": Case(
        prdc, "own/plane", prdc.Config(**OFFLINE_SMALL, table_size=8, search="exact"), OFFLINE_HYPER, OFFLINE_SHARED
    ),
    "sac discrete": Case(
        sac, "gymnax/CartPole-v1", sac.Config(**SAC_SMALL, **REDQ), SAC_HYPER, (*SAC_SHARED, ".replay.reward")
    ),
    "sac continuous": Case(
        sac, "gymnax/Pendulum-v1", sac.Config(**SAC_SMALL), SAC_HYPER, SAC_SHARED, SAC_BAD + SAC_ONLY_BAD
    ),
    "qarl": Case(qarl, "gymnax/Pendulum-v1", qarl.Config(**QARL_SMALL), QARL_HYPER, QARL_SHARED, QARL_BAD, QARL_IDLE),
    "td3_bc": Case(td3_bc, "own/plane", td3_bc.Config(**OFFLINE_SMALL), OFFLINE_HYPER, OFFLINE_SHARED, OFFLINE_BAD),
    "td3": Case(
        td3,
        "gymnax/Pendulum-v1",
        td3.Config(**TD3_SMALL),
        TD3_HYPER,
        (*SAC_SHARED, ".noise"),
        SAC_BAD,
        TD3_NOISE,
    ),
    "td3 bins": Case(
        td3,
        "gymnax/Pendulum-v1",
        td3.Config(**TD3_SMALL, **MANY),
        TD3_HYPER,
        SAC_SHARED,
        idle=("exploration_noise",),
    ),
    "a2c quantiles": Case(
        a2c,
        "gymnax/CartPole-v1",
        a2c.Config(**A2C_SMALL, head="quantile", num_bins=5),
        A2C_HYPER | {"kappa": 3.0},
        A2C_SHARED,
    ),
    "iql bins": Case(
        iql, "own/plane", iql.Config(**OFFLINE_SMALL, critic_head="hl_gauss", num_bins=11), IQL_HYPER, OFFLINE_SHARED
    ),
    "ppo bins": Case(
        ppo,
        "gymnax/Pendulum-v1",
        ppo.Config(**SMALL, head="hl_gauss", num_bins=11),
        PPO_HYPER | {"value_clip_eps": math.inf},
        (*PPO_SHARED, ".episode_length"),
        idle=("value_clip_eps",),
    ),
    "sac c51 discrete": Case(
        sac,
        "gymnax/CartPole-v1",
        sac.Config(**SAC_SMALL, head="c51", num_bins=11),
        SAC_HYPER,
        (*SAC_SHARED, ".replay.reward"),
    ),
    "sac quantiles": Case(
        sac, "gymnax/Pendulum-v1", sac.Config(**SAC_SMALL, head="quantile", num_bins=5), SAC_HYPER, SAC_SHARED
    ),
    "td3_bc c51": Case(
        td3_bc, "own/plane", td3_bc.Config(**OFFLINE_SMALL, head="c51", num_bins=11), OFFLINE_HYPER, OFFLINE_SHARED
    ),
    "stac": Case(stac, "gymnax/Pendulum-v1", stac.Config(**SAC_SMALL), SAC_HYPER, SAC_SHARED, SAC_BAD + STAC_BAD),
    "stac quantile": Case(
        stac, "gymnax/Pendulum-v1", stac.Config(**SAC_SMALL, **QUANTILE), SAC_HYPER, SAC_SHARED, idle=("beta",)
    ),
}


def plane_data(case):
    return plane_preferences() if case.module in (cpl, p_iql) else plane_dataset()


def algorithm(case: Case) -> Any:
    """The algorithm of a case, small enough to compile in seconds."""
    hyper = case.module.Hyper(**case.hyper)
    if case.env != "own/plane":
        return case.module.make(rlzoo.envs.make(case.env), case.config, hyper)
    return case.module.make(plane(), case.config, plane_data(case), hyper)


class Built(NamedTuple):
    case: Case
    algo: Any
    runs: Any  # a sweep over the rows of `table`; keys give two seeds
    traces: list[int]  # grows whenever `step` is traced, that is when a program is compiled


# Structures that share all but a network, a distribution or an order with another case, and a baseline.
SLOW = ("a2c pixels", "a3c continuous", "a3c random", "ga3c continuous", "mixed_ne", "prdc exact", "stac quantile")
SLOW += ("a2c quantiles", "iql bins", "sac c51 discrete", "sac quantiles", "td3_bc c51", "td3 bins", "dqn pixels")
SLOW += ("dqn quantiles", "ppo bins")


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in CASES],
    ids=[name.replace(" ", "-") for name in CASES],
)
def built(request):
    case = CASES[request.param]
    algo = algorithm(case)
    traces = []

    def counted(state, hyper, task):
        traces.append(1)
        return algo.step(state, hyper, task)

    counting = algo._replace(step=counted)
    return Built(case, counting, rlzoo.sweep(counting, table(case, algo.hyper)), traces)


def table(case, hyper, values=slice(0, 2)):
    """Rows for all that a sweep has to show: two values of the swept number, then each other number moved alone."""
    first, second = case.values[values]
    row = hyper._asdict() | {case.swept: first}
    rows = [row, row | {case.swept: second}]
    rows += [row | {name: moved(hyper, name)} for name in hyper._fields if name != case.swept]
    return type(hyper)(*(jnp.array([row[name] for row in rows], jnp.float32) for name in hyper._fields))


def moved(hyper, name):
    value = getattr(hyper, name)
    return 1e-7 if name == "target_kl" else 0.1 if math.isinf(value) else 0.5 * value + 1e-3


KEY = jax.random.key(7)
KEYS = jax.random.split(KEY, 2)
N = 3  # updates; one length, so that the tests share their programs


@pytest.fixture(scope="module")
def trained(built):
    """N updates of one agent, with their metrics."""
    return rlzoo.train(built.algo, KEY, N)


@pytest.fixture(scope="module")
def swept(built):
    """N updates of the sweep, with their metrics."""
    return rlzoo.train(built.runs, KEYS, N)


def test_step_keeps_shapes_dtypes_and_weak_types(built):
    state = rlzoo.init(built.algo, KEY)
    after, _ = jax.eval_shape(built.algo.step, state, float32(built.algo.hyper), built.algo.task)
    before = jax.eval_shape(lambda x: x, state)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    for (path, old), new in zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True):
        assert (old.shape, old.dtype, old.weak_type) == (new.shape, new.dtype, new.weak_type), jax.tree_util.keystr(
            path
        )
        assert not old.weak_type, jax.tree_util.keystr(path)


def test_no_key_is_used_twice(built):
    """JAX's own checker follows every key through the jaxprs of `init` and `step`; what it does not know it refuses."""
    check = pytest.importorskip("jax.experimental.key_reuse._core").check_key_reuse
    algo = built.algo
    if getattr(algo.config, "schedule", "") == "round-robin":  # of transposed keys; one worker at a time is the same
        algo = a3c.make(algo.env, dataclasses.replace(algo.config, schedule="sequential"), algo.hyper)

    def twice(key, hyper, task):
        state = algo.init(key, hyper, task)
        for _ in range(2):
            state, _ = algo.step(state, hyper, task)
        return state

    checked = twice if algo.name != "mixed_ne" else algo.init  # its step draws an action twice: once to differentiate
    check(checked, KEY, float32(algo.hyper), algo.task)


def test_state_has_the_clock_and_a_typed_key(built):
    state = rlzoo.init(built.runs, KEYS)
    assert state.step.shape == () and state.step.dtype == jnp.int32
    assert state.key.shape == (built.runs.num_hypers, 2) and jnp.issubdtype(state.key.dtype, jax.dtypes.prng_key)


# `test_drivers` holds it for one agent of PPO in every suite.
@pytest.mark.parametrize("kind", [pytest.param("one agent", marks=pytest.mark.slow), "sweep"])
def test_2n_is_n_and_resume_bit_for_bit_through_a_checkpoint_with_one_compile(built, tmp_path, kind):
    algo, key = (built.algo, KEY) if kind == "one agent" else (built.runs, KEYS)
    half, _ = rlzoo.train(algo, key, N)
    rlzoo.save(tmp_path, algo, half)
    compiled = len(built.traces)
    resumed, _ = rlzoo.resume(algo, rlzoo.load(tmp_path, algo), N)
    if kind == "sweep":  # other values of the same leaves are the same program
        other = table(built.case, built.algo.hyper, slice(2, 4))
        rlzoo.train(rlzoo.sweep(built.algo, other), KEYS, N)
    assert len(built.traces) == compiled
    whole, _ = rlzoo.train(algo, key, 2 * N)
    assert len(built.traces) == compiled + 1  # the count counts
    assert_same_bits(resumed, whole)


def test_a_directory_gives_back_algorithm_numbers_environment_and_state(built, trained, tmp_path):
    """Own environments and data as arguments, all else of the record; one agent, and a sweep."""
    given = {"env": plane(), "data": plane_data(built.case)} if built.case.env == "own/plane" else {}
    for algo, state in ((built.algo, trained[0]), (built.runs, blank(built.runs, KEYS))):
        path = tmp_path / f"of {algo.num_hypers}"
        rlzoo.save(path, algo, state)
        found = rlzoo.restore(path, **given)
        assert_same_bits(found.state, state)
        assert_same_bits(float32(found.algo.hyper), float32(algo.hyper))
        assert_same_bits(found.algo.task, algo.task)
        assert (found.algo.name, found.algo.config) == (algo.name, algo.config)
        assert (found.algo.num_hypers, found.algo.env.name) == (algo.num_hypers, algo.env.name)


def test_evaluating_changes_nothing(built, trained):
    before = copy(trained[0])
    rlzoo.evaluate(built.algo, built.algo.env, trained[0], jax.random.key(1), 2)
    assert_same_bits(before, trained[0])


def test_lane_is_the_same_run_alone(built, swept):
    state, metrics = swept
    for setting, seed in ((0, 1), (1, 0)):
        hyper = built.algo.hyper._replace(**{built.case.swept: built.case.values[setting]})
        alone, alone_metrics = rlzoo.train(built.algo._replace(hyper=hyper), KEYS[seed], N)
        assert_close(rlzoo.lane(state, setting, seed).params, alone.params, rtol=1e-3, atol=1e-4)
        lane_metrics = jax.tree.map(lambda x: x[:, setting, seed], metrics)  # noqa: B023
        assert_close(lane_metrics, alone_metrics, rtol=2e-2, atol=2e-3)


def test_two_seeds_differ_in_every_leaf_they_should(built, swept):
    first, second = (dict(named_leaves(rlzoo.lane(swept[0], 0, seed))) for seed in (0, 1))
    same = {name for name in first if np.array_equal(first[name], second[name])}
    # An environment's own state may hold constants and counters; everything else is listed in the case.
    left = {name for name in same if not name.startswith(".envs.state") and not name.endswith(built.case.shared)}
    assert not left
    own = [name for name in first if name.startswith(".envs.state")]
    assert not own or any(name not in same for name in own)


def test_state_is_donated(built):
    state = rlzoo.init(built.algo, KEY)
    rlzoo.resume(built.algo, state, N)
    assert all(x.is_deleted() for x in jax.tree.leaves(state))


def test_every_hyper_has_an_effect(built, swept):
    """Each number is moved in a lane of its own; some leaf of the State must notice within N updates."""
    kind = getattr(built.case.config, "critic_head", getattr(built.case.config, "head", ""))
    idle = (*built.case.idle, *HEAD_IDLE.get(kind, ()))
    names = [built.case.swept, *(name for name in built.algo.hyper._fields if name != built.case.swept)]
    base, *lanes = (named_leaves(rlzoo.lane(swept[0], setting, 0)) for setting in range(1 + len(names)))
    for name, lane in zip(names, lanes, strict=True):
        noticed = any(not np.array_equal(a, b) for (_, a), (_, b) in zip(base, lane, strict=True))
        assert noticed != (name in idle), f"{name} has {'an' if noticed else 'no'} effect"


def test_every_number_is_held_in_its_range(built):
    """One outside of it is refused by name, before anything is traced; the default is not."""
    algo, ranges = built.algo, ranges_of(type(built.algo.hyper))
    assert set(ranges) == set(algo.hyper._fields)
    for name, allowed in ranges.items():
        assert allowed.holds(getattr(algo.hyper, name))
        outside = next(x for x in (-1.0, 2.0, math.inf, math.nan) if not allowed.holds(x))
        wrong = algo.hyper._replace(**{name: outside})
        for give in (
            lambda: rlzoo.init(algo._replace(hyper=wrong), KEY),  # noqa: B023
            lambda: rlzoo.sweep(algo, wrong),  # noqa: B023
            lambda: rlzoo.grid(algo.hyper, **{name: [getattr(algo.hyper, name), outside]}),  # noqa: B023
        ):
            with pytest.raises(ValueError, match=f"hyper.{name}={outside:g}|hyper.{name} is nan, where"):
                give()


def test_wrong_config_says_what_to_do(built):
    for fields, message in built.case.bad:
        with pytest.raises(ValueError, match=message):
            built.case.module.Config(**(as_dict(built.case.config) | fields))


def test_unknown_names_raise(built):
    name = built.case.swept
    with pytest.raises(ValueError, match=f"did you mean '{name}'"):
        rlzoo.grid(built.algo.hyper, **{name.replace("mm", "m").replace("rn", "n"): [0.9]})
    with pytest.raises(ValueError, match="unknown preset"):
        built.case.module.presets["no such preset"]


def test_metrics_are_named_finite_scalars(built, trained):
    _, metrics = trained
    for name, values in metrics.items():
        assert name.count("/") == 1 and name == name.lower(), name
        assert values.shape == (N,) and values.dtype == jnp.float32, name
        assert np.isfinite(values).all(), name
    assert built.algo.offline or {"episode/return_sum", "episode/length_sum", "episode/count"} <= set(metrics)


def test_actions_stay_in_the_action_space(built, trained):
    algo, actor = built.algo, built.algo.actor(trained[0])
    obs = 1e3 * jax.random.normal(KEY, (256, *algo.env.obs_space.shape))
    for deterministic in (False, True):
        action = algo.policy(actor, obs, KEY, deterministic)
        assert action.shape == (256, *algo.env.action_space.shape)
        assert jax.vmap(algo.env.action_space.contains)(action).all()


def test_steps_per_update_is_what_the_environments_took(built, trained):
    """Episodes that ended plus those under way account for every step."""
    if built.algo.offline:
        pytest.skip("it takes none")
    state, metrics = trained
    begun = lambda state: state.envs.episode_length.sum() if hasattr(state, "envs") else 0  # noqa: E731
    before = begun(rlzoo.init(built.algo, KEY))  # of episodes that a warm-up began
    counted = float(metrics["episode/length_sum"].sum() + begun(state) - before)
    most = N * built.algo.steps_per_update
    assert counted == (metrics["worker/steps"].sum() if "worker/steps" in metrics else most) <= most


# The rounds of A3C and the order of PPO's minibatches count in integers; SAC has every block of the off-policy ones.
IN_64_BITS = ("a3c discrete", "ppo discrete", "sac discrete")


@pytest.mark.parametrize("name", CASES)
def test_steps_keep_their_dtypes_in_64_bits(name):
    """JAX's wide numbers, in environments that show float32: what is made without a dtype is wide, and stays so."""
    with jax.enable_x64(True):
        algo = algorithm(CASES[name])
        start = jax.eval_shape(lambda key: strong(algo.init(key, float32(algo.hyper), algo.task)), KEY)
        after, _ = jax.eval_shape(algo.step, start, float32(algo.hyper), algo.task)
    for (path, old), new in zip(jax.tree_util.tree_leaves_with_path(start), jax.tree.leaves(after), strict=True):
        assert (old.shape, old.dtype) == (new.shape, new.dtype), jax.tree_util.keystr(path)
    assert start.step.dtype == "int32"


@pytest.mark.parametrize(
    "name", [name if name in IN_64_BITS else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_trains_and_is_evaluated_in_64_bits(name, tmp_path):
    with jax.enable_x64(True):
        algo = algorithm(CASES[name])
        state, metrics = rlzoo.train(algo, KEY, 2)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(metrics))
        assert np.isfinite(rlzoo.evaluate(algo, algo.env, state, KEY, 2).returns).all()
        rlzoo.save(tmp_path, algo, state)
        assert_same_bits(rlzoo.load(tmp_path, algo), state)
