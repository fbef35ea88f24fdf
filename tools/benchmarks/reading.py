"""How long ISMRMRD files take to read, against h5py's plain read of the same bytes: the figure of docs/formats.md.

    python -m benchmarks.reading [--slices 40] [--repeats 5] [--folder FOLDER]

Writes a scan of 32 coils and 320 lines of 640 samples a slice (2.1 GB for 40 slices) into a folder that is removed
again, and reads it from the page cache, in turns, each time in a new process: in an old one h5py gets memory back that
it had before, and doesn't pay for new pages as whoever keeps what he reads has to. It wants the machine for itself.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
from ismrmrd.hdf5 import acquisition_dtype

from kdmri.benchmark import Spread
from kdmri.formats.kspace import header, reader

COILS, LINES, SAMPLES = 32, 320, 640


def write(target: Path, slices: int) -> None:
    """Write a scan of noise, one acquisition a chunk, as ISMRMRD's own library does."""
    limits = (0, LINES - 1, LINES // 2)
    matrix, wanted = (SAMPLES, LINES), (SAMPLES // 2, LINES)
    encoding = header.Encoding(matrix, (640.0, 320.0), wanted, (320.0, 320.0), 5.0, limits)
    rng = np.random.default_rng(0)
    with h5py.File(target, "w") as file:
        place = file.create_group("dataset")
        place.create_dataset("xml", data=[header.document(encoding, COILS)], dtype=h5py.string_dtype())
        data = place.create_dataset("data", (slices * LINES,), acquisition_dtype, maxshape=(None,), chunks=(1,))
        rows = np.empty(LINES, acquisition_dtype)
        for number in range(slices):
            # As plain as possible: no averages, no calibration and no noise, so that the reading itself is measured.
            heads = np.zeros(LINES, acquisition_dtype["head"])
            heads["version"], heads["number_of_samples"], heads["center_sample"] = 1, SAMPLES, SAMPLES // 2
            heads["active_channels"] = heads["available_channels"] = COILS
            heads["idx"]["slice"], heads["idx"]["kspace_encode_step_1"] = number, np.arange(LINES)
            heads["read_dir"][:, 0] = heads["phase_dir"][:, 1] = heads["slice_dir"][:, 2] = 1
            rows["head"] = heads
            for row in rows:
                row["traj"] = np.zeros(0, np.float32)
                row["data"] = rng.standard_normal(2 * COILS * SAMPLES, dtype=np.float32)
            data[number * LINES : (number + 1) * LINES] = rows


def plainly(source: Path) -> object:
    """Read all acquisitions with h5py alone."""
    with h5py.File(source) as file:
        return file["dataset/data"][()]


def as_k_space(source: Path) -> object:
    """Read k-space as the service and the command line do."""
    return reader.read(source)


def time_reader(read: Callable[[Path], object], source: Path, small: Path) -> tuple[float, float]:
    """Time a reader after it has read a small scan once, so that imports are not counted.

    Args:
        read: The reader.
        source: The file to time.
        small: A small file for the warm-up.

    Returns:
        Wall-clock and processor time in seconds.
    """
    read(small)
    clock, processor = time.perf_counter(), time.process_time()
    kept = read(source)
    times = time.perf_counter() - clock, time.process_time() - processor
    del kept  # not before the clock stopped
    return times


def alone(read: Callable[[Path], object], source: Path, small: Path) -> tuple[float, float]:
    """Time a reader in a process of its own; see `time_reader`.

    Args:
        read: The reader.
        source: The file to time.
        small: A small file for the warm-up.
    """
    # Spawned: a fork would share this process's memory, and with it pages that were paid for already.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(time_reader, read, source, small).result()


def main() -> None:
    """Write the files, time the readers in turns, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tools.benchmarks.reading")
    parser.add_argument("--slices", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        source, small = Path(folder) / "scan.h5", Path(folder) / "small.h5"
        write(source, options.slices)
        write(small, 1)
        alone(plainly, source, small)  # into the page cache
        # A pair at a time, so that whatever else the machine does falls on both readers.
        pairs = [[alone(read, source, small) for read in (as_k_space, plainly)] for _ in range(options.repeats)]
        size = source.stat().st_size / 1e9
    lines = [f"{COILS} coils, {options.slices} slices, {LINES} lines of {SAMPLES} samples, {size:.1f} GB"]
    for index, name in enumerate(("clock", "processor")):
        ours, theirs = ([pair[side][index] for pair in pairs] for side in (0, 1))
        ratio = Spread.of([one / other for one, other in zip(ours, theirs, strict=True)])
        seconds = Spread.of(ours).median, Spread.of(theirs).median
        lines.append(
            f"{name}: kdmri {seconds[0]:.2f} s, h5py {seconds[1]:.2f} s, "
            f"ratio {ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
        )
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
