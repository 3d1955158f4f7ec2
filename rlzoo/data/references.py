"""D4RL's reference scores and horizons (Fu et al. 2020, arXiv:2004.07219; version 1.1 of the package), by exact name.

The scores are those of its table `infos`; of names that this lacks (the first mazes, those for evaluation, long
horizons, AntMaze v1) those that they are registered with. A name that is not here has none: nothing is guessed.
"""

import itertools
from typing import NamedTuple


class Reference(NamedTuple):
    random: float  # return of the uniformly random policy
    expert: float
    horizon: int | None = None  # steps of an episode; None: the package registers no such environment


def _spelled(pattern: str) -> list[str]:
    """The names of a pattern: words between spaces are joined by "-", and "|" is between the choices of one."""
    return ["-".join(words) for words in itertools.product(*(word.split("|") for word in pattern.split()))]


def _same(reference: Reference, *patterns: str) -> dict[str, Reference]:
    return {name: reference for pattern in patterns for name in _spelled(pattern)}


GYM = ("random|medium|expert|medium-replay|medium-expert v0|v1|v2", "full-replay v1|v2")
ADROIT = "human|cloned|expert v0|v1"
LONG = "human-longhorizon v0|v1"
BULLET = "random|medium|expert|medium-replay|medium-expert v0"

REFERENCES: dict[str, Reference] = {
    **_same(Reference(-280.178953, 12135.0, 1000), *[f"halfcheetah {x}" for x in GYM]),
    **_same(Reference(-20.272305, 3234.3, 1000), *[f"hopper {x}" for x in GYM]),
    **_same(Reference(1.629008, 4592.3, 1000), *[f"walker2d {x}" for x in GYM]),
    **_same(Reference(-325.6, 3879.7, 1000), *[f"ant {x}" for x in GYM]),
    **_same(Reference(0.0, 1.0, 700), "antmaze umaze|umaze-diverse v0|v1|v2", "antmaze-eval umaze|umaze-diverse v0"),
    **_same(Reference(0.0, 1.0, 1000), "antmaze medium|large play|diverse v0|v1|v2"),
    **_same(Reference(0.0, 1.0, 1000), "antmaze-eval medium|large play|diverse v0"),
    **_same(Reference(0.0, 1.0, 2000), "antmaze-ultra play|diverse v2"),
    **_same(Reference(0.01, 20.66, 150), "maze2d-open-v0"),
    **_same(Reference(11.17817, 27.166538620695782, 150), "maze2d-open-dense-v0"),
    **_same(Reference(0.94, 62.6, 150), "maze2d-umaze-v0"),
    **_same(Reference(5.77, 85.14, 250), "maze2d-medium-v0"),
    **_same(Reference(4.83, 191.99, 600), "maze2d-large-v0"),
    **_same(Reference(23.249793, 81.78995240126592, 150), "maze2d-umaze-dense-v0"),
    **_same(Reference(19.477620, 96.03474232952358, 250), "maze2d-medium-dense-v0"),
    **_same(Reference(27.388310, 215.09965671563742, 600), "maze2d-large-dense-v0"),
    **_same(Reference(23.85, 161.86, 300), "maze2d-umaze-v1"),
    **_same(Reference(13.13, 277.39, 600), "maze2d-medium-v1"),
    **_same(Reference(6.7, 273.99, 800), "maze2d-large-v1"),
    **_same(Reference(68.537689, 193.66285642381482, 300), "maze2d-umaze-dense-v1"),
    **_same(Reference(44.264742, 297.4552547777125, 600), "maze2d-medium-dense-v1"),
    **_same(Reference(30.569041, 303.4857382709002, 800), "maze2d-large-dense-v1"),
    **_same(Reference(36.63, 141.4, 300), "maze2d-eval-umaze-v1"),
    **_same(Reference(13.07, 204.93, 600), "maze2d-eval-medium-v1"),
    **_same(Reference(16.4, 302.22, 800), "maze2d-eval-large-v1"),
    **_same(Reference(56.95455, 178.21373133248397, 300), "maze2d-eval-umaze-dense-v1"),
    **_same(Reference(42.28578, 235.5658957482388, 600), "maze2d-eval-medium-dense-v1"),
    **_same(Reference(56.95455, 326.09647655082637, 800), "maze2d-eval-large-dense-v1"),
    **_same(Reference(0.0, 4.0, 280), "kitchen complete|partial|mixed v0"),
    **_same(Reference(96.262799, 3076.8331017826877, 100), f"pen {ADROIT}"),
    **_same(Reference(96.262799, 3076.8331017826877, 200), f"pen {LONG}"),
    **_same(Reference(-274.856578, 12794.134825156867, 200), f"hammer {ADROIT}"),
    **_same(Reference(-274.856578, 12794.134825156867, 600), f"hammer {LONG}"),
    **_same(Reference(-56.512833, 2880.5693087298737, 200), f"door {ADROIT}"),
    **_same(Reference(-56.512833, 2880.5693087298737, 300), f"door {LONG}"),
    **_same(Reference(-6.425911, 4233.877797728884, 200), f"relocate {ADROIT}"),
    **_same(Reference(-6.425911, 4233.877797728884, 500), f"relocate {LONG}"),
    **_same(Reference(0.01442, 2.89685, 50), "minigrid fourrooms|fourrooms-random v0"),
    **_same(Reference(-165.22, 24.42), "flow-ring random|controller v0"),
    **_same(Reference(118.67993, 330.03179), "flow-merge random|controller v0"),
    **_same(Reference(-0.8503839912088142, 1023.5784385429523, 250), "carla-lane-v0"),
    **_same(Reference(-114.81579500772153, 2440.1772022247314, 1000), "carla-town-v0", "carla-town-full-v0"),
    **_same(Reference(-1275.766996, 2381.6725, 1000), f"bullet-halfcheetah {BULLET}"),
    **_same(Reference(20.058972, 1441.8059623430963, 1000), f"bullet-hopper {BULLET}"),
    **_same(Reference(373.705955, 2650.495, 1000), f"bullet-ant {BULLET}"),
    **_same(Reference(16.523877, 1623.6476303317536, 1000), f"bullet-walker2d {BULLET}"),
    **_same(Reference(8.75, 64.15, 150), "bullet-maze2d-open-v0"),
    **_same(Reference(32.46, 153.99, 300), "bullet-maze2d-umaze-v0"),
    **_same(Reference(14.87, 238.05, 600), "bullet-maze2d-medium-v0"),
    **_same(Reference(1.82, 285.92, 800), "bullet-maze2d-large-v0"),
}

ANT, GOALS = "noisy-multistart", "false-multigoal-false|true-multigoal-true"
FILES: dict[str, str] = {  # D4RL's files whose stem is not the dataset's name, with "-" and in small letters
    stem: name
    for stems, names in (
        ("halfcheetah|hopper|walker2d|ant mixed", "halfcheetah|hopper|walker2d|ant medium-replay-v0"),
        ("walker mixed", "walker2d medium-replay-v0"),
        *(
            (stems, f"{stems} v0")
            for stems in (
                "halfcheetah|hopper|walker2d|ant random|medium|expert|medium-expert",
                "bullet halfcheetah|hopper|walker2d|ant random|medium|expert|medium-expert|medium-replay",
                "maze2d open|umaze|medium|large dense",
            )
        ),
        ("maze2d open|umaze|medium|large sparse", "maze2d open|umaze|medium|large v0"),
        ("maze2d umaze|medium|large sparse v1", "maze2d umaze|medium|large v1"),
        ("maze2d-eval umaze|medium|large sparse v1", "maze2d-eval umaze|medium|large v1"),
        ("bullet-maze2d open|umaze|medium|large sparse", "bullet-maze2d open|umaze|medium|large v0"),
        ("pen|hammer|door|relocate v0-demos-clipped", "pen|hammer|door|relocate human-v0"),
        ("pen|hammer|door|relocate demos-v0-bc-combined", "pen|hammer|door|relocate cloned-v0"),
        ("pen|hammer|door|relocate v0-expert-clipped", "pen|hammer|door|relocate expert-v0"),
        (f"ant-maze-u-maze {ANT} {GOALS} sparse", "antmaze umaze|umaze-diverse v0"),
        (f"ant-maze-umaze {ANT} {GOALS} sparse", "antmaze umaze|umaze-diverse v1"),
        (f"ant-maze-u-maze {ANT} {GOALS} sparse-fixed", "antmaze umaze|umaze-diverse v2"),
        (f"ant-maze big|hardest maze {ANT} true-multigoal false|true sparse", "antmaze medium|large play|diverse v0"),
        (f"ant-maze medium|large {ANT} true-multigoal false|true sparse", "antmaze medium|large play|diverse v1"),
        (
            f"ant-maze big|hardest maze {ANT} true-multigoal false|true sparse-fixed",
            "antmaze medium|large play|diverse v2",
        ),
        ("mini-kitchen-microwave-kettle-light-slider-v0", "kitchen-complete-v0"),
        ("kitchen-microwave-kettle-light-slider-v0", "kitchen-partial-v0"),
        ("kitchen-microwave-kettle-bottomburner-light-v0", "kitchen-mixed-v0"),
        ("minigrid4rooms|minigrid4rooms-random", "minigrid fourrooms|fourrooms-random v0"),
        ("flow ring|merge v0-random", "flow ring|merge random-v0"),
        ("flow ring|merge v0-idm", "flow ring|merge controller-v0"),
        ("carla-lane-follow-flat-v0", "carla-lane-v0"),
        ("carla-town-subsamp-flat-v0", "carla-town-v0"),
        ("carla-town-flat-v0", "carla-town-full-v0"),
    )
    for stem, name in zip(_spelled(stems), _spelled(names), strict=True)
}

FAMILIES = {name.partition("-")[0] for name in REFERENCES}


def known_name(name: str) -> str:
    """D4RL's own name of a dataset, from that or from its file's; "_" is as good as "-", and capitals are small."""
    name = name.lower().replace("_", "-")
    name = FILES.get(name, name)
    return name if name in REFERENCES else ""


def reference(name: str) -> Reference | None:
    """The reference of a dataset, from its name or that of its file, exactly; None if D4RL has none."""
    return REFERENCES.get(known_name(name))


def family(name: str) -> str:
    """The environments that a dataset is of, such as hopper or antmaze, from its name or theirs; empty if unknown."""
    found = known_name(name) or name.lower()
    first = found.partition("-")[0]
    return first if first in FAMILIES and found in (first, known_name(name)) else ""
