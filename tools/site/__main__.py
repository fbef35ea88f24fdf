"""Write the generated reference pages into docs/reference/."""

from pathlib import Path

from tools.site.commands import commands_page
from tools.site.http import http_page
from tools.site.metrics import metrics_page
from tools.site.settings import settings_page

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
PAGES = {
    "command-line.md": commands_page,
    "http.md": http_page,
    "metrics.md": metrics_page,
    "settings.md": settings_page,
}


def main() -> None:
    """Write every page."""
    REFERENCE.mkdir(exist_ok=True)
    for name, make in PAGES.items():
        (REFERENCE / name).write_text(make())


if __name__ == "__main__":
    main()
