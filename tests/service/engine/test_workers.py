"""Workers agree on one decision, whoever is first."""

from pathlib import Path

import pytest
from kdmri_service.engine.workers import agree
from kdmri_service.observability.multiprocess import FOLDER


def test_a_single_worker_decides_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER, raising=False)
    assert agree("name", lambda: {"a": "1"}) == {"a": "1"}
    assert agree("name", lambda: {"a": "2"}) == {"a": "2"}


def test_several_workers_keep_the_first_decision_of_each_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))

    def never() -> dict[str, str]:
        raise AssertionError("a decision that was made is not made again")

    assert agree("name", lambda: {"a": "1"}) == {"a": "1"}
    assert agree("name", never) == {"a": "1"}
    assert agree("other", lambda: {"b": "2"}) == {"b": "2"}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["name.json", "other.json"]


def test_of_two_that_decide_at_once_the_first_to_finish_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))

    def slower() -> dict[str, str]:
        assert agree("name", lambda: {"a": "faster"}) == {"a": "faster"}
        return {"a": "slower"}

    assert agree("name", slower) == {"a": "faster"}
