"""Repair of a data set that was just read: nothing stays in it that can not be interpreted and written again.

pydicom reads more than it writes. Whatever would fail while an answer is encoded is dealt with here, before a model
runs: values in another VR or with decimal commas are rewritten, what remains unreadable is left out and counted.
"""

from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_VM, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.valuerep import PersonName

from kdmri.errors import UnreadableDicom
from kdmri.formats.dicom.attributes import printable
from kdmri.formats.dicom.numbers import several, to_float

DEEPEST = 32
"""Depth of nested sequences; Enhanced MR has 4."""
FORBIDDEN_GROUPS = (0x0000, 0x0002, 0xFFFE)
"""Groups of messages, of file meta information and of delimiters: never part of a data set (PS3.5 7.1)."""
TEXT = {"SH", "LO", "ST", "LT", "UC", "UT", "PN"}
"""VRs whose bytes depend on SpecificCharacterSet."""
UNTYPED = {"UN", "OB", "OW", "OB or OW", "US or OW", "US or SS or OW"}
"""VRs of the dictionary that leave the choice to the writer."""
EITHER_SIGN = "US or SS"
"""VR of the dictionary for integers that are signed where the pixels are."""
PIXEL_DATA = 0x7FE00010
DECIMAL, INTEGER = {"DS", "FL", "FD"}, {"IS", "US", "SS", "UL", "SL", EITHER_SIGN}
NEEDED = {
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "SamplesPerPixel",
    "NumberOfFrames",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "RescaleSlope",
    "RescaleIntercept",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "PhotometricInterpretation",
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "StudyInstanceUID",
}
"""Attributes that decide what the image is: an object in which one of them can't be read is refused."""
LARGEST_SEQUENCE = 2**26
"""Bytes of a sequence that are parsed: 64 MiB are some 10,000 frames of Enhanced MR."""


def repair(dataset: Dataset) -> list[str]:
    """Interpret every element of a data set, in place.

    Returns:
        Notes about what was left out.

    Raises:
        UnreadableDicom: an attribute that is needed can't be read, or sequences are nested too deeply.
    """
    left_out: set[str] = set()
    shortened: set[str] = set()
    _repair(dataset, 0, left_out, shortened)
    notes = []
    if left_out:
        notes.append(f"Header elements that can't be read were left out: {', '.join(sorted(left_out))}.")
    if shortened:
        names = ", ".join(sorted(shortened))
        notes.append(f"Header elements with several values where one is expected keep the first: {names}.")
    return notes


def _repair(dataset: Dataset, depth: int, left_out: set[str], shortened: set[str]) -> None:
    """Repair a data set and its sequences; add the keywords of what was left out and of what lost all but one value."""
    if depth > DEEPEST:
        raise UnreadableDicom(f"expected sequences nested at most {DEEPEST} deep, got more")
    # A list, because elements are deleted on the way.
    for tag in list(dataset.keys()):
        if tag.group in FORBIDDEN_GROUPS or tag.element == 0:
            del dataset[tag]
            continue
        raw = dataset.get_item(tag)
        if isinstance(raw, RawDataElement) and raw.VR == "SQ" and len(raw.value or b"") > LARGEST_SEQUENCE:
            raise UnreadableDicom(
                f"expected sequences of at most {LARGEST_SEQUENCE} bytes, got {len(raw.value or b'')}"
            )
        try:
            element = _interpret(dataset, tag)
        except RecursionError as error:
            raise UnreadableDicom(f"expected sequences nested at most {DEEPEST} deep, got more") from error
        except Exception as error:  # By VR: ValueError, TypeError, struct.error, ...
            if (keyword := _keyword(tag)) in NEEDED:
                raise UnreadableDicom(f"expected a readable {keyword}, got {_excerpt(raw)}") from error
            del dataset[tag]
            left_out.add(keyword)
            continue
        if element.VR == "SQ":
            for item in element.value:
                _repair(item, depth + 1, left_out, shortened)
        elif _has_surplus(element):
            _keep_first(dataset, element)
            shortened.add(_keyword(tag))
        elif element.VR in TEXT and isinstance(raw, RawDataElement) and "\ufffd" in str(element.value):
            # The bytes do not fit the character set that the object declares. Kept as they came they can still be
            # read by someone who knows better; decoded and written again they would be lost.
            dataset[tag] = raw._replace(VR=element.VR)


def _has_surplus(element: DataElement) -> bool:
    """True for several values where the dictionary has one; a backslash in free text is read as part of the text."""
    if element.tag.is_private or element.VR in TEXT or not isinstance(element.value, MultiValue | list):
        return False
    try:
        return len(element.value) > 1 and dictionary_VM(element.tag) == "1"
    except KeyError:
        return False


def _keep_first(dataset: Dataset, element: DataElement) -> None:
    """Leave an element its first value.

    Every reader of an attribute of one value may then count on one, at whatever depth it stands.

    Raises:
        UnreadableDicom: the attribute decides what the image is, so that no value may be chosen for it.
    """
    if (keyword := _keyword(element.tag)) in NEEDED:
        got = ", ".join(printable(value) for value in element.value[:8])
        raise UnreadableDicom(f"expected one value in {keyword}, got {got}")
    dataset.add_new(element.tag, element.VR, element.value[0])


def _interpret(dataset: Dataset, tag: BaseTag) -> DataElement:
    """Return an element in the VR of the dictionary, after a trial that it can be written.

    Raises:
        Exception: of many types, for a value that has no place in that VR.
    """
    # The dictionary's VR counts, not the file's: implicit syntaxes have none, and explicit ones may state a wrong one.
    vr = _dictionary_vr(tag)
    element = dataset[tag]
    if vr in DECIMAL | INTEGER and not element.is_empty:
        _write_numbers(dataset, element, vr)
    elif vr and vr not in UNTYPED | {EITHER_SIGN} and vr != element.VR:
        if element.is_empty:
            dataset.add_new(tag, vr, [] if vr == "SQ" else None)
        elif vr != "SQ" and all(isinstance(value, str | PersonName) for value in several(element.value)):
            dataset.add_new(tag, vr, element.value)
        else:
            raise ValueError("a value of another kind")
    element = dataset[tag]
    if element.VR != "SQ" and tag != PIXEL_DATA:
        trial = DicomBytesIO()
        trial.is_little_endian, trial.is_implicit_VR = True, False
        write_data_element(trial, element)
    return element


def _write_numbers(dataset: Dataset, element: DataElement, vr: str) -> None:
    """Write the numbers of an element in the VR of the dictionary, unless they are already.

    Args:
        dataset: the data set that holds the element.
        element: an element with at least one value.
        vr: VR of the dictionary, one of DECIMAL or INTEGER.

    Raises:
        TypeError, ValueError: a value is no number, or a fraction where an integer must be.
    """
    values = several(element.value)
    numbers = [to_float(value) for value in values]
    if vr in INTEGER and any(number != int(number) for number in numbers):
        raise ValueError("a fraction where an integer must be")
    if element.VR in vr.split(" or ") and not any(isinstance(value, str) for value in values):
        return
    if vr == EITHER_SIGN:
        vr = "SS" if min(numbers) < 0 else "US"
    # DS has room for 16 characters: ten digits, a sign, a point and an exponent.
    texts = [f"{number:.10g}" for number in numbers] if vr == "DS" else numbers
    values = [int(number) for number in numbers] if vr in INTEGER else texts
    dataset.add_new(element.tag, vr, values if len(values) > 1 else values[0])


def _dictionary_vr(tag: BaseTag) -> str:
    try:
        return "" if tag.is_private else dictionary_VR(tag)
    except KeyError:
        return ""


def _keyword(tag: BaseTag) -> str:
    return DataElement(tag, "UN", b"").keyword or f"({tag.group:04X},{tag.element:04X})"


def _excerpt(raw: object) -> str:
    """Return the beginning of a value for a message."""
    value = getattr(raw, "value", b"") or b""
    return printable(value[:32].decode("ascii", "replace") if isinstance(value, bytes) else value)
