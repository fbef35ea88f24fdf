from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from kdmri.data.geometry import Geometry
from kdmri.data.kspace import KSpace
from kdmri.errors import UnsupportedInput
from kdmri.formats.kspace import reader as formats
from kdmri.operations.undersampling import keep_lines
from kdmri.phantoms import phantom, scan
from kdmri.physics.fourier import fft2c
from kdmri.quality import metrics
from kdmri.runtime import Reconstructor, zero_filled
from kdmri.runtime.measurement import measurements, remove_oversampling
from kdmri.runtime.model import Model
from kdmri.runtime.reconstructor import batch_key

ROLES = ("student", "teacher")
SHAPES = [(256, 256), (230, 180), (181, 217), (96, 64)]


@pytest.fixture(params=ROLES)
def reconstructor(request: pytest.FixtureRequest, models: dict[tuple[str, str], Model]) -> Reconstructor:
    return Reconstructor(models["reconstruction", request.param])


@pytest.mark.parametrize("shape", SHAPES)
def test_measured_samples_survive(reconstructor: Reconstructor, shape: tuple[int, int]) -> None:
    scanned = scan(phantom(*shape), acceleration=4, noise=0.01)
    image = next(reconstructor.complex_images(scanned))
    lines = np.broadcast_to(scanned.mask, (1, *shape))
    measured = scanned.samples[:, 0][lines]
    assert_allclose(fft2c(image).numpy()[lines], measured, atol=1e-4 * np.abs(measured).max())


@pytest.mark.parametrize("unit", [1e-6, 1e6])
@pytest.mark.parametrize("coils", [1, 6])
def test_units_do_not_matter(reconstructor: Reconstructor, unit: float, coils: int) -> None:
    scanned = scan(phantom(96, 80), acceleration=4, coils=coils)
    rescaled = replace(scanned, samples=(scanned.samples * unit).astype(np.complex64))
    image, other = (reconstructor.reconstruct(k).pixels for k in (scanned, rescaled))
    # With several coils what single precision rounds goes through tens of steps with thresholds: 5e-5 to 1e-4.
    assert_allclose(other / unit, image, atol=(1e-5 if coils == 1 else 3e-4) * image.max())


def test_slices_do_not_see_each_other(reconstructor: Reconstructor) -> None:
    bright = np.concatenate([phantom(80, 72), 100 * phantom(80, 72)[:, ::-1], phantom(80, 72)[:, :, ::-1]])
    scanned = scan(bright, acceleration=3)
    together = reconstructor.reconstruct(scanned).pixels
    alone = [reconstructor.reconstruct(replace(scanned, samples=s[None])).pixels[0] for s in scanned.samples]
    assert_allclose(together, np.stack(alone), atol=1e-4 * together.max())


def test_every_slice_may_have_a_mask_of_its_own(reconstructor: Reconstructor) -> None:
    parts = [scan(phantom(64, 64), acceleration=3, seed=seed, coils=4) for seed in (0, 1)]
    both = KSpace(
        np.concatenate([p.samples for p in parts]), np.concatenate([p.mask for p in parts]), parts[0].image_shape
    )
    together = reconstructor.reconstruct(both).pixels
    for number, part in enumerate(parts):
        alone = reconstructor.reconstruct(part).pixels[0]
        assert_allclose(together[number], alone, atol=2e-2 * alone.max())


def test_scans_that_are_alike_get_from_one_pass_what_each_gets_alone(
    reconstructor: Reconstructor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its own lines, units, place and residual; readout oversampling is removed, and memory is for two."""
    image = phantom(96, 64)
    scans = [
        replace(
            scan(10.0**number * image[:, :: (-1) ** number], acceleration=2 + number, seed=number, noise=0.1 * number),
            image_shape=(64, 60),
            geometry=Geometry.from_sizes(1, (64, 60), (1.0 + number, 1.0), 3.0),
        )
        for number in range(3)
    ]
    assert len({batch_key(one) for one in scans}) == 1
    monkeypatch.setattr("kdmri.runtime.measurement.slices_per_batch", lambda *_, **__: 2)
    for found, one in zip(reconstructor.reconstruct_each(scans), scans, strict=True):
        alone = reconstructor.reconstruct(one)
        assert_allclose(found.pixels, alone.pixels, atol=1e-5 * alone.pixels.max())
        assert found.residual == pytest.approx(alone.residual, rel=1e-3, abs=1e-6)
        assert found.geometry is one.geometry


def test_scans_are_alike_where_one_answer_does_not_depend_on_another() -> None:
    one = scan(phantom(48, 40), acceleration=3)
    points = np.random.default_rng(0).random((1, 48, 40)) < 0.5
    assert batch_key(one) == batch_key(scan(phantom(48, 40), acceleration=2, seed=1))
    others = (scan(phantom(40, 48)), replace(one, image_shape=(24, 40)), replace(one, mask=points))
    assert len({batch_key(other) for other in (one, *others)}) == 4
    assert batch_key(scan(phantom(48, 40), coils=2)) is batch_key(scan(phantom(48, 40).repeat(2, axis=0))) is None


def test_full_k_space_is_answered_with_its_plain_image(reconstructor: Reconstructor) -> None:
    image = phantom(64, 80)
    assert_allclose(reconstructor.reconstruct(scan(image)).pixels, image, atol=1e-4)


def test_full_k_space_of_noisy_coils_is_not_smoothed(reconstructor: Reconstructor) -> None:
    full = scan(phantom(64, 80), coils=6, noise=0.1)
    assert_allclose(reconstructor.reconstruct(full).pixels, zero_filled(full).pixels, atol=1e-4)


def test_the_answer_is_the_centre_crop(reconstructor: Reconstructor) -> None:
    scanned = scan(phantom(64, 80), acceleration=2)
    cropped = reconstructor.reconstruct(replace(scanned, image_shape=(64, 50))).pixels
    assert_allclose(cropped, reconstructor.reconstruct(scanned).pixels[:, :, 15:65], atol=1e-6)


@pytest.mark.parametrize("coils", [1, 4])
def test_readout_oversampling_is_removed_first(reconstructor: Reconstructor, coils: int) -> None:
    scanned = replace(scan(phantom(128, 64), coils=coils, acceleration=3), image_shape=(64, 64))
    image = next(reconstructor.complex_images(scanned))
    assert image.shape == (1, 64, 64)
    assert_allclose(reconstructor.reconstruct(scanned).pixels, image.abs())
    alone = reconstructor.reconstruct(remove_oversampling(scanned)).pixels
    assert_allclose(reconstructor.reconstruct(scanned).pixels, alone, atol=1e-5)


@pytest.mark.parametrize("missing", [0, 10, 31, 32, 33, 63])
def test_a_single_missing_line_is_filled(reconstructor: Reconstructor, missing: int) -> None:
    image = phantom(64, 64)
    scanned = scan(image, coils=4)
    mask = np.ones((1, 64, 64), bool)
    mask[..., missing] = False
    kspace = KSpace(scanned.samples * mask[:, None], mask, (64, 64))
    answer, start = reconstructor.reconstruct(kspace).pixels, zero_filled(kspace).pixels
    error, before = (np.linalg.norm(pixels - image) / np.linalg.norm(image) for pixels in (answer, start))
    assert error < before / 4


def test_calibration_of_its_own_stands_in_for_a_missing_centre(reconstructor: Reconstructor) -> None:
    image = phantom(64, 64)
    full, mask = scan(image, coils=8), np.zeros((1, 64, 64), bool)
    mask[..., ::2] = True
    regular = KSpace(full.samples * mask[:, None], mask, (64, 64))
    centre = np.zeros((1, 64, 64), bool)
    centre[..., 20:44] = True
    calibration = KSpace(7j * full.samples * centre[:, None], centre, (64, 64))
    found = reconstructor.reconstruct(replace(regular, calibration=calibration)).pixels
    assert np.linalg.norm(found - image) / np.linalg.norm(image) < 0.05
    with pytest.raises(UnsupportedInput, match="fully sampled centre of at least 4 x 4 samples"):
        reconstructor.reconstruct(regular)


def test_the_residual_is_what_the_image_leaves_unexplained(reconstructor: Reconstructor) -> None:
    image = phantom(64, 64)
    assert reconstructor.reconstruct(scan(image, acceleration=4)).residual == pytest.approx(0, abs=1e-5)
    clean, noisy = (
        reconstructor.reconstruct(scan(image, coils=4, acceleration=4, noise=noise)).residual for noise in (0, 0.1)
    )
    assert clean is not None
    assert noisy is not None
    assert 0 < clean < 0.1 < noisy < 1


@pytest.mark.parametrize("coils", [1, 3, 8, 20])
def test_the_number_of_virtual_coils_can_be_chosen(coils: int) -> None:
    scanned = scan(phantom(48, 48), coils=8)
    measured = next(measurements(scanned, torch.device("cpu"), coils=coils)).acquisition
    assert measured.samples.shape == measured.sensitivities.shape == (1, min(coils, 8), 48, 48)


def test_every_slice_keeps_the_coils_that_see_it() -> None:
    """Coils along the slices: those of the middle are none at the ends."""
    slices = [scan(phantom(48, 48), coils=2).samples * (10.0**-number) for number in range(3)]
    samples = np.zeros((3, 6, 48, 48), np.complex64)
    for number, scanned in enumerate(slices):
        samples[number, 2 * number : 2 * number + 2] = scanned
    images = zero_filled(KSpace(samples, np.ones((1, 48, 48), bool), (48, 48))).pixels
    for number, image in enumerate(images):
        assert_allclose(image * 10**number, phantom(48, 48)[0], atol=0.02)


def test_coils_without_a_centre_are_refused(reconstructor: Reconstructor) -> None:
    scanned = scan(phantom(64, 64), coils=4)
    mask = np.zeros((1, 64, 64), bool)
    mask[..., 1::4] = True
    with pytest.raises(UnsupportedInput, match="fully sampled centre of at least 4 x 4 samples"):
        reconstructor.reconstruct(KSpace(scanned.samples * mask[:, None], mask, (64, 64)))


def test_an_empty_scan_is_an_empty_image(reconstructor: Reconstructor) -> None:
    scanned = scan(phantom(64, 64), acceleration=4)
    answer = reconstructor.reconstruct(replace(scanned, samples=np.zeros_like(scanned.samples))).pixels
    assert np.abs(answer).max() < 0.1
    assert np.isfinite(answer).all()


@pytest.mark.parametrize(("name", "decibels"), [("brain_sagittal_1ch.h5", 2), ("brain_16ch.h5", 8)])
def test_raw_data_gains_over_zero_filling(reconstructor: Reconstructor, name: str, decibels: float, data: Path) -> None:
    """Never trained on: genuine phase, noise and coils. The default mask, and the mean over five."""
    full = formats.read(data / "kspace" / name)
    truth = zero_filled(full).pixels
    gains = []
    for seed in range(5):
        kept = keep_lines(full, 4, seed=seed)
        before, after = (metrics.psnr(truth, x.pixels) for x in (zero_filled(kept), reconstructor.reconstruct(kept)))
        gains.append(after - before)
    assert gains[0] >= 2
    assert np.mean(gains) >= decibels


def test_both_layouts_of_a_scan_give_one_image(reconstructor: Reconstructor, data: Path) -> None:
    images = [
        reconstructor.reconstruct(keep_lines(formats.read(data / "kspace" / name), 4)).pixels
        for name in ("brain_16ch.h5", "brain_16ch.mrd.h5")
    ]
    assert np.linalg.norm(images[0] - images[1]) <= 1e-4 * np.linalg.norm(images[0])


@pytest.mark.parametrize(
    "name", ["brain_16ch_r4.mrd.h5", "brain_8ch_vd2d.h5", "phantom_32ch.h5", "phantom_grappa_16ch.mrd.h5"]
)
def test_every_raw_file_is_answered(reconstructor: Reconstructor, name: str, data: Path) -> None:
    scanned = formats.read(data / "kspace" / name)
    pixels = reconstructor.reconstruct(scanned).pixels
    assert pixels.shape[1:] == scanned.image_shape
    assert np.isfinite(pixels).all()
    assert pixels.max() > 0


def test_stages_are_announced(models: dict[tuple[str, str], Model]) -> None:
    seen, student = [], models["reconstruction", "student"]
    Reconstructor(student).reconstruct(scan(phantom(32, 32)), stage=lambda name: seen.append(name) or nullcontext())
    assert set(seen) == {"parse", "sensitivities", "denoise", "data_consistency"}
    assert seen.count("denoise") == len(student.denoisers)


def test_no_gradient_is_kept(reconstructor: Reconstructor) -> None:
    image = next(reconstructor.complex_images(scan(phantom(32, 32))))
    assert isinstance(image, torch.Tensor)
    assert not image.requires_grad
