"""Images super-resolved from MR DICOM as derived objects: one for each source instance, in a new series."""

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from highdicom.sr import CodedConcept
from jaxtyping import Bool, Float32, Float64, Int16
from numpy import ndarray
from pydicom import Dataset, uid
from pydicom.sr.codedict import codes

from kdmri import __version__
from kdmri.formats.dicom.attributes import frame_count, image_type, is_enhanced, numbers
from kdmri.formats.dicom.enhanced import describe_frames
from kdmri.formats.dicom.identity import content_digest, derived_uid, free_series_number, is_legal_uid
from kdmri.formats.dicom.leniency import lenient_pydicom
from kdmri.formats.dicom.numbers import decimals, several
from kdmri.formats.dicom.objects import Provenance, identify, with_suffix, write_pixels
from kdmri.formats.dicom.quantities import carry_scale_slope, real_world_mappings, rescale_type
from kdmri.formats.dicom.reader import DicomSeries
from kdmri.formats.dicom.stale import drop_stale
from kdmri.formats.dicom.stored_values import stored_values
from kdmri.formats.dicom.tiles import WORDS as TILED
from kdmri.formats.dicom.windows import window

DESCRIPTION = "AI {scale}x kdmri"
"""Suffix of the series description. It does not say SR: in a PACS that is a structured report."""
# LossyImageCompression states that data were lost at some time: it stays true of what is derived (PS3.3 C.7.6.1.1.5).
LOSSY = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLSNearLossless)


@lenient_pydicom()
def derive(
    groups: Sequence[DicomSeries],
    pixels: Sequence[Float32[ndarray, "slice R C"]],
    *,
    scale: int,
    model: str,
    description: str = DESCRIPTION,
) -> list[Dataset]:
    """Write images on a finer grid as derived objects, one for each source instance, in one new series a series.

    A new series belongs to its source's study, and has one rescale and one window even where its slices are of several
    sizes or orientations, and so of several groups. The identity of the objects follows from the sources, the model and
    the scale: the same request gets the same UIDs again.

    Args:
        groups: series as the reader returned them.
        pixels: the finer images of each group, in the units of its images.
        scale: ratio of the grids; the answer has scale x rows and columns.
        model: the model that made them, NAME@VERSION.
        description: suffix of the series description; `{scale}` in it stands for the scale.

    Returns:
        The objects, series by series.

    Raises:
        UnsupportedInput: pixels are not finite, or more than DICOM's 65535 a side.
    """
    outputs = []
    taken = {number for group in groups for header in group.headers if (number := _series_number(header))}
    # By series and not by group: slices of several sizes or orientations stay together, as in the source.
    for source in dict.fromkeys(_series_of(group.headers[0]) for group in groups):
        parts = [index for index, group in enumerate(groups) if _series_of(group.headers[0]) == source]
        for index in parts:
            count, rows, columns = groups[index].images.pixels.shape
            # A fault of the caller and not of the upload, so a ValueError and no KdmriError.
            if pixels[index].shape != (count, rows * scale, columns * scale):
                expected = (count, rows * scale, columns * scale)
                raise ValueError(f"expected pixels {expected}, got {pixels[index].shape}")
        first = groups[parts[0]].headers[0]
        number = free_series_number(_series_number(first), taken)
        taken.add(number)
        masks = [_refined_padding(groups[index], scale) for index in parts]
        # One rescale and one window for the series: slices with different ones would flicker when a viewer scrolls.
        stacks, rescale = stored_values([pixels[index] for index in parts], masks)
        headers = [header for index in parts for header in groups[index].headers]
        rescale.RescaleType = rescale_type(headers)
        # A backslash in a description, which makes two values of it, is a common fault of writers.
        name = " ".join(map(str, several(first.get("SeriesDescription"))))
        provenance = Provenance(
            model=model,
            sentence=f"Super-resolution {scale}x by kdmri {__version__}, model {model}.",
            series_uid=derived_uid(*source, model, __version__, str(scale)),
            series_number=number,
            series_description=with_suffix(name, description.format(scale=scale)),
            rescale=rescale,
            window=window([pixels[index] for index in parts], headers),
            when=datetime.now().astimezone(),
        )
        used: Counter[str] = Counter()
        for index, stored in zip(parts, stacks, strict=True):
            for part in _parts(groups[index], stored, scale):
                outputs.append(_derived_object(part, scale, provenance, used))
    return outputs


# --- a series, an object ---


@dataclass(frozen=True)
class _Part:
    """One source instance and its new pixels."""

    header: Dataset
    stored: Int16[ndarray, "frame R C"]
    positions: Float64[ndarray, "frame 3"] | None
    """New ImagePositionPatient in mm; None where the source has no plane."""
    numbers: tuple[int, ...]
    """Frame numbers in the source instance, from 1."""
    padding: Bool[ndarray, "frame R C"] | None
    digest: str
    """Tells instances apart that share a UID."""


def _series_of(header: Dataset) -> tuple[str, str]:
    """Return study and series UID: an anonymiser may write one series UID into several studies."""
    return str(header.get("StudyInstanceUID", "")), str(header.get("SeriesInstanceUID", ""))


def _series_number(header: Dataset) -> int | None:
    number = header.get("SeriesNumber")
    return int(number) if isinstance(number, int) else None


def _refined_padding(group: DicomSeries, scale: int) -> Bool[ndarray, "slice R C"] | None:
    """Return where the finer images of a group are padding."""
    return None if group.padding is None else group.padding.repeat(scale, axis=1).repeat(scale, axis=2)


def _parts(group: DicomSeries, stored: Int16[ndarray, "slice R C"], scale: int) -> Iterator[_Part]:
    """Cut a stack of new pixels into the source's instances.

    Args:
        group: slices as the reader returned them, with one header for each instance.
        stored: stored values of the finer slices, in the same order.
        scale: ratio of the grids.
    """
    geometry = group.images.geometry
    positions = geometry.refine(scale).positions if geometry else None
    padding = _refined_padding(group, scale)
    end = 0
    for index, header in enumerate(group.headers):
        start, end = end, end + frame_count(header)
        frames = slice(start, end)
        yield _Part(
            header=header,
            stored=stored[frames],
            positions=None if positions is None else positions[frames],
            numbers=group.frames[index] if group.frames else tuple(range(1, frame_count(header) + 1)),
            padding=None if padding is None else padding[frames],
            digest=content_digest(group.images.pixels[frames]),
        )


def _derived_object(part: _Part, scale: int, provenance: Provenance, used: Counter[str]) -> Dataset:
    """Return a copy of the source's attributes about the new pixels.

    Args:
        part: the source instance and its new pixels.
        scale: ratio of the grids.
        provenance: values that all objects of the new series share.
        used: how often each UID of the new series was given; this call counts its own.
    """
    header = part.header
    dataset = copy.deepcopy(header)
    drop_stale(dataset)
    # Pixels and frame numbers are part of the name: two halves of one instance, or two that share a UID, must differ.
    names = (provenance.series_uid, str(header.SOPInstanceUID), *map(str, part.numbers), part.digest)
    instance_uid = derived_uid(*names)
    # Copies of one instance that differ in their headers only have one digest: they are numbered in their order.
    used[instance_uid] += 1
    if used[instance_uid] > 1:
        instance_uid = derived_uid(*names, f"copy {used[instance_uid]}")
    identify(dataset, instance_uid, provenance)
    write_pixels(dataset, part.stored, part.padding)
    if header.file_meta.TransferSyntaxUID in LOSSY:
        dataset.LossyImageCompression = "01"
    if is_enhanced(header):
        _describe_enhanced(dataset, part, scale, provenance)
    else:
        _describe_classic(dataset, part, scale, provenance)
    return dataset


def _describe_enhanced(dataset: Dataset, part: _Part, scale: int, provenance: Provenance) -> None:
    # RESEARCH: the images are the work of a network and no product for diagnosis.
    slope = float(provenance.rescale.RescaleSlope)
    dataset.ContentQualification = "RESEARCH"
    describe_frames(
        dataset,
        scale=scale,
        positions=part.positions,
        rescale=copy.deepcopy(provenance.rescale),
        window=copy.deepcopy(provenance.window),
        derivations=[_derivation(part.header, provenance, number) for number in part.numbers],
        mappings=[real_world_mappings(part.header, frame, slope) for frame in range(len(part.numbers))],
    )
    for frame, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        carry_scale_slope(part.header, frame, groups, slope)
    if all(map(is_legal_uid, (part.header.SOPInstanceUID, *_series_of(part.header)))):
        dataset.SourceImageEvidenceSequence = [_evidence(part.header)]


def _describe_classic(dataset: Dataset, part: _Part, scale: int, provenance: Provenance) -> None:
    slope = float(provenance.rescale.RescaleSlope)
    terms = [term for term in image_type(part.header, 0)[2:] if term not in TILED]
    dataset.ImageType = ["DERIVED", "SECONDARY", *(terms or ["OTHER"])]
    for item in (provenance.rescale, provenance.window, _derivation(part.header, provenance, None)):
        dataset.update(copy.deepcopy(item))
    spacing = numbers(part.header, "PixelSpacing", 0, 2)
    if spacing is not None:
        dataset.PixelSpacing = decimals(value / scale for value in spacing)
    if part.positions is not None:
        dataset.ImagePositionPatient = decimals(part.positions[0])
    carry_scale_slope(part.header, 0, dataset, slope)
    if mappings := real_world_mappings(part.header, 0, slope):
        dataset.RealWorldValueMappingSequence = mappings


# --- sequences ---


def _derivation(header: Dataset, provenance: Provenance, frame: int | None) -> Dataset:
    """Describe how and from what an image was made: an item of DerivationImageSequence, or part of a classic image.

    Args:
        header: the source's attributes.
        provenance: values that all objects of the new series share.
        frame: number of the source frame, from 1; None for an instance of one frame.
    """
    item = Dataset()
    item.DerivationDescription = provenance.sentence
    item.DerivationCodeSequence = [CodedConcept.from_code(codes.DCM.SpatialResampling)]
    # A reference to an illegal UID is an error of its own in the answer: an archive may refuse the object for it.
    if is_legal_uid(header.SOPInstanceUID):
        source = _reference(header)
        if frame is not None:
            source.ReferencedFrameNumber = frame
        # A slice that was unpacked lies elsewhere than the header of the tiled image places its pixels.
        source.SpatialLocationsPreserved = "NO" if set(TILED) & set(image_type(header, 0)) else "YES"
        item.SourceImageSequence = [source]
    return item


def _reference(header: Dataset) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = header.SOPClassUID
    reference.ReferencedSOPInstanceUID = header.SOPInstanceUID
    purpose = CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)
    reference.PurposeOfReferenceCodeSequence = [purpose]
    return reference


def _evidence(header: Dataset) -> Dataset:
    """Return study, series and instance in which the source of an Enhanced MR image is found."""
    series, study = Dataset(), Dataset()
    series.SeriesInstanceUID = header.SeriesInstanceUID
    series.ReferencedSOPSequence = [_reference(header)]
    study.StudyInstanceUID = header.StudyInstanceUID
    study.ReferencedSeriesSequence = [series]
    return study
