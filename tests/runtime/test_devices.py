"""What runs on a graphics card, held to account on torch's device without data: nothing can be read from it, and what
lies elsewhere does not mix with it. So a step that asks the device for a value, or leaves a tensor behind, fails."""

import numpy as np
import pytest
import torch
from torch import Tensor

from kdmri.bundles.manifest import CONSISTENCY
from kdmri.bundles.store import Bundle
from kdmri.phantoms import phantom, ring_of_coils, scan
from kdmri.physics.acquisition import Acquisition
from kdmri.physics.sparse_fit import sparse_fit
from kdmri.runtime import Reconstructor, SuperResolver
from kdmri.runtime.backends.torchscript import load_module
from kdmri.runtime.model import Model
from kdmri.runtime.stages import measure_nothing

NOWHERE = torch.device("meta")


class Copy:
    """A denoiser that adds nothing: networks are the back ends' affair."""

    backend = "copy"

    def __call__(self, planes: Tensor) -> Tensor:
        assert planes.device == NOWHERE
        return planes.clone()


def model(bundles: list[Bundle], task: str) -> Model:
    bundle = next(b for b in bundles if b.manifest.task == task)
    consistency = load_module(bundle.folder / CONSISTENCY, torch.device("cpu"))
    return Model(bundle.manifest, (Copy(),) * 5, consistency, torch.ones((), device=NOWHERE), NOWHERE)


@pytest.mark.parametrize("acceleration", [1, 4])
def test_one_coil_stays_on_the_device_from_upload_to_magnitude(bundles: list[Bundle], acceleration: float) -> None:
    scanned = scan(np.concatenate([phantom(48, 40)] * 3), acceleration=acceleration)
    images = list(Reconstructor(model(bundles, "reconstruction")).complex_images(scanned))
    assert [(image.device, image.shape) for image in images] == [(NOWHERE, (3, 48, 40))]
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        images[0].abs().cpu()


def test_several_coils_stay_on_the_device_once_they_are_calibrated(bundles: list[Bundle]) -> None:
    scanned = scan(phantom(48, 40), acceleration=4, coils=4)
    mask = torch.tensor(scanned.mask).float()[:, None]
    measured = Acquisition(torch.from_numpy(scanned.samples), mask, ring_of_coils(4, 48, 40)[None]).to(NOWHERE)
    image = Reconstructor(model(bundles, "reconstruction")).run_cascades(measured)
    refined = sparse_fit(measured, noise=torch.ones(1, device=NOWHERE), guide=image)
    assert {image.device, refined.device, measured.misfit(refined).device} == {NOWHERE}


def test_super_resolution_stays_on_the_device(bundles: list[Bundle]) -> None:
    coarse = torch.ones(2, 24, 20, device=NOWHERE)
    finer = SuperResolver(model(bundles, "super-resolution"))._finer(coarse, 2, measure_nothing)
    assert (finer.device, finer.shape) == (NOWHERE, (2, 48, 40))
