"""Models are found by KDMRI_MODELS, then in the wheel, then in the checkout."""

from pathlib import Path

import pytest

from kdmri.bundles import location


def test_the_environment_comes_before_the_wheel_and_the_wheel_before_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged = tmp_path / "packaged"
    monkeypatch.setattr(location, "PACKAGED", packaged)
    monkeypatch.setenv("KDMRI_MODELS", str(tmp_path / "named"))
    assert location.models_folder() == tmp_path / "named"
    monkeypatch.delenv("KDMRI_MODELS")
    assert location.models_folder() == location.CHECKOUT
    packaged.mkdir()
    assert location.models_folder() == packaged
