"""What students learn from: the truth, the teacher's answer, the teacher's attention. All are means over pixels."""

from collections.abc import Sequence

from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import normalize

Image = Shaped[Tensor, "batch row column"]
Feature = Float[Tensor, "batch channel row column"]


def l1(image: Image, target: Image) -> Float[Tensor, ""]:
    """Mean modulus of the difference of real or complex images."""
    return (image - target).abs().mean()


def distillation_loss(student: Image, teacher: Image, target: Image, *, imitation: float) -> Float[Tensor, ""]:
    """KD-MRI eq. 3: fidelity and imitation, both per-pixel means; `imitation` in [0, 1] weighs the teacher."""
    return (1 - imitation) * l1(student, target) + imitation * l1(student, teacher.detach())


def attention_map(feature: Feature) -> Float[Tensor, "batch pixel"]:
    """Q = sum over channels of A^2, L2-normalised over each image (Zagoruyko & Komodakis 2017; KD-MRI eq. 2)."""
    return normalize(feature.float().square().sum(dim=1).flatten(1), dim=1)


def attention_loss(student: Sequence[Feature], teacher: Sequence[Feature]) -> Float[Tensor, ""]:
    """Distance between attention maps, averaged over images, summed over cascades."""
    return sum(
        (attention_map(s) - attention_map(t.detach())).norm(dim=1).mean() for s, t in zip(student, teacher, strict=True)
    )
