"""What a scanner might have written instead: a real scan, one thing of its file changed, and what that makes of it.

Laws of the formats are tested on made files beside this one; here each holds for a whole real file, too.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from numpy import ndarray
from numpy.testing import assert_allclose, assert_array_equal

from kdmri.data.kspace import KSpace
from kdmri.errors import KdmriError, UnreadableKSpace, UnsupportedInput
from kdmri.formats import nifti
from kdmri.formats.dicom import objects, original
from kdmri.formats.dicom import reader as dicom
from kdmri.formats.kspace import reader as kspace
from kdmri.physics.noise import prewhiten
from kdmri.quality import metrics
from kdmri.runtime import Reconstructor, zero_filled
from kdmri.runtime.measurement import measurements, remove_oversampling
from kdmri.runtime.model import Model
from tests.formats.kspace.mrd_files import MrdFile, flag
from tests.scans import rss

SIZE = 128
EVEN, CENTRE = np.arange(0, SIZE, 2), np.arange(52, 76)
RAW = "brain_16ch"


@pytest.fixture(scope="module")
def whole(data: Path) -> KSpace:
    """16 coils of 128 x 128, fully sampled."""
    return kspace.read(data / "kspace" / f"{RAW}.mrd.h5")


@pytest.fixture
def mrd(data: Path) -> MrdFile:
    return MrdFile.load(data / "kspace" / f"{RAW}.mrd.h5")


def measured(found: KSpace) -> ndarray:
    """Columns of which anything was measured."""
    return np.flatnonzero(found.mask.any(axis=(0, 1)))


def again(file: MrdFile, factor: complex, *flags: str, lines: slice | ndarray = slice(None), **counters: int) -> None:
    """Append lines of the file once more, times a factor, with other counters and flags."""
    chosen = np.arange(len(file.heads))[lines]
    heads = file.heads[chosen].copy()
    for name, value in counters.items():
        heads["idx"][name] = value
    file.add(heads, [factor * file.readouts[line] for line in chosen], *flags)


def keep(file: MrdFile, lines: ndarray) -> None:
    """The lines of these columns alone."""
    kept = np.flatnonzero(np.isin(file.heads["idx"]["kspace_encode_step_1"], lines))
    file.heads, file.readouts = file.heads[kept], [file.readouts[line] for line in kept]


def reordered(file: MrdFile) -> None:
    order = np.random.default_rng(0).permutation(len(file.heads))
    file.heads, file.readouts = file.heads[order], [file.readouts[line] for line in order]


def another_encoding(file: MrdFile) -> None:
    start, end = file.xml.index("<encoding>"), file.xml.index("</encoding>") + len("</encoding>")
    another = file.xml[start:end].replace("cartesian", "spiral")
    file.xml = file.xml[:end] + another + file.xml[end:]


NOT_IMAGING = (
    "IS_NAVIGATION_DATA",
    "IS_PHASECORR_DATA",
    "IS_HPFEEDBACK_DATA",
    "IS_DUMMYSCAN_DATA",
    "IS_RTFEEDBACK_DATA",
    "IS_SURFACECOILCORRECTIONSCAN_DATA",
    "IS_PHASE_STABILIZATION_REFERENCE",
    "IS_PHASE_STABILIZATION",
)
SAME: dict[str, Callable[[MrdFile], object]] = {
    "any order": reordered,
    "an average like the first": lambda file: again(file, 1, average=1),
    "another contrast": lambda file: again(file, 9, contrast=1),
    "another repetition": lambda file: again(file, 9, repetition=1),
    "another cardiac phase": lambda file: again(file, 9, phase=1),
    "another set": lambda file: again(file, 9, set=1),
    **{name: lambda file, name=name: again(file, 9, name, lines=slice(40)) for name in NOT_IMAGING},
    "harmless flags": lambda file: file.heads["flags"].__ior__(flag("LAST_IN_REPETITION", "USER3")),
    "embedded calibration": lambda file: file.heads["flags"][52:76].__ior__(
        flag("IS_PARALLEL_CALIBRATION", "IS_PARALLEL_CALIBRATION_AND_IMAGING")
    ),
    "noise of a dead coil": lambda file: again(file, 0, "IS_NOISE_MEASUREMENT", lines=slice(8)),
    "an encoding that is not used": another_encoding,
    "compressed": lambda file: file.options.update(compression="gzip"),
    "large chunks": lambda file: file.options.update(chunks=(50,)),
}


@pytest.mark.parametrize("change", SAME)
def test_the_real_k_space_stays_the_same(mrd: MrdFile, whole: KSpace, tmp_path: Path, change: str) -> None:
    SAME[change](mrd)
    found = kspace.read(mrd.save(tmp_path / "scan.h5", "measurement 1"))
    assert_allclose(found.samples, whole.samples, rtol=1e-6)
    assert_array_equal(found.mask, whole.mask)
    assert found.calibration is None


def test_a_real_contrast_repetition_or_slice_is_found(mrd: MrdFile, whole: KSpace, tmp_path: Path) -> None:
    lines = slice(SIZE)
    for counters in ({"contrast": 3}, {"repetition": 2}, {"slice": 1}):
        again(mrd, sum(counters.values()) + 1, lines=lines, **counters)
    path = mrd.save(tmp_path / "scan.h5")
    assert_array_equal(kspace.read(path).samples, np.concatenate([whole.samples, 2 * whole.samples]))
    assert_array_equal(kspace.read(path, contrast=1).samples, 4 * whole.samples)
    assert_array_equal(kspace.read(path, repetition=1).samples, 3 * whole.samples)


@pytest.mark.parametrize(("counter", "argument"), [("phase", "phase"), ("set", "set_number")])
def test_a_real_phase_or_set_is_found_and_the_others_are_counted(
    mrd: MrdFile, whole: KSpace, tmp_path: Path, counter: str, argument: str
) -> None:
    for number in (2, 7):
        again(mrd, number + 1, lines=slice(SIZE), **{counter: number})
    path = mrd.save(tmp_path / "scan.h5")
    for number, factor in ((0, 1), (1, 3), (2, 8)):
        found = kspace.read(path, **{argument: number})
        assert_array_equal(found.samples, factor * whole.samples)
        assert any(note.startswith(f"Number {number} (from 0) of 3 {counter}s") for note in found.notes)


@pytest.mark.parametrize("readout", ["alike", "shorter"])
@pytest.mark.parametrize("lines", [CENTRE, np.setdiff1d(CENTRE, EVEN)], ids=["all of the centre", "between"])
def test_real_calibration_fills_gaps_or_is_a_scan_of_its_own(
    mrd: MrdFile, whole: KSpace, tmp_path: Path, lines: ndarray, readout: str
) -> None:
    count = SIZE
    again(mrd, 1, "IS_PARALLEL_CALIBRATION", lines=lines)
    column, separate = mrd.heads["idx"]["kspace_encode_step_1"], np.arange(len(mrd.heads)) >= count
    if readout == "shorter":
        mrd.heads["number_of_samples"][separate], mrd.heads["center_sample"][separate] = 64, 32
        mrd.readouts = [r[:, 32:96] if own else r for r, own in zip(mrd.readouts, separate, strict=True)]
    kept = np.flatnonzero(separate | np.isin(column, EVEN))
    mrd.heads, mrd.readouts = mrd.heads[kept], [mrd.readouts[line] for line in kept]
    found = kspace.read(mrd.save(tmp_path / "scan.h5"))
    if readout == "alike" and not np.isin(lines, EVEN).any():
        assert found.calibration is None
        assert_array_equal(measured(found), np.union1d(EVEN, lines))
    else:
        assert found.calibration is not None
        assert_array_equal(measured(found), EVEN)
        assert_array_equal(measured(found.calibration), lines)
        rows = slice(32, 96) if readout == "shorter" else slice(None)
        assert_array_equal(found.calibration.samples[:, :, rows, lines], whole.samples[:, :, rows, lines])
    assert_array_equal(found.samples[..., EVEN], whole.samples[..., EVEN])


@pytest.mark.parametrize(
    ("field", "value"), [("kspace_encode_step_1", 999), ("slice", 3)], ids=["outside the grid", "another slice"]
)
def test_real_calibration_that_can_not_serve_is_left_out(data: Path, tmp_path: Path, field: str, value: int) -> None:
    file = MrdFile.load(data / "kspace" / "phantom_grappa_16ch.mrd.h5")
    expected = kspace.read(data / "kspace" / "phantom_grappa_16ch.mrd.h5")
    file.heads["idx"][field][file.heads["flags"] == flag("IS_PARALLEL_CALIBRATION")] = value
    found = kspace.read(file.save(tmp_path / "scan.h5"))
    assert found.calibration is None
    assert_array_equal(found.samples, expected.samples)


def test_real_repetitions_that_share_the_lines_calibrate_each_other(
    mrd: MrdFile, whole: KSpace, tmp_path: Path
) -> None:
    mrd.heads["idx"]["repetition"] = mrd.heads["idx"]["kspace_encode_step_1"] % 3
    found = kspace.read(mrd.save(tmp_path / "scan.h5"), repetition=2)
    assert_array_equal(measured(found), range(2, SIZE, 3))
    assert found.calibration is not None
    assert_array_equal(found.calibration.samples, whole.samples)


def test_noise_measured_with_a_real_scan_whitens_it(mrd: MrdFile, whole: KSpace, tmp_path: Path) -> None:
    """Its own corners are the noise: there is next to no signal."""
    corners = np.concatenate(
        [mrd.readouts[line][:, part] for line in (0, 127) for part in (slice(48), slice(80, 128))], 1
    )
    mixing = np.eye(16) + 0.3 * np.random.default_rng(0).standard_normal((16, 16))
    noise = (mixing @ corners).astype(np.complex64)
    heads = mrd.heads[:1].copy()
    heads["number_of_samples"] = noise.shape[1]
    mrd.add(heads, [noise], "IS_NOISE_MEASUREMENT")
    found = kspace.read(mrd.save(tmp_path / "scan.h5")).samples
    assert_allclose(found, prewhiten(whole.samples, noise), atol=1e-5 * np.abs(found).max())
    assert np.abs(found - whole.samples).max() > 0.01 * np.abs(found).max()


@pytest.mark.parametrize("missing", [24, 40])
def test_real_partial_fourier_puts_the_central_line_on_dc(
    mrd: MrdFile, whole: KSpace, tmp_path: Path, missing: int, models: dict[tuple[str, str], Model]
) -> None:
    """13/16 and 11/16 of the lines, numbered from the first; the network fills in the rest."""
    keep(mrd, np.arange(missing, SIZE))
    mrd.heads["idx"]["kspace_encode_step_1"] -= missing
    limits = "<maximum>{}</maximum>", "<center>{}</center>"
    for text, value in zip(limits, (127, 64), strict=True):
        assert text.format(value) in mrd.xml
        mrd.xml = mrd.xml.replace(text.format(value), text.format(value - missing))
    found = kspace.read(mrd.save(tmp_path / "scan.h5"))
    assert_array_equal(measured(found), range(missing, SIZE))
    assert_array_equal(found.samples[..., missing:], whole.samples[..., missing:])
    check_filled(found, whole, models)


@pytest.mark.parametrize("discarded", [(0, 0), (3, 2)])
def test_a_real_asymmetric_echo_is_placed_by_its_centre(
    mrd: MrdFile, whole: KSpace, tmp_path: Path, discarded: tuple[int, int], models: dict[tuple[str, str], Model]
) -> None:
    missing = 28
    mrd.readouts = [readout[:, missing:] for readout in mrd.readouts]
    mrd.heads["number_of_samples"] -= missing
    mrd.heads["center_sample"] -= missing
    mrd.heads["discard_pre"], mrd.heads["discard_post"] = discarded
    found = kspace.read(mrd.save(tmp_path / "scan.h5"))
    rows = slice(missing + discarded[0], SIZE - discarded[1])
    assert_array_equal(found.samples[:, :, rows], whole.samples[:, :, rows])
    assert_array_equal(np.flatnonzero(found.mask[0].all(axis=1)), np.arange(SIZE)[rows])
    assert found.mask.sum() == found.mask[:, rows].sum()
    check_filled(found, whole, models)


def check_filled(found: KSpace, whole: KSpace, models: dict[tuple[str, str], Model]) -> None:
    """Both roles come closer to the whole scan's image than zero-filling does."""
    truth = zero_filled(whole).pixels
    start = metrics.psnr(truth, zero_filled(found).pixels)
    for role in ("student", "teacher"):
        answer = Reconstructor(models["reconstruction", role]).reconstruct(found).pixels
        assert metrics.psnr(truth, answer) > start + 0.5


def test_a_real_readout_is_cropped_to_the_recon_field_of_view(mrd: MrdFile, whole: KSpace, tmp_path: Path) -> None:
    old = "<x>256.0</x>"
    assert mrd.xml.count(old) == 1
    mrd.xml = mrd.xml.replace(old, "<x>128.0</x>")
    found = kspace.read(mrd.save(tmp_path / "scan.h5"))
    assert found.image_shape == (64, SIZE)
    for kept in (found, remove_oversampling(found)):
        assert_allclose(rss(kept), rss(whole)[:, 32:96], atol=1e-4)


def test_a_real_scan_lies_where_its_heads_say(mrd: MrdFile, tmp_path: Path) -> None:
    """A pixel from ISMRMRD through DICOM to NIfTI: oblique, off centre, 2 mm pixels."""
    read_dir, phase_dir = np.array([[0.8, 0.6, 0], [-0.36, 0.48, 0.8]])
    centre = np.array([12.5, -40.0, 7.25])
    mrd.heads["read_dir"], mrd.heads["phase_dir"], mrd.heads["position"] = read_dir, phase_dir, centre
    found = kspace.read(mrd.save(tmp_path / "scan.h5"))
    datasets = original.create(zero_filled(found), model="test@1")
    (series,) = dicom.read([objects.to_bytes(dataset) for dataset in datasets])
    (tmp_path / "image.nii.gz").write_bytes(nifti.to_bytes(series.images))
    volume = nifti.nib.load(tmp_path / "image.nii.gz")
    corner = centre - (read_dir + phase_dir) * (SIZE - 1) / 2 * 2
    assert_allclose(datasets[0].ImagePositionPatient, corner, atol=1e-5)
    row, column = np.unravel_index(np.argmax(series.images.pixels[0]), (SIZE, SIZE))
    expected = corner + 2 * row * read_dir + 2 * column * phase_dir
    assert_allclose((volume.affine @ [row, column, 0, 1])[:3], expected * [-1, -1, 1], atol=0.01)


@pytest.mark.parametrize("name", ["read_dir", "phase_dir"])
def test_a_real_scan_without_directions_has_sizes_alone(mrd: MrdFile, tmp_path: Path, name: str) -> None:
    mrd.heads[name] = 0
    geometry = kspace.read(mrd.save(tmp_path / "scan.h5")).geometry
    assert geometry is not None
    assert (geometry.placed, geometry.spacing, geometry.thickness) == (False, (2, 2), 5)


def xml(old: str, new: str) -> Callable[[MrdFile], None]:
    def change(file: MrdFile) -> None:
        assert old in file.xml
        file.xml = file.xml.replace(old, new)

    return change


MULTIBAND = (
    "</accelerationFactor><multiband><spacing><dZ>30</dZ></spacing><deltaKz>1</deltaKz><multiband_factor>2"
    "</multiband_factor><calibration>separable2D</calibration><calibration_encoding>0</calibration_encoding></multiband>"
)
PARTITIONS = "kspace_encode_step_2"
REFUSED: dict[str, tuple[Callable[[MrdFile], object], type[KdmriError], str]] = {
    **{
        name: (
            xml("cartesian", name),
            UnsupportedInput,
            f"{name} trajectory: only Cartesian k-space is reconstructed",
        )
        for name in ("radial", "spiral", "goldenangle", "epi", "other")
    },
    "multiband": (
        xml("</accelerationFactor>", MULTIBAND),
        UnsupportedInput,
        "multiband acquisition of 2 slices at a time: only slices measured one by one are reconstructed",
    ),
    "3-D": (
        lambda file: file.heads["idx"][PARTITIONS].__setitem__(slice(None), np.arange(SIZE) % 4),
        UnsupportedInput,
        "3-D encoding with 4 second phase-encode steps: only 2-D is reconstructed",
    ),
    "reversed": (
        lambda file: file.heads["flags"][::2].__ior__(flag("IS_REVERSE")),
        UnsupportedInput,
        "reversed readouts (echo-planar, bipolar): only readouts in one direction are handled",
    ),
    "compressed": (
        lambda file: file.heads["flags"].__ior__(flag("COMPRESSION2")),
        UnsupportedInput,
        "compressed acquisitions: expected plain float32 samples",
    ),
    "lengths": (
        lambda file: file.heads["discard_pre"].__setitem__(slice(9), 4),
        UnsupportedInput,
        "expected readouts of one length, centre and number of coils, got 2 kinds",
    ),
    "NaN": (
        lambda file: file.readouts[60].__setitem__((3, 64), np.nan),
        UnreadableKSpace,
        "expected finite samples, got NaN or infinity",
    ),
    "only noise": (
        lambda file: file.heads["flags"].fill(flag("IS_NOISE_MEASUREMENT")),
        UnreadableKSpace,
        "expected imaging lines, got none among 128 acquisitions",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_real_scan_is_refused_by_name(mrd: MrdFile, tmp_path: Path, case: str) -> None:
    change, error, sentence = REFUSED[case]
    change(mrd)
    path = mrd.save(tmp_path / "scan.h5")
    with pytest.raises(error) as refusal:
        kspace.read(path)
    assert str(refusal.value) == sentence


@pytest.mark.parametrize("share", [0.001, 0.3, 0.99])
@pytest.mark.parametrize("name", [f"{RAW}.h5", f"{RAW}.mrd.h5"])
def test_a_real_file_cut_short_is_refused(data: Path, tmp_path: Path, name: str, share: float) -> None:
    content = (data / "kspace" / name).read_bytes()
    (tmp_path / "scan.h5").write_bytes(content[: int(share * len(content))])
    with pytest.raises(UnreadableKSpace, match="expected an intact HDF5 file, got one that is truncated or damaged"):
        kspace.read(tmp_path / "scan.h5")


def test_a_real_file_without_its_samples_is_refused(data: Path, tmp_path: Path) -> None:
    """The table of acquisitions is intact, the heap that it points to is not."""
    content = (data / "kspace" / f"{RAW}.mrd.h5").read_bytes()
    assert b"GCOL" in content
    (tmp_path / "scan.h5").write_bytes(content.replace(b"GCOL", b"LOST"))
    with pytest.raises(UnreadableKSpace, match="expected an intact HDF5 file, got one that is truncated or damaged"):
        kspace.read(tmp_path / "scan.h5")


@pytest.mark.parametrize("name", [f"{RAW}.h5", f"{RAW}.mrd.h5"])
def test_a_real_file_by_any_name_or_as_a_stream(data: Path, tmp_path: Path, whole: KSpace, name: str) -> None:
    disguised = tmp_path / "image.dcm"
    shutil.copyfile(data / "kspace" / name, disguised)
    with disguised.open("rb") as stream:
        for source in (disguised, stream):
            assert_allclose(kspace.read(source).samples, whole.samples, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", [f"{RAW}.h5", f"{RAW}.mrd.h5"])
def test_a_real_file_over_the_limit_is_refused(data: Path, name: str) -> None:
    with pytest.raises(UnsupportedInput, match=r"expected at most 0\.000931 GiB of k-space, got 0\.00195 GiB"):
        kspace.read(data / "kspace" / name, max_bytes=10**6)


@pytest.mark.parametrize("kind", ["soft", "external", "virtual", "storage"])
def test_a_file_that_leads_to_a_real_scan_is_refused(data: Path, tmp_path: Path, kind: str) -> None:
    """It could lead to any file that this process may read."""
    scan, shape = data / "kspace" / f"{RAW}.h5", (1, 16, SIZE, SIZE)
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        if kind == "storage":
            file.create_dataset("kspace", shape, np.complex64, external=[(str(scan), 0, h5py.h5f.UNLIMITED)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout(shape, np.complex64)
            layout[...] = h5py.VirtualSource(scan, "kspace", shape, np.complex64)
            file.create_virtual_dataset("kspace", layout)
        else:
            file["elsewhere" if kind == "soft" else "kspace"] = h5py.ExternalLink(str(scan), "kspace")
            if kind == "soft":
                file["kspace"] = h5py.SoftLink("/elsewhere")
        assert file["kspace"].shape == shape
    with pytest.raises(UnreadableKSpace, match=r"got a (link to elsewhere|dataset that refers to other files)"):
        kspace.read(tmp_path / "scan.h5")


# fastMRI


@pytest.fixture
def edited(data: Path, tmp_path: Path) -> Callable[..., Path]:
    """A real file with some of its datasets replaced, or taken out where None, and its header's text changed."""

    def save(*texts: tuple[str, str], name: str = RAW, **datasets: object) -> Path:
        path = tmp_path / "scan.h5"
        shutil.copyfile(data / "kspace" / f"{name}.h5", path)
        path.chmod(0o600)
        with h5py.File(path, "a") as file:
            xml = file["ismrmrd_header"][()].decode()
            for old, new in texts:
                assert old in xml
                xml = xml.replace(old, new)
            for key, dataset in {**datasets, "ismrmrd_header": datasets.get("ismrmrd_header", xml)}.items():
                if key in file:
                    del file[key]
                if dataset is not None:
                    file[key] = dataset
        return path

    return save


LINES = np.isin(np.arange(SIZE), [*range(0, SIZE, 4), *range(58, 70)])
SPOTS = LINES ^ (np.add.outer(np.arange(SIZE), np.arange(SIZE)) % 3 == 0)


@pytest.mark.parametrize(
    "mask", [LINES, LINES.astype(np.uint8), LINES.astype(np.float32), SPOTS, SPOTS.astype(float), SPOTS[np.newaxis]]
)
def test_a_mask_given_with_a_real_scan_is_taken(edited: Callable[..., Path], whole: KSpace, mask: ndarray) -> None:
    found = kspace.read(edited(mask=mask))
    assert_array_equal(found.mask, np.broadcast_to(mask != 0, (1, SIZE, SIZE)))
    assert_allclose(found.samples, whole.samples * (mask != 0), rtol=1e-5, atol=1e-7)


def test_zero_columns_of_a_real_scan_were_not_measured(edited: Callable[..., Path], whole: KSpace) -> None:
    samples = whole.samples * LINES
    samples[0, :, 7, 64] = 0  # a sample may be zero
    assert_array_equal(measured(kspace.read(edited(kspace=samples))), np.flatnonzero(LINES))
    assert kspace.read(edited(kspace=samples)).mask[0, 7, 64]


@pytest.mark.parametrize("mask", [None, np.ones(SIZE, np.uint8)], ids=["read off", "given"])
def test_padding_of_a_real_scan_was_not_measured(
    edited: Callable[..., Path], whole: KSpace, mask: ndarray | None
) -> None:
    """fastMRI's rule: columns / 2 - centre is the padding on the left, and what the limits leave that on the right."""
    limits = ("<maximum>127</maximum>", "<maximum>99</maximum>"), ("<center>64</center>", "<center>50</center>")
    found = kspace.read(edited(*limits, mask=mask))
    assert_array_equal(measured(found), range(14, 114))
    assert_allclose(found.samples, whole.samples * np.isin(np.arange(SIZE), range(14, 114)), rtol=1e-5, atol=1e-7)


def test_a_real_scan_is_cropped_as_its_own_reconstruction_would_be(edited: Callable[..., Path]) -> None:
    """By the recon space, as fastMRI's transforms do; `reconstruction_*` isn't read."""
    path = edited()
    with h5py.File(path) as file:
        theirs = file["reconstruction_rss"][()]
        xml = file["ismrmrd_header"][()].decode()
    before, after = xml.split("<reconSpace>")
    cropped = f"{before}<reconSpace>{after.replace('<x>128<', '<x>96<').replace('<y>128<', '<y>80<')}"
    nonsense = np.full((1, 3, 3), np.nan, np.float32)
    path = edited(ismrmrd_header=cropped, reconstruction_rss=nonsense)
    found = zero_filled(kspace.read(path)).pixels
    assert found.shape == (1, 96, 80)
    expected = theirs[:, 16:-16, 24:-24]
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99


def test_a_real_scan_narrower_than_its_recon_space_keeps_its_columns(
    edited: Callable[..., Path], whole: KSpace
) -> None:
    found = kspace.read(edited(kspace=whole.samples[..., 16:-16]))
    assert found.image_shape == (SIZE, 96)
    assert_array_equal(found.samples, whole.samples[..., 16:-16])


def test_a_real_single_coil_scan_in_other_precisions(data: Path, edited: Callable[..., Path]) -> None:
    plain = kspace.read(data / "kspace" / "brain_sagittal_1ch.h5").samples
    assert plain.shape == (1, 1, 256, 256)
    for dtype in (np.complex128, ">c8"):
        found = kspace.read(edited(name="brain_sagittal_1ch", kspace=plain[:, 0].astype(dtype))).samples
        assert found.dtype == np.complex64
        assert_array_equal(found, plain)


def test_the_sizes_of_real_pixels_are_told_by_the_header(data: Path) -> None:
    geometry = kspace.read(data / "kspace" / f"{RAW}.h5").geometry
    assert geometry is not None
    assert (geometry.placed, geometry.spacing, geometry.thickness) == (False, (2, 2), 5)


@pytest.mark.parametrize("name", ["x" * 65, "Two\\names", ""])
def test_what_dicom_does_not_take_of_a_real_header_is_left_out(mrd: MrdFile, tmp_path: Path, name: str) -> None:
    old = "<acquisitionSystemInformation>"
    xml(old, TOLD.replace("Doe^Jane", name) + old)(mrd)
    assert kspace.read(mrd.save(tmp_path / "scan.h5")).patient_and_study == {"PatientID": "7"}


SHAPE = "expected complex k-space (slice, coil, row, column)"
NOTHING = "expected measured samples, got none: the mask or all of the k-space is zero"
TOLD = "<subjectInformation><patientName>Doe^Jane</patientName><patientID>7</patientID></subjectInformation>"


@pytest.mark.parametrize("layout", ["fastmri", "mrd"])
def test_a_patient_in_a_real_header_is_carried(
    layout: str, mrd: MrdFile, edited: Callable[..., Path], tmp_path: Path
) -> None:
    old = "<acquisitionSystemInformation>"
    if layout == "mrd":
        xml(old, TOLD + old)(mrd)
        path = mrd.save(tmp_path / "mrd.h5")
    else:
        path = edited((old, TOLD + old))
    assert kspace.read(path).patient_and_study == {"PatientName": "Doe^Jane", "PatientID": "7"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda k: {"kspace": k.real},
            f"{SHAPE}, got float32 (1, 16, 128, 128)",
        ),
        (lambda k: {"kspace": 0 * k}, NOTHING),
        (
            lambda k: {"mask": np.zeros(SIZE)},
            NOTHING,
        ),
        (
            lambda k: {"kspace": np.where(k == k[0, 3, 4, 5], np.inf, k)},
            f"{SHAPE} of finite single-precision samples, got NaN or infinity",
        ),
    ],
    ids=["real", "zero", "empty mask", "infinite"],
)
def test_a_real_fastmri_scan_is_refused_by_name(
    edited: Callable[..., Path], whole: KSpace, change: Callable[[ndarray], dict[str, ndarray]], sentence: str
) -> None:
    with pytest.raises(UnreadableKSpace) as refusal:
        kspace.read(edited(**change(whole.samples)))
    assert str(refusal.value) == sentence


# What is made of it


def test_a_full_real_scan_is_answered_with_its_plain_image(whole: KSpace, models: dict[tuple[str, str], Model]) -> None:
    for role in ("student", "teacher"):
        found = Reconstructor(models["reconstruction", role]).reconstruct(whole).pixels
        assert_allclose(found, zero_filled(whole).pixels, atol=1e-4 * found.max())


@pytest.mark.parametrize("missing", [5, 63, 64, 65])
def test_a_line_that_a_real_scan_lacks_is_filled(
    whole: KSpace, missing: int, models: dict[tuple[str, str], Model]
) -> None:
    mask = np.arange(SIZE)[np.newaxis, np.newaxis] != missing
    kept = KSpace(whole.samples * mask, np.broadcast_to(mask, (1, SIZE, SIZE)), whole.image_shape)
    truth, start = zero_filled(whole).pixels, zero_filled(kept).pixels
    for role in ("student", "teacher"):
        found = Reconstructor(models["reconstruction", role]).reconstruct(kept).pixels
        assert np.linalg.norm(found - truth) < 0.7 * np.linalg.norm(start - truth)


@pytest.mark.parametrize(("coils", "kept"), [(None, 10), (3, 3), (40, 16)])
def test_a_real_scan_with_a_chosen_number_of_coils(whole: KSpace, coils: int | None, kept: int) -> None:
    measured = next(measurements(whole, torch.device("cpu"), coils=coils)).acquisition
    assert measured.samples.shape == measured.sensitivities.shape == (1, kept, SIZE, SIZE)


def test_real_coils_without_a_centre_are_refused(
    data: Path, tmp_path: Path, models: dict[tuple[str, str], Model]
) -> None:
    file = MrdFile.load(data / "kspace" / "phantom_grappa_16ch.mrd.h5")
    imaging = np.flatnonzero((file.heads["flags"] & flag("IS_PARALLEL_CALIBRATION")) == 0)
    file.heads, file.readouts = file.heads[imaging], [file.readouts[line] for line in imaging]
    found = kspace.read(file.save(tmp_path / "scan.h5"))
    sentence = "several coils: expected a fully sampled centre of at least 4 x 4 samples to calibrate them, got 64 x 1"
    with pytest.raises(UnsupportedInput) as refusal:
        Reconstructor(models["reconstruction", "student"]).reconstruct(found)
    assert str(refusal.value) == sentence
