"""Images made from k-space as MR DICOM: a series of original objects in a study of their own or a stated one."""

import copy
from datetime import datetime

from pydicom import Dataset, uid

from kdmri import __version__
from kdmri.data.geometry import Geometry
from kdmri.data.images import Images
from kdmri.data.patient import PatientAndStudy
from kdmri.formats.dicom.identity import new_uid
from kdmri.formats.dicom.leniency import lenient_pydicom
from kdmri.formats.dicom.numbers import decimals
from kdmri.formats.dicom.objects import Provenance, identify, with_suffix, write_pixels
from kdmri.formats.dicom.stored_values import stored_values
from kdmri.formats.dicom.windows import window


@lenient_pydicom()
def create(
    images: Images, *, model: str, patient_and_study: PatientAndStudy | None = None, acceleration: float | None = None
) -> list[Dataset]:
    """Write images made from k-space as MR Image Storage, one object for each slice, in a new series.

    The objects are ORIGINAL\\PRIMARY, because they are made from measurements and not from other images (PS3.3
    C.7.6.1.1.2). Without a geometry the pixels are 1 mm wide and the slices axial, one above the other; ImageComments
    then states what was made up.

    Args:
        images: the slices, in their order.
        model: the model that made them, NAME@VERSION.
        patient_and_study: what the k-space file states of patient, study, frame of reference and protocol. Without it
            the patient is anonymous and the study a new one.
        acceleration: ratio of all k-space lines to the measured ones, for the description.

    Returns:
        One data set for each slice.

    Raises:
        UnsupportedInput: pixels are not finite, or more than DICOM's 65535 a side.
    """
    (stored,), rescale = stored_values([images.pixels])
    factor = f" (acceleration {acceleration:.3g})" if acceleration else ""
    geometry = images.geometry or Geometry.from_sizes(len(stored), images.pixels.shape[1:], (1.0, 1.0), 1.0)
    # A geometry without places has true sizes; without any geometry the pixel size is made up as well.
    made_up = "" if images.geometry else ", pixel size"
    when = datetime.now().astimezone()
    study = _study(patient_and_study or PatientAndStudy(), when, placed=geometry.placed)
    provenance = Provenance(
        model=model,
        sentence=f"Reconstructed from k-space{factor} by kdmri {__version__}, model {model}.",
        series_uid=new_uid(),
        series_number=1,
        series_description=with_suffix(
            study.get("SeriesDescription") or study.get("ProtocolName") or "", "kdmri reconstruction"
        ),
        rescale=rescale,
        window=window([images.pixels]),
        when=when,
    )
    outputs = []
    for index, (position, image) in enumerate(zip(geometry.positions, stored, strict=True)):
        dataset = copy.deepcopy(study)
        dataset.InstanceNumber = index + 1
        dataset.ImagePositionPatient = decimals(position)
        dataset.ImageOrientationPatient = decimals(geometry.orientation.ravel())
        dataset.PixelSpacing = decimals(geometry.spacing)
        dataset.SliceThickness = decimals([geometry.thickness])[0]
        dataset.update(copy.deepcopy(provenance.rescale))
        dataset.update(copy.deepcopy(provenance.window))
        # A new UID each time: a scan is no DICOM instance, so there is no identity that a repeated request could keep.
        identify(dataset, new_uid(), provenance)
        write_pixels(dataset, image[None])
        if not geometry.placed:
            dataset.ImageComments += f"\r\nPosition, orientation{made_up} are unknown: those given are made up"
        outputs.append(dataset)
    return outputs


def _study(patient_and_study: PatientAndStudy, when: datetime, *, placed: bool) -> Dataset:
    """Return the attributes that every image of a series made from k-space has.

    Args:
        patient_and_study: values that the k-space file states; they replace the defaults.
        when: date and time of a study that the file does not name.
        placed: False if positions are made up, which must not seem to be in the frame of reference of another series.
    """
    dataset = Dataset()
    # UTF-8, in which the header of a k-space file is written.
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = uid.MRImageStorage
    dataset.Modality = "MR"
    dataset.Manufacturer = "kdmri"
    dataset.PatientName = "Anonymous"
    # Type 2 attributes have to be there, and may be empty if the value is unknown.
    for keyword in ("PatientID", "PatientBirthDate", "PatientSex", "ReferringPhysicianName", "AccessionNumber"):
        setattr(dataset, keyword, "")
    dataset.StudyInstanceUID, dataset.StudyDate, dataset.StudyTime, dataset.StudyID = new_uid(), "", "", ""
    # A study of the file's own keeps its date, known or not; only a new one begins now.
    if "StudyInstanceUID" not in patient_and_study:
        dataset.StudyDate, dataset.StudyTime = when.strftime("%Y%m%d"), when.strftime("%H%M%S.%f")
    dataset.PositionReferenceIndicator, dataset.PatientPosition, dataset.Laterality = "", "", ""
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    # Type 1 in MR Image Storage, and k-space files do not say it: RM is "research mode".
    dataset.ScanningSequence, dataset.SequenceVariant = "RM", "NONE"
    for keyword in ("ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime", "EchoTrainLength"):
        setattr(dataset, keyword, None)
    for keyword, value in patient_and_study.items():
        setattr(dataset, keyword, value)
    # Series of one frame of reference are overlaid by viewers: made-up places must not share one with true ones.
    if "FrameOfReferenceUID" not in dataset or not placed:
        dataset.FrameOfReferenceUID = new_uid()
    return dataset
