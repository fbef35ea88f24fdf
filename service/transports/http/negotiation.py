"""Content negotiation: the media type of an answer, from the request's Accept header (RFC 9110, section 12.5.1)."""

from collections.abc import Sequence

from kdmri.errors import NotAcceptable

LONGEST_ECHO = 200
"""Characters of an Accept header that an error message repeats."""


def negotiate(accept: str | None, preferred: str | None, offered: Sequence[str]) -> str:
    """Choose the offered media type that the client likes best.

    Args:
        accept: The Accept header; None accepts everything.
        preferred: The type chosen among equals if it is offered, such as the type of the request itself.
        offered: Media types, the default first.

    Returns:
        One of the offered types.

    Raises:
        NotAcceptable: The client accepts none of them.
    """
    best, best_weight = None, 0.0
    # The sort is stable: the preferred type comes first, and all others keep their order, of which the first is
    # default.
    for media_type in sorted(offered, key=lambda media_type: media_type != preferred):
        weight = _weight_of(accept or "*/*", media_type)
        # Strictly greater, so that the earlier of two equals wins, and a weight of 0 means not acceptable.
        if weight > best_weight:
            best, best_weight = media_type, weight
    if best is None:
        expected = ", ".join(offered)
        raise NotAcceptable(f"expected Accept with one of {expected}, got {(accept or '')[:LONGEST_ECHO]}")
    return best


def _weight_of(accept: str, media_type: str) -> float:
    """Return the weight that the most specific matching range of an Accept header gives to a media type."""
    group = media_type.split("/")[0]
    best_rank, weight = -1, 0.0
    for entry in accept.split(","):
        name, *parameters = (part.strip().lower() for part in entry.split(";"))
        rank = {media_type: 2, f"{group}/*": 1, "*/*": 0}.get(name, -1)
        if rank > best_rank:
            best_rank, weight = rank, _quality_value(parameters)
    return weight


def _quality_value(parameters: list[str]) -> float:
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                # A weight that can't be read accepts nothing: guessing could send a type that the client can't use.
                return 0.0
    return 1.0
