"""The interface that batches of both tasks share with the training loop."""

from typing import Protocol, Self

import torch
from torch import Tensor


class Batch(Protocol):
    """Examples of one optimiser step: the network's inputs and the truth."""

    @property
    def target(self) -> Tensor:
        """The truth; its first axis counts the examples."""

    def inputs(self) -> tuple[Tensor, ...]:
        """Return the network's arguments."""

    def to(self, device: torch.device) -> Self:
        """Copy the batch to a device."""

    def share_of(self, rank: int, processes: int) -> Self:
        """Return the examples that process `rank` of `processes` trains on."""
