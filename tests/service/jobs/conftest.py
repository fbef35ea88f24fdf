"""The databases that the store runs on: SQLite in a folder, and Debian's PostgreSQL with a data folder of its own."""

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ACCOUNT = "postgres"


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, the newest version's."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders else None


@dataclass(frozen=True)
class Server:
    """A PostgreSQL that listens on a socket in a temporary folder."""

    folder: Path
    run: Callable[..., None]

    @property
    def url(self) -> str:
        """URL of a database, up to its name."""
        return f"postgresql://kdmri@/{{}}?host={self.folder}"

    def start(self) -> None:
        options = f"-c listen_addresses='' -k {self.folder}"
        self.run(
            "pg_ctl", "-D", str(self.folder / "data"), "-w", "-l", str(self.folder / "log"), "-o", options, "start"
        )

    def stop(self) -> None:
        """End it as a crash would."""
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-m", "immediate", "stop")

    def create(self) -> str:
        """Make an empty database and return its URL."""
        import psycopg

        name = f"jobs_{uuid.uuid4().hex}"
        with psycopg.connect(self.url.format("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url.format(name)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """Run Debian's PostgreSQL; tests that need it skip where it is absent."""
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

    run("initdb", "-D", str(folder / "data"), "-U", "kdmri", "-A", "trust", "--no-sync")
    server = Server(folder, run)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Return what makes an empty database and returns its URL, on each of the two systems."""
    if request.param == "sqlite":
        return lambda: f"sqlite:///{tmp_path}/{uuid.uuid4().hex}.sqlite"
    server: Server = request.getfixturevalue("postgresql")
    return server.create
