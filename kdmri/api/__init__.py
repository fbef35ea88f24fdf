"""The Python interface of kdmri: read a scan, reconstruct or super-resolve it, save the images.

`import kdmri` offers these names and imports this package, with torch and the file formats, at the first use of one:

    import kdmri

    scan = kdmri.read("scan_r4.h5")
    result = kdmri.reconstruct(scan)
    kdmri.save(result, "images.nii.gz")

Every error that kdmri raises on purpose is a `kdmri.KdmriError`; its message says what was expected and what came.
"""

from kdmri.api.files import read, save
from kdmri.api.loading import load, models
from kdmri.api.operations import reconstruct, super_resolve, undersample
from kdmri.api.result import Result
from kdmri.data.images import Images
from kdmri.data.kspace import KSpace
from kdmri.errors import KdmriError
from kdmri.formats.dicom.reader import DicomSeries
from kdmri.runtime.model import Model

__all__ = [
    "DicomSeries",
    "Images",
    "KSpace",
    "KdmriError",
    "Model",
    "Result",
    "load",
    "models",
    "read",
    "reconstruct",
    "save",
    "super_resolve",
    "undersample",
]
