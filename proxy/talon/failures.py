"""Failures: what an answer of Talon.One that is an error says is wrong. Pure.

The names are those of `talon-one-facts.md` §8. Only fixed texts of Talon.One are read: details and pointers hold what
customers typed. A refused coupon or referral is no error: it stands in the effects of a 200, which nobody reads here.
"""

from enum import Enum

from proxy.talon import bodies, conflicts


class Failure(Enum):
    """What kind of error an answer is, as metrics name it."""

    UNKNOWN_ATTRIBUTE = "validation_unknown_attribute"
    TYPE = "validation_type"
    ENUM = "validation_enum"
    VALIDATION = "validation_other"
    AUTH = "auth"
    AUTH_LEGACY = "auth_legacy"  # the signature that came before API keys
    NOT_FOUND = "not_found"
    CONFLICT_PARALLEL = "conflict_parallel"
    CONFLICT_EXISTS = "conflict_exists"
    CONFLICT_OTHER = "conflict_other"
    THROTTLED = "throttled"
    UPSTREAM_5XX = "upstream_5xx"
    OTHER = "other"


_BY_STATUS = {401: Failure.AUTH, 403: Failure.AUTH, 404: Failure.NOT_FOUND, 429: Failure.THROTTLED}
_BY_TITLE = {"Unknown": Failure.UNKNOWN_ATTRIBUTE, "Invalid type": Failure.TYPE, "enum": Failure.ENUM}
_UNSIGNED = "HMAC signature mismatch."
_read = bodies.reader([("message",), ("errors", "*", "title")])


def classify(status: int, block: bytes, body: bytes) -> Failure:
    """Name the error with this status (400 or more), these header lines and this body."""
    if status >= 500:
        return Failure.UPSTREAM_5XX
    if status == 400 or status == 422:
        return _invalid(bodies.plain(block, body))
    if status == 409:
        return _conflict(conflicts.classify(block, body))
    return _BY_STATUS.get(status, Failure.OTHER)


def _conflict(kind: conflicts.Kind) -> Failure:
    if kind.parallel:
        return Failure.CONFLICT_PARALLEL
    return Failure.CONFLICT_EXISTS if kind is conflicts.Kind.EXISTS else Failure.CONFLICT_OTHER


def _invalid(text: bytes) -> Failure:
    try:
        told = _read(text)
    except bodies.UNREADABLE:
        return Failure.VALIDATION
    if not isinstance(told, dict):
        return Failure.VALIDATION
    if told.get("message") == _UNSIGNED:
        return Failure.AUTH_LEGACY
    for error in told.get("errors") or ():
        title = error.get("title") if error else None
        # Any JSON may stand there, also what cannot be a key of a dict.
        if isinstance(title, str) and title in _BY_TITLE:
            return _BY_TITLE[title]
    return Failure.VALIDATION
