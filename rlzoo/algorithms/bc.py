"""Behaviour cloning (BC): a deterministic policy regressed on the data's actions; offline, the baseline of the others.

Pomerleau 1991; in the form, sizes and numbers of TD3+BC's policy without its value term (Fujimoto & Gu 2021,
arXiv:2106.06860). The preset for Pendulum is ours.

  loss = mean over B and A of (pi(s) - a)^2

Shapes: B = batch_size, A = action dimensions, N = rows of the dataset. A sweep adds leading axes, and all its lanes
share one dataset, the `task`. Actions are in [-1, 1], whatever the environment's box. One `step` is one gradient step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from rlzoo.algorithms.config import Preset, Presets, Structure, bounded_box
from rlzoo.algorithms.hyper import Rate, checked, numbers
from rlzoo.algorithms.td3_bc import cloning_loss
from rlzoo.blocks import networks, optim, replay
from rlzoo.data.dataset import Dataset, Moments, draw_rows, normalise, task_of
from rlzoo.types import Algorithm, Env


@dataclass(frozen=True)
class Config(Structure):  # static: fixes shapes, loop lengths and branches
    batch_size: int = 256  # B, drawn with replacement
    hidden: tuple[int, ...] = (256, 256)  # widths of the policy's layers
    activation: str = "relu"  # tanh, relu, swish or gelu
    normalise_obs: bool = True  # by the dataset's mean and standard deviation + 0.001
    actor: nn.Module | None = None  # own module, obs -> [B, A] before the tanh; replaces the default
    optim: Callable[..., Any] | None = None  # own, (hyper, updates done) -> an optax transformation

    def __post_init__(self) -> None:
        self.at_least(1, "batch_size")
        self.widths("hidden")
        self.choice("activation", networks.ACTIVATIONS)


@numbers
class Hyper(NamedTuple):  # traced: any leaf may carry a sweep axis
    learning_rate: Rate = 3e-4  # of Adam


class State(NamedTuple):  # all the next update needs, and nothing else
    params: chex.ArrayTree
    opt_state: optax.OptState
    moments: Moments  # of the dataset's observations: acting needs them
    key: chex.PRNGKey
    step: jax.Array  # int32[], updates done; never batched


def make(env: Env, config: Config, dataset: Dataset, hyper: Hyper = Hyper()) -> Algorithm:
    """Behaviour cloning of a dataset; ``env`` gives the spaces, and is what the policy is evaluated in.

    Raises:
        ValueError: the dataset is not of this environment, or its actions are discrete.
    """
    hyper = checked(hyper)
    space = bounded_box(env, "BC")
    task = task_of(dataset, env, "bc", config.normalise_obs)
    num_actions, shape = task.transitions.action.shape[-1], env.obs_space.shape
    default = networks.FeedForward(num_actions, shape, config.hidden, config.activation)
    network = networks.own(config, "actor", default, shape)

    def optimiser(hyper, step):
        return optim.own(config, hyper, step, optax.adam(hyper.learning_rate))

    def act(params, obs):
        return jnp.tanh(network.apply(params, obs))

    def policy(actor, obs, key, deterministic=False):
        params, moments = actor
        return space.from_policy(act(params, normalise(moments, obs)))

    def init(key, hyper, task):
        key, network_key = jax.random.split(key)
        params = network.init(network_key, task.transitions.obs[:1])
        return State(params, optimiser(hyper, 0).init(params), task.moments, key, jnp.int32(0))

    def step(state, hyper, task):
        key, row_key = jax.random.split(state.key)
        batch = replay.take(task.transitions, draw_rows(task, row_key, (config.batch_size,)))

        def loss(params):
            error = cloning_loss(act(params, batch.obs), batch.action).mean()
            return error, {"loss/cloning": error}

        grads, metrics = jax.grad(loss, has_aux=True)(state.params)
        params, opt_state = optim.descend(optimiser(hyper, state.step), state.params, state.opt_state, grads)
        return State(params, opt_state, state.moments, key, state.step + 1), metrics

    return Algorithm(
        "bc",
        config,
        env,
        hyper,
        task,
        init,
        step,
        actor=lambda state: (state.params, state.moments),
        policy=policy,
        steps_per_update=1,
        offline=True,
    )


presets = Presets(
    classic=Preset(Config(), Hyper()),
    pendulum=Preset(Config(hidden=(64, 64)), Hyper()),
)
