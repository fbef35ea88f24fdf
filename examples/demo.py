"""The main job, end to end: a running service, a real image undersampled and reconstructed, a real DICOM made finer.

The image is an abdominal MR slice that pydicom's package carries, an anatomy that no model was trained on. It is a
magnitude image: its k-space is simulated, with one coil and no phase. The scanner interpolated it to twice the matrix
that it had measured; for super-resolution the truth is the measured half. Pictures and answers land in demo-out/.
"""

import io
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from urllib.error import URLError

import h5py
import numpy as np
import pydicom
import torch
from PIL import Image, ImageDraw
from pydicom.data import get_testdata_file
from rich.console import Console
from rich.table import Table

from kdmri.data.images import Images
from kdmri.formats import png
from kdmri.formats.dicom import objects
from kdmri.formats.dicom import reader as dicom
from kdmri.formats.kspace import reader as kspace
from kdmri.physics.resampling import downsample, upsample
from kdmri.quality import metrics
from kdmri.runtime import zero_filled

OUT = Path("demo-out")
KDMRI = Path(sys.executable).with_name("kdmri")
REPEATS = 5
LABEL = 22
"""Height of a picture's caption in pixels."""
console = Console()


@contextmanager
def service() -> Iterator[str]:
    """Run the service on a free port, and provide its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (OUT / "service.log").open("w") as log:
        process = subprocess.Popen([KDMRI, "serve", "--port", str(port)], stdout=log, stderr=subprocess.STDOUT)
        try:
            yield wait_until_ready(f"http://127.0.0.1:{port}", process)
        finally:
            process.terminate()
            process.wait()


def wait_until_ready(address: str, process: subprocess.Popen[bytes]) -> str:
    """Wait until the service is ready, and return its address.

    Raises:
        RuntimeError: the service ended, or was not ready within a minute.
    """
    for _ in range(300):
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(f"{address}/readyz").close()
            return address
        except URLError:
            time.sleep(0.2)
    raise RuntimeError(f"the service did not become ready: see {OUT / 'service.log'}")


def post(url: str, body: bytes, kind: str, accept: str) -> bytes:
    """Send a request, and return the answer's body.

    Args:
        url: Address of the operation.
        body: The file.
        kind: Media type of the file.
        accept: Media type of the answer.
    """
    request = urllib.request.Request(url, body, {"Content-Type": kind, "Accept": accept})
    with urllib.request.urlopen(request) as answer:
        return answer.read()


def milliseconds(url: str, body: bytes, kind: str) -> float:
    """Return the model's time per slice in milliseconds, the median of a few requests.

    Args:
        url: Address of the operation.
        body: The file.
        kind: Media type of the file.
    """
    figures = (json.loads(post(url, body, kind, "application/json")) for _ in range(REPEATS))
    return median(f["milliseconds_per_slice"] for f in figures)


def truncate(source: Path, target: Path, factor: int) -> np.ndarray:
    """Write a DICOM object of lower resolution by truncating its k-space.

    Args:
        source: The DICOM object.
        target: File for the result.
        factor: Factor of the loss of resolution.

    Returns:
        The image as written.
    """
    image = dicom.read([source])[0].images.pixels
    image = image[:, : image.shape[1] // factor * factor, : image.shape[2] // factor * factor]
    coarse = downsample(torch.from_numpy(image), factor)[0].round().clamp(0, 4095).numpy().astype(np.uint16)
    dataset = pydicom.dcmread(source)
    spacing = np.array(dataset.PixelSpacing, float)
    along_row, along_column = np.array(dataset.ImageOrientationPatient, float).reshape(2, 3)
    shift = (along_row * spacing[1] + along_column * spacing[0]) * (factor - 1) / 2
    dataset.PixelSpacing = [float(value) for value in factor * spacing]
    dataset.ImagePositionPatient = [round(float(v), 6) for v in np.array(dataset.ImagePositionPatient, float) + shift]
    dataset.Rows, dataset.Columns = coarse.shape
    dataset.PixelData = coarse.tobytes()
    target.write_bytes(objects.to_bytes(dataset))
    return dicom.read([target])[0].images.pixels


def pictures(name: str, panels: dict[str, np.ndarray]) -> None:
    """Save each slice as a PNG, and all of them side by side in the last one's window, two a row."""
    for role, pixels in panels.items():
        (OUT / f"{name}_{role.replace(' ', '_')}.png").write_bytes(png.to_bytes(Images(pixels)))
    *_, truth = panels.values()
    rows, columns = truth.shape[1:]
    sheet = Image.new("L", (2 * columns, len(panels) // 2 * (rows + LABEL)))
    draw = ImageDraw.Draw(sheet)
    for number, (role, pixels) in enumerate(panels.items()):
        left, top = number % 2 * columns, number // 2 * (rows + LABEL)
        grey = (255 * np.clip(pixels[0] / np.percentile(truth, 99.7), 0, 1)).astype(np.uint8)
        draw.text((left + 6, top + 3), role, fill=255, font_size=14)
        sheet.paste(Image.fromarray(grey).resize((columns, rows), Image.Resampling.NEAREST), (left, top + LABEL))
    sheet.save(OUT / f"{name}.png")


def in_order(answers: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the student's image, then the teacher's."""
    return {role: answers[role] for role in ("student", "teacher")}


def reconstruction(address: str, table: Table) -> None:
    """Reconstruct the slice from one k-space line in four by both roles."""
    source, file = OUT / "abdomen.dcm", OUT / "abdomen_r4.h5"
    subprocess.run([KDMRI, "undersample", source, "-o", file, "--acceleration", "4"], check=True)
    truth = dicom.read([source])[0].images.pixels
    plain = zero_filled(kspace.read(file)).pixels
    table.add_row("reconstruct 4x", "zero-filled", *quality(truth, plain), "", "")
    answers, times = {}, {}
    for role in ("teacher", "student"):
        url = f"{address}/reconstruct?role={role}"
        answer = post(url, file.read_bytes(), "application/x-hdf5", "application/x-hdf5")
        with h5py.File(io.BytesIO(answer)) as opened:
            pixels = opened["reconstruction"][()]
        answers[role] = pixels
        times[role] = milliseconds(url, file.read_bytes(), "application/x-hdf5")
        table.add_row("reconstruct 4x", role, *quality(truth, pixels), *timing(times, role))
    pictures("reconstruct", {"zero-filled": plain, **in_order(answers), "truth": truth})


def super_resolution(address: str, table: Table) -> None:
    """Super-resolve the slice by both roles from half the resolution that it was measured with."""
    measured, coarse = OUT / "abdomen_measured.dcm", OUT / "abdomen_half.dcm"
    truth = truncate(OUT / "abdomen.dcm", measured, 2)
    truncate(measured, coarse, 2)
    plain = upsample(torch.from_numpy(dicom.read([coarse])[0].images.pixels), 2).numpy()
    table.add_row("super-resolve 2x", "sinc", *quality(truth, plain), "", "")
    answers, times = {}, {}
    for role in ("teacher", "student"):
        url = f"{address}/super-resolve?scale=2&role={role}"
        answer = post(url, coarse.read_bytes(), "application/dicom", "application/dicom")
        (OUT / f"super_resolve_{role}.dcm").write_bytes(answer)
        pixels = dicom.read([answer])[0].images.pixels
        answers[role] = pixels
        times[role] = milliseconds(url, coarse.read_bytes(), "application/dicom")
        table.add_row("super-resolve 2x", role, *quality(truth, pixels), *timing(times, role))
    pictures("super_resolve", {"sinc": plain, **in_order(answers), "truth": truth})


def quality(truth: np.ndarray, pixels: np.ndarray) -> tuple[str, str]:
    """Format PSNR and SSIM against the slice that the input was made from."""
    return f"{metrics.psnr(truth, pixels):.2f} dB", f"{metrics.ssim(truth, pixels):.4f}"


def timing(times: dict[str, float], role: str) -> tuple[str, str]:
    """Format milliseconds, and the student's speed-up over the teacher, which is timed first."""
    return f"{times[role]:.1f}", f"{times['teacher'] / times[role]:.2f}" if role == "student" else ""


def main() -> None:
    """Run the demonstration."""
    OUT.mkdir(exist_ok=True)
    source = get_testdata_file("examples_overlay.dcm")
    if not isinstance(source, str):
        raise FileNotFoundError("expected examples_overlay.dcm in pydicom's package, found none")
    (OUT / "abdomen.dcm").write_bytes(Path(source).read_bytes())
    table = Table(
        "task",
        "role",
        "PSNR",
        "SSIM",
        "ms/slice",
        "speed-up",
        title="one abdominal slice, 300 x 484; super-resolution of its measured half",
    )
    with service() as address:
        reconstruction(address, table)
        super_resolution(address, table)
        with urllib.request.urlopen(f"{address}/metrics") as answer:
            exported = answer.read().decode()
    console.print(table)
    console.print("what a dashboard sees (/metrics):")
    for line in exported.splitlines():
        if line.startswith(("kdmri_slice_duration_seconds_sum", "kdmri_slice_duration_seconds_count")):
            console.print(f"  {line}", highlight=False, soft_wrap=True)
    console.print(f"pictures and answers: {OUT}/")


if __name__ == "__main__":
    main()
