"""CPU time and memory of a process tree, by the operating system's accounting (Linux, /proc).

CPU time is read in nanoseconds from every thread's schedstat. Where the kernel keeps none, or a thread has
ended and took its schedstat along, the process's own total counts, which has the resolution of a clock tick
(10 ms).
"""

import os
import resource
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
NS_PER_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ProcessTime:
    """CPU time that one process has used so far, in nanoseconds."""

    total: int
    threads: dict[int, int]


Reading = dict[int, ProcessTime]


def read_cpu(pids: list[int]) -> Reading:
    """CPU time of each process; a process that has ended is left out."""
    reading: Reading = {}
    for pid in pids:
        try:
            stat = (PROC / str(pid) / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        reading[pid] = ProcessTime(total=_stat_nanoseconds(stat), threads=_thread_nanoseconds(pid))
    return reading


def cpu_seconds(before: Reading, after: Reading) -> float:
    """CPU time used between two readings; processes that only the later one knows count in full."""
    used = sum(_used(before.get(pid, ProcessTime(0, {})), now) for pid, now in after.items())
    return used / 1e9


def children_cpu_seconds() -> float:
    """CPU time of all children of this process that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def read_rss(pids: list[int]) -> int:
    """Resident memory in bytes, summed; pages that processes share count in each."""
    pages = 0
    for pid in pids:
        try:
            pages += int((PROC / str(pid) / "statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return pages * os.sysconf("SC_PAGE_SIZE")


def descendants(pid: int) -> list[int]:
    """Processes below this one, at any depth, without itself."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            parent = int(_stat_fields((entry / "stat").read_text())[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    generation = [pid]
    while generation:
        generation = [child for parent in generation for child in children.get(parent, [])]
        found += generation
    return found


def _used(was: ProcessTime, now: ProcessTime) -> int:
    if now.threads and was.threads.keys() <= now.threads.keys():
        return sum(now.threads.values()) - sum(was.threads.values())
    return now.total - was.total


def _thread_nanoseconds(pid: int) -> dict[int, int]:
    threads: dict[int, int] = {}
    try:
        for task in (PROC / str(pid) / "task").iterdir():
            threads[int(task.name)] = int((task / "schedstat").read_text().split()[0])
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return threads


def _stat_nanoseconds(stat: str) -> int:
    fields = _stat_fields(stat)
    return (int(fields[11]) + int(fields[12])) * NS_PER_TICK


def _stat_fields(stat: str) -> list[str]:
    # proc(5): the second field is the command in parentheses and may itself hold spaces and parentheses.
    return stat[stat.rindex(")") + 1 :].split()
