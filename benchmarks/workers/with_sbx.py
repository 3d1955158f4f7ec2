"""SBX's side of the speed table: one agent on gymnasium's environments, its updates compiled, its loop in Python."""

import time

from measure import case, say, speed
from sbx import PPO, SAC
from stable_baselines3.common.env_util import make_vec_env


def main() -> None:
    asked = case()
    sizes = asked["sizes"]
    network = {"net_arch": sizes["hidden"]}
    if asked["env"].startswith("MinAtar"):
        import gymnasium
        import minatar.gym

        if asked["env"] not in gymnasium.registry:
            minatar.gym.register_envs()
    if asked["algorithm"] == "ppo":
        batch = sizes["num_envs"] * sizes["num_steps"]
        algo = PPO(
            "MlpPolicy",
            make_vec_env(asked["env"], sizes["num_envs"]),
            n_steps=sizes["num_steps"],
            batch_size=batch // sizes["num_minibatches"],
            n_epochs=sizes["num_epochs"],
            policy_kwargs=network,
        )
        steps = asked["updates"] * batch
    else:
        batch = 1
        algo = SAC(
            "MlpPolicy",
            make_vec_env(asked["env"], 1),
            batch_size=sizes["batch_size"],
            buffer_size=sizes["capacity"],
            learning_starts=sizes["warmup"],
            policy_kwargs=network,
        )
        steps = asked["updates"]
    began = time.perf_counter()
    algo.learn(batch if asked["algorithm"] == "ppo" else sizes["warmup"] + 2)  # compiles
    first = time.perf_counter() - began
    say(speed(lambda: algo.learn(steps, reset_num_timesteps=False) and None, steps), first)


if __name__ == "__main__":
    main()
