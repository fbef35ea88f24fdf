from pathlib import Path

import pytest
import torch
from kdmri_training.learning import recipe as recipes
from kdmri_training.learning.recipe import RECIPES
from kdmri_training.networks.cascades import DCCNN, VDSR, parameters
from kdmri_training.networks.denoiser import Denoiser
from kdmri_training.networks.features import cascade_images, features, first_and_later_features
from kdmri_training.networks.growth import add_cascades, drop_convolutions, grow
from kdmri_training.publishing.weights import load_weights
from torch.nn.functional import conv2d, pixel_shuffle, pixel_unshuffle

from kdmri.bundles.location import models_folder
from kdmri.bundles.store import choose, load_all
from kdmri.runtime.model import load_model


@pytest.mark.parametrize(("role", "count"), [("teacher", 144_650), ("student", 52_170)])
def test_dc_cnn_has_the_size_of_the_paper(role: str, count: int) -> None:
    assert parameters(recipes.load(Path("reconstruction")).network(role)) == count


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.toml")), ids=lambda file: file.stem)
def test_a_student_is_smaller_than_its_teacher(file: Path) -> None:
    recipe = recipes.load(file)
    assert parameters(recipe.network("student")) < 0.6 * parameters(recipe.network("teacher"))


def test_strides_are_convolutions_of_the_folded_image() -> None:
    denoiser = Denoiser(planes=2, convolutions=4, channels=8, fold=2)
    first, *rest = denoiser.convolutions
    torch.nn.init.normal_(rest[-1].weight)
    weight = pixel_unshuffle(first.weight, 2).reshape(8, 2, 2, 2, 3, 3).flatten(1, 3)
    image = torch.randn(3, 2, 10, 12)
    hidden = torch.relu(conv2d(pixel_unshuffle(image, 2), weight, first.bias, padding=1))
    for convolution in rest[:-1]:
        hidden = torch.relu(convolution(hidden))
    torch.testing.assert_close(denoiser(image), image + pixel_shuffle(rest[-1](hidden), 2))


@pytest.mark.parametrize("shape", [(9, 12), (10, 11), (7, 7)])
def test_odd_sizes_are_images_with_zeros_beyond(shape: tuple[int, int]) -> None:
    denoiser = Denoiser(planes=2, convolutions=3, channels=8, fold=2)
    torch.nn.init.normal_(denoiser.convolutions[-1].weight)
    rows, columns = shape
    image = torch.randn(1, 2, rows, columns)
    filled = torch.nn.functional.pad(image, (0, columns % 2, 0, rows % 2))
    torch.testing.assert_close(denoiser(image), denoiser(filled)[..., :rows, :columns])


def test_shared_cascades_differ_in_their_outer_convolutions_alone() -> None:
    network = DCCNN(cascades=3, convolutions=4, channels=8, shared=True)
    (a, b, c, d), (e, f, g, h), _ = (cascade.convolutions for cascade in network.cascades)
    assert b is f
    assert c is g
    assert a is not e
    assert d is not h
    outer, inner = 2 * 8 * 9 + 8 + 8 * 2 * 9 + 2, 2 * (8 * 8 * 9 + 8)
    assert parameters(network) == 3 * outer + inner


@pytest.mark.parametrize(("fold", "shared"), [(1, False), (2, True)])
def test_more_cascades_answer_the_same_until_they_learn(fold: int, shared: bool) -> None:
    torch.manual_seed(0)
    size = {"convolutions": 4, "channels": 8, "fold": fold, "shared": shared}
    network, deeper = DCCNN(cascades=2, **size), DCCNN(cascades=5, **size)
    for denoiser in network.cascades:
        torch.nn.init.normal_(denoiser.convolutions[-1].weight, std=0.1)
    deeper.load_state_dict(add_cascades(network.state_dict(), 5))
    mask = (torch.rand(1, 1, 1, 12) < 0.5).float().expand(1, 1, 10, 12)
    image = torch.fft.ifft2(torch.fft.ifftshift(mask[0]) * torch.randn(1, 10, 12, dtype=torch.complex64))
    sensitivities = torch.ones_like(image[:, None])
    torch.testing.assert_close(deeper(image, mask, sensitivities), network(image, mask, sensitivities))
    deeper(image, mask, sensitivities).abs().sum().backward()
    assert all(denoiser.convolutions[-1].weight.grad.abs().sum() > 0 for denoiser in deeper.cascades), "they can learn"


@pytest.mark.parametrize("shape", [(16, 20), (11, 13)])
def test_the_served_student_grown_computes_the_same_until_it_learns(shape: tuple[int, int]) -> None:
    bundle = choose(load_all(models_folder()), "reconstruction")
    size = {**bundle.manifest.architecture, "shared": 0, "channels": 40, "scales": 2}
    size["cascades"] += 1
    network = DCCNN(**size)
    network.load_state_dict(grow(load_weights(models_folder(), bundle.manifest.reference), network))
    images = torch.randn(1, *shape, 2)
    planes = images.permute(0, 3, 1, 2)
    for served, grown in zip(load_model(bundle).denoisers, network.denoisers(), strict=False):
        torch.testing.assert_close(grown(planes).permute(0, 2, 3, 1), served(images), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network.denoisers()[-1](planes), planes)
    network.denoisers()[0](planes).square().sum().backward()
    coarser = network.denoisers()[0].coarser
    assert coarser is not None
    assert coarser.up.weight.grad is not None
    assert float(coarser.up.weight.grad.abs().sum()) > 0, "the coarser grid can learn"


def test_a_shorter_denoiser_keeps_the_first_and_the_last_convolution() -> None:
    network, shorter = (VDSR(convolutions=convolutions, channels=4, fold=2) for convolutions in (6, 4))
    shorter.load_state_dict(drop_convolutions(network.state_dict(), 4))
    kept = [network.cascades[0].convolutions[number] for number in (0, 1, 2, 5)]
    for own, former in zip(shorter.cascades[0].convolutions, kept, strict=True):
        torch.testing.assert_close(own.state_dict(), former.state_dict())


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
    with first_and_later_features(network, 2) as (first, last), cascade_images(network) as images:
        answer = network(image, mask, torch.ones_like(image[:, None]))
    assert len(first) == len(last) == len(images) == 3
    torch.testing.assert_close(images[-1], answer)
    with features(network, 1) as expected:
        network(image, mask, torch.ones_like(image[:, None]))
    torch.testing.assert_close(first[2], expected[2])
    assert len(images) == 3, "the hooks are gone afterwards"
