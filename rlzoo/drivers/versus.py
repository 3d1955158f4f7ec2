"""Policies against adversaries: their own ones, and fresh ones that know nothing but how to hurt them."""

from collections.abc import Callable
from typing import Any

import jax

from rlzoo.algorithms import sac
from rlzoo.drivers.evaluate import Episodes, evaluate
from rlzoo.drivers.sweep import lanes_of, sweep
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
    deterministic: bool = True,
) -> Episodes:
    """Evaluate every lane's policy against an adversary of its own.

        rlzoo.against(runs, game, state, qarl.adversary(runs), state.params.adversary.actor, key, 64)

    Args:
        policy: the adversary's, (actor, obs, key) -> pushes. actors: what it takes, of a sweep with leaves [H, S, ...].
    Returns:
        as of `rlzoo.evaluate`.
    """
    lanes = state.key.shape
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[len(lanes) :]), actors) if lanes else actors
    first = jax.tree.map(lambda x: x[0], flat) if lanes else flat
    env = with_adversary(game, policy, first)
    if not lanes:
        return evaluate(algo, env, state, key, num_episodes, deterministic=deterministic)
    task = env.params._replace(actor=flat)
    episodes = evaluate(algo, env, _in_one_column(state), key, num_episodes, task, deterministic)
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
) -> tuple[Episodes, Episodes]:
    """Evaluate every lane's frozen policy against an adversary that SAC trains for it alone.

    All adversaries, one a lane, are one sweep over the policies, in one program, from the same seed. The policies act
    stochastically while adversaries are trained, and by their mode afterwards, as the adversaries do.

    Args:
        algo: any, trained in an environment of the game's spaces; one agent or a sweep.
        env_steps: that each adversary is trained for, as for `updates_for`. config, hyper: of the adversaries.
    Returns:
        episodes as of `rlzoo.evaluate` against the trained adversary, and the same episodes without one.
    """
    lanes, actor = state.key.shape, algo.actor
    for _ in lanes:  # what lanes share is repeated
        actor = jax.vmap(actor, (lanes_of(state),))
    actors = jax.tree.map(lambda x: x.reshape(-1, *x.shape[len(lanes) :]), actor(state))
    first = jax.tree.map(lambda x: x[0], actors)
    env = with_protagonist(game, algo.policy, first)
    runs = sweep(sac.make(env, config, hyper), task=env.params._replace(actor=actors))
    trained, _ = train(runs, key[None], updates_for(runs, env_steps))
    still = with_protagonist(game, lambda actor, obs, key: algo.policy(actor, obs, key, True), first)
    episodes = evaluate(runs, still, trained, key, num_episodes, runs.task)
    attacked = Episodes(*(x.reshape(*lanes, num_episodes) for x in (-episodes.returns, episodes.lengths)))
    return attacked, evaluate(algo, game.env, state, key, num_episodes)


def _in_one_column(state: Any) -> Any:
    """Lanes [H, S] as [H S, 1]: each a setting, so that it may have a task of its own."""
    axes = lanes_of(state)
    return type(state)(
        *(
            part if axis is None else jax.tree.map(lambda x: x.reshape(-1, 1, *x.shape[2:]), part)
            for axis, part in zip(axes, state, strict=True)
        )
    )
