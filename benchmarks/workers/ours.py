"""rlzoo's side of the speed table: one measurement, in this process."""

from measure import case, say, timed

import rlzoo
from rlzoo import ppo, sac
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


def algorithm(asked):
    """PPO or SAC of the sizes asked for, with the peers' networks."""
    env = flat(rlzoo.envs.make(asked["env"], **asked["env_options"]))
    sizes = asked["sizes"] | {"hidden": tuple(asked["sizes"]["hidden"])}
    if asked["algorithm"] == "sac":
        return sac.make(env, sac.Config(**sizes))
    return ppo.make(env, ppo.Config(**sizes, activation="tanh", normalise_obs=False, normalise_reward=False))


def main() -> None:
    asked = case()
    algo = algorithm(asked)
    measured = timed(algo, asked["lanes"], asked["updates"], asked.get("spread", False))
    say(measured.speed * algo.steps_per_update, measured.compile)


if __name__ == "__main__":
    main()
