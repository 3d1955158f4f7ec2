"""What users read runs: scripts, commands, notebooks, the pages' code, and what a generator wrote is what it writes."""

import inspect
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import jax
import nbformat
import numpy as np
import pytest
from helpers import plane_dataset
from nbclient import NotebookClient

import rlzoo
from rlzoo import cli, report
from rlzoo.drivers import named

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
EXPERIMENTS = [path for path in sorted((ROOT / "experiments").rglob("*.py")) if path.stem != "market"]
BENCHMARKS = [
    path
    for path in sorted([*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "benchmarks" / "papers").glob("*.py")])
    if path.stem not in ("device_tables", "floor_tables", "peers", "tables", "trained")
]
README = ROOT / "README.md"
PAGES = [README, *sorted(DOCS.glob("*.md"))]
sys.path[:0] = [str(ROOT / "benchmarks"), str(DOCS)]

import hooks  # noqa: E402
import tables  # noqa: E402


def blocks(page, language):
    """The code blocks of a page but for those that a comment above them says are not run."""
    text = page.read_text()
    return [
        found[2]
        for found in re.finditer(rf"(<!-- not run: .+? -->\n)?```{language}\n(.*?)```", text, re.S)
        if not found[1]
    ]


def shrunk(text, changes):
    for big, small in changes.items():
        assert big in text, big
        text = text.replace(big, small)
    return text


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working directory of its own, with the files that pages name."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- Python ----------------------------------------------------------------------------------------------------------

BEFORE = {  # what a page's fragments take for given
    "environments": """
import jax, jax.numpy as jnp, rlzoo
config = rlzoo.ppo.Config(num_envs=2, num_steps=4, num_minibatches=1)
algo = rlzoo.ppo.make(rlzoo.envs.make("gymnax/Pendulum-v1"), config)
key = jax.random.key(0)
state, policy, actor = rlzoo.init(algo, key), lambda actor, obs, key: jnp.zeros((*obs.shape[:-1], 1)), jnp.zeros(())
""",
    "qarl": "import jax, numpy as np, rlzoo; from rlzoo import qarl; key = jax.random.key(0)",
    "cdsa": """
import jax, numpy as np, jax.numpy as jnp, rlzoo; from rlzoo import cdsa
env, key = plane(), jax.random.key(0)
dataset = plane_dataset()
algo = rlzoo.bc.make(env, rlzoo.bc.Config(hidden=(8,)), dataset)
state = rlzoo.init(algo, key)
""",
    "data": """
import jax, jax.numpy as jnp, numpy as np, rlzoo
returns, key, M = np.array([100.0]), jax.random.key(0), 50
obs, action = jnp.zeros((M, 4, 3)), jnp.zeros((M, 4, 1))
first, second, label = jnp.arange(20), jnp.arange(20) + 20, jnp.ones(20)
env = rlzoo.envs.make("brax/hopper", backend="spring")
oracle = rlzoo.sac.make(env, rlzoo.sac.Config(hidden=(8,), capacity=1_000, warmup=256))
oracle_state = rlzoo.init(oracle, key, quiet=True)
""",
    "scaling": """
import jax, rlzoo
from rlzoo import ppo
env, config = rlzoo.envs.make("gymnax/CartPole-v1"), ppo.Config()
algo = ppo.make(env, config)
grid = rlzoo.grid(algo.hyper, gamma=[0.9, 0.99])
""",
}
SMALLER = {
    "README": {
        "ppo.Config(num_envs=16)": "ppo.Config(num_envs=4, num_steps=25, num_epochs=1, num_minibatches=4)",
        "100_000": "500",
        "key(0), 16": "key(0), 2",
    },
    "tutorial": {
        "ppo.make(env)": "ppo.make(env, ppo.Config(num_envs=4, num_steps=25, num_epochs=1, num_minibatches=4))",
        "env_steps=100_000": "env_steps=600",
        "key(0), 16": "key(0), 4",
        "1_000)": "50)",
    },
    "building": {"4), 20)": "4), 3)"},
    "howto": {
        "ppo.make(env)": "ppo.make(env, ppo.Config(num_envs=4, num_steps=25, num_epochs=1, num_minibatches=4))",
        "20_000": "500",
        "num_episodes=64": "num_episodes=4",
    },
    "migration": {"976)": "2)", "key(30), 8": "key(30), 2"},
    "sweeps": {},
    "environments": {},
    "qarl": {
        '*qarl.presets["pendulum"]': "qarl.Config(num_envs=5, hidden=(8,), batch_size=16, capacity=30_000)",
        "key, 8), 150": "key, 2), 1",
        "0.5, 1.5, 11": "0.5, 1.5, 2",
        "key, 16, grid": "key, 2, grid",
        "40_000, 64": "2_000, 4",
    },
    "cdsa": {
        "fit(env, dataset)": "fit(env, dataset, cdsa.Config(score_hidden=(8,), dynamics_hidden=(8,)), num_updates=9)"
    },
    "data": {"4_000, length=64": "50, length=16"},
    "scaling": {},
    "values": {},
}
LONG = ("qarl", "data")  # minutes of compiling


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.stem, marks=pytest.mark.slow if page.stem in LONG else ())
        for page in PAGES
        if blocks(page, "python")
    ],
)
def test_the_python_of_a_page_runs(page, elsewhere):
    from helpers import plane

    if page.stem == "data":
        d4rl_file(elsewhere / "hopper_medium-v2.hdf5")
    code = shrunk("\n".join(blocks(page, "python")), SMALLER[page.stem])
    names = {"plane": plane, "plane_dataset": plane_dataset}
    exec(BEFORE.get(page.stem, ""), names)
    exec(compile(code, str(page), "exec"), names)


def d4rl_file(path, rows=300):
    """Such as D4RL's hopper: random numbers of its shapes."""
    import h5py

    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file["observations"] = rng.normal(size=(rows, 11)).astype(np.float32)
        file["actions"] = rng.uniform(-0.9, 0.9, size=(rows, 3)).astype(np.float32)
        file["rewards"] = rng.normal(size=rows).astype(np.float32)
        file["terminals"] = np.zeros(rows, bool)
        file["timeouts"] = np.arange(rows) % 50 == 49


def test_the_readme_script_is_short():
    (script,) = blocks(README, "python")
    assert len(script.strip().splitlines()) <= 15


@pytest.mark.slow
def test_the_demo_runs(elsewhere, monkeypatch):
    """README's first command, of fewer steps and seeds."""
    script = elsewhere / "demo.py"
    script.write_text(shrunk((ROOT / "experiments" / "demo.py").read_text(), {"100_000, 8": "10_000, 2"}))
    monkeypatch.setattr(sys, "argv", [str(script)])
    runpy.run_path(str(script), run_name="__main__")
    assert {"curves.png", "sensitivity.png", "checkpoints"} <= {path.name for path in Path("runs/demo_1").iterdir()}


# --- commands --------------------------------------------------------------------------------------------------------

ONE_EPOCH = "--config.num-epochs 1 --eval-episodes 2"
LESS = {  # in place of numbers and folders of a page's commands
    "README": {
        "--steps 100000 ": f"--steps 2000 {ONE_EPOCH} ",
        "--seeds 16": "--seeds 2",
        "rlzoo eval runs/ppo_CartPole-v1_1": "rlzoo eval runs/ppo_CartPole-v1_1 --episodes 4",
    },
    "howto": {
        "--steps 1e5": f"--steps 2e3 {ONE_EPOCH}",
        "--steps 2e5": f"--steps 4e3 {ONE_EPOCH}",
        "--episodes 64": "--episodes 4",
    },
    "tutorial": {"--steps 100000 --hyper": f"--steps 4000 {ONE_EPOCH} --hyper", "--seeds 4": "--seeds 2"},
    "data": {
        "--steps 100000 --seeds 8": "--steps 4 --seeds 2 --eval-episodes 2 --config.hidden 8",
        "--rows 100000": "--rows 100",
        "--rows 50000": "--rows 100",
        "--steps 2000": "--steps 4 --eval-episodes 2 --config.hidden 8",
        "--steps 4000": "--steps 8 --eval-episodes 2 --config.hidden 8",
    },
    "sweeps": {},
    "scaling": {},
    "index": {},
    "faq": {},
}


def commands(page):
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    return [line.partition("#")[0].strip() for line in lines if line.partition("#")[0].strip()]


def call(line):
    with pytest.raises(SystemExit) as ended:
        cli.main(shlex.split(line)[1:])
    assert not ended.value.code, line


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.stem, marks=pytest.mark.slow if page.stem in LONG else ())
        for page in PAGES
        if commands(page)
    ],
)
def test_the_commands_of_a_page_run(page, elsewhere):
    """All of them, one after another, in a folder of their own; a make target is run by make itself, dry."""
    shutil.copytree(ROOT / "experiments", elsewhere / "experiments")
    sweep = elsewhere / "experiments" / "sweep.yaml"
    less = {"100_000": "4_000", "seeds: 8": "seeds: 1", "samples: 32": "samples: 2", "[16, 32]": "[16]"}
    sweep.write_text(shrunk(sweep.read_text(), less))
    if page.stem == "data":
        what_the_page_on_data_takes_for_given(elsewhere)
    said = "\n".join(commands(page))
    for line in shrunk(said, LESS[page.stem]).splitlines():
        if line.startswith("make "):
            subprocess.run(["make", "-n", *line.split()[1:]], cwd=ROOT, check=True, capture_output=True)
        else:
            assert line.startswith("rlzoo "), f"{page.name}: {line!r} is not run; say so in a comment above its block"
            call(line)


def what_the_page_on_data_takes_for_given(place):
    d4rl_file(place / "hopper_medium-v2.hdf5")
    (place / "data").mkdir()
    small = "--config.hidden 8 --config.num-envs 2 --config.capacity 2000 --config.warmup 1000 --eval-episodes 2"
    call(f"rlzoo train sac --env brax/hopper --backend spring --steps 1200 {small} --directory runs/sac_hopper_1")
    for name in ("medium", "expert"):
        shutil.copytree(place / "runs" / "sac_hopper_1", place / "runs" / name)
    env = rlzoo.envs.make("gymnax/Pendulum-v1")
    dataset = rlzoo.data.collect(env, None, jax.random.key(0), 400, 2)
    drawn = rlzoo.data.preferences.segments(dataset, 32, 8, jax.random.key(1))
    said = rlzoo.data.preferences.compare(drawn, rlzoo.data.preferences.reward_score(drawn), 48, jax.random.key(2))
    rlzoo.data.preferences.save(place / "prefs.npz", said)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "bc" else pytest.mark.slow) for name in rlzoo.ALGORITHMS]
)
def test_the_command_of_an_algorithms_page_runs(name, elsewhere):
    """As it stands but for its length, and the size of what is recorded."""
    module = rlzoo.ALGORITHMS[name]
    env = rlzoo.envs.make("gymnax/Pendulum-v1")
    dataset = rlzoo.data.collect(env, None, jax.random.key(0), 600, 2)
    rlzoo.data.save("pendulum-medium.npz", dataset)
    drawn = rlzoo.data.preferences.segments(dataset, 32, 8, jax.random.key(1))
    said = rlzoo.data.preferences.compare(drawn, rlzoo.data.preferences.reward_score(drawn), 48, jax.random.key(2))
    rlzoo.data.preferences.save("preferences.npz", said)
    call(hooks.eject_command(name, module))
    compile((elsewhere / f"{name}.py").read_text(), name, "exec")
    line = hooks.command(name, module)
    call(f"{line} --plan")
    if named.is_offline(module):
        call(re.sub(r"--steps \d+", "--steps 4", line).replace("--seeds 8", "--seeds 2 --eval-episodes 2"))


def test_commands_in_the_text_are_there():
    """make's targets, files and extras that sentences name; of scripts the options too."""
    makefile = (ROOT / "Makefile").read_text()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for page in (*PAGES, ROOT / "CONTRIBUTING.md"):
        text = page.read_text()
        for line in re.findall(r"`((?:make|pip|python|jupyter) [^`]+)`", text):
            words = shlex.split(line)
            if words[0] == "make":
                assert re.search(rf"^{words[1]}:", makefile, re.M), f"{page.name}: {line}"
            for extra in re.findall(r"\.\[(.+)]", line):
                assert set(extra.split(",")) <= set(extras), f"{page.name}: {line}"
            if words[0] == "python" and words[1].endswith(".py"):
                script = (ROOT / words[1]).read_text()
                for option in [word for word in words if word.startswith("--")]:
                    assert re.search(rf'add_argument\(\s*"{option}"', script), f"{page.name}: {line}: {option}"
        for name in re.findall(r"(?:experiments|benchmarks|notebooks)/[\w/]+\.(?:py|ipynb|yaml)", text):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_every_command_line_option_in_the_docs_exists(capsys):
    """Of blocks that are not run too."""
    helped = {}
    for page in PAGES:
        text = page.read_text()
        lines = re.findall(r"^(?:srun .*?)?(rlzoo [a-z]+ .*)$", text, re.M) + re.findall(
            r"`(rlzoo [a-z]+ [^`]*)`", text
        )
        for line in lines:
            words = line.partition("#")[0].split()
            asked = tuple(words[1 : 3 if words[1] == "train" and words[2] in rlzoo.ALGORITHMS else 2])
            if asked not in helped:
                with pytest.raises(SystemExit) as ended:
                    cli.main([*asked, *(["ppo"] if asked == ("train",) else []), "--help"])
                assert not ended.value.code, line
                helped[asked] = capsys.readouterr().out
            for option in re.findall(r"(?<= )--[\w.-]*\w", line):
                assert re.search(rf"{option}(?![\w.-])", helped[asked]), f"{page.name}: {line}: {option}"


def test_trials_of_ppo_find_what_they_change():
    """Texts of PPO that benchmarks/floors.py replaces are still there, and what they become can be made."""
    import floors

    make = rlzoo.ppo.make
    for change in (floors.ONCE, floors.WHOLE, floors.EACH):
        with floors.rewritten(*change):
            assert rlzoo.ppo.make is not make
            algo = floors.CARTPOLE()
            start = jax.eval_shape(algo.init, jax.random.key(0), algo.hyper, algo.task)
            assert jax.eval_shape(algo.step, start, algo.hyper, algo.task)
    assert rlzoo.ppo.make is make


# --- files that pages name --------------------------------------------------------------------------------------------


def test_sweep_files_of_docs_and_experiments_are_read(tmp_path):
    """Each is read, and its sweep made, with its numbers drawn; training is left to the tests of sweeps."""
    from rlzoo.drivers.study import Part, _Made

    files = sorted((ROOT / "experiments").glob("*.yaml"))
    for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", (DOCS / "sweeps.md").read_text(), re.S)):
        files.append(tmp_path / f"{number}.yaml")
        files[-1].write_text(text)
    assert len(files) == 2
    assert files[0].read_text().endswith(files[1].read_text())  # the page shows the file
    for file in files:
        made = _Made(rlzoo.study.read(file))
        assert made.runs(Part(0, 0, made.num_settings, None)).num_hypers == 32


@pytest.mark.parametrize("page", [README, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in re.findall(r"(?:\]\(|src=\")(?!http)([^)#\"]+)[)\"]", page.read_text()):
        assert (ROOT / target).exists(), target


def test_unsupported_environments_are_in_the_docs():
    from rlzoo.envs import gymnax

    page = (DOCS / "environments.md").read_text()
    for name, reason in gymnax.UNSUPPORTED.items():
        assert f"`gymnax/{name}` | {reason}" in page


# --- what is generated ------------------------------------------------------------------------------------------------


def test_tables_are_what_their_generator_writes(monkeypatch):
    """Nobody has typed a number into the README, the benchmarks' page, the returns' table or the results' page."""
    import learning

    monkeypatch.chdir(ROOT)
    assert README.read_text() == tables.readme()
    assert tables.PAGE.read_text() == tables.page()
    assert (DOCS / "environments.md").read_text() == tables.environments()
    assert (DOCS / "performance.md").read_text() == tables.performance()
    for path in DOCS.glob("*.md"):
        assert path.read_text() == tables.numbers(path.read_text()), path
    rows = [{name: str(value) for name, value in learning.found(row).items()} for row in learning.ROWS]
    assert rows == tables.read(tables.DIRECTORY / "learning.csv")
    for row in rows:  # data that a row's command reads: in the repository, or made by a recorded command
        if (data := learning.data_of(row["command"])).startswith("data/"):
            assert tables.recorded(learning.MADE_BY[data])["command"]
    assert (DOCS / "results.md").read_text() == sys.modules["rlzoo.report.record"]._page(DOCS / "results")


def test_the_arithmetic_of_the_page_on_devices():
    """Bytes of a transition, of SAC's networks and of PPO's: counted in the States themselves."""
    from rlzoo.drivers.memory import size_in_bytes

    hopper = rlzoo.envs.make("brax/hopper", backend="spring")
    capacity = 100_000
    sac = rlzoo.sac.make(hopper, rlzoo.sac.Config(capacity=capacity))
    state = jax.eval_shape(sac.init, jax.random.key(0), sac.hyper, sac.task)
    ppo = rlzoo.ppo.make(hopper)
    agent = jax.eval_shape(ppo.init, jax.random.key(0), ppo.hyper, ppo.task)
    replay = size_in_bytes(state.replay) / capacity
    learned = [size_in_bytes(tuple(x for x in (of.params, of.opt_state))) / 1e6 for of in (state, agent)]
    targets = sum(size_in_bytes(getattr(state, name)) for name in state._fields if "target" in name) / 1e6
    page = (DOCS / "scaling.md").read_text()
    for number in (f"{replay:.0f} of hopper", f"{learned[0] + targets:.1f} MB", f"{learned[1]:.2f} MB a lane"):
        assert number in page, number
    lanes = (80e9 - 0.9e9) / (replay * capacity + 1e6 * (learned[0] + targets))
    assert 4_500 < lanes < 6_500 and "some 5,000 lanes" in page


def test_the_readmes_table_has_every_algorithm():
    assert set(tables.PAPERS) == set(rlzoo.ALGORITHMS)
    site = (ROOT / "mkdocs.yml").read_text()
    for name in rlzoo.ALGORITHMS:
        assert f"algorithms/{name}.md" in site


def test_pages_say_which_claims_hold_here(tmp_path):
    """Every bar of an algorithm's own records, met or not, and none of another's."""
    figures = [
        report.Figure("prdc, IQM", 33.0, bar=">= 35", note="8 seeds"),
        report.Figure("a2pr, IQM", 37.0, bar=">= 35"),
        report.Figure("bc, IQM", 30.0),
    ]
    report.record("Offline on maze", figures, tmp_path / "docs" / "results")
    report.record(
        "QARL on maze", [report.Figure("grid, QARL less SAC", -1.0, bar=">= 0")], tmp_path / "docs" / "results"
    )
    found = {name: [figure.met for _, figure in tables.claims(name, tmp_path)] for name in rlzoo.ALGORITHMS}
    assert {name: met for name, met in found.items() if met} == {"prdc": [False], "a2pr": [True], "qarl": [False]}
    for name, module in rlzoo.ALGORITHMS.items():
        page, tried = hooks.page(name, module), tables.claims(name, ROOT)
        assert page.count("## Does it do what its paper says?") == bool(tried)
        assert page.count("**not met**") == sum(not figure.met for _, figure in tried)


@pytest.mark.parametrize("name", rlzoo.ALGORITHMS)
def test_an_algorithms_page_says_what_its_file_says(name):
    """Paper, equations and departures; every field with its meaning; where the numbers are from; a command."""
    module = rlzoo.ALGORITHMS[name]
    page = hooks.page(name, module)
    assert "arxiv.org/abs/" in page or name == "bc"  # of 1991
    strength = getattr(module, "Strength", module.Hyper)._fields
    for field in (*module.Config.__dataclass_fields__, *module.Hyper._fields, *strength):
        row = re.search(rf"^\| `{field}` \| .* \| (.*) \|$", page, re.M)
        assert row and row[1], field
    assert f"rlzoo train {name} " in page
    said = inspect.getdoc(module)
    equations = [text for text in re.findall(r"```text\n(.*?)```", hooks.prose(said), re.S) if "make(" not in text]
    assert re.search(r" = |\^2", "".join(equations))
    assert re.search(r"[Dd]efaults|[Nn]umbers of `Hyper`|, sizes and numbers|every number", said)
    assert re.search(r"\bours\b|our choice", said) and "preset" in said, "who chose the presets?"


def test_equations_fit_into_a_window_of_1400_pixels():
    """Which shows 120 characters of code; what is longer is not cut either, but broken."""
    for name, module in rlzoo.ALGORITHMS.items():
        for text in re.findall(r"```\w+\n(.*?)```", hooks.page(name, module), re.S):
            assert max(map(len, text.splitlines())) <= 120, name
    assert "white-space: pre-wrap" in (DOCS / "assets" / "rlzoo.css").read_text()


def test_pages_link_to_the_files_they_name():
    linked = hooks.linked("by `rlzoo/algorithms/ppo.py`, and `python experiments/demo.py --record`", "../")
    assert "[`rlzoo/algorithms/ppo.py`](../sources/rlzoo/algorithms/ppo.py.md)" in linked
    assert "[`python experiments/demo.py --record`](../sources/experiments/demo.py.md)" in linked
    for text in ("`rlzoo/no_such.py`", "[`rlzoo/cli.py`](x.md)", "`rlzoo train`", "rlzoo/cli.py"):
        assert hooks.linked(text, "") == text
    sources = hooks.sources()
    assert {f"rlzoo/algorithms/{name}.py" for name in rlzoo.ALGORITHMS} <= set(sources)
    for path in sources:  # no fence of the file ends that of the page
        assert "``````" not in (ROOT / path).read_text() and (ROOT / path).read_text().strip() in hooks.source(path)


def test_names_with_dashes_are_not_broken():
    def word(name):
        return f'<span class="word">{name}</span>'

    row = hooks.whole_names("| MountainCarContinuous-v0, 50k | pendulum-medium | [a-b](x-y.md) | `c-d` | -1.5 |")
    task, data, label = map(word, ("MountainCarContinuous-v0", "pendulum-medium", "a-b"))
    assert row == f"| {task}, 50k | {data} | [{label}](x-y.md) | `c-d` | -1.5 |"
    assert hooks.whole_names("on CartPole-v1, a well-known task") == f"on {word('CartPole-v1')}, a well-known task"
    for text in ("gymnax/CartPole-v1", "see https://host/a-v1", "![x](a-v1.png)", '<a id="b-v1">', "`CartPole-v1`"):
        assert hooks.whole_names(text) == text


def test_the_search_finds_american_spellings():
    page = SimpleNamespace(file=SimpleNamespace(src_uri="x.md"))
    html = hooks.on_page_content(
        "<h1>Optimisers</h1><p>of normalised colours, neighbours; an optimistic centre</p>", page
    )
    said = html.partition('class="spellings">')[2].partition("<")[0]
    assert said.split() == ["center", "colors", "neighbors", "normalized", "optimizers"]
    assert hooks.on_page_content("<h1>Plain</h1>", page) == "<h1>Plain</h1>"
    page.file.src_uri = "sources/x.md"
    assert hooks.on_page_content("<h1>Colours</h1>", page) == "<h1>Colours</h1>"


def test_the_home_page_has_code_picture_and_algorithms():
    page = SimpleNamespace(file=SimpleNamespace(src_uri="index.md"))
    text = hooks.on_page_markdown((DOCS / "index.md").read_text(), page)
    assert blocks(README, "python")[0] in text and "<!-- README" not in text
    for name in rlzoo.ALGORITHMS:
        assert f"(algorithms/{name}.md)" in text
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (DOCS / picture).exists(), picture


def test_the_reference_has_every_block():
    page = (DOCS / "api.md").read_text()
    names = [path.stem for path in (ROOT / "rlzoo" / "blocks").glob("[a-z]*.py")]
    assert names and all(f"::: rlzoo.blocks.{name}\n" in page for name in names)


# --- notebooks and experiments ----------------------------------------------------------------------------------------

BUDGETS = {"01": "4_000, 2", "02": "32_000, 1", "03": "800, 2", "04": "1_500, 2", "05": "1, 2", "06": "4_000, 2"}
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=() if path.stem[:2] in ("01", "06") else pytest.mark.slow)
        for path in NOTEBOOKS
    ],
)
def test_notebook_runs_with_a_small_budget(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    sizes = next(cell for cell in notebook.cells if cell.source.startswith("STEPS, SEEDS ="))
    sizes.source = f"STEPS, SEEDS = {BUDGETS[path.stem[:2]]}"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    assert any("image/" in str(out.get("data", {})) for cell in notebook.cells for out in cell.get("outputs", []))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_committed_with_small_outputs(path):
    """Run from top to bottom in one go, without an error, and small enough to be read in a browser."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [out for cell in cells for out in cell.outputs]
    assert outputs and not [out for out in outputs if out.output_type == "error"]
    assert path.stat().st_size < 1_000_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_installs_what_is_missing(path, tmp_path, monkeypatch):
    """From the clone around it or beside it, from the repository that is given, and otherwise it asks for one."""
    import importlib.util

    source = nbformat.read(path, as_version=4).cells[1].source
    ran = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", lambda command, check: ran.append(command[-1]))
    monkeypatch.chdir(path.parent)
    exec(source, {})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="give the address of its repository as REPOSITORY"):
        exec(source, {})
    exec(source.replace('REPOSITORY = ""', 'REPOSITORY = "https://host/rlzoo"'), {})
    (tmp_path / "rlzoo").symlink_to(ROOT)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace(origin=None))  # a mere folder
    exec(source, {})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace(origin="__init__.py"))
    exec(source, {})
    assert ran == [str(ROOT), "git+https://host/rlzoo", str(tmp_path / "rlzoo")]


def test_the_page_on_notebooks_has_them_all():
    page = (DOCS / "notebooks.md").read_text()
    assert re.findall(r"`(\d\d_\w+)\.ipynb`", page) == [path.stem for path in NOTEBOOKS]


@pytest.mark.parametrize(
    "path", BENCHMARKS, ids=lambda path: str(path.relative_to(ROOT / "benchmarks").with_suffix(""))
)
def test_benchmarks_say_what_they_measure(path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    monkeypatch.syspath_prepend(path.parent)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert not ended.value.code and f"python {path.relative_to(ROOT)}" in capsys.readouterr().out


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_experiments_say_what_they_claim(path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    monkeypatch.syspath_prepend(path.parent)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert not ended.value.code and "--record" in capsys.readouterr().out
    assert 20 <= len(path.read_text().splitlines()) <= 60
