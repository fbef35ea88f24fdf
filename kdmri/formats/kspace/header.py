"""The ISMRMRD XML header (ismrmrd.xsd), as much of it as Cartesian reconstruction needs; x is row, y is column."""

import math
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ElementTree, ParseError, fromstring

from ismrmrd import xsd
from xsdata.exceptions import ParserError
from xsdata.formats.dataclass.context import XmlContext
from xsdata.formats.dataclass.parsers import XmlParser
from xsdata.formats.dataclass.parsers.config import ParserConfig

from kdmri.errors import UnreadableKSpace, UnsupportedInput

Pair = tuple[int, int]
SCHEMA = XmlContext()
"""What xsdata finds out about ismrmrd.xsd's classes: kept, for it takes longer than to read a header."""
MISFIT = "expected an ISMRMRD header (ismrmrd.xsd), got XML that does not fit it"
LONGEST = 2**16 - 1
"""ismrmrd.xsd has matrix sizes as unsignedShort."""


@dataclass(frozen=True)
class Encoding:
    """One <encoding>: the grid that was measured and the part of it that is wanted."""

    matrix: Pair
    """Rows (readout, oversampling included) and columns (phase encode) of the encoded grid."""
    field_of_view: tuple[float, float]
    """Of the encoded grid, in millimetres."""
    recon_matrix: Pair
    recon_field_of_view: tuple[float, float]
    thickness: float
    """Slice thickness in millimetres."""
    lines: tuple[int, int, int] | None
    """First, last and central number of the phase-encode lines, where the header tells them."""

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
        rows, columns = (
            n if min(encoded, wanted) <= 0 else max(1, min(n, round(n * wanted / encoded)))
            for n, encoded, wanted in zip(self.matrix, self.field_of_view, self.recon_field_of_view, strict=True)
        )
        return rows, columns


def parsed(xml: bytes) -> Element:
    """The header as it stands, none of it checked but that it is one. Raises UnreadableKSpace."""
    try:
        if "<!DOCTYPE" in (text := xml.decode("utf-8")):
            raise ValueError("document type declarations, and with them entities, have no place here")
        root = fromstring(text)
    except (ParseError, ValueError) as error:
        raise UnreadableKSpace(MISFIT) from error
    if root.tag.rpartition("}")[2] != "ismrmrdHeader":
        raise UnreadableKSpace(MISFIT)
    return root


def encoding(header: Element, number: int = 0) -> Encoding:
    """One of the header's encodings, in order; the others, and the rest of the header, may be what they like.

    Raises UnreadableKSpace where there is no such encoding or it does not fit, UnsupportedInput where its trajectory
    isn't Cartesian or several slices were measured at a time.
    """
    found = header.findall("{*}encoding")
    if number >= len(found):
        raise UnreadableKSpace(f"expected encoding {number} in the header, got {len(found)} encodings")
    # Unknown elements pass: vendors and later versions of the schema add some.
    config = ParserConfig(fail_on_unknown_properties=False, fail_on_converter_warnings=True)
    try:
        return _encoding(XmlParser(config=config, context=SCHEMA).parse(ElementTree(found[number]), xsd.encodingType))
    except (ParserError, ValueError, TypeError, AttributeError) as error:
        raise UnreadableKSpace(MISFIT) from error


def _encoding(found: xsd.encodingType) -> Encoding:
    if found.trajectory is not xsd.trajectoryType.CARTESIAN:
        raise UnsupportedInput(f"{found.trajectory.value} trajectory: only Cartesian k-space is reconstructed")
    parallel = found.parallelImaging
    if parallel and parallel.multiband and parallel.multiband.multiband_factor > 1:
        together = f"multiband acquisition of {parallel.multiband.multiband_factor} slices at a time"
        raise UnsupportedInput(f"{together}: only slices measured one by one are reconstructed")
    encoded, wanted, limits = found.encodedSpace, found.reconSpace, found.encodingLimits.kspace_encoding_step_1
    extents = [encoded.fieldOfView_mm, wanted.fieldOfView_mm]
    if not all(math.isfinite(size) for extent in extents for size in (extent.x, extent.y, extent.z)):
        raise ValueError("a field of view is not finite")
    matrices = [encoded.matrixSize, wanted.matrixSize]
    if not all(0 < length <= LONGEST for matrix in matrices for length in (matrix.x, matrix.y)):
        raise ValueError("a matrix size is no 16-bit number")
    return Encoding(
        matrix=(encoded.matrixSize.x, encoded.matrixSize.y),
        field_of_view=(encoded.fieldOfView_mm.x, encoded.fieldOfView_mm.y),
        recon_matrix=(wanted.matrixSize.x, wanted.matrixSize.y),
        recon_field_of_view=(wanted.fieldOfView_mm.x, wanted.fieldOfView_mm.y),
        thickness=wanted.fieldOfView_mm.z,
        # The schema's default for a centre that was left out is 0, where no scan has it.
        lines=(limits.minimum, limits.maximum, limits.center) if limits and limits.center else None,
    )


def document(encoding: Encoding, coils: int) -> bytes:
    """A minimal valid header of one Cartesian encoding: what `encoding` reads back. It tells no field strength."""
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
