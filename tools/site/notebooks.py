"""Notebooks of the tutorials: the pages in docs/tutorials, run, with their answers, in examples/.

A tutorial's page is a notebook in jupytext's Markdown. A fence of kind `text` after a code cell holds what the cell
prints; the picture of a cell is docs/figures/<tutorial>.png. `python -m tools.site.notebooks` writes both.
"""

import base64
import re
import tempfile
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).parents[2]
TUTORIALS = ROOT / "docs" / "tutorials"
EXAMPLES = ROOT / "examples"
FIGURES = ROOT / "docs" / "figures"
SITE_LINK = re.compile(r"\]\(\.\./")
TIMEOUT = 600
"""Seconds that a cell may take."""


def notebook(page: Path) -> NotebookNode:
    """Return a tutorial as a notebook that was not run: links lead to the pages, and cells have stable ids."""
    cells = jupytext.read(page)
    for number, cell in enumerate(cells.cells):
        cell.id = f"cell-{number}"
        if cell.cell_type == "markdown":
            # What cells print stands below them in a notebook.
            cell.source = SITE_LINK.sub("](../docs/", re.sub(r"```text\n.*?```\n*", "", cell.source, flags=re.DOTALL))
    cells.metadata = {"kernelspec": cells.metadata["kernelspec"]}
    return cells


def run(cells: NotebookNode, folder: Path) -> None:
    """Run a notebook in a folder; the cells get their outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    NotebookClient(cells, timeout=TIMEOUT, resources={"metadata": {"path": str(folder)}}).execute()
    for cell in cells.cells:
        # Warnings quote paths of this machine, and times differ from run to run.
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                # Pillow shows a picture in two formats: one is enough.
                output.get("data", {}).pop("image/jpeg", None)


def outputs_of(cells: NotebookNode) -> list[str]:
    """Return what each code cell printed, without those that printed nothing."""
    texts = [
        "".join(output.text for output in cell.outputs if output.output_type == "stream")
        for cell in cells.cells
        if cell.cell_type == "code"
    ]
    return [text.strip() for text in texts if text.strip()]


def outputs_in_page(page: Path) -> list[str]:
    """Return what a tutorial's page says that its cells print."""
    return [text.strip() for text in re.findall(r"```text\n(.*?)```", page.read_text(), flags=re.DOTALL)]


def picture(cells: NotebookNode) -> bytes | None:
    """Return the last picture that a cell showed."""
    outputs = [output for cell in cells.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    return base64.b64decode(shown[-1]) if shown else None


def main() -> None:
    """Run every tutorial and write its notebook and its picture."""
    for page in sorted(TUTORIALS.glob("*.md")):
        cells = notebook(page)
        with tempfile.TemporaryDirectory() as folder:
            run(cells, Path(folder))
        nbformat.write(cells, EXAMPLES / f"{page.stem}.ipynb")
        if shown := picture(cells):
            (FIGURES / f"{page.stem}.png").write_bytes(shown)


if __name__ == "__main__":
    main()
