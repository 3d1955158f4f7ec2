"""Pgx (Koyamada et al. 2023, arXiv:2303.17503): board and card games, and MinAtar, as one player's environments.

The agent is player 0; whoever begins is drawn at each reset. The others move by a fixed ``opponent``, at random among
what is legal by default, until it is the agent's turn. All see the board as theirs. The reward is player 0's, also for
what the others do.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rlzoo.envs.episodes import typed_as, with_episodes
from rlzoo.envs.observations import layout
from rlzoo.envs.suites import imported
from rlzoo.types import Discrete, Env

Opponent = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]  # (obs, legal, key) -> action, of one board
MOVES = {"backgammon": 5, "leduc_holdem": 3, "kuhn_poker": 2}  # the most that others make between two of the agent's
# The most own moves of games that have an end; of others 1,000.
LENGTHS = {"connect_four": 21, "hex": 61, "kuhn_poker": 3, "leduc_holdem": 8, "othello": 64, "tic_tac_toe": 5}


def names() -> tuple[str, ...]:
    return tuple(imported("pgx", "pgx").available_envs())


def at_random(obs: jax.Array, legal: jax.Array, key: jax.Array) -> jax.Array:
    return Discrete(len(legal)).sample(key, legal)


def make(name: str, opponent: Opponent = at_random, horizon: int | None = None, cached_reset: bool = False) -> Env:
    """Build ``pgx/name``.

    Args:
        opponent: (obs, legal, key) -> action of whoever else plays; a policy of rlzoo's takes obs as an `Observation`.
        horizon: time limit in the agent's moves. cached_reset: replay each environment's first state.
    """
    raw = imported("pgx", "pgx").make(name)
    horizon = horizon or LENGTHS.get(name, 1_000)
    others = MOVES.get(name, raw.num_players - 1)

    def answered(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        """The board when it is the agent's turn, or the game is over, and what the agent got meanwhile."""

        def move(carry: Any, key: jax.Array) -> tuple[Any, None]:
            state, reward = carry
            act_key, step_key = jax.random.split(key)
            action = opponent(state.observation, state.legal_action_mask, act_key)
            new = raw.step(state, action, step_key)
            theirs = (state.current_player != 0) & ~(state.terminated | state.truncated)
            state = jax.tree.map(lambda new, old: jnp.where(theirs, new, old), new, state)
            return (state, reward + jnp.where(theirs, new.rewards[0], 0.0)), None

        if not others:
            return state, jnp.zeros(())
        return jax.lax.scan(move, (state, jnp.zeros(())), jax.random.split(key, others))[0]

    def look(state: Any) -> dict[str, jax.Array]:
        seen = raw._observe(state, jnp.zeros_like(state.current_player))  # at the end it may be another's turn
        return {"board": seen, "legal": state.legal_action_mask}

    def reset(key: jax.Array, params: Any) -> tuple[Any, Any]:
        key, first_key = jax.random.split(key)
        state, _ = answered(raw.init(first_key), key)
        return observe(look(state)), state

    def step(key: jax.Array, state: Any, action: jax.Array, params: Any) -> tuple[Any, ...]:
        own_key, others_key = jax.random.split(key)
        new = raw.step(state, action, own_key)
        after, reward = answered(new, others_key)
        after = typed_as(state, after)
        return after, observe(look(after)), new.rewards[0] + reward, after.terminated

    example = jax.eval_shape(lambda key: look(raw.init(key)), jax.random.key(0))
    actions = Discrete(example["legal"].shape[0])
    observe, space = layout(f"pgx/{name}", example, actions)
    title = f"pgx/{name}" + (" cached_reset" if cached_reset else "")
    return Env(title, *with_episodes(reset, step, horizon, cached_reset), (), space, actions, horizon)
