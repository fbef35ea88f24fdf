"""The databases that the store runs on: SQLite in a folder, and Debian's PostgreSQL with a data folder of its own."""

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ACCOUNT = "postgres"


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, the newest version's."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders else None


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """Yield the URL of a server that listens on a socket in a temporary folder, up to the database's name."""
    binaries = programs()
    if binaries is None:
        pytest.skip("no PostgreSQL: apt install postgresql")
    pytest.importorskip("psycopg", reason="no driver of PostgreSQL: pip install kdmri[postgresql]")
    # The server refuses to run as root, and then needs a folder that its own account can enter.
    account = ACCOUNT if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="kdmri-pg-"))
    shutil.chown(folder, account)

    def run(*command: str) -> None:
        subprocess.run([binaries / command[0], *command[1:]], user=account, check=True, capture_output=True, cwd=folder)

    data = str(folder / "data")
    run("initdb", "-D", data, "-U", "kdmri", "-A", "trust", "--no-sync")
    run("pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", f"-c listen_addresses='' -k {folder}", "start")
    try:
        yield f"postgresql://kdmri@/{{}}?host={folder}"
    finally:
        run("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Return what makes an empty database and returns its URL, on each of the two systems."""
    if request.param == "sqlite":
        return lambda: f"sqlite:///{tmp_path}/{uuid.uuid4().hex}.sqlite"
    url: str = request.getfixturevalue("postgresql")

    def create() -> str:
        import psycopg

        name = f"jobs_{uuid.uuid4().hex}"
        with psycopg.connect(url.format("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return url.format(name)

    return create
