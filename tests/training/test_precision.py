from pathlib import Path

import pytest
import torch
from kdmri_training.learning.precision import choose_precision


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU decides instead of the processor")
@pytest.mark.parametrize(
    ("flags", "precision"),
    [("avx2 fma", "32-true"), ("avx2 avx512_bf16", "bf16-mixed"), ("amx_bf16 amx_tile", "bf16-mixed")],
)
def test_bfloat16_is_for_processors_that_compute_in_it(flags: str, precision: str, tmp_path: Path) -> None:
    listed = tmp_path / "cpuinfo"
    listed.write_text(f"flags\t\t: fpu {flags}\n")
    assert choose_precision(listed) == precision
    assert choose_precision(tmp_path / "absent") == "32-true"
