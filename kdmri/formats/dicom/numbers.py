"""Numbers as DICOM writes them, and as writers that are no DICOM have put them into its elements."""

from collections.abc import Iterable
from typing import Any

from pydicom.multival import MultiValue
from pydicom.valuerep import format_number_as_ds


def decimals(values: Iterable[float]) -> list[str]:
    """Format numbers as DS strings of at most 16 characters."""
    return [format_number_as_ds(float(value)) for value in values]


def several(value: Any) -> list[Any]:
    """Return the values of an element of any multiplicity; pydicom has a bare value for one and None for none."""
    if value is None or value == "":
        return []
    # A value of unknown VR is not split by pydicom; the backslash separates values in all VRs but those of free text.
    if isinstance(value, str) and "\\" in value:
        return value.split("\\")
    return list(value) if isinstance(value, MultiValue | list | tuple) else [value]


def to_float(value: Any) -> float:
    """Return a number, or the number that a text holds; a decimal comma counts as a point.

    Raises:
        TypeError, ValueError: the value is no number.
    """
    return float(value.strip().replace(",", ".")) if isinstance(value, str) else float(value)
