"""Progress of a long run: a bar on a terminal, log lines elsewhere, and a log for the bundle."""

import json
import time
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS = 60
"""Longest time between two log lines away from a terminal, as long as steps are reported that often."""


class Report:
    """Progress of one stage; validation scores also go to a JSON-lines file beside the checkpoints."""

    def __init__(self, stage: str, log: Path, console: Console | None = None) -> None:
        self.stage, self.log = stage, log
        self.console = console or Console()
        columns = (BarColumn(), TextColumn("{task.fields[loss]}"), TimeRemainingColumn())
        self.progress = Progress(
            TextColumn("{task.description}"), *columns, console=self.console, disable=not self.console.is_terminal
        )
        self.task = self.progress.add_task(stage, total=None, loss="")
        self.loss = float("nan")
        self.first: tuple[int, float] | None = None
        self.printed = -float("inf")

    def __enter__(self) -> "Report":
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def step(self, step: int, steps: int, loss: float) -> None:
        """Show the mean loss of the last steps; away from a terminal as a line with speed and time left.

        Args:
            step: steps that are done.
            steps: steps of the stage.
            loss: mean loss since the last call.
        """
        self.loss, now = loss, time.monotonic()
        # Speed counts from the first report of this process: a resumed run took its earlier steps at another time.
        first_step, started = self.first = self.first or (step, now)
        if not self.console.is_terminal and now - self.printed >= LINE_SECONDS:
            self.printed = now
            speed = (step - first_step) / (now - started) if now > started else 0.0
            left = f"{(steps - step) / speed / 60:.0f} minutes left" if speed else "time left unknown"
            line = f"{self.stage}: step {step} of {steps}, loss {loss:.5f}, {speed:.2f} steps/s, {left}"
            self.console.print(line, soft_wrap=True)
        self.progress.update(self.task, completed=step, total=steps, loss=f"loss {loss:.5f}")

    def validation(self, step: int, score: float, *, seconds: int) -> None:
        """Log a score on the validation split.

        Args:
            step: steps that are done.
            score: the score.
            seconds: training time since the stage's first step.
        """
        figures = {"loss": round(self.loss, 6), "score": round(score, 4), "seconds": seconds}
        entry = {"stage": self.stage, "step": step, **figures}
        with self.log.open("a") as log:
            log.write(json.dumps(entry) + "\n")
        if not self.console.is_terminal:
            self.console.print(json.dumps(entry), soft_wrap=True)
