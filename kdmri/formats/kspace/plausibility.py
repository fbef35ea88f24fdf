"""Warnings about scans that can be read but hardly exist: swapped axes, and lengths in metres or micrometres."""

from kdmri.data.kspace import Scan

SMALLEST_MM, LARGEST_MM = 1.0, 1000.0
"""Fields of view that MR scanners have, preclinical ones included. Headers in metres or micrometres lie outside."""


def implausible_sizes(scan: Scan) -> tuple[str, ...]:
    """Return a sentence for each size that no scanner has; none for a plausible scan.

    Args:
        scan: K-space of shape (slice, coil, row, column), with sizes in mm where its file states them.
    """
    sentences = []
    _, coils, rows, columns = scan.shape
    if coils > min(rows, columns):
        sentences.append(
            f"{coils} coils with {rows} x {columns} samples each are implausible: expected the axes (slice, coil, row, "
            "column), some may be swapped."
        )
    if scan.geometry is not None:
        field = [length * step for length, step in zip(scan.image_shape, scan.geometry.spacing, strict=True)]
        if not all(SMALLEST_MM <= side <= LARGEST_MM for side in field):
            sentences.append(
                f"A field of view of {field[0]:g} x {field[1]:g} mm is implausible: expected {SMALLEST_MM:g} to "
                f"{LARGEST_MM:g} mm, positions and sizes may be in another unit."
            )
    return tuple(sentences)
