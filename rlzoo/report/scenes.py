"""Moving pictures of episodes, drawn from their observations."""

import functools
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import animation, colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from rlzoo.report.plots import COLOURS

Draw = Callable[[np.ndarray], None]  # of one observation
Scene = Callable[[Axes], Draw]  # sets the stage, and returns what draws on it

FRAMES_PER_SECOND = 25
SECONDS_PER_STEP = {  # where the environment has a time; elsewhere 0.1
    "CartPole-v1": 0.02,
    "CartpoleBalance-v0": 0.01,
    "CartpoleSwingup-v0": 0.01,
    "Pendulum-v1": 0.05,
    "Acrobot-v1": 0.2,
    "MountainCar-v0": 0.04,
    "MountainCarContinuous-v0": 0.02,
}


def animate(
    path: str | Path,
    observations: np.ndarray,
    rewards: np.ndarray,
    scene: Scene,
    *,
    title: str = "",
    seconds_per_step: float = 0.1,
) -> Path:
    """An episode as a GIF, or as an MP4 where there is an ffmpeg; the caption counts steps and return.

    Args:
        observations: [L + 1, ...], the first before any step. rewards: [L].
        scene: a function of matplotlib's `Axes` that sets the stage and returns a function that draws an observation.
        seconds_per_step: of the film; steps are left out above 25 frames a second.
    Raises:
        ValueError: another suffix, or no ffmpeg for an MP4.
    """
    path = Path(path)
    writers: dict[str, Any] = {".gif": animation.PillowWriter, ".mp4": animation.FFMpegWriter}
    if path.suffix not in writers:
        raise ValueError(f"{path} is no moving picture; give a name that ends in .gif or .mp4")
    program = _ffmpeg(path) if path.suffix == ".mp4" else ""

    every = max(1, round(1.0 / (FRAMES_PER_SECOND * seconds_per_step)))
    shown = sorted({*range(0, len(observations), every), len(observations) - 1})
    total = np.concatenate([[0.0], np.cumsum(rewards)])
    figure = Figure(figsize=(3.6, 3.0), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal")
    for spine in axes.spines.values():
        spine.set_visible(False)
    draw = scene(axes)
    caption = axes.set_title(" ", fontsize=9, parse_math=False)

    name = textwrap.fill(title, 44) + ("\n" if len(title) > 24 else "")  # the picture is narrow
    decimals = 1 if abs(total).max() >= 1.0 else 3

    path.parent.mkdir(parents=True, exist_ok=True)
    writer = writers[path.suffix](fps=max(1, round(1.0 / (every * seconds_per_step))))
    with matplotlib.rc_context({"animation.ffmpeg_path": program}), writer.saving(figure, str(path), dpi=figure.dpi):
        for t in shown:
            draw(np.asarray(observations[t]))
            caption.set_text("   ".join(filter(None, [name, f"step {t}", f"return {total[t]:.{decimals}f}"])))
            writer.grab_frame()
    return path


def _ffmpeg(path: Path) -> str:
    """The program that writes an MP4: on the PATH, or that of the package imageio-ffmpeg."""
    if found := shutil.which(matplotlib.rcParams["animation.ffmpeg_path"]):
        return found
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:  # not there, or without a program for this machine
        raise ValueError(
            f"{path}: an MP4 needs ffmpeg, which is not on the PATH; install it, or the package imageio-ffmpeg, which "
            "brings one, or write a .gif"
        ) from error


def scene_of(name: str, obs_shape: tuple[int, ...]) -> Scene | None:
    """The scene of an environment's id, of any grid of cells or channels, or None."""
    if name in SCENES:
        return SCENES[name]
    return grid(obs_shape) if len(obs_shape) in (2, 3) else None


def cartpole(axes: Axes) -> Draw:
    axes.set(xlim=(-2.6, 2.6), ylim=(-0.6, 1.6))
    axes.axhline(0.0, color="0.7", linewidth=1)
    cart = Rectangle((0, 0), 0.5, 0.25, color=COLOURS[0])
    axes.add_patch(cart)
    (pole,) = axes.plot([], [], color=COLOURS[1], linewidth=5, solid_capstyle="round")

    def draw(obs):
        x, angle = obs[0], obs[2]
        cart.set_xy((x - 0.25, -0.125))
        pole.set_data([x, x + np.sin(angle)], [0.125, 0.125 + np.cos(angle)])

    return draw


def cart_and_pole(axes: Axes) -> Draw:
    draw = cartpole(axes)
    axes.set(ylim=(-1.6, 1.6))  # the pole may hang
    return lambda obs: draw(np.array([obs[0], obs[3], np.arctan2(obs[2], obs[1])]))


def pendulum(axes: Axes) -> Draw:
    axes.set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3))
    (rod,) = axes.plot([], [], color=COLOURS[0], linewidth=8, solid_capstyle="round")
    axes.add_patch(Circle((0, 0), 0.05, color="0.2", zorder=3))

    def draw(obs):
        rod.set_data([0, -obs[1]], [0, obs[0]])  # upright: the cosine is 1

    return draw


def acrobot(axes: Axes) -> Draw:
    axes.set(xlim=(-2.2, 2.2), ylim=(-2.2, 2.2))
    axes.axhline(1.0, color=COLOURS[2], linewidth=1, linestyle="--")  # where the tip is to be
    (links,) = axes.plot([], [], "o-", color=COLOURS[0], markerfacecolor="0.2", linewidth=6, solid_capstyle="round")

    def draw(obs):
        first, second = np.arctan2(obs[1], obs[0]), np.arctan2(obs[3], obs[2])
        angles = np.array([first, first + second])  # from hanging down; the second is relative to the first
        links.set_data([0, *np.cumsum(np.sin(angles))], [0, *np.cumsum(-np.cos(angles))])

    return draw


def mountain_car(axes: Axes, goal: float = 0.5) -> Draw:
    def height(x):
        return 0.45 * np.sin(3 * x) + 0.55

    x = np.linspace(-1.2, 0.6, 100)
    axes.set(xlim=(-1.25, 0.65), ylim=(-0.1, 1.2))
    axes.plot(x, height(x), color="0.4", linewidth=1.5)
    axes.plot([goal, goal], [height(goal), height(goal) + 0.15], color=COLOURS[2], linewidth=3)  # the flag
    (car,) = axes.plot([], [], "o", color=COLOURS[1], markersize=9)

    def draw(obs):
        car.set_data([obs[0]], [height(obs[0]) + 0.04])

    return draw


def risky_point_mass(axes: Axes) -> Draw:
    axes.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))
    axes.add_patch(Rectangle((0, 0), 1, 1, fill=False, color="0.7"))
    axes.add_patch(Circle((0.5, 0.5), 0.3, color=COLOURS[1], alpha=0.25, linewidth=0))  # where the penalty may fall
    axes.add_patch(Circle((0, 0), 0.05, color=COLOURS[2], alpha=0.6, linewidth=0))  # the goal
    (trail,) = axes.plot([], [], color=COLOURS[0], linewidth=1)
    (point,) = axes.plot([], [], "o", color=COLOURS[0], markersize=7)
    walked: list[np.ndarray] = []

    def draw(obs):
        walked.append(obs)
        trail.set_data(*np.array(walked).T)
        point.set_data([obs[0]], [obs[1]])

    return draw


def grid(shape: tuple[int, ...]) -> Scene:
    """Cells [rows, columns], or the channels [rows, columns, C] of MinAtar, each in a colour of its own."""
    channels = shape[2] if len(shape) == 3 else 1
    more = colormaps["tab20" if channels <= 20 else "hsv"](np.linspace(0.0, 1.0, channels, endpoint=channels <= 20))
    colours = ListedColormap(["white", *(COLOURS[:channels] if channels <= len(COLOURS) else more)])

    def stage(axes: Axes) -> Draw:
        image = axes.imshow(np.zeros(shape[:2]), cmap=colours, vmin=0, vmax=channels, interpolation="nearest")

        def draw(obs):
            cells = obs.reshape(*shape[:2], channels)
            image.set_data(np.max((cells > 0) * np.arange(1, channels + 1), axis=-1))

        return draw

    return stage


SCENES: dict[str, Scene] = {
    "CartPole-v1": cartpole,
    "CartpoleBalance-v0": cart_and_pole,
    "CartpoleSwingup-v0": cart_and_pole,
    "Pendulum-v1": pendulum,
    "Acrobot-v1": acrobot,
    "MountainCar-v0": mountain_car,
    "MountainCarContinuous-v0": functools.partial(mountain_car, goal=0.45),
    "RiskyPointMass-v0": risky_point_mass,
}
