"""Policies against adversaries: their own ones, and fresh ones that know nothing but how to hurt them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rlzoo.algorithms import sac
from rlzoo.drivers.evaluate import Episodes, default_task, evaluate
from rlzoo.drivers.sweep import lanes_of, map_lanes, sweep, swept_axes
from rlzoo.drivers.train import train, updates_for
from rlzoo.envs.adversarial import Game, with_adversary, with_protagonist
from rlzoo.types import Algorithm


def against(
    algo: Algorithm,
    game: Game,
    state: Any,
    policy: Callable[..., jax.Array],
    actors: Any,
    key: jax.Array,
    num_episodes: int,
    task: Any = None,
    deterministic: bool = True,
) -> Episodes:
    """Evaluate every lane's policy against an adversary of its own, who acts as its policy does, at random or not.

        rlzoo.against(runs, game, state, qarl.adversary(runs), state.params.adversary.actor, key, 64)

    Args:
        policy: the adversary's, (actor, obs, key) -> pushes. actors: what it takes, of a sweep with leaves [H, S, ...].
        task: the game's parameters, as for `evaluate`. deterministic: of the policies that are evaluated.
    Returns:
        as of `rlzoo.evaluate`.
    """
    lanes = state.key.shape
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[len(lanes) :]), actors) if lanes else actors
    first = jax.tree.map(lambda x: x[0], flat) if lanes else flat
    env = with_adversary(game, policy, first)
    params = env.params._replace(game=_task_of_lanes(algo, game, lanes, task), actor=flat)
    if not lanes:
        return evaluate(algo, env, state, key, num_episodes, params, deterministic)
    one_column = map_lanes(lambda x: x.reshape(-1, 1, *x.shape[2:]), state)  # a task belongs to a setting
    episodes = evaluate(algo, env, one_column, key, num_episodes, params, deterministic)
    return jax.tree.map(lambda x: x.reshape(*lanes, num_episodes), episodes)


def worst_case(
    algo: Algorithm,
    game: Game,
    state: Any,
    key: jax.Array,
    env_steps: int,
    num_episodes: int,
    config: sac.Config = sac.Config(),
    hyper: sac.Hyper = sac.Hyper(),
    task: Any = None,
    deterministic: bool = True,
) -> tuple[Episodes, Episodes]:
    """Evaluate every lane's frozen policy against an adversary that SAC trains for it alone.

    All adversaries, one a lane, are one sweep over the policies, in one program, from the same seed. The policies act
    stochastically while adversaries are trained, and afterwards both by their mode, unless asked otherwise.

    Args:
        algo: any, trained in an environment of the game's spaces; one agent or a sweep.
        env_steps: that each adversary is trained for, as for `updates_for`. config, hyper: of the adversaries.
        task: the game's parameters, as for `evaluate`. deterministic: of both, when they are evaluated.
    Returns:
        episodes as of `rlzoo.evaluate` against the trained adversary, and without one from the same starts.
    """
    train_key, eval_key = jax.random.split(key)
    lanes, actor = state.key.shape, algo.actor
    for _ in lanes:  # what lanes share is repeated
        actor = jax.vmap(actor, (lanes_of(state),))
    actors = jax.tree.map(lambda x: x.reshape(-1, *x.shape[len(lanes) :]), actor(state))
    first = jax.tree.map(lambda x: x[0], actors)
    env = with_protagonist(game, algo.policy, first)
    own = _task_of_lanes(algo, game, lanes, task)
    runs = sweep(sac.make(env, config, hyper), task=env.params._replace(game=own, actor=actors))
    runs = runs._replace(devices=algo.devices)
    trained, _ = train(runs, train_key[None], updates_for(runs, env_steps))
    still = with_protagonist(game, lambda actor, obs, key: algo.policy(actor, obs, key, deterministic), first)
    episodes = evaluate(runs, still, trained, eval_key, num_episodes, runs.task, deterministic)
    attacked = Episodes(*(x.reshape(*lanes, num_episodes) for x in (-episodes.returns, episodes.lengths)))
    return attacked, evaluate(algo, game.env, state, eval_key, num_episodes, task, deterministic)


def _task_of_lanes(algo: Algorithm, game: Game, lanes: tuple[int, ...], task: Any) -> Any:
    """The game's parameters with swept leaves [H] repeated for every seed, [H S]."""
    task = default_task(algo, game.env) if task is None else task
    axes = swept_axes(game.env.params, task, "task")
    repeat = lambda axis, x: x if axis is None else jnp.repeat(x, lanes[1], axis=0)  # noqa: E731
    return jax.tree.map(repeat, axes, task, is_leaf=lambda x: x is None)
