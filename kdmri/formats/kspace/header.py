"""The ISMRMRD XML header (ismrmrd.xsd), as far as Cartesian reconstruction needs it; x counts rows, y columns."""

import math
import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError, fromstring

from ismrmrd import xsd

from kdmri.errors import UnreadableKSpace, UnsupportedInput

Pair = tuple[int, int]
MAX_XML_BYTES = 2**22
"""Longest header that is parsed: a hundred times those that converters write."""
ROUNDING = 0.01
"""Largest distance of a matrix size from a whole number that still counts as one."""
TRAJECTORIES = frozenset({"cartesian", "epi", "radial", "goldenangle", "spiral", "other"})
"""Values of the element trajectory that the schema knows (ismrmrd.xsd); only these are repeated in a message."""
NUMBER_LIKE = re.compile(r"[+-]?(\d{1,7}([.,]\d{0,6})?|nan|inf|infinity)", re.IGNORECASE)
"""Numbers, those with a decimal comma included. Dates of eight digits and identifiers are longer."""
MISFIT = "expected an ISMRMRD header (ismrmrd.xsd), got XML that does not fit it"
LONGEST = 2**16 - 1
"""ismrmrd.xsd has matrix sizes as unsignedShort."""


@dataclass(frozen=True)
class Encoding:
    """One <encoding>: the grid that was measured and the part of it that is wanted."""

    matrix: Pair
    """Rows (readout, oversampling included) and columns (phase encode) of the encoded grid."""
    field_of_view: tuple[float, float]
    """Field of view of the encoded grid, in millimetres."""
    recon_matrix: Pair
    recon_field_of_view: tuple[float, float]
    thickness: float
    """Slice thickness in millimetres."""
    lines: tuple[int, int, int] | None
    """First, last and central number of the phase-encode lines, where the header tells them."""
    partitions: int = 1
    """Second phase-encode steps of a 3-D scan; 1 for 2-D, whatever the matrix says."""

    @property
    def first_column(self) -> int:
        """The column of line 0: the central line lies on DC, so partial Fourier starts right of column 0."""
        return 0 if self.lines is None else self.matrix[1] // 2 - self.lines[2]

    @property
    def spacing(self) -> tuple[float, float] | None:
        """Distance between the encoded grid's rows, and between its columns, in mm; None where it is not told."""
        rows, columns = (extent / length for extent, length in zip(self.field_of_view, self.matrix, strict=True))
        return (rows, columns) if min(rows, columns) > 0 else None

    @property
    def image_shape(self) -> Pair:
        """Rows and columns of the reconstructed field of view on the encoded grid's spacing."""
        # The bound comes before rounding: a field of view near 0 makes the quotient infinite.
        rows, columns = (
            n if min(encoded, wanted) <= 0 else max(1, round(min(n, n * wanted / encoded)))
            for n, encoded, wanted in zip(self.matrix, self.field_of_view, self.recon_field_of_view, strict=True)
        )
        return rows, columns


def parse(xml: bytes) -> Element:
    """Parse the header's XML; only its root is checked. Raises UnreadableKSpace."""
    # The bound comes before the parser: expat would build a tree many times as large as its text.
    if len(xml) > MAX_XML_BYTES:
        raise UnreadableKSpace(f"expected an ISMRMRD header of at most {MAX_XML_BYTES} bytes, got {len(xml)}")
    try:
        if "<!DOCTYPE" in (text := xml.decode("utf-8")):
            raise ValueError("document type declarations, and with them entities, have no place here")
        root = fromstring(text)
    except (ParseError, ValueError) as error:
        raise UnreadableKSpace(MISFIT) from error
    if root.tag.rpartition("}")[2] != "ismrmrdHeader":
        raise UnreadableKSpace("expected an ISMRMRD header (ismrmrd.xsd), got another root element")
    return root


def encoding(header: Element, number: int = 0) -> Encoding:
    """Read one of the header's encodings; whatever else the header holds is ignored.

    Converters leave out what 2-D reconstruction can do without, so an absent reconSpace, field of view, limit or
    trajectory has a default, and whole numbers may be written as decimals.

    Raises:
        UnreadableKSpace: there is no such encoding, or one of its numbers is absent or impossible.
        UnsupportedInput: the trajectory is not Cartesian, or several slices were measured at a time.
    """
    found = header.findall("{*}encoding")
    if number >= len(found):
        raise UnreadableKSpace(f"expected encoding {number} in the header, got {len(found)} encodings")
    element = found[number]
    trajectory = (element.findtext("{*}trajectory") or "cartesian").strip()
    if trajectory.lower() != "cartesian":
        named = trajectory if trajectory.lower() in TRAJECTORIES else "unknown"
        raise UnsupportedInput(f"{named} trajectory: only Cartesian k-space is reconstructed")
    multiband = _number(element, "parallelImaging/multiband/multiband_factor", 1)
    if multiband > 1:
        together = f"multiband acquisition of {multiband:g} slices at a time"
        raise UnsupportedInput(f"{together}: only slices measured one by one are reconstructed")
    matrix = _matrix(element, "encodedSpace")
    recon = "reconSpace" if element.find("{*}reconSpace/{*}matrixSize") is not None else "encodedSpace"
    # 2-D scans may state any z of the matrix: only a limit above 0 shows that partitions were encoded.
    partitions = round(_number(element, "encodedSpace/matrixSize/z", 1))
    last_partition = _number(element, "encodingLimits/kspace_encoding_step_2/maximum", 0)
    return Encoding(
        matrix=matrix,
        field_of_view=_field_of_view(element, "encodedSpace"),
        recon_matrix=_matrix(element, recon),
        recon_field_of_view=_field_of_view(element, recon),
        thickness=max(0.0, _number(element, f"{recon}/fieldOfView_mm/z", 0)),
        lines=_limits(element),
        partitions=partitions if last_partition > 0 else 1,
    )


def _number(element: Element, place: str, default: float | None = None) -> float:
    """Return the finite number at a place below an encoding.

    Args:
        element: the encoding.
        place: names of the elements that lead to the number, with slashes between them.
        default: number for an element that is absent or empty; without a default that is an error.

    Raises:
        UnreadableKSpace: there is no finite number; the message names the element.
    """
    text = element.findtext("/".join(f"{{*}}{name}" for name in place.split("/")))
    if (text is None or not text.strip()) and default is not None:
        return default
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        shown = "no such element" if text is None else _quote(text)
        raise UnreadableKSpace(f"ISMRMRD header, {place}: expected a finite number, got {shown}")
    return number


def _matrix(element: Element, space: str) -> Pair:
    sizes = []
    for axis in ("x", "y"):
        place = f"{space}/matrixSize/{axis}"
        number = _number(element, place)
        # Converters compute sizes in floating point: 35.9996 stands for 36.
        if abs(number - round(number)) > ROUNDING or not 0 < round(number) <= LONGEST:
            raise UnreadableKSpace(f"ISMRMRD header, {place}: expected a whole number up to {LONGEST}, got {number:g}")
        sizes.append(round(number))
    return sizes[0], sizes[1]


def _field_of_view(element: Element, space: str) -> tuple[float, float]:
    """Return the field of view along rows and columns in mm; 0 where the header does not state it."""
    x, y = (_number(element, f"{space}/fieldOfView_mm/{axis}", 0) for axis in ("x", "y"))
    return x, y


def _limits(element: Element) -> tuple[int, int, int] | None:
    place = "encodingLimits/kspace_encoding_step_1"
    first, last, centre = (_number(element, f"{place}/{name}", 0) for name in ("minimum", "maximum", "center"))
    for name, value in (("minimum", first), ("maximum", last), ("center", centre)):
        if not 0 <= value <= LONGEST:
            raise UnreadableKSpace(f"ISMRMRD header, {place}/{name}: expected 0 to {LONGEST}, got {value:g}")
    # The schema's default for a centre that was left out is 0, where no scan has it.
    return (round(first), round(last), round(centre)) if round(centre) else None


def _quote(text: str) -> str:
    """Quote what stands for a number, for a message; any other text may be a patient's and is only counted."""
    text = text.strip()
    return repr(text) if NUMBER_LIKE.fullmatch(text) else f"a text of {len(text)} characters"


def document(encoding: Encoding, coils: int) -> bytes:
    """Write a minimal valid header of one Cartesian encoding, which `encoding` reads back, without a field strength."""
    limits = xsd.encodingLimitsType()
    if encoding.lines:
        first, last, centre = encoding.lines
        limits.kspace_encoding_step_1 = xsd.limitType(minimum=first, maximum=last, center=centre)
    header = xsd.ismrmrdHeader(
        acquisitionSystemInformation=xsd.acquisitionSystemInformationType(receiverChannels=coils),
        experimentalConditions=xsd.experimentalConditionsType(H1resonanceFrequency_Hz=0),
        encoding=[
            xsd.encodingType(
                encodedSpace=_space(encoding.matrix, encoding.field_of_view, encoding.thickness),
                reconSpace=_space(encoding.recon_matrix, encoding.recon_field_of_view, encoding.thickness),
                encodingLimits=limits,
                trajectory=xsd.trajectoryType.CARTESIAN,
            )
        ],
    )
    return str(xsd.ToXML(header)).encode()


def _space(matrix: Pair, field_of_view: tuple[float, float], thickness: float) -> xsd.encodingSpaceType:
    return xsd.encodingSpaceType(
        matrixSize=xsd.matrixSizeType(x=matrix[0], y=matrix[1], z=1),
        fieldOfView_mm=xsd.fieldOfViewMm(x=field_of_view[0], y=field_of_view[1], z=thickness),
    )
