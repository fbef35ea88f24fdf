"""A bundle made runnable: ONNX Runtime or OpenVINO for the networks, TorchScript for data consistency."""

from kdmri.runtime.reconstructor import Reconstructor, alike, zero_filled
from kdmri.runtime.stages import Stage, untimed
from kdmri.runtime.superresolver import SuperResolver

__all__ = ["Reconstructor", "Stage", "SuperResolver", "alike", "untimed", "zero_filled"]
