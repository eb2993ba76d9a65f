"""The breakdown of a call's time: parts that add up to all of it, and which of them was the largest. Pure."""

from collections.abc import Mapping

from proxy.messages import Timeline

# In the order in which a call goes through them; the words tell an operator what was waited for.
WORDS: Mapping[str, str] = {
    "read": "the caller sending its request",
    "lane": "waiting for earlier writes of the same session or profile",
    "gate": "waiting where only a few calls may go at a time",
    "backoff": "waiting for the next attempt",
    "pool": "waiting for a connection to become free",
    "connect": "opening a connection",
    "tls": "the TLS handshake of a new connection",
    "attempts": "earlier attempts",
    "ttfb": "Talon.One, until the first byte of its answer",
    "body": "Talon.One sending the rest of its answer",
    "shared": "waiting for the answer of an identical call",
    "proxy": "the proxy itself",
    "write": "the caller taking its answer",
}


def parts(timeline: Timeline, end: float) -> dict[str, float]:
    """Give the seconds of each part that took any, up to the moment `end`, in the order of `WORDS`."""
    ready = min(timeline.ready or end, end)
    found = {"read": timeline.complete - timeline.arrived, "write": end - ready}
    if timeline.joined:
        found["shared"] = timeline.upstream or ready - timeline.complete
    else:
        found |= {"lane": timeline.lane, "gate": timeline.gate, "backoff": timeline.backoff}
        found |= _connection(timeline)
        if timeline.sent:
            found |= _exchanges(timeline, ready)
    found["proxy"] = end - timeline.arrived - sum(found.values())
    return {name: found[name] for name in WORDS if found.get(name, 0.0) > 0.0}


def largest(found: Mapping[str, float]) -> str:
    """Name the part that dominated."""
    return max(found, key=lambda name: found[name])


def told(found: Mapping[str, float]) -> str:
    """Say in a sentence where the time went: `910 of 1240 ms: waiting for …; 300 ms: Talon.One, until …`."""
    whole = sum(found.values())
    first, *others = sorted(found, key=lambda name: -found[name])
    text = f"{_ms(found[first])} of {_ms(whole)} ms: {WORDS[first]}"
    # A second one only where it matters.
    return text + "".join(f"; {_ms(found[name])} ms: {WORDS[name]}" for name in others[:1] if found[name] > whole / 10)


def _connection(timeline: Timeline) -> dict[str, float]:
    """Split the wait for a connection. One may have been on its way before the call came: only the end counts."""
    tls = min(timeline.tls, timeline.pool)
    connect = min(timeline.connect, timeline.pool - tls)
    return {"tls": tls, "connect": connect, "pool": timeline.pool - tls - connect}


def _exchanges(timeline: Timeline, ready: float) -> dict[str, float]:
    """Split the time with Talon.One. Of a caller whose time was over, the last exchange may still go on."""
    over = timeline.answered >= timeline.sent
    answered = timeline.answered if over else ready
    first_byte = timeline.first_byte or answered
    return {
        "ttfb": first_byte - timeline.sent,
        "body": answered - first_byte,
        "attempts": timeline.upstream - (answered - timeline.sent if over else 0.0),
    }


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"
