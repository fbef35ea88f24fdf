"""Headers with elements absent, empty, huge, negative, repeated or of another type: an answer or a clear refusal.

`KDMRI_FUZZ_EXAMPLES=20000` runs more examples than the suite does.
"""

import io
import os
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdmri.errors import KdmriError
from kdmri.formats.kspace import mrd, stream
from kdmri.phantoms import phantom, scan
from tests.formats.kspace.mrd_files import MrdFile
from tests.formats.kspace.test_stream import serialize

EXAMPLES = int(os.environ.get("KDMRI_FUZZ_EXAMPLES", "300"))
NAMESPACE = "http://www.ismrm.org/ISMRMRD"
NUMBERS = ("0", "-1", "1", "12", "64", "65535", "65536", "1e9", "1e400", "NaN", "-inf", "1_0", "0x10", "1.5", "3,5")
TEXTS = ("", " ", "abc", "cartesian", "Radial", "12 12", "Doe^John", "\u0661\u0662", "9" * 400)
EXTRA = (
    "encoding/parallelImaging/multiband/multiband_factor",
    "encoding/encodingLimits/kspace_encoding_step_2/maximum",
    "encoding/encodingLimits/kspace_encoding_step_1/minimum",
    "subjectInformation/patientName",
    "sequenceParameters/TR",
    "acquisitionSystemInformation/systemFieldStrength_T",
)
"""Elements that the made header lacks and the reader looks at."""
WHOLE = scan(phantom(24, 20), coils=2)
FILE = MrdFile.of(WHOLE)
TABLE, _ = stream.read(io.BytesIO(serialize(FILE)), 2**20)


def element_count() -> int:
    return len(list(ElementTree.fromstring(FILE.header()).iter()))


changes = st.tuples(
    st.integers(1, element_count() - 1),
    st.sampled_from(["text", "remove", "repeat", "rename", "namespace", "nest"]),
    st.sampled_from(NUMBERS + TEXTS) | st.integers(-(2**70), 2**70).map(str) | st.floats().map(repr),
)
additions = st.tuples(st.sampled_from(EXTRA), st.sampled_from(NUMBERS + TEXTS) | st.floats().map(repr))


def change(root: ElementTree.Element, place: int, kind: str, text: str) -> None:
    """Change one element of a header, by its place in document order."""
    elements = list(root.iter())
    element = elements[min(place, len(elements) - 1)]
    parents = [parent for parent in elements if element in list(parent)]
    if kind == "text":
        element.text = text
    elif kind == "remove" and parents:
        parents[0].remove(element)
    elif kind == "repeat" and parents:
        parents[0].append(element)
    elif kind == "rename":
        element.tag = "{" + NAMESPACE + "}other"
    elif kind == "namespace":
        element.tag = "{urn:other}" + element.tag.rpartition("}")[2]
    elif kind == "nest":
        ElementTree.SubElement(element, element.tag).text = text


def add(root: ElementTree.Element, path: str, text: str) -> None:
    """Append an element with all that leads to it."""
    at = root
    for name in path.split("/"):
        tag = "{" + NAMESPACE + "}" + name
        found = at.find(tag)
        at = ElementTree.SubElement(at, tag) if found is None else found
    at.text = text


@settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES <= 300)
@given(st.lists(changes, max_size=4), st.lists(additions, max_size=2))
def test_any_header_is_an_answer_or_a_clear_refusal(
    changed: list[tuple[int, str, str]], added: list[tuple[str, str]]
) -> None:
    root = ElementTree.fromstring(FILE.header())
    for place, kind, text in changed:
        change(root, place, kind, text)
    for path, text in added:
        add(root, path, text)
    try:
        found = mrd.read(TABLE, ElementTree.tostring(root), {}, max_bytes=2**24)
    except KdmriError as error:
        refusal = str(error)
    else:
        assert found.samples.shape[:2] == WHOLE.samples.shape[:2]
        assert all(1 <= wanted <= length for wanted, length in zip(found.image_shape, found.shape[2:], strict=True))
        return
    # A refusal says what was expected, and repeats no text that may be a patient's.
    assert any(word in refusal for word in ("expected", "only"))
    assert "Doe" not in refusal
    assert "\n" not in refusal


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("encodedSpace/matrixSize/x", "NaN"),
        ("encodedSpace/matrixSize/y", "-20"),
        ("reconSpace/matrixSize/x", "65536"),
        ("reconSpace/fieldOfView_mm/y", "1e400"),
        ("encodingLimits/kspace_encoding_step_1/center", "-1"),
        ("encodingLimits/kspace_encoding_step_1/maximum", "abc"),
    ],
)
def test_a_refusal_names_the_element_and_its_value(place: str, value: str) -> None:
    root = ElementTree.fromstring(FILE.header())
    add(root, f"encoding/{place}", value)
    with pytest.raises(KdmriError, match=f"ISMRMRD header, {place}: expected"):
        mrd.read(TABLE, ElementTree.tostring(root), {}, max_bytes=2**24)


@pytest.mark.parametrize("value", ["1e-306", "5e-324", "1e308"])
@pytest.mark.parametrize("space", ["encodedSpace", "reconSpace"])
def test_a_field_of_view_near_the_ends_of_the_number_range_crops_nothing_beyond_the_grid(
    space: str, value: str
) -> None:
    root = ElementTree.fromstring(FILE.header())
    add(root, f"encoding/{space}/fieldOfView_mm/x", value)
    found = mrd.read(TABLE, ElementTree.tostring(root), {}, max_bytes=2**24)
    assert 1 <= found.image_shape[0] <= found.shape[2]
