"""The optimiser's loop, the same for every stage: resumable, deterministic in what it sees, chosen on validation."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from training.report import Report

CHECKPOINT_SECONDS = 120
VALIDATIONS = 20
WARM_UP = 100


def annealed(step: int, steps: int) -> float:
    """The learning rate's share at a step: a short linear warm-up, then a cosine from 1 to a hundredth."""
    return min(1.0, (step + 1) / WARM_UP) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))


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
) -> None:
    """Train `network` for `steps` steps, leaving the weights that scored best in it and in folder/best.pt.

    Args:
        loss: of the network on a batch.
        draw: the batch of a step; must depend on the step alone, so that a resumed run goes on as if never stopped.
        score: on the validation split; higher is better.
        folder: for last.pt (resumed from where it exists), best.pt and TensorBoard's files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate)
    trained, optimiser = fabric.setup(network, optimiser)
    state: dict[str, Any] = {"network": trained, "optimiser": optimiser, "step": 0, "best": -math.inf, "seconds": 0.0}
    last, best = folder / "last.pt", folder / "best.pt"
    if last.exists():
        fabric.load(last, state, strict=False)
    writer = SummaryWriter(str(folder))
    started, saved = time.monotonic() - state["seconds"], time.monotonic()
    running = torch.zeros(())
    for step in range(state["step"], steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * annealed(step, steps)
        value = loss(trained, draw(step))
        optimiser.zero_grad(set_to_none=True)
        fabric.backward(value)
        fabric.clip_gradients(trained, optimiser, max_norm=1.0)
        optimiser.step()
        state["step"] = step + 1
        running = running + value.detach().cpu()
        if (step + 1) % 50 == 0:
            writer.add_scalar("loss", running / 50, step + 1)
            report.step(step + 1, steps, float(running / 50))
            running = torch.zeros(())
        if (step + 1) % max(steps // VALIDATIONS, 1) == 0 or step + 1 == steps:
            value = score(trained)
            writer.add_scalar("validation", value, step + 1)
            report.validation(step + 1, value, seconds=round(time.monotonic() - started))
            if value > state["best"]:
                state["best"] = value
                fabric.save(best, {"network": trained, "step": step + 1, "score": value})
        if time.monotonic() - saved > CHECKPOINT_SECONDS or step + 1 == steps:
            saved = time.monotonic()
            state["seconds"] = saved - started
            fabric.save(last, state)
    writer.close()
    network.load_state_dict(torch.load(best, map_location="cpu", weights_only=True)["network"])
