"""Choose the package index from which pip takes torch: `python tools/torch_index.py [INDEX]`, run by the Makefile.

PyPI's torch for Linux contains CUDA, about 3 GB with what it requires; PyTorch's own index has builds of about 200 MB
for processors. Prints pip's option for the latter where the machine has no NVIDIA driver and the index can be reached,
and nothing otherwise. Uses the standard library alone: it runs before anything is installed.
"""

import sys
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
DRIVER = Path("/proc/driver/nvidia")
"""Exists where NVIDIA's kernel module is loaded, in containers that were given a card, too."""
SECONDS = 5
"""Longest wait for the index. Networks that reach PyPI alone often drop packets rather than refuse the connection."""


def chosen_index(index: str = CPU_INDEX, driver: Path = DRIVER) -> str:
    """Return an index of CPU builds if torch should come from it, or "" for pip's configured indexes.

    Args:
        index: URL of the index.
        driver: path that exists where there is an NVIDIA driver.
    """
    if driver.exists():
        sys.stderr.write("NVIDIA driver found: torch with CUDA, about 3 GB\n")
        return ""
    if not can_reach(f"{index}/torch/"):
        sys.stderr.write(
            "PyTorch's index of CPU builds cannot be reached: pip takes torch from its configured indexes. "
            "From PyPI this includes CUDA, about 3 GB\n"
        )
        return ""
    return index


def can_reach(url: str) -> bool:
    """Return whether a URL answers within the time limit."""
    try:
        with urlopen(Request(url, method="HEAD"), timeout=SECONDS):
            return True
    except (URLError, TimeoutError, OSError):
        return False


def main(*arguments: str) -> None:
    """Print pip's option for the index that is given: a URL, "" for none, or "auto" or nothing to choose one.

    pip adds this index to those of the user's configuration, so that a mirror named there still applies.
    """
    index = arguments[0] if arguments else "auto"
    if index == "auto":
        index = chosen_index()
    sys.stdout.write(f"--extra-index-url {index}\n" if index else "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
