"""Settings of when a call may go: order, joining, repeats, and how much of everything there may be."""

from typing import Annotated, Literal

from pydantic import Field

from proxy.settings.kinds import Count, CountOrZero, Flag, Share, Size, choice
from proxy.settings.lists import Ids, Operations
from proxy.settings.section import KIB, MIB, SECONDS, Section, setting
from proxy.settings.times import Duration, DurationOrZero

Abandoned = Literal["auto", "send", "drop"]


class Lanes(Section):
    """Order of writes."""

    enabled: Flag = setting(True, "Send the writes of one session or profile one after another, as they came.")
    depth: Count = setting(32, "Calls that may wait in one lane; a further one is refused.")
    hold: DurationOrZero = setting(
        5 * SECONDS, "How long a write that timed out is still listened to, so that the next one knows of its end."
    )
    quarantine: DurationOrZero = setting(
        1 * SECONDS, "How long a lane rests when the outcome of a write is unknown: it may still be running."
    )
    abandoned: Annotated[Abandoned, choice(Abandoned)] = setting(
        "auto",
        "Writes whose caller left before they were sent: `auto` sends those that close, cancel or return an order.",
    )
    dry_width: Count = setting(2, "Dry calls of one session or profile that may be under way at a time.")
    memory: CountOrZero = setting(100_000, "Sessions whose profile is remembered.")
    shared_profiles: Ids = setting(
        (),
        "Profiles that many carts share, such as that of guests: their writes are limited, not ordered.",
        example="guest",
    )
    shared_after: CountOrZero = setting(
        8, "Sessions within ten minutes above which a profile counts as shared by itself; 0 never."
    )


class Coalescing(Section):
    """Identical calls at the same time share one answer."""

    enabled: Flag = setting(True, "Let identical calls share one call to Talon.One.")
    max_callers: Count = setting(256, "Callers that may share one.")
    off: Operations = setting((), "Operations that are never shared.", example="getCustomerInventory")


class Conflict(Section):
    """Answers of Talon.One that too many requests update one session or profile."""

    tries: CountOrZero = setting(8, "Further attempts after Talon.One refused an update because others were under way.")
    base: Duration = setting(0.05 * SECONDS, "First pause between two.")
    cap: Duration = setting(1 * SECONDS, "Longest pause between two.")


class Retries(Section):
    """Repeated attempts."""

    connection: CountOrZero = setting(2, "Further attempts after a failure before anything was sent.")
    budget: Share = setting(0.1, "Share of calls that may be repeated, except after a conflict.")
    generate_idempotency_keys: Flag = setting(
        False, "Add an `Idempotency-Key` where Talon.One takes one, so that a lost write may be repeated."
    )
    conflict: Conflict = Field(default_factory=Conflict)


class Limits(Section):
    """Sizes and numbers."""

    head: Size = setting(64 * KIB, "Request line and headers of one request.")
    fields: Count = setting(128, "Header lines of one request.")
    target: Size = setting(8 * KIB, "Path and query of one request.")
    body: Size = setting(8 * MIB, "Body of one request.")
    inspect: Size = setting(256 * KIB, "Body that is looked into for ids; a larger one is ordered by its path alone.")
    reply: Size = setting(8 * MIB, "Body of one answer that is held; larger ones are streamed where that is safe.")
    concurrency: Count = setting(200, "Calls to Talon.One at a time.")
    connections: Count = setting(2000, "Connections of callers at a time.")
    pipeline: Count = setting(32, "Requests of one connection that are read ahead of their answers.")
    buffered: Size = setting(
        256 * MIB,
        "All bodies over 16 KiB that are held at a time; beyond it, requests get 503 and answers are streamed.",
    )
