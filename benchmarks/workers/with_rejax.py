"""Rejax's side of the speed table: its own training iteration, without its evaluation."""

import time

import jax
from measure import case, say, speed
from rejax import PPO, SAC


def algorithm(asked):
    """PPO or SAC of the sizes asked for, and the environment's steps in one of its iterations.

    What is not among the sizes is as Rejax has it, or as ``more`` says in its names.
    """
    sizes = asked["sizes"]
    env = {"env": asked["env"], "env_params": asked["env_options"]}
    if asked["algorithm"] == "ppo":
        network = {"hidden_layer_sizes": tuple(sizes["hidden"]), "activation": "tanh"}
        own = {name: sizes[name] for name in ("num_envs", "num_steps", "num_epochs", "num_minibatches")}
        own |= {"max_grad_norm": 0.5, "agent_kwargs": network} | asked.get("more", {})
        return PPO.create(**env, **own), own["num_envs"] * own["num_steps"]
    # Layer sizes among agent_kwargs are silently overwritten in SAC, so they are given beside them.
    own = {"num_envs": 1, "num_epochs": 1, "hidden_layer_sizes": tuple(sizes["hidden"])}
    own |= {"batch_size": sizes["batch_size"], "buffer_size": sizes["capacity"], "fill_buffer": sizes["warmup"]}
    own |= asked.get("more", {})
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
    assert any(x.shape[-2:] == (width, width) for x in jax.tree.leaves(state.actor_ts.params)), "not the sizes asked"
    loop = lambda state, n: jax.lax.fori_loop(0, n, lambda _, s: iterate(s), state)  # noqa: E731
    train = jax.jit(loop, donate_argnums=0)  # in place, as ours
    began = time.perf_counter()
    train = train.lower(state, updates).compile()
    compile_seconds = time.perf_counter() - began
    if asked["algorithm"] == "sac" and lanes == 1:
        # Learning begins when the buffer is so full. Its cost begins at once under vmap, where both branches run.
        state = train(state, sizes["warmup"])

    def run():
        nonlocal state
        state = train(state, updates)
        return state

    say(speed(run, lanes * updates * batch), compile_seconds)


if __name__ == "__main__":
    main()
