"""The nginx configuration as it is handed out, but for ports and paths, before a running service."""

import http.client
import io
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import h5py
import httpx2
import pydicom
import pytest

from tools.harness import live, traffic

CONFIG = Path(__file__).parents[2] / "deploy" / "nginx" / "kdmri.conf"
NAME, PASSWORD = "radiology", "correct horse"
WRAPPER = """
daemon off; user root; pid {folder}/pid; error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {folder}/kdmri.conf;
}}
"""


def openssl(*arguments: str | Path) -> str:
    return subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def proxy(service: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int, ssl.SSLContext]]:
    """Ports of a running nginx, plain and TLS, and how to trust its certificate."""
    if missing := [tool for tool in ("nginx", "openssl") if shutil.which(tool) is None]:
        pytest.skip(f"no {' and no '.join(missing)}: Debian has packages of these names")
    folder = tmp_path_factory.mktemp("nginx")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    key, certificate = folder / "kdmri.key", folder / "kdmri.crt"
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, *subject)
    (folder / "kdmri.htpasswd").write_text(f"{NAME}:{openssl('passwd', '-apr1', PASSWORD)}")
    plain, secure = live.free_port(), live.free_port()
    text = CONFIG.read_text()
    for handed_out, here in {
        "listen 80;": f"listen 127.0.0.1:{plain};",
        "listen 443 ssl;": f"listen 127.0.0.1:{secure} ssl;",
        "/etc/nginx/tls/": f"{folder}/",
        "/etc/nginx/kdmri.htpasswd": f"{folder}/kdmri.htpasswd",
        "http://127.0.0.1:8000": service,
    }.items():
        assert handed_out in text
        text = text.replace(handed_out, here)
    (folder / "kdmri.conf").write_text(text)
    (folder / "nginx.conf").write_text(WRAPPER.format(folder=folder))
    trusting = ssl.create_default_context(cafile=certificate)

    def ready() -> bool:
        try:
            return httpx2.get(f"https://localhost:{secure}/livez", verify=trusting).status_code == 401
        except httpx2.TransportError:
            return False

    # -p, so that no path compiled in is written to; the log's first lines may name one all the same.
    command = ["nginx", "-p", folder, "-e", folder / "early.log", "-c", folder / "nginx.conf"]
    with live.process(command, ready=ready, log=folder / "nginx.log"):
        yield plain, secure, trusting


@pytest.fixture
def client(proxy: tuple[int, int, ssl.SSLContext]) -> Iterator[httpx2.Client]:
    _, port, trusting = proxy
    address = f"https://localhost:{port}"
    with httpx2.Client(base_url=address, verify=trusting, auth=(NAME, PASSWORD), timeout=60) as client:
        yield client


def test_both_endpoints_answer_through_it(client: httpx2.Client) -> None:
    answer = traffic.reconstruct(client, "student").raise_for_status()
    assert h5py.File(io.BytesIO(answer.content))["reconstruction"].shape == (1, 64, 64)
    assert answer.headers["KDMRI-Role"] == "student"
    answer = traffic.super_resolve(client, "student").raise_for_status()
    assert pydicom.dcmread(io.BytesIO(answer.content)).Rows == 128


def test_without_a_password_nothing_is_answered(client: httpx2.Client) -> None:
    client.auth = None
    assert traffic.reconstruct(client, "student").status_code == 401


def test_plain_http_is_sent_to_https(proxy: tuple[int, int, ssl.SSLContext]) -> None:
    answer = httpx2.get(f"http://127.0.0.1:{proxy[0]}/models", headers={"Host": "kdmri.example.org"})
    assert (answer.status_code, answer.headers["location"]) == (301, "https://kdmri.example.org/models")


def test_metrics_stay_inside(client: httpx2.Client) -> None:
    assert client.get("/metrics").status_code == 404
    assert client.get("/readyz").status_code == 200


def test_the_service_refuses_what_is_over_its_limit_and_says_why(client: httpx2.Client) -> None:
    answer = traffic.super_resolve(client, "student", bytes(2 * 2**20))
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


def test_nginx_refuses_what_is_far_over_it_without_reading_it(proxy: tuple[int, int, ssl.SSLContext]) -> None:
    _, port, trusting = proxy
    connection = http.client.HTTPSConnection("localhost", port, context=trusting)
    connection.putrequest("POST", "/reconstruct")
    connection.putheader("Content-Length", str(600 * 2**20))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
