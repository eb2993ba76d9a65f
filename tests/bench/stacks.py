"""Stacks as py-spy samples them, and what they add up to. Pure functions."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stack:
    """One stack, outermost frame first, and how often it was seen on the CPU."""

    frames: tuple[str, ...]
    samples: int


def parse_stacks(raw: str) -> list[Stack]:
    """Read py-spy's raw format: `frame;frame;frame count`, a frame being `function (file:line)`."""
    stacks = []
    for line in raw.splitlines():
        frames, _, samples = line.rpartition(" ")
        if frames and samples.isdecimal():
            stacks.append(Stack(tuple(frames.split(";")), int(samples)))
    return stacks


def shares(stacks: Sequence[Stack], *, by: Callable[[Stack], set[str]]) -> list[tuple[str, float]]:
    """The share of samples of each name that `by` finds in a stack, largest first."""
    total = sum(stack.samples for stack in stacks)
    counts: Counter[str] = Counter()
    for stack in stacks:
        for name in by(stack):
            counts[name] += stack.samples
    return [(name, count / total) for name, count in counts.most_common()]


def innermost_line(stack: Stack) -> set[str]:
    """Where the time was spent itself, to the line."""
    return {stack.frames[-1]}


def innermost_file(stack: Stack) -> set[str]:
    """The file, or with native frames the library, where the time was spent itself."""
    place = stack.frames[-1].rpartition(" (")[2]
    return {place.rpartition(":")[0] or place.rstrip(")")}


def innermost_function(stack: Stack) -> set[str]:
    """Where the time was spent itself; C functions called from Python count for their caller."""
    return {_function(stack.frames[-1])}


def functions(stack: Stack) -> set[str]:
    """Every function on the stack: time spent in it and below."""
    return {_function(frame) for frame in stack.frames}


def share_table(title: str, found: Sequence[tuple[str, float]], *, per_call: float, limit: int) -> str:
    """The largest shares as text, with their microseconds of one call."""
    lines = [f"{share:6.1%} {share * per_call:6.2f} µs  {name}" for name, share in found[:limit]]
    return "\n".join([title, *lines])


def _function(frame: str) -> str:
    # `handle (proxy/pipeline.py:12)`: a native frame may lack the place or its line.
    name, bracket, place = frame.rpartition(" (")
    return f"{name} ({place.rpartition(':')[0] or place.rstrip(')')})" if bracket else frame
