"""The service speaks TLS by itself, from 1.2 on, and takes a new certificate without ending a connection."""

import datetime
import http.client
import os
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from kdmri_service.tls import Certificate
from kdmri_service.transports.http.connections import ConnectionLimits

from kdmri.errors import InvalidRequest
from tests.e2e.serving import PATIENCE
from tests.service.transports.test_connections import serving


def write(folder: Path, serial: int) -> tuple[Path, Path]:
    """Write a self-signed certificate of a serial number, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = folder / "tls.crt", folder / "tls.key"
    for file, content in zip(
        files,
        (
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        ),
        strict=True,
    ):
        # A new file under the old name, as tools that renew certificates do it.
        draft = file.with_suffix(".new")
        draft.write_bytes(content)
        os.replace(draft, file)  # noqa: PTH105
    return files


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> int:
    """Let two contexts agree on a connection in memory; return the serial number of the server's certificate."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    pending = [ours, theirs]
    while pending:
        for side in list(pending):
            try:
                side.do_handshake()
                pending.remove(side)
            except ssl.SSLWantReadError:
                continue
    certificate = ours.getpeercert(binary_form=True)
    assert certificate is not None
    return x509.load_der_x509_certificate(certificate).serial_number


def anybody() -> ssl.SSLContext:
    """Return the context of a client that looks at no certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def test_a_new_certificate_is_presented_without_a_restart(tmp_path: Path) -> None:
    listening = Certificate(*write(tmp_path, 1)).context()
    assert shake_hands(listening, anybody()) == 1
    write(tmp_path, 2)
    assert shake_hands(listening, anybody()) == 2


def test_a_broken_renewal_leaves_the_old_certificate(tmp_path: Path) -> None:
    certificate, key = write(tmp_path, 1)
    listening = Certificate(certificate, key).context()
    kept = key.read_bytes()
    write(tmp_path, 2)
    new = key.read_bytes()
    key.write_bytes(kept)
    # A certificate that belongs to another key, then half a key, then the whole.
    assert shake_hands(listening, anybody()) == 1
    key.write_bytes(new[:50])
    assert shake_hands(listening, anybody()) == 1
    key.write_bytes(new)
    assert shake_hands(listening, anybody()) == 2


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_older_versions_are_refused(tmp_path: Path) -> None:
    listening = Certificate(*write(tmp_path, 1)).context()
    old = anybody()
    # OpenSSL offers TLS 1.1 only at its lowest level of security.
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        shake_hands(listening, old)
    new = anybody()
    new.maximum_version = ssl.TLSVersion.TLSv1_2
    assert shake_hands(listening, new) == 1


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    certificate, key = write(tmp_path, 1)
    kept = key.read_bytes()
    write(tmp_path, 2)
    key.write_bytes(kept)
    with pytest.raises(InvalidRequest, match="expected PEM files of a certificate chain and its key"):
        Certificate(certificate, key)
    with pytest.raises(InvalidRequest, match="got FileNotFoundError"):
        Certificate(tmp_path / "none.crt", key)


def test_a_connection_outlives_the_certificate_that_it_began_with(tmp_path: Path) -> None:
    context = Certificate(*write(tmp_path, 1)).context()
    with serving(ConnectionLimits(window_seconds=3600), context) as server:
        first = http.client.HTTPSConnection("localhost", server.port, context=anybody(), timeout=PATIENCE)
        first.request("GET", "/")
        assert first.getresponse().read() == b"served"
        write(tmp_path, 2)
        second = http.client.HTTPSConnection("localhost", server.port, context=anybody(), timeout=PATIENCE)
        second.request("GET", "/")
        assert second.getresponse().read() == b"served"
        assert isinstance(second.sock, ssl.SSLSocket)
        assert x509.load_der_x509_certificate(second.sock.getpeercert(True) or b"").serial_number == 2
        first.request("GET", "/")
        assert first.getresponse().read() == b"served"
        first.close()
        second.close()
