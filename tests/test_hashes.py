"""Ids in logs: the same for all who share a key, and of no use to those who do not have it."""

import io
import sys
from pathlib import Path

import pytest

from proxy.commands.hash import main
from proxy.observe.hashes import DIGITS, Hashes


def test_proxies_with_one_key_agree_and_others_do_not() -> None:
    ours, theirs = Hashes("a key"), Hashes("another key")

    assert ours.hash("jane") == Hashes("a key").hash("jane")
    assert ours.hash("jane") != ours.hash("joan")
    assert ours.hash("jane") != theirs.hash("jane")


def test_without_a_key_every_process_has_its_own() -> None:
    assert Hashes(None).hash("jane") != Hashes(None).hash("jane")
    random = Hashes(None)
    assert random.hash("jane") == random.hash("jane")


@pytest.mark.parametrize("id_", ["", "jane", "j@x.de", "žofie", "\udcff", "x" * 10_000])
def test_every_id_has_a_short_hash(id_: str) -> None:
    hashed = Hashes("k" * 200).hash(id_)

    assert len(hashed) == DIGITS
    assert set(hashed) <= set("0123456789abcdef")


def test_the_key_is_not_shown() -> None:
    assert repr(Hashes("a key")) == "<Hashes>"


# --- the command --------------------------------------------------------------------------------------------------


def test_the_command_tells_what_logs_show(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "key").write_text("shared\n")

    assert main(["j@x.de"], {"TALON_PROXY_LOG__HASH_KEY": "shared"}) == 0
    assert main(["j@x.de", "--log.hash_key_file", str(tmp_path / "key")], {}) == 0

    hashed = Hashes("shared").hash("j@x.de")
    assert capsys.readouterr() == (f"{hashed}\n{hashed}\n", "")


def test_many_ids_come_by_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("jane\njoan\n"))

    assert main(["-"], {"TALON_PROXY_LOG__HASH_KEY": "shared"}) == 0

    assert capsys.readouterr().out.split() == [Hashes("shared").hash("jane"), Hashes("shared").hash("joan")]


def test_with_a_random_key_it_says_that_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jane"], {}) == 1

    said = capsys.readouterr()
    assert said.out == ""
    assert "this cannot be told" in said.err
    assert "TALON_PROXY_LOG__HASH_KEY_FILE" in said.err


def test_wrong_settings_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jane", "--log.levle", "info"], {}) == 2

    assert "did you mean --log.level?" in capsys.readouterr().err
