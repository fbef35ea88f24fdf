"""A trained network as a bundle: ONNX graphs, TorchScript data consistency, parity, manifest and card."""

from pathlib import Path

import onnx
import torch
from jaxtyping import Float
from kdmri_training.data.volumes import load_slices
from kdmri_training.evaluation.agreement import agreement
from kdmri_training.evaluation.evaluate import TEST_SET, evaluate, summarise
from kdmri_training.evaluation.ranges import intensity_and_contrast
from kdmri_training.learning.recipe import STAGES, Architecture, Recipe, recipe_of_run
from kdmri_training.learning.run import weights
from kdmri_training.networks.cascades import Network, arrange, parameters
from kdmri_training.networks.denoiser import Denoiser
from kdmri_training.publishing.card import DATA, card
from kdmri_training.publishing.parity import PARITY, check_parity
from torch import Tensor, nn

from kdmri.bundles.manifest import CONSISTENCY, FORMAT, MANIFEST, Manifest, Role, cascade_file
from kdmri.bundles.store import Bundle, load, sha256
from kdmri.physics.consistency import DataConsistency
from kdmri.runtime.backends.selection import OPENVINO_BF16, cpu_supports
from kdmri.runtime.backends.torchscript import save_module
from kdmri.runtime.model import load_model

OPSET = 18


class PlanesLast(nn.Module):
    """A denoiser over [batch, row, column, plane]: a complex tensor viewed as real goes in and out without a copy."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, image: Float[Tensor, "batch row column plane"]) -> Float[Tensor, "batch row column plane"]:
        """Return the denoised planes."""
        # The sum is of tensors in the input's order: OpenVINO takes eight times as long for it in the other order.
        return image + self.denoiser.detail(image.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def export_network(network: Network, folder: Path) -> None:
    """Write one ONNX graph for each cascade, and the data-consistency module."""
    folder.mkdir(parents=True, exist_ok=True)
    planes = network.denoisers()[0].planes
    sizes = {name: torch.export.Dim(name, min=1) for name in ("batch", "row", "column")}
    for number, denoiser in enumerate(network.denoisers(), start=1):
        torch.onnx.export(
            arrange(PlanesLast(denoiser).eval(), torch.contiguous_format),
            # Sizes that differ from each other and are not 1: the exporter takes equal ones for one, and 1 for
            # constant.
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
    """Write a trained network as a bundle: check it against the network, score it on the test split, describe it.

    Args:
        recipe: the recipe that trained it.
        role: teacher or student.
        runs: folder of runs.
        data: folder with volumes/<split>/<anatomy>/*.nii.gz.
        models: folder of models, to which the bundle is written.

    Raises:
        ValueError: bundle and network differ by more than PARITY.
    """
    network = recipe.network(role).eval()
    origin = _origin(recipe, role, models)
    network.load_state_dict(weights(runs / recipe.run, role))
    folder = models / f"{recipe.name}-{role}" / recipe.version
    export_network(network, folder)
    usual = intensity_and_contrast(recipe, load_slices(data, "train", runs / "cache"))
    manifest = _manifest(recipe, role, network, folder, usual, _stages(recipe, role, runs, origin))
    bundle = Bundle(folder, manifest)
    # Checked on the files that are shipped, through the same back end as the service's.
    parity = check_parity(network, load_model(bundle))
    if max(parity.values()) > PARITY:
        raise ValueError(f"expected bundle and network to agree to {PARITY}, got {parity}")
    # The test split is read here alone: weights and recipes are chosen on validation.
    scores = summarise(evaluate(load_model(bundle), data, "test"))
    loss = precision_loss(bundle, scores, data)
    measured: dict[str, object] = {"parity": parity, "scores": scores, "precision_loss": loss}
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


def _manifest(
    recipe: Recipe,
    role: Role,
    network: Network,
    folder: Path,
    usual: dict[str, tuple[float, float]],
    stages: list[dict[str, str | int | float]],
) -> Manifest:
    """Describe a bundle whose files are written, without its parity and scores."""
    simulated = {key: value for key, value in vars(recipe.data).items() if key not in ("batch", "pixels", "patch")}
    return Manifest(
        format=FORMAT,
        name=f"{recipe.name}-{role}",
        version=recipe.version,
        task=recipe.task,
        role=role,
        architecture={"cascades": 1, **_numbers(recipe.architecture(role))},
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
    return _origin(recipe_of_run(start), role, models) if start else None


def _runs(recipe: Recipe, role: Role) -> list[str]:
    """List the runs that led to the role's weights, first to last, up to a bundle or to scratch."""
    start = recipe.start.get(role, "")
    earlier = _runs(recipe_of_run(start), role) if start and "@" not in start else []
    return [*earlier, recipe.run]


def _teacher(recipe: Recipe) -> str:
    """Return the reference of the bundle that the student learned from."""
    run = recipe.run if recipe.steps["teacher"] else recipe.start["teacher"]
    return f"{recipe.name}-teacher@{run.rpartition('-')[2]}"


def _stages(recipe: Recipe, role: Role, runs: Path, origin: Bundle | None) -> list[dict[str, str | int | float]]:
    """Collect steps, seconds and best validation score of each stage that led to the role's weights.

    Stages of a bundle that training started from come from its manifest, the others from their checkpoints.
    """
    earlier: list[dict[str, str | int | float]] = origin.manifest.training["stages"] if origin else []
    return earlier + [
        _stage(runs / run / name, run, name)
        for run in _runs(recipe, role)
        for name in STAGES[role]
        if (runs / run / name / "last.pt").exists()
    ]


def _stage(folder: Path, run: str, name: str) -> dict[str, str | int | float]:
    last, best = (torch.load(folder / name, map_location="cpu", weights_only=True) for name in ("last.pt", "best.pt"))
    # The best weights of a run that was stopped may be younger than its last checkpoint: the larger step counts.
    steps, score = max(last["step"], best["step"]), round(float(best["score"]), 4)
    recipe = recipe_of_run(run)
    return {
        "run": run,
        "recipe": recipe.file,
        "seed": recipe.seed,
        "stage": name,
        "steps": steps,
        "seconds": round(last["seconds"]),
        "score": score,
    }


def precision_loss(bundle: Bundle, scores: dict[str, dict[str, float]], data: Path) -> dict[str, float]:
    """Compute the largest loss of mean PSNR in bfloat16, as Manifest.precision_loss has it.

    Args:
        bundle: the bundle.
        scores: its scores in float32, as `summarise` gives them.
        data: folder with volumes/test/<anatomy>/*.nii.gz.

    Returns:
        The loss in dB by precision; empty if this machine does not multiply in bfloat16.
    """
    if not cpu_supports("bf16"):
        return {}
    reduced = summarise(evaluate(load_model(bundle, backend=OPENVINO_BF16), data, "test"))
    return {"bf16": round(max(scores[key]["psnr"] - reduced[key]["psnr"] for key in scores), 4)}


def _numbers(size: Architecture) -> dict[str, int]:
    """Return an architecture as the manifest's numbers, in the recipe's order."""
    return {name: value for name, value in size.items() if isinstance(value, int)}


def _inputs(recipe: Recipe) -> dict[str, str]:
    if recipe.task == "reconstruction":
        return {"image": "float32 [batch, row, column, 2]: real and imaginary part, bright tissue about 1"}
    return {"image": "float32 [batch, row, column, 1]: sinc-interpolated magnitude, bright tissue about 1"}
