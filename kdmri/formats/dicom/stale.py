"""Attributes of a source that its derived object must not have."""

from pydicom import DataElement, Dataset
from pydicom.datadict import keyword_for_tag

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
"""Attributes that hold for the source's stored values or bytes only. Overlays, curves and private elements go too."""

SAFE_PRIVATE = (
    (0x0019, "SIEMENS MR HEADER", (0x0C, 0x0D, 0x0E, 0x27)),
    (0x0043, "GEMS_PARM_01", (0x39,)),
    (0x2001, "Philips Imaging DD 001", (0x03, 0x04)),
)
"""b-values and gradient directions, from PS3.15 table E.3.10-1: without them a diffusion series is worth nothing."""


def drop_stale(dataset: Dataset) -> None:
    """Drop what holds for the old pixels only; see `STALE` and `SAFE_PRIVATE`."""
    # Kept aside and written again, because a creator and its elements are deleted together.
    safe = [
        (group, creator, offset, dataset.private_block(group, creator)[offset])
        for group, creator, offsets in SAFE_PRIVATE
        if creator in dataset.private_creators(group)
        for offset in offsets
        if offset in dataset.private_block(group, creator)
    ]
    _drop_private(dataset)
    for group, creator, offset, element in safe:
        # As the element is: a second conversion may refuse values that the first one took and the writer takes.
        tag = dataset.private_block(group, creator, create=True).get_tag(offset)
        dataset[tag] = DataElement(tag, element.VR, element.value, already_converted=True)
    for tag in list(dataset.keys()):
        # Repeating groups 50xx (curves) and 60xx (overlays) lie on the grid of the old pixels (PS3.5 7.6).
        is_overlay_or_curve = tag.group >> 8 in (0x50, 0x60)
        if is_overlay_or_curve or keyword_for_tag(tag) in STALE:
            del dataset[tag]


def _drop_private(dataset: Dataset) -> None:
    """Drop private elements at every depth.

    pydicom's `remove_private_tags` decodes every text on its way, and text whose bytes do not fit the character set
    would then be written with replacement characters.
    """
    for tag in list(dataset.keys()):
        if tag.is_private:
            del dataset[tag]
        elif dataset.get_item(tag).VR == "SQ":
            for item in dataset[tag].value or ():
                _drop_private(item)
