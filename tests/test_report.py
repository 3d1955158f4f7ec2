"""Statistics against SciPy and arithmetic; pictures, tables, sinks and recorded figures by what they hold."""

import json
import re
import warnings

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from rlzoo import report
from rlzoo.report import progress, sinks

RNG = np.random.default_rng(0)


def test_iqm_is_the_mean_of_the_middle_half():
    scores = np.array([100.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -100.0])
    assert report.iqm(scores) == pytest.approx(np.mean([2, 3, 4, 5]))


def test_interval_covers_as_often_as_it_says():
    """Of 200 samples of 20 normal scores, about 95% of the intervals hold the true IQM, which is 0."""
    point, low, high = report.interval(RNG.normal(size=(200, 20)), resamples=500)
    assert point.shape == low.shape == high.shape == (200,)
    assert 0.86 <= np.mean((low <= 0) & (high >= 0)) <= 0.99


def test_interval_is_stratified_by_task():
    """Two tasks far apart: resampling within each keeps the spread small; pooling them would not."""
    tasks = [RNG.normal(0.0, 0.1, 10), RNG.normal(100.0, 0.1, 10)]
    stratified, pooled = (
        report.interval(tasks, report.statistics.mean),
        report.interval(np.concatenate(tasks), report.statistics.mean),
    )
    assert float(stratified.high - stratified.low) < 0.3 < float(pooled.high - pooled.low)
    reference = stats.bootstrap(
        tasks,
        lambda a, b: np.mean(np.concatenate([a, b])),
        vectorized=False,
        n_resamples=2_000,
        method="percentile",
        rng=1,
    ).confidence_interval
    assert float(stratified.low) == pytest.approx(reference.low, abs=0.02)


def test_interval_of_one_seed_has_no_ends():
    point, low, high = report.interval(np.array([[3.0]]))
    assert point[0] == 3.0 and np.isnan(low[0]) and np.isnan(high[0])


def test_risks_of_one_to_a_hundred():
    returns = RNG.permutation(np.arange(1.0, 101.0))
    assert report.value_at_risk(returns, 0.1) == 10.0 and report.conditional_value_at_risk(returns, 0.1) == 5.5
    assert report.conditional_value_at_risk(returns, 1.0) == returns.mean()
    assert report.conditional_value_at_risk(returns, 0.101) == np.arange(1.0, 12.0).mean()  # the 11 worst
    assert report.conditional_value_at_risk(returns, 0.07) == 4.0  # 7, and not 8 for 7.000000000000001
    assert report.conditional_value_at_risk(returns, 0.001) == report.value_at_risk(returns, 0.001) == 1.0
    for level in (0.05, 0.1, 0.25, 0.5):
        batch = RNG.normal(size=(3, 40))
        var, cvar = report.value_at_risk(batch, level), report.conditional_value_at_risk(batch, level)
        assert var.shape == cvar.shape == (3,) and (cvar <= var).all() and (cvar <= batch.mean(1)).all()
        np.testing.assert_allclose(report.conditional_value_at_risk(batch.T, level, axis=0), cvar)
    assert report.conditional_value_at_risk(returns, 1e-12) == 1.0  # the worst one at the least
    assert report.value_at_risk(returns, 0.1) <= returns.mean()
    for measure in (report.value_at_risk, report.conditional_value_at_risk):  # a failed lane is not the best one
        assert np.isnan(measure(np.append(returns, np.nan), 0.1))
    for level in (0.0, 1.5):
        with pytest.raises(ValueError, match=f"level={level}; it must be above 0 and at most 1"):
            report.value_at_risk(returns, level)


def test_paired_differences_cancel_what_episodes_share():
    """Episodes of very unequal difficulty, a gain of 1 with noise of 0.5: paired the interval is narrow."""
    hard = 100.0 * RNG.normal(size=64)
    base = hard + RNG.normal(size=(4, 64))
    other = base + 1.0 + 0.5 * RNG.normal(size=(4, 64))
    point, low, high = report.paired(base, other)
    assert float(point) == pytest.approx((other - base).mean())
    assert 0.5 < low < point < high < 1.5
    shuffled = report.paired(base, RNG.permuted(other, axis=1))
    assert float(shuffled.high - shuffled.low) > 10 * float(high - low)
    several = report.paired(np.stack([base, base]), np.stack([other, base]), report.statistics.mean)
    assert several.point.shape == (2,) and several.low[1] == several.high[1] == 0.0
    with pytest.raises(ValueError, match=r"shapes \[4, 64\] and \[4, 63\]; paired episodes need the same in both"):
        report.paired(base, other[:, 1:])


def test_paired_intervals_cover_as_often_as_they_say():
    """Seeds with effects of their own: of 150 samples of 12 seeds, most intervals hold the true gain of 1."""
    gain = 1.0 + RNG.normal(size=(150, 12, 1)) + RNG.normal(size=(150, 12, 20))
    base = RNG.normal(size=(150, 12, 20))
    _, low, high = report.paired(base, base + gain, resamples=400)
    assert np.mean((low <= 1.0) & (high >= 1.0)) >= 0.85
    of_seeds = 2 * 1.96 / np.sqrt(12)  # the width that the seeds' own effects make; episodes add little
    assert np.mean(high - low) < 1.3 * of_seeds


@pytest.mark.parametrize(("of_groups", "of_seeds"), [(1.0, 1.0), (0.0, 1.0), (1.0, 0.1)])
@pytest.mark.parametrize("num_groups", [5, 12])
def test_intervals_over_groups_cover_as_often_as_they_say(num_groups, of_groups, of_seeds):
    """Two-level normals around 3, 4 seeds in a group: 95% intervals hold it 93 to 97 times of 100."""
    rng = np.random.default_rng(0)
    groups, seeds = rng.normal(size=(4_000, num_groups, 1)), rng.normal(size=(4_000, num_groups, 4))
    scores = 3.0 + of_groups * groups + of_seeds * seeds
    point, low, high = report.hierarchical(scores, resamples=400)
    np.testing.assert_allclose(point, scores.mean((1, 2)))
    assert 0.93 <= np.mean((low <= 3.0) & (high >= 3.0)) <= 0.97
    percentile = report.interval(scores.reshape(4_000, -1), np.mean, resamples=100)  # as if seeds were independent
    if of_groups:
        assert np.mean((percentile.low <= 3.0) & (percentile.high >= 3.0)) < 0.85


def test_intervals_over_groups():
    """Of the mean it is Student's interval of the groups' means; one group says nothing of others."""
    scores = RNG.normal(size=(6, 3)) + np.arange(6.0)[:, None]
    student = stats.ttest_1samp(scores.mean(1), 0.0).confidence_interval(0.9)
    found = report.hierarchical(scores, confidence=0.9, resamples=20_000)
    np.testing.assert_allclose(found[1:], [student.low, student.high], rtol=0.02)
    of_iqm = report.hierarchical(np.stack([scores, scores + 1.0]), report.iqm)
    np.testing.assert_allclose(of_iqm.point, report.iqm(scores.ravel()) + np.array([0.0, 1.0]))
    point, low, high = report.hierarchical(scores[:1])
    assert point == pytest.approx(scores[0].mean()) and np.isnan([low, high]).all()
    with pytest.raises(ValueError, match=r"scores have shape \[4\]; they must be \[..., groups, seeds\]"):
        report.hierarchical(np.ones(4))
    with pytest.raises(ValueError, match="unequal numbers of seeds"):
        report.hierarchical([[1.0, 2.0], [3.0]])


def test_the_table_of_risks(capsys):
    report.risks("t", {"base": np.arange(1.0, 101.0), "safe": np.ones((2, 5))}, columns={"distance": [0.5, 0.25]})
    said = capsys.readouterr().out
    assert "CVaR 0.1" in said and " VaR 0.1" in said and "distance" in said
    assert next(x for x in said.splitlines() if "base" in x).split()[:4] == ["base", "50.5", "10.0", "5.5"]
    assert next(x for x in said.splitlines() if "safe" in x).split()[-2:] == ["10", "0.25"]


def test_failed_episodes_are_counted_and_left_out_of_the_risks(capsys):
    report.risks("t", {"half": np.array([[1.0, 2.0], [np.nan, np.nan]]), "none": np.full((1, 2), np.nan)})
    said = capsys.readouterr().out
    assert next(x for x in said.splitlines() if "half" in x).split()[1:] == [
        "1.5",
        "1.0",
        "1.0",
        "2",
        "+",
        "2",
        "failed",
    ]
    assert next(x for x in said.splitlines() if "none" in x).split()[1:4] == ["–", "–", "–"]


def test_grids_in_numbers(capsys):
    """Ten cells: the mean with its interval over seeds, the worst cell, and where a row is the best one."""
    cells = np.arange(10.0)
    flat = np.full((2, 10), 4.5)
    report.grids(
        "g", {"steep": np.stack([cells - 1.0, cells + 1.0, np.full(10, np.nan)]), "flat": flat}, Console(width=100)
    )
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert next(x for x in said if x[:1] == ["steep"]) == [
        *("steep", "4.5", "3.5", "…", "5.5", "0.0", "0.0", "5", "of", "10", "2", "+", "1", "failed")
    ]
    with pytest.raises(ValueError, match=r"rows have \[9, 10\] cells"):
        report.grids("g", {"short": flat[:, :9], "flat": flat})
    assert next(x for x in said if x[:1] == ["flat"]) == [
        *("flat", "4.5", "4.5", "…", "4.5", "4.5", "4.5", "5", "of", "10", "2")
    ]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def size(figure):
    """Of the first axes, in inches."""
    figure.draw_without_rendering()
    return figure.axes[0].get_position().size * figure.get_size_inches()


def curve(last, steps=5):
    return np.arange(steps) * 1000, np.linspace(0.0, last, steps)[:, None] + RNG.normal(size=(steps, 3)) * 0.01


@pytest.mark.parametrize("count", [1, 2, 9, 12, 13, 32, 200])
@pytest.mark.parametrize(
    "label", ["{}", "learning_rate={}", "rate={}, gamma=0.99, " + "a_long_name_of_a_number=0.5, " * 4 + "c={}"]
)
def test_curves_keep_their_axes_whatever_the_labels(count, label):
    figure = report.curves(None, {label.format(i, i): curve(i) for i in range(count)}, title="t " * 60)
    width, height = size(figure)
    assert width >= 4.0 and height >= 2.7  # of 7 by 4.2 with nothing beside the axes
    assert figure.get_size_inches()[0] <= 10 and figure.get_size_inches()[1] <= 8
    for drawn in figure.legends:
        box, whole = drawn.get_window_extent(), figure.bbox
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= whole.x1 + 1 and box.y1 <= whole.y1 + 1
        assert not box.overlaps(figure.axes[0].get_window_extent())


def test_of_many_curves_the_best_are_drawn_and_the_rest_in_grey():
    scores = {f"rate={i}, gamma=0.9": curve(i) for i in range(20)}
    scores["rate=99, gamma=0.9"] = (np.arange(3) * 500, np.full((3, 3), np.nan))  # failed, with steps of its own
    figure = report.curves(None, scores)
    assert [line.get_ydata()[-1].round() for line in figure.axes[0].get_lines()] == [14, 15, 16, 17, 18, 19]
    assert legend(figure) == [*map(str, range(14, 20)), "the other 15: range, middle half"]
    assert figure.legends[0].get_title().get_text() == "rate, gamma=0.9"
    rest = [band.get_paths()[0].vertices[:, 1] for band in figure.axes[0].collections[-2:]]
    assert rest[0].max() == pytest.approx(13, abs=0.1) and rest[1].max() < 11  # the middle half is narrower
    assert report.curves(None, {str(i): (np.arange(2), np.full((2, 2), np.nan)) for i in range(13)}).axes
    assert report.curves(None, {}).axes


def test_texts_of_pictures_are_taken_as_they_are(tmp_path):
    """Signs of formulas, of what matplotlib hides, and of nothing; a failed setting is no warning."""
    odd = "a $\\nope$ of _b^"
    scores = {odd: curve(1), "_hidden": curve(2), "": (np.arange(5), np.full((5, 3), np.nan))}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = report.curves(tmp_path / "c.png", scores, title=odd, xlabel=odd, ylabel=odd)
        assert legend(figure) == [odd, "_hidden", ""]
        report.sensitivity(tmp_path / "s.png", odd, np.array([0.0, 1e-300, 1e300]), RNG.normal(size=(3, 2)), title=odd)
        report.heatmap(tmp_path / "h.png", (odd, [1.0]), (odd, [2.0]), np.ones((1, 1)), title=odd, label=odd)
        report.scatter(tmp_path / "d.png", {odd: np.ones(2)}, np.ones((2, 2)), title=odd, ylabel=odd)


def test_labels_are_shortened_to_what_differs():
    short = report.plots.shortened
    assert short(["a=1, b=2", "a=1, b=3"]) == ("b, a=1", ["2", "3"])
    assert short(["a=1, b=2, c=x", "a=2, b=3, c=x"]) == ("c=x", ["a=1, b=2", "a=2, b=3"])
    assert short(["SAC", "TD3+BC"]) == ("", ["SAC", "TD3+BC"])
    assert short(["a=1"]) == ("", ["a=1"])
    assert short(["a=1", "a=1, b=2"]) == ("", ["a=1", "a=1, b=2"])
    assert short(["a=1, x", "b=1, x"]) == ("x", ["a=1", "b=1"])
    assert short(["runs/of_a_day/one", "runs/of_a_day/two"]) == ("runs/of_a_day/…", ["one", "two"])
    assert short(["a=", "a=1"]) == ("", ["a=", "a=1"])


def test_numbers_that_no_axis_holds_stand_side_by_side():
    """Infinity, and 0 beside a wide span; elsewhere on a log axis, or by value."""
    scores = RNG.normal(size=(4, 3))
    for values, labels in (([1e5, np.inf, 1e6, 1e4], ["1e+04", "1e+05", "1e+06", "inf"]), ([0, 1e-4, 1e-2, 1.0], None)):
        axes = report.sensitivity(None, "x", np.array(values), scores).axes[0]
        assert list(axes.get_lines()[1].get_xdata()) == [0, 1, 2, 3]
        assert labels is None or [text.get_text() for text in axes.get_xticklabels()] == labels
    assert report.sensitivity(None, "x", np.array([1, 2, 3, 4]), scores).axes[0].get_xscale() == "linear"
    assert list(report.sensitivity(None, "x", np.array([0, 1, 2, 3]), scores).axes[0].get_lines()[1].get_xdata()) == [
        0,
        1,
        2,
        3,
    ]
    drawn = report.scatter(None, {f"n{i}": np.array([1, 2, np.inf, 4]) for i in range(9)}, scores)
    assert len(drawn.axes) == 9 and max(drawn.get_size_inches()) < 15
    axes = report.heatmap(None, ("x", np.geomspace(1e-3, 1, 90)), ("y", np.arange(70)), RNG.normal(size=(70, 90))).axes[
        0
    ]
    assert len(axes.get_xticks()) <= 30 and len(axes.get_yticks()) <= 20


def test_pictures_are_written_and_show_the_data(tmp_path):
    steps, scores = np.arange(5) * 1000, RNG.normal(size=(5, 4)).cumsum(0)
    figure = report.curves(tmp_path / "curves.png", {"a": (steps, scores), "b": (steps, scores + 1)}, title="t")
    lines = figure.axes[0].get_lines()
    np.testing.assert_allclose(lines[0].get_ydata(), report.iqm(scores))
    assert legend(figure) == ["a", "b"]

    figure = report.sensitivity(tmp_path / "s.png", "rate", np.array([1e-2, 1e-4, 1e-3]), RNG.normal(size=(3, 4)))
    axes = figure.axes[0]
    assert axes.get_xscale() == "log" and axes.get_xlabel() == "rate"
    assert list(axes.get_lines()[1].get_xdata()) == [1e-4, 1e-3, 1e-2]

    figure = report.heatmap(tmp_path / "h.png", ("mass", [1, 2, 3]), ("length", [0.5, 1.0]), np.arange(6).reshape(2, 3))
    assert figure.axes[0].get_xlabel() == "mass" and len(figure.axes[0].get_yticks()) == 2
    drawn = {"rate": np.geomspace(1e-4, 1e-2, 20), "gamma": RNG.uniform(0.9, 1.0, 20)}
    scores = RNG.normal(size=(20, 3))
    scores[4, 1] = np.nan
    figure = report.scatter(tmp_path / "d.png", drawn, scores, title="t")
    rate, gamma = figure.axes
    assert (rate.get_xscale(), gamma.get_xscale(), gamma.get_xlabel()) == ("log", "linear", "gamma")
    others, best = (line.get_ydata() for line in gamma.get_lines())
    assert len(others) == 17 and len(best) == 2 and best.min() > others.max()
    assert report.scatter(None, {"rate": np.ones(2)}, np.full((2, 1), np.nan)).axes

    for name in ("curves.png", "s.png", "h.png", "d.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG") and (tmp_path / name).stat().st_size > 5_000


def test_more_settings_than_colours_still_draw():
    curves = {str(i): (np.arange(3), RNG.normal(size=(3, 2))) for i in range(9)}
    figure = report.curves(None, curves)
    assert len({tuple(np.atleast_1d(line.get_color())) for line in figure.axes[0].get_lines()}) == 9


def test_table_counts_failed_seeds(capsys):
    scores = {"good": np.array([1.0, 2.0, 3.0, 4.0]), "half": np.array([9.0, np.nan]), "none": np.array([np.nan])}
    report.table("Title", scores, Console(width=100))
    text = capsys.readouterr().out
    assert "Title" in text and "1 + 1 failed" in text and "0 + 1 failed" in text
    row = next(line for line in text.splitlines() if "good" in line)
    assert "2.5" in row and "1.0" in row and "4.0" in row


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 200])
def test_tables_of_any_width_keep_all_numbers_whole(width, capsys):
    """Under 80 columns, labels are folded and columns go on below; nothing ends in an ellipsis, and nothing is lost."""
    rows = {f"learning_rate=0.00{i}, gamma=0.99{i}, gae_lambda=0.9{i}": i * 1e6 + RNG.normal(size=8) for i in range(3)}
    for show, headings in (
        (report.table, ["IQM", "95%", "interval", "mean", "min", "max", "seeds"]),
        (lambda *x: report.risks(*x[:2], levels=(0.05, 0.1, 0.25), console=x[2]), ["CVaR", "0.05", "episodes"]),
        (
            lambda t, x, c: report.grids(t, {k: v[:, None] for k, v in x.items()}, c),
            ["worst", "tenth", "best", "cells"],
        ),
    ):
        wide, narrow = (show("a [b] title", rows, Console(width=w)) or capsys.readouterr().out for w in (400, width))
        assert "…" not in re.sub(r"\d …\s+-?\d", "", narrow) and "a [b] title" in narrow
        assert all(heading in narrow.split() for heading in headings)
        cells = set(re.findall(r"(?<= )-?\d+\.\d+(?: … -?\d+\.\d+)?(?= )", wide))
        assert len(cells) >= 6 and all(cell in narrow for cell in cells)
        if width >= 60:  # what is still wider than a terminal is written in lines, which it breaks
            assert max(map(len, narrow.splitlines())) <= width


def test_tables_write_small_numbers_with_their_digits(capsys):
    report.table("t", {"a": np.array([0.0123, 0.0456]), "b": np.array([0.001, 0.002])}, Console(width=100))
    said = capsys.readouterr().out
    assert "0.0456" in said and "0.0010" in said


def test_numbers_are_told_apart():
    from rlzoo.report.tables import numbers

    assert numbers([1e-4, 0.001, 3.0]) == ["0.0001", "0.001", "3"]
    assert numbers([0.99999999, 1.0]) == ["0.99999999", "1"]
    assert numbers([0.9991, 0.9995, 0.9999, 0.99999], 3) == ["0.9991", "0.9995", "0.9999", "0.99999"]
    assert numbers([0.5, 0.525, 1.475, 1.5], 3) == ["0.5", "0.525", "1.475", "1.5"]
    assert numbers([np.nan, np.inf, 2.0], 3) == ["nan", "inf", "2"] and numbers([], 3) == []
    assert numbers([1e6, 1e6 + 1, float("inf")]) == ["1000000", "1000001", "inf"]


def test_recorded_figures_say_whether_the_bar_is_met(tmp_path):
    figures = [
        report.Figure("fast", 2.0, "×", bar=">= 1.5"),
        report.Figure("slow", 2.0, "s", bar="<= 1"),
        *report.returns_figures("return", np.array([1.0, 2.0, 3.0, 4.0]), ">= 2"),
    ]
    page = report.record("A title, of 1M", figures, tmp_path / "results")
    text = page.read_text()
    assert "| fast | 2 × |  | >= 1.5 | met |" in text and "| slow | 2 s |  | <= 1 | **not met** |" in text
    assert "return, mean | 2.5" in text and "return, IQM | 2.5" in text and "4 seeds, lowest 1" in text
    entry = json.loads((tmp_path / "results" / "a_title_of_1m.json").read_text())
    assert {"hardware", "commit", "command", "versions", "date"} <= set(entry)
    report.record("Another", figures[:1], tmp_path / "results")
    assert page.read_text().count("## ") == 2
    report.record("Another", figures[1:2], tmp_path / "results")
    assert page.read_text().count("## ") == 2 and page.read_text().count("| fast |") == 1


def test_sinks_write_each_lane_once_whatever_the_order(tmp_path):
    rows = [
        {
            "update": 1,
            "env_steps": 10,
            "setting": h,
            "seed": s,
            "hyper/rate": [0.1, 0.2][h],
            "eval/return": 10.0 * h + s,
        }
        for h, s in ((1, 1), (0, 0), (1, 0), (0, 1))
    ]
    sink = sinks.open_sink("csv", tmp_path, 0)
    sink.write(rows)
    steps, values = report.series(str(tmp_path / "log.csv"), "eval/return")
    assert list(steps) == [10]
    np.testing.assert_array_equal(values, [[[0.0, 1.0], [10.0, 11.0]]])
    with pytest.raises(ValueError, match="holds no 'eval/x'"):
        sinks.series(tmp_path / "log.csv", "eval/x")

    board = sinks.open_sink("tensorboard", tmp_path, 0)
    board.write(rows)
    board.close()
    names = sorted(path.name for path in (tmp_path / "tensorboard").iterdir())
    assert names == ["rate=0.1,seed=0", "rate=0.1,seed=1", "rate=0.2,seed=0", "rate=0.2,seed=1"]


def test_wandb_gets_one_call_per_report(tmp_path, monkeypatch):
    """A stand-in of wandb's two calls: it refuses a step that goes back, as wandb does."""
    import sys
    import types

    logged, finished, told = [], [], []

    class Run:
        def __init__(self):
            self.step = logged[-1][0] + 1 if logged else 0
            self.config = types.SimpleNamespace(update=lambda about, allow_val_change: told.append(about))

        def log(self, values, step):
            assert not logged or step > logged[-1][0], "wandb ignores a step that goes back"
            logged.append((step, values))

        def finish(self):
            finished.append(self)

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=lambda **_: Run()))
    for resume_at, updates in ((0, (1, 2)), (1, (2, 3))):  # killed after a report, before its checkpoint
        sink = sinks.open_sink("wandb", tmp_path, resume_at)
        sink.begin({"algorithm": "ppo", "seeds": [2]})
        for update in updates:
            row = {"update": update, "env_steps": 5 * update, "setting": 0, "loss/x": np.nan}
            sink.write([row | {"seed": seed, "eval/return": float(seed)} for seed in (0, 1)])
        sink.close()
    assert logged[0] == (1, {"setting=0,seed=0/eval/return": 0.0, "setting=0,seed=1/eval/return": 1.0, "env_steps": 5})
    assert [step for step, _ in logged] == [1, 2, 3] and len(finished) == 2
    assert told == [{"algorithm": "ppo", "seeds": [2]}] * 2


def test_wandb_missing_is_said(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r"pip install 'rlzoo\[wandb\]'"):
        sinks.open_sink("wandb", tmp_path, 0)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_bar_cuts_no_number(width, monkeypatch):
    import functools
    import io

    out = io.StringIO()
    terminal = functools.partial(Console, file=out, force_terminal=True, width=width, color_system=None)
    monkeypatch.setattr(progress, "Console", terminal)
    bar = progress.Bar("ppo brax/inverted_pendulum spring", 10_000_000)
    bar.update(5_000_000, "return 123456.7, best 1234567.8 at gamma=0.99")
    bar.close()
    said = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    assert {"123456.7,", "1234567.8", "gamma=0.99", "50%"} <= set(said.split()) and "…" not in said.replace(" …", "")


HEADER, ROW = b"update,env_steps,setting,seed,eval/return\n", b"0,0,0,0,1.5\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\x00\n", "can't decode byte 0xff"),
        (b"\0" * 100, "no column update"),
        (HEADER.replace(b"seed", b"sed") + ROW, "no column seed"),
        (HEADER + b"0,0,0.5,0,1\n", "setting is '0.5' in line 2"),
        (HEADER + b"0,0,0,-1,1\n", "seed is '-1' in line 2"),
        (HEADER + b"0,nan,0,0,1\n", "env_steps is 'nan'"),
        (HEADER + b"inf,0,0,0,1\n", "update is 'inf'"),
        (HEADER + b"0,1e40,0,0,1\n", "env_steps is '1e40'"),
        (HEADER + ROW + b"0,0,999999999,0,1\n", "2 rows cannot be of 1000000000 settings x 1 seeds"),
        (HEADER + b"0,0,0,0\n" + ROW, "line 2 holds something else than numbers"),
        (HEADER + ROW + b"0,x,0,0,1\n" + ROW, "line 3 holds something else than numbers"),
        (HEADER + b"1" * 200_000 + b"\n", "field larger than field limit"),
        (HEADER, "holds no 'eval/return'"),
        (b"", "holds no 'eval/return'"),
    ],
)
def test_a_damaged_log_is_named(content, message, tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as said:
        sinks.series(path, "eval/return")
    assert str(path) in str(said.value)


def test_a_log_that_cannot_be_written_says_where_and_what_is_free(tmp_path, monkeypatch):
    sink = sinks.open_sink("csv", tmp_path, -1)
    monkeypatch.setattr("os.fsync", lambda number: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    message = r"log.csv cannot be written: No space left on device; .*iB are free in .*; make room there, and go on"
    with pytest.raises(OSError, match=message):
        sink.write([{"update": 0, "env_steps": 0, "setting": 0, "seed": 0}])


def test_short_numbers():
    assert [progress.short(x) for x in (5, 1_500, 2_340_000, 5e9)] == ["5", "1.5k", "2.34M", "5G"]
