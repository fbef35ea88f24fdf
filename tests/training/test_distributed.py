"""Two processes (gloo, by torchrun) learn what one learns from the same global batch."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from kdmri_training.data.enlargement import Enlargement
from kdmri_training.learning.fit import share

from kdmri.errors import InvalidRequest
from tests.training.experiments import write_data, write_recipe

KDMRI = str(Path(sys.executable).with_name("kdmri"))
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def train(recipe: Path, folder: Path, processes: int) -> list[dict[str, float]]:
    runs = folder / f"runs{processes}"
    arguments = [KDMRI, "train", str(recipe), "--data", str(folder), "--runs", str(runs), "--precision", "32-true"]
    launcher = TORCHRUN if processes > 1 else [sys.executable]
    command = [*launcher, *arguments, "--devices", str(processes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    log = runs / "reproduction-brain-0.1.0" / "log.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.mark.timeout(600)
def test_two_processes_have_the_loss_of_one(tmp_path: Path) -> None:
    """The teacher's, attention transfer's and imitation's; weights at the end as well."""
    write_data(tmp_path)
    recipe = write_recipe(tmp_path, "reproduction_brain", methods='["plain", "kd", "fitnets"]', seeds="[]")
    one, two = (train(recipe, tmp_path, processes) for processes in (1, 2))
    assert [entry["stage"] for entry in one] == [entry["stage"] for entry in two]
    assert len(one) == 7
    for alone, shared in zip(one, two, strict=True):
        if alone["stage"] != "fitnets-0/first":
            # Hints are in units of each process's share of the teacher's features.
            assert shared["loss"] == pytest.approx(alone["loss"], rel=1e-4), alone["stage"]
            assert shared["score"] == pytest.approx(alone["score"], rel=1e-3), alone["stage"]
    weights = [
        torch.load(tmp_path / runs / "reproduction-brain-0.1.0/kd-0/second/best.pt", weights_only=True)["network"]
        for runs in ("runs1", "runs2")
    ]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, atol=1e-4, rtol=1e-3)


def test_processes_share_a_batch_equally_or_not_at_all() -> None:
    batch = Enlargement(torch.rand(4, 3, 3), torch.rand(4, 3, 3))
    parts = [share(batch, SimpleNamespace(world_size=2, global_rank=rank)) for rank in range(2)]
    torch.testing.assert_close(torch.stack([p.target for p in parts], dim=1).flatten(0, 1), batch.target)
    with pytest.raises(InvalidRequest, match="3 processes can share equally, got 4"):
        share(batch, SimpleNamespace(world_size=3, global_rank=0))
