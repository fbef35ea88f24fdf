"""The optimiser's loop, the same for every stage: resumable, deterministic in what it sees, chosen on validation."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from kdmri_training.evaluation.report import Report
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from kdmri.errors import InvalidRequest

CHECKPOINT_SECONDS = 120
"""Between two writes of last.pt: what a run that is stopped loses at most."""
VALIDATIONS = 20
WARM_UP = 100
"""Steps."""
REPORTED = 20
"""Steps whose mean loss is reported: less than a minute of the slowest network on one processor core."""


def annealed(step: int, steps: int) -> float:
    """The learning rate's share at a step: a short linear warm-up, then a cosine from 1 to a hundredth."""
    return min(1.0, (step + 1) / WARM_UP) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def share(batch: Any, fabric: Fabric) -> Any:
    """This process's part of the batch that all processes train on together.

    Raises InvalidRequest where the parts would differ in size: a mean of their means would be no mean over the batch.
    """
    size, processes = len(batch.target), fabric.world_size
    if size % processes:
        raise InvalidRequest(f"expected a batch that {processes} processes can share equally, got {size} examples")
    parts = {name: value[fabric.global_rank :: processes] for name, value in vars(batch).items()}
    return replace(batch, **parts)


def fit(
    network: nn.Module,
    loss: Callable[[nn.Module, Any], Tensor],
    draw: Callable[[int], Any],
    score: Callable[[nn.Module], float],
    *,
    steps: int,
    learning_rate: float,
    folder: Path,
    fabric: Fabric,
    report: Report,
    validations: int = VALIDATIONS,
) -> None:
    """Train `network` for `steps` steps, leaving the weights that scored best in it and in folder/best.pt.

    Args:
        loss: of the network on a batch.
        draw: the batch of a step, shared out over the processes; must depend on the step alone, so that a resumed run
            goes on as if never stopped.
        score: on the validation split; higher is better.
        folder: for last.pt (resumed from where it exists), best.pt and TensorBoard's files.
        validations: how often the network is scored; once means after the last step, so that nothing is chosen.
    """
    folder.mkdir(parents=True, exist_ok=True)
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate)
    trained, optimiser = fabric.setup(network, optimiser)
    state: dict[str, Any] = {"network": trained, "optimiser": optimiser, "step": 0, "best": -math.inf, "seconds": 0.0}
    last, best = folder / "last.pt", folder / "best.pt"
    if last.exists():
        fabric.load(last, state, strict=False)
    # Only one process writes, and it alone looks at the clock: all must save in the same step.
    writer = SummaryWriter(str(folder)) if fabric.is_global_zero else None
    started, saved = time.monotonic() - state["seconds"], time.monotonic()
    losses: list[Tensor] = []
    for step in range(state["step"], steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * annealed(step, steps)
        value = loss(trained, share(draw(step), fabric))
        optimiser.zero_grad(set_to_none=True)
        fabric.backward(value)
        fabric.clip_gradients(trained, optimiser, max_norm=1.0)
        optimiser.step()
        state["step"] = step + 1
        losses.append(value.detach())
        final = step + 1 == steps
        if (step + 1) % REPORTED == 0 or final:
            mean = float(fabric.all_reduce(torch.stack(losses).mean()))
            losses.clear()
            if writer:
                writer.add_scalar("loss", mean, step + 1)
                report.step(step + 1, steps, mean)
        if (step + 1) % max(steps // validations, 1) == 0 or final:
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
    network.load_state_dict(torch.load(best, map_location="cpu", weights_only=True)["network"])
