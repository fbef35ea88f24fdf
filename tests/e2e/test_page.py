"""The page in a browser: from a file to four panes, by pointer and by keyboard, with a bad file and with markup."""

import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright
from pydicom import dcmread
from pydicom.data import get_testdata_file

from kdmri.formats.kspace import fastmri
from kdmri.phantoms import phantom, scan
from tests.e2e.serving import Service, serving

CHROMIUM = shutil.which("chromium")
PATIENCE_MS = 180_000
"""A slow machine is no failure."""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="expected Debian's package chromium, it is not installed")

MARKUP = "<img src=x onerror=document.title='taken'><script>document.title='taken'</script>"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("page"), KDMRI_BACKEND="onnxruntime", KDMRI_SHADOW_RATE="0") as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Chromium's own sandbox needs rights that a container may lack; the page is ours.
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def page(browser: Browser, service: Service) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.goto(service.address)
    yield opened
    context.close()
    assert errors == []


@pytest.fixture(scope="module")
def kspace_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three slices of 48 x 64, one coil, undersampled by 4."""
    path = tmp_path_factory.mktemp("page-kspace") / "scan.h5"
    fastmri.write(path, scan(phantom(48, 64).repeat(3, axis=0), acceleration=4))
    return path


def finish(page: Page, *files: Path | str) -> str:
    """Choose files and return the status once the page has an answer."""
    page.set_input_files("#file", [str(file) for file in files])
    status = page.locator("#status")
    expect(status).to_have_text(re.compile("Done|No answer"), timeout=PATIENCE_MS)
    return status.inner_text()


def grey_levels(page: Page, volume: int) -> int:
    """Return how many different grey levels a pane shows, read from a picture of it."""
    picture = page.locator(f"canvas[data-volume='{volume}']").screenshot()
    return len(np.unique(np.asarray(Image.open(io.BytesIO(picture)).convert("L"))))


def test_kspace_fills_four_panes_and_says_what_was_done(page: Page, kspace_file: Path) -> None:
    assert "3 slices of 48 x 64" in finish(page, kspace_file)
    assert all(grey_levels(page, volume) > 10 for volume in range(4))
    expect(page.locator("#slice-number")).to_have_text("2 of 3")
    figures = page.locator("#figures").inner_text()
    assert "dc-cnn-student@" in figures
    assert "dc-cnn-teacher@" in figures
    assert "dB PSNR" in figures
    assert f"'{page.url}reconstruct?role=both'" in page.locator("#curl").inner_text()


def test_the_keyboard_alone_walks_slices_windows_and_blinks(page: Page, kspace_file: Path) -> None:
    finish(page, kspace_file)
    page.locator("canvas[data-volume='1']").focus()
    page.keyboard.press("ArrowUp")
    expect(page.locator("#slice-number")).to_have_text("3 of 3")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#slice-number")).to_have_text("3 of 3")
    before = page.locator("#window-values").inner_text()
    page.keyboard.press("w")
    assert page.locator("#window-values").inner_text() != before
    page.keyboard.press("r")
    expect(page.locator("#window-values")).to_have_text(before)
    page.keyboard.press("b")
    expect(page.locator("#mode")).to_have_value("blink")


def test_swipe_shows_both_roles_in_one_pane(page: Page, kspace_file: Path) -> None:
    finish(page, kspace_file)
    page.select_option("#mode", "swipe")
    expect(page.locator("canvas[data-volume='1']")).to_be_visible()
    expect(page.locator("canvas[data-volume='2']")).to_be_hidden()
    expect(page.locator("#name-1")).to_have_text("Student | teacher")


def test_dicom_is_made_finer_and_can_be_taken_away(page: Page) -> None:
    status = finish(page, get_testdata_file("MR_small.dcm"))
    assert "1 slice of 128 x 128" in status
    with page.expect_download() as download:
        page.get_by_role("button", name="NIfTI, student").click()
    assert download.value.suggested_filename == "super-resolve-student.nii.gz"


def test_a_bad_file_is_told_in_words(page: Page, tmp_path: Path) -> None:
    bad = tmp_path / "photo.h5"
    bad.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(200))
    assert finish(page, bad) == "No answer."
    expect(page.locator("#problem")).to_contain_text("expected")


def test_markup_in_files_runs_no_script(page: Page, tmp_path: Path, kspace_file: Path) -> None:
    dataset = dcmread(get_testdata_file("MR_small.dcm"))
    dataset.SeriesDescription = dataset.PatientName = dataset.StudyDescription = MARKUP[:60]
    dicom = tmp_path / "<script>alert(1)<" / "img src=x>.dcm"
    dicom.parent.mkdir()
    dataset.save_as(dicom)
    odd = tmp_path / "odd.h5"
    shutil.copy(kspace_file, odd)
    with h5py.File(odd, "r+") as file:
        file.attrs["patient_id"] = file.attrs["acquisition"] = MARKUP
        file[MARKUP.replace("/", "")] = np.zeros(3)
    headless = tmp_path / "headless.h5"
    with h5py.File(headless, "w") as file:
        file[MARKUP.replace("/", "")] = np.zeros((2, 3))
    for source in (dicom, odd, headless):
        finish(page, source)
        assert page.title().startswith("kdmri")
        assert page.locator("main img, main script").count() == 0


def test_accessibility_has_no_serious_finding(page: Page, kspace_file: Path) -> None:
    finish(page, kspace_file)
    # The checker's script is put into the page by the test, past the page's own policy.
    found = Axe().run(page).response["violations"]
    serious = [finding["id"] for finding in found if finding["impact"] in ("serious", "critical")]
    assert serious == []
