"""Settings of the checklist: what a shop's calls are asked, and what it has an answer to already."""

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated

from proxy.settings.kinds import Flag, Kind, Share
from proxy.settings.lists import EffectTypes
from proxy.settings.section import Section, setting

LONGEST_REASON = 200  # characters


def _pairs(value: object) -> Iterator[tuple[object, object]]:
    """Split a map: one of TOML, or a text that holds JSON or `rule=reason` between semicolons or on lines."""
    if isinstance(value, str):
        if value.lstrip().startswith("{"):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                raise ValueError("is not valid JSON") from None
        else:
            for entry in re.split(r"[;\n]", value.strip()) if value.strip() else ():
                rule, _, reason = entry.strip().partition("=")
                yield rule.strip(), reason.strip()
            return
    if not isinstance(value, Mapping):
        raise ValueError("must be a map from rule to reason")
    yield from value.items()


def _reasons(value: object) -> Mapping[str, str]:
    # Here, because every command that reads settings would pay for all rules.
    from proxy.talon.checklist.table import IDS

    reasons: dict[str, str] = {}
    for number, (rule, reason) in enumerate(_pairs(value), start=1):
        if rule not in IDS:
            near = difflib.get_close_matches(str(rule), IDS, n=1)
            raise ValueError(f"entry {number} is no rule" + "".join(f"; did you mean {match}?" for match in near))
        if not isinstance(reason, str) or not reason or not reason.isprintable() or len(reason) > LONGEST_REASON:
            raise ValueError(f"the reason of entry {number} must be 1 to {LONGEST_REASON} printable characters")
        reasons[str(rule)] = reason
    return MappingProxyType(reasons)


Reasons = Annotated[
    Mapping[str, str],
    Kind(
        "map of rules",
        _reasons,
        lambda reasons: "; ".join(f"{rule}={reason}" for rule, reason in reasons.items()),
        schema={"type": ["object", "string"], "additionalProperties": {"type": "string"}},
    ),
]


class Checklist(Section):
    """Talon.One's integration checklist, asked of the calls that pass. It only looks."""

    enabled: Flag = setting(True, "Look at calls once they are answered, for at most 1 % of a core.")
    replies: Share = setting(0.1, "Share of sessions whose answers are read too, for effects and reasons.")
    effects_handled: EffectTypes = setting(
        (), "Effects that the shop handles; with this, all others are reported.", example="setDiscount"
    )
    acknowledged: Reasons = setting(
        MappingProxyType({}),
        "Rules that are broken on purpose, each with the reason: they are shown as acknowledged.",
        example="session.never-closed=orders are closed by the point of sale",
    )
