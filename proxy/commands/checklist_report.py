"""The checklist in text, Markdown and JUnit's XML. Pure."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from proxy.talon.checklist.records import Json
from proxy.talon.checklist.rule import Verdict

WIDTH = 100
_HEADINGS = {
    "attributes": "Attributes sent; create them in the Campaign Manager with this name and type",
    "effects": "Effects received",
    "custom effects": "Custom effects received",
    "rejections": "Why coupons and referrals were rejected",
    "errors": "Errors, by status, title and place",
    "avoidable": "Reads that `responseContent` of the update before them would have answered",
}
_WITH = {"effects": ("effects", "custom effects", "rejections")}  # lists that belong together
_WORDS = {"unseen": "not seen"}


def worse(told: Json, baseline: Json | None, least: Verdict) -> Sequence[Json]:
    """Give the rules with this verdict or a worse one, but for those that the baseline has as bad."""
    known = _severities(baseline)
    return [
        rule
        for rule in told["rules"]
        if (severity := Verdict(rule["verdict"]).severity) >= least.severity and severity > known.get(rule["id"], 0)
    ]


def _severities(baseline: Json | None) -> Mapping[str, int]:
    rules = baseline.get("rules", ()) if baseline is not None else ()
    return {rule["id"]: Verdict(rule["verdict"]).severity for rule in rules}


def headline(told: Json) -> str:
    """Give the whole in a line."""
    summary = told["summary"]
    bad = [
        f"{summary[name]} {word}{'s' if summary[name] != 1 and name != 'advice' else ''}"
        for name, word in (("problem", "problem"), ("warning", "warning"), ("advice", "advice"))
        if summary[name]
    ]
    rest = [f"{summary['ok']} followed", f"{summary['unseen']} without enough evidence"]
    if summary["acknowledged"]:
        rest.append(f"{summary['acknowledged']} acknowledged")
    return f"{', '.join(bad) or 'nothing to mend'}; {', '.join(rest)}"


def basis(told: Json) -> str:
    """Tell what it rests on."""
    proxies = told["proxies"]
    looked, sessions, thinned, dropped = (
        sum(proxy[name] for proxy in proxies) for name in ("looked_at", "sessions", "thinned", "dropped")
    )
    since = moment(min(proxy["since"] for proxy in proxies))
    of = f" of {len(proxies)} proxies" if len(proxies) > 1 else ""
    note = f"; {thinned + dropped} calls left out" if thinned + dropped else ""
    if len(proxies) > 1 and not told.get("alike", True):
        note += "; they hash ids with different keys (log.hash_key), so that who goes past them cannot be told"
    return f"{looked} calls and {sessions} sessions{of} since {since}{note}"


# --- for people -----------------------------------------------------------------------------------------------


def text(told: Json, baseline: Json | None, _: Verdict) -> str:
    """Give the findings for a terminal."""
    lines = [headline(told), basis(told), ""]
    rules = {rule["id"]: rule for rule in told["rules"]}
    if told["fixes"]:
        lines.append("Most valuable fixes")
        for number, name in enumerate(told["fixes"], start=1):
            lines += _fix(number, rules[name])
        lines.append("")
    for point, found in _by_point(told):
        lines.append(point)
        lines += [_row(rule, baseline) for rule in found]
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"


def _fix(number: int, rule: Json) -> Iterator[str]:
    yield from textwrap.wrap(
        f"{number}. {rule['title']} ({_word(rule)}, {often(rule)})",
        WIDTH,
        initial_indent="  ",
        subsequent_indent="     ",
    )
    for part in (rule["text"], *_particulars(rule), *_traces(rule, most=2), f"→ {rule['remedy']}"):
        yield from textwrap.wrap(part, WIDTH, initial_indent="     ", subsequent_indent="     ")


def _particulars(rule: Json) -> Iterator[str]:
    if rule["why"] and rule["counted"]:
        yield f"Here: {rule['why']}."
    if names := _names(rule):
        took = f"; they took {rule['seconds']:.1f} s" if rule["seconds"] else ""
        yield f"Seen: {names}{took}."


def _traces(rule: Json, *, most: int) -> Iterator[str]:
    """Say who it was, when, and what to search the log for."""
    for application, operation, caller, number in rule["groups"][:most]:
        yield f"{number} × {operation} by {caller}" + (f" for {application}" if application else "")
    if rule["first"] is not None and rule["last"] is not None:
        ids = f"; request ids {', '.join(rule['examples'])}" if rule["examples"] else ""
        yield f"First seen {moment(rule['first'])}, last {moment(rule['last'])}{ids}."


def _names(rule: Json, most: int = 3) -> str:
    ranked = sorted((name for name in rule["names"] if name), key=lambda name: -rule["names"][name][0])
    rest = f" and {len(ranked) - most} more" if len(ranked) > most else ""
    return ", ".join(ranked[:most]) + rest


def _row(rule: Json, baseline: Json | None) -> str:
    row = f"  {_word(rule):<13} {rule['title']:<42} {often(rule)}"
    notes = [_change(rule, baseline), f"acknowledged: {rule['reason']}" if rule["reason"] else ""]
    return "  ".join(filter(None, (row.rstrip(), *notes)))


def _change(rule: Json, baseline: Json | None) -> str:
    """Say how a rule stands against the baseline."""
    if baseline is None:
        return ""
    before, now = _severities(baseline).get(rule["id"], 0), Verdict(rule["verdict"]).severity
    return "(worse than before)" if now > before else "(better than before)" if now < before else ""


def often(rule: Json) -> str:
    """Say in a few words how often."""
    checked, broken = rule["checked"], rule["broken"]
    if not rule["counted"]:
        return str(rule["why"])
    if rule["verdict"] == Verdict.UNSEEN.value:
        if checked >= rule["least"]:
            return "needs a day of calls"
        return f"{checked} of {rule['least']} needed" if checked else ""
    return f"{broken} of {checked} broken ({rule['share']:.1%})" if broken else f"{checked} checked"


def _word(rule: Json) -> str:
    verdict: str = rule["verdict"]
    return _WORDS.get(verdict, verdict)


def _by_point(told: Json) -> Iterator[tuple[str, Sequence[Json]]]:
    for point in dict.fromkeys(rule["point"] for rule in told["rules"]):
        yield point, [rule for rule in told["rules"] if rule["point"] == point]


def markdown(told: Json, baseline: Json | None, _: Verdict) -> str:
    """Give the findings for a ticket or a pull request."""
    lines = ["# Integration checklist", "", f"**{headline(told)}**, from {basis(told)}.", ""]
    rules = {rule["id"]: rule for rule in told["rules"]}
    for number, name in enumerate(told["fixes"], start=1):
        rule = rules[name]
        said = " ".join((rule["text"], *_particulars(rule)))
        lines += [f"{number}. **{rule['title']}** ({_word(rule)}, {often(rule)}). {said} **Do:** {rule['remedy']}"]
    for point, found in _by_point(told):
        lines += ["", f"## {point}", "", "| | | | |", "|---|---|---|---|"]
        for rule in found:
            note = " ".join(filter(None, (rule["reason"], _change(rule, baseline))))
            remedy = rule["remedy"] if Verdict(rule["verdict"]).severity else ""
            cells = (_word(rule), f"[{rule['title']}]({rule['link']})", often(rule), note or remedy)
            lines.append(f"| {' | '.join(cell.replace('|', '·') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def listed(what: str, told: Json, *, as_markdown: bool) -> str:
    """Give lists of the inventory, the most frequent first."""
    lines: list[str] = []
    for kind in _WITH.get(what, (what,)):
        rows = sorted(told["inventory"].get(kind, {}).items(), key=lambda row: (-row[1][0], row[0]))
        if rows or kind == what:
            lines += [*_table(kind, rows, as_markdown=as_markdown), ""]
    return "\n".join(lines[:-1]) + "\n"


def _table(kind: str, rows: Sequence[tuple[str, Sequence[float]]], *, as_markdown: bool) -> Iterator[str]:
    yield ("## " if as_markdown else "") + _HEADINGS[kind]
    if as_markdown:
        yield from ("", "| name | times | seconds | first seen | last seen |", "|---|--:|--:|---|---|")
    elif not rows:
        yield "  none so far"
    wide = max((len(name) for name, _ in rows), default=0)
    for name, (number, seconds, first, last) in rows:
        took = f"{seconds:.1f}" if seconds else ""
        if as_markdown:
            yield f"| `{name}` | {number:.0f} | {took} | {moment(first)} | {moment(last)} |"
        else:
            times = f"{number:>8.0f}" + (f"  {took} s" if took else "")
            yield f"  {name:<{wide}} {times}  {moment(first)} … {moment(last)}"


def moment(seconds: float) -> str:
    """Give a moment of Unix time to the minute."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


# --- for CI ---------------------------------------------------------------------------------------------------


def junit(told: Json, baseline: Json | None, least: Verdict) -> str:
    """Give the findings as JUnit's XML: a test for each rule. One that says nothing yet is skipped."""
    from xml.etree import ElementTree

    failed = {rule["id"] for rule in worse(told, baseline, least)}
    skipped = {Verdict.UNSEEN.value, Verdict.ACKNOWLEDGED.value}
    suite = ElementTree.Element(
        "testsuite",
        name="talon-proxy checklist",
        tests=str(len(told["rules"])),
        failures=str(len(failed)),
        skipped=str(sum(rule["verdict"] in skipped for rule in told["rules"])),
        errors="0",
    )
    for rule in told["rules"]:
        case = ElementTree.SubElement(suite, "testcase", classname=rule["point"], name=rule["id"])
        said = "\n".join(_evidence(rule))
        if rule["id"] in failed:
            message = f"{_word(rule)}: {rule['title']} ({often(rule)})"
            ElementTree.SubElement(case, "failure", message=message, type=rule["verdict"]).text = said
        elif rule["verdict"] in skipped:
            ElementTree.SubElement(case, "skipped", message=rule["reason"] or often(rule) or "not seen")
        elif rule["broken"]:
            ElementTree.SubElement(case, "system-out").text = said
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"


def _evidence(rule: Json) -> Iterator[str]:
    yield rule["text"]
    yield from _particulars(rule)
    yield from _traces(rule, most=len(rule["groups"]))
    yield f"Do: {rule['remedy']}"
    yield rule["link"]
