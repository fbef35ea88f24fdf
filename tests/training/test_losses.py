from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kdmri_training.learning.losses import (
    attention_loss,
    attention_map,
    cascade_loss,
    distillation_loss,
    flow_loss,
    hint_loss,
    l1,
    log_l1,
    similarity_loss,
)


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


@given(st.floats(0.1, 10), st.integers(0, 99))
def test_a_share_less_error_counts_alike_on_every_image(strength: float, seed: int) -> None:
    """However far off each image of the batch is."""
    _, error, target = images(seed)
    error = error * torch.tensor([1.0, strength])[:, None, None]
    gains = []
    for better in ([0.8, 1.0], [1.0, 0.8]):
        share = torch.tensor(better)[:, None, None]
        gains.append(log_l1(target + error, target) - log_l1(target + share * error, target))
    torch.testing.assert_close(gains[0], gains[1], rtol=0.02, atol=0)
    torch.testing.assert_close(gains[0], -torch.tensor(0.8).log() / 2, rtol=0.02, atol=0)


def test_air_that_is_right_weighs_nothing() -> None:
    air = torch.zeros(2, 8, 6, dtype=torch.complex64, requires_grad=True)
    log_l1(air, torch.zeros(2, 8, 6)).backward()
    assert torch.equal(air.grad, torch.zeros_like(air))


def test_no_gradient_reaches_the_teacher() -> None:
    student, teacher, target = (image.requires_grad_() for image in images(0))
    distillation_loss(student, teacher, target, imitation=0.5, distance=log_l1).backward()
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


Loss = Callable[[Any, Any], torch.Tensor]


def drawn(seed: int, channels: int = 5) -> list[torch.Tensor]:
    """Features of two cascades, batch 3."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(3, channels, 6, 4, generator=generator) for _ in range(2)]


def flow_of(student: list[torch.Tensor], teacher: list[torch.Tensor]) -> torch.Tensor:
    """FSP between the two lists' own halves: first and last features of one cascade."""
    return flow_loss(([student[0]], [student[1]]), ([teacher[0]], [teacher[1]]))


def cascades_of(student: list[torch.Tensor], teacher: list[torch.Tensor]) -> torch.Tensor:
    """The first channel as a real image after each cascade."""
    return cascade_loss([f[:, 0] for f in student], [f[:, 0] for f in teacher])


EVERY: list[Loss] = [attention_loss, hint_loss, similarity_loss, flow_of, cascades_of]


@pytest.mark.parametrize("loss", EVERY)
def test_a_student_like_its_teacher_has_nothing_to_learn(loss: Loss) -> None:
    assert float(loss(drawn(1), drawn(1))) == pytest.approx(0, abs=1e-7)
    assert float(loss(drawn(1), drawn(2))) > 1e-4


@pytest.mark.parametrize("loss", EVERY)
def test_features_teach_the_student_only(loss: Loss) -> None:
    student, teacher = ([f.requires_grad_() for f in drawn(seed)] for seed in (1, 2))
    loss(student, teacher).backward()
    assert all(f.grad is not None and f.grad.abs().sum() > 0 for f in student)
    assert all(f.grad is None for f in teacher)


@given(st.floats(0.01, 100))
def test_hints_do_not_depend_on_units(factor: float) -> None:
    scaled = [[factor * f for f in drawn(seed)] for seed in (1, 2)]
    torch.testing.assert_close(hint_loss(*scaled), hint_loss(drawn(1), drawn(2)), rtol=1e-4, atol=1e-6)


@given(st.floats(0.1, 10), st.permutations(range(5)))
def test_similarity_ignores_the_size_and_the_order_of_channels(factor: float, order: list[int]) -> None:
    alike = [factor * f[:, order] for f in drawn(1)]
    assert similarity_loss(alike, drawn(1)) < 1e-9


def test_similarity_compares_networks_of_different_width() -> None:
    assert similarity_loss(drawn(1, channels=2), drawn(1, channels=9)) > 0


@given(st.permutations(range(4)), st.floats(0.1, 10))
def test_flow_ignores_where_pixels_are_and_units(order: list[int], factor: float) -> None:
    moved = [f[..., order] for f in drawn(1)]
    assert flow_of(moved, drawn(1)) < 1e-9
    scaled = [[factor * f for f in drawn(seed)] for seed in (1, 2)]
    torch.testing.assert_close(flow_of(*scaled), flow_of(drawn(1), drawn(2)), rtol=1e-4, atol=1e-6)


def test_flow_sees_the_channels_of_two_layers_together() -> None:
    """Permuting one layer's channels changes it; the same channels in every layer would not be told from attention."""
    first, last = drawn(1)
    assert flow_of([first, last[:, [1, 0, 2, 3, 4]]], [first, last]) > 1e-5
