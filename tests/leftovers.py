"""What calls leave for the cyclic collector: which objects of the proxy only it would find, and what holds them.

    with Leftovers() as left:
        ...  # calls, whatever becomes of them
    assert not left.objects, left

Objects are found by `gc.DEBUG_SAVEALL`. A cycle is told as the way round it, each step with what leads on.
"""

import gc
import inspect
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from types import CoroutineType, FrameType, FunctionType, TracebackType
from typing import Any, Self


class Leftovers:
    """Turns the collector off, and looks at the end what it would have found."""

    def __init__(self) -> None:
        self.objects: Counter[str] = Counter()  # of the proxy, by type
        self.cycles: Counter[str] = Counter()  # those that hold them

    def __enter__(self) -> Self:
        gc.collect()
        gc.disable()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.look()
        finally:
            gc.enable()

    def look(self) -> None:
        """Find out now what is left so far."""
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            gc.collect()
            found = list(gc.garbage)
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
        ours = [one for one in found if _is_ours(one)]
        self.objects.update(_name(one) for one in ours)
        graph = _Graph(found)
        for knot in graph.knots():
            if any(_is_ours(graph.objects[number]) for number in knot) or graph.hold_ours(knot):
                self.cycles[graph.way_round(knot)] += 1
        # Only now may they go.
        found.clear()
        ours.clear()
        graph.objects.clear()
        gc.collect()

    def __str__(self) -> str:
        lines = [f"{count:6} {name}" for name, count in self.objects.most_common()]
        for way, count in self.cycles.most_common():
            lines.append(f"{count} times:\n{way}")
        return "\n".join(["left for the collector:", *lines])


class _Graph:
    """Who refers to whom, among objects that nobody else refers to."""

    def __init__(self, objects: Iterable[Any]) -> None:
        self.objects: dict[int, Any] = {id(one): one for one in objects}
        self.edges = {
            number: [id(other) for other in gc.get_referents(one) if id(other) in self.objects]
            for number, one in self.objects.items()
        }

    def knots(self) -> Iterator[set[int]]:
        """Give each set of objects that refer to each other all around (Tarjan's algorithm, without recursion)."""
        index: dict[int, int] = {}
        low: dict[int, int] = {}
        stack: list[int] = []
        on_stack: set[int] = set()
        for root in self.objects:
            if root in index:
                continue
            work = [(root, iter(self.edges[root]))]
            index[root] = low[root] = len(index)
            stack.append(root)
            on_stack.add(root)
            while work:
                number, others = work[-1]
                for other in others:
                    if other not in index:
                        index[other] = low[other] = len(index)
                        stack.append(other)
                        on_stack.add(other)
                        work.append((other, iter(self.edges[other])))
                        break
                    if other in on_stack:
                        low[number] = min(low[number], index[other])
                else:
                    work.pop()
                    if work:
                        low[work[-1][0]] = min(low[work[-1][0]], low[number])
                    if low[number] == index[number]:
                        knot = set()
                        while True:
                            member = stack.pop()
                            on_stack.discard(member)
                            knot.add(member)
                            if member == number:
                                break
                        if len(knot) > 1 or number in self.edges[number]:
                            yield knot

    def hold_ours(self, knot: set[int]) -> bool:
        """Tell whether objects of the proxy hang on them."""
        seen, ahead = set(knot), deque(knot)
        while ahead:
            number = ahead.popleft()
            if _is_ours(self.objects[number]):
                return True
            for other in self.edges[number]:
                if other not in seen:
                    seen.add(other)
                    ahead.append(other)
        return False

    def way_round(self, knot: set[int]) -> str:
        """Tell the shortest way round, from an object of the proxy if there is one."""
        ours = [number for number in knot if _is_ours(self.objects[number])]
        best: list[int] = []
        for start in sorted(ours or knot, key=lambda number: _name(self.objects[number]))[:50]:
            way = self._shortest(start, knot)
            if not best or len(way) < len(best):
                best = way
        steps = [
            f"    {_name(self.objects[number])} {_edge(self.objects[number], self.objects[following])}"
            for number, following in zip(best, [*best[1:], best[0]], strict=True)
        ]
        return "\n".join(steps)

    def _shortest(self, start: int, knot: set[int]) -> list[int]:
        came: dict[int, int] = {}
        ahead = deque([start])
        while ahead:
            number = ahead.popleft()
            for other in self.edges[number]:
                if other == start:
                    way = [number]
                    while way[-1] != start:
                        way.append(came[way[-1]])
                    return way[::-1]
                if other in knot and other not in came:
                    came[other] = number
                    ahead.append(other)
        raise AssertionError("no way round")


def _is_ours(one: Any) -> bool:
    return _module(one).startswith("proxy.")


def _module(one: Any) -> str:
    if isinstance(one, FrameType):
        return str(one.f_globals.get("__name__", ""))
    if isinstance(one, FunctionType):
        return one.__module__ or ""
    if isinstance(one, TracebackType):
        return _module(one.tb_frame)
    if isinstance(one, CoroutineType):
        return "proxy." if "/proxy/" in one.cr_code.co_filename else ""
    if inspect.ismethod(one):
        return _module(one.__self__)
    return str(type(one).__module__)


def _name(one: Any) -> str:
    if isinstance(one, FrameType):
        return f"frame of {one.f_code.co_qualname} ({one.f_globals.get('__name__')}:{one.f_lineno})"
    if isinstance(one, FunctionType | CoroutineType):
        return f"{type(one).__name__} {one.__qualname__}"
    if inspect.ismethod(one):
        return f"method {one.__func__.__qualname__}"
    return f"{type(one).__module__}.{type(one).__qualname__}"


def _edge(one: Any, other: Any) -> str:
    """Tell by what name one object refers to another, as far as can be told."""
    if isinstance(one, FrameType):
        return "-> " + "/".join(name for name, value in one.f_locals.items() if value is other)
    if isinstance(one, dict):
        return "-> " + "/".join(str(name)[:40] for name, value in one.items() if value is other)
    names = [*getattr(one, "__dict__", ())]
    for kind in type(one).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        names += [slots] if isinstance(slots, str) else slots
    names += ["__cause__", "__context__", "__traceback__", "tb_frame", "tb_next", "f_back", "__self__", "cr_frame"]
    held = [name for name in names if getattr(one, name, None) is other]
    return ".".join(["", *held[:1]]) if held else "->"
