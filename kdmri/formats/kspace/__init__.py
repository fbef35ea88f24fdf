"""K-space files: fastMRI's and ISMRMRD's layouts in HDF5."""

import warnings

# ismrmrd replaces the importer's warning filters by its own when it is first imported; the block restores them.
with warnings.catch_warnings():
    import ismrmrd  # noqa: F401
