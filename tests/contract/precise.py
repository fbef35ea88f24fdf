"""Images of the shipped bundles as projections: precise enough to show that a bundle's answer is still the same."""

import io
from collections.abc import Iterator

import h5py
import httpx2
import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from tests.contract.requests import HDF5, Call, calls, send

PROJECTIONS = 64
NAMES = ("one coil, both", "four coils, both, application/x-hdf5", "MR_small, both, HDF5", "MR_small x 4, both")
"""Requests that are answered by student and teacher, so that together they run every bundle."""


def projections(image: Float32[ndarray, "slice row column"]) -> list[float]:
    """Return inner products of an image with fixed random directions, over the image's norm, and that norm last.

    The products change with every pixel, where samples of the image would miss a change between them. Directions
    have unit variance, so that each product is of order 1 and an absolute tolerance is relative to the image.

    Args:
        image: Magnitudes in the input's units.
    """
    flat = image.astype(np.float64).ravel()
    norm = float(np.linalg.norm(flat))
    directions = np.random.default_rng(0)
    products = [float(directions.standard_normal(flat.size) @ flat) / norm for _ in range(PROJECTIONS)]
    return [*products, norm]


def requests_of_both_roles() -> Iterator[tuple[str, Call]]:
    """Yield the requests whose images are recorded precisely."""
    recorded = dict(calls())
    one, small = recorded["one coil as default"], recorded["MR_small x 2 as default"]
    added = {
        NAMES[0]: Call("/reconstruct?role=both", one.body, one.kind, HDF5),
        NAMES[3]: Call("/super-resolve?role=both&scale=4", small.body, small.kind, HDF5),
    }
    for name in NAMES:
        yield name, added.get(name) or recorded[name]


def images(client: httpx2.Client) -> dict[str, dict[str, list[float]]]:
    """Return, by request and model, the projections of every image that the shipped bundles answer."""
    found = {}
    for name, call in requests_of_both_roles():
        answer = send(client, call)
        references = answer.headers["kdmri-model"].split(", ")
        with h5py.File(io.BytesIO(answer.content)) as file:
            pixels = [file[role][()] for role in ("student", "teacher")]
        found[name] = {reference: projections(image) for reference, image in zip(references, pixels, strict=True)}
    return found
