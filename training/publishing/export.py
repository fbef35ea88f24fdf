"""A trained network as a bundle: ONNX graphs, TorchScript data consistency, parity, manifest and card."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from jaxtyping import Float
from kdmri_training.data.simulation import load_slices, simulate_phase, simulate_sensitivities
from kdmri_training.evaluation.agreement import agreement
from kdmri_training.evaluation.evaluate import TEST_SET, evaluate, summarise
from kdmri_training.evaluation.ranges import intensity_and_contrast
from kdmri_training.learning.recipe import STAGES, Recipe, Role, trained_by
from kdmri_training.learning.run import weights
from kdmri_training.networks.cascades import Denoiser, parameters
from kdmri_training.publishing.card import DATA, card
from torch import Tensor, nn

from kdmri.bundles.manifest import CONSISTENCY, FORMAT, MANIFEST, Manifest, cascade_file
from kdmri.bundles.store import Bundle, load, sha256
from kdmri.data.images import Images
from kdmri.data.kspace import KSpace
from kdmri.physics.acquisition import Acquisition
from kdmri.physics.consistency import DataConsistency, fft_order
from kdmri.physics.resampling import as_complex, measured_band, upsample
from kdmri.physics.sampling import centre_lines, random_mask
from kdmri.physics.scaling import intensity_scale
from kdmri.physics.sparse_fit import refine_multicoil
from kdmri.runtime.backends.selection import OPENVINO_BF16, cpu_supports
from kdmri.runtime.backends.torchscript import save_module
from kdmri.runtime.measurement import measurements
from kdmri.runtime.model import Model, load_model
from kdmri.runtime.reconstructor import Reconstructor
from kdmri.runtime.superresolver import SuperResolver

OPSET = 18
PARITY = 1e-4
"""Largest relative difference between bundle and network that is exported (design, section 3)."""
RECONSTRUCTION_SHAPES = ((1, 256, 256), (1, 230, 180), (1, 181, 217), (15, 640, 368))
IMAGE_SHAPES = ((256, 256), (230, 180), (181, 217))


class PlanesLast(nn.Module):
    """A denoiser over [batch, row, column, plane]: a complex tensor viewed as real goes in and out without a copy."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, image: Float[Tensor, "batch row column plane"]) -> Float[Tensor, "batch row column plane"]:
        """The denoised planes. Their sum is made as they lie: OpenVINO takes eight times as long for it otherwise."""
        return image + self.denoiser.detail(image.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def export_network(network: nn.Module, folder: Path) -> None:
    """Write one ONNX graph a cascade and the data-consistency module."""
    folder.mkdir(parents=True, exist_ok=True)
    planes = network.cascades[0].planes
    sizes = {name: torch.export.Dim(name, min=1) for name in ("batch", "row", "column")}
    for number, denoiser in enumerate(network.cascades, start=1):
        torch.onnx.export(
            PlanesLast(denoiser).eval().to(memory_format=torch.contiguous_format),
            (torch.zeros(2, 48, 40, planes),),
            folder / cascade_file(number),
            input_names=["image"],
            output_names=["denoised"],
            opset_version=OPSET,
            dynamic_shapes=({0: sizes["batch"], 1: sizes["row"], 2: sizes["column"]},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        graph = onnx.load(folder / cascade_file(number))
        _forget_origin(graph)
        onnx.checker.check_model(graph, full_check=True)
        onnx.save(graph, folder / cascade_file(number))
    save_module(DataConsistency(), folder / CONSISTENCY)


def _forget_origin(graph: onnx.ModelProto) -> None:
    """Drop the exporter's stack traces: they name files of the exporting machine, and grow a graph by a fifth."""
    for part in (graph.graph, *graph.graph.node, *graph.graph.input, *graph.graph.output, *graph.graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    del graph.graph.value_info[:]


def export(recipe: Recipe, role: Role, runs: Path, data: Path, models: Path) -> Bundle:
    """Write, check against the network, score on the test split, and describe. Raises ValueError where parity fails."""
    network = recipe.network(role).eval()
    origin = _origin(recipe, role, models)
    network.load_state_dict(weights(runs / recipe.run, role))
    folder = models / f"{recipe.name}-{role}" / recipe.version
    export_network(network, folder)
    usual = intensity_and_contrast(recipe, load_slices(data, "train", runs / "cache"))
    manifest = _described(recipe, role, network, folder, usual, _stages(recipe, role, runs, origin))
    bundle = Bundle(folder, manifest)
    parity = check_parity(network, load_model(bundle))
    if max(parity.values()) > PARITY:
        raise ValueError(f"expected bundle and network to agree to {PARITY}, got {parity}")
    scores = summarise(evaluate(load_model(bundle), data, "test"))
    loss = precision_loss(bundle, scores, data)
    measured = {"parity": parity, "scores": scores, "precision_loss": loss}
    if manifest.distilled_from:
        teacher = load(models.joinpath(*manifest.distilled_from.split("@")))
        measured["agreement"] = agreement(load_model(bundle), load_model(teacher), data)
    manifest = manifest.model_copy(update=measured)
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
    (folder / "CARD.md").write_text(card(manifest))
    log = (origin.folder / "training_log.jsonl").read_text() if origin else ""
    log += "".join((runs / run / "log.jsonl").read_text() for run in _runs(recipe, role))
    (folder / "training_log.jsonl").write_text(log)
    return Bundle(folder, manifest)


def _described(
    recipe: Recipe, role: Role, network: nn.Module, folder: Path, usual: dict[str, Any], stages: list[dict[str, Any]]
) -> Manifest:
    numbers = recipe.teacher if role == "teacher" else recipe.student
    simulated = {key: value for key, value in vars(recipe.data).items() if key not in ("batch", "pixels", "patch")}
    return Manifest(
        format=FORMAT,
        name=f"{recipe.name}-{role}",
        version=recipe.version,
        task=recipe.task,
        role=role,
        architecture={"cascades": 1, **numbers},
        parameters=parameters(network),
        inputs=_inputs(recipe),
        trained_on={**simulated, **usual},
        consistency_step=1.0,
        files={file.name: sha256(file) for file in sorted(folder.iterdir()) if file.suffix in (".onnx", ".pt")},
        parity={},
        scores={},
        test_set=TEST_SET,
        training={"stages": stages, "data": DATA},
        distilled_from=None if role == "teacher" else _teacher(recipe),
    )


def _origin(recipe: Recipe, role: Role, models: Path) -> Bundle | None:
    """Return the bundle that the role's first run started from, or None if training began from scratch."""
    start = recipe.start.get(role, "")
    if "@" in start:
        return load(models.joinpath(*start.split("@")))
    return _origin(trained_by(start), role, models) if start else None


def _runs(recipe: Recipe, role: Role) -> list[str]:
    """List the runs that led to the role's weights, first to last, up to a bundle or to scratch."""
    start = recipe.start.get(role, "")
    earlier = _runs(trained_by(start), role) if start and "@" not in start else []
    return [*earlier, recipe.run]


def _teacher(recipe: Recipe) -> str:
    """The bundle that the student learned from."""
    run = recipe.run if recipe.steps["teacher"] else recipe.start["teacher"]
    return f"{recipe.name}-teacher@{run.rpartition('-')[2]}"


def _stages(recipe: Recipe, role: Role, runs: Path, origin: Bundle | None) -> list[dict[str, Any]]:
    """Collect steps, seconds and best validation score of each stage that led to the role's weights.

    Stages of a bundle that training started from come from its manifest, the others from their checkpoints.
    """
    earlier: list[dict[str, Any]] = origin.manifest.training["stages"] if origin else []
    return earlier + [
        _stage(runs / run / name, run, name)
        for run in _runs(recipe, role)
        for name in STAGES[role]
        if (runs / run / name / "last.pt").exists()
    ]


def _stage(folder: Path, run: str, name: str) -> dict[str, Any]:
    last, best = (torch.load(folder / name, map_location="cpu", weights_only=True) for name in ("last.pt", "best.pt"))
    # Of a run that was stopped, the best weights may be younger than the last checkpoint.
    steps, score = max(last["step"], best["step"]), round(float(best["score"]), 4)
    recipe = trained_by(run)
    return {
        "run": run,
        "recipe": recipe.file,
        "seed": recipe.seed,
        "stage": name,
        "steps": steps,
        "seconds": round(last["seconds"]),
        "score": score,
    }


def check_parity(network: nn.Module, model: Model) -> dict[str, float]:
    """Relative l2 difference between a loaded bundle and its network, by shape."""
    if model.manifest.task == "reconstruction":
        return {_label(shape): _reconstruction_parity(network, model, shape) for shape in RECONSTRUCTION_SHAPES}
    return {_label(shape): _enlargement_parity(network, model, shape) for shape in IMAGE_SHAPES}


@torch.no_grad()
def _reconstruction_parity(network: nn.Module, model: Model, shape: tuple[int, int, int]) -> float:
    coils, rows, columns = shape
    rng = np.random.default_rng(rows)
    image = torch.from_numpy(rng.random((rows, columns), dtype=np.float32)) * simulate_phase((rows, columns), rng)
    lines = random_mask(columns, 4, centre_lines(columns, 4), rng)
    mask = np.broadcast_to(lines, (1, rows, columns))
    maps = simulate_sensitivities((rows, columns), coils, rng)
    measured = Acquisition.simulate(
        image[None], torch.from_numpy(lines).float().expand(1, 1, rows, columns), maps[None]
    )
    kspace = KSpace(measured.samples.numpy(), mask, (rows, columns))
    answer = next(Reconstructor(model).complex_images(kspace))
    measurement = next(measurements(kspace, torch.device("cpu")))
    acquisition, scale = measurement.acquisition, measurement.acquisition.scale
    image = network(acquisition.zero_filled / scale, acquisition.mask, acquisition.sensitivities) * scale
    return _relative(answer, refine_multicoil(image, acquisition) * measurement.unit)


@torch.no_grad()
def _enlargement_parity(network: nn.Module, model: Model, shape: tuple[int, int]) -> float:
    pixels = np.random.default_rng(shape[0]).random((1, *shape), dtype=np.float32)
    scale = model.manifest.trained_on["scales"][0]
    answer = torch.from_numpy(SuperResolver(model).super_resolve(Images(pixels), scale).pixels)
    start = upsample(torch.from_numpy(pixels), scale)
    unit = intensity_scale(start)
    start = as_complex(start / unit)
    band = measured_band(shape, scale).float()[None, None]
    detailed = as_complex(network(start.real))
    maps = torch.ones_like(start).unsqueeze(1)
    expected = DataConsistency()(detailed, start, fft_order(band), maps, torch.ones(())).real * unit
    return _relative(answer, expected)


def precision_loss(bundle: Bundle, scores: dict[str, dict[str, float]], data: Path) -> dict[str, float]:
    """What bfloat16 costs, see Manifest.precision_loss; empty where this machine can't tell."""
    if not cpu_supports("bf16"):
        return {}
    reduced = summarise(evaluate(load_model(bundle, backend=OPENVINO_BF16), data, "test"))
    return {"bf16": round(max(scores[key]["psnr"] - reduced[key]["psnr"] for key in scores), 4)}


def _label(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _relative(answer: Tensor, expected: Tensor) -> float:
    return float(torch.linalg.vector_norm(answer - expected) / torch.linalg.vector_norm(expected))


def _inputs(recipe: Recipe) -> dict[str, str]:
    if recipe.task == "reconstruction":
        return {"image": "float32 [batch, row, column, 2]: real and imaginary part, bright tissue about 1"}
    return {"image": "float32 [batch, row, column, 1]: sinc-interpolated magnitude, bright tissue about 1"}
