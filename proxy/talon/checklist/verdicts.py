"""Verdicts: what the counts of a proxy say, or of several. Pure: JSON in, JSON out.

A *record* (`records`) is what one proxy has counted; records add up. `judged` says what they mean.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from proxy.talon.checklist.inventory import UNKNOWN
from proxy.talon.checklist.records import Json
from proxy.talon.checklist.rule import Point, Rule, Severity, Verdict

DAY = 86_400.0
SESSIONS = 100  # that a rule about absence needs
EXAMPLES, GROUPS, NAMES, FIXES = 3, 12, 200, 3
ALONE = 20  # calls of one proxy that show whether it is turned away
_OTHERS = "(others)"


# --- several as one -------------------------------------------------------------------------------------------


def merged(records: Sequence[Json]) -> Json:
    """Add up what several proxies counted. Whoever asks for it says that these are all there are."""
    tallies: dict[str, dict[str, Any]] = {}
    inventory: dict[str, dict[str, list[float]]] = {}
    counts: dict[str, list[int]] = {}
    alike = len({record.get("hashes") for record in records}) == 1
    for number, record in enumerate(records):
        for name, tally in record["tallies"].items():
            add(tallies.setdefault(name, empty_tally()), tally)
        for kind, rows in record["inventory"].items():
            _add_rows(inventory.setdefault(kind, {}), rows)
        for session, row in record["counts"].items():
            _add_count(counts, session if alike else f"{number}/{session}", row)
    return {
        **records[0],
        "complete": True,
        "alike": alike,
        "taken": max(record["taken"] for record in records),
        "proxies": [proxy for record in records for proxy in record["proxies"]],
        "tallies": tallies,
        "inventory": inventory,
        "counts": counts,
        "acknowledged": {name: why for record in records for name, why in record["acknowledged"].items()},
        "effects_handled": sorted({effect for record in records for effect in record["effects_handled"]}),
    }


def empty_tally() -> dict[str, Any]:
    """Give the counts of a rule that nothing was asked about. Moments are Unix time."""
    return {"checked": 0, "broken": 0, "first": None, "last": None, "groups": [], "examples": [], "names": {}}


def add(to: dict[str, Any], more: Json) -> None:
    """Add counts of a rule to others."""
    to["checked"] += more["checked"]
    to["broken"] += more["broken"]
    to["first"] = _least(to["first"], more["first"])
    to["last"] = _most(to["last"], more["last"])
    groups = {tuple(group[:3]): group[3] for group in to["groups"]}
    for *who, count in more["groups"]:
        groups[tuple(who)] = groups.get(tuple(who), 0) + count
    ranked = sorted(groups.items(), key=lambda group: -group[1])
    to["groups"] = [[*who, count] for who, count in ranked[:GROUPS]]
    to["examples"] = [*to["examples"], *more["examples"]][:EXAMPLES]
    _add_rows(to["names"], more["names"])


def _add_rows(to: dict[str, list[float]], more: Mapping[str, Sequence[float]]) -> None:
    for name, (count, seconds, first, last) in more.items():
        known = name if name in to or len(to) < NAMES else _OTHERS
        row = to.setdefault(known, [0, 0.0, first, last])
        to[known] = [row[0] + count, row[1] + seconds, min(row[2], first), max(row[3], last)]


def _add_count(counts: dict[str, list[int]], session: str, row: Sequence[int]) -> None:
    """Several proxies update one session: of all their updates, none is a stranger's."""
    base, last, writes, doubts = row
    known = counts.get(session)
    if known is None:
        counts[session] = [base, last, writes, doubts]
    else:
        counts[session] = [min(known[0], base), max(known[1], last), known[2] + writes, known[3] + doubts]


def _least(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else min(one, other)


def _most(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else max(one, other)


# --- verdicts -------------------------------------------------------------------------------------------------


def judged(record: Json, rules: Iterable[Rule], *, least: int | None = None) -> Json:
    """Say what a record means. `least`: of how few calls a rule may judge, for tests; then absence needs no day."""
    found = [_judged(record, rule, least) for rule in rules]
    return {**record, "rules": found, "summary": summary(found), "fixes": fixes(found)}


def summary(found: Sequence[Json]) -> Mapping[str, int]:
    """Count the verdicts."""
    return {verdict.value: sum(rule["verdict"] == verdict.value for rule in found) for verdict in Verdict}


def fixes(found: Sequence[Json]) -> Sequence[str]:
    """Give the rules that it pays most to follow: the worst, and of those the most often broken.

    Where keys are in danger, one call is as bad as many.
    """

    def rank(rule: Json) -> tuple[object, ...]:
        endangers = rule["point"] == Point.BACKEND.value
        return -Verdict(rule["verdict"]).severity, not endangers, -rule["share"], -rule["broken"]

    return [rule["id"] for rule in sorted(found, key=rank) if Verdict(rule["verdict"]).severity][:FIXES]


def _judged(record: Json, rule: Rule, least: int | None) -> Json:
    tally, severity, why = _evidence(record, rule)
    checked, broken = tally["checked"], tally["broken"]
    share = broken / checked if checked else 0.0
    verdict = Verdict.UNSEEN
    if checked >= (rule.least if least is None else least):
        verdict = _verdict(rule, severity, broken, share, least)
        if verdict.severity and least is None and not _lasted(record, rule):
            verdict = Verdict.UNSEEN
    reason = record["acknowledged"].get(rule.id, "")
    if reason and verdict.severity:
        verdict = Verdict.ACKNOWLEDGED
    return {
        "id": rule.id,
        "point": rule.point.value,
        "title": rule.title,
        "verdict": verdict.value,
        "reason": reason,
        "severity": rule.severity.name.lower(),
        "text": rule.text,
        "why": why,
        "remedy": rule.remedy,
        "link": rule.link,
        "least": rule.least,
        "counted": rule.look is not None or rule.ended is not None,  # by calls; else the proxy itself is looked at
        "share": round(share, 6),
        **tally,
        "seconds": round(sum(row[1] for row in tally["names"].values()), 3),
    }


def _verdict(rule: Rule, severity: Severity, broken: int, share: float, least: int | None) -> Verdict:
    # Up to half of what is tolerated is noise; where one that does is enough, all of it.
    if not broken or share <= rule.tolerated * (1.0 if rule.tolerated > 0.99 else 0.5):
        return Verdict.OK
    times = rule.times if least is None else min(rule.times, max(least, 1))
    if share <= rule.tolerated or broken < times:
        return Verdict.ADVICE
    return Verdict[severity.name]


def _lasted(record: Json, rule: Rule) -> bool:
    """Whether it was looked at for long enough to blame what was not seen."""
    if not rule.absence:
        return True
    proxies = record["proxies"]
    return any(proxy["seconds"] >= DAY for proxy in proxies) and sum(proxy["sessions"] for proxy in proxies) >= SESSIONS


def _evidence(record: Json, rule: Rule) -> tuple[Json, Severity, str]:
    """Give the counts that speak for a rule, how bad it can be with them, and what they say in particular."""
    tally = record["tallies"].get(rule.id) or empty_tally()
    match rule.id:
        case "effects.unhandled":
            return _unhandled(record, tally), rule.severity, ""
        case "session.never-closed":
            closed = tally["checked"] - tally["broken"]
            return (
                tally,
                rule.severity,
                f"closed: {closed:,} of {tally['checked']:,} sessions" if tally["checked"] else "",
            )
        case "profiles.missing":
            return tally, rule.severity, _known(record)
        case "connections.bypass":
            return _bypass(record, tally, rule)
        case "connections.allowlist":
            return _allowlist(record, tally, rule)
        case "updates.parallel":
            saved = sum(proxy["conflicts_avoided"] for proxy in record["proxies"])
            return tally, rule.severity, f"the lanes saved up to {saved} answers of 409" if saved else ""
        case "relocation.ready":
            return _relocation(record, tally, rule)
    return tally, rule.severity, ""


def _known(record: Json) -> str:
    rows = {name: row[0] for name, row in record.get("inventory", {}).get("customers", {}).items()}
    updates = sum(rows.values())
    return f"the customer is known for {1 - rows.get(UNKNOWN, 0) / updates:.0%} of the updates" if updates else ""


def _unhandled(record: Json, tally: Json) -> Json:
    """What the shop handles by now is not held against it."""
    handled = record["effects_handled"]
    if not handled:
        return empty_tally()
    names = {name: row for name, row in tally["names"].items() if name not in handled}
    if not names:
        return {**empty_tally(), "checked": tally["checked"]}
    return {**tally, "names": names, "broken": sum(row[0] for row in names.values())}


def _bypass(record: Json, tally: Json, rule: Rule) -> tuple[Json, Severity, str]:
    """One proxy cannot tell a stranger from another replica; all of them together can."""
    moved, strange = _strangers(record)
    seen = {**tally, "checked": moved, "broken": strange}
    if _knows_all(record):
        return seen, rule.severity, "of all proxies together" if strange else ""
    return seen, Severity.ADVICE, "it may be another replica of this proxy: put their files together" if strange else ""


def _strangers(record: Json) -> tuple[int, int]:
    """Give how many sessions were updated more than once, and how many of them by somebody else as well."""
    moved = [row for row in record["counts"].values() if row[1] - row[0] > 1]
    return len(moved), sum(last - base > writes + doubts for base, last, writes, doubts in moved)


def _knows_all(record: Json) -> bool:
    return bool(record.get("complete") and record.get("alike"))


def _allowlist(record: Json, tally: Json, rule: Rule) -> tuple[Json, Severity, str]:
    """A proxy that is turned away while others are not has another address; all of them have an outage."""
    proxies = [proxy for proxy in record["proxies"] if proxy["sent"] >= ALONE]
    away = [proxy for proxy in proxies if proxy["turned_away"] > rule.tolerated * proxy["sent"]]
    if len(proxies) > 1 and 0 < len(away) < len(proxies):
        named = ", ".join(proxy["name"] for proxy in away)
        broken = sum(proxy["turned_away"] for proxy in away)
        seen = {**tally, "checked": sum(proxy["sent"] for proxy in away), "broken": broken}
        return seen, Severity.PROBLEM, f"only {named} of {len(proxies)} proxies"
    forbidden = tally["names"].get("403", [0])[0]
    if forbidden > rule.tolerated * tally["checked"]:
        return tally, rule.severity, "it answers 403"
    return tally, Severity.ADVICE, "no connection comes about; that may be an outage" if tally["broken"] else ""


def _relocation(record: Json, tally: Json, rule: Rule) -> tuple[Json, Severity, str]:
    reasons = list(dict.fromkeys(reason for proxy in record["proxies"] for reason in proxy["hindrances"]))
    if _knows_all(record) and _strangers(record)[1]:
        reasons.append("somebody goes past the proxy, and would go on to the old URL")
    hindered = sum(bool(proxy["hindrances"]) for proxy in record["proxies"]) or bool(reasons)
    seen = {**tally, "checked": len(record["proxies"]), "broken": int(hindered)}
    return seen, rule.severity, f"no, because {'; '.join(reasons)}" if reasons else "yes"
