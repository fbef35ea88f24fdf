"""Code in README and in the pages runs, and requests in them name parameters that exist."""

import re
from pathlib import Path

import pytest
from kdmri_service.app import create_app
from pydicom.data import get_testdata_file

import kdmri

ROOT = Path(__file__).parents[2]
SLICE = Path(get_testdata_file("MR_small.dcm"))
PAGES = ("README.md", "docs/quickstart.md", "docs/how-to/python.md")


def snippets(page: str) -> list[str]:
    """Return the blocks of Python code in a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the pages name, of one small real slice, in the working directory."""
    monkeypatch.chdir(tmp_path)
    series = kdmri.read(SLICE)
    assert isinstance(series, list)
    for name in ("demo-out", "series"):
        (tmp_path / name).mkdir()
    (tmp_path / "series" / "1.dcm").write_bytes(SLICE.read_bytes())
    kdmri.save(kdmri.undersample(series, 1), "full.h5")
    kdmri.save(kdmri.undersample(series, 4), "scan.h5")
    kdmri.save(kdmri.undersample(series, 4), "demo-out/abdomen_r4.h5")
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_python_in_a_page_runs(page: str, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert snippets(page)
    namespace: dict[str, object] = {"paths": [files / "scan.h5"], "upload": b"hello"}
    for snippet in snippets(page):
        exec(compile(snippet, page, "exec"), namespace)
    promised = re.findall(r"print\(error\) +# (.*)", "".join(snippets(page)))
    assert capsys.readouterr().out.splitlines() == promised
    assert (files / ("scan.nii.gz" if "python" in page else "images.nii.gz")).exists()


def test_requests_in_the_pages_name_parameters_that_exist() -> None:
    paths = create_app().openapi()["paths"]
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "how-to").glob("*.md")]
    requests = [
        request for page in pages for request in re.findall(r"localhost:8000(/[\w-]+)(\?[^ '\n]*)?", page.read_text())
    ]
    assert len(requests) > 10
    for path, query in requests:
        (operation,) = paths[path].values()
        known = {parameter["name"] for parameter in operation.get("parameters", [])}
        assert {item.partition("=")[0] for item in query.lstrip("?").split("&") if item} <= known
