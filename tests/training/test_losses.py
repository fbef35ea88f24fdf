import torch
from hypothesis import given
from hypothesis import strategies as st

from training.losses import attention_loss, attention_map, distillation_loss, l1


def images(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 8, 6, dtype=torch.complex64, generator=generator) for _ in range(3)]


@given(st.floats(0, 1), st.integers(0, 99))
def test_imitation_weighs_as_much_as_fidelity(imitation: float, seed: int) -> None:
    """Trap: the published code divides the imitation term by the number of pixels a second time."""
    student, teacher, target = images(seed)
    expected = (1 - imitation) * l1(student, target) + imitation * l1(student, teacher)
    torch.testing.assert_close(distillation_loss(student, teacher, target, imitation=imitation), expected)
    torch.testing.assert_close(
        distillation_loss(student, target, target, imitation=imitation), l1(student, target), rtol=1e-5, atol=1e-6
    )


def test_no_gradient_reaches_the_teacher() -> None:
    student, teacher, target = (image.requires_grad_() for image in images(0))
    distillation_loss(student, teacher, target, imitation=0.5).backward()
    assert student.grad is not None
    assert teacher.grad is None


def test_attention_is_normalised_over_each_image() -> None:
    """Trap: the published code normalises across the batch."""
    feature = torch.rand(3, 5, 4, 4)
    together = attention_map(feature)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(together[1:2], attention_map(feature[1:2]))


@given(st.floats(0.1, 10))
def test_attention_does_not_depend_on_the_size_of_features(factor: float) -> None:
    feature = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    assert attention_loss([feature * factor], [feature]) < 1e-5


def test_attention_compares_networks_of_different_width() -> None:
    assert attention_loss([torch.rand(2, 3, 5, 5)], [torch.rand(2, 8, 5, 5)]) > 0
