"""Which right a path needs, and whether a service may run without authentication at all."""

import ipaddress
from collections.abc import Callable
from functools import partial

from kdmri_service.auth.keys import KeyStore
from kdmri_service.auth.oidc import TokenVerifier
from kdmri_service.auth.principals import Principal, Scope
from kdmri_service.settings import Settings

from kdmri.errors import InvalidRequest

OPEN_PATHS = frozenset({"/livez", "/readyz", "/"})
"""Open to everybody: orchestrators ask whether the service works, and get yes or no; the page is the same for all."""
OPEN_FOLDER = "/page/"
"""Scripts and styles of the page, which asks its user for a key."""
SCOPES = {"/metrics": Scope.metrics}
"""Rights that paths need; every other path, known or not, needs `infer`, so that a new route is never open."""

Authenticate = Callable[[str], Principal | None]


def scope_of(path: str) -> Scope | None:
    """Return the right that a path needs, None for open ones."""
    return None if path in OPEN_PATHS or path.startswith(OPEN_FOLDER) else SCOPES.get(path, Scope.infer)


def authenticator(settings: Settings) -> Authenticate | None:
    """Return what tells whom a key or token belongs to, None where the service is open.

    Raises:
        InvalidRequest: Settings contradict each other, a key file or key set can't be read, or the service would be
            open on an address that others can reach.
    """
    methods: list[Authenticate] = []
    if settings.keys is not None:
        methods.append(KeyStore(settings.keys).authenticate)
    if settings.oidc_issuer is not None:
        if settings.oidc_audience is None or settings.oidc_keys is None:
            raise InvalidRequest("KDMRI_OIDC_ISSUER: expected KDMRI_OIDC_AUDIENCE and KDMRI_OIDC_KEYS beside it")
        verifier = TokenVerifier(issuer=settings.oidc_issuer, audience=settings.oidc_audience, keys=settings.oidc_keys)
        methods.append(verifier.authenticate)
    if methods:
        return partial(_first_of, methods)
    if not (settings.allow_anonymous or is_loopback(settings.host)):
        raise InvalidRequest(
            f"expected KDMRI_KEYS or KDMRI_OIDC_ISSUER to listen on {settings.host}, which other machines can reach; "
            "KDMRI_ALLOW_ANONYMOUS=true opens the service to whoever reaches it"
        )
    return None


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address to listen on."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # Any other name may resolve to an address that is reachable.
        return host == "localhost"


def _first_of(methods: list[Authenticate], credential: str) -> Principal | None:
    # A generator, so that the second method is asked only if the first does not know the credential.
    found = (method(credential) for method in methods)
    return next((principal for principal in found if principal is not None), None)
