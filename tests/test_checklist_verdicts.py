"""What counts say: samples that are too small, absence, what is tolerated, what is acknowledged; several as one."""

import json
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree

import pytest

from proxy.commands import checklist_report as report
from proxy.commands.checklist import LISTS
from proxy.talon.checklist import document, records, verdicts
from proxy.talon.checklist.records import FORMAT, NotARecord
from proxy.talon.checklist.rule import Point, Rule, Severity, Verdict
from proxy.talon.checklist.table import RULES, table
from proxy.talon.checklist.verdicts import judged, merged
from tests.checklist_shop import DAY, TWO, Deployment, Shop, blamed, rule_of

STRICT = Rule("a.strict", Point.SESSIONS, Severity.PROBLEM, 10, "Text.", "Do.", title="Strict")
LENIENT = Rule("a.lenient", Point.SESSIONS, Severity.WARNING, 10, "Text.", "Do.", tolerated=0.1, times=3, title="Mild")
ABSENT = Rule("a.absent", Point.SESSIONS, Severity.PROBLEM, 10, "Text.", "Do.", tolerated=0.999999, absence=True)


def record(checked: int, broken: int, *, hours: float = 48, sessions: int = 500, why: str = "") -> Mapping[str, Any]:
    tally = {**verdicts.empty_tally(), "checked": checked, "broken": broken}
    names = (STRICT.id, LENIENT.id, ABSENT.id)
    proxy = {
        **dict.fromkeys(("looked_at", "waiting", "thinned", "dropped", "sent", "turned_away", "conflicts_avoided"), 0),
        "name": "a",
        "since": 0.0,
        "seconds": hours * 3600,
        "sessions": sessions,
        "hindrances": [],
    }
    return {
        "format": FORMAT,
        "hashes": "x",
        "taken": hours * 3600,
        "proxies": [proxy],
        "tallies": dict.fromkeys(names, tally),
        "inventory": {},
        "counts": {},
        "acknowledged": dict.fromkeys(names, why) if why else {},
        "effects_handled": [],
    }


def verdict(rule: Rule, *arguments: Any, least: int | None = None, **options: Any) -> str:
    found: str = judged(record(*arguments, **options), [rule], least=least)["rules"][0]["verdict"]
    return found


@pytest.mark.parametrize(
    ("checked", "broken", "expected"),
    [(0, 0, "unseen"), (9, 9, "unseen"), (10, 0, "ok"), (10, 1, "problem"), (1000, 1, "problem")],
)
def test_nothing_is_judged_by_too_few(checked: int, broken: int, expected: str) -> None:
    assert verdict(STRICT, checked, broken) == expected


@pytest.mark.parametrize(
    ("checked", "broken", "expected"),
    [(100, 5, "ok"), (100, 6, "advice"), (100, 10, "advice"), (100, 11, "warning"), (10, 2, "advice")],
)
def test_what_is_tolerated_is_advice_and_half_of_it_noise(checked: int, broken: int, expected: str) -> None:
    """Two of ten are a large share, and two."""
    assert verdict(LENIENT, checked, broken) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "problem"),
        ({"hours": 23.9}, "unseen"),
        ({"sessions": 99}, "unseen"),
        ({"hours": 24, "sessions": 100}, "problem"),
    ],
)
def test_what_was_not_seen_is_blamed_after_a_day_and_a_hundred_sessions(
    options: Mapping[str, Any], expected: str
) -> None:
    assert verdict(ABSENT, 100, 100, **options) == expected


def test_one_that_does_is_enough_where_absence_is_blamed() -> None:
    assert verdict(ABSENT, 5000, 4999) == "ok"
    assert verdict(ABSENT, 100, 99, hours=1, sessions=50) == "ok", "to see it takes no day"


def test_what_is_acknowledged_is_so_only_while_it_is_broken() -> None:
    assert verdict(STRICT, 10, 5, why="on purpose") == "acknowledged"
    assert verdict(STRICT, 10, 0, why="on purpose") == "ok"
    assert verdict(STRICT, 9, 5, why="on purpose") == "unseen"


def test_tests_may_judge_by_few_calls() -> None:
    assert verdict(STRICT, 1, 1, least=1) == "problem"
    assert verdict(LENIENT, 1, 1, least=1) == "warning"
    assert verdict(ABSENT, 1, 1, least=1, hours=0, sessions=1) == "problem"
    assert verdict(STRICT, 0, 0, least=1) == "unseen"


def test_the_most_valuable_fixes_are_the_worst_and_most_frequent() -> None:
    rows = [("w-often", "warning", 0.9), ("p-rare", "problem", 0.1), ("p-often", "problem", 0.8), ("ok", "ok", 0.0)]
    found = [
        {"id": name, "verdict": kind, "share": share, "broken": 5, "point": Point.SESSIONS.value}
        for name, kind, share in (*rows, ("a", "advice", 1))
    ]
    assert list(verdicts.fixes(found)) == ["p-often", "p-rare", "w-often"]

    for row in found:
        if row["id"] == "p-rare":
            row["point"] = Point.BACKEND.value
    assert list(verdicts.fixes(found)) == ["p-rare", "p-often", "w-often"], "one call with a key in it is enough"


def changed(value: Any, path: tuple[Any, ...], new: object) -> Any:
    """Give a copy with another value at a place of it; `LEFT_OUT`: without the place."""
    first, *rest = path
    copy = dict(value) if isinstance(value, dict) else list(value)
    if rest:
        copy[first] = changed(value[first], tuple(rest), new)
    elif new is LEFT_OUT:
        del copy[first]
    else:
        copy[first] = new
    return copy


LEFT_OUT = object()
ODD: tuple[object, ...] = (LEFT_OUT, None, "x", -1e300, float("nan"), float("inf"), [], [None], {"x": 1}, "a\x01b")


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give every place of a record, one of each list and map."""
    if path:
        yield path
    if isinstance(value, dict | list):
        within = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
        named = within if path == () or path[-1] == 0 or path[:-1] == ("tallies",) else within[:1]
        for key, inner in named:
            yield from places(inner, (*path, key))


def test_what_is_not_a_record_is_refused() -> None:
    others: list[object] = [None, [], {}, {"format": 0}, {"format": FORMAT, "proxies": []}]
    for other in others:
        with pytest.raises(NotARecord):
            records.check(other)


def test_a_record_is_refused_or_can_be_added_up_judged_and_shown_whatever_is_wrong_with_it() -> None:
    shops = [Shop()]
    busy_day(shops, sticky=True)
    whole = json.loads(json.dumps(shops[0].told))
    records.check_judged(whole)
    refused = 0

    for path in places({name: value for name, value in whole.items() if name != "rules"}):
        for new in ODD:
            odd = changed(whole, path, new)
            try:
                records.check(odd)
            except NotARecord:
                refused += 1
                continue
            for files in ([odd], [odd, whole], [whole, odd]):
                told = judged(merged(files), RULES, least=1)
                for show in (report.text, report.markdown, report.junit):
                    shown = show(told, odd, Verdict.WARNING)
                    assert "\x01" not in shown
                ElementTree.fromstring(shown)
                for what in LISTS:
                    report.listed(what, told, as_markdown=True)
    assert refused > 300


@pytest.mark.parametrize("rules", [None, {}, [None], [{"id": "x"}], [{"id": "x", "verdict": "splendid"}]])
def test_a_baseline_needs_verdicts(rules: object) -> None:
    with pytest.raises(NotARecord, match="rules"):
        records.check_judged({**record(1, 0), "rules": rules})


def test_a_clock_that_is_set_anew_is_no_day() -> None:
    """A machine that starts in 1970 and then learns what year it is."""
    shop = Shop()
    for number in range(120):
        shop.put(f"s{number}", profileId=f"p{number}", cartItems=TWO)
    shop.checking.counts.since = 0.0

    assert shop.rule("session.never-closed")["verdict"] == "unseen"


def test_of_sessions_it_says_how_many_were_closed() -> None:
    shop = Shop()
    for number in range(1200):
        shop.put(f"s{number}", profileId=f"p{number}", cartItems=TWO)
    shop.wait(DAY)

    found = shop.rule("session.never-closed")

    assert (found["verdict"], found["why"]) == ("problem", "closed: 0 of 1,200 sessions")


def test_an_effect_that_is_handled_by_now_is_not_held_against_the_shop() -> None:
    shop = Shop(checklist__effects_handled="setDiscount")
    for number in range(20):
        shop.put(f"s{number}", profileId=f"p{number}", cartItems=TWO)
    before = shop.rule("effects.unhandled")
    assert before["verdict"] == "problem"

    shop.follow(checklist__effects_handled=f"setDiscount,{','.join(before['names'])}")
    assert shop.rule("effects.unhandled")["verdict"] == "ok"
    shop.follow()
    assert shop.rule("effects.unhandled")["verdict"] == "unseen", "nothing is said of what is handled"


def test_while_it_is_off_it_misses_what_would_look_like_somebody_else() -> None:
    shop = Shop()

    def update(seen: bool) -> None:
        for number in range(30):
            if seen:
                shop.put(f"s{number}", wanted=("customerSession",), profileId=f"p{number}", cartItems=TWO)
            else:
                shop.deployment.answer("PUT", f"/v2/customer_sessions/s{number}", b'{"customerSession": {}}')

    update(seen=True)
    shop.follow(checklist__enabled="false")
    update(seen=False)
    update(seen=False)
    shop.follow()
    update(seen=True)
    update(seen=True)

    assert rule_of(together([shop]), "connections.bypass")["verdict"] == "ok"


# --- several as one -----------------------------------------------------------------------------------------------


def busy_day(shops: list[Shop], *, sticky: bool) -> None:
    """One script, whose calls go to all of these in turn: by session, or one after another."""
    turn = 0

    def at(session: int) -> Shop:
        nonlocal turn
        turn += 1
        chosen = shops[(session if sticky else turn) % len(shops)]
        chosen.now = max(shop.now for shop in shops)
        return chosen

    for number in range(240):
        session, profile = f"cart-{number}", f"customer-{number % 200}"
        cart: dict[str, Any] = {"profileId": profile, "cartItems": TWO, "attributes": {"ShippingCity": "Berlin"}}
        wanted = ("customerSession",)
        at(number).put(session, wanted=wanted, couponCodes=["WELCOME10"], **cart)
        at(number).put(session, wanted=wanted, query="?runRuleEngine=true", **cart)
        if number % 3 == 0:
            at(number).put(f"jane.{number}@shop.example", cartItems=TWO)
            at(number).put(f"w{number}", profileId=profile, attributes={"Favourite": 1})
        at(number).event(profile)
        if number % 2:
            at(number).close(session, wanted=wanted)
    for shop in shops:
        shop.now = max(shop.now for shop in shops)
        shop.wait(DAY)


def seen(told: Mapping[str, Any], *, leave_out: frozenset[str] = frozenset()) -> dict[str, str]:
    # Only all of them together know who went past them.
    return {
        rule["id"]: rule["verdict"] for rule in told["rules"] if rule["id"] not in leave_out | {"connections.bypass"}
    }


# What only the calls of one session in a row can show: of a session whose calls are spread, each proxy sees some.
OF_SEQUENCES = frozenset({"profiles.flip-flop", "performance.previews", "session.write-after-close"})


def together(shops: list[Shop]) -> Mapping[str, Any]:
    return judged(merged([shop.checking.record() for shop in shops]), RULES)


@pytest.mark.parametrize("sticky", [True, False])
def test_three_proxies_together_say_what_one_says(sticky: bool) -> None:
    deployment, other = Deployment(), Deployment()
    three, one = [Shop(deployment) for _ in range(3)], Shop(other)

    busy_day(three, sticky=sticky)
    busy_day([one], sticky=sticky)

    told = together(three)
    apart = frozenset() if sticky else OF_SEQUENCES
    assert seen(told, leave_out=apart) == seen(together([one]), leave_out=apart) == seen(one.told, leave_out=apart)
    assert all(rule_of(told, name)["verdict"] in ("ok", "unseen") for name in OF_SEQUENCES)
    assert blamed(told).keys() >= {"session.id-is-email", "attributes.undefined"}
    for name in ("attributes.undefined", "session.id-is-email", "performance.useless-parameter", "errors.rate"):
        alone = one.rule(name)
        assert {key: rule_of(told, name)[key] for key in ("checked", "broken", "groups")} == {
            key: alone[key] for key in ("checked", "broken", "groups")
        }
    assert {kind: sorted(rows) for kind, rows in told["inventory"].items()} == {
        kind: sorted(rows) for kind, rows in one.told["inventory"].items()
    }
    assert sum(row[0] for row in told["inventory"]["attributes"].values()) == sum(
        row[0] for row in one.told["inventory"]["attributes"].values()
    )


def test_replicas_are_no_strangers_and_strangers_are_found_among_them() -> None:
    """Each proxy alone sees updates that it did not make; only together they know whose those were."""
    deployment = Deployment()
    shops = [Shop(deployment) for _ in range(3)]
    busy_day(shops, sticky=False)

    assert rule_of(shops[0].told, "connections.bypass")["verdict"] == "advice"
    assert rule_of(together(shops), "connections.bypass")["verdict"] == "ok"

    for number in range(1, 240, 4):
        deployment.answer("PUT", f"/v2/customer_sessions/cart-{number - 1}", b'{"customerSession": {}}')
        shops[0].put(f"cart-{number - 1}", wanted=("customerSession",), couponCodes=[])
    assert rule_of(together(shops), "connections.bypass")["verdict"] == "warning"
    assert "go on to the old URL" in rule_of(together(shops), "relocation.ready")["why"]


def test_ids_that_were_hashed_with_different_keys_are_not_compared() -> None:
    deployment = Deployment()
    shops = [Shop(deployment, hash_key=f"{number}" * 32) for number in range(3)]
    busy_day(shops, sticky=False)

    found = together(shops)

    assert found["alike"] is False
    assert rule_of(found, "connections.bypass")["verdict"] == "advice"


def test_one_proxy_that_is_turned_away_is_named_and_an_outage_is_not() -> None:
    shops = [Shop(Deployment()) for _ in range(3)]
    for number in range(60):
        for place, shop in enumerate(shops):
            shop.put(f"s{number}", profileId=f"p{number}", call={"fails": "lost"} if place == 2 else {})

    found = rule_of(together(shops), "connections.allowlist")
    assert (found["verdict"], found["broken"]) == ("problem", 60)
    assert "of 3 proxies" in found["why"]

    for shop in shops[:2]:
        for number in range(200):
            shop.put(f"s{number}", profileId=f"p{number}", call={"fails": "connect"})
    assert rule_of(together(shops), "connections.allowlist")["verdict"] == "advice"


def test_what_the_lanes_saved_is_told_with_parallel_updates() -> None:
    shops = [Shop() for _ in range(2)]
    for shop, avoided in zip(shops, (3, 4), strict=True):
        shop.avoided = avoided
        for number in range(40):
            shop.put(f"s{number}", profileId="p", call={"lane": 0.5})

    found = rule_of(together(shops), "updates.parallel")

    assert found["why"] == "the lanes saved up to 7 answers of 409"
    assert found["seconds"] == 40.0


def test_a_secret_in_a_request_id_is_not_an_example() -> None:
    shop = Shop()
    for request_id in ("secret-1", "jane@shop.example", "a" * 40, "r-77"):
        headers = {"X-Request-Id": request_id}
        shop.put("jane@shop.example", profileId="p", call={"headers": headers})

    assert shop.rule("session.id-is-email")["examples"] == ["***-1", "r-77"]


def test_names_and_groups_stay_bounded_when_many_are_added_up() -> None:
    rows = {f"name{number}": [1, 0.0, 1.0, 2.0] for number in range(verdicts.NAMES)}
    more = {f"other{number}": [1, 0.0, 0.5, 3.0] for number in range(50)}
    one, other = record(1, 0), record(1, 0)

    told = merged([{**one, "inventory": {"effects": rows}}, {**other, "inventory": {"effects": more}}])

    assert len(told["inventory"]["effects"]) == verdicts.NAMES + 1
    assert told["inventory"]["effects"]["(others)"] == [50, 0.0, 0.5, 3.0]


def test_the_table_is_complete() -> None:
    points = [rule.point for rule in RULES]

    assert points == sorted(points, key=list(Point).index)
    assert set(points) == set(Point), "every point of the checklist has a rule"
    for rule in table(("setDiscount",)):
        assert all((rule.title, rule.remedy, rule.text.endswith("."), rule.link.startswith("https://docs.talon.one/")))
        assert not rule.absence or rule.least >= verdicts.SESSIONS


def test_the_guide_has_every_rule_as_it_is() -> None:
    text = document.GUIDE.read_text()

    assert document.guide(text) == text, "run make docs"
    assert all(f"[`{rule.id}`]" in text for rule in RULES)
