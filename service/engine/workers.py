"""Agreement between worker processes on one decision, through a file in the folder that they share."""

import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from kdmri_service.observability.multiprocess import FOLDER


def agree(name: str, decide: Callable[[], dict[str, str]]) -> dict[str, str]:
    """Return one decision for all workers: with several of them, that of the first to finish.

    Args:
        name: Identifies the decision.
        decide: Makes it; it may run in several workers at once.

    Returns:
        The decision that all workers, and those started later in their place, agree on.
    """
    # A single worker has no shared folder, and nobody to agree with.
    if not (shared := os.environ.get(FOLDER)):
        return decide()
    file = Path(shared) / f"{name}.json"
    if not file.exists():
        with tempfile.NamedTemporaryFile("w", dir=shared, suffix=".undecided") as draft:
            draft.write(json.dumps(decide()))
            draft.flush()
            # A link appears at once, complete, and only if there is none yet; a rename would replace the first one.
            with suppress(FileExistsError):
                os.link(draft.name, file)
    decision: dict[str, str] = json.loads(file.read_text())
    return decision
