"""The commands train, export and evaluate read the data set that --data or KDMRI_DATA names, and suppose none."""

from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from kdmri_training import cli
from typer.testing import CliRunner


@pytest.mark.parametrize(
    ("command", "arguments"),
    [(cli.train, ["no_such_recipe"]), (cli.export, ["no_such_recipe"]), (cli.evaluate, ["-o", "out"])],
)
def test_a_data_set_has_to_be_named(command: Callable[..., None], arguments: list[str]) -> None:
    app = typer.Typer()
    app.command()(command)
    missing = CliRunner(env={"KDMRI_DATA": None}).invoke(app, arguments)
    assert missing.exit_code == 2
    assert "--data" in missing.stderr
    assert "KDMRI_DATA" in missing.stderr


def test_the_environment_names_the_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named: list[Path] = []
    app = typer.Typer()

    @app.command()
    def command(data: cli.Data) -> None:
        named.append(data)

    monkeypatch.setenv("KDMRI_DATA", str(tmp_path))
    assert CliRunner().invoke(app).exit_code == 0
    assert named == [tmp_path]
