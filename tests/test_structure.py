"""The house: imports go down only, no heavy import where it is not used, and nothing forbidden in traced code."""

import ast
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

import rlzoo

ROOT = Path(rlzoo.__file__).parent
FLOORS = {  # a module imports from its own package and from lower floors only
    "arrays": -1,
    "files": -1,
    "arguments": 0,
    "lock": -1,
    "stops": -1,
    "kept": 0,
    "machine": -2,
    "names": -1,
    "types": 0,
    "blocks": 1,
    "envs": 2,
    "data": 2,
    "algorithms": 3,
    "report": 4,
    "drivers": 5,
    "eject": 6,
    "cli": 6,
    "__init__": 7,
    "__main__": 7,
}
MODULES = sorted(ROOT.rglob("*.py"))


def place(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(tree, top_level_only=False):
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path):
    here = place(path)
    for name in imported(ast.parse(path.read_text())):
        parts = name.split(".")
        if parts[0] != "rlzoo" or here in ("cli", "__main__"):
            continue
        there = parts[1] if len(parts) > 1 else "__init__"
        assert there == here or FLOORS[there] < FLOORS[here], f"{here} imports {name}"
        assert not (here == "report" and there in ("algorithms", "envs")), "report knows arrays, not algorithms"


@pytest.mark.parametrize("path", sorted((ROOT / "algorithms").glob("*.py")), ids=lambda path: path.stem)
def test_algorithms_import_no_other_make(path):
    assert not any(name.endswith(".make") for name in imported(ast.parse(path.read_text())))


@pytest.mark.parametrize(
    "path",
    [path for floor in ("algorithms", "blocks", "envs") for path in sorted((ROOT / floor).glob("*.py"))],
    ids=lambda path: f"{path.parent.stem}-{path.stem}",
)
def test_what_is_vmapped_holds_no_cond(path):
    """Under vmap all branches run, and a loop runs to its slowest lane."""
    tree, branching = ast.parse(path.read_text()), {"cond", "switch", "while_loop"}
    assert not branching & {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not branching & {name.rpartition(".")[2] for name in imported(tree)}


HEAVY = ["brax", "gymnasium", "gymnax", "h5py", "matplotlib", "minari", "mujoco", "orbax", "pandas", "scipy.stats"]
HEAVY += ["tensorboardX", "tyro", "wandb"]


@pytest.mark.parametrize("done", ["pass", "rlzoo.cli.main(['--help'])", "rlzoo.cli.main(['eval', '--help'])"])
def test_importing_rlzoo_is_light(done):
    """Physics, statistics, pictures and loggers are loaded by what uses them; a text of help uses none."""
    script = f"""
import sys, rlzoo.cli
try:
    {done}
except SystemExit:
    print()
print([name for name in {HEAVY} if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_an_environment_of_gymnax_does_not_load_what_draws():
    """Gymnax imports it with four of its environments: what draws, or whoever else asks, loads it."""
    script = """
import sys, rlzoo
rlzoo.envs.make("gymnax/CartPole-v1")
print([name for name in ("matplotlib.pyplot", "pandas", "scipy.stats", "seaborn") if name in sys.modules])
import gymnax.environments.misc.pong as pong, matplotlib.colors, matplotlib.pyplot, seaborn
print(pong.sns.color_palette is seaborn.color_palette, pong.plt.subplots is matplotlib.pyplot.subplots,
      pong.colors.ListedColormap is matplotlib.colors.ListedColormap, hasattr(pong.sns, "no_such_name"))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ["[]", "True True True False"]


def test_what_draws_is_loaded_when_it_is_used_while_gymnax_is():
    """By another thread, or by a later gymnax itself."""
    script = """
from rlzoo.envs.gymnax import _drawing_later
with _drawing_later():
    import matplotlib.figure
    import matplotlib.pyplot as plt
    from matplotlib.colors import ListedColormap
    print(ListedColormap(["red"]).N, plt.Figure is matplotlib.figure.Figure)
with _drawing_later():
    from matplotlib.colors import ListedColormap as again
    print(again is ListedColormap)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout.splitlines() == ["1 True", "True"], result.stderr


def test_beside_a_folder_of_its_name_the_installed_package_is_imported(tmp_path):
    """Where Python is started beside a clone, `rlzoo/` there is no package, and must not be taken for one."""
    installed = importlib.metadata.distributions(name="rlzoo")  # beside it, what the build left in the clone
    if not any(ROOT.parent.as_uri() in (one.read_text("direct_url.json") or "") for one in installed):
        pytest.skip("what is installed is not this clone: pip install -e .")
    (tmp_path / "rlzoo" / "rlzoo").mkdir(parents=True)
    script = "import importlib.util; print(importlib.util.find_spec('rlzoo').origin)"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=env)
    assert result.stdout.strip() == str(ROOT / "__init__.py")


def test_what_draws_is_there_when_it_is_asked_for():
    for name in rlzoo.report.__all__:
        assert callable(getattr(rlzoo.report, name)) and name in dir(rlzoo.report), name
    assert rlzoo.report.plots.curves is rlzoo.report.curves and rlzoo.report.scenes.animate is rlzoo.report.animate
    with pytest.raises(AttributeError, match="'curvse'"):
        rlzoo.report.curvse  # noqa: B018


def test_public_names_have_docstrings():
    for path in MODULES:
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree) or path.name == "__main__.py", path
    for name in rlzoo.__all__:
        assert getattr(rlzoo, name).__doc__, name
