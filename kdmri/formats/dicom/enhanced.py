"""The functional groups of Enhanced MR (PS3.3 C.7.6.16), rewritten for frames on a finer grid."""

from collections.abc import Iterable, Sequence

from jaxtyping import Float64
from numpy import ndarray
from pydicom import Dataset
from pydicom.tag import Tag

from kdmri.formats.dicom.numbers import decimals, several, to_float

REPLACED = (
    "PixelValueTransformationSequence",
    "FrameVOILUTSequence",
    "RealWorldValueMappingSequence",
    "DerivationImageSequence",
)

ACQUIRED_ONLY = (
    "PulseSequenceName",
    "MRAcquisitionType",
    "EchoPulseSequence",
    "MultipleSpinEcho",
    "MultiPlanarExcitation",
    "PhaseContrast",
    "VelocityEncodingAcquisitionSequence",
    "TimeOfFlightContrast",
    "ArterialSpinLabelingContrast",
    "SteadyStatePulseSequence",
    "EchoPlanarPulseSequence",
    "SaturationRecovery",
    "SpectrallySelectedSuppression",
    "OversamplingPhase",
    "GeometryOfKSpaceTraversal",
    "RectilinearPhaseEncodeReordering",
    "SegmentedKSpaceTraversal",
    "CoverageOfKSpace",
    "NumberOfKSpaceTrajectories",
    "BulkMotionCompensationTechnique",
    "BulkMotionSignalSource",
)
"""Attributes of the MR Pulse Sequence and motion modules that only ORIGINAL images have (C.8.13.4, dciodvfy)."""

CONCATENATION = (
    "ConcatenationUID",
    "SOPInstanceUIDOfConcatenationSource",
    "InConcatenationNumber",
    "InConcatenationTotalNumber",
    "ConcatenationFrameOffsetNumber",
)


def describe_frames(
    dataset: Dataset,
    *,
    scale: int,
    positions: Float64[ndarray, "frame 3"] | None,
    rescale: Dataset,
    window: Dataset,
    derivations: Sequence[Dataset],
    mappings: Sequence[Sequence[Dataset]],
) -> None:
    """Make the functional groups of an object describe its new pixels: derived, finer, one rescale and one window.

    Args:
        dataset: the object, with the groups of its source.
        scale: ratio of the grids.
        positions: new ImagePositionPatient of each frame in mm; None where the source has none.
        rescale: RescaleSlope, RescaleIntercept and RescaleType of all frames.
        window: WindowCenter and WindowWidth of all frames.
        derivations: an item of DerivationImageSequence for each frame.
        mappings: items of RealWorldValueMappingSequence for each frame, for the new stored values.
    """
    if not dataset.get("SharedFunctionalGroupsSequence"):
        dataset.SharedFunctionalGroupsSequence = [Dataset()]
    shared = dataset.SharedFunctionalGroupsSequence[0]
    frames = dataset.PerFrameFunctionalGroupsSequence
    for groups in (shared, *frames):
        # From shared and frames alike: a group may stand in one of them only, and is written below.
        _delete(groups, REPLACED)
        _refine(groups, scale)
    shared.PixelValueTransformationSequence = [rescale]
    shared.FrameVOILUTSequence = [window]
    if positions is not None and "PlanePositionSequence" in shared:
        shared.PlanePositionSequence[0].ImagePositionPatient = decimals(positions[0])
    for index, (groups, derivation) in enumerate(zip(frames, derivations, strict=True)):
        groups.DerivationImageSequence = [derivation]
        if mappings[index]:
            groups.RealWorldValueMappingSequence = list(mappings[index])
        if positions is not None and "PlanePositionSequence" in groups:
            groups.PlanePositionSequence[0].ImagePositionPatient = decimals(positions[index])
    _summarise_types(dataset, [shared, *frames])
    _drop_private_dimensions(dataset)
    _delete(dataset, (*ACQUIRED_ONLY, *CONCATENATION))


def _delete(dataset: Dataset, keywords: Iterable[str]) -> None:
    for keyword in keywords:
        if keyword in dataset:
            del dataset[keyword]


def _refine(groups: Dataset, scale: int) -> None:
    for measures in groups.get("PixelMeasuresSequence", ()):
        if measures.get("PixelSpacing"):
            measures.PixelSpacing = decimals(
                spacing / scale for spacing in map(to_float, several(measures.PixelSpacing))
            )
    for frame_type in groups.get("MRImageFrameTypeSequence", ()):
        # Value 2 is PRIMARY in every Enhanced MR image (C.8.16.1.2): DERIVED\SECONDARY is for classic MR.
        frame_type.FrameType = ["DERIVED", "PRIMARY", *several(frame_type.get("FrameType"))[2:]]


def _summarise_types(dataset: Dataset, groups: Sequence[Dataset]) -> None:
    """Write the object's types: the value that its frames share, or MIXED (C.8.16.1)."""
    types = [group.MRImageFrameTypeSequence[0] for group in groups if group.get("MRImageFrameTypeSequence")]
    # Not strict: frames may have any number of values beyond the first two, and MIXED needs the common ones only.
    values = zip(*(item.FrameType for item in types), strict=False)
    dataset.ImageType = (
        [_common(value) for value in values] if types else ["DERIVED", "PRIMARY", *dataset.ImageType[2:]]
    )
    for keyword in ("ComplexImageComponent", "AcquisitionContrast"):
        found = [item.get(keyword) for item in types if item.get(keyword)]
        if found:
            setattr(dataset, keyword, _common(found))


def _common(values: Sequence[str]) -> str:
    return values[0] if len(set(values)) == 1 else "MIXED"


def _drop_private_dimensions(dataset: Dataset) -> None:
    """Leave out the dimensions that point at private elements: these are gone."""
    # Indices and pointers belong together by their position: both lists are thinned out in the same way.
    dimensions = dataset.get("DimensionIndexSequence", ())
    pointers = [Tag(item.get("DimensionIndexPointer", 0)) for item in dimensions]
    kept = [index for index, pointer in enumerate(pointers) if not pointer.is_private]
    if len(kept) == len(pointers):
        return
    dataset.DimensionIndexSequence = [dimensions[index] for index in kept]
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        for content in groups.get("FrameContentSequence", ()):
            values = several(content.get("DimensionIndexValues"))
            if len(values) == len(pointers):
                content.DimensionIndexValues = [values[index] for index in kept]
