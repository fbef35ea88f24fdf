"""Images made from k-space: which study they belong to, and what tells them apart."""

import numpy as np
import pytest
from pydicom import Dataset, uid

from kdmri.data.images import Images
from kdmri.data.patient import PatientAndStudy
from kdmri.formats.dicom import original

STATED = "1.2.3.4"


def create(**stated: str) -> list[Dataset]:
    images = Images(np.ones((3, 8, 8), np.float32))
    return original.create(images, model="model@1", patient_and_study=PatientAndStudy(stated), acceleration=4)


def test_a_study_that_is_stated_is_that_of_every_image_and_gets_no_date_made_up() -> None:
    made = create(StudyInstanceUID=STATED)
    assert {image.StudyInstanceUID for image in made} == {STATED}
    assert {(image.StudyDate, image.StudyTime) for image in made} == {("", "")}
    dated = create(StudyInstanceUID=STATED, StudyDate="20200102")
    assert {image.StudyDate for image in dated} == {"20200102"}


@pytest.mark.parametrize("stated", [{}, {"PatientName": "Doe^Jane"}])
def test_without_a_study_each_answer_is_a_new_dated_one_that_its_images_share(stated: dict[str, str]) -> None:
    answers = [create(**stated) for _ in range(2)]
    studies = [{image.StudyInstanceUID for image in answer} for answer in answers]
    assert [len(study) for study in studies] == [1, 1]
    assert studies[0].isdisjoint(studies[1])
    for image in answers[0]:
        assert uid.UID(image.StudyInstanceUID).is_valid
        assert len(image.StudyDate) == 8
        assert image.StudyTime


def test_images_of_an_answer_are_one_series_of_distinct_instances() -> None:
    made = create(StudyInstanceUID=STATED)
    assert len({image.SeriesInstanceUID for image in made}) == 1
    assert len({image.SOPInstanceUID for image in made}) == len(made)
    assert [image.InstanceNumber for image in made] == [1, 2, 3]
    assert create(StudyInstanceUID=STATED)[0].SeriesInstanceUID != made[0].SeriesInstanceUID


def test_a_stated_frame_of_reference_is_not_that_of_images_whose_place_is_unknown() -> None:
    made = create(StudyInstanceUID=STATED, FrameOfReferenceUID="1.2.3.5")
    frames = {image.FrameOfReferenceUID for image in made}
    assert len(frames) == 1
    assert frames != {"1.2.3.5"}
