"""Everything that docs/reports/performance.md shows, in one run: `make bench`. It wants the machine for itself.

    python -m benchmarks [--quick] [--threads N] [--output FOLDER]

Within a case, whatever is compared takes turns. `--quick` is the same code on tiny inputs: to try it, not for figures.
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from shutil import which
from statistics import median
from typing import Any

import torch
from kdmri_service.observability.observation import Observation
from kdmri_service.settings import CORES, GPU_BATCH
from kdmri_training.evaluation import raw

from kdmri.benchmark import CPU, Spread, in_turns, ratios
from kdmri.bundles.location import models_folder
from kdmri.bundles.manifest import ROLES, Role
from kdmri.bundles.store import Bundle, choose, load_all
from kdmri.data.kspace import KSpace
from kdmri.phantoms import benchmark_scan
from kdmri.runtime import Reconstructor
from kdmri.runtime.backends.selection import available_backends, choose_fastest
from kdmri.runtime.model import Model, load_model
from tests.e2e.serving import serving
from tools.benchmarks import eager, machine, page, served

PYTORCH = "PyTorch"
REGULARISATION = 0.01
"""Of BART's wavelets."""


@dataclass(frozen=True)
class Size:
    """An input, and how often each engine gets it."""

    coils: int
    rows: int
    columns: int
    repeats: int
    bart_repeats: int
    slices: int = 1

    @property
    def label(self) -> str:
        """Name of the input in tables."""
        stack = f"{self.slices} slices, " if self.slices > 1 else ""
        return f"{stack}{self.coils} coil{'s' if self.coils > 1 else ''}, {self.rows} x {self.columns}"

    def scan(self) -> KSpace:
        """The Shepp-Logan head with one k-space line in four."""
        one = benchmark_scan(self.coils, self.rows, self.columns)
        return KSpace(one.samples.repeat(self.slices, axis=0), one.mask, one.image_shape)


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    sizes: tuple[Size, ...]
    shown: str
    """The size that the targets are about."""
    coils: str
    """And the one with coils."""
    matrices: tuple[int, ...]
    seconds: float
    """Of a turn of many clients."""
    rounds: int
    starts: int
    stack: tuple[tuple[int, int], tuple[int, int, int]]
    """Numbers of slices whose memory is compared; coils, rows and columns of each."""
    earlier: bool


FULL = Plan(
    sizes=(
        Size(1, 128, 128, repeats=15, bart_repeats=9),
        Size(1, 256, 256, repeats=21, bart_repeats=9),
        Size(1, 320, 320, repeats=15, bart_repeats=5),
        Size(1, 256, 256, repeats=4, bart_repeats=0, slices=8),
        Size(15, 640, 368, repeats=3, bart_repeats=2),
    ),
    shown="1 coil, 256 x 256",
    coils="15 coils, 640 x 368",
    matrices=machine.SIZES,
    seconds=1.5,
    rounds=4,
    starts=3,
    stack=((8, 64), (16, 320, 320)),
    earlier=True,
)
QUICK = Plan(
    sizes=(Size(1, 64, 64, repeats=2, bart_repeats=2), Size(3, 48, 64, repeats=2, bart_repeats=0)),
    shown="1 coil, 64 x 64",
    coils="3 coils, 48 x 64",
    matrices=(128,),
    seconds=0.1,
    rounds=2,
    starts=2,
    stack=((1, 3), (2, 64, 64)),
    earlier=False,
)


def main(plan: Plan, threads: int, output: Path) -> None:
    """Run all measurements and write performance.json, the page and its plot.

    Args:
        plan: How much to measure.
        threads: Threads of every engine.
        output: Folder for the page and its files.
    """
    started = time.monotonic()
    torch.set_num_threads(threads)
    described = machine.description(threads)
    bundles = {role: choose(load_all(models_folder()), "reconstruction", role=role) for role in ROLES}
    chosen = choose_fastest([bundles["student"], bundles["teacher"]], device=CPU, threads=threads)
    found: dict[str, Any] = {
        "machine": described,
        "models": {role: bundle.manifest.reference for role, bundle in bundles.items()},
        "backend": asdict(chosen),
        "peaks": machine.peaks(repeats=3, sizes=plan.matrices),
        "shown": plan.shown,
        "coils": plan.coils,
        "cases": {size.label: _compare_engines(size, bundles, threads) for size in plan.sizes},
    }
    with tempfile.TemporaryDirectory() as folder:
        found |= _measure_http(plan, bundles["student"], chosen.backend, threads, Path(folder))
    found["seconds"] = time.monotonic() - started
    (output / "performance").mkdir(parents=True, exist_ok=True)
    (output / "performance" / "performance.json").write_text(json.dumps(found, indent=2, default=asdict) + "\n")
    page.write(output, json.loads((output / "performance" / "performance.json").read_text()))


def _compare_engines(size: Size, bundles: Mapping[Role, Bundle], threads: int) -> dict[str, Any]:
    """Time one input on every engine, in turns.

    Args:
        size: The input.
        bundles: The student's and the teacher's bundle.
        threads: Threads of every engine.

    Returns:
        Times, the student's ratio to each other engine, and the operations and time of the denoisers.
    """
    kspace = size.scan()
    names = available_backends([bundle.manifest for bundle in bundles.values()], CPU)
    runs: dict[tuple[str, str], Callable[[], object]] = {}
    observed: dict[str, list[dict[str, float]]] = defaultdict(list)
    for name in (PYTORCH, *names):
        for role, bundle in bundles.items():
            model = _load(bundle, name, threads)
            runs[name, role] = partial(_record_stages, kspace, model, observed[f"{name} {role}"])
    times = in_turns(runs, size.repeats)
    if size.bart_repeats and which("bart"):
        # Turns of its own, each with the student's that it is compared to: it takes as long as all others together.
        few = {name: runs[name, "student"] for name in names}
        paired = in_turns({**few, "BART": partial(raw.bart, kspace, REGULARISATION)}, size.bart_repeats)
    else:
        paired = {}
    students = {name: times[name, "student"] for name in names}
    return {
        "milliseconds": {f"{engine} {role}": Spread.of(values) for (engine, role), values in times.items()}
        | ({"BART": Spread.of(paired["BART"])} if paired else {}),
        "student times faster": {
            name: {
                "teacher": Spread.of(ratios(times[name, "teacher"], values)),
                "PyTorch teacher": Spread.of(ratios(times[PYTORCH, "teacher"], values)),
                **({"BART": Spread.of(ratios(paired["BART"], paired[name]))} if paired else {}),
            }
            for name, values in students.items()
        },
        "operations": {
            role: size.slices * eager.operations(eager.network(bundle), size.rows, size.columns)
            for role, bundle in bundles.items()
        },
        "stages": {
            engine: {stage: 1000 * median(run[stage] for run in seen[1:]) for stage in seen[0]}
            for engine, seen in observed.items()
        },
    }


def _load(bundle: Bundle, engine: str, threads: int) -> Model:
    return eager.model(bundle, threads) if engine == PYTORCH else load_model(bundle, threads=threads, backend=engine)


def _record_stages(kspace: KSpace, model: Model, seen: list[dict[str, float]]) -> None:
    observation = Observation()
    Reconstructor(model).reconstruct(kspace, stage=observation)
    seen.append({str(stage): seconds for stage, seconds in observation.seconds.items()})


def _measure_http(plan: Plan, bundle: Bundle, backend: str, threads: int, folder: Path) -> dict[str, Any]:
    """Measure HTTP requests and bare model calls on one back end.

    Args:
        plan: How much to measure.
        bundle: The model that answers.
        backend: Its back end.
        threads: Threads of an inference.
        folder: Folder for uploads and logs.
    """
    (one,) = [size for size in plan.sizes if size.label == plan.shown]
    (coils,) = [size for size in plan.sizes if size.label == plan.coils]
    bare = Reconstructor(load_model(bundle, threads=threads, backend=backend)).reconstruct
    chosen = served.settings(threads, backend=backend)
    found: dict[str, Any] = {"http": {}, "throughput": {}}
    with serving(folder, **chosen) as service:
        for size in (one, coils):
            scanned = size.scan()
            found["http"][size.label] = served.latency(service, scanned, partial(bare, scanned), size.repeats)
        scanned = one.scan()
        for clients in served.CLIENTS:
            found["throughput"][str(clients)] = served.throughput(
                service, scanned, partial(bare, scanned), clients=clients, rounds=plan.rounds, seconds=plan.seconds
            )
    others = {
        # The other way to use the cores: one inference each, and one to spare while others are read and written.
        f"{CORES + 1} inferences at a time": served.settings(1, backend=backend, inferences=CORES + 1),
        f"batches of {GPU_BATCH}": served.settings(threads, backend=backend, batch=GPU_BATCH),
    }
    for name, other in others.items():
        with serving(folder, **other) as service:
            found["throughput"][f"{served.CLIENTS[-1]}, {name}"] = served.throughput(
                service,
                scanned,
                partial(bare, scanned),
                clients=served.CLIENTS[-1],
                rounds=plan.rounds,
                seconds=plan.seconds,
            )
    found["start"] = served.starts(folder, plan.starts, **served.settings(threads))
    counts, shape = plan.stack
    peaks, stages = zip(*served.stacks(folder, threads, counts, shape), strict=True)
    found["memory"] = {f"{n} slices": megabytes for n, megabytes in zip(counts, peaks, strict=True)}
    found["stack_stages"] = stages[-1]
    found["stack"] = f"{shape[0]} coils, {shape[1]} x {shape[2]}"
    if plan.earlier:
        found["earlier"] = _against_earlier(coils, chosen, folder)
    return found


def _against_earlier(size: Size, chosen: dict[str, str], folder: Path) -> dict[str, Spread] | None:
    """Time whole requests to this code and to the code of commit BEFORE, in turns.

    Args:
        size: The input.
        chosen: The back end of both.
        folder: Folder for checkouts, uploads and logs.
    """
    body = served.upload(size.scan())
    with served.earlier(folder) as environment:
        if environment is None:
            return None
        with (
            serving(folder, **chosen) as now,
            tempfile.TemporaryDirectory() as log,
            serving(Path(log), **chosen, **environment) as before,
            closing(served.Client(now)) as new,
            closing(served.Client(before)) as old,
        ):
            times = in_turns({"now": partial(new.send, body), "before": partial(old.send, body)}, size.repeats)
    spreads = {name: Spread.of(values) for name, values in times.items()}
    return {**spreads, "ratio": Spread.of(ratios(times["before"], times["now"]))}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=CORES)
    parser.add_argument("--output", type=Path, default=served.ROOT / "docs" / "reports")
    arguments = parser.parse_args()
    main(QUICK if arguments.quick else FULL, arguments.threads, arguments.output)
