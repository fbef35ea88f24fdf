"""What an archive sees: the same request has the same identity, and no two answers share one."""

import pytest
from pydicom import uid

from kdmri.formats.dicom.identity import free_series_number

from .slices import answer_to, content, mr_slice


def sources(count: int = 3) -> list[bytes]:
    return [content(mr_slice(InstanceNumber=n, SOPInstanceUID=f"1.2.{n + 1}", SeriesNumber=4)) for n in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_same_request_gives_the_same_identity(count: int) -> None:
    first, again = answer_to(*sources(count)), answer_to(*sources(count)[::-1])[::-1]
    for one, other in zip(first, again, strict=True):
        assert one.SOPInstanceUID == other.SOPInstanceUID
        assert one.SeriesInstanceUID == other.SeriesInstanceUID
        assert one.SOPInstanceUID.startswith("2.25.")
        assert uid.UID(one.SOPInstanceUID).is_valid


@pytest.mark.parametrize("change", [{"scale": 4}, {"model": "vdsr-student@1.2.1"}, {"model": "vdsr-teacher@1.2.0"}])
def test_another_request_gives_another_identity(change: dict) -> None:
    (one,), (other,) = answer_to(*sources(1)), answer_to(*sources(1), **change)
    assert one.SOPInstanceUID != other.SOPInstanceUID
    assert one.SeriesInstanceUID != other.SeriesInstanceUID


@pytest.mark.parametrize(
    ("source", "taken", "number"), [(4, {4}, 401), (4, {4, 401}, 402), (None, {1, 2}, 3), (0, {0}, 1)]
)
def test_series_numbers_are_new(source: int | None, taken: set[int], number: int) -> None:
    assert free_series_number(source, taken) == number


def test_series_of_one_upload_have_numbers_of_their_own() -> None:
    upload = [content(mr_slice(SeriesInstanceUID=f"1.2.{n}", SeriesNumber=n)) for n in (1, 1, 2, 101)]
    numbers = {output.SeriesInstanceUID: output.SeriesNumber for output in answer_to(*upload)}
    assert len(set(numbers.values())) == 3
    assert not {1, 2, 101} & set(numbers.values())


@pytest.mark.parametrize("illegal", ["1.2.ABC.4", "1.2.03", "1." + "3" * 66])
def test_an_illegal_uid_is_not_copied_into_a_reference(illegal: str) -> None:
    (output,) = answer_to(content(mr_slice(SOPInstanceUID=illegal)))
    assert "SourceImageSequence" not in output
    assert output.DerivationDescription


@pytest.mark.parametrize("name", ["t2 tse tra", "", "x" * 64])
def test_the_description_does_not_end_in_sr(name: str) -> None:
    (output,) = answer_to(content(mr_slice(SeriesDescription=name)))
    assert output.SeriesDescription.endswith("AI 2x kdmri")
    assert len(output.SeriesDescription) <= 64
