"""Write the records anew: `python -m tests.contract.record`, after a change of the contract that is meant."""

import json
from pathlib import Path

from fastapi.testclient import TestClient
from kdmri_service.app import create_app
from kdmri_service.settings import Settings

from tests.contract import commands, interface, precise
from tests.contract.requests import MAX_UPLOAD_MB, calls, send, summary

HERE = Path(__file__).parent
RECORD, IMAGES, INTERFACE, COMMANDS = (HERE / f"{name}.json" for name in ("record", "images", "interface", "commands"))
SETTINGS = Settings(shadow_rate=0, backend="onnxruntime", parsers=0, max_upload_mb=MAX_UPLOAD_MB)


def main() -> None:
    """Send every request to the service of this checkout, run every command, and write what came."""
    with TestClient(create_app(SETTINGS), raise_server_exceptions=False) as client:
        write(RECORD, {name: summary(send(client, call)) for name, call in calls()})
        write(IMAGES, precise.images(client))
        write(INTERFACE, {"metrics": interface.metrics(client), "operations": interface.operations(client)})
    write(COMMANDS, commands.summaries())


def write(target: Path, value: object) -> None:
    """Write a record, one value a line so that a diff shows what changed."""
    target.write_text(json.dumps(value, indent=0, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
