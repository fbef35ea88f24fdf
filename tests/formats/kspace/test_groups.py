"""Files of several measurements: the best group is reconstructed, the others are counted, and one can be chosen."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from kdmri.data.kspace import KSpace
from kdmri.errors import InvalidRequest, UnreadableKSpace, UnsupportedInput
from kdmri.formats.kspace import reader
from kdmri.operations import Reconstruct
from kdmri.operations.operation import SourceFile
from kdmri.phantoms import phantom, scan
from tests.formats.kspace.mrd_files import MrdFile, flag
from tests.shared_data import ABSENT, DATA

REAL = DATA / "kspace" / "brain_16ch.mrd.h5"


@pytest.fixture(scope="module")
def full() -> KSpace:
    return scan(phantom(24, 20), coils=2)


def larger(full: KSpace) -> MrdFile:
    """Return a file with more lines than the scan has."""
    file = MrdFile.of(full)
    file.add(file.heads, [2 * readout for readout in file.readouts])
    return file


def prescan(full: KSpace) -> MrdFile:
    file = larger(full)
    file.heads["idx"]["kspace_encode_step_2"] = np.arange(len(file.heads)) % 4
    return file


def radial(full: KSpace) -> MrdFile:
    file = larger(full)
    file.trajectory = "radial"
    return file


def noise(full: KSpace) -> MrdFile:
    file = larger(full)
    file.heads["flags"] |= flag("IS_NOISE_MEASUREMENT")
    return file


def without_sizes(full: KSpace) -> MrdFile:
    file = larger(full)
    file.xml = file.header().replace(f"<x>{file.matrix[0]}</x>", "<x></x>")
    return file


OTHERS = [prescan, radial, noise, without_sizes]


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("first", ["other", "scan"])
def test_the_best_group_that_can_be_reconstructed_is_taken(tmp_path: Path, full: KSpace, other, first: str) -> None:
    path = tmp_path / "scan.h5"
    for name in ("other", "scan") if first == "other" else ("scan", "other"):
        (other(full) if name == "other" else MrdFile.of(full)).save(path, f"{name}_1")
    found = reader.read(path)
    assert_array_equal(found.samples, full.samples)
    assert "Group scan_1 of 2 was reconstructed, the others were left out: other_1." in found.notes


@pytest.mark.skipif(not REAL.exists(), reason=ABSENT)
@pytest.mark.parametrize("other", OTHERS)
def test_a_real_scan_is_found_beside_other_groups(tmp_path: Path, other, full: KSpace) -> None:
    path = MrdFile.load(REAL).save(tmp_path / "scan.h5", "dataset_2")
    other(scan(phantom(96, 96), coils=2)).save(path, "dataset_1")
    assert_array_equal(reader.read(path).samples, reader.read(REAL).samples)


@pytest.mark.parametrize("name", ["first", "second", "/second"])
def test_a_group_is_chosen_by_its_name(tmp_path: Path, full: KSpace, name: str) -> None:
    path = larger(full).save(tmp_path / "scan.h5", "first")
    file = MrdFile.of(full)
    file.readouts = [5 * readout for readout in file.readouts]
    file.save(path, "second")
    factor = 1.5 if name == "first" else 5
    assert_array_equal(reader.read(path, group=name).samples, np.complex64(factor) * full.samples)
    with Reconstruct(group=name).parse([SourceFile(path)]) as chosen:
        assert not any(note.startswith("Group") for note in chosen.notes)


def test_a_group_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path, full: KSpace) -> None:
    path = MrdFile.of(full).save(tmp_path / "scan.h5", "first")
    larger(full).save(path, "second")
    with pytest.raises(InvalidRequest, match="expected one of the file's groups: first, second"):
        reader.read(path, group="third")
    with pytest.raises(InvalidRequest, match="expected one of the file's groups"):
        reader.read(path, group="first/data/further")


def test_groups_that_can_not_be_reconstructed_are_refused_by_name(tmp_path: Path, full: KSpace) -> None:
    path = prescan(full).save(tmp_path / "scan.h5", "first")
    noise(full).save(path, "second")
    with pytest.raises(UnsupportedInput, match=r"group first: 3-D encoding.*nor can any other group.*: second"):
        reader.read(path)
    with pytest.raises(UnreadableKSpace, match=r"^expected imaging lines, got none"):
        reader.read(path, group="second")


@pytest.mark.parametrize("name", ["scan", "scan/kspace", "/scan/kspace"])
def test_samples_in_a_group_are_found_and_can_be_chosen(tmp_path: Path, full: KSpace, name: str) -> None:
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["scan/kspace"], file["other/kspace"] = full.samples, 2 * full.samples
    assert_array_equal(reader.read(tmp_path / "scan.h5", group=name).samples, full.samples)
    with pytest.raises(UnreadableKSpace, match=r"expected one dataset of k-space, got 2: other/kspace .*scan/kspace"):
        reader.read(tmp_path / "scan.h5")
