"""The page docs/reports/mutants.md, written from the figures of the last run on each package."""

import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import BaseModel

from tools.mutants.suites import PACKAGES, ROOT
from tools.mutants.trial import Trial

PAGE = ROOT / "docs" / "reports" / "mutants.md"
FIGURES = PAGE.with_suffix("")
EQUIVALENT = Path(__file__).parent / "equivalent.toml"

HEAD = """# Mutants: what the tests notice

Written by `make mutants`, that is `python -m tools.mutants`. A mutant is this project's code with one wrong condition,
loop or sign; it is killed if a test fails or runs into its time limit. [cosmic-ray](https://cosmic-ray.readthedocs.io)
makes the mutants in a copy of the repository. The tests of a mutant are the quickest that hold its module
(`tools/mutants/suites.py`).

## How mutants are counted

- **Mutations of logic count**: comparisons (negated and moved by the boundary), `and` and `or`, a condition negated,
  `not`, a minus or `~` left out, `True` and `False`, `break` and `continue`, a loop without a pass, `+ - * / // % **`,
  `|` and `&`.
- **Left out** are numbers (tolerances, sizes), annotations, decorators, what a `raise` or a log line says, text, and
  replacements that make code fail for any input, such as a sum of floats made a shift of bits.
- **A sample** is drawn by place in the source, with a fixed seed, and one mutation of each place; `--all` tries every
  mutation.
- **Equivalent mutants** do the same as the code for all inputs that the code can get: no test can kill them. They are
  listed below with a reason each, and are not part of the share.

"""


class Figures(BaseModel):
    """A run on one package."""

    date: str
    commit: str
    """The last commit that changed the code that was tried."""
    seed: int | None
    """Seed of the sample; None if every mutation was tried."""
    mutations: int
    """Number of mutations of logic in the package."""
    trials: list[Trial]


class Equivalent(BaseModel):
    """A mutant that no test can kill."""

    module: str
    before: str
    after: str
    reason: str


def equivalents() -> list[Equivalent]:
    """Return the mutants that are known to be equivalent."""
    return [Equivalent.model_validate(entry) for entry in tomllib.loads(EQUIVALENT.read_text())["mutant"]]


def write(figures: Figures, package: str) -> None:
    """Keep the figures of a run."""
    FIGURES.mkdir(exist_ok=True)
    (FIGURES / f"{package}.json").write_text(figures.model_dump_json(indent=1) + "\n")


def page() -> str:
    """Return the page for the figures of the last runs."""
    runs = {
        package: Figures.model_validate_json((FIGURES / f"{package}.json").read_text())
        for package in PACKAGES
        if (FIGURES / f"{package}.json").exists()
    }
    return HEAD + _shares(runs) + _equivalent(runs) + _survivors(runs)


def _reason(trial: Trial, known: Sequence[Equivalent]) -> str | None:
    same = (e.reason for e in known if (e.module, e.before, e.after) == (trial.module, trial.before, trial.after))
    return next(same, None)


def _shares(runs: dict[str, Figures]) -> str:
    known, rows = equivalents(), []
    for package, run in runs.items():
        counted = [trial for trial in run.trials if trial.killed or _reason(trial, known) is None]
        killed = sum(trial.killed for trial in counted)
        sample = "all" if run.seed is None else f"{len(run.trials)} of {run.mutations}, seed {run.seed}"
        rows.append(
            [
                f"`{PACKAGES[package]}`",
                sample,
                str(killed),
                str(len(counted) - killed),
                str(len(run.trials) - len(counted)),
                f"**{100 * killed / len(counted):.0f}%**",
                f"{run.date}, `{run.commit}`",
            ]
        )
    columns = ("package", "mutants tried", "killed", "survived", "equivalent", "share killed", "run")
    return f"## Share of mutants that die\n\nAimed at: 90% in each package.\n\n{_table(columns, rows)}\n"


def _equivalent(runs: dict[str, Figures]) -> str:
    known = equivalents()
    rows = [
        [f"`{trial.module}`", f"`{trial.before}`", f"`{trial.after}`", reason]
        for run in runs.values()
        for trial in run.trials
        if not trial.killed and (reason := _reason(trial, known))
    ]
    return f"## Equivalent mutants\n\n{_table(('module', 'code', 'mutant', 'why no test can kill it'), rows)}\n"


def _survivors(runs: dict[str, Figures]) -> str:
    known = equivalents()
    rows = [
        [f"`{trial.module}`", f"`{trial.before}`", f"`{trial.after}`"]
        for run in runs.values()
        for trial in run.trials
        if not trial.killed and _reason(trial, known) is None
    ]
    return f"## Survivors\n\n{_table(('module', 'code', 'mutant'), rows)}" if rows else "## Survivors\n\nNone.\n"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
