"""OpenID Connect: bearer tokens of a hospital's identity provider, checked with its public keys.

Only asymmetric algorithms are accepted: with a shared secret, or with `none`, whoever verifies a token could make one.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import jwt
from jwt import PyJWKClient, PyJWKSet
from jwt.exceptions import PyJWTError
from kdmri_service.auth.principals import Principal, Scope

from kdmri.errors import InvalidRequest

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LEEWAY_SECONDS = 30
"""By how much the clocks of provider and service may differ."""
FETCH_SECONDS = 5
"""Longest time that the provider may take to send its keys: a request waits for them."""


class TokenVerifier:
    """Checks tokens of one issuer for one audience."""

    def __init__(self, *, issuer: str, audience: str, keys: str) -> None:
        """Prepare the verification.

        Args:
            issuer: What a token's `iss` has to be.
            audience: What a token's `aud` has to name.
            keys: The provider's JSON Web Key Set: a file, or an https address, which is asked again for unknown keys.

        Raises:
            InvalidRequest: The file holds no key set, or the address is not https.
        """
        self._issuer, self._audience = issuer, audience
        self._remote: PyJWKClient | None = None
        self._local: PyJWKSet | None = None
        # Only https: whoever could change the keys on their way could sign tokens of their own.
        if "://" in keys:
            if not keys.startswith("https://"):
                raise InvalidRequest("expected the https address of a key set, got another scheme")
            self._remote = PyJWKClient(keys, cache_keys=True, lifespan=3600, timeout=FETCH_SECONDS)
        else:
            self._local = _read_key_set(Path(keys))

    def authenticate(self, token: str) -> Principal | None:
        """Return who a token speaks for, or None if it is not valid. It blocks where a remote key set is fetched."""
        try:
            claims = jwt.decode(
                token,
                self._key_of(token),
                algorithms=list(ALGORITHMS),
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except (PyJWTError, ValueError):
            return None
        return Principal(str(claims["sub"]), _scopes(claims), kind="token")

    def _key_of(self, token: str) -> jwt.PyJWK:
        if self._remote is not None:
            return self._remote.get_signing_key_from_jwt(token)
        # The header is not verified yet: it only chooses among keys that are trusted in any case.
        identifier = jwt.get_unverified_header(token).get("kid")
        known = cast(PyJWKSet, self._local).keys
        for key in known:
            if key.key_id == identifier and (identifier is not None or len(known) == 1):
                return key
        raise jwt.InvalidKeyError("the token names no key of the set")


def _read_key_set(file: Path) -> PyJWKSet:
    try:
        return PyJWKSet.from_dict(json.loads(file.read_text()))
    except (OSError, ValueError, PyJWTError) as error:
        raise InvalidRequest(f"expected a file with a JSON Web Key Set, got {type(error).__name__}") from None


def _scopes(claims: Mapping[str, object]) -> frozenset[Scope]:
    """Return the known scopes of a token: `scope` is a text with spaces (RFC 8693) or `scp` a list."""
    # Scopes of other services are no error, because a provider puts all rights of a user into one token.
    stated = claims.get("scope", claims.get("scp", ""))
    names = stated.split() if isinstance(stated, str) else stated if isinstance(stated, list) else []
    return frozenset(Scope(name) for name in names if name in set(Scope))
