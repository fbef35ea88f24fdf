"""The law of an adjoint, <A x, y> = <x, A^H y>: one check for every linear operator and its adjoint."""

from collections.abc import Callable

import torch
from torch import Tensor


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Draw complex white noise in double precision, so that rounding stays far below any error of an operator."""
    return torch.randn(shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


def assert_adjoint(
    forward: Callable[[Tensor], Tensor], adjoint: Callable[[Tensor], Tensor], *, domain: Tensor, range_: Tensor
) -> None:
    """Assert that `adjoint` is the adjoint of `forward`, by one pair of vectors.

    Args:
        forward: A.
        adjoint: A^H.
        domain: x.
        range_: y.
    """
    image, back = forward(domain), adjoint(range_)
    assert image.shape == range_.shape, "the forward operator maps into the range"
    assert back.shape == domain.shape, "the adjoint maps back into the domain"
    left, right = torch.vdot(range_.flatten(), image.flatten()), torch.vdot(back.flatten(), domain.flatten())
    size = torch.linalg.vector_norm(domain) * torch.linalg.vector_norm(range_)
    assert abs(left - right) <= 1e-10 * size, f"<A x, y> = {left:.6g}, <x, A^H y> = {right:.6g}"
