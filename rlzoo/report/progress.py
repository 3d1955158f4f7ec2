"""Live progress of a run on the terminal: a bar where there is one, lines where output goes to a file."""

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column


class Bar:
    """Steps, steps per second, time left, mean return and the best lane.

    Args:
        total: environment steps of all lanes. done: of those, taken before (a resumed run).
    """

    def __init__(self, title: str, total: int, done: int = 0, quiet: bool = False) -> None:
        self.console = Console(quiet=quiet)
        self.title, self.total, self.start = title, max(total, 1), time.monotonic()
        self.first = (done, self.start)  # steps and time from which the speed counts: once all is compiled
        self.reports = 0
        columns: list[ProgressColumn] = [
            TextColumn("{task.description}", table_column=Column(ratio=1, overflow="fold")),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:3.0f}%", table_column=Column(no_wrap=True, min_width=4)),
            TextColumn(
                "{task.fields[text]}", table_column=Column(ratio=3, overflow="fold")
            ),  # broken between words, no number is cut
            TimeElapsedColumn(Column(no_wrap=True, min_width=7)),
            TextColumn("left", table_column=Column(no_wrap=True, min_width=4)),
            TimeRemainingColumn(table_column=Column(no_wrap=True, min_width=7)),
        ]
        if self.console.width < 70:
            del columns[4:]
        if self.console.width < 100:
            del columns[1]
        self.progress = Progress(*columns, console=self.console, disable=quiet or not self.console.is_terminal)
        self.task = self.progress.add_task(title, total=total, completed=done, text="compiling …")
        self.progress.start()

    def update(self, done: int, text: str) -> None:
        now = time.monotonic()
        seconds = now - self.start
        speed = (done - self.first[0]) / max(now - self.first[1], 1e-9)
        self.reports += 1
        if self.reports <= 2:  # the first evaluation and the first chunk compile
            self.first = (done, now)
        text = f"{short(done)} steps  {short(speed)}/s  {text}" if speed else text
        self.progress.update(self.task, completed=done, text=text)
        if self.progress.disable:
            left = f", {(self.total - done) / speed:.0f}s left" if speed else ""
            self.note(f"{self.title}  {done / self.total:4.0%}  {text}  {seconds:.0f}s{left}")

    def note(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self.progress.stop()


def short(number: float) -> str:
    """1234567 -> 1.23M."""
    for factor, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.3g}{suffix}"
    return f"{number:.3g}"
