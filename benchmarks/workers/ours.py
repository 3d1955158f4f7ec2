"""rlzoo's side of the speed table: one measurement, in this process."""

from measure import case, say, timed

import rlzoo
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
    """One of the sizes asked for, with the peers' networks; what is not asked for is as it is by default."""
    env = flat(rlzoo.envs.make(asked["env"], **asked["env_options"]))
    sizes = {name: tuple(x) if isinstance(x, list) else x for name, x in asked["sizes"].items()}
    if asked["algorithm"] == "ppo":
        sizes |= {"activation": "tanh", "normalise_obs": False, "normalise_reward": False}
    module = rlzoo.ALGORITHMS[asked["algorithm"]]
    return module.make(env, module.Config(**sizes))


def main() -> None:
    asked = case()
    algo = algorithm(asked)
    measured = timed(algo, asked["lanes"], asked["updates"], asked.get("spread", False))
    say(measured.speed * algo.steps_per_update, measured.compile)


if __name__ == "__main__":
    main()
