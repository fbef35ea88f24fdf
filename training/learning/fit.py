"""The optimiser's loop, the same for every stage: resumable, deterministic in what it sees, chosen on validation."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from kdmri_training.data.batch import Batch
from kdmri_training.evaluation.report import Report
from kdmri_training.networks.cascades import Network
from lightning.fabric import Fabric
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from kdmri.errors import InvalidRequest

CHECKPOINT_SECONDS = 120
"""Time between two writes of last.pt, and so the most that a run loses if it is stopped."""
VALIDATIONS = 20
WARM_UP = 100
"""Steps over which the learning rate rises to its peak."""
REPORTED = 20
"""Steps whose mean loss is reported: less than a minute of the slowest network on one processor core."""

Objective = Callable[[Network, Batch], Tensor]
"""Loss of a network in training on a batch."""
Score = Callable[[Network], float]
"""Figure of a network on the validation split; higher is better."""
Examples = TypeVar("Examples", bound=Batch)


@dataclass(frozen=True)
class Stage:
    """One pass of the optimiser's loop over its steps, and the place of its files."""

    folder: Path
    """Folder for last.pt (resumed from if it exists), best.pt and TensorBoard's files."""
    run: Path
    """Folder of the run, which holds `folder` and the log of all stages."""
    steps: int
    learning_rate: float
    """Learning rate of Adam at its peak."""
    validations: int = VALIDATIONS
    """Number of validations; 1 means after the last step alone, so that no weights are chosen."""

    @property
    def name(self) -> str:
        """Name of the stage in progress lines and in the log."""
        return self.folder.relative_to(self.run).as_posix()


def learning_rate_factor(step: int, steps: int) -> float:
    """Return the share of the peak learning rate at a step: a linear warm-up, then a cosine from 1 to a hundredth."""
    return min(1.0, (step + 1) / WARM_UP) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def share(batch: Examples, fabric: Fabric) -> Examples:
    """Return this process's part of the batch that all processes train on together.

    Raises:
        InvalidRequest: the parts would differ in size, and the mean of their means would not be the batch's mean.
    """
    size, processes = len(batch.target), fabric.world_size
    if size % processes:
        raise InvalidRequest(f"expected a batch that {processes} processes can share equally, got {size} examples")
    return batch.share_of(fabric.global_rank, processes)


def fit(
    network: Network, loss: Objective, draw: Callable[[int], Batch], score: Score, stage: Stage, fabric: Fabric
) -> None:
    """Train a network for a stage's steps, leaving the weights that scored best in it and in best.pt.

    Args:
        network: the network, trained in place.
        loss: loss on a batch.
        draw: the batch of a step, shared out over the processes; must depend on the step alone, so that a resumed run
            goes on as if never stopped.
        score: figure by which the weights are chosen.
        stage: steps, learning rate and folders.
        fabric: device, precision and processes.
    """
    with Report(stage.name, stage.run / "log.jsonl") as report:
        _optimise(network, loss, draw, score, stage, fabric, report)
    best = torch.load(stage.folder / "best.pt", map_location="cpu", weights_only=True)
    network.load_state_dict(best["network"])


def _optimise(
    network: Network,
    loss: Objective,
    draw: Callable[[int], Batch],
    score: Score,
    stage: Stage,
    fabric: Fabric,
    report: Report,
) -> None:
    """Run the steps that the last checkpoint has not, writing checkpoints and figures; arguments as of `fit`."""
    stage.folder.mkdir(parents=True, exist_ok=True)
    optimiser = torch.optim.Adam(network.parameters(), lr=stage.learning_rate)
    # Fabric's wrapper forwards attributes and methods to the network, so that code in the loop treats it as one.
    trained: Network
    trained, optimiser = fabric.setup(network, optimiser)
    state: dict[str, Any] = {"network": trained, "optimiser": optimiser, "step": 0, "best": -math.inf, "seconds": 0.0}
    last, best, steps = stage.folder / "last.pt", stage.folder / "best.pt", stage.steps
    if last.exists():
        fabric.load(last, state, strict=False)
    # Only one process writes, and it alone looks at the clock: all must save in the same step.
    writer = SummaryWriter(str(stage.folder)) if fabric.is_global_zero else None
    started, saved = time.monotonic() - state["seconds"], time.monotonic()
    losses: list[Tensor] = []
    for step in range(state["step"], steps):
        for group in optimiser.param_groups:
            group["lr"] = stage.learning_rate * learning_rate_factor(step, steps)
        value = loss(trained, share(draw(step), fabric))
        optimiser.zero_grad(set_to_none=True)
        fabric.backward(value)
        # Batches differ in noise and acceleration, and with them in gradient: one of them must not undo many steps.
        fabric.clip_gradients(trained, optimiser, max_norm=1.0)
        optimiser.step()
        state["step"] = step + 1
        # Kept as tensors: reading a number would make a card wait at every step.
        losses.append(value.detach())
        final = step + 1 == steps
        if (step + 1) % REPORTED == 0 or final:
            mean = float(_mean_over_processes(torch.stack(losses).mean(), fabric))
            losses.clear()
            if writer:
                writer.add_scalar("loss", mean, step + 1)
                report.step(step + 1, steps, mean)
        if (step + 1) % max(steps // stage.validations, 1) == 0 or final:
            # One process decides, or rounding could let processes keep different weights.
            reached = fabric.broadcast(score(trained))
            if writer:
                writer.add_scalar("validation", reached, step + 1)
                report.validation(step + 1, reached, seconds=round(time.monotonic() - started))
            if reached > state["best"]:
                state["best"] = reached
                fabric.save(best, {"network": trained, "step": step + 1, "score": reached})
        if fabric.broadcast(time.monotonic() - saved > CHECKPOINT_SECONDS) or final:
            saved = time.monotonic()
            state["seconds"] = saved - started
            fabric.save(last, state)
    if writer:
        writer.close()


def _mean_over_processes(value: Tensor, fabric: Fabric) -> Tensor:
    # Fabric reduces collections too, and declares the union of all that it returns; a tensor gives a tensor.
    reduced = fabric.all_reduce(value)
    if not isinstance(reduced, Tensor):
        raise TypeError(f"expected a tensor from Fabric's reduction, got {type(reduced).__name__}")
    return reduced
