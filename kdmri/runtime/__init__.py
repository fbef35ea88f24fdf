"""Bundles made runnable: a back end for the networks, TorchScript for data consistency."""

from kdmri.runtime.reconstructor import Reconstructor, batch_key, zero_filled
from kdmri.runtime.stages import Stage, measure_nothing
from kdmri.runtime.superresolver import SuperResolver, interpolate

__all__ = ["Reconstructor", "Stage", "SuperResolver", "batch_key", "interpolate", "measure_nothing", "zero_filled"]
