"""ISMRMRD files, real and made: which lines count, where they go, what they say of space, and what is refused."""

import io
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy import ndarray
from numpy.testing import assert_allclose, assert_array_equal

from kdmri.data.images import Images
from kdmri.data.kspace import KSpace
from kdmri.errors import InvalidRequest, KdmriError, UnreadableKSpace, UnsupportedInput
from kdmri.formats import nifti
from kdmri.formats.dicom import objects, original
from kdmri.formats.dicom import reader as dicom
from kdmri.formats.kspace import reader as kspace
from kdmri.operations import Reconstruct
from kdmri.operations.operation import SourceFile
from kdmri.phantoms import phantom, scan
from kdmri.physics.noise import prewhiten
from kdmri.runtime import Reconstructor
from kdmri.runtime.model import Model
from tests.formats.kspace.mrd_files import MrdFile, flag
from tests.scans import rss

GENERATOR = shutil.which("ismrmrd_generate_cartesian_shepp_logan")
needs_generator = pytest.mark.skipif(GENERATOR is None, reason="Debian's ismrmrd-tools is not installed")
ROWS, COLUMNS = 24, 20
# Each example writes a file.
few = settings(max_examples=15)


def difference(image: ndarray, reference: ndarray) -> float:
    return float(np.linalg.norm(image - reference) / np.linalg.norm(reference))


@pytest.fixture
def full() -> KSpace:
    """Two slices, three coils, fully sampled."""
    return scan(np.concatenate([phantom(ROWS, COLUMNS), phantom(ROWS, COLUMNS)[:, ::-1]]), coils=3)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[MrdFile], Path]:
    return lambda file: file.save(tmp_path / "scan.h5")


# What lies where


@pytest.mark.parametrize("acceleration", [1, 3])
def test_lines_go_where_they_were_measured(full: KSpace, saved: Callable[[MrdFile], Path], acceleration: float) -> None:
    expected = scan(phantom(ROWS, COLUMNS), coils=3, acceleration=acceleration) if acceleration > 1 else full
    found = kspace.read(saved(MrdFile.of(expected)))
    assert_array_equal(found.samples, expected.samples)
    assert_array_equal(found.mask, expected.mask)
    assert found.image_shape == (ROWS, COLUMNS)


@few
@given(order=st.permutations(range(COLUMNS)))
def test_the_order_of_acquisition_does_not_matter(tmp_path_factory: pytest.TempPathFactory, order: list[int]) -> None:
    expected = scan(phantom(ROWS, COLUMNS), coils=2)
    file = MrdFile.of(expected)
    file.heads, file.readouts = file.heads[order], [file.readouts[line] for line in order]
    assert_array_equal(kspace.read(file.save(tmp_path_factory.mktemp("mrd") / "scan.h5")).samples, expected.samples)


@pytest.mark.parametrize("group", ["dataset", "meas_MID00042", "/", "Ångström 1"])
def test_any_group_name(full: KSpace, tmp_path: Path, group: str) -> None:
    assert_array_equal(kspace.read(MrdFile.of(full).save(tmp_path / "scan.h5", group)).samples, full.samples)


def test_the_group_with_most_lines_is_the_scan(full: KSpace, tmp_path: Path) -> None:
    adjustment = MrdFile.of(scan(phantom(ROWS, COLUMNS), coils=3))
    adjustment.save(tmp_path / "scan.h5", "dataset_1")
    assert_array_equal(kspace.read(MrdFile.of(full).save(tmp_path / "scan.h5", "dataset_2")).samples, full.samples)


@pytest.mark.parametrize("options", [{"compression": "gzip"}, {"chunks": (7,)}, {"chunks": None}])
def test_any_storage_of_the_table(full: KSpace, saved: Callable[[MrdFile], Path], options: dict) -> None:
    file = MrdFile.of(full)
    file.options = options
    assert_array_equal(kspace.read(saved(file)).samples, full.samples)


@pytest.mark.parametrize("interleaved", [True, False])
def test_averages_are_averaged(full: KSpace, saved: Callable[[MrdFile], Path], interleaved: bool) -> None:
    file = MrdFile.of(full)
    second = file.heads.copy()
    second["idx"]["average"] = 1
    file.add(second, [3 * readout for readout in file.readouts])
    if interleaved:
        order = np.arange(len(file.heads)).reshape(2, -1).T.ravel()
        file.heads, file.readouts = file.heads[order], [file.readouts[line] for line in order]
    assert_allclose(kspace.read(saved(file)).samples, 2 * full.samples, rtol=1e-6)


@pytest.mark.parametrize("counter", ["phase", "set"])
def test_a_request_chooses_a_phase_and_a_set(full: KSpace, saved: Callable[[MrdFile], Path], counter: str) -> None:
    file = MrdFile.of(full)
    second = file.heads.copy()
    second["idx"][counter] = 4
    file.add(second, [2 * readout for readout in file.readouts])
    path = saved(file)
    for number in (0, 1):
        with Reconstruct.model_validate({counter: number}).parse([SourceFile(path)]) as source:
            (measured,) = source.records
            assert isinstance(measured, KSpace)
            assert_array_equal(measured.samples, (1 + number) * full.samples)
            # What was left out is said, with its number.
            assert any(f"of 2 {counter}s" in note for note in source.notes)
    with (
        pytest.raises(InvalidRequest, match=f"expected a {counter} from 0 to 1, those of the file, got 2"),
        Reconstruct.model_validate({counter: 2}).parse([SourceFile(path)]),
    ):
        pass


@pytest.mark.parametrize("counter", ["contrast", "repetition"])
def test_one_contrast_and_repetition_is_chosen(full: KSpace, saved: Callable[[MrdFile], Path], counter: str) -> None:
    file = MrdFile.of(full)
    file.heads["idx"][counter] = 3  # counted from the first there is, whatever its number
    second = file.heads.copy()
    second["idx"][counter] = 5
    file.add(second, [2 * readout for readout in file.readouts])
    path = saved(file)
    assert_array_equal(kspace.read(path).samples, full.samples)
    assert_array_equal(kspace.read(path, **{counter: 1}).samples, 2 * full.samples)
    with pytest.raises(InvalidRequest, match=f"expected a {counter} from 0 to 1, those of the file, got 2"):
        kspace.read(path, **{counter: 2})


@pytest.mark.parametrize(
    "name",
    [
        "IS_NAVIGATION_DATA",
        "IS_PHASECORR_DATA",
        "IS_HPFEEDBACK_DATA",
        "IS_DUMMYSCAN_DATA",
        "IS_RTFEEDBACK_DATA",
        "IS_SURFACECOILCORRECTIONSCAN_DATA",
        "IS_PHASE_STABILIZATION_REFERENCE",
        "IS_PHASE_STABILIZATION",
    ],
)
def test_other_lines_leave_the_image_alone(full: KSpace, saved: Callable[[MrdFile], Path], name: str) -> None:
    file = MrdFile.of(full)
    file.add(file.heads, [np.full_like(readout, 7) for readout in file.readouts], name)
    assert_array_equal(kspace.read(saved(file)).samples, full.samples)


def split(file: MrdFile, imaging: ndarray, calibration: ndarray, factor: complex = 1) -> None:
    """Keep the lines in `imaging`; append those in `calibration`, times a factor and flagged."""
    heads, readouts = file.heads, file.readouts
    column = heads["idx"]["kspace_encode_step_1"]
    file.heads = heads[kept := np.isin(column, imaging)]
    file.readouts = [readouts[line] for line in np.flatnonzero(kept)]
    again = np.isin(column, calibration)
    file.add(heads[again], [factor * readouts[line] for line in np.flatnonzero(again)], "IS_PARALLEL_CALIBRATION")


EVEN, CENTRE = np.arange(0, COLUMNS, 2), np.arange(6, 14)


def test_calibration_between_imaging_lines_belongs_to_the_image(full: KSpace, saved: Callable[[MrdFile], Path]) -> None:
    file = MrdFile.of(full)
    split(file, EVEN, np.setdiff1d(CENTRE, EVEN))
    found = kspace.read(saved(file))
    measured = np.union1d(EVEN, CENTRE)
    assert found.calibration is None
    assert_array_equal(found.samples[..., measured], full.samples[..., measured])
    assert_array_equal(np.flatnonzero(found.mask.any(axis=(0, 1))), measured)


def test_calibration_that_repeats_imaging_lines_is_a_scan_of_its_own(
    full: KSpace, saved: Callable[[MrdFile], Path]
) -> None:
    file = MrdFile.of(full)
    split(file, EVEN, CENTRE, factor=5j)
    found = kspace.read(saved(file))
    assert_array_equal(found.samples[..., EVEN], full.samples[..., EVEN])
    assert_array_equal(np.flatnonzero(found.mask.any(axis=(0, 1))), EVEN)
    assert found.calibration is not None
    assert_array_equal(found.calibration.samples[..., CENTRE], 5j * full.samples[..., CENTRE])
    assert_array_equal(np.flatnonzero(found.calibration.mask.any(axis=(0, 1))), CENTRE)


def test_calibration_by_a_shorter_readout_is_a_scan_of_its_own(full: KSpace, saved: Callable[[MrdFile], Path]) -> None:
    file = MrdFile.of(full)
    split(file, EVEN, np.setdiff1d(CENTRE, EVEN))
    shorter = file.heads["flags"] != 0
    file.heads["number_of_samples"][shorter], file.heads["center_sample"][shorter] = ROWS // 2, ROWS // 4
    middle = slice(ROWS // 4, -ROWS // 4)
    file.readouts = [line[:, middle] if short else line for line, short in zip(file.readouts, shorter, strict=True)]
    found = kspace.read(saved(file))
    assert_array_equal(np.flatnonzero(found.mask.any(axis=(0, 1))), EVEN)
    odd = np.setdiff1d(CENTRE, EVEN)
    assert found.calibration is not None
    assert_array_equal(found.calibration.samples[..., middle, odd], full.samples[..., middle, odd])
    assert found.calibration.mask.sum() == odd.size * ROWS // 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda heads: heads["flags"].__ior__(flag("IS_REVERSE")),
        lambda heads: heads["idx"]["kspace_encode_step_1"].fill(99),
        lambda heads: heads["active_channels"].fill(2),
        lambda heads: heads["idx"]["slice"].fill(0),
        lambda heads: heads["idx"]["slice"].fill(9),
    ],
    ids=["reversed", "outside the grid", "other coils", "not of every slice", "other slices"],
)
def test_calibration_that_can_not_serve_is_left_out(
    full: KSpace, saved: Callable[[MrdFile], Path], spoil: Callable[[ndarray], object]
) -> None:
    file = MrdFile.of(full)
    split(file, EVEN, CENTRE)
    calibration = file.heads[file.heads["flags"] != 0]
    spoil(calibration)
    file.heads[file.heads["flags"] != 0] = calibration
    found = kspace.read(saved(file))
    assert found.calibration is None
    assert_array_equal(np.flatnonzero(found.mask.any(axis=(0, 1))), EVEN)


def interleaved(full: KSpace, *, centre: bool) -> MrdFile:
    """Two repetitions, the second twice as bright: even and odd lines, and the central ones in both if so wished."""
    file = MrdFile.of(full)
    line = file.heads["idx"]["kspace_encode_step_1"]
    file.heads["idx"]["repetition"] = line % 2
    file.readouts = [(1 + n % 2) * readout for n, readout in zip(line, file.readouts, strict=True)]
    if centre:
        chosen = np.flatnonzero(np.abs(line.astype(int) - COLUMNS // 2) < 4)
        heads = file.heads[chosen]
        heads["idx"]["repetition"] = 1 - heads["idx"]["repetition"]
        file.add(heads, [file.readouts[n] for n in chosen])
    return file


@pytest.mark.parametrize("repetition", [0, 1])
def test_repetitions_that_share_the_lines_calibrate_each_other(
    full: KSpace, saved: Callable[[MrdFile], Path], repetition: int
) -> None:
    found = kspace.read(saved(interleaved(full, centre=False)), repetition=repetition)
    assert_array_equal(np.flatnonzero(found.mask[0].all(axis=0)), range(repetition, COLUMNS, 2))
    assert found.calibration is not None
    assert found.calibration.mask.all()
    weights = 1 + np.arange(COLUMNS) % 2
    assert_allclose(found.calibration.samples, full.samples * weights, rtol=1e-5, atol=1e-6)


def test_a_repetition_with_a_centre_of_its_own_needs_no_other(full: KSpace, saved: Callable[[MrdFile], Path]) -> None:
    assert kspace.read(saved(interleaved(full, centre=True))).calibration is None


def test_calibration_finds_its_slice_among_many(saved: Callable[[MrdFile], Path]) -> None:
    """Slices times columns exceed the 16 bits of the counters."""
    file = MrdFile.of(scan(phantom(4, 1024)))
    heads, readouts = file.heads, file.readouts
    heads["idx"]["slice"] = 64  # 64 x 1024 = 2^16
    file.heads, file.readouts = heads[::2], readouts[::2]
    others = heads.copy()
    others["idx"]["slice"] = 0
    file.add(others, readouts)
    file.add(heads[1::2], readouts[1::2], "IS_PARALLEL_CALIBRATION")
    assert kspace.read(saved(file)).mask.all()


def test_embedded_calibration_is_imaging(full: KSpace, saved: Callable[[MrdFile], Path]) -> None:
    file = MrdFile.of(full)
    file.heads["flags"] |= flag("IS_PARALLEL_CALIBRATION", "IS_PARALLEL_CALIBRATION_AND_IMAGING")
    assert_array_equal(kspace.read(saved(file)).samples, full.samples)


JUNK = ["IS_NOISE_MEASUREMENT", "IS_NAVIGATION_DATA", "IS_PHASECORR_DATA", "IS_DUMMYSCAN_DATA", "IS_RTFEEDBACK_DATA"]
HARMLESS = ["FIRST_IN_SLICE", "LAST_IN_REPETITION", "LAST_IN_MEASUREMENT", "USER1", "USER8"]


@settings(max_examples=40)
@given(data=st.data())
def test_whatever_else_was_acquired_the_k_space_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Any order, any harmless flags, several averages of some lines, other contrasts, scans that make no image."""
    slices = data.draw(st.integers(1, 3))
    lines = np.array(sorted(data.draw(st.sets(st.integers(0, COLUMNS - 1), min_size=1))))
    whole = scan(np.concatenate([phantom(ROWS, COLUMNS)] * slices), coils=2)
    file = MrdFile.of(whole)
    split(file, lines, np.array([], int))
    count = len(file.heads)
    again = data.draw(st.lists(st.integers(0, count - 1), max_size=9))
    file.add(file.heads[again], [file.readouts[line] for line in again])
    for name in data.draw(st.lists(st.sampled_from(JUNK), max_size=4)):
        line = data.draw(st.integers(0, count - 1))
        length = data.draw(st.integers(1, 2 * ROWS))
        head = file.heads[[line]].copy()
        head["number_of_samples"], head["idx"]["kspace_encode_step_1"] = length, data.draw(st.integers(0, 2**16 - 1))
        # Few alike samples of noise have no covariance: nothing is whitened.
        file.add(head, [np.ones((2, length), np.complex64)], name)
    other = file.heads[:count].copy()
    other["idx"][data.draw(st.sampled_from(["contrast", "repetition", "phase", "set"]))] = 1
    file.add(other, [np.full_like(line, 9) for line in file.readouts[:count]])
    for line in range(len(file.heads)):
        file.heads["flags"][line] |= flag(*data.draw(st.sets(st.sampled_from(HARMLESS))))
    order = data.draw(st.permutations(range(len(file.heads))))
    file.heads, file.readouts = file.heads[order], [file.readouts[line] for line in order]
    found = kspace.read(file.save(tmp_path_factory.mktemp("mrd") / "scan.h5"))
    assert_allclose(found.samples[..., lines], whole.samples[..., lines], rtol=1e-5, atol=1e-7)
    assert_array_equal(np.flatnonzero(found.mask.any(axis=(0, 1))), lines)


def test_partial_fourier_puts_the_central_line_on_dc(full: KSpace, saved: Callable[[MrdFile], Path]) -> None:
    skipped = 6
    file = MrdFile.of(full)
    kept = file.heads["idx"]["kspace_encode_step_1"] >= skipped
    file.heads, file.readouts = file.heads[kept], [file.readouts[line] for line in np.flatnonzero(kept)]
    file.heads["idx"]["kspace_encode_step_1"] -= skipped  # numbered from its own first line, as scanners do
    file.limits = (0, COLUMNS - skipped - 1, COLUMNS // 2 - skipped)
    found = kspace.read(saved(file))
    assert_array_equal(found.samples[..., skipped:], full.samples[..., skipped:])
    assert not found.mask[..., :skipped].any()
    assert found.mask[..., skipped:].all()


def test_without_limits_lines_are_columns(full: KSpace, saved: Callable[[MrdFile], Path]) -> None:
    file = MrdFile.of(full)
    file.limits = None
    assert_array_equal(kspace.read(saved(file)).samples, full.samples)


@few
@given(missing=st.integers(0, ROWS // 2), before=st.integers(0, 3), after=st.integers(0, 3))
def test_asymmetric_echo_and_discarded_samples(
    tmp_path_factory: pytest.TempPathFactory, missing: int, before: int, after: int
) -> None:
    whole = scan(phantom(ROWS, COLUMNS), coils=2)
    file = MrdFile.of(whole)
    file.readouts = [readout[:, missing:] for readout in file.readouts]
    file.heads["number_of_samples"] -= missing
    file.heads["center_sample"] -= missing
    file.heads["discard_pre"], file.heads["discard_post"] = before, after
    found = kspace.read(file.save(tmp_path_factory.mktemp("mrd") / "scan.h5"))
    measured = slice(missing + before, ROWS - after)
    assert_array_equal(found.samples[:, :, measured], whole.samples[:, :, measured])
    assert_array_equal(np.flatnonzero(found.mask[0].all(axis=1)), np.arange(ROWS)[measured])
    assert found.mask.sum() == found.mask[:, measured].sum()


def test_oversampling_is_told_by_the_image_shape(full: KSpace, saved: Callable[[MrdFile], Path]) -> None:
    file = MrdFile.of(full)
    file.recon_matrix = (ROWS // 2, COLUMNS)
    found = kspace.read(saved(file))
    assert found.image_shape == (ROWS // 2, COLUMNS)
    assert_array_equal(rss(found), rss(full)[:, ROWS // 4 : -ROWS // 4])


# Noise


def test_a_noise_scan_whitens_the_scan(full: KSpace, saved: Callable[[MrdFile], Path]) -> None:
    rng = np.random.default_rng(0)
    levels = np.array([1, 2, 3])[:, np.newaxis]
    noise = [(levels * (rng.standard_normal((2, 3, 512)).T @ [1, 1j]).T).astype(np.complex64) for _ in range(4)]
    file = MrdFile.of(full)
    heads = file.heads[:4].copy()
    heads["number_of_samples"] = 512
    file.add(heads, noise, "IS_NOISE_MEASUREMENT")
    expected = prewhiten(full.samples, np.concatenate(noise, axis=1))
    found = kspace.read(saved(file)).samples
    assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())
    # The noisiest coil counts least: as 1 to 3, with the mean of their variances kept.
    weights = np.sqrt(np.sum(np.abs(found) ** 2, axis=(0, 2, 3)) / np.sum(np.abs(full.samples) ** 2, axis=(0, 2, 3)))
    assert_allclose(weights, np.sqrt(np.mean(levels**2)) / levels[:, 0], rtol=0.1)


@pytest.mark.parametrize("noise", [np.zeros((3, 64)), np.ones((3, 64)), np.diag([1, 1, 0]) @ np.random.rand(3, 64)])
def test_noise_that_says_nothing_changes_nothing(full: KSpace, noise: ndarray) -> None:
    assert_array_equal(prewhiten(full.samples, noise.astype(np.complex64)), full.samples)


# Geometry


def test_geometry_is_of_the_answer(full: KSpace, saved: Callable[[MrdFile], Path]) -> None:
    file = MrdFile.of(full)
    file.heads["position"] += np.float32([10, -20, 30])
    file.recon_matrix = (ROWS // 2, COLUMNS)
    geometry = kspace.read(saved(file)).geometry
    assert geometry is not None
    assert (geometry.spacing, geometry.thickness) == (file.spacing, file.thickness)
    assert_array_equal(geometry.orientation, [[0, 1, 0], [1, 0, 0]])  # along a row: phase; along a column: readout
    half_extent = np.array([ROWS / 2 * file.spacing[0], COLUMNS * file.spacing[1]]) / 2
    first_pixel = np.array([10, -20]) - half_extent + np.array(file.spacing) / 2
    assert_allclose(geometry.positions, [[*first_pixel, 30], [*first_pixel, 34]])


@pytest.mark.parametrize(
    "change",
    [
        lambda heads: heads["read_dir"].fill(0),
        lambda heads: heads["phase_dir"].__setitem__(slice(None), heads["read_dir"]),
        lambda heads: heads["read_dir"].__setitem__(slice(None), [2, 0, 0]),
        lambda heads: heads["phase_dir"].__setitem__(heads["idx"]["slice"] == 1, [0, 0, 1]),
        lambda heads: heads["position"].fill(np.nan),
    ],
    ids=["unset", "parallel", "no unit vector", "slices differ", "NaN"],
)
def test_directions_that_make_no_grid_leave_sizes(
    full: KSpace, saved: Callable[[MrdFile], Path], change: Callable[[ndarray], None]
) -> None:
    file = MrdFile.of(full)
    change(file.heads)
    geometry = kspace.read(saved(file)).geometry
    assert geometry is not None
    assert not geometry.placed
    assert (geometry.spacing, geometry.thickness) == (file.spacing, file.thickness)


def test_without_a_field_of_view_there_is_no_geometry(full: KSpace, saved: Callable[[MrdFile], Path]) -> None:
    file = MrdFile.of(full)
    file.spacing = (0, 0)
    assert kspace.read(saved(file)).geometry is None


def test_the_trajectory_of_another_encoding_does_not_matter(full: KSpace, saved: Callable[[MrdFile], Path]) -> None:
    file = MrdFile.of(full)
    first, second = file.header().split("</encoding>")
    another = first[first.index("<encoding>") :].replace("cartesian", "spiral")
    file.xml = f"{first}</encoding>{another}</encoding>{second}"
    assert_array_equal(kspace.read(saved(file)).samples, full.samples)


@few
@given(
    angles=st.tuples(*[st.floats(-np.pi, np.pi)] * 3),
    centre=st.tuples(*[st.floats(-300, 300, width=32)] * 3),
    pixel=st.tuples(st.integers(0, ROWS // 2 - 1), st.integers(0, COLUMNS - 1)),
)
def test_a_point_keeps_its_millimetres_through_nifti(
    tmp_path_factory: pytest.TempPathFactory,
    angles: tuple[float, float, float],
    centre: tuple[float, float, float],
    pixel: tuple[int, int],
) -> None:
    folder = tmp_path_factory.mktemp("mrd")
    rotation = np.linalg.multi_dot([rotated(axis, angle) for axis, angle in enumerate(angles)])
    image = np.zeros((2, ROWS, COLUMNS), np.float32)
    image[1, ROWS // 4 + pixel[0], pixel[1]] = 1
    file = MrdFile.of(scan(image))
    read_dir, phase_dir, slice_dir = rotation.T
    file.heads["read_dir"], file.heads["phase_dir"], file.heads["slice_dir"] = read_dir, phase_dir, slice_dir
    file.heads["position"] = centre + np.outer(file.heads["idx"]["slice"] * file.thickness, slice_dir)
    file.recon_matrix = (ROWS // 2, COLUMNS)
    found = kspace.read(file.save(folder / "scan.h5"))

    (folder / "image.nii.gz").write_bytes(nifti.to_bytes(Images(rss(found), found.geometry)))
    volume = nifti.nib.load(folder / "image.nii.gz")
    brightest = np.unravel_index(np.argmax(volume.get_fdata()), volume.shape)
    right_anterior_superior = volume.affine @ [*brightest, 1]

    offset = np.array([pixel[0] + 0.5 - ROWS / 4, pixel[1] + 0.5 - COLUMNS / 2]) * file.spacing
    expected = centre + file.thickness * slice_dir + offset[0] * read_dir + offset[1] * phase_dir
    assert_allclose(right_anterior_superior[:3], expected * [-1, -1, 1], atol=0.01)


@pytest.mark.parametrize("turn", [(0, 0, 0), (0.3, -1.2, 2.5)])
def test_a_point_keeps_its_millimetres_through_dicom_to_nifti(turn: tuple[float, float, float], tmp_path: Path) -> None:
    """Three slices of a bright blob, read, written as DICOM, read again, written as NIfTI, found by nibabel."""
    rotation = np.linalg.multi_dot([rotated(axis, angle) for axis, angle in enumerate(turn)])
    read_dir, phase_dir, slice_dir = rotation.T
    row, column = np.mgrid[:ROWS, :COLUMNS]
    blob = np.exp(-((row - 13.3) ** 2 + (column - 8.6) ** 2) / 4).astype(np.float32)
    file = MrdFile.of(scan(np.stack([0 * blob, blob, 0 * blob])))
    file.heads["read_dir"], file.heads["phase_dir"], file.heads["slice_dir"] = read_dir, phase_dir, slice_dir
    centre = np.array([-12.5, 40.0, 7.25])
    file.heads["position"] = centre + np.outer(file.heads["idx"]["slice"] * file.thickness, slice_dir)
    measured = kspace.read(file.save(tmp_path / "scan.h5"))
    datasets = original.create(Images(rss(measured), measured.geometry), model="test@1")
    (series,) = dicom.read([objects.to_bytes(dataset) for dataset in datasets])
    (tmp_path / "image.nii.gz").write_bytes(nifti.to_bytes(series.images))

    volume = nifti.nib.load(tmp_path / "image.nii.gz")
    weights = np.clip(volume.get_fdata(), 0, None)
    weights[weights < 0.01 * weights.max()] = 0
    index = [float((weights * axis).sum() / weights.sum()) for axis in np.indices(weights.shape)]
    offset = (np.array([13.3, 8.6]) - (np.array([ROWS, COLUMNS]) - 1) / 2) * file.spacing
    expected = centre + file.thickness * slice_dir + offset[0] * read_dir + offset[1] * phase_dir
    assert_allclose((volume.affine @ [*index, 1])[:3], expected * [-1, -1, 1], atol=0.01)


def rotated(axis: int, angle: float) -> ndarray:
    first, second = [other for other in range(3) if other != axis]
    matrix = np.eye(3)
    matrix[[first, first, second, second], [first, second, first, second]] = (
        np.cos(angle),
        -np.sin(angle),
        np.sin(angle),
        np.cos(angle),
    )
    return matrix


# What is refused


def set_head(name: str, value: int, lines: slice = slice(None)) -> Callable[[MrdFile], None]:
    return lambda file: file.heads[name].__setitem__(lines, value)


def set_counter(name: str, value: int) -> Callable[[MrdFile], None]:
    return lambda file: file.heads["idx"][name].__setitem__(slice(0, 5), value)


def set_flag(name: str) -> Callable[[MrdFile], None]:
    return lambda file: file.heads["flags"].fill(flag(name))


def set_xml(old: str, new: str) -> Callable[[MrdFile], None]:
    return lambda file: setattr(file, "xml", file.header().replace(old, new))


def set_sample(value: complex) -> Callable[[MrdFile], None]:
    return lambda file: file.readouts[-1].__setitem__((0, 0), value)


def wide_grid_wrong_centre(file: MrdFile) -> None:
    file.matrix = (32, COLUMNS)
    file.heads["center_sample"] = ROWS - 1


def cut_to_nothing(file: MrdFile) -> None:
    file.heads, file.readouts, file.options = file.heads[:0], [], {"maxshape": (None,)}


REFUSED: dict[str, tuple[Callable[[MrdFile], object], type[KdmriError], str]] = {
    **{
        name: (set_xml("cartesian", name), UnsupportedInput, f"{name} trajectory: only Cartesian k-space is reconstr")
        for name in ("radial", "spiral", "goldenangle", "epi", "other")
    },
    "3-D": (set_counter("kspace_encode_step_2", 1), UnsupportedInput, "3-D encoding with 2 second phase-encode steps"),
    "reversed": (set_flag("IS_REVERSE"), UnsupportedInput, "reversed readouts"),
    "compressed": (set_flag("COMPRESSION1"), UnsupportedInput, "compressed acquisitions"),
    "two kinds": (set_head("discard_pre", 1, slice(3)), UnsupportedInput, "readouts of one length, .* got 2 kinds"),
    "only noise": (set_flag("IS_NOISE_MEASUREMENT"), UnreadableKSpace, "expected imaging lines, got none among 40"),
    "column": (set_counter("kspace_encode_step_1", 99), UnreadableKSpace, "columns 0 to 19, got 0 to 99"),
    "rows": (set_xml(f"<x>{ROWS}<", "<x>16<"), UnreadableKSpace, "expected readouts within 16 rows, got 24 samples"),
    "centre": (wide_grid_wrong_centre, UnreadableKSpace, "expected readouts within 32 rows, got 24 .* centre 23"),
    "lengths": (set_head("active_channels", 4), UnreadableKSpace, "expected 4 coils x 24 complex samples a line"),
    "no coils": (set_head("active_channels", 0), UnreadableKSpace, "expected readouts"),
    "encoding": (set_head("encoding_space_ref", 2), UnreadableKSpace, "expected encoding 2 in the header, got 1"),
    "NaN": (set_sample(np.nan), UnreadableKSpace, "expected finite samples"),
    "infinity": (set_sample(np.inf), UnreadableKSpace, "expected finite samples"),
    "no XML": (set_xml("<", "("), UnreadableKSpace, "expected an ISMRMRD header"),
    "no number": (
        set_xml("<y>20<", "<y>many<"),
        UnreadableKSpace,
        "matrixSize/y: .* got a text of 4 characters",
    ),
    "zero columns": (set_xml("<y>20<", "<y>0<"), UnreadableKSpace, "encodedSpace/matrixSize/y: .* got 0"),
    "endless columns": (set_xml("<y>20<", f"<y>{10**30}<"), UnreadableKSpace, "matrixSize/y: .* got 1e"),
    "nothing": (cut_to_nothing, UnreadableKSpace, "expected imaging lines, got none among 0 acquisitions"),
    "unknown trajectory": (set_xml("cartesian", "zigzag"), UnsupportedInput, "unknown trajectory"),
    "entities": (
        set_xml('<?xml version="1.0"?>', '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]>'),
        UnreadableKSpace,
        "expected an ISMRMRD header",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_thing(full: KSpace, saved: Callable[[MrdFile], Path], case: str) -> None:
    change, error, message = REFUSED[case]
    file = MrdFile.of(full)
    change(file)
    with pytest.raises(error, match=message):
        kspace.read(saved(file))


def test_without_a_header_there_is_no_grid(full: KSpace, tmp_path: Path) -> None:
    path = MrdFile.of(full).save(tmp_path / "scan.h5")
    with h5py.File(path, "a") as file:
        del file["dataset/xml"]
    with pytest.raises(UnreadableKSpace, match="expected an ISMRMRD header `xml` beside the acquisitions, got none"):
        kspace.read(path)


def test_version_2_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "v2.h5", "w") as file:
        file["Mrd/$yardl_schema"] = "{}"
        file.create_group("Mrd/data")
    with pytest.raises(UnsupportedInput, match="MRD v2 file: expected ISMRMRD version 1 or fastMRI"):
        kspace.read(tmp_path / "v2.h5")
    for stream in (b"yardl\x01\x00\x00\x00{}", b'{"yardl":{"version":1,"schema":{'):
        with pytest.raises(UnsupportedInput, match="got an MRD v2 stream: write ISMRMRD version 1 in HDF5"):
            kspace.read(io.BytesIO(stream))


def test_a_grid_over_the_limit_is_refused_before_it_is_made(full: KSpace, saved: Callable[[MrdFile], Path]) -> None:
    file = MrdFile.of(full)
    file.matrix = (60000, 60000)
    file.heads["center_sample"] = 12
    with pytest.raises(UnsupportedInput, match=r"expected at most 8 GiB of k-space, got 161 GiB"):
        kspace.read(saved(file))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, UnsupportedInput, r"expected at most 0\.00195 GiB of k-space, got 0\.00977 GiB"),
        # Of a compressed table the lengths are known only once lines are read: few enough at a time.
        ({"compression": "gzip"}, UnreadableKSpace, "got 131072 floats"),
    ],
)
def test_lines_that_share_storage_stay_within_the_limit(
    tmp_path: Path, options: dict, error: type[KdmriError], message: str
) -> None:
    """A small file can refer to one long readout many times over."""
    file = MrdFile.of(scan(phantom(ROWS, COLUMNS)))
    file.options = options
    file.readouts[0] = np.zeros((1, 2**16), np.complex64)
    path = file.save(tmp_path / "scan.h5")
    with h5py.File(path, "a") as opened:
        table = opened["dataset/data"]
        long_line = table.id.read_direct_chunk((0,))[1]
        for line in range(COLUMNS):
            table.id.write_direct_chunk((line,), long_line)
    assert path.stat().st_size < 2**20
    with pytest.raises(error, match=message):
        kspace.read(path, max_bytes=2**21)


class Counted(io.FileIO):
    """A file that counts the bytes read from it."""

    count = 0

    def readinto(self, buffer: memoryview) -> int:
        count = super().readinto(buffer)
        self.count += count
        return count


def test_the_file_is_read_once(tmp_path: Path) -> None:
    path = MrdFile.of(scan(phantom(256, 128), coils=8)).save(tmp_path / "scan.h5")
    with Counted(path) as stream:
        kspace.read(stream)
        assert stream.count < 1.2 * path.stat().st_size


# Real files


def test_both_layouts_of_a_real_scan_give_the_same_image(data: Path) -> None:
    fastmri, mrd = (kspace.read(data / "kspace" / name) for name in ("brain_16ch.h5", "brain_16ch.mrd.h5"))
    assert fastmri.samples.shape == mrd.samples.shape == (1, 16, 128, 128)
    assert difference(rss(mrd), rss(fastmri)) < 1e-4
    assert difference(mrd.samples, fastmri.samples) < 1e-4


def test_absent_lines_of_a_real_scan_are_not_measured(data: Path) -> None:
    full, quarter = (kspace.read(data / "kspace" / f"brain_16ch{kind}.mrd.h5") for kind in ("", "_r4"))
    lines = np.flatnonzero(quarter.mask[0].all(axis=0))
    assert_array_equal(lines, sorted({*range(0, 128, 4), *range(56, 72)}))
    assert quarter.mask.sum() == lines.size * 128
    assert_array_equal(quarter.samples[..., lines], full.samples[..., lines])
    assert not quarter.samples[..., ~quarter.mask[0, 0]].any()


def test_real_calibration_lines_are_a_scan_of_their_own(data: Path) -> None:
    """Some were measured twice, and differ: 6 degrees of phase, noise."""
    found = kspace.read(data / "kspace" / "phantom_grappa_16ch.mrd.h5")
    assert_array_equal(np.flatnonzero(found.mask[0].all(axis=0)), range(1, 62, 2))
    assert found.calibration is not None
    assert_array_equal(np.flatnonzero(found.calibration.mask[0].all(axis=0)), range(17, 41))
    # The object, a ball of 11 of 25.6 cm across, stands in the middle of air.
    image = rss(found.calibration)[0]
    assert image[24:40, 24:40].mean() > 5 * image[:8].mean()


def made(tmp_path: Path, *options: str, matrix: int = 64, coils: int = 4) -> Path:
    """A synthetic scan by ISMRMRD's own tool."""
    path = tmp_path / f"made{len(list(tmp_path.iterdir()))}.h5"
    subprocess.run(
        [str(GENERATOR), "-m", str(matrix), "-c", str(coils), "-o", path, *options], check=True, capture_output=True
    )
    return path


@needs_generator
def test_a_made_scan_looks_like_its_phantom(tmp_path: Path) -> None:
    path = made(tmp_path, "-n", "0", "-O", "2")
    found = kspace.read(path)
    assert found.samples.shape == (1, 4, 128, 64)
    assert found.image_shape == (64, 64)
    with h5py.File(path) as file:
        truth = file["dataset/phantom"][0]
        coils = np.abs(file["dataset/csm"][0]["real"] + 1j * file["dataset/csm"][0]["imag"])
    truth = np.abs(truth["real"] + 1j * truth["imag"]).squeeze()
    expected = truth * np.linalg.norm(coils.reshape(4, *truth.shape), axis=0)
    image = rss(found)[0].T  # the tool's arrays have the readout along columns
    assert np.corrcoef(image.ravel(), expected.ravel())[0, 1] > 0.99


@needs_generator
@pytest.mark.parametrize("role", ["student", "teacher"])
@pytest.mark.parametrize("acceleration", [1, 2, 4])
@pytest.mark.parametrize(("width", "noise"), [("24", "0"), ("24", "0.01"), ("0", "0"), ("0", "0.001")])
def test_a_made_scan_with_eight_coils_and_noise_scan_agrees_with_its_full_one(
    tmp_path: Path, acceleration: int, width: str, noise: str, role: str, models: dict[tuple[str, str], Model]
) -> None:
    """Inside the object to 2%, with calibration lines and without. More noise leaves more: see docs/formats.md."""
    options = ["-C", "-n", noise, "-w", width]
    paths = [made(tmp_path, *options, "-a", str(factor), matrix=256, coils=8) for factor in (1, acceleration)]
    reconstructor = Reconstructor(models["reconstruction", role])
    full, found = (reconstructor.reconstruct(kspace.read(path)).pixels[0] for path in paths)
    with h5py.File(paths[0]) as file:
        inside = np.abs(file["dataset/phantom"][0]["real"]).squeeze().T > 0
    assert difference(found[inside], full[inside]) < 0.02


@needs_generator
@pytest.mark.parametrize("repetition", [0, 1])
def test_a_made_scan_without_calibration_lines_is_calibrated_by_all_of_its_repetitions(
    tmp_path: Path, repetition: int, models: dict[tuple[str, str], Model]
) -> None:
    """As the tool makes them by default: every second line, the others in the next repetition."""
    full, half = (made(tmp_path, "-C", "-n", "0.001", "-a", factor, matrix=128, coils=8) for factor in "12")
    measured = kspace.read(half, repetition=repetition)
    assert measured.acceleration == 2
    reconstructor = Reconstructor(models["reconstruction", "student"])
    found, expected = (reconstructor.reconstruct(scan).pixels[0] for scan in (measured, kspace.read(full)))
    with h5py.File(full) as file:
        inside = np.abs(file["dataset/phantom"][0]["real"]).squeeze().T > 0
    assert difference(found[inside], expected[inside]) < 0.02


@needs_generator
def test_made_repetitions_with_noise_scan_and_acceleration(tmp_path: Path) -> None:
    path = made(tmp_path, "-a", "4", "-w", "8", "-C", "-n", "0.1")
    for repetition in range(4):
        found = kspace.read(path, repetition=repetition)
        lines = set(np.flatnonzero(found.mask[0].all(axis=0)))
        assert lines == {*range(repetition, 64, 4), *range(28, 36)}
    with pytest.raises(InvalidRequest, match="expected a repetition from 0 to 3"):
        kspace.read(path, repetition=4)


@needs_generator
def test_made_noise_scan_leaves_the_image(tmp_path: Path) -> None:
    plain, whitened = (rss(kspace.read(made(tmp_path, "-n", "0.02", *option))) for option in ([], ["-C"]))
    inside = plain > 0.2 * plain.max()
    assert difference(whitened[inside], plain[inside]) < 0.05


@pytest.mark.parametrize(
    "secret", ["Müller", "19620228", "1962-02-28", "4711/08", "1.2.276.0.7230010", "t2_tse_tra", "7 T"]
)
def test_a_text_where_a_number_belongs_is_not_repeated(
    full: KSpace, saved: Callable[[MrdFile], Path], secret: str
) -> None:
    file = MrdFile.of(full)
    file.xml = re.sub("<x>[0-9]+</x>", f"<x>{secret}</x>", file.header(), count=1)
    with pytest.raises(UnreadableKSpace, match="matrixSize/x: expected a") as refusal:
        kspace.read(saved(file))
    assert secret not in str(refusal.value)


@pytest.mark.parametrize("shown", ["-3", "12,5", "NaN", "inf", "1e"])
def test_what_stands_for_a_number_is_repeated_if_it_looks_like_one(
    full: KSpace, saved: Callable[[MrdFile], Path], shown: str
) -> None:
    file = MrdFile.of(full)
    file.xml = re.sub("<x>[0-9]+</x>", f"<x>{shown}</x>", file.header(), count=1)
    with pytest.raises(UnreadableKSpace, match="matrixSize/x") as refusal:
        kspace.read(saved(file))
    assert (shown in str(refusal.value)) == (shown != "1e")
