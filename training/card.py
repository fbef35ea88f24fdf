"""CARD.md: what a model is, for whoever has to decide whether to trust it."""

from kdmri import quality
from kdmri.bundle import Manifest

DATA = {
    "brain": "open_ms_data (Lesjak et al. 2016/2017, University of Ljubljana; CC-BY), studyforrest, "
    "datalad/example-dicom-structural (ODC-PDDL-1.0), neurolabusc/dcm_qa_uih (BSD-2-Clause), FNNDSC/data (Apache-2.0)",
    "cardiac": "Sunnybrook Cardiac Data, as in SegNetCMR (images public domain, repository MIT)",
    "spine": "spinalcordtoolbox tutorial and testing data (MIT; CC-BY-4.0 upstream, spine-generic)",
}


def card(manifest: Manifest) -> str:
    """The card's Markdown, from the manifest alone: no figure is typed by hand."""
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
    numbers = ", ".join(f"{value} {key}" for key, value in manifest.architecture.items())
    origin = f"Distilled from {manifest.distilled_from}." if manifest.distilled_from else "Trained on the truth alone."
    role = manifest.role.capitalize()
    return f"{role} for {manifest.task}: {network}, {numbers}; {manifest.parameters:,} parameters. {origin}"


SIMULATION = {
    "reconstruction": "simulated phase, coils, noise and undersampling",
    "super-resolution": "truncated k-space",
}

LIMITS = """Diagnosis without review by a radiologist who knows that the image is machine-made. Not a medical device; no
clinical validation was done. Trained on magnitude images with {simulation}, not on raw data, and
within these ranges only: {seen}. No knee, abdomen or breast was seen, no contrast other than those of
the data below, no pathology but multiple sclerosis and cardiac disease. Fine structure may be missing or invented."""

TRAINING = """Recipes of `training/recipes/`, each going on from the one before; one or two CPU cores shared with other
work, bfloat16; `training_log.jsonl` is the log of the runs. The score is PSNR in dB on validation examples (bright
tissue as the peak); for attention transfer the negative loss.

{stages}

Data, train split by subject:

{sources}"""


def _limits(manifest: Manifest) -> str:
    simulation = SIMULATION[manifest.task]
    return LIMITS.format(
        simulation=simulation, seen=", ".join(f"{key} {value}" for key, value in manifest.trained_on.items())
    )


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
        f"In {precision} at most {loss:.3f} dB less, over these conditions."
        for precision, loss in manifest.precision_loss.items()
    ]


AGREEMENT = """Set: as above. Means over volumes; the teacher's volume is the reference, its maximum the data range.
What a service's shadow runs should find, too: its dashboard and its alerts tell drift from the lowest of them.

{table}"""


def _agreement(manifest: Manifest) -> list[str]:
    if not manifest.agreement:
        return []
    rows = [f"| {condition} | {a['psnr']:.2f} | {a['ssim']:.4f} |" for condition, a in manifest.agreement.items()]
    table = "\n".join(["| | PSNR (dB) | SSIM |", "|---|---|---|", *rows])
    return [f"## Agreement with {manifest.distilled_from}", AGREEMENT.format(table=table)]


WARNINGS = """An answer carries `KDMRI-Warning` where its input lies more than {tolerance} octaves (factors of two)
outside a range below, where its k-space is fully sampled, or where more than {residual:.0%} of what was measured is not
in the answer (norms). Acceleration below its range is no reason; figures are relative to bright tissue.

{ranges}"""


def _warnings(manifest: Manifest) -> str:
    ranges = [f"- {name}: {low:g} to {high:g}" for name, (low, high) in quality.ranges(manifest).items()]
    residual = float(manifest.trained_on.get("residual", quality.RESIDUAL))
    return WARNINGS.format(tolerance=quality.TOLERANCE, residual=residual, ranges="\n".join(ranges))


def _parity(manifest: Manifest) -> str:
    return ", ".join(f"{shape}: {value:.1e}" for shape, value in manifest.parity.items())
