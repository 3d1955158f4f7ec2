"""rlzoo's side of the speed table: one measurement, in this process."""

import time

import jax
from measure import case, say, speed

import rlzoo
from rlzoo import ppo, sac
from rlzoo.drivers.train import compiled_chunk
from rlzoo.types import Box


def flat(env):
    """Observations as vectors, as the peers' networks take them."""
    low, high = (x.ravel() for x in env.obs_space)

    def reset(key, params):
        obs, state = env.reset(key, params)
        return obs.ravel(), state

    def step(key, state, action, params):
        state, now = env.step(key, state, action, params)
        return state, now._replace(obs=now.obs.ravel(), next_obs=now.next_obs.ravel())

    return env._replace(reset=reset, step=step, obs_space=Box(low, high))


def main() -> None:
    asked = case()
    sizes = asked["sizes"]
    env = flat(rlzoo.envs.make(asked["env"], **asked["env_options"]))
    if asked["algorithm"] == "ppo":
        plain = {"normalise_obs": False, "normalise_reward": False}
        algo = ppo.make(env, ppo.Config(**sizes | {"hidden": tuple(sizes["hidden"])}, activation="tanh", **plain))
    else:
        algo = sac.make(env, sac.Config(**sizes | {"hidden": tuple(sizes["hidden"])}))
    lanes, updates = asked["lanes"], asked["updates"]
    key = jax.random.key(0)
    if lanes > 1:
        algo, key = rlzoo.sweep(algo), jax.random.split(key, lanes)
    state = rlzoo.init(algo, key, quiet=True)
    began = time.perf_counter()
    compiled_chunk(algo, state, updates)
    compile_seconds = time.perf_counter() - began

    def run():
        nonlocal state
        state, metrics = rlzoo.resume(algo, state, updates)
        return state, metrics

    say(speed(run, lanes * updates * algo.steps_per_update), compile_seconds)


if __name__ == "__main__":
    main()
