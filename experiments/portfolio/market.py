"""A market to allocate in: several assets, transaction costs, and a tax or grant on what they do to the world.

An environment of your own is a class derived from gymnax's `Environment`: `reset_env`, `step_env` and two spaces; the
base class truncates and resets. What you may want to sweep goes into its parameters, a flax dataclass of numbers.

Each step the agent chooses weights on the simplex, as a softmax of its action; log-returns r of n assets are normal
with means that drift slowly (an AR(1) process that the agent sees only through past returns):

    wealth'/wealth = (w . exp(r)) (1 - cost |w - w_drifted|_1),   reward = log(wealth'/wealth) + tax (w . esg)

`esg` in [-1, 1] is each asset's score: holding a polluter (negative) is taxed and a clean asset earns a grant, in
log-wealth per step. The polluters have the higher expected return, so that the tax decides who wins.
"""

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

ESG = jnp.array([1.0, 0.6, 0.2, -0.4, -1.0])  # from clean to polluting
PREMIUM = jnp.array([0.0, 0.5, 1.0, 1.8, 2.8])  # expected log-return of each asset, in units of `drift`
NUM_ASSETS = len(ESG)
WINDOW = 4  # past steps of returns that the agent sees


@struct.dataclass
class MarketParams(environment.EnvParams):
    drift: float = 0.001  # mean log-return per step of an asset of premium 1
    volatility: float = 0.01  # standard deviation of a step's log-return
    momentum: float = 0.9  # autocorrelation of the drifting means
    momentum_scale: float = 0.004  # standard deviation of the drifting means, log-return per step
    cost: float = 0.001  # of turning over wealth once, as a share of it
    tax: float = 0.0  # log-wealth per step and unit of ESG score
    max_steps_in_episode: int = 100


@struct.dataclass
class MarketState(environment.EnvState):
    weights: jax.Array  # f32[n], as drifted with the last returns
    signal: jax.Array  # f32[n], the drifting part of the means
    window: jax.Array  # f32[WINDOW, n], past log-returns in units of `volatility`


class Market(environment.Environment[MarketState, MarketParams]):
    """Allocate wealth over five assets for a hundred steps."""

    @property
    def name(self) -> str:
        return "Portfolio"

    @property
    def default_params(self) -> MarketParams:
        return MarketParams()

    def reset_env(self, key: jax.Array, params: MarketParams) -> tuple[jax.Array, MarketState]:
        signal = params.momentum_scale * jax.random.normal(key, (NUM_ASSETS,))
        state = MarketState(
            time=0,
            weights=jnp.full(NUM_ASSETS, 1.0 / NUM_ASSETS),
            signal=signal,
            window=jnp.zeros((WINDOW, NUM_ASSETS)),
        )
        return self.get_obs(state), state

    def step_env(self, key: jax.Array, state: MarketState, action: jax.Array, params: MarketParams):
        weights = jax.nn.softmax(2.0 * action)  # action in [-1, 1]: up to e^4 = 55 times the weight of another asset
        noise_key, signal_key = jax.random.split(key)
        log_return = params.drift * PREMIUM + state.signal
        log_return += params.volatility * jax.random.normal(noise_key, (NUM_ASSETS,))

        turnover = jnp.abs(weights - state.weights).sum()
        growth = weights @ jnp.exp(log_return)
        reward = jnp.log(growth * (1.0 - params.cost * turnover)) + params.tax * weights @ ESG

        innovation = params.momentum_scale * jnp.sqrt(1.0 - params.momentum**2)
        state = MarketState(
            time=state.time + 1,
            weights=weights * jnp.exp(log_return) / growth,
            signal=params.momentum * state.signal + innovation * jax.random.normal(signal_key, (NUM_ASSETS,)),
            window=jnp.concatenate([state.window[1:], log_return[None] / params.volatility]),
        )
        # Never terminated: after `max_steps_in_episode` the base class truncates, and the market goes on.
        return self.get_obs(state), state, reward, jnp.array(False), {}

    def get_obs(self, state: MarketState, params=None, key=None) -> jax.Array:
        return jnp.concatenate([state.weights, state.window.ravel()])

    def action_space(self, params=None) -> spaces.Box:
        return spaces.Box(-1.0, 1.0, (NUM_ASSETS,))

    def observation_space(self, params: MarketParams) -> spaces.Box:
        return spaces.Box(-jnp.inf, jnp.inf, (NUM_ASSETS * (1 + WINDOW),))
