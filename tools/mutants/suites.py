"""Packages whose tests are tried on mutants, and for each module the quickest tests that hold it.

A mutant runs the files of its module in order until a test fails: the mirror of the module comes first, tests that run
it within something larger come last.
"""

from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "engine": "service/engine",
    "operations": "kdmri/operations",
    "physics": "kdmri/physics",
    "parsing": "service/engine/parsing",
}
"""Folder of each package by the name under which its figures are kept."""

PARSERS = "tests/service/engine/parsing"
SUITES: dict[str, tuple[str, ...]] = {
    "kdmri/physics/acquisition.py": ("tests/physics/test_acquisition.py", "tests/physics/test_consistency.py"),
    "kdmri/physics/coils.py": ("tests/physics/test_coils.py", "tests/physics/test_consistency.py"),
    "kdmri/physics/consistency.py": ("tests/physics/test_consistency.py", "tests/physics/test_acquisition.py"),
    "kdmri/physics/espirit.py": ("tests/physics/test_espirit.py",),
    "kdmri/physics/fourier.py": ("tests/physics/test_fourier.py", "tests/physics/test_fourier_bart.py"),
    "kdmri/physics/noise.py": ("tests/physics/test_noise.py",),
    "kdmri/physics/readout.py": ("tests/physics/test_readout.py",),
    "kdmri/physics/resampling.py": ("tests/physics/test_resampling.py",),
    "kdmri/physics/sampling.py": ("tests/physics/test_sampling.py",),
    "kdmri/physics/scaling.py": ("tests/physics/test_scaling.py", "tests/physics/test_acquisition.py"),
    "kdmri/physics/sparse_fit.py": ("tests/physics/test_sparse_fit.py",),
    "kdmri/operations/encoding.py": ("tests/operations/test_encoding.py",),
    "kdmri/operations/operation.py": (
        "tests/operations/test_encoding.py",
        "tests/operations/test_jobs.py",
        "tests/operations/test_predictions.py",
    ),
    "kdmri/operations/packing.py": ("tests/operations/test_packing.py", f"{PARSERS}/test_messages.py"),
    "kdmri/operations/reconstruction.py": (
        "tests/operations/test_jobs.py",
        "tests/operations/test_predictions.py",
        "tests/operations/test_packing.py",
    ),
    "kdmri/operations/super_resolution.py": (
        "tests/operations/test_jobs.py",
        "tests/operations/test_packing.py",
    ),
    "kdmri/operations/undersampling.py": ("tests/operations/test_undersampling.py",),
    "service/engine/answer.py": (
        "tests/service/engine/test_answer.py",
        "tests/service/transports/test_reconstruct.py",
    ),
    "service/engine/cancellation.py": (
        "tests/service/engine/test_cancellation.py",
        "tests/service/engine/test_batches.py",
    ),
    "service/engine/catalogue.py": ("tests/service/engine/test_catalogue.py",),
    "service/engine/engine.py": (
        "tests/service/engine/test_cancellation.py",
        "tests/service/transports/test_reconstruct.py",
        "tests/service/transports/test_super_resolve.py",
    ),
    "service/engine/inference.py": (
        "tests/service/engine/test_cancellation.py",
        "tests/service/engine/test_batches.py",
    ),
    "service/engine/scheduler.py": ("tests/service/engine/test_scheduler.py", "tests/service/engine/test_batches.py"),
    "service/engine/workers.py": ("tests/service/engine/test_workers.py", "tests/service/engine/test_catalogue.py"),
    "service/engine/parsing/messages.py": (f"{PARSERS}/test_messages.py", f"{PARSERS}/test_pool.py"),
    "service/engine/parsing/nursery.py": (f"{PARSERS}/test_pool.py",),
    "service/engine/parsing/pool.py": (f"{PARSERS}/test_pool.py", f"{PARSERS}/test_turns.py"),
    "service/engine/parsing/sandbox.py": (f"{PARSERS}/test_sandbox.py", f"{PARSERS}/test_pool.py"),
    "service/engine/parsing/turns.py": (f"{PARSERS}/test_turns.py",),
    "service/engine/parsing/worker.py": (f"{PARSERS}/test_pool.py",),
}
"""Test files by module, relative to the repository."""


def modules(package: str) -> list[Path]:
    """Return the modules of a package that have tests here, relative to the repository."""
    return [path for path in map(Path, SUITES) if path.parent == Path(PACKAGES[package])]
