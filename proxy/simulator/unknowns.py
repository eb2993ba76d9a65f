"""What nobody outside Talon.One knows for sure, as switches: the `[unknowns]` table of the rule book.

Each default is the likelier answer. FIDELITY.md tells what speaks for it; a test holds page and switches together. The
command line has an option for each, with the docstring as its help.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Unknowns(BaseModel):
    """The switches. Whoever integrates should be right with each of them set either way."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    dry_counts: bool = False
    """Whether dry calls take a place among the three parallel ones."""
    reads_count: bool = False
    """Whether GETs of a session or a profile do."""
    events_v3_count: bool = True
    """Whether advanced events do: their 409 says so, the list of endpoints leaves them out."""
    returns_count: bool = False
    """Whether returns and reopening do."""
    legacy_counts: bool = True
    """Whether the v1 routes of old SDKs do."""
    legacy_dry: bool = False
    """Whether those routes heed `dry`."""
    attributes_merge: bool = True
    """Whether attributes that a PUT leaves out stay (true) or go (false)."""
    additional_costs_merge: bool = False
    """The same for the additional costs of a session."""
    update_of_closed: Literal["refuse", "ignore"] = "refuse"
    """A PUT that is not a cancellation, on a session that is not open: 400, or 200 without any change."""
    unknown_session: Literal[404, 400] = 404
    """The status of a call that reads, returns or reopens a session that does not exist."""
    born_closed_event: Literal["talon_session_created", "talon_session_closed"] = "talon_session_created"
    """The event of a session that is created closed."""
    cancelled_after_return_event: Literal["talon_session_revoked", "talon_session_cancelled"] = "talon_session_revoked"
    """The event of a session that is cancelled after a return."""
    further_returns: bool = True
    """Whether a partially returned session takes another return."""
    returns_scale_session_effects: bool = False
    """Whether a return also takes back its share of the discounts and points of the whole session."""
    silent_v3_status: Literal[204, 200] = 204
    """The status of a silent advanced event: its text promises 204, its list of answers has only 200."""
    duplicate_event_message: str = "An advanced event already exists"
    """The text of the 409 for an advanced event whose id is taken."""
    idempotency_stores: Literal["success", "all"] = "success"
    """Which answers an Idempotency-Key stores: those of calls that succeeded, or errors and the parallel 409 too."""
    idempotency_reuse: Literal["refuse", "replay", "run"] = "refuse"
    """A key that comes with another call: 400, the stored answer all the same, or a run as if it had no key."""
    idempotency_in_flight: Literal["wait", "refuse"] = "wait"
    """A key whose first call still runs: wait for its answer, or 409."""
