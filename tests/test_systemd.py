"""The unit for machines: systemd takes it, it may do little, and its settings are right."""

import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from proxy.settings import load
from tests.process import PATIENCE, ROOT

FILE = ROOT / "deploy" / "systemd" / "talon-proxy.service"
PROGRAM = "/opt/talon-proxy/bin/talon-proxy"
EXPOSURE = 20  # tenths of systemd's scale from 0 to 10; "OK" is below 50

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="the systemd-analyze program is not there"
)


def unit() -> dict[str, list[str]]:
    """Give the values of each name."""
    values = defaultdict(list)
    for name, value in re.findall(r"^(\w+)=(.*)$", FILE.read_text(), re.MULTILINE):
        values[name].append(value)
    return values


def analyze(*arguments: str) -> None:
    done = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    # It warns of what it does not know, and is content.
    assert FILE.name not in done.stderr, done.stderr


@needs_systemd
def test_systemd_takes_it(tmp_path: Path) -> None:
    installed = Path(sys.executable).parent / "talon-proxy"
    (tmp_path / FILE.name).write_text(FILE.read_text().replace(PROGRAM, str(installed)))

    analyze("verify", "--man=no", str(tmp_path / FILE.name))


@needs_systemd
def test_it_may_do_little() -> None:
    analyze("security", "--offline=true", f"--threshold={EXPOSURE}", str(FILE))


def test_it_starts_what_there_is() -> None:
    values = unit()

    assert values["ExecStart"] == [f"{PROGRAM} serve"]
    assert values["ExecStartPost"] == [f"{PROGRAM} ready --wait 30s"]
    # The code of settings that are wrong (proxy/cli.py).
    assert values["RestartPreventExitStatus"] == ["2"]


def test_the_settings_are_right_and_it_stops_in_time(tmp_path: Path) -> None:
    values = unit()
    (tmp_path / "api-key").write_text("a-key-of-an-application")
    (tmp_path / "api-key").chmod(0o400)
    [line] = values["Environment"]
    variables = dict(pair.split("=", 1) for pair in line.replace("%d", str(tmp_path)).split())
    # What its head says to write into the file.
    [written] = re.findall(r"echo '(\w+)=(\S+)' > (\S+)", FILE.read_text())
    variables[written[0]] = written[1]

    loaded = load([], variables)

    assert loaded.warnings == ()
    assert values["EnvironmentFile"] == [written[2]]
    assert values["LoadCredential"] == ["api-key:/etc/talon-proxy/api-key"]
    assert float(values["TimeoutStopSec"][0].removesuffix("s")) > loaded.settings.shutdown.timeout
