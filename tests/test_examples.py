"""The examples of proxy/simulator/README.md are run, each in a world of its own of one simulator.

`make examples` installs what they need; anywhere else each is left out where its programs are missing.
"""

import asyncio
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.process import ROOT, Ended, run, simulating

EXAMPLES = ROOT / "tests" / "examples"
JEST = ROOT / ".venv" / "examples" / "jest"  # where `make examples` installs it
JARS = Path(os.environ.get("JUNIT_JARS", "/usr/share/java"))  # where Debian's junit5 lies
JUNIT = (
    *("junit-jupiter-api", "junit-jupiter-engine", "junit-platform-commons", "junit-platform-console"),
    *("junit-platform-engine", "junit-platform-launcher", "junit-platform-reporting", "opentest4j", "apiguardian-api"),
    *("opentest4j-reporting-events", "opentest4j-reporting-schema", "picocli", "univocity-parsers"),
)


class Example(NamedTuple):
    """How an example is run: commands in a folder, one after the other."""

    name: str
    commands: Callable[[Path], Sequence[Sequence[str]]]
    needs: Callable[[], bool]
    says: str  # what it writes when its four tests have passed


def _jest(folder: Path) -> Sequence[Sequence[str]]:
    config = EXAMPLES / "jest" / "package.json"
    return [("node", str(_jest_program()), f"--config={config}", f"--cacheDirectory={folder}", "--no-colors")]


def _jest_program() -> Path:
    return JEST / "node_modules" / "jest" / "bin" / "jest.js"


def _junit(folder: Path) -> Sequence[Sequence[str]]:
    path = ":".join(str(JARS / f"{name}.jar") for name in JUNIT)
    sources = sorted(map(str, (EXAMPLES / "junit").glob("*.java")))
    launcher = ("org.junit.platform.console.ConsoleLauncher", "--scan-classpath", str(folder), "--disable-banner")
    return [
        ("javac", "-d", str(folder), "-cp", path, *sources),
        ("java", "-XX:TieredStopAtLevel=1", "-cp", f"{folder}:{path}", *launcher, "--disable-ansi-colors"),
    ]


def _phpunit(folder: Path) -> Sequence[Sequence[str]]:
    return [("phpunit", "--do-not-cache-result", str(EXAMPLES / "phpunit" / "CheckoutTest.php"))]


KNOWN = [
    Example("jest", _jest, lambda: bool(shutil.which("node")) and _jest_program().exists(), "4 passed, 4 total"),
    Example(
        "junit",
        _junit,
        lambda: bool(shutil.which("javac")) and (JARS / "junit-platform-console.jar").exists(),
        "4 tests successful",
    ),
    Example("phpunit", _phpunit, lambda: bool(shutil.which("phpunit")), "OK (4 tests"),
]


def there(example: Example) -> bool:
    """Whether an example can run here."""
    if example.needs():
        return True
    if os.environ.get("EXAMPLES"):
        pytest.fail(f"{example.name} cannot run here; `make examples` installs what it needs")
    return False


async def test_the_examples_pass_side_by_side_against_one_simulator(tmp_path: Path) -> None:
    examples = [example for example in KNOWN if there(example)]
    if not examples:
        pytest.skip("none of the examples can run here; `make examples` installs what they need")

    async def passes(example: Example, url: str) -> None:
        folder = tmp_path / example.name
        folder.mkdir()
        ended = Ended(0, "", "")
        for command in example.commands(folder):
            env = {"SIMULATOR_URL": url, "SIMULATOR_KEY": f"simulator-{example.name}"}
            ended = await run(*command, env=env)
            assert ended.code == 0, f"{example.name}: {ended.out}{ended.err}"
        assert example.says in ended.out + ended.err

    async with simulating() as url, asyncio.TaskGroup() as group:
        for example in examples:
            group.create_task(passes(example, url))
