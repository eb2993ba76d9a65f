"""Watching files: a change is told once, when it is over, and a Secret that Kubernetes swaps is one."""

import os
from pathlib import Path

from proxy.watching import Watch
from tests.switches import Mounted


def looks(watch: Watch, count: int = 4) -> int:
    """Look several times; gives how often a change was told."""
    return sum(watch.look() for _ in range(count))


def test_a_new_content_is_told_once(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("one")
    watch = Watch([file])
    assert looks(watch) == 0

    file.write_text("two!")
    assert looks(watch) == 1
    assert looks(watch) == 0


def test_it_is_told_when_nothing_changes_any_more(tmp_path: Path) -> None:
    """Whoever writes two files, or one in pieces, is let finish."""
    one, two = tmp_path / "one", tmp_path / "two"
    watch = Watch([one, two])

    one.write_text("a")
    assert not watch.look()
    two.write_text("b")
    assert not watch.look()
    assert watch.look()
    assert looks(watch) == 0


def test_a_secret_that_is_swapped_as_kubernetes_does_it_is_a_change(tmp_path: Path) -> None:
    secret = Mounted(tmp_path)
    secret.put("key", "next")
    watch = Watch([secret.key, secret.following])
    assert looks(watch) == 0

    secret.put("another", "next")
    assert looks(watch) == 1
    secret.put("another", "next")  # another directory, the same content
    assert looks(watch) == 0


def test_a_file_that_was_touched_or_renamed_over_with_the_same_content_is_none(tmp_path: Path) -> None:
    file, other = tmp_path / "file", tmp_path / "other"
    file.write_text("one")
    watch = Watch([file])

    os.utime(file, (1, 1))
    assert looks(watch) == 0
    other.write_text("one")
    other.replace(file)
    assert looks(watch) == 0


def test_a_file_may_go_and_come_back(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("one")
    watch = Watch([file, tmp_path / "never there"])

    file.unlink()
    assert looks(watch) == 1
    file.mkdir()
    assert looks(watch) == 0
    file.rmdir()
    file.write_text("one")
    assert looks(watch) == 1


def test_a_content_that_was_changed_back_before_the_second_look_is_none(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("one")
    watch = Watch([file])

    file.write_text("two")
    watch.look()
    file.write_text("one")
    assert looks(watch) == 0
