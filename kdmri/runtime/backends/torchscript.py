"""The one place that knows how a bundle's data-consistency module is stored (docs/decisions/0002)."""

from pathlib import Path
from typing import cast

import torch
from torch import nn


def load_module(file: Path, device: torch.device) -> nn.Module:
    """Load the TorchScript module in a file to a device, for inference."""
    # torch.jit.load has no type annotation; what it returns is a ScriptModule, a subclass of Module.
    return cast(nn.Module, torch.jit.load(str(file), map_location=device)).eval()


def save_module(module: nn.Module, file: Path) -> None:
    """Compile a module with TorchScript and store it."""
    torch.jit.save(torch.jit.script(module), str(file))
