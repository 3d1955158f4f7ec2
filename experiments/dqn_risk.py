"""DQN for the worst share of returns on a small tree, over shares, beside the best there is and DQN for the mean.

    python experiments/dqn_risk.py [--seeds 8] [--record]

RiskyTree-v0 draws a lot, and then asks for a safe or a risky choice. The best CVaR is found by enumeration, of policies
that know what they have earned, and of those that do not. All shares learn in one program. Five minutes on two cores.
"""

import argparse

import jax
import numpy as np

import rlzoo
from rlzoo import dqn, report
from rlzoo.envs import risky_tree

RISKS = (0.1, 0.3, 0.6, 0.7, 0.9)
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--seeds", type=int, default=8)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()
plain = rlzoo.envs.make("rlzoo/RiskyTree-v0")
env = rlzoo.envs.stock(plain, 1.0, -8.0, 4.0)
sizes = {"num_envs": 32, "num_steps": 2, "num_updates": 4, "capacity": 8_192, "warmup": 1_024, "hidden": (64, 64)}
config = dqn.Config(**sizes, head="quantile", num_bins=32, objective="cvar")
numbers = {"learning_rate": 1e-3, "adam_eps": 1e-5, "tau": 0.02, "gamma": 1.0, "epsilon": 0.3, "kappa": 0.1}
algo = dqn.make(env, config, dqn.Hyper(**numbers, stock_low=-8.0, stock_high=4.0))
runs = rlzoo.sweep(algo, rlzoo.grid(algo.hyper, risk=list(RISKS)))
state, _ = rlzoo.train(runs, jax.random.split(jax.random.key(0), options.seeds), 1_000)
returns = np.sort(rlzoo.evaluate(runs, env, state, jax.random.key(1), 20_000).returns)  # [H, S, E]
figures = []
for risk, found in zip(RISKS, returns, strict=True):
    (best, policy), (blind, _) = risky_tree.best(plain.params, risk), risky_tree.best(plain.params, risk, knows=False)
    scores = found[:, : int(risk * found.shape[-1])].mean(-1)  # [S]
    print(f"CVaR {risk:g}: best {best:.3f} by {policy}, without the stock {blind:.3f}; learned {scores.round(3)}")
    note = (
        f"{len(scores)} seeds, {scores.min():.3f} to {scores.max():.3f}; best {best:.3f}, without the stock {blind:.3f}"
    )
    off = float(np.abs(scores - best).mean() / max(abs(best), 1.0))
    figures.append(report.Figure(f"CVaR {risk:g}: off the best", 100.0 * off, "%", bar="<= 2", note=note))
if options.record:
    report.record("DQN for CVaR on RiskyTree-v0", figures)
