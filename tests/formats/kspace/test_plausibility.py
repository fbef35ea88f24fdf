"""Sizes that no scanner has are warned of, and those of real scans are not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kdmri.data.geometry import Geometry
from kdmri.data.kspace import KSpace
from kdmri.formats.kspace import reader
from kdmri.formats.kspace.plausibility import implausible_sizes
from kdmri.operations.reconstruction import ReconstructionInput
from tests.shared_data import ABSENT, DATA

FILES = sorted((DATA / "kspace").glob("*.h5"))


def scan_of(coils: int, rows: int, columns: int, spacing: tuple[float, float] = (1.0, 1.0)) -> KSpace:
    """Return a scan of one slice with these sizes."""
    geometry = Geometry(np.zeros((1, 3)), np.eye(3)[:2], spacing, 1.0)
    samples = np.ones((1, coils, rows, columns), np.complex64)
    return KSpace(samples, np.ones((1, rows, columns), bool), (rows, columns), geometry)


@pytest.mark.parametrize(("coils", "rows", "columns"), [(128, 128, 16), (64, 16, 64), (17, 16, 16)])
def test_more_coils_than_samples_on_a_side_are_warned_of(coils: int, rows: int, columns: int) -> None:
    (sentence,) = implausible_sizes(scan_of(coils, rows, columns))
    assert f"{coils} coils with {rows} x {columns} samples" in sentence


@pytest.mark.parametrize("unit", [1e-3, 1e3, 1e-6])
def test_sizes_in_another_unit_are_warned_of(unit: float) -> None:
    (sentence,) = implausible_sizes(scan_of(8, 64, 64, (3.5 * unit, 3.5 * unit)))
    assert f"{64 * 3.5 * unit:g} x {64 * 3.5 * unit:g} mm" in sentence


@pytest.mark.parametrize(("coils", "side", "spacing"), [(1, 16, 0.1), (32, 64, 3.5), (64, 320, 0.7), (8, 256, 3.9)])
def test_plausible_scans_are_not(coils: int, side: int, spacing: float) -> None:
    assert implausible_sizes(scan_of(coils, side, side, (spacing, spacing))) == ()


def test_a_scan_without_sizes_is_judged_by_its_shape_alone() -> None:
    assert implausible_sizes(replace(scan_of(8, 64, 64), geometry=None)) == ()


@pytest.mark.skipif(not FILES, reason=ABSENT)
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_real_scans_are_plausible(file: Path) -> None:
    assert implausible_sizes(reader.read(file)) == ()


def test_the_answer_says_so() -> None:
    assert any("swapped" in note for note in ReconstructionInput(scan_of(128, 128, 16)).notes)
