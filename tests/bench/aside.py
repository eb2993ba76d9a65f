"""Measurements inside the proxy's own code, in a process of their own, on the contender's core."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.bench.ourselves import COMPILED
from tests.bench.servers import ROOT, BenchError, pinned

PATIENCE = 120.0  # seconds


def measured(module: str, *arguments: str, cpu: int | None, where: Path = COMPILED) -> Any:
    """Run a module that prints JSON; `where` the proxy is, compiled or as its source."""
    command = pinned([sys.executable, "-P", "-m", module, *arguments], cpu)
    env = {**os.environ, "PYTHONPATH": f"{where}{os.pathsep}{ROOT}"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, env=env)
    except subprocess.TimeoutExpired as exc:
        raise BenchError(f"{module} did not end within {PATIENCE:.0f} s") from exc
    if done.returncode:
        raise BenchError(f"{module} failed:\n{done.stderr}")
    return json.loads(done.stdout)
