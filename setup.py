"""Map the repository's folders to the names under which a wheel installs them.

Everything else about the package stands in pyproject.toml. A wheel with top-level modules `service` and `training`
would clash with its users' own (docs/decisions/0012-import-names.md), and the models have to lie inside a package to
travel in the wheel. setuptools can rename folders only where every package is listed, which this does.
"""

from pathlib import Path

from setuptools import find_packages, setup

RENAMED = {"service": "kdmri_service", "training": "kdmri_training"}
MODELS = "kdmri.bundles.shipped"
"""Where a wheel carries models/: kdmri.bundles.location looks there before it looks in a checkout."""


def import_name(package: str) -> str:
    """Return the import name of a package found below the repository's root."""
    top, dot, rest = package.partition(".")
    return RENAMED.get(top, top) + dot + rest


packages = [import_name(name) for name in find_packages(include=["kdmri*", "service*", "training*"])]
package_dir = {name: folder for folder, name in RENAMED.items()}
# The container image is built without models/: it has them in a layer of their own, which a change of code does not
# replace.
if Path("models").is_dir():
    packages.append(MODELS)
    package_dir[MODELS] = "models"

setup(packages=packages, package_dir=package_dir)
