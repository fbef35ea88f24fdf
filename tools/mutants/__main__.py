"""Try mutants of a sample and write docs/reports/mutants.md: `python -m tools.mutants`, about ten minutes a package."""

import subprocess
import time
from datetime import UTC, datetime
from typing import Annotated

import typer
from cosmic_ray.work_item import MutationSpec

from tools.mutants import logic, page, suites, trial

SAMPLE = 24
SEED = 1
LEAST_TIMEOUT = 60.0
"""Seconds: below it, a busy machine would kill mutants that no test kills."""


def main(
    packages: Annotated[
        list[str] | None, typer.Argument(help="engine, operations, physics, parsing; by default all")
    ] = None,
    sample: Annotated[int, typer.Option(min=1, help="places of the source to try in each package")] = SAMPLE,
    seed: Annotated[int, typer.Option(help="seed of the sample")] = SEED,
    every: Annotated[bool, typer.Option("--all", help="try every mutation: hours")] = False,
    modules: Annotated[str, typer.Option(help="only modules with this in their path; writes no figures")] = "",
) -> None:
    """Try mutants of each package, and write the report."""
    for package in packages or list(suites.PACKAGES):
        with trial.copy_of_repository():
            commit = _commit()
            counted = logic.mutations(suites.modules(package))
            chosen = counted if every else logic.sample(counted, sample, seed)
            trials = [_try(mutation) for mutation in chosen if modules in str(mutation.module_path)]
        if modules:
            continue
        figures = page.Figures(
            date=f"{datetime.now(UTC):%Y-%m-%d}",
            commit=commit,
            seed=None if every else seed,
            mutations=len(counted),
            trials=trials,
        )
        page.write(figures, package)
        page.PAGE.write_text(page.page())


def _try(mutation: MutationSpec) -> trial.Trial:
    suite = suites.SUITES[str(mutation.module_path)]
    timeout = _timeout(suite)
    found = trial.try_mutant(mutation, suite, timeout=timeout)
    outcome = "killed  " if found.killed else "SURVIVED"
    typer.echo(f"{outcome} {found.module}: {found.before}  ->  {found.after}")
    return found


_timeouts: dict[tuple[str, ...], float] = {}


def _timeout(suite: tuple[str, ...]) -> float:
    """Return seconds for the tests of a mutant: four times those of the code as it is, on which all must pass."""
    if suite not in _timeouts:
        started = time.monotonic()
        if trial.run_tests(suite, timeout=3600) != trial.PASSED:
            typer.echo(trial.OUTPUT.read_text())
            raise SystemExit("expected tests that pass before anything is changed, one fails")
        _timeouts[suite] = max(LEAST_TIMEOUT, 4 * (time.monotonic() - started))
    return _timeouts[suite]


def _commit() -> str:
    """Return the last commit that changed what mutants are made of: commits of tests alone leave it."""
    command = ["git", "log", "-1", "--format=%h", "--", *suites.PACKAGES.values()]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    typer.run(main)
