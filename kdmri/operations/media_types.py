"""Media types of the files that operations read and write, and the file formats of the command line."""

HDF5, DICOM, ZIP = "application/x-hdf5", "application/dicom", "application/zip"
PNG, JSON, RELATED = "image/png", "application/json", "multipart/related"
WINDOWS_ZIP = "application/x-zip-compressed"
"""Name that browsers on Windows give to a zip."""
ARCHIVES = (ZIP, WINDOWS_ZIP, "application/gzip", "application/x-gzip")
"""Types of one packed file."""
NIFTI = "application/x-nifti"
"""No registered type exists for NIfTI. What is written is compressed, as in a file .nii.gz."""
BINARY = "application/octet-stream"
"""Accepted for every upload: the content decides what a file is, never its name or its type."""

DICOM_TYPES = (DICOM, ZIP, RELATED)
"""Types that hold DICOM objects: one object bare, or several in an envelope."""
SIDE_BY_SIDE = (HDF5, NIFTI, PNG, JSON)
"""Types that hold the images of both roles; DICOM would mix two series of machine-made images."""

FILE_FORMATS = {"h5": (HDF5, ".h5"), "dicom": (DICOM, ".dcm"), "nifti": (NIFTI, ".nii.gz"), "png": (PNG, ".png")}
"""Media type and file name suffix of every output format of the command line."""
