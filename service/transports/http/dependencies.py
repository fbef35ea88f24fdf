"""Dependencies of routes: the parts of the running service, typed."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import Depends, Header, Request
from kdmri_service.auth.audit import AuditLog
from kdmri_service.draining import Drain
from kdmri_service.engine.engine import ChooseType, Engine
from kdmri_service.jobs.desk import Desk
from kdmri_service.settings import Settings
from kdmri_service.shadow.controller import Shadow
from kdmri_service.transports.http.negotiation import negotiate

from kdmri.operations.media_types import RELATED

Accept = Annotated[str | None, Header(description="media types of the answer, by preference (RFC 9110)")]


@dataclass(frozen=True)
class Service:
    """The running service: what requests are served with."""

    settings: Settings
    engine: Engine
    shadow: Shadow
    drain: Drain
    jobs: Desk | None
    """None without a spool."""
    audit: AuditLog | None = None
    """Where requests are recorded, if they are."""


def service_of(request: Request) -> Service:
    """Return the running service, which the application's lifespan stores in its state."""
    service: Service = request.app.state.service
    return service


def type_chooser(request: Request, accept: Accept = None) -> ChooseType:
    """Return the negotiation of this request. A multipart/related request prefers such an answer."""
    # What can be sent in one envelope can be read from it: such a client has a parser for several DICOM objects.
    is_related = request.headers.get("content-type", "").lower().startswith(RELATED)
    choose: ChooseType = partial(negotiate, accept, RELATED if is_related else None)
    return choose


RunningService = Annotated[Service, Depends(service_of)]
TypeChooser = Annotated[ChooseType, Depends(type_chooser)]
