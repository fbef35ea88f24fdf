"""Without a GPU torch comes from an index of CPU builds, if that index can be reached."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tools import torch_index


class Index(BaseHTTPRequestHandler):
    """A package index that has torch and nothing else."""

    def do_HEAD(self) -> None:
        self.send_response(200 if self.path == "/cpu/torch/" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Write no line for each request."""


@pytest.fixture
def index() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Index) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/cpu"
        server.shutdown()
        thread.join()


def test_an_index_that_answers_is_added_where_there_is_no_driver(index: str, tmp_path: Path) -> None:
    assert torch_index.chosen_index(index, tmp_path / "absent") == index


def test_a_driver_needs_the_build_with_cuda(index: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert torch_index.chosen_index(index, tmp_path) == ""
    assert "CUDA" in capsys.readouterr().err


def test_an_index_that_lacks_torch_or_does_not_answer_is_left_out_and_said_so(
    index: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}"
        for wrong in (f"{index}/other", closed):
            assert torch_index.chosen_index(wrong, tmp_path / "absent") == ""
            assert "cannot be reached" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "option"), [("", "\n"), ("https://x.example", "--extra-index-url https://x.example\n")]
)
def test_an_index_that_is_given_is_used_without_a_look(
    given: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    torch_index.main(given)
    assert capsys.readouterr().out == option
