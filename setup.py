"""Map the folders service/ and training/ to the import names kdmri_service and kdmri_training.

Everything else about the package stands in pyproject.toml. A wheel with top-level modules `service` and `training`
would clash with its users' own; setuptools can rename folders only where every package is listed, which this does.
"""

from setuptools import find_packages, setup

RENAMED = {"service": "kdmri_service", "training": "kdmri_training"}


def import_name(package: str) -> str:
    """Return the import name of a package found below the repository's root."""
    top, dot, rest = package.partition(".")
    return RENAMED.get(top, top) + dot + rest


setup(
    packages=[import_name(name) for name in find_packages(include=["kdmri*", "service*", "training*"])],
    package_dir={name: folder for folder, name in RENAMED.items()},
)
