"""How a long run shows where it is: a progress bar on a terminal, log lines elsewhere, and a log for the bundle."""

import json
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


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

    def __enter__(self) -> "Report":
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def step(self, step: int, steps: int, loss: float) -> None:
        """The mean loss of the last steps."""
        self.loss = loss
        self.progress.update(self.task, completed=step, total=steps, loss=f"loss {loss:.5f}")

    def validation(self, step: int, score: float, *, seconds: int) -> None:
        """A score on the validation split, `seconds` of training after the stage's first step."""
        figures = {"loss": round(self.loss, 6), "score": round(score, 4), "seconds": seconds}
        entry = {"stage": self.stage, "step": step, **figures}
        with self.log.open("a") as log:
            log.write(json.dumps(entry) + "\n")
        if not self.console.is_terminal:
            self.console.print(json.dumps(entry), soft_wrap=True)
