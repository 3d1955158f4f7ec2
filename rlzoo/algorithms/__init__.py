"""One file per algorithm, to be read beside its paper."""

from rlzoo.algorithms import (
    a2c,
    a2pr,
    a3c,
    bc,
    cdsa,
    cpl,
    ga3c,
    iql,
    mixed_ne,
    p_iql,
    ppo,
    prdc,
    qarl,
    sac,
    stac,
    td3_bc,
)

ALGORITHMS = {
    "a2c": a2c,
    "a2pr": a2pr,
    "a3c": a3c,
    "bc": bc,
    "cdsa": cdsa,
    "cpl": cpl,
    "ga3c": ga3c,
    "iql": iql,
    "mixed_ne": mixed_ne,
    "p_iql": p_iql,
    "ppo": ppo,
    "prdc": prdc,
    "qarl": qarl,
    "sac": sac,
    "stac": stac,
    "td3_bc": td3_bc,
}
