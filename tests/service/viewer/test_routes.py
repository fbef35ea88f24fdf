"""The page's routes: static files under a strict policy, nothing else of the server's disk."""

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from kdmri_service.auth.policy import scope_of
from kdmri_service.viewer.routes import STATIC

FILES = sorted(path.name for path in STATIC.iterdir())


def test_the_page_and_each_of_its_files_forbid_foreign_scripts(client: TestClient) -> None:
    for address in ("/", *(f"/page/{name}" for name in FILES)):
        answer = client.get(address)
        assert answer.status_code == 200, address
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert not {"unsafe", "http"} & set(re.findall(r"[a-z]+", policy))
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["..%2froutes.py", "%2e%2e/routes.py", "routes.py", "%2fetc%2fpasswd", "page.js%00"])
def test_nothing_but_the_pages_files_is_served(client: TestClient, name: str) -> None:
    assert client.get(f"/page/{name}").status_code == 404


def test_the_page_asks_no_other_server() -> None:
    for path in STATIC.iterdir():
        addresses = re.findall(r"https?://[\w./-]+", path.read_text())
        # A namespace is a name, not an address that is fetched.
        assert set(addresses) <= {"http://www.w3.org/2000/svg"}, path.name


def test_scripts_set_text_never_markup() -> None:
    for path in STATIC.glob("*.js"):
        for dangerous in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert dangerous not in path.read_text(), f"{path.name}: {dangerous}"


def test_the_page_is_open_and_work_is_not() -> None:
    for path in ("/", "/page/page.js"):
        assert scope_of(path) is None
    for path in ("/reconstruct", "/pages", "/page", "/models"):
        assert scope_of(path) is not None


def test_every_file_that_the_page_names_exists() -> None:
    named = {name for path in STATIC.iterdir() for name in re.findall(r"/page/([\w.-]+)", path.read_text())}
    assert named <= set(FILES)
    assert {Path(name).name for name in FILES} - {"index.html"} <= named
