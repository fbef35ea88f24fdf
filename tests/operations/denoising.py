"""A third task, in one file and with one network, to show what a new task needs: NumPy images to smoother ones."""

import json
import shutil
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from pydantic import Field

from kdmri.bundles.manifest import CONSISTENCY, MANIFEST, ROLES, Manifest, Task, cascade_file
from kdmri.bundles.store import Bundle, sha256
from kdmri.data.images import Images
from kdmri.errors import UnreadableInput
from kdmri.operations.media_types import BINARY, HDF5, JSON, PNG
from kdmri.operations.operation import Input, Job, Limits, Operation, SourceFile
from kdmri.operations.packing import Record
from kdmri.quality.no_reference import Quality
from kdmri.runtime.model import Model
from kdmri.runtime.stages import Stage, measure_nothing

SIDE = {"student": 3, "teacher": 5}
"""Pixels a side that a role's network averages."""


@dataclass(frozen=True)
class DenoisingJob(Job):
    """Images, and how many times the network is applied to them."""

    images: Images
    passes: int = 1

    @property
    def batch_key(self) -> Hashable | None:
        return (self.images.pixels.shape[1:], self.passes)

    @property
    def slices(self) -> int:
        return len(self.images.pixels)

    @property
    def bytes_per_slice(self) -> int:
        return self.images.pixels[0].nbytes

    def part(self, slices: slice) -> Self:
        return type(self)(Images(self.images.pixels[slices].copy()), self.passes)

    def run(self, model: Model, stage: Stage = measure_nothing) -> Images:
        pixels = torch.from_numpy(self.images.pixels)[..., None]
        for _ in range(self.passes):
            with stage("denoise"):
                pixels = model.denoisers[0](pixels)
        return Images(pixels[..., 0].numpy().copy())

    def run_batch(self, others: Sequence[Self], model: Model, stage: Stage = measure_nothing) -> list[Images]:
        stacks = [job.images.pixels for job in (self, *others)]
        joint = type(self)(Images(np.concatenate(stacks)), self.passes).run(model, stage)
        ends = np.cumsum([len(stack) for stack in stacks])[:-1]
        return [Images(pixels) for pixels in np.split(joint.pixels, ends)]

    def baseline(self) -> Images:
        return self.images

    def assess(self, images: Images) -> Quality:
        removed = float(np.std(self.images.pixels - images.pixels))
        return Quality(residual=0, noise=removed, intensity=float(images.pixels.mean()), contrast=0)


@dataclass(frozen=True)
class DenoisingInput(Input):
    job: DenoisingJob

    @property
    def jobs(self) -> Sequence[Job]:
        return (self.job,)

    @property
    def media_types(self) -> tuple[str, ...]:
        return Denoise.answer_types

    @property
    def records(self) -> Sequence[Record]:
        return (self.job.images,)


class Denoise(Operation):
    """NumPy images to smoother images."""

    name: ClassVar[str] = "denoise"
    task: ClassVar[Task] = "denoising"
    body_types: ClassVar[tuple[str, ...]] = (BINARY,)
    documented_types: ClassVar[tuple[str, ...]] = (BINARY,)
    answer_types: ClassVar[tuple[str, ...]] = (HDF5, PNG, JSON)
    answers_are_fixed: ClassVar[bool] = True

    passes: int = Field(1, ge=1, description="how many times the network is applied")

    @contextmanager
    def parse(self, files: Sequence[SourceFile], limits: Limits = Limits()) -> Iterator[Input]:
        try:
            pixels = np.load(files[0].file, allow_pickle=False)
        except ValueError as error:
            raise UnreadableInput("expected a NumPy array, got something else") from error
        yield DenoisingInput(DenoisingJob(Images(pixels.astype(np.float32)), self.passes))

    def from_records(self, records: Sequence[Record]) -> Input:
        (images,) = (record for record in records if isinstance(record, Images))
        return DenoisingInput(DenoisingJob(images, self.passes))

    @classmethod
    def example(cls, manifest: Manifest) -> Job:
        return DenoisingJob(Images(np.ones((1, 8, 8), np.float32)))


def mean_filter(side: int) -> onnx.ModelProto:
    """Return a network of one average over side x side pixels."""
    shape = ["batch", "row", "column", "plane"]
    image, denoised = (helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("image", "denoised"))
    nodes = [
        helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["mean"], kernel_shape=[side, side], pads=[side // 2] * 4),
        helper.make_node("Transpose", ["mean"], ["denoised"], perm=[0, 2, 3, 1]),
    ]
    graph = helper.make_graph(nodes, "mean", [image], [denoised])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write_models(template: Bundle, folder: Path) -> Path:
    """Write a models folder with a student and a teacher of the task; all else is taken from another model's folder."""
    for role in ROLES:
        target = folder / f"mean-{role}" / "1.0.0"
        target.mkdir(parents=True)
        onnx.save(mean_filter(SIDE[role]), target / cascade_file(1))
        shutil.copy(template.folder / CONSISTENCY, target / CONSISTENCY)
        content = template.manifest.model_dump() | {
            "name": f"mean-{role}",
            "version": "1.0.0",
            "task": Denoise.task,
            "role": role,
            "architecture": {**template.manifest.architecture, "cascades": 1},
            "files": {name: sha256(target / name) for name in (cascade_file(1), CONSISTENCY)},
            "distilled_from": None,
        }
        (target / MANIFEST).write_text(json.dumps(content))
    return folder
