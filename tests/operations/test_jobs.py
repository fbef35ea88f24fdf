"""Jobs: which may share a run, what a part of one holds, and how much memory it takes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from pydicom.data import get_testdata_file

from kdmri.data.images import Images
from kdmri.data.patient import PatientAndStudy
from kdmri.errors import InvalidRequest, UnreadableInput
from kdmri.formats.dicom.reader import read
from kdmri.formats.kspace import fastmri
from kdmri.operations.media_types import DICOM, RELATED, ZIP
from kdmri.operations.operation import Limits, SourceFile
from kdmri.operations.reconstruction import Reconstruct, ReconstructionInput, ReconstructionJob
from kdmri.operations.super_resolution import (
    BYTES_PER_PIXEL,
    SuperResolutionInput,
    SuperResolutionJob,
    SuperResolve,
)
from kdmri.phantoms import phantom, scan

MR_SMALL = Path(str(get_testdata_file("MR_small.dcm")))
STACK = scan(phantom(12, 16).repeat(3, axis=0), coils=2, acceleration=2)


def images(slices: int, rows: int = 6, columns: int = 8) -> Images:
    return Images(np.arange(slices * rows * columns, dtype=np.float32).reshape(slices, rows, columns))


def test_single_images_of_one_size_and_scale_share_a_run_and_stacks_run_alone() -> None:
    first = SuperResolutionJob(images(1), 2)
    assert first.batch_key == SuperResolutionJob(images(1), 2).batch_key is not None
    for other in (SuperResolutionJob(images(1), 4), SuperResolutionJob(images(1, 8, 6), 2)):
        assert other.batch_key not in (None, first.batch_key)
    assert SuperResolutionJob(images(2), 2).batch_key is None


def test_memory_of_a_slice_is_that_of_what_it_holds() -> None:
    job = ReconstructionJob(STACK)
    assert job.slices == 3
    assert job.bytes_per_slice * job.slices == STACK.samples.nbytes
    small, large = (SuperResolutionJob(images(5), scale) for scale in (2, 4))
    assert small.slices == 5
    # A scale twice as large gives four times the pixels; each takes float32 and complex64 of two roles at least.
    assert large.bytes_per_slice == 4 * small.bytes_per_slice
    assert small.bytes_per_slice >= 2 * (4 + 8) * (2 * 6) * (2 * 8)


@pytest.mark.parametrize("slices", [slice(0, 1), slice(1, 3)])
def test_a_part_holds_its_slices_in_arrays_of_its_own_and_no_patient(slices: slice) -> None:
    named = replace(STACK, patient_and_study=PatientAndStudy(PatientName="Doe^Jane"), calibration=STACK)
    part = ReconstructionJob(named, coils=1).part(slices)
    assert_array_equal(part.kspace.samples, STACK.samples[slices])
    assert part.coils == 1
    assert not part.kspace.patient_and_study
    assert part.kspace.calibration is not None
    for array in (part.kspace.samples, part.kspace.mask, part.kspace.calibration.samples):
        assert not np.shares_memory(array, STACK.samples)
        assert not np.shares_memory(array, STACK.mask)
    source = images(3)
    finer = SuperResolutionJob(source, 2).part(slices)
    assert_array_equal(finer.images.pixels, source.pixels[slices])
    assert not np.shares_memory(finer.images.pixels, source.pixels)


def test_a_scan_without_calibration_has_none_in_its_parts() -> None:
    assert ReconstructionJob(STACK).part(slice(0, 1)).kspace.calibration is None


def test_models_are_compared_where_samples_are_missing() -> None:
    assert ReconstructionJob(STACK).compares_models
    assert not ReconstructionJob(scan(phantom(12, 16))).compares_models
    assert SuperResolutionJob(images(1), 2).compares_models


def test_one_object_is_answered_without_an_envelope_and_several_in_one() -> None:
    (series,) = read([MR_SMALL])
    one, two = SuperResolutionInput([series], 2), SuperResolutionInput([series, series], 2)
    assert one.media_types[0] == DICOM
    assert two.media_types[0] == ZIP
    assert DICOM not in two.media_types
    assert {ZIP, RELATED} <= set(one.media_types) & set(two.media_types)
    assert len(two.jobs) == len(two.records) == 2


def test_records_make_the_input_that_they_came_from(tmp_path: Path) -> None:
    operation, source = Reconstruct(coils=2), ReconstructionInput(STACK, 2)
    found = operation.from_records(source.records)
    assert isinstance(found, ReconstructionInput)
    assert_array_equal(found.scan.select(slice(None)).samples, STACK.samples)
    assert found.coils == 2
    (series,) = read([MR_SMALL])
    finer = SuperResolve(scale=4).from_records(SuperResolutionInput([series, series], 4).records)
    assert isinstance(finer, SuperResolutionInput)
    assert (len(finer.groups), finer.scale) == (2, 4)


def test_records_of_another_operation_are_refused() -> None:
    (series,) = read([MR_SMALL])
    for records in ([], [series], [STACK, STACK], [STACK, series]):
        with pytest.raises(UnreadableInput, match="expected one scan"):
            Reconstruct().from_records(records)
    for records in ([], [STACK], [series, STACK]):
        with pytest.raises(UnreadableInput, match="expected series of images"):
            SuperResolve().from_records(records)


@pytest.mark.parametrize("number", [0, 2])
def test_reconstruction_takes_one_file(number: int, tmp_path: Path) -> None:
    fastmri.write(tmp_path / "scan.h5", STACK)
    files = [SourceFile(tmp_path / "scan.h5")] * number
    with pytest.raises(InvalidRequest, match=f"one k-space file, got {number}"), Reconstruct().parse(files):
        pass


def test_the_answers_memory_is_bounded_before_it_is_made() -> None:
    (series,) = read([MR_SMALL])
    pixels = series.images.pixels.size
    for scale in (2, 4):
        enough = BYTES_PER_PIXEL * pixels * scale**2
        with SuperResolve(scale=scale).parse([SourceFile(MR_SMALL)], Limits(unpacked_bytes=enough)) as source:
            assert source.jobs[0].slices == 1
        with (
            pytest.raises(Exception, match="expected"),
            SuperResolve(scale=scale).parse([SourceFile(MR_SMALL)], Limits(unpacked_bytes=enough - 1)),
        ):
            pass
