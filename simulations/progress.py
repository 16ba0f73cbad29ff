"""What a person sees while a run goes on: a live line in a terminal, plain lines elsewhere."""

import time

from flwr.app import ArrayRecord
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from simulations.loop import Plan, Round, Watcher


class ProgressWatcher(Watcher):
    """Round, mean and worst tenth of test accuracy, seconds a round, time left."""

    def __init__(self, label: str, console: Console | None = None) -> None:
        self.label = label
        self.console = console or Console()
        self._bar: Progress | None = None

    def started(self, plan: Plan) -> None:
        self._plan, self._begun = plan, time.perf_counter()
        if self.console.is_terminal:
            columns = (
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[figures]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=self.console)
            self._bar.start()
            self._task = self._bar.add_task(
                self.label, total=plan.rounds, completed=plan.first - 1, figures="starting"
            )

    def round_done(self, round_: Round, arrays: ArrayRecord) -> None:
        figures = f"{round_.seconds:.1f} s a round"
        if round_.figures:
            figures = (
                f"mean {round_.figures['mean']:.3f}  worst tenth {round_.figures['worst10']:.3f}  {figures}"
            )
        failures = len(round_.train.failures)
        if failures:
            figures += f"  [red]{failures} failed[/red]"
        if self._bar is not None:
            self._bar.update(self._task, completed=round_.number, figures=figures)
        elif round_.figures or failures:
            done = round_.number - self._plan.first + 1
            left = (time.perf_counter() - self._begun) / done * (self._plan.rounds - round_.number)
            self.console.print(
                f"{self.label}  round {round_.number}/{self._plan.rounds}  {figures}  {left:.0f} s left",
                highlight=False,
                soft_wrap=True,
            )

    def closed(self) -> None:
        """Leave the terminal as it was, also after an error."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
