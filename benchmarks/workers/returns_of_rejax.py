"""Rejax's side of the table of returns: agents trained by its own iteration, and tried by its own evaluation."""

import json

import jax
import numpy as np
from measure import case
from rejax.evaluate import evaluate
from with_rejax import algorithm


def main() -> None:
    asked = case()
    algo, steps_of_one = algorithm(asked)
    devices = jax.local_device_count()
    keys = jax.random.split(jax.random.PRNGKey(asked["seed"]), asked["lanes"])
    keys = keys.reshape(devices, -1, *keys.shape[1:])

    def returns(key):
        init_key, eval_key = jax.random.split(key)
        state = algo.init_state(init_key)
        state = jax.lax.fori_loop(0, asked["steps"] // steps_of_one, lambda _, s: algo.train_iteration(s), state)
        limit = algo.env_params.max_steps_in_episode
        return evaluate(algo.make_act(state), eval_key, algo.env, algo.env_params, asked["episodes"], limit)[1]

    found = jax.pmap(jax.vmap(returns))(keys)  # [D, S / D, E]
    print(json.dumps({"returns": np.asarray(found).reshape(asked["lanes"], -1).tolist()}))


if __name__ == "__main__":
    main()
