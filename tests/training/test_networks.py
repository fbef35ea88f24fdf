from pathlib import Path

import pytest
import torch

from training import recipe as recipes
from training.networks import DCCNN, cascade_images, features, flows, parameters
from training.recipe import RECIPES


@pytest.mark.parametrize(("role", "count"), [("teacher", 144_650), ("student", 52_170)])
def test_dc_cnn_has_the_size_of_the_paper(role: str, count: int) -> None:
    assert parameters(recipes.load(Path("reconstruction")).network(role)) == count


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.toml")), ids=lambda file: file.stem)
def test_a_student_is_smaller_than_its_teacher(file: Path) -> None:
    recipe = recipes.load(file)
    assert parameters(recipe.network("student")) < 0.6 * parameters(recipe.network("teacher"))


def test_features_are_those_of_the_layer_after_its_relu() -> None:
    network = DCCNN(cascades=2, convolutions=3, channels=4)
    image = torch.randn(1, 8, 8, dtype=torch.complex64)
    with features(network, 2) as seen:
        network(image, torch.zeros(1, 1, 8, 8), torch.ones_like(image[:, None]))
    assert [feature.shape for feature in seen] == [(1, 4, 8, 8)] * 2
    first, second, _ = network.cascades[0].convolutions
    planes = torch.view_as_real(image).permute(0, 3, 1, 2)
    torch.testing.assert_close(seen[0], torch.relu(second(torch.relu(first(planes)))))
    network(image, torch.zeros(1, 1, 8, 8), torch.ones_like(image[:, None]))
    assert len(seen) == 2, "the hooks are gone afterwards"


def test_flows_and_images_are_seen_cascade_by_cascade() -> None:
    network = DCCNN(cascades=3, convolutions=3, channels=4)
    image = torch.randn(1, 8, 8, dtype=torch.complex64)
    mask = torch.zeros(1, 1, 8, 8)
    with flows(network, 2) as (first, last), cascade_images(network) as images:
        answer = network(image, mask, torch.ones_like(image[:, None]))
    assert len(first) == len(last) == len(images) == 3
    torch.testing.assert_close(images[-1], answer)
    with features(network, 1) as expected:
        network(image, mask, torch.ones_like(image[:, None]))
    torch.testing.assert_close(first[2], expected[2])
    assert len(images) == 3, "the hooks are gone afterwards"
