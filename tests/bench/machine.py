"""The machine and the versions that a figure belongs to, and how its cores are shared out."""

import importlib.metadata
import os
import platform
import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import proxy


@dataclass(frozen=True, slots=True)
class Cores:
    """Who runs where; None is anywhere."""

    contender: int | None
    origin: int | None
    load: int | None

    @classmethod
    def shared_out(cls, available: list[int]) -> "Cores":
        """The contender alone on one core, wrk and the origin on one or two others."""
        match available:
            case [first, second, third, *_]:
                return cls(first, second, third)
            case [first, second]:
                return cls(first, second, second)
            case _:
                return cls(None, None, None)

    def __str__(self) -> str:
        if self.contender is None:
            return "one core for all: the figures are of little worth"
        return f"contender on core {self.contender}, origin on {self.origin}, wrk on {self.load}"


def machine() -> dict[str, str]:
    """What a reader of the figures has to know."""
    load = " ".join(f"{average:.2f}" for average in os.getloadavg())
    return {
        "cpu": f"{_cpu_model()}, {os.cpu_count()} cores",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load average": load,
    }


def versions() -> dict[str, str]:
    """Versions of all that takes part; '-' for what is not there."""
    return {
        "nginx": _program_version(["nginx", "-v"], "nginx/"),
        "haproxy": _program_version(["haproxy", "-v"], "version "),
        "caddy": _program_version(["caddy", "version"], ""),
        "wrk": _program_version(["wrk", "-v"], "wrk "),
        "h2load": _program_version(["h2load", "--version"], "nghttp2/"),
        "aiohttp": _package_version("aiohttp"),
        "proxy": proxy.__version__,
        "python": platform.python_version(),
        "uvloop": _package_version("uvloop"),
        "python's TLS": ssl.OPENSSL_VERSION,
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _program_version(command: list[str], before: str) -> str:
    if not shutil.which(command[0]):
        return "-"
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    output = done.stdout + done.stderr
    words = (output.partition(before)[2] if before else output).split()
    return words[0] if words else "?"


def _package_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "-"
