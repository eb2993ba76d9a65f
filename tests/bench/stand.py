"""The stand on which parts measure: cores, origin, contenders, and how much of everything was asked for."""

import contextlib
import http.client
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.contenders import Contender, Place, started
from tests.bench.machine import Cores
from tests.bench.origin import Origin
from tests.bench.samples import Sample
from tests.bench.servers import BenchError, Server
from tests.bench.workload import ID_MARK, UPDATE, answer

# Seconds that a turn may take beyond what it measures before its servers are ended.
MARGIN = 120


@dataclass(frozen=True, slots=True)
class Running:
    """A contender that has answered a call rightly."""

    contender: Contender
    server: Server
    place: Place


@dataclass(frozen=True, slots=True)
class Stand:
    """Handed to every part."""

    directory: Path
    cores: Cores
    origin: Origin
    contenders: Mapping[str, Contender]
    rounds: int | None = None
    """Instead of a part's own number."""
    seconds: float | None = None
    """Instead of a part's own length of a turn."""
    short: bool = False
    """Only look whether everything works."""

    def rounds_of(self, usual: int) -> int:
        """How many rounds to measure."""
        return 1 if self.short else self.rounds or usual

    def seconds_of(self, usual: float) -> float:
        """How long to measure."""
        return 0.7 if self.short else self.seconds or usual

    def turns(self, names: Sequence[str], rounds: int) -> Iterator[tuple[int, Contender]]:
        """Every round of those who are there; another one is the first in each, so that no place is an advantage."""
        chosen = [self.contenders[name] for name in names if name in self.contenders]
        for number in range(1, self.rounds_of(rounds) + 1):
            first = (number - 1) % max(len(chosen), 1)
            for contender in [*chosen[first:], *chosen[:first]]:
                yield number, contender

    @contextlib.contextmanager
    def running(self, contender: Contender, *, slow: bool = False, seconds: float = 0) -> Iterator[Running]:
        """Run a contender for a turn. `slow`: its upstream takes 25 ms."""
        upstream = self.origin.slow if slow else self.origin.fast
        lifetime = seconds + MARGIN
        with started(contender, upstream, self.directory, cpu=self.cores.contender, lifetime=lifetime) as (
            server,
            place,
            ready,
        ):
            server.wait_until(ready)
            check_call(server, place.port)
            yield Running(contender, server, place)


def check_call(server: Server, port: int) -> None:
    """Raise BenchError unless one call brings back the origin's answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        path, body = (text.replace(ID_MARK, "0000") for text in (UPDATE.path, UPDATE.body))
        connection.request(UPDATE.method, path, body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        content = reply.read().decode()
    except (OSError, http.client.HTTPException) as exc:
        raise BenchError(f"{server.name} did not answer a call: {exc!r}\n{server.tail()}") from exc
    finally:
        connection.close()
    if reply.status != 200 or content != answer(UPDATE.answered):
        raise BenchError(f"{server.name} answered {reply.status}: {content[:200]}\n{server.tail()}")


def told(sample: Sample, figure: str) -> Sample:
    """Print a line about a sample, and give it back."""
    what = sample.problem or f"{sample.figures[figure]:,.2f} {figure.rpartition('_')[2]}"
    print(f"{sample.part:<8} {sample.case:<18} round {sample.round}  {sample.contender:<17} {what}", flush=True)
    return sample


@contextlib.contextmanager
def only_on(cpu: int | None) -> Iterator[None]:
    """Keep this process on one core."""
    before = os.sched_getaffinity(0)
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
