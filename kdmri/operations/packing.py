"""Records as plain data and arrays, to send them to another process without pickles.

The reader of uploads runs in a process of its own, which a hostile file may take over. What it sends back is built from
JSON, arrays and DICOM elements, and every field is checked against its declared type and shape before it is used.
"""

import base64
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from io import BytesIO

import numpy as np
from numpy import ndarray
from pydantic import ConfigDict, JsonValue, TypeAdapter, ValidationError
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from kdmri.data.images import Images
from kdmri.data.kspace import KSpace
from kdmri.data.patient import PatientAndStudy
from kdmri.errors import UnreadableInput
from kdmri.formats.dicom.reader import DicomSeries

Record = KSpace | DicomSeries | Images
CHECKED: TypeAdapter[tuple[Record, ...]] = TypeAdapter(
    tuple[Record, ...], config=ConfigDict(arbitrary_types_allowed=True)
)


def pack(records: Sequence[Record]) -> tuple[JsonValue, list[ndarray]]:
    """Take records apart.

    Returns:
        A JSON document, in which {"array": n} stands for the n-th of the arrays, and the arrays.
    """
    arrays: list[ndarray] = []
    return [_pack_value(record, arrays) for record in records], arrays


def unpack(document: JsonValue, arrays: Sequence[ndarray]) -> tuple[Record, ...]:
    """Put records together, checking types, array types and numbers of dimensions.

    Raises:
        UnreadableInput: The document does not describe records.
    """
    try:
        return CHECKED.validate_python(tuple(_unpack_value(part, arrays) for part in document))  # type: ignore[union-attr]
    except (ValidationError, ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise UnreadableInput("expected a file that can be read, got one that its reader could not describe") from error


def _pack_value(value: object, arrays: list[ndarray]) -> JsonValue:
    """Return one value of a record as JSON, appending the arrays that it refers to."""
    # bool before int, of which it is a subclass; numpy's scalars are not JSON, though they print like it.
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value)
    if isinstance(value, ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, Dataset):
        return {"header": [_elements(value), _elements(getattr(value, "file_meta", Dataset()))]}
    # Its own kind restores the class, whose text form shows no value.
    if isinstance(value, PatientAndStudy):
        return {"patient": {str(key): str(item) for key, item in value.items()}}
    if is_dataclass(value):
        return {"fields": {field.name: _pack_value(getattr(value, field.name), arrays) for field in fields(value)}}
    if isinstance(value, Sequence):
        return [_pack_value(item, arrays) for item in value]
    raise TypeError(f"expected a value that records hold, got {type(value).__name__}")


def _unpack_value(value: JsonValue, arrays: Sequence[ndarray]) -> object:
    """Return the value that `_pack_value` made JSON of; records as dictionaries of their fields."""
    if isinstance(value, list):
        return tuple(_unpack_value(item, arrays) for item in value)
    if not isinstance(value, dict):
        return value
    # Every object has exactly one key, its kind; anything else raises ValueError, which `unpack` reports.
    ((kind, content),) = value.items()
    if kind == "array" and isinstance(content, int):
        return arrays[content]
    if kind == "header" and isinstance(content, list):
        return _header(*map(str, content))
    if kind == "patient" and isinstance(content, dict):
        return PatientAndStudy({key: str(item) for key, item in content.items()})
    if kind == "fields" and isinstance(content, dict):
        return {key: _unpack_value(item, arrays) for key, item in content.items()}
    raise ValueError("expected an array, a header, patient data or fields")


def _elements(dataset: Dataset) -> str:
    """Return the elements of a data set in explicit VR little endian, as base64."""
    # Explicit VR, because private elements are in no dictionary: implicit VR would lose their types.
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    # A plain copy has no encoding of its own; that of the source would be compared with the buffer's.
    write_dataset(buffer, Dataset(dataset))
    return base64.b64encode(buffer.getvalue()).decode()


def _header(elements: str, meta: str) -> Dataset:
    """Return the data set of `_elements`, with its file meta information."""
    dataset = read_dataset(BytesIO(base64.b64decode(elements)), is_implicit_VR=False, is_little_endian=True)
    dataset.file_meta = FileMetaDataset(
        read_dataset(BytesIO(base64.b64decode(meta)), is_implicit_VR=False, is_little_endian=True)
    )
    return dataset
