"""Contenders: who is measured, by name, and how each is started for the same work.

All of them listen in clear on a loopback port and on a Unix socket, keep connections to the origin, add the
Authorization header, run as one process or one thread, and log no calls unless their name says so. The way to the
origin is verified TLS 1.3 with HTTP/1.1; `-h2` and `-clear` say otherwise.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.origin import Upstream
from tests.bench.servers import ROOT, BenchError, Server, free_port, running

# What every run needs, whoever the contenders are.
PROGRAMS = ("nginx", "wrk", "h2load", "openssl", "setpriv", "taskset", "timeout")
DEBIAN_PACKAGES = {
    "nginx": "nginx-light",
    "h2load": "nghttp2-client",
    "setpriv": "util-linux",
    "taskset": "util-linux",
    "timeout": "coreutils",
    "callgrind_annotate": "valgrind",
    "callgrind_control": "valgrind",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a contender stands: the upstream it calls, where it may write, where it listens."""

    upstream: Upstream
    directory: Path
    port: int
    socket: Path

    @property
    def url(self) -> str:
        """What a caller calls."""
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class Start:
    """How to start a contender, and how to see that it may be called."""

    command: list[str]
    ready: Callable[[], bool]
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


@dataclass(frozen=True, slots=True)
class Contender:
    """A proxy to measure."""

    name: str
    title: str
    prepare: Callable[[Place], Start]
    missing: Callable[[], str] = lambda: ""
    """What is missing to run it, or nothing."""


@contextlib.contextmanager
def started(
    contender: Contender, upstream: Upstream, directory: Path, *, cpu: int | None, lifetime: float
) -> Iterator[tuple[Server, Place, Callable[[], bool]]]:
    """Start a contender; gives its server, its place, and how to see that it is ready."""
    socket = directory / f"{contender.name}.sock"
    socket.unlink(missing_ok=True)
    place = Place(upstream, directory, free_port(), socket)
    start = contender.prepare(place)
    with running(
        contender.name, start.command, cpu=cpu, directory=directory, lifetime=lifetime, env=start.env, cwd=ROOT
    ) as server:
        yield server, place, start.ready


def program(name: str) -> Callable[[], str]:
    """What is missing where a program is not installed."""
    return lambda: "" if shutil.which(name) else f"{name} is not installed"


def require_programs(programs: Iterable[str]) -> None:
    """Raise BenchError, with the command that helps, unless all are installed."""
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        packages = " ".join(dict.fromkeys(DEBIAN_PACKAGES.get(program, program) for program in missing))
        raise BenchError(
            f"{', '.join(missing)} not installed; as root: apt-get install --no-install-recommends {packages}"
        )
