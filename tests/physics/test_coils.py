import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from kdmri.physics.coils import compress, compression_matrix


@given(st.integers(2, 8), st.floats(0.5, 1))
def test_compression_keeps_the_energy_it_was_told_to(coils: int, energy: float) -> None:
    samples = torch.randn(2, coils, 9, 7, dtype=torch.complex64, generator=torch.Generator().manual_seed(coils))
    virtual = compression_matrix(samples, energy=energy)
    assert_allclose(virtual @ virtual.mH, torch.eye(len(virtual)), atol=1e-5)
    kept = compress(samples, virtual).abs().square().sum() / samples.abs().square().sum()
    assert kept >= energy - 1e-4
    if len(virtual) > 1:
        fewer = compress(samples, virtual[:-1]).abs().square().sum() / samples.abs().square().sum()
        assert fewer < energy + 1e-4


def test_redundant_coils_compress_to_one() -> None:
    seen = torch.randn(1, 1, 8, 8, dtype=torch.complex64)
    assert len(compression_matrix(torch.cat([seen, 2j * seen, -seen], dim=1))) == 1


@given(st.integers(1, 8), st.integers(1, 12))
def test_a_chosen_number_of_virtual_coils(coils: int, wanted: int) -> None:
    samples = torch.randn(1, coils, 9, 7, dtype=torch.complex64, generator=torch.Generator().manual_seed(coils))
    virtual = compression_matrix(samples, coils=wanted)
    assert virtual.shape == (min(wanted, coils), coils)
    assert_allclose(virtual @ virtual.mH, torch.eye(len(virtual)), atol=1e-5)


@pytest.mark.parametrize("energy", [-0.5, 0, 1.5])
def test_share_of_energy_is_checked(energy: float) -> None:
    with pytest.raises(ValueError, match=rf"\(0, 1\], got {energy}"):
        compression_matrix(torch.ones(1, 2, 4, 4, dtype=torch.complex64), energy=energy)
