"""The shipped models with networks that change nothing: for tests of everything around them that send many files."""

import json
import shutil
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from kdmri.bundles.manifest import CONSISTENCY, MANIFEST, cascade_file
from kdmri.bundles.store import Bundle, sha256

ANY_SHAPE = ["batch", "row", "column", "plane"]


def write(bundles: list[Bundle], folder: Path) -> Path:
    """A models folder with one cascade of the identity in each bundle."""
    for bundle in bundles:
        manifest = bundle.manifest
        target = folder / manifest.name / manifest.version
        target.mkdir(parents=True)
        onnx.save(identity(), target / cascade_file(1))
        shutil.copy(bundle.folder / CONSISTENCY, target / CONSISTENCY)
        content = manifest.model_dump() | {
            "architecture": {**manifest.architecture, "cascades": 1},
            "files": {name: sha256(target / name) for name in (cascade_file(1), CONSISTENCY)},
        }
        (target / MANIFEST).write_text(json.dumps(content))
    return folder


def identity() -> onnx.ModelProto:
    """denoised = image."""
    image, denoised = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ANY_SHAPE) for n in ("image", "denoised"))
    graph = helper.make_graph([helper.make_node("Identity", ["image"], ["denoised"])], "identity", [image], [denoised])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
