"""What a back end has to offer: one cascade's network, made runnable."""

from typing import Protocol

from jaxtyping import Float
from torch import Tensor

Planes = Float[Tensor, "batch row column plane"]


class Denoiser(Protocol):
    """x + CNN(x) over images with the planes last: a complex image viewed as real, or a real one with one plane."""

    @property
    def backend(self) -> str:
        """What runs the graph, and in which precision if it is not single."""
        ...

    def __call__(self, planes: Planes) -> Planes:
        """The denoised planes. No copy is made on the way in or out."""
        ...
