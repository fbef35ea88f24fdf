"""The interface of a back end: one cascade's network, ready to run."""

from typing import Protocol

from jaxtyping import Float
from torch import Tensor

Planes = Float[Tensor, "batch row column plane"]


class Denoiser(Protocol):
    """x + CNN(x) over images with the planes last: a complex image viewed as real, or a real one with one plane."""

    @property
    def backend(self) -> str:
        """Name of the library that runs the graph, with its precision if that is not single."""
        ...

    @property
    def planes(self) -> int:
        """Planes of an image, the last axis of the graph's input: 2 for complex images, 1 for real ones."""
        ...

    def __call__(self, planes: Planes) -> Planes:
        """Return the denoised planes.

        Args:
            planes: images on the device of this denoiser; they are not changed.

        Returns:
            A new tensor of the same shape.
        """
        ...
