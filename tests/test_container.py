"""The image, as far as it can be known without building it: `make image` does its steps, CI builds it."""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.dockerfile import Instruction, parse, stages
from tests.image import FILE
from tests.process import PROXY, ROOT

INSTRUCTIONS = parse(FILE.read_text())
BUILD, FINAL = stages(INSTRUCTIONS)
INSTALL = re.compile(r"python -m pip install ([^&]*)")


def only(keyword: str) -> Instruction:
    [found] = (instruction for instruction in FINAL if instruction.keyword == keyword)
    return found


def pairs(keyword: str) -> Mapping[str, str]:
    return only(keyword).pairs


# --- the parser -----------------------------------------------------------------------------------------------


def test_instructions_go_over_lines_and_comments() -> None:
    found = parse("# a comment\nFROM a AS b\nRUN x \\\n# in between\n  && y\n\nCOPY --from=b /c /d\n")

    assert found == [
        Instruction("FROM", {}, "a AS b"),
        Instruction("RUN", {}, "x    && y"),
        Instruction("COPY", {"from": "b"}, "/c /d"),
    ]


@pytest.mark.parametrize("text", ["ONBUILD RUN x", "RUN <<EOF\nx\nEOF", "run x"])
def test_what_is_not_understood_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


# --- the file -------------------------------------------------------------------------------------------------


def test_a_linter_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint is not None

    done = subprocess.run([hadolint, str(FILE)], capture_output=True, text=True)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_begins_with_a_slim_python_of_one_version() -> None:
    images = [stage[0].words[0] for stage in (BUILD, FINAL)]

    python, system = re.fullmatch(r"python:(3\.\d+)-(\w+)", images[0]).groups()  # type: ignore[union-attr]
    assert images == [f"python:{python}-{system}", f"python:{python}-slim-{system}"]


def test_the_final_stage_only_takes_what_was_built() -> None:
    assert {instruction.keyword for instruction in FINAL} == {
        "FROM", "COPY", "ENV", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD", "ARG", "LABEL"
    }  # fmt: skip
    assert only("COPY").flags == {"from": "build"}


def test_everything_that_is_installed_was_locked_by_its_hash() -> None:
    installs = [words for one in BUILD if one.keyword == "RUN" for words in INSTALL.findall(one.value)]

    assert len(installs) == 3
    *locked, ours = installs
    for words in locked:
        assert "--require-hashes --only-binary :all:" in words
        for lock in re.findall(r"-r (\S+)", words):
            assert lock in ("requirements.lock", "compile.lock")
    # The wheel that was just built.
    assert "--no-deps" in ours
    assert ours.strip().endswith("/build/dist/*.whl")


def test_it_is_nobody_who_owns_nothing() -> None:
    user, _, group = only("USER").value.partition(":")

    assert int(user) > 1000
    assert int(group) > 1000
    assert "chown" not in only("COPY").flags


def test_it_writes_nothing_and_imports_only_itself() -> None:
    assert pairs("ENV") == {
        "PYTHONPATH": "/opt/talon-proxy",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }


def test_it_is_pid_1_itself_and_gets_signals() -> None:
    # No shell is between.
    assert list(only("ENTRYPOINT").command) == ["python", *PROXY[1:]]
    assert list(only("CMD").command) == ["serve"]


def test_it_is_asked_for_its_health_by_itself() -> None:
    health = only("HEALTHCHECK")

    command = Instruction("CMD", {}, health.value.removeprefix("CMD ")).command
    assert list(command) == ["python", *PROXY[1:], "health"]
    assert set(health.flags) == {"interval", "timeout", "start-period"}


def test_it_says_what_it_is() -> None:
    labels = pairs("LABEL")

    for name in ("title", "description", "licenses", "version", "revision", "source"):
        assert labels[f"org.opencontainers.image.{name}"]
    assert 'license = "MIT"' in (ROOT / "pyproject.toml").read_text()
    # One each: not every engine takes several in a line.
    arguments = [name for instruction in FINAL if instruction.keyword == "ARG" for name in instruction.pairs]
    assert len(arguments) == sum(instruction.keyword == "ARG" for instruction in FINAL)
    assert set(re.findall(r"\$\{(\w+)\}", only("LABEL").value)) == set(arguments)


def test_what_is_copied_is_there_and_not_ignored() -> None:
    """`.dockerignore` keeps everything out but what it names."""
    first, *lines = (ROOT / ".dockerignore").read_text().split()
    assert first == "*"
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = {source for one in BUILD if one.keyword == "COPY" for source in one.words[:-1]}

    assert copied == let_in
    assert all((ROOT / source).exists() for source in copied)
