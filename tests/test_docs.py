"""What users read runs: the README's script and commands, the notebook, the experiments' help."""

import re
import runpy
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import rlzoo
from rlzoo import cli

ROOT = Path(__file__).parent.parent
EXPERIMENTS = [path for path in sorted((ROOT / "experiments").rglob("*.py")) if path.stem not in ("demo", "market")]
README = (ROOT / "README.md").read_text()


def test_readme_script_runs_as_it_stands_with_a_small_budget(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = re.search(r"```python\n(.*?)```", README, re.S)[1]
    small = script.replace(
        "ppo.Config(num_envs=16)", "ppo.Config(num_envs=4, num_steps=25, num_epochs=1, num_minibatches=4)"
    )
    small = small.replace("100_000", "500").replace("key(0), 16", "key(0), 2")
    assert small.count("500") == 1 and small != script
    exec(compile(small, "README.md", "exec"), {})
    assert len(script.strip().splitlines()) <= 18


def test_readme_commands_exist(capsys):
    """Every `rlzoo …` line names options that its command has; every make target is in the Makefile."""
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target
    lines = re.findall(r"^rlzoo (.*?)(?:\s+#.*)?$", README, re.M)
    assert len(lines) == 4
    for line in lines:
        words = line.split()
        with pytest.raises(SystemExit) as ended:
            cli.main([*words[: 2 if words[0] == "train" else 1], "--help"])
        helped = capsys.readouterr().out
        assert not ended.value.code
        for option in re.findall(r"--[\w.-]+", line):
            assert option in helped, option


def test_sweep_files_of_docs_and_experiments_are_read(tmp_path):
    """Each is read, and its sweep made, with its numbers drawn; training is left to the tests of sweeps."""
    from rlzoo.drivers.study import Part, _Made

    files = sorted((ROOT / "experiments").glob("*.yaml"))
    for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "sweeps.md").read_text(), re.S)):
        files.append(tmp_path / f"{number}.yaml")
        files[-1].write_text(text)
    assert len(files) == 2
    for file in files:
        made = _Made(rlzoo.study.read(file))
        assert made.runs(Part(0, 0, made.num_settings, None)).num_hypers == 32


def test_the_python_of_the_page_on_sweeps_runs():
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "sweeps.md").read_text(), re.S):
        exec(compile(code, "docs/sweeps.md", "exec"), {})


def test_links_of_the_readme_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=() if path.stem.startswith("01") else pytest.mark.slow)
        for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
    ],
)
def test_notebook_runs_with_a_small_budget(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    sizes = next(cell for cell in notebook.cells if cell.source.startswith("STEPS, SEEDS ="))
    sizes.source = "STEPS, SEEDS = 1_500, 2" if path.stem.startswith("02") else "STEPS, SEEDS = 4_000, 2"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    assert any("image/png" in str(out.get("data", {})) for cell in notebook.cells for out in cell.get("outputs", []))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_experiments_say_what_they_claim(path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    monkeypatch.syspath_prepend(path.parent)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert not ended.value.code and "--record" in capsys.readouterr().out
    assert 20 <= len(path.read_text().splitlines()) <= 60


def test_unsupported_environments_are_in_the_docs():
    from rlzoo.envs import gymnax

    page = (ROOT / "docs" / "environments.md").read_text()
    for name, reason in gymnax.UNSUPPORTED.items():
        assert f"`gymnax/{name}` | {reason}" in page
