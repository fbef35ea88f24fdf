import numpy as np
import pytest
import torch

from kdmri.bundles.store import Bundle
from kdmri.data.images import Images
from kdmri.phantoms import phantom, scan
from kdmri.runtime import Reconstructor, SuperResolver, bands, memory
from kdmri.runtime.bands import denoise_in_bands
from kdmri.runtime.model import Model, load_model

Models = dict[tuple[str, str], Model]


@pytest.mark.parametrize("shape", [(1, 97, 80), (2, 61, 131)])
@pytest.mark.parametrize("rows", [17, 40])
def test_bands_give_the_whole_image_bit_by_bit(bundles: list[Bundle], shape: tuple[int, int, int], rows: int) -> None:
    for bundle in bundles:
        (first, *_) = load_model(bundle).denoisers
        planes = torch.rand(*shape, 2 if bundle.manifest.task == "reconstruction" else 1)
        assert torch.equal(denoise_in_bands(first, planes, bundle.manifest, rows=rows), first(planes))


def test_a_band_without_its_overlap_would_differ(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """The overlap is as large as it has to be: one row less of the image's neighbourhood changes the result."""
    model = models["super-resolution", "teacher"]
    halo, fold = bands.reach(model.manifest)
    planes = torch.rand(1, 64, 48, 1, generator=torch.Generator().manual_seed(0))
    whole = model.denoisers[0](planes)
    monkeypatch.setattr(bands, "reach", lambda _: (halo - 1, fold))
    assert not torch.equal(denoise_in_bands(model.denoisers[0], planes, model.manifest, rows=32), whole)


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_little_memory_changes_no_image(models: Models, role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resolver, reconstructor = (
        SuperResolver(models["super-resolution", role]),
        Reconstructor(models["reconstruction", role]),
    )
    coarse, measured = Images(phantom(70, 48)), scan(phantom(150, 64), acceleration=3, coils=3)
    whole = resolver.super_resolve(coarse, 2).pixels, reconstructor.reconstruct(measured).pixels
    monkeypatch.setattr(memory, "AT_MOST", 1)
    bands_only = resolver.super_resolve(coarse, 2).pixels, reconstructor.reconstruct(measured).pixels
    for expected, found in zip(whole, bands_only, strict=True):
        np.testing.assert_array_equal(found, expected)
