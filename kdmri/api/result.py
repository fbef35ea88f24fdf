"""Images that a model made, with what is needed to save them in any format."""

from dataclasses import dataclass

from jaxtyping import Float32
from numpy import ndarray

from kdmri.bundles.manifest import Manifest
from kdmri.data.images import Images
from kdmri.data.kspace import Scan
from kdmri.errors import UnsupportedInput
from kdmri.formats.dicom.reader import DicomSeries


@dataclass(frozen=True)
class Result:
    """Images that a model made, with what is needed to save them in any format."""

    images: tuple[Images, ...]
    """One stack for a scan; for DICOM one stack for each group of slices that share size, orientation and spacing."""
    model: Manifest
    """Manifest of the model that made the images."""
    source: Scan | tuple[DicomSeries, ...]
    """Input that the images were made from."""
    scale: int = 1
    """Factor by which the grid is finer than that of the source."""

    @property
    def pixels(self) -> Float32[ndarray, "slice row column"]:
        """Pixels of the only stack, in the units of the source.

        Raises:
            UnsupportedInput: there are several stacks; use `images`.
        """
        return self.stack.pixels

    @property
    def series(self) -> tuple[DicomSeries, ...]:
        """The DICOM that the images were made from; empty for k-space."""
        # A tuple is what tells DICOM from a scan, which is one object of either class.
        return self.source if isinstance(self.source, tuple) else ()

    @property
    def stack(self) -> Images:
        """The only stack of images.

        Raises:
            UnsupportedInput: there are several stacks; use `images`.
        """
        if len(self.images) != 1:
            raise UnsupportedInput(f"expected slices of one size and orientation, got {len(self.images)} groups")
        return self.images[0]
