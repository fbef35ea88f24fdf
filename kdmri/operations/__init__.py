"""The data plane: one module for each task. `OPERATIONS` lists the tasks that kdmri ships."""

from kdmri.operations.operation import Operation
from kdmri.operations.reconstruction import Reconstruct
from kdmri.operations.super_resolution import SuperResolve

OPERATIONS: tuple[type[Operation], ...] = (Reconstruct, SuperResolve)

__all__ = ["OPERATIONS", "Operation", "Reconstruct", "SuperResolve"]
