"""CARD.md: a model's description, for readers who decide whether to trust it."""

import math
from typing import Any

from kdmri.bundles.manifest import Manifest
from kdmri.quality import no_reference as quality

DATA = {
    "brain": "T1, T2 and FLAIR; open_ms_data (Lesjak et al. 2016/2017, University of Ljubljana; CC-BY), "
    "studyforrest as in datalad/example-dicom-structural (ODC-PDDL-1.0), neurolabusc/dcm_qa_uih (BSD-2-Clause), "
    "FNNDSC/data (Apache-2.0)",
    "cardiac": "bSSFP cine; Sunnybrook Cardiac Data, as in SegNetCMR (images public domain, repository MIT)",
    "spine": "gradient echo with and without magnetisation transfer, T2*; spinalcordtoolbox tutorial and testing data "
    "(MIT; CC-BY-4.0 upstream, spine-generic)",
}


def card(manifest: Manifest) -> str:
    """Write the card's Markdown from the manifest alone, so that no figure is typed by hand."""
    sections = [
        f"# {manifest.reference}",
        _summary(manifest),
        "## Not for",
        _limits(manifest),
        "## Training",
        _training(manifest),
        "## Scores",
        f"Set: {manifest.test_set}. Means over volumes; data range is the volume's maximum.",
        _scores(manifest),
        *_precision(manifest),
        *_agreement(manifest),
        "## When the service warns",
        _warnings(manifest),
        "## Files",
        f"Bundle against PyTorch network, relative l2 difference: {_parity(manifest)}.",
    ]
    return "\n\n".join(sections) + "\n"


def _summary(manifest: Manifest) -> str:
    network = "DC-CNN" if manifest.task == "reconstruction" else "VDSR"
    size = manifest.architecture
    cascades = f"{size['cascades']} cascades of " if size["cascades"] > 1 else ""
    fold = size.get("fold", 1)
    folded = f", on images folded {fold} x {fold} (pixel unshuffle)" if fold > 1 else ""
    shared = ", all but the first and last the same in every cascade" if size.get("shared") else ""
    scales = size.get("scales", 0)
    coarser = f", with a branch on {scales} coarser grids in each cascade" if scales else ""
    layers = f"{cascades}{size['convolutions']} convolutions of {size['channels']} channels{folded}{shared}{coarser}"
    role = manifest.role.capitalize()
    return f"{role} for {manifest.task}: {network}, {layers}; {manifest.parameters:,} parameters. {_origin(manifest)}"


def _origin(manifest: Manifest) -> str:
    """State how many of the training steps learned from a teacher and how many from the truth alone."""
    stages = manifest.training["stages"]
    total = sum(stage["steps"] for stage in stages)
    distilled = sum(stage["steps"] for stage in stages if stage["stage"] in ("attention", "student"))
    if not distilled:
        teacher = f" Its card compares it with {manifest.distilled_from}." if manifest.distilled_from else ""
        return f"Trained on the truth alone.{teacher}"
    source = f" from {manifest.distilled_from}" if manifest.distilled_from else " from an earlier teacher"
    share = f"{distilled:,} of {total:,} training steps ({distilled / total:.0%})"
    return f"{share} were distillation{source}; the others learned from the truth alone."


LIMITS = """Diagnosis without review by a radiologist who knows that the image is machine-made. Not a medical device; no
clinical validation was done. Fine structure may be missing or invented.

Trained on magnitude images with simulated measurements, not on raw data:

{seen}

No knee, abdomen or breast was seen, no contrast but those of the data below, no pathology but multiple sclerosis and
cardiac disease."""

TRAINING = """Recipes of `training/recipes/`, each going on from the one before; one or two CPU cores shared with other
work, in bfloat16 unless the recipe names float32; `training_log.jsonl` is the log of the runs. The score is PSNR in dB
on validation examples (bright tissue as the peak); for attention transfer the negative loss.

{stages}

Data, train split by subject:

{sources}"""


def _limits(manifest: Manifest) -> str:
    described = _simulated_scans if manifest.task == "reconstruction" else _truncated_images
    return LIMITS.format(seen="\n".join(f"- {line}" for line in described(manifest.trained_on)))


def _simulated_scans(trained: dict[str, Any]) -> list[str]:
    """Describe the ranges of kdmri_training.data.simulation.Simulation in words."""
    low, high = trained["accelerations"]
    coils, share = trained["coils"], trained["multi_coil"]
    steepest = trained.get("steepest_phase", 1)
    steep = f", up to {steepest:g} times as steep as in the scores below," if steepest > 1 else ""
    close, power = trained.get("close", 0), math.exp(trained.get("gamma", 0))
    view = f"{close:.0%} of fields of view as close as the patient, what lies beyond one side seen at the other"
    contrast = f"contrast: brightness raised to powers of {1 / power:.2g} to {power:.2g}"
    return [
        f"acceleration {low:g} to {high:g}: random, equally spaced and variable-density lines around a sampled centre",
        f"{min(trained['columns'])} to {max(trained['columns'])} phase-encode columns",
        f"one coil, or {coils} in {share:.0%} of the batches",
        f"noise with a standard deviation of up to {trained['noise']:g} of the bright tissue",
        f"a smooth phase{steep} with local deviations of up to {trained['phase_ripple']:g} rad",
        f"coil shading: logarithm of the brightness with a standard deviation of up to {trained['shading']:g}",
        *([view] if close else []),
        *([contrast] if power > 1 else []),
    ]


def _truncated_images(trained: dict[str, Any]) -> list[str]:
    """Describe the ranges of kdmri_training.data.enlargement.Truncation in words."""
    return [f"k-space truncated to 1/{scale} of its rows and columns" for scale in sorted(set(trained["scales"]))]


def _training(manifest: Manifest) -> str:
    rows = [
        f"| {stage['recipe']} | {stage['seed']} | {stage['stage']} | {stage['steps']:,} "
        f"| {stage['seconds'] / 60:.0f} | {stage['score']} |"
        for stage in manifest.training["stages"]
    ]
    head = ["| recipe | seed | stage | steps | minutes | best validation score |", "|---|---|---|---|---|---|"]
    stages = "\n".join([*head, *rows])
    sources = "\n".join(f"- {anatomy}: {text}" for anatomy, text in manifest.training["data"].items())
    return TRAINING.format(stages=stages, sources=sources)


def _scores(manifest: Manifest) -> str:
    rows = [
        f"| {key} | {s['psnr']:.2f} | {s['ssim']:.4f} | {s['nmse']:.4f} | {s['hfn']:.3f} |"
        for key, s in manifest.scores.items()
    ]
    return "\n".join(["| set | PSNR (dB) | SSIM | NMSE | HFN |", "|---|---|---|---|---|", *rows])


def _precision(manifest: Manifest) -> list[str]:
    return [
        f"In reduced precision ({precision}) mean PSNR is at most {loss:.3f} dB lower, in any row of this table."
        for precision, loss in manifest.precision_loss.items()
    ]


AGREEMENT = """The student's images held against the teacher's, not against the truth: same set, means over volumes; the
teacher's volume is the reference, its maximum the data range. A service's shadow runs should find the same; its
dashboard and alerts measure drift from the lowest of these figures.

{table}"""


def _agreement(manifest: Manifest) -> list[str]:
    if not manifest.agreement:
        return []
    rows = [f"| {condition} | {a['psnr']:.2f} | {a['ssim']:.4f} |" for condition, a in manifest.agreement.items()]
    table = "\n".join(["| | PSNR (dB) | SSIM |", "|---|---|---|", *rows])
    return [f"## Agreement with {manifest.distilled_from}", AGREEMENT.format(table=table)]


WARNINGS = """An answer carries `KDMRI-Warning` where its input lies more than {tolerance} octaves (factors of two)
outside a range below, where its k-space is fully sampled, or where more than {residual:.0%} of what was measured (as a
ratio of norms) is not in the answer. Acceleration below its range is no reason to warn. Noise and intensity (the mean
of a slice) are relative to bright tissue; contrast is a slice's standard deviation over its mean.

{ranges}"""


def _warnings(manifest: Manifest) -> str:
    ranges = [f"- {name}: {low:g} to {high:g}" for name, (low, high) in quality.ranges(manifest).items()]
    residual = float(manifest.trained_on.get("residual", quality.RESIDUAL))
    return WARNINGS.format(tolerance=quality.TOLERANCE, residual=residual, ranges="\n".join(ranges))


def _parity(manifest: Manifest) -> str:
    return ", ".join(f"{shape}: {value:.1e}" for shape, value in manifest.parity.items())
