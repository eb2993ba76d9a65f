"""The access log: which calls get a line, and what it says of them. No target, no ids, no bodies, no keys.

A line of a slow call also says where its time went.
"""

import random
import time
from collections.abc import Callable, Mapping

from proxy.errors import ProxyError
from proxy.messages import Call, Reply, Sent
from proxy.observe import breakdown
from proxy.observe.logs import Logs

SLOW = 1.0  # seconds from which a call counts as slow
CLIENT_GONE = 499  # nobody was there to read another status (as nginx has it)

# What a line may say, and what that means; deploy/LOGS.md is made of it.
FIELDS: Mapping[str, str] = {
    "request_id": "The call's id: `X-Request-Id` as its caller sent it, or one of ours; answers carry it",
    "trace_id": "The trace it belongs to, if its caller sent a `traceparent` or it is traced here",
    "method": "Its HTTP method",
    "operation": "Talon.One's operationId; `other` for what is no operation of its Integration API",
    "status": "Status of the answer; 499 where the caller had left",
    "duration_ms": "From the first byte of the call to the last byte of its answer",
    "upstream_ms": "Of that with Talon.One, all attempts together; of a coalesced call, the wait for its answer",
    "lane_ms": "Of that waiting for earlier calls of the same session or profile, or for the next attempt",
    "overhead_ms": "Of that the proxy's own part, until the answer was ready",
    "admission": "Its number in the order in which calls were taken",
    "coalesced": "Whether it shared the answer of an identical call",
    "leader": "Of a coalesced call: the `request_id` of the call that was made for it",
    "retries": "Attempts after the first",
    "conflict": "Attempts that Talon.One refused with 409 because of other updates",
    "reused": "Whether the connection to Talon.One had served before",
    "protocol": "What was spoken on it: `http/1.1` or `h2`",
    "bytes_in": "Size of the call's body",
    "bytes_out": "Size of the answer's body, where it was sent whole",
    "application": "The Application, as the settings name it",
    "error": "Why the proxy answered by itself",
    "left_out": "Lines like this one that were not written since the last one, because there were too many",
    "why": "Of a slow call: where its time went, in words",
    "dominated": "Of a slow call: its longest part, by the name it has below",
    **{f"spent_{name}_ms": f"Of a slow call: {words}" for name, words in breakdown.WORDS.items()},
}

_CALL = "call"
_SLOW = "slow call"
_REJECTED = "message rejected"


class AccessLog:
    """Writes a line for the calls that `log.access` selects: `all`, `errors`, `slow`, `off` or `sample`."""

    def __init__(
        self,
        logs: Logs,
        mode: str,
        rate: float = 1.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`clock` is the one that timelines are stamped by; `draw` gives a random share for `sample`."""
        self._logs = logs
        self._mode = mode
        self._rate = rate
        self._clock = clock
        self._draw = draw
        self.only_failed = mode in ("errors", "off")
        # All of them were asked for; of errors and slow calls, which come in crowds, some tell enough.
        self._every = mode in ("all", "sample")

    def finished(self, call: Call, reply: Reply, *, whole: bool) -> None:
        """An answer was written, or found its caller gone."""
        failed = reply.status >= 400 or call.error is not None or not whole
        timeline = call.timeline
        end = timeline.written or timeline.ready
        if self._wants(failed, end - timeline.arrived):
            # Written by nobody: the caller had left. Broken off while it was written: the status had been told.
            status = reply.status if timeline.written else CLIENT_GONE
            self._write(call, status, end, _sent_bytes(reply) if whole else None)

    def rejected(self, reply: Reply, error: ProxyError) -> None:
        """A message that never became a call was answered."""
        if self._wants(True, 0.0):
            fields = {"operation": "other", "status": reply.status, "error": error.category.value}
            self._logs.write("info", _REJECTED, {**fields, "bytes_out": len(reply.body)}, every=self._every)

    def abandoned(self, call: Call, sent: Sent) -> None:
        """A caller left before its answer; a call that had been sent is `finished` when it lands."""
        end = self._clock()
        if sent is Sent.NO and self._wants(True, end - call.timeline.arrived):
            self._write(call, CLIENT_GONE, end, None)

    def _wants(self, failed: bool, duration: float) -> bool:
        match self._mode:
            case "all":
                return True
            case "errors":
                return failed
            case "slow":
                return duration >= SLOW
            case "sample":
                return self._draw() < self._rate
        return False

    def _write(self, call: Call, status: int, end: float, bytes_out: int | None) -> None:
        fields = _fields(call, status, end, bytes_out)
        slow = end - call.timeline.arrived >= SLOW
        self._logs.write(
            "info",
            _SLOW if slow else _CALL,
            {**fields, **_explained(call, end)} if slow else fields,
            every=self._every,
        )


def _fields(call: Call, status: int, end: float, bytes_out: int | None) -> dict[str, object]:
    """Give what a line says of a call. No target, no ids, no bodies: keys and customers stay out of logs."""
    timeline = call.timeline
    fields: dict[str, object] = {"request_id": call.request_id}
    if call.trace is not None:
        fields["trace_id"] = call.trace.id
    fields |= {
        "method": call.method,
        "operation": call.operation,
        "status": status,
        "duration_ms": _milliseconds(end - timeline.arrived),
    }
    if timeline.upstream and timeline.ready:
        fields["upstream_ms"] = _milliseconds(timeline.upstream)
        fields["overhead_ms"] = _milliseconds(timeline.ready - timeline.complete - timeline.upstream - timeline.waited)
    if timeline.waited:
        fields["lane_ms"] = _milliseconds(timeline.waited)
    if call.admission:
        fields["admission"] = call.admission
        fields["coalesced"] = timeline.joined
    if timeline.joined:
        fields["leader"] = timeline.leader
    if timeline.tries:
        fields["retries"] = timeline.tries - 1
        fields["reused"] = timeline.reused
    if timeline.protocol:
        fields["protocol"] = timeline.protocol
    if timeline.conflicts:
        fields["conflict"] = timeline.conflicts
    fields["bytes_in"] = len(call.body)
    if bytes_out is not None:
        fields["bytes_out"] = bytes_out
    fields["application"] = call.application
    if call.error is not None:
        fields["error"] = call.error
    return fields


def _explained(call: Call, end: float) -> dict[str, object]:
    """Say where the time of a slow call went: in words, by its largest part, and by all of them."""
    parts = breakdown.parts(call.timeline, end)
    spent = {f"spent_{name}_ms": _milliseconds(seconds) for name, seconds in parts.items()}
    return {"why": breakdown.told(parts), "dominated": breakdown.largest(parts), **spent}


def _sent_bytes(reply: Reply) -> int | None:
    """Give the size of a body that was sent whole. An answer to HEAD has a length and none."""
    return len(reply.body) if reply.stream is None else reply.length


def _milliseconds(seconds: float) -> float:
    return round(max(seconds, 0.0) * 1000, 2)
