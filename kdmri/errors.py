"""The errors that kdmri raises on purpose, as one tree:

    KdmriError
    ├── UnreadableInput
    │   ├── UnreadableKSpace
    │   └── UnreadableDicom
    ├── UnsupportedInput
    ├── InvalidRequest
    ├── NotAcceptable
    ├── ExceedsMemory
    ├── UnknownModel
    └── CorruptBundle

The service adds its own (kdmri_service.errors) and maps all of them to HTTP statuses in one table. A message says what
was expected and what came, in one line, and contains no path and no patient data.
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


class NotAcceptable(KdmriError):
    """The answer can't be given in any of the accepted types."""


class ExceedsMemory(KdmriError):
    """The request needs more memory than the device has; the message says which smaller request would fit."""


class UnknownModel(KdmriError):
    """No model of this name, version or role is there."""


class CorruptBundle(KdmriError):
    """A model folder is incomplete, or a file's hash differs from its manifest."""
