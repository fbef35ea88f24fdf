"""Requests without the right they need are refused before their body is read, whatever way round is tried."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fastapi.testclient import TestClient
from httpx2 import Response
from kdmri_service.app import create_app
from kdmri_service.auth.keys import add_key, revoke_key
from kdmri_service.auth.policy import authenticator, is_loopback
from kdmri_service.auth.principals import Scope
from kdmri_service.settings import Settings

from kdmri.errors import InvalidRequest

ISSUER, AUDIENCE = "https://idp.example", "kdmri"
PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CURVE = ec.generate_private_key(ec.SECP256R1())
PUBLIC_PEM = PRIVATE.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


def token(key: object = PRIVATE, algorithm: str = "RS256", kid: str | None = "one", **claims: object) -> str:
    """Return a token of the issuer, with some claims changed; None leaves a claim out."""
    valid = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "dr.grey",
        "exp": datetime.now(UTC) + timedelta(minutes=5),
        "scope": "openid infer",
    }
    kept = {name: value for name, value in {**valid, **claims}.items() if value is not None}
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode(kept, key, algorithm, headers=headers)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a key set of two public keys."""
    folder = tmp_path_factory.mktemp("auth")
    keys = [
        json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(PRIVATE.public_key())) | {"kid": "one", "use": "sig"},
        json.loads(jwt.algorithms.ECAlgorithm.to_jwk(CURVE.public_key())) | {"kid": "two", "use": "sig"},
    ]
    (folder / "jwks.json").write_text(json.dumps({"keys": keys}))
    return folder


@pytest.fixture(scope="module")
def keys(folder: Path) -> dict[str, str]:
    """API keys of every kind."""
    file = folder / "keys.jsonl"
    made = {
        "infer": add_key(file, "infer", [Scope.infer]),
        "metrics": add_key(file, "metrics", [Scope.metrics]),
        "admin": add_key(file, "admin", [Scope.admin]),
        "expired": add_key(file, "expired", [Scope.admin], datetime.now(UTC) - timedelta(seconds=1)),
        "revoked": add_key(file, "revoked", [Scope.admin]),
    }
    revoke_key(file, "revoked")
    return made


@pytest.fixture(scope="module")
def client(folder: Path, keys: dict[str, str]) -> Iterator[TestClient]:
    """A service that takes keys and tokens."""
    settings = Settings(
        keys=folder / "keys.jsonl",
        oidc_issuer=ISSUER,
        oidc_audience=AUDIENCE,
        oidc_keys=str(folder / "jwks.json"),
        host="0.0.0.0",
        backend="onnxruntime",
        shadow_rate=0,
        parsers=0,
    )
    with TestClient(create_app(settings), raise_server_exceptions=False) as running:
        yield running


def get(client: TestClient, credential: str | None, path: str = "/models", kind: str = "Bearer") -> Response:
    """Send a request with a credential."""
    return client.get(path, headers={} if credential is None else {"Authorization": f"{kind} {credential}"})


# Made when the test runs: a token that expired since the tests were collected would be refused for that alone.
BAD_TOKENS: dict[str, Callable[[], str]] = {
    "expired": lambda: token(exp=datetime.now(UTC) - timedelta(minutes=5)),
    "not valid yet": lambda: token(nbf=datetime.now(UTC) + timedelta(minutes=5)),
    "without expiry": lambda: token(exp=None),
    "without subject": lambda: token(sub=None),
    "without audience": lambda: token(aud=None),
    "without issuer": lambda: token(iss=None),
    "other audience": lambda: token(aud="orthanc"),
    "list of other audiences": lambda: token(aud=["orthanc", "mercure"]),
    "other issuer": lambda: token(iss="https://evil.example"),
    "issuer with a slash": lambda: token(iss=ISSUER + "/"),
    "other key": lambda: token(OTHER),
    "other key id": lambda: token(kid="two"),
    "unknown key id": lambda: token(kid="three"),
    "no key id among several keys": lambda: token(kid=None),
    "algorithm none": lambda: token("", "none"),
    "shared secret": lambda: token("secret" * 8, "HS256"),
    "the other key's algorithm": lambda: token(CURVE, "ES256", kid="one"),
    "changed payload": lambda: ".".join(
        [token().split(".")[0], token(scope="admin").split(".")[1], token().split(".")[2]]
    ),
    "no signature": lambda: token().rpartition(".")[0] + ".",
    "cut short": lambda: token()[:-8],
    "two tokens": lambda: f"{token()},{token()}",
}


@pytest.mark.parametrize("bad", BAD_TOKENS.values(), ids=BAD_TOKENS)
def test_bad_tokens_are_nobody(client: TestClient, bad: Callable[[], str]) -> None:
    # The same service lets the good token in, so it is the one difference that is refused.
    assert get(client, token()).status_code == 200
    assert get(client, bad()).status_code == 401


def test_the_public_key_is_no_shared_secret(client: TestClient) -> None:
    """The confusion of algorithms: a token signed by HMAC with the public key that anybody has."""

    def part(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "x", "exp": 4102444800, "scope": "admin"}
    signed = part(b'{"alg":"HS256","typ":"JWT","kid":"one"}') + "." + part(json.dumps(claims).encode())
    forged = f"{signed}.{part(hmac.new(PUBLIC_PEM, signed.encode(), hashlib.sha256).digest())}"
    assert get(client, forged).status_code == 401


GOOD_TOKENS: dict[str, Callable[[], str]] = {
    "plain": token,
    "by the other key": lambda: token(CURVE, "ES256", kid="two"),
    "for several audiences": lambda: token(aud=["pacs", AUDIENCE]),
}


@pytest.mark.parametrize("good", GOOD_TOKENS.values(), ids=GOOD_TOKENS)
def test_good_tokens_are_let_in(client: TestClient, good: Callable[[], str]) -> None:
    assert get(client, good()).status_code == 200


@pytest.mark.parametrize("scope", [None, "", "openid", "Infer", "infer-all", "metrics", ["infer "], 7])
def test_tokens_without_the_scope_are_forbidden(client: TestClient, scope: object) -> None:
    assert get(client, token(scope=scope)).status_code == 403


PATHS = ["/models", "/models/dc-cnn-student", "/docs", "/openapi.json", "/metrics", "/none"]
# A path that begins with two slashes would be read as a host: the address is written out.
PATHS += ["http://testserver//models", "/models/", "/livez/", "/livez/../models", "/%6Civez/x", "/METRICS"]


@pytest.mark.parametrize("path", PATHS)
def test_every_path_but_health_needs_somebody(client: TestClient, path: str) -> None:
    assert get(client, None, path).status_code == 401


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_health_is_open(client: TestClient, path: str) -> None:
    assert get(client, None, path).status_code == 200


@pytest.mark.parametrize("kind", ["expired", "revoked"])
def test_keys_that_ended_are_nobody(client: TestClient, keys: dict[str, str], kind: str) -> None:
    assert get(client, keys[kind]).status_code == 401


def test_rights_are_separate(client: TestClient, keys: dict[str, str]) -> None:
    asked = [(key, path) for key in ("infer", "metrics", "admin") for path in ("/models", "/metrics")]
    status = {(key, path): get(client, keys[key], path).status_code for key, path in asked}
    assert status == {
        ("infer", "/models"): 200, ("infer", "/metrics"): 403,
        ("metrics", "/models"): 403, ("metrics", "/metrics"): 200,
        ("admin", "/models"): 200, ("admin", "/metrics"): 200,
    }  # fmt: skip


def test_a_key_goes_by_either_header_but_not_by_the_address(client: TestClient, keys: dict[str, str]) -> None:
    key = keys["infer"]
    assert client.get("/models", headers={"X-API-Key": key}).status_code == 200
    assert get(client, key, kind="bearer").status_code == 200
    assert client.get(f"/models?key={key}&access_token={key}").status_code == 401
    assert client.get("/models", cookies={"key": key}).status_code == 401


@pytest.mark.parametrize("kind", ["Basic", "Token", "", "Digest"])
def test_other_schemes_are_nobody(client: TestClient, keys: dict[str, str], kind: str) -> None:
    assert get(client, keys["infer"], kind=kind).status_code == 401


@pytest.mark.parametrize(
    "names",
    [("Authorization", "Authorization"), ("Authorization", "X-API-Key"), ("X-API-Key", "X-API-Key")],
)
def test_two_credentials_are_none(client: TestClient, keys: dict[str, str], names: tuple[str, str]) -> None:
    """A proxy and the service could each believe another one."""
    headers = [(name, keys["infer"] if name == "X-API-Key" else f"Bearer {keys['infer']}") for name in names]
    assert client.get("/models", headers=headers).status_code == 401


@pytest.mark.parametrize("spoiled", ["{key} ", "{key} x", " {key}", "{key}\t", "x" * 9000, "{key},{key}"])
def test_spoiled_keys_are_nobody(client: TestClient, keys: dict[str, str], spoiled: str) -> None:
    assert get(client, spoiled.format(key=keys["infer"])).status_code == 401


PROXY_HEADERS = ["X-Forwarded-User", "X-Remote-User", "X-Original-URL", "X-Rewrite-URL", "X-Forwarded-For"]


@pytest.mark.parametrize("name", PROXY_HEADERS)
def test_headers_of_proxies_open_nothing(client: TestClient, name: str) -> None:
    assert client.get("/models", headers={name: "/livez"}).status_code == 401


def test_refusals_say_what_was_expected_and_repeat_nothing(client: TestClient, keys: dict[str, str]) -> None:
    refused = get(client, "kdmri_wrong")
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert refused.headers["content-type"] == "application/problem+json"
    assert "x-request-id" in refused.headers
    assert "kdmri_wrong" not in refused.text
    forbidden = get(client, keys["metrics"])
    assert forbidden.json()["detail"] == "expected a key or token with the scope infer"


def test_a_body_is_not_read_before_the_key(client: TestClient) -> None:
    # A body of this type would be refused with 415 as soon as it is looked at.
    answer = client.post("/reconstruct", content=b"x", headers={"Content-Type": "text/plain"})
    assert answer.status_code == 401


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "kdmri.hospital.example"])
def test_an_open_service_is_refused_where_others_reach_it(host: str) -> None:
    with pytest.raises(InvalidRequest, match="expected KDMRI_KEYS or KDMRI_OIDC_ISSUER"):
        authenticator(Settings(host=host))
    assert authenticator(Settings(host=host, allow_anonymous=True)) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_may_be_open(host: str) -> None:
    assert is_loopback(host)
    assert authenticator(Settings(host=host)) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"oidc_issuer": ISSUER}, "KDMRI_OIDC_AUDIENCE"),
        ({"oidc_issuer": ISSUER, "oidc_audience": "a", "oidc_keys": "http://idp.example/keys"}, "https"),
        ({"oidc_issuer": ISSUER, "oidc_audience": "a", "oidc_keys": "/none"}, "JSON Web Key Set"),
        ({"keys": "/none"}, "key file"),
    ],
)
def test_half_a_configuration_is_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        authenticator(Settings(**changes))  # type: ignore[arg-type]
