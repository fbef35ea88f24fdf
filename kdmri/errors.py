"""What can go wrong, as one small tree; service/errors.py maps it to HTTP statuses.

A message says what was expected and what came, in one line, and names no path and no patient.
"""


class KdmriError(Exception):
    """Base of every error that kdmri raises on purpose."""


class UnreadableInput(KdmriError):
    """The bytes are not a file that kdmri reads, or are damaged."""


class UnreadableKSpace(UnreadableInput):
    """Not an HDF5 file with Cartesian k-space in fastMRI or ISMRMRD layout."""


class UnreadableDicom(UnreadableInput):
    """Not a DICOM object, or one whose pixels can't be decoded."""


class UnsupportedInput(KdmriError):
    """Readable, but not what this operation works on: a CT image, a radial trajectory."""


class InvalidRequest(KdmriError):
    """A parameter is not one of those offered."""


class UnknownModel(KdmriError):
    """No model of this name, version or role is there."""


class CorruptBundle(KdmriError):
    """A model folder is incomplete, or a file's hash differs from its manifest."""
