"""Noise on any environment, its strengths parameters that may be swept: rewards, actions, and sticky actions.

Sticky actions: Machado et al. 2018, arXiv:1709.06009, Section 5.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo.envs import recipes
from rlzoo.types import Box, Env, MultiDiscrete, Space, environment, mask_of


class Params(NamedTuple):
    env: Any  # the inner environment's parameters
    reward_noise: jax.Array  # standard deviation of the normal noise, reward units
    action_noise: jax.Array  # box: standard deviation in half widths; discrete: probability of a random action
    sticky: jax.Array  # probability that the last action is taken again


class State(NamedTuple):
    env: Any
    last_action: jax.Array
    started: jax.Array  # bool[], there is a last action in this episode
    legal: Any  # bool[K], which actions may be taken now; None: nothing is said of it


def stochastic(env: Env, reward_noise: float = 0.0, action_noise: float = 0.0, sticky: float = 0.0) -> Env:
    """``env`` with noise. The strengths are the fields of its parameters: `Params`; zeros leave it as it is.

    In the order of events: with probability ``sticky`` the last action replaces the one given (never at the start of
    an episode); then the action is disturbed, and fitted into its box; then the reward.

    Raises:
        ValueError: a strength below zero, or a probability above one; action noise on an unbounded box; a stock inside.
    """
    given = {"reward_noise": reward_noise, "action_noise": action_noise, "sticky": sticky}
    environment(env, "stochastic")
    if env.stock is not None:
        raise ValueError(f"{env.name}: its stock would not count the noise; wrap the other way: stock(stochastic(env))")
    space, continuous = env.action_space, isinstance(env.action_space, Box)
    for name, value in given.items():
        probability = name == "sticky" or (name == "action_noise" and not continuous)
        if value < 0.0 or (probability and value > 1.0):
            raise ValueError(f"{name}={value}; it must be {'between 0 and 1' if probability else '0 or more'}")
    if isinstance(space, Box) and not space.bounded:
        raise ValueError(f"{env.name}: its action box is unbounded, so that action noise has no unit; wrap the actions")
    params = Params(env.params, *(jnp.float32(value) for value in given.values()))

    def disturb(key, action, strength, legal):
        random_key, choice_key = jax.random.split(key)
        if isinstance(space, Box):
            noise = strength * 0.5 * (space.high - space.low) * jax.random.normal(random_key, action.shape)
            return jnp.where(strength > 0.0, jnp.clip(action + noise, space.low, space.high), action)
        return jnp.where(jax.random.bernoulli(choice_key, strength), space.sample(random_key, legal), action)

    def blank_action():
        shape = jax.eval_shape(space.sample, jax.random.key(0))
        return jnp.zeros(shape.shape, shape.dtype)

    def reset(key, params):
        obs, inner = env.reset(key, params.env)
        return obs, State(inner, blank_action(), jnp.array(False), mask_of(obs))

    def step(key, state, action, params):
        sticky_key, action_key, reward_key, env_key = jax.random.split(key, 4)
        stuck = state.started & jax.random.bernoulli(sticky_key, params.sticky)
        if state.legal is not None:  # what may not be taken again is not
            stuck &= _may(space, state.last_action, state.legal)
        action = jnp.where(stuck, state.last_action, action).astype(state.last_action.dtype)
        inner, now = env.step(
            env_key, state.env, disturb(action_key, action, params.action_noise, state.legal), params.env
        )
        reward = now.reward + params.reward_noise * jax.random.normal(reward_key)
        started = ~(now.terminated | now.truncated)
        return State(inner, action, started, mask_of(now.obs)), now._replace(reward=reward)

    noisy = env._replace(name=f"{env.name} stochastic", reset=reset, step=step, params=params)
    return recipes.wrapped(noisy, env, "stochastic", **{name: float(value) for name, value in given.items()})


def _may(space: Space, action: jax.Array, legal: jax.Array) -> jax.Array:
    """Whether an action is legal; of several numbers, whether all are."""
    starts = np.cumsum([0, *space.n[:-1]]) if isinstance(space, MultiDiscrete) else 0
    return legal[starts + action].all()
