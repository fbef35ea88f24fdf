"""ISMRMRD files for tests: made from k-space or from a real file, changed, written as converters write them."""

from dataclasses import dataclass, field
from pathlib import Path

import h5py
import ismrmrd
import numpy as np
from ismrmrd.hdf5 import acquisition_dtype, acquisition_header_dtype
from numpy import ndarray

from kdmri.data.kspace import KSpace

SPACE = (
    "<matrixSize><x>{0}</x><y>{1}</y><z>1</z></matrixSize>"
    "<fieldOfView_mm><x>{2}</x><y>{3}</y><z>{4}</z></fieldOfView_mm>"
)


@dataclass
class MrdFile:
    """Heads and readouts [coil, sample] of acquisitions, and the numbers of the XML header."""

    heads: ndarray
    readouts: list[ndarray]
    matrix: tuple[int, int]
    recon_matrix: tuple[int, int]
    spacing: tuple[float, float] = (1.5, 1.0)
    thickness: float = 4.0
    trajectory: str = "cartesian"
    limits: tuple[int, int, int] | None = None
    xml: str | None = None
    """Instead of the header made from the above."""
    options: dict = field(default_factory=dict)
    """Of the HDF5 dataset."""

    @classmethod
    def of(cls, kspace: KSpace) -> "MrdFile":
        """One acquisition for every measured line, slice by slice."""
        slices, coils, rows, columns = kspace.samples.shape
        lines = np.broadcast_to(kspace.mask[:, 0], (slices, columns))
        places = np.argwhere(lines)
        heads = np.zeros(len(places), acquisition_header_dtype)
        heads["version"], heads["number_of_samples"], heads["center_sample"] = 1, rows, rows // 2
        heads["active_channels"] = heads["available_channels"] = coils
        heads["idx"]["slice"], heads["idx"]["kspace_encode_step_1"] = places.T
        heads["read_dir"], heads["phase_dir"], heads["slice_dir"] = (1, 0, 0), (0, 1, 0), (0, 0, 1)
        heads["position"][:, 2] = heads["idx"]["slice"] * cls.thickness
        readouts = [kspace.samples[number, :, :, column] for number, column in places]
        return cls(heads, readouts, (rows, columns), kspace.image_shape, limits=(0, columns - 1, columns // 2))

    @classmethod
    def load(cls, source: Path) -> "MrdFile":
        """A real file, its header taken over as it is."""
        with h5py.File(source) as file:
            data, xml = file["dataset/data"][()], file["dataset/xml"][0].decode()
        heads = data["head"].astype(acquisition_header_dtype)
        coils = heads["active_channels"]
        readouts = [line.view(np.complex64).reshape(n, -1) for n, line in zip(coils, data["data"], strict=True)]
        return cls(heads, readouts, (0, 0), (0, 0), xml=xml)

    def add(self, heads: ndarray, readouts: list[ndarray], *flags: str) -> None:
        """Append acquisitions, with flags set."""
        heads = heads.copy()
        heads["flags"] |= flag(*flags)
        self.heads, self.readouts = np.concatenate([self.heads, heads]), [*self.readouts, *readouts]

    def header(self) -> str:
        first, last, centre = self.limits or (0, 0, 0)
        step = f"<minimum>{first}</minimum><maximum>{last}</maximum><center>{centre}</center>"
        spaces = [
            SPACE.format(*matrix, *np.multiply(matrix, self.spacing), self.thickness)
            for matrix in (self.matrix, self.recon_matrix)
        ]
        return (
            '<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><experimentalConditions>'
            "<H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions><encoding>"
            f"<encodedSpace>{spaces[0]}</encodedSpace><reconSpace>{spaces[1]}</reconSpace><encodingLimits>"
            + (f"<kspace_encoding_step_1>{step}</kspace_encoding_step_1>" if self.limits else "")
            + f"</encodingLimits><trajectory>{self.trajectory}</trajectory></encoding></ismrmrdHeader>"
        )

    def save(self, target: Path, group: str = "dataset") -> Path:
        rows = np.empty(len(self.heads), acquisition_dtype)
        rows["head"] = self.heads
        for row, readout in zip(rows, self.readouts, strict=True):
            row["traj"], row["data"] = np.zeros(0, np.float32), np.ascontiguousarray(readout).view(np.float32).ravel()
        with h5py.File(target, "a") as file:
            place = file.require_group(group)
            place.create_dataset("data", data=rows, dtype=acquisition_dtype, **({"chunks": (1,)} | self.options))
            place.create_dataset("xml", data=[self.xml or self.header()], dtype=h5py.string_dtype())
        return target


def flag(*names: str) -> np.uint64:
    return np.uint64(sum(1 << (getattr(ismrmrd, f"ACQ_{name}") - 1) for name in names))
