"""The one place that knows how a bundle's data-consistency module is stored (docs/decisions/0002)."""

import threading
import warnings
from pathlib import Path
from typing import cast

import torch
from torch import nn

_LOADING = threading.Lock()


def load_module(file: Path, device: torch.device) -> nn.Module:
    """Load the TorchScript module in a file to a device, for inference."""
    # The programme that loads a model cannot act on TorchScript's deprecation, which decision 2 answers for: this one
    # message is left out. Python restores the filters of the process as a whole, so that loads in two threads that
    # overlap could restore each other's filters and leave the importer's changed: one loads at a time.
    with _LOADING, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.load` is", category=DeprecationWarning)
        # torch.jit.load has no type annotation; what it returns is a ScriptModule, a subclass of Module.
        return cast(nn.Module, torch.jit.load(str(file), map_location=device)).eval()


def save_module(module: nn.Module, file: Path) -> None:
    """Compile a module with TorchScript and store it."""
    torch.jit.save(torch.jit.script(module), str(file))
