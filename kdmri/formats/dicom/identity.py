"""Identity of the objects that kdmri writes: UIDs that a repeated request gets again, and a free series number."""

import uuid
from collections.abc import Container

from jaxtyping import Shaped
from numpy import ndarray
from pydicom import uid

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "kdmri")
"""Namespace of the version 5 UUIDs (RFC 9562) of which derived UIDs are made."""
LARGEST_NUMBER = 2**31 - 1
"""Largest value of VR IS."""


def new_uid() -> str:
    """Return a UID that was never used, under 2.25 (PS3.5 B.2)."""
    return str(uid.generate_uid(prefix=None))


def derived_uid(*names: str) -> str:
    """Return the UID under 2.25 that belongs to these names: the same names always give the same UID.

    A client that repeats a request after a lost answer gets objects of the same identity, so that an archive can not
    store them twice.
    """
    # chr(0) stands in no name, so that ("a", "bc") and ("ab", "c") differ.
    return f"2.25.{uuid.uuid5(NAMESPACE, chr(0).join(names)).int}"


def content_digest(array: Shaped[ndarray, "..."]) -> str:
    """Return a text that differs between arrays of different content."""
    return uuid.uuid5(NAMESPACE, f"{array.shape} {array.tobytes().hex()}").hex


def is_legal_uid(value: object) -> bool:
    """True for a UID that another object may refer to: digits and dots, at most 64 characters, no leading zeros."""
    return uid.UID(str(value or "")).is_valid


def free_series_number(source: int | None, taken: Container[int]) -> int:
    """Choose a series number that no series of the upload has.

    Args:
        source: number of the source series; None where it has none.
        taken: the numbers that are in use.

    Returns:
        source x 100 + n with the smallest free n from 1 on, as scanners number what they derive; the smallest free
        number where the source has none or 100 times it is out of VR IS's range.
    """
    # The number is that of the source with two more digits, so that a list of series shows the two side by side.
    start = 100 * source if source is not None and 0 < source < LARGEST_NUMBER // 100 - 1 else 0
    number = start + 1
    while number in taken:
        number += 1
    return number
