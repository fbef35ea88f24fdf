"""Losses of training and distillation: against the truth, the teacher's answer, and the teacher's features.

Losses on features take one feature map for each cascade, the student's before the teacher's; no gradient reaches the
teacher.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import mse_loss, normalize

Image = Shaped[Tensor, "batch row column"]
Feature = Float[Tensor, "batch channel row column"]

NEGLIGIBLE = 1e-3
"""Error, as a share of the bright tissue, that is not worth making smaller: without it, that of air would be."""


def l1(image: Image, target: Image) -> Float[Tensor, ""]:
    """Mean modulus of the difference of real or complex images."""
    return (image - target).abs().mean()


def log_l1(image: Image, target: Image) -> Float[Tensor, ""]:
    """Logarithm of each image's mean modulus of the difference; a mean over images.

    A tenth less error counts the same on every image, as it does in dB. With `l1`, images of high acceleration and
    strong noise outweigh the others, because their errors are large.
    """
    return ((image - target).abs().flatten(1).mean(dim=1) + NEGLIGIBLE).log().mean()


DISTANCES: dict[str, Callable[[Image, Image], Tensor]] = {"l1": l1, "log_l1": log_l1}
"""Distances by the name that recipes use."""


def distillation_loss(
    student: Image, teacher: Image, target: Image, *, imitation: float, distance: Callable[[Image, Image], Tensor] = l1
) -> Float[Tensor, ""]:
    """KD-MRI eq. 3: fidelity and imitation, both per-pixel means.

    Args:
        student: the student's images.
        teacher: the teacher's images of the same batch.
        target: the truth.
        imitation: the teacher's weight, in [0, 1]; the truth has the rest.
        distance: distance between images.
    """
    return (1 - imitation) * distance(student, target) + imitation * distance(student, teacher.detach())


def attention_map(feature: Feature) -> Float[Tensor, "batch pixel"]:
    """Q = sum over channels of A^2, L2-normalised over each image (Zagoruyko & Komodakis 2017; KD-MRI eq. 2)."""
    # In float32: squares of bfloat16 features have two or three digits, too few for the difference of two maps.
    return normalize(feature.float().square().sum(dim=1).flatten(1), dim=1)


def attention_loss(student: Sequence[Feature], teacher: Sequence[Feature]) -> Float[Tensor, ""]:
    """Distance between attention maps, averaged over images, summed over cascades."""
    return total(
        (attention_map(s) - attention_map(t.detach())).norm(dim=1).mean() for s, t in zip(student, teacher, strict=True)
    )


def hint_loss(student: Sequence[Feature], teacher: Sequence[Feature]) -> Float[Tensor, ""]:
    """FitNets (Romero et al. 2015): squared distance between features, in units of the teacher's mean square.

    Student and teacher are equally wide here, so that no regressor has to stand between them. Summed over cascades.
    """
    return total(
        mse_loss(s.float(), t.detach().float()) / t.detach().float().square().mean().clamp(min=1e-12)
        for s, t in zip(student, teacher, strict=True)
    )


def similarity(feature: Feature) -> Float[Tensor, "batch batch"]:
    """Inner products of the features of each pair of images in a batch, each row normalised."""
    # In float32, because these are sums over all features of an image.
    rows = feature.float().flatten(1)
    return normalize(rows @ rows.T, dim=1)


def similarity_loss(student: Sequence[Feature], teacher: Sequence[Feature]) -> Float[Tensor, ""]:
    """Similarity-preserving distillation (Tung & Mori 2019), summed over cascades.

    It compares the images of a batch with each other: over several processes each sees those of its own share.
    """
    return total(mse_loss(similarity(s), similarity(t.detach())) for s, t in zip(student, teacher, strict=True))


def flow(first: Feature, last: Feature) -> Float[Tensor, "batch first last"]:
    """FSP matrix: inner products of the channels of two layers, a mean over pixels (Yim et al. 2017)."""
    pixels = first.shape[-2] * first.shape[-1]
    return torch.einsum("bixy,bjxy->bij", first.float(), last.float()) / pixels


def flow_loss(
    student: tuple[Sequence[Feature], Sequence[Feature]], teacher: tuple[Sequence[Feature], Sequence[Feature]]
) -> Float[Tensor, ""]:
    """Squared distance between FSP matrices, in units of the teacher's mean square; summed over cascades.

    Args:
        student: features of an early layer and of a late one.
        teacher: the same of the teacher.
    """
    taught = [flow(first, last).detach() for first, last in zip(*teacher, strict=True)]
    learned = [flow(first, last) for first, last in zip(*student, strict=True)]
    return total(mse_loss(s, t) / t.square().mean().clamp(min=1e-12) for s, t in zip(learned, taught, strict=True))


def cascade_loss(student: Sequence[Image], teacher: Sequence[Image]) -> Float[Tensor, ""]:
    """Distance from the teacher's image after every cascade, not after the last alone; a mean over cascades."""
    return total(l1(s, t.detach()) for s, t in zip(student, teacher, strict=True)) / len(teacher)


def total(terms: Iterable[Tensor]) -> Float[Tensor, ""]:
    """Add up losses; zero for none."""
    # The sum starts from a tensor on the processor: torch adds a scalar of another device to any tensor, and adding
    # zero changes no bit of the first term.
    return sum(terms, start=torch.zeros(()))
