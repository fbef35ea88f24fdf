"""What students learn from: the truth, the teacher's answer, the teacher's features.

Each method's features come one a cascade, student's before teacher's; no gradient reaches the teacher.
"""

from collections.abc import Callable, Sequence

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

    A tenth less error counts alike on every image, as it does in dB. By `l1` images of high acceleration and strong
    noise, whose errors are large, outweigh the others.
    """
    return ((image - target).abs().flatten(1).mean(dim=1) + NEGLIGIBLE).log().mean()


DISTANCES: dict[str, Callable[[Image, Image], Tensor]] = {"l1": l1, "log_l1": log_l1}
"""What recipes call them."""


def distillation_loss(
    student: Image, teacher: Image, target: Image, *, imitation: float, distance: Callable[[Image, Image], Tensor] = l1
) -> Float[Tensor, ""]:
    """KD-MRI eq. 3: fidelity and imitation, both per-pixel means; `imitation` in [0, 1] weighs the teacher."""
    return (1 - imitation) * distance(student, target) + imitation * distance(student, teacher.detach())


def attention_map(feature: Feature) -> Float[Tensor, "batch pixel"]:
    """Q = sum over channels of A^2, L2-normalised over each image (Zagoruyko & Komodakis 2017; KD-MRI eq. 2)."""
    return normalize(feature.float().square().sum(dim=1).flatten(1), dim=1)


def attention_loss(student: Sequence[Feature], teacher: Sequence[Feature]) -> Float[Tensor, ""]:
    """Distance between attention maps, averaged over images, summed over cascades."""
    return sum(
        (attention_map(s) - attention_map(t.detach())).norm(dim=1).mean() for s, t in zip(student, teacher, strict=True)
    )


def hint_loss(student: Sequence[Feature], teacher: Sequence[Feature]) -> Float[Tensor, ""]:
    """FitNets (Romero et al. 2015): squared distance between features, in units of the teacher's mean square.

    Student and teacher are equally wide here, so that no regressor has to stand between them. Summed over cascades.
    """
    return sum(
        mse_loss(s.float(), t.detach().float()) / t.detach().float().square().mean().clamp(min=1e-12)
        for s, t in zip(student, teacher, strict=True)
    )


def similarity(feature: Feature) -> Float[Tensor, "batch batch"]:
    """How alike the images of a batch look to a layer: inner products of features, each row normalised."""
    rows = feature.float().flatten(1)
    return normalize(rows @ rows.T, dim=1)


def similarity_loss(student: Sequence[Feature], teacher: Sequence[Feature]) -> Float[Tensor, ""]:
    """Similarity-preserving distillation (Tung & Mori 2019), summed over cascades.

    It compares the images of a batch with each other: over several processes each sees those of its own share.
    """
    return sum(mse_loss(similarity(s), similarity(t.detach())) for s, t in zip(student, teacher, strict=True))


def flow(first: Feature, last: Feature) -> Float[Tensor, "batch first last"]:
    """FSP matrix: inner products of the channels of two layers, a mean over pixels (Yim et al. 2017)."""
    pixels = first.shape[-2] * first.shape[-1]
    return torch.einsum("bixy,bjxy->bij", first.float(), last.float()) / pixels


def flow_loss(
    student: tuple[Sequence[Feature], Sequence[Feature]], teacher: tuple[Sequence[Feature], Sequence[Feature]]
) -> Float[Tensor, ""]:
    """Squared distance between FSP matrices, in units of the teacher's mean square; summed over cascades.

    Args: (features of an early layer, features of a late one) of student and teacher.
    """
    taught = [flow(first, last).detach() for first, last in zip(*teacher, strict=True)]
    learned = [flow(first, last) for first, last in zip(*student, strict=True)]
    return sum(mse_loss(s, t) / t.square().mean().clamp(min=1e-12) for s, t in zip(learned, taught, strict=True))


def cascade_loss(student: Sequence[Image], teacher: Sequence[Image]) -> Float[Tensor, ""]:
    """Distance from the teacher's image after every cascade, not after the last alone; a mean over cascades."""
    return sum(l1(s, t.detach()) for s, t in zip(student, teacher, strict=True)) / len(teacher)
