"""Images to MR DICOM: super-resolved ones derived from a source series, reconstructed ones as a study of their own."""

import copy
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pydicom
from highdicom import ContributingEquipment
from highdicom.sr import CodedConcept
from jaxtyping import Float32, Float64, Int16
from numpy import ndarray
from pydicom import Dataset, uid
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes

from kdmri import __version__
from kdmri.data.geometry import Geometry
from kdmri.data.images import Images
from kdmri.data.patient import PatientAndStudy
from kdmri.errors import UnsupportedInput
from kdmri.formats.dicom.attributes import frame_count, image_type, is_enhanced
from kdmri.formats.dicom.enhanced import describe_frames
from kdmri.formats.dicom.grey import decimals, stored_values, window
from kdmri.formats.dicom.leniency import lenient_pydicom
from kdmri.formats.dicom.reader import DicomSeries

LARGEST_SIDE = 2**16 - 1
"""Rows and Columns are 16 bit."""
NOTICE = "Machine-made image: not for diagnosis without review"
STALE = (
    "IconImageSequence",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
    "RealWorldValueMappingSequence",
    "VOILUTSequence",
    "VOILUTFunction",
    "WindowCenterWidthExplanation",
    "DigitalSignaturesSequence",
    "MACParametersSequence",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "DataSetTrailingPadding",
)
"""What holds for the source's stored values or bytes only. Overlays, curves and private elements go as well."""

SAFE_PRIVATE = (
    (0x0019, "SIEMENS MR HEADER", (0x0C, 0x0D, 0x0E, 0x27)),
    (0x0043, "GEMS_PARM_01", (0x39,)),
    (0x2001, "Philips Imaging DD 001", (0x03, 0x04)),
)
"""b-values and gradient directions, from PS3.15 table E.3.10-1: without them a diffusion series is worth nothing."""

LOSSY = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLSNearLossless)


@dataclass(frozen=True)
class _Making:
    """What all objects of one answer share."""

    model: str
    sentence: str
    rescale: Dataset
    window: Dataset
    series_uid: str
    when: datetime


@lenient_pydicom()
def super_resolved(
    groups: Sequence[DicomSeries], pixels: Sequence[Float32[ndarray, "slice R C"]], *, scale: int, model: str
) -> list[Dataset]:
    """What `dicom.read` gave on a grid `scale` times finer: one object for each header, a new series for each series.

    The new series is of the same study, and has one rescale and one window even where its slices are of several sizes
    or orientations, and so of several `groups`. `pixels` are in the units of each group's images, `model` is
    NAME@VERSION.

    Raises UnsupportedInput for pixels that are not finite or more than DICOM's 65535 a side.
    """
    outputs = []
    for source in dict.fromkeys(group.headers[0].SeriesInstanceUID for group in groups):
        parts = [index for index, group in enumerate(groups) if group.headers[0].SeriesInstanceUID == source]
        outputs += _one_series([groups[index] for index in parts], [pixels[index] for index in parts], scale, model)
    return outputs


@lenient_pydicom()
def reconstructed(
    images: Images, *, model: str, patient_and_study: PatientAndStudy | None = None, acceleration: float | None = None
) -> list[Dataset]:
    """Images made from k-space as MR Image Storage, one object a slice, in a series of their own.

    `patient_and_study` holds what the file of the k-space states: patient, study, frame of reference, protocol. What
    it doesn't say stays empty; the study is then a new one and the patient anonymous. ORIGINAL\\PRIMARY, for they are
    made from measurements and not from other images (PS3.3 C.7.6.1.1.2). Without a geometry the pixels are 1 mm and
    the slices axial, one above the other. ImageComments says what of it is made up.

    Raises UnsupportedInput for pixels that are not finite or more than DICOM's 65535 a side.
    """
    (stored,), rescale = stored_values([images.pixels])
    factor = f" (acceleration {acceleration:.3g})" if acceleration else ""
    sentence = f"Reconstructed from k-space{factor} by kdmri {__version__}, model {model}."
    when = datetime.now().astimezone()
    making = _Making(model, sentence, rescale, window([images.pixels]), _new_uid(), when)
    geometry = images.geometry or Geometry.from_sizes(len(stored), images.pixels.shape[1:], (1.0, 1.0), 1.0)
    made_up = "" if images.geometry else ", pixel size"
    study = _study(patient_and_study or PatientAndStudy(), when, placed=geometry.placed)
    name = _suffixed(study.get("SeriesDescription") or study.get("ProtocolName") or "", " kdmri reconstruction")
    outputs = []
    for index, (position, image) in enumerate(zip(geometry.positions, stored, strict=True)):
        dataset = copy.deepcopy(study)
        dataset.InstanceNumber = index + 1
        dataset.ImagePositionPatient = decimals(position)
        dataset.ImageOrientationPatient = decimals(geometry.orientation.ravel())
        dataset.PixelSpacing = decimals(geometry.spacing)
        dataset.SliceThickness = decimals([geometry.thickness])[0]
        dataset.update(copy.deepcopy(making.rescale))
        dataset.update(copy.deepcopy(making.window))
        _identify(dataset, making, name)
        _write_pixels(dataset, image[None])
        if not geometry.placed:
            dataset.ImageComments += f"\r\nPosition, orientation{made_up} are unknown: those given are made up"
        outputs.append(dataset)
    return outputs


@lenient_pydicom()
def to_bytes(dataset: Dataset) -> bytes:
    """The object as a Part 10 file, Explicit VR Little Endian."""
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


# --- a series, an object ---


def _one_series(
    groups: Sequence[DicomSeries], pixels: Sequence[Float32[ndarray, "slice R C"]], scale: int, model: str
) -> list[Dataset]:
    """`super_resolved` of the groups of one series."""
    for group, finer in zip(groups, pixels, strict=True):
        count, rows, columns = group.images.pixels.shape
        if finer.shape != (count, rows * scale, columns * scale):
            raise ValueError(f"expected pixels {(count, rows * scale, columns * scale)}, got {finer.shape}")
    stored, rescale = stored_values(pixels)
    sentence = f"Super-resolution {scale}x by kdmri {__version__}, model {model}."
    shown = window(pixels, [header for group in groups for header in group.headers])
    making = _Making(model, sentence, rescale, shown, _new_uid(), datetime.now().astimezone())
    outputs = []
    for group, values in zip(groups, stored, strict=True):
        geometry = group.images.geometry
        positions = geometry.refine(scale).positions if geometry else None
        end = 0
        for index, header in enumerate(group.headers):
            start, end = end, end + frame_count(header)
            numbers = group.frames[index] if group.frames else tuple(range(1, frame_count(header) + 1))
            moved = positions[start:end] if positions is not None else None
            outputs.append(_derived(header, values[start:end], moved, scale, numbers, making))
    return outputs


def _derived(
    header: Dataset,
    stored: Int16[ndarray, "frame R C"],
    positions: Float64[ndarray, "frame 3"] | None,
    scale: int,
    numbers: Sequence[int],
    making: _Making,
) -> Dataset:
    """A copy of `header` about the new pixels; `numbers` are its frames in the source instance."""
    dataset = copy.deepcopy(header)
    _forget(dataset)
    _identify(dataset, making, _suffixed(header.get("SeriesDescription") or "", f" SR {scale}x"))
    _write_pixels(dataset, stored)
    if header.file_meta.TransferSyntaxUID in LOSSY:
        dataset.LossyImageCompression = "01"
    if is_enhanced(header):
        dataset.ContentQualification = "RESEARCH"
        derivations = [_derivation(header, making, number) for number in numbers]
        describe_frames(
            dataset,
            scale=scale,
            positions=positions,
            rescale=copy.deepcopy(making.rescale),
            window=copy.deepcopy(making.window),
            derivations=derivations,
        )
        dataset.SourceImageEvidenceSequence = [_evidence(header)]
        return dataset
    dataset.ImageType = ["DERIVED", "SECONDARY", *(image_type(header, 0)[2:] or ["OTHER"])]
    for item in (making.rescale, making.window, _derivation(header, making, None)):
        dataset.update(copy.deepcopy(item))
    if header.get("PixelSpacing"):
        dataset.PixelSpacing = decimals(spacing / scale for spacing in map(float, header.PixelSpacing))
    if positions is not None:
        dataset.ImagePositionPatient = decimals(positions[0])
    return dataset


def _forget(dataset: Dataset) -> None:
    """Drop what holds for the old pixels only; see `STALE` and `SAFE_PRIVATE`."""
    safe = [
        (group, creator, offset, dataset.private_block(group, creator)[offset])
        for group, creator, offsets in SAFE_PRIVATE
        if creator in dataset.private_creators(group)
        for offset in offsets
        if offset in dataset.private_block(group, creator)
    ]
    dataset.remove_private_tags()
    for group, creator, offset, element in safe:
        dataset.private_block(group, creator, create=True).add_new(offset, element.VR, element.value)
    for tag in list(dataset.keys()):
        is_overlay_or_curve = tag.group >> 8 in (0x50, 0x60)
        if is_overlay_or_curve or keyword_for_tag(tag) in STALE:
            del dataset[tag]


def _identify(dataset: Dataset, making: _Making, series_description: str) -> None:
    """New instance, new series, made now by us."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.SOPInstanceUID = _new_uid()
    dataset.SeriesInstanceUID = making.series_uid
    dataset.SeriesDescription = series_description.strip()
    for name in ("Series", "Content", "InstanceCreation"):
        setattr(dataset, f"{name}Date", making.when.strftime("%Y%m%d"))
        setattr(dataset, f"{name}Time", making.when.strftime("%H%M%S.%f"))
    dataset.ImageComments = "\r\n".join(filter(None, (NOTICE, dataset.get("ImageComments"))))
    name, _, version = making.model.partition("@")
    equipment = ContributingEquipment(
        "kdmri",
        codes.DCM.ProcessingEquipment,
        manufacturer_model_name=name,
        software_versions=[__version__, version] if version else __version__,
        contribution_datetime=making.when,
        contribution_description=making.sentence,
    )
    dataset.ContributingEquipmentSequence = [*dataset.get("ContributingEquipmentSequence", ()), equipment]


def _write_pixels(dataset: Dataset, stored: Int16[ndarray, "frame R C"]) -> None:
    if max(stored.shape[1:]) > LARGEST_SIDE:
        raise UnsupportedInput(f"expected an answer of at most {LARGEST_SIDE} rows and columns, got {stored.shape[1:]}")
    dataset.Rows, dataset.Columns = stored.shape[1:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    if "PresentationLUTShape" in dataset:
        dataset.PresentationLUTShape = "IDENTITY"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.add_new("SmallestImagePixelValue", "SS", int(stored.min()))
    dataset.add_new("LargestImagePixelValue", "SS", int(stored.max()))
    dataset.add_new("PixelData", "OW", stored.astype("<i2").tobytes())


# --- sequences ---


def _derivation(header: Dataset, making: _Making, frame: int | None) -> Dataset:
    """How and from what: an item of DerivationImageSequence, or part of a classic image."""
    item = Dataset()
    item.DerivationDescription = making.sentence
    item.DerivationCodeSequence = [CodedConcept.from_code(codes.DCM.SpatialResampling)]
    source = _reference(header)
    if frame is not None:
        source.ReferencedFrameNumber = frame
    source.SpatialLocationsPreserved = "YES"
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
    """Where the source of an Enhanced MR image is kept: study, series, instance."""
    series, study = Dataset(), Dataset()
    series.SeriesInstanceUID = header.SeriesInstanceUID
    series.ReferencedSOPSequence = [_reference(header)]
    study.StudyInstanceUID = header.StudyInstanceUID
    study.ReferencedSeriesSequence = [series]
    return study


def _study(patient_and_study: PatientAndStudy, when: datetime, *, placed: bool) -> Dataset:
    """What every image of a series made from k-space says."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = uid.MRImageStorage
    dataset.Modality = "MR"
    dataset.Manufacturer = "kdmri"
    dataset.PatientName = "Anonymous"
    for keyword in ("PatientID", "PatientBirthDate", "PatientSex", "ReferringPhysicianName", "AccessionNumber"):
        setattr(dataset, keyword, "")
    dataset.StudyInstanceUID, dataset.StudyDate, dataset.StudyTime, dataset.StudyID = _new_uid(), "", "", ""
    if "StudyInstanceUID" not in patient_and_study:
        dataset.StudyDate, dataset.StudyTime = when.strftime("%Y%m%d"), when.strftime("%H%M%S.%f")
    dataset.SeriesNumber = 1
    dataset.PositionReferenceIndicator, dataset.PatientPosition, dataset.Laterality = "", "", ""
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    # Type 1 in MR Image Storage, and k-space files do not say it: RM is "research mode".
    dataset.ScanningSequence, dataset.SequenceVariant = "RM", "NONE"
    for keyword in ("ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime", "EchoTrainLength"):
        setattr(dataset, keyword, None)
    for keyword, value in patient_and_study.items():
        setattr(dataset, keyword, value)
    if "FrameOfReferenceUID" not in dataset or not placed:
        dataset.FrameOfReferenceUID = _new_uid()
    return dataset


def _suffixed(text: str, suffix: str) -> str:
    """Within the 64 characters of a value of VR LO."""
    return text[: 64 - len(suffix)] + suffix


def _new_uid() -> str:
    return uid.generate_uid(prefix=None)
