"""API keys open what they were made for, until they expire or are revoked, and no file gives them away."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from kdmri_service.auth.keys import KeyStore, add_key, read_keys, revoke_key
from kdmri_service.auth.principals import Principal, Scope
from typer.testing import CliRunner

from kdmri.errors import InvalidRequest

PAST = datetime.now(UTC) - timedelta(seconds=1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The path of a key file that does not exist yet."""
    return tmp_path / "keys.jsonl"


def test_a_key_is_its_principal(file: Path) -> None:
    key = add_key(file, "scanner 1", [Scope.infer])
    assert KeyStore(file).authenticate(key) == Principal("scanner 1", frozenset({Scope.infer}))


def test_the_file_holds_no_key_and_is_its_owners_alone(file: Path) -> None:
    key = add_key(file, "scanner 1", [Scope.infer])
    assert key.removeprefix("kdmri_") not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


def test_keys_differ(file: Path) -> None:
    assert len({add_key(file, "same", [Scope.infer]) for _ in range(50)}) == 50


@pytest.mark.parametrize("wrong", ["", "kdmri_", "kdmri_" + "A" * 43, "\0", "ä" * 43])
def test_unknown_keys_are_nobody(file: Path, wrong: str) -> None:
    add_key(file, "scanner 1", [Scope.infer])
    assert KeyStore(file).authenticate(wrong) is None


def test_a_key_with_one_letter_changed_is_nobody(file: Path) -> None:
    key = add_key(file, "scanner 1", [Scope.infer])
    store = KeyStore(file)
    for place in range(len(key)):
        changed = key[:place] + ("a" if key[place] != "a" else "b") + key[place + 1 :]
        assert store.authenticate(changed) is None


def test_expired_keys_are_nobody(file: Path) -> None:
    key = add_key(file, "scanner 1", [Scope.infer], expires=PAST)
    assert KeyStore(file).authenticate(key) is None


def test_keys_are_added_and_revoked_while_the_service_runs(file: Path) -> None:
    old = add_key(file, "scanner 1", [Scope.infer])
    store = KeyStore(file)
    new = add_key(file, "scanner 1", [Scope.infer])
    assert store.authenticate(old)
    assert store.authenticate(new)
    first, _ = read_keys(file)
    assert revoke_key(file, first.id) == 1
    assert store.authenticate(old) is None
    assert store.authenticate(new)
    assert revoke_key(file, "scanner 1") == 1
    assert store.authenticate(new) is None


def test_revoking_what_is_not_there_says_so(file: Path) -> None:
    add_key(file, "scanner 1", [Scope.infer])
    with pytest.raises(InvalidRequest, match="expected the name or id of a key, got 'scanner 2'"):
        revoke_key(file, "scanner 2")


def test_a_damaged_file_lets_nobody_in(file: Path) -> None:
    key = add_key(file, "scanner 1", [Scope.infer])
    store = KeyStore(file)
    file.write_text(file.read_text() + "{}\n")
    with pytest.raises(InvalidRequest, match="line 2"):
        store.authenticate(key)
    with pytest.raises(InvalidRequest, match="line 2"):
        KeyStore(file)


def test_a_removed_file_lets_nobody_in(file: Path) -> None:
    key = add_key(file, "scanner 1", [Scope.infer])
    store = KeyStore(file)
    file.unlink()
    with pytest.raises(InvalidRequest, match="FileNotFoundError"):
        store.authenticate(key)


def test_scopes_are_separate_and_admin_has_all() -> None:
    assert not Principal("a", frozenset({Scope.infer})).may(Scope.metrics)
    assert not Principal("a", frozenset({Scope.metrics})).may(Scope.infer)
    assert all(Principal("a", frozenset({Scope.admin})).may(scope) for scope in Scope)


def test_the_command_line_makes_lists_and_revokes(file: Path) -> None:
    from kdmri_service.cli import keys

    run = CliRunner().invoke
    key = run(keys, ["add", "night batch", "--file", str(file), "--scope", "infer", "--days", "30"]).stdout.strip()
    assert KeyStore(file).authenticate(key)
    listed = run(keys, ["list", "--file", str(file)]).stdout
    assert "night batch" in listed
    assert "valid until" in listed
    assert key not in listed
    assert run(keys, ["revoke", "night batch"], env={"KDMRI_KEYS": str(file)}).stdout == "1 revoked\n"
    assert KeyStore(file).authenticate(key) is None
    assert "revoked" in run(keys, ["list", "--file", str(file)]).stdout


def test_a_tokens_subject_owns_nothing_of_the_key_of_that_name() -> None:
    scopes = frozenset({Scope.infer})
    assert Principal("scanner 1", scopes).owner != Principal("scanner 1", scopes, kind="token").owner
