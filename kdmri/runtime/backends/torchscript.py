"""The one place that knows how a bundle's data-consistency module is stored (docs/decisions/0002)."""

from pathlib import Path
from typing import cast

import torch
from torch import nn


def load_module(file: Path, device: torch.device) -> nn.Module:
    """The TorchScript module in a file, on a device, for inference."""
    return cast(nn.Module, torch.jit.load(str(file), map_location=device)).eval()


def save_module(module: nn.Module, file: Path) -> None:
    """Compile a module with TorchScript and store it."""
    torch.jit.save(torch.jit.script(module), str(file))
