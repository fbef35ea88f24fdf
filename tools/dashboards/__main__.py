"""Write the Grafana dashboards as JSON, by default to deploy/grafana/dashboards: `python -m tools.dashboards [FOLDER]`.

They query what the service exports and nothing else, so they work on any Prometheus that scrapes it as job `kdmri`.
Laid out for 1280 x 800: the figures and the first two rows of graphs are seen without scrolling.
"""

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from tools.dashboards import capacity, overview, teacher_against_student

COMMITTED = Path(__file__).parents[2] / "deploy" / "grafana" / "dashboards"
DASHBOARDS = {
    "teacher-against-student": teacher_against_student.dashboard,
    "overview": overview.dashboard,
    "capacity": capacity.dashboard,
}


def write(folder: Path) -> None:
    """Write each dashboard's JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, dashboard in DASHBOARDS.items():
        text = json.dumps(dashboard(), cls=JSONEncoder, indent=2, sort_keys=True)
        (folder / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else COMMITTED)
