"""A module of data consistency is loaded without a trace in the importer's process."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from kdmri.bundles.manifest import CONSISTENCY
from kdmri.bundles.store import Bundle
from kdmri.runtime.backends.torchscript import load_module

CPU = torch.device("cpu")


def test_loading_warns_of_nothing_that_the_importer_could_change(bundles: list[Bundle]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not load_module(bundles[0].folder / CONSISTENCY, CPU).training


def test_loads_in_several_threads_leave_the_importers_filters_as_they_were(bundles: list[Bundle]) -> None:
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: load_module(bundles[0].folder / CONSISTENCY, CPU), range(16)))
    assert list(warnings.filters) == before


def test_other_warnings_still_reach_the_importer(bundles: list[Bundle]) -> None:
    load_module(bundles[0].folder / CONSISTENCY, CPU)
    with pytest.warns(DeprecationWarning, match="another"):
        warnings.warn("another", DeprecationWarning, stacklevel=1)
