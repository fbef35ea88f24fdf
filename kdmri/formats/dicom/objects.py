"""Elements that every DICOM object from kdmri has: identity, provenance, pixels and its form as a file."""

import io
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pydicom
from highdicom import ContributingEquipment
from jaxtyping import Bool, Int16
from numpy import ndarray
from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes

from kdmri import __version__
from kdmri.errors import UnsupportedInput
from kdmri.formats.dicom.leniency import lenient_pydicom

LARGEST_SIDE = 2**16 - 1
"""Rows and Columns are 16 bit."""
NOTICE = "Machine-made image: not for diagnosis without review"
PADDING = -(2**15)
"""Stored value of pixels outside the image: the one 16-bit value that no pixel has (see `stored_values`)."""
LONGEST = 64
"""Characters in a value of VR LO."""


@dataclass(frozen=True)
class Provenance:
    """Values that all objects of one new series share."""

    model: str
    """NAME@VERSION."""
    sentence: str
    """What was done, by which software and model."""
    series_uid: str
    series_number: int
    series_description: str
    rescale: Dataset
    window: Dataset
    when: datetime


def identify(dataset: Dataset, instance_uid: str, provenance: Provenance) -> None:
    """Make a data set a new instance of the new series, and add kdmri to the equipment that contributed to it."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.SOPInstanceUID = instance_uid
    dataset.SeriesInstanceUID = provenance.series_uid
    dataset.SeriesNumber = provenance.series_number
    dataset.SeriesDescription = provenance.series_description
    for name in ("Series", "Content", "InstanceCreation"):
        setattr(dataset, f"{name}Date", provenance.when.strftime("%Y%m%d"))
        setattr(dataset, f"{name}Time", provenance.when.strftime("%H%M%S.%f"))
    # The notice comes first, because viewers cut long comments off; the source's own comments stay behind it.
    comments = dataset.get("ImageComments")
    comments = comments if isinstance(comments, str) or not comments else " ".join(map(str, comments))
    dataset.ImageComments = "\r\n".join(filter(None, (NOTICE, comments)))
    # Software versions are those of kdmri and of the model: together with the series they identify the computation.
    name, _, version = provenance.model.partition("@")
    equipment = ContributingEquipment(
        "kdmri",
        codes.DCM.ProcessingEquipment,
        manufacturer_model_name=name,
        software_versions=[__version__, version] if version else __version__,
        contribution_datetime=provenance.when,
        contribution_description=provenance.sentence,
    )
    dataset.ContributingEquipmentSequence = [*(dataset.get("ContributingEquipmentSequence") or ()), equipment]


def write_pixels(
    dataset: Dataset, stored: Int16[ndarray, "frame R C"], padding: Bool[ndarray, "frame R C"] | None = None
) -> None:
    """Give a data set its pixels, as signed 16-bit MONOCHROME2.

    Args:
        dataset: the object to complete.
        stored: stored values; none of them is PADDING.
        padding: pixels outside the image, to be written as PADDING.

    Raises:
        UnsupportedInput: there are more rows or columns than DICOM can state.
    """
    if max(stored.shape[1:]) > LARGEST_SIDE:
        raise UnsupportedInput(f"expected an answer of at most {LARGEST_SIDE} rows and columns, got {stored.shape[1:]}")
    dataset.Rows, dataset.Columns = stored.shape[1:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    # The pixels were turned round if the source was MONOCHROME1, whose shape is INVERSE.
    if "PresentationLUTShape" in dataset:
        dataset.PresentationLUTShape = "IDENTITY"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    # By add_new with a VR: the dictionary leaves the choice between US and SS to PixelRepresentation.
    dataset.add_new("SmallestImagePixelValue", "SS", int(stored.min()))
    dataset.add_new("LargestImagePixelValue", "SS", int(stored.max()))
    if padding is not None and padding.any():
        # Smallest and largest above are those of the image: padding is no part of it.
        dataset.add_new("PixelPaddingValue", "SS", PADDING)
        stored = np.where(padding, np.int16(PADDING), stored)
    dataset.add_new("PixelData", "OW", stored.astype("<i2").tobytes())


@lenient_pydicom()
def to_bytes(dataset: Dataset) -> bytes:
    """Write an object as a Part 10 file, Explicit VR Little Endian."""
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def with_suffix(text: str, suffix: str) -> str:
    """Append a suffix to a text and cut the text so that both fit in a value of VR LO."""
    return f"{text[: LONGEST - 1 - len(suffix)]} {suffix}".strip()
