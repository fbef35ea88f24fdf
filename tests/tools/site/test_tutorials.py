"""Tutorials run, print what their pages say, and are the notebooks in examples/."""

from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest

from tools.site.notebooks import EXAMPLES, TUTORIALS, notebook, outputs_in_page, outputs_of, picture, run

PAGES = sorted(TUTORIALS.glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_prints_what_its_page_says(page: Path, tmp_path: Path) -> None:
    if "onnx.export" in page.read_text() and find_spec("onnxscript") is None:
        pytest.skip("the extra `train` is not installed")
    cells = notebook(page)
    run(cells, tmp_path)
    assert outputs_in_page(page)
    assert outputs_of(cells) == outputs_in_page(page)
    assert bool(picture(cells)) == (f"figures/{page.stem}.png" in page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_notebook_in_examples_is_that_of_the_page(page: Path) -> None:
    committed = nbformat.read(EXAMPLES / f"{page.stem}.ipynb", as_version=4)
    sources = [(cell.cell_type, cell.source) for cell in committed.cells]
    assert sources == [(cell.cell_type, cell.source) for cell in notebook(page).cells]
    assert outputs_of(committed) == outputs_in_page(page)
