"""Write the record anew: `python -m tests.contract.record`, after a change of the contract that is meant."""

import json
from pathlib import Path

from fastapi.testclient import TestClient
from kdmri_service.app import create_app
from kdmri_service.settings import Settings

from tests.contract.requests import calls, send, summary

RECORD = Path(__file__).with_name("record.json")
SETTINGS = Settings(shadow_rate=0, backend="onnxruntime", parsers=0)


def main() -> None:
    """Send every request to the service of this checkout, and write what came."""
    with TestClient(create_app(SETTINGS), raise_server_exceptions=False) as client:
        answers = {name: summary(send(client, call)) for name, call in calls()}
    RECORD.write_text(json.dumps(answers, indent=0, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
