"""The document of a model folder, manifest.json, and the names of the files beside it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Task = Annotated[str, Field(pattern=r"^[a-z]+(-[a-z]+)*$")]
"""Name of a task, such as reconstruction or super-resolution. A task that no operation has is refused by the service;
this module does not list them, so that a new task needs no change here."""
Role = Literal["teacher", "student"]
# The student comes first, because it is the default and the first of a pair wherever both answer.
ROLES: tuple[Role, ...] = ("student", "teacher")

Feature = Literal["constant", "extrapolated_error", "prediction_error", "acceleration", "noise", "several_coils"]
"""Inputs of the prediction of an answer's error."""

MANIFEST = "manifest.json"
CONSISTENCY = "data_consistency.pt"
UNLISTED = (MANIFEST, "CARD.md", "training_log.jsonl")
"""Files of a bundle that are read by people, not loaded: the manifest states no hash of them."""
FORMAT: Literal[2] = 2
"""Version of the bundle format.

In format 1 the data-consistency module took the samples of every coil; in format 2 it takes the zero-filled image.
"""


def cascade_file(number: int) -> str:
    """Return the name of the ONNX file of cascade `number`, counted from 1."""
    return f"cascade_{number}.onnx"


class Calibration(BaseModel):
    """Linear model, in logarithms, of the relative error of an answer; see quality.prediction."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    coefficients: dict[Feature, float]
    """Weight of each input."""
    half_width: float = Field(gt=0)
    """Half of the interval of the error's natural logarithm."""
    coverage: float = Field(gt=0, lt=1)
    """Share of answers that the interval is made to hold."""
    warn_above: float = Field(gt=0)
    """Predicted relative error above which an answer gets a warning."""
    calibrated_on: str
    """The examples that the coefficients were fitted to."""


class Manifest(BaseModel):
    """Content of manifest.json: enough to run the model, to check it and to judge it."""

    # An unknown field is an error: it may be one of a newer format that changes what the known ones mean.
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[2]
    """Version of the bundle format, FORMAT."""
    name: str
    version: str
    task: Task
    role: Role
    architecture: dict[str, int]
    """cascades, convolutions, channels; fold and shared if the network has them (training.networks)."""
    parameters: int
    inputs: dict[str, str]
    """Shape, type and meaning of every graph input."""
    # JSON as training wrote it: `quality.no_reference` uses the ranges that it knows and ignores the rest.
    trained_on: dict[str, Any]
    """Ranges seen in training: accelerations or scales, columns of the matrix, noise, coils; see quality.ranges."""
    consistency_step: float
    """lambda of every data-consistency step; 1 replaces measured samples."""
    files: dict[str, str]
    """SHA-256 of every file except the manifest and the card."""
    parity: dict[str, float]
    """Relative difference, bundle against PyTorch network, by shape (coil x row x column or row x column)."""
    scores: dict[str, dict[str, float]]
    """Means over test volumes, by condition, then metric."""
    precision_loss: dict[str, float] = {}
    """Largest loss of mean PSNR in dB, over the conditions of the test set, by reduced precision ("bf16")."""
    agreement: dict[str, dict[str, float]] = {}
    """A student's psnr (dB) and ssim to its teacher: means over test volumes, by acceleration or scale ("4x").

    Empty for a teacher, and for bundles that are older than this field.
    """
    predicted_quality: Calibration | None = None
    """How an answer's error is predicted; None for models whose quality cannot be predicted."""
    test_set: str
    training: dict[str, Any]
    """Recipe, seed, steps and seconds of each stage, data and licences."""
    distilled_from: str | None

    @property
    def reference(self) -> str:
        """name@version."""
        return f"{self.name}@{self.version}"
