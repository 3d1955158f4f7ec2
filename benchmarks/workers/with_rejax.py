"""Rejax's side of the speed table: its own training iteration, without its evaluation."""

import time

import jax
from measure import case, say, speed
from rejax import DQN, IQN, PPO, PQN, SAC, TD3

RELU = {"activation": "relu"}


def algorithm(asked):
    """One of the sizes asked for, and the environment's steps in one of its iterations.

    What is not among the sizes is as Rejax has it, or as ``more`` says in its names. Sizes of DQN's, PQN's and TD3's
    hidden layers cannot be given: they are always 64 and 64.
    """
    sizes = asked["sizes"]
    env = {"env": asked["env"], "env_params": asked["env_options"]}
    if asked["algorithm"] == "ppo":
        network = {"hidden_layer_sizes": tuple(sizes["hidden"]), "activation": "tanh"}
        own = {name: sizes[name] for name in ("num_envs", "num_steps", "num_epochs", "num_minibatches")}
        own |= {"max_grad_norm": 0.5, "agent_kwargs": network} | asked.get("more", {})
        return PPO.create(**env, **own), own["num_envs"] * own["num_steps"]
    if asked["algorithm"] == "pqn":
        own = {name: sizes[name] for name in ("num_envs", "num_steps", "num_epochs", "num_minibatches")}
        return PQN.create(**env, **own), own["num_envs"] * own["num_steps"]
    own = {"num_envs": 1, "num_epochs": 1, "total_timesteps": 1_000_000}
    own |= {"batch_size": sizes["batch_size"], "buffer_size": sizes["capacity"], "fill_buffer": sizes["warmup"]}
    if asked["algorithm"] == "td3":  # of which an iteration has several steps, and one of the policy
        return TD3.create(**env, **own, actor_kwargs=dict(RELU), critic_kwargs=dict(RELU)), sizes["num_steps"]
    if asked["algorithm"] == "dqn" and sizes.get("head") != "iqn":
        return DQN.create(**env, **own, agent_kwargs=dict(RELU)), 1
    if asked["algorithm"] == "dqn":
        network = RELU | {"hidden_layer_sizes": tuple(sizes["hidden"][:-1])}
        return IQN.create(**env, **own, agent_kwargs=network), 1
    # Layer sizes among agent_kwargs are silently overwritten in SAC, so they are given beside them.
    own |= {"hidden_layer_sizes": tuple(sizes["hidden"])} | asked.get("more", {})
    return SAC.create(**env, **own), own["num_envs"]


def main() -> None:
    asked = case()
    sizes, lanes, updates = asked["sizes"], asked["lanes"], asked["updates"]
    algo, batch = algorithm(asked)
    init, iterate = algo.init_state, algo.train_iteration
    key = jax.random.PRNGKey(0)
    if lanes > 1:
        init, iterate, key = jax.vmap(init), jax.vmap(iterate), jax.random.split(key, lanes)
    state = jax.jit(init)(key)
    width = sizes["hidden"][0]
    learner = state.actor_ts if hasattr(state, "actor_ts") else state.q_ts
    assert any(x.shape[-2:] == (width, width) for x in jax.tree.leaves(learner.params)), "not the sizes asked"
    loop = lambda state, n: jax.lax.fori_loop(0, n, lambda _, s: iterate(s), state)  # noqa: E731
    train = jax.jit(loop, donate_argnums=0)  # in place, as ours
    began = time.perf_counter()
    train = train.lower(state, updates).compile()
    compile_seconds = time.perf_counter() - began
    if "warmup" in sizes and lanes == 1:
        # Learning begins when the buffer is so full. Its cost begins at once under vmap, where both branches run.
        state = train(state, sizes["warmup"])

    def run():
        nonlocal state
        state = train(state, updates)
        return state

    say(speed(run, lanes * updates * batch), compile_seconds)


if __name__ == "__main__":
    main()
