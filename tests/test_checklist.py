"""Counting what looks at calls show: in slices, bounded, and without harm to a call."""

import gc
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import orjson
import pytest

from proxy.messages import Call, Fields, Reply, Sent, Source, Timeline
from proxy.observe import checklist
from proxy.observe.checklist import COMPLAINT, EVERY, HOUR, MOST, MOST_BYTES, NAMES, SLICE, Checklist
from proxy.simulator.operations import Answer
from proxy.talon.checklist.examiner import Looked
from proxy.talon.checklist.inventory import Note
from proxy.talon.checklist.past import SESSIONS
from tests.checklist_shop import DAY, SDK, TWO, Shop


def call(target: bytes = b"/v2/customer_sessions/s", body: bytes = b"") -> Call:
    made = Call(b"PUT", target, Fields(b"", []), body, Timeline(1.0, 1.0))
    path = target.partition(b"?")[0].split(b"/")
    made.subject = path[3] if len(path) > 3 else b""
    return made


def reply(body: bytes = b"{}") -> Reply:
    return Reply(200, b"", body, source=Source.UPSTREAM, length=len(body))


@dataclass
class Rig:
    """A checklist, its clock and its timer. A look takes `takes` seconds."""

    takes: float = 0.0
    replies: float = 1.0
    looks: list[tuple[Call, bool, bool]] = field(default_factory=list)
    timers: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    gaps: list[int] = field(default_factory=list)  # after how many looks calls were missing
    found: Looked = field(default_factory=lambda: Looked("eu", "put", "php", "r-1", ("kept",), (), ()))
    worth: bool = True
    raises: bool = False
    clock: float = 0.0
    ahead: float = 1000.0  # Unix time, of the clock

    def __post_init__(self) -> None:
        draws = Random(7)
        self.list = Checklist(
            self,
            replies=self.replies,
            tell=self._tell,
            clock=lambda: self.clock,
            now=lambda: self.ahead + self.clock,
            call_later=self._later,
            draw=draws.random,
        )

    def look(self, call: Call, reply: Reply | None, *, whole: bool, sampled: bool) -> Looked | None:
        self.clock += self.takes
        self.looks.append((call, whole, sampled))
        if self.raises:
            raise RuntimeError("a defect")
        return self.found if reply is not None else None

    def missed(self) -> None:
        self.gaps.append(len(self.looks))

    def cancel(self) -> None:
        self.timers.clear()

    def _tell(self, rule: str) -> bool:
        self.told.append(rule)
        return self.worth

    def _later(self, delay: float, work: Callable[[], None]) -> "Rig":
        self.timers.append((delay, work))
        return self

    def ring(self) -> None:
        (_, work) = self.timers.pop()
        work()

    def finish(self, count: int = 1, body: bytes = b"") -> None:
        for _ in range(count):
            self.list.finished(call(body=body), reply(), whole=True)


def test_the_end_of_a_call_is_an_entry_and_one_timer() -> None:
    rig = Rig()

    rig.finish(5)

    assert rig.looks == []
    assert [delay for delay, _ in rig.timers] == [EVERY]
    rig.ring()
    assert len(rig.looks) == 5
    assert rig.timers == [], "nothing ticks while nobody calls"
    assert rig.list.tallies["kept"].checked == 5


def test_a_slice_ends_after_its_time_and_the_rest_waits_for_the_next() -> None:
    rig = Rig(takes=SLICE / 4)
    rig.finish(10)

    rig.ring()

    assert len(rig.looks) == 4
    rig.ring()
    rig.ring()
    assert len(rig.looks) == 10
    assert rig.timers == []


def flood(rig: Rig, slices: int, calls: int, sessions: int = 500, body: bytes = b"") -> None:
    """So many calls between each two slices."""
    for tick in range(slices):
        for number in range(calls):
            target = b"/v2/customer_sessions/cart-%d" % ((tick * calls + number) % sessions)
            rig.list.finished(call(target, body), reply(), whole=True)
        rig.ring()


def test_looking_takes_no_more_than_its_time_whatever_comes() -> None:
    """Of a flood slices allow what they allow, and whole sessions are left out."""
    rig = Rig(takes=0.00005)

    flood(rig, slices=300, calls=1000)

    assert rig.clock <= 300 * (SLICE + rig.takes)
    looked = {call.target for call, _, _ in rig.looks[-300:]}
    assert 0 < len(looked) < 10, "the same few sessions, all of their calls"
    assert rig.list.thinned > 20 * rig.list.looked
    assert rig.list.dropped == 0


def test_as_long_as_the_flood_lasts_the_same_sessions_are_looked_at() -> None:
    rig = Rig(takes=0.00002)
    flood(rig, slices=100, calls=300)
    rig.looks.clear()

    flood(rig, slices=1000, calls=300)

    looked = Counter(call.target for call, _, _ in rig.looks)
    assert len(looked) > 5
    assert max(looked.values()) - min(looked.values()) <= 2, "no session with half of its calls"


def test_all_sessions_are_looked_at_again_when_the_flood_is_over() -> None:
    rig = Rig(takes=0.00001)
    rig.finish(MOST // 2)
    rig.ring()
    while rig.timers:
        rig.ring()
    assert rig.list.thinned == 0, "a burst is looked at whole, if it takes its time"

    flood(rig, slices=30, calls=MOST, sessions=MOST)
    assert rig.list.thinned > 0
    ticks = 0
    while rig.timers:
        rig.ring()
        ticks += 1
    assert ticks * EVERY < 20, "soon after"
    rig.looks.clear()
    for number in range(200):
        rig.list.finished(call(b"/v2/customer_sessions/s%d" % number), reply(), whole=True)
        rig.list.catch_up()

    assert len(rig.looks) == 200


def test_a_flood_of_large_bodies_leaves_sessions_out_before_calls_are_dropped() -> None:
    rig = Rig(takes=0.00002)

    flood(rig, slices=300, calls=100, sessions=107, body=b"x" * 5000)

    assert rig.list.thinned > 100 * rig.list.dropped
    assert rig.list.dropped == 0


def test_who_is_left_out_from_now_on_is_taken_out_of_the_queue() -> None:
    rig = Rig(takes=SLICE)
    for number in range(MOST):
        rig.list.finished(call(b"/v2/customer_sessions/s%d" % number), reply(), whole=True)

    rig.ring()

    assert rig.list.waiting < 10
    assert rig.list.thinned + rig.list.waiting + 1 == MOST
    rig.list.catch_up()
    assert rig.list.waiting == 0
    assert rig.list._held == 0


def test_what_the_queue_has_no_room_for_is_dropped_and_counted() -> None:
    rig = Rig()

    rig.finish(MOST + 3)
    assert rig.list.dropped == 3

    rig = Rig()
    rig.finish(3, body=b"x" * (MOST_BYTES // 2 - 10))
    assert rig.list.dropped == 1
    rig.ring()
    rig.finish(1, body=b"x" * (MOST_BYTES // 2))
    assert rig.list.dropped == 1, "what was looked at makes room"


def test_who_looks_is_told_where_calls_are_missing() -> None:
    rig = Rig()
    rig.finish(MOST + 3)
    assert rig.gaps == []
    rig.list.catch_up(MOST)
    assert rig.gaps == [], "those that were in the queue had come before"

    rig.finish(2)
    rig.list.catch_up()

    assert rig.gaps == [MOST]
    assert len(rig.looks) == MOST + 2
    rig.finish()
    rig.list.catch_up()
    assert rig.gaps == [MOST], "once"


def test_it_is_told_whenever_other_sessions_are_looked_at() -> None:
    rig = Rig(takes=0.00002)
    flood(rig, slices=30, calls=MOST, sessions=MOST)
    tightened = len(rig.gaps)
    assert tightened >= 1

    flood(rig, slices=100, calls=MOST, sessions=MOST)
    assert len(rig.gaps) <= tightened + 2, "not as long as they are the same"
    before = len(rig.gaps)
    while rig.timers:
        rig.ring()
    flood(rig, slices=3, calls=2)

    assert len(rig.gaps) == before + 1


def test_answers_are_read_for_a_share_of_the_sessions_all_of_theirs() -> None:
    rig = Rig(replies=0.1)
    for number in range(2000):
        for _ in range(2):
            rig.list.finished(call(b"/v2/customer_sessions/cart-%d?dry=true" % number), reply(), whole=True)
        rig.list.catch_up()

    sampled = {call.target for call, _, sampled in rig.looks if sampled}
    assert 100 < len(sampled) < 300
    assert all(sampled_ == (call.target in sampled) for call, _, sampled_ in rig.looks)


def test_calls_without_a_session_are_sampled_by_chance() -> None:
    rig = Rig(replies=0.1)
    for _ in range(2000):
        rig.list.finished(call(b"/v2/events"), reply(), whole=True)
        rig.list.catch_up()

    assert 100 < sum(sampled for _, _, sampled in rig.looks) < 300


def test_a_look_that_fails_is_logged_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(raises=True)

    rig.finish(3)
    rig.ring()

    assert len(rig.looks) == 3
    assert [record.message for record in caplog.records] == ["the checklist failed at a call"], "and not each time"
    rig.clock += COMPLAINT
    rig.finish()
    rig.ring()
    assert len(caplog.records) == 2


def test_a_broken_rule_is_told_once_an_hour_and_asked_for_each_second() -> None:
    rig = Rig(worth=False)
    rig.found = rig.found._replace(broken=(("rule", "", 0.0),))

    rig.finish(5)
    rig.ring()
    assert rig.told == ["rule"], "not worth a line, so it is asked again, but not at once"
    rig.worth = True
    rig.clock += 2
    rig.finish(5)
    rig.ring()
    rig.clock += HOUR - 1
    rig.finish(5)
    rig.ring()
    assert rig.told == ["rule"] * 2
    rig.clock += 2
    rig.finish()
    rig.ring()
    assert rig.told == ["rule"] * 3


def test_a_clock_that_is_set_back_takes_no_line_away() -> None:
    rig = Rig()
    rig.found = rig.found._replace(broken=(("rule", "", 0.0),))
    rig.finish()
    rig.ring()

    rig.ahead -= 10 * HOUR
    rig.clock += HOUR
    rig.finish()
    rig.ring()

    assert rig.told == ["rule"] * 2


def test_evidence_is_bounded() -> None:
    rig = Rig()
    for number in range(300):
        rig.found = Looked(
            f"app{number}",
            "put",
            "php",
            f"r-{number}",
            (),
            (("rule", f"n{number}", 0.5),),
            (Note("effects", f"e{number}"),),
        )
        rig.finish()
        rig.ring()

    told = rig.list.tallies["rule"].as_json()
    assert (told["checked"], told["broken"]) == (300, 300)
    assert len(told["groups"]) == checklist.GROUPS + 1
    assert told["groups"][0] == [checklist.OTHERS] * 3 + [300 - checklist.GROUPS]
    assert told["examples"] == ["r-297", "r-298", "r-299"]
    assert len(told["names"]) == len(dict(rig.list.rows())["effects"]) == NAMES + 1


def test_a_caller_who_left_is_looked_at_and_not_counted() -> None:
    rig = Rig()

    rig.list.abandoned(call(), Sent.MAYBE)
    rig.ring()

    assert [(whole, sampled) for _, whole, sampled in rig.looks] == [(False, True)]
    assert rig.list.tallies == {}
    assert rig.list.looked == 0


def test_stopping_forgets_what_waits() -> None:
    rig = Rig()
    rig.finish(5)

    rig.list.stop()
    rig.list.catch_up()

    assert rig.timers == []
    assert rig.looks == []


# --- all of it ----------------------------------------------------------------------------------------------------

SECRETS = (
    "jane.canary@shop.example",
    "canary-cart-7781",
    "canarycoupon-99",
    "4f1d2c3b5a69788796a5b4c3d2e1f00112233445566778899aabbccddeeff001",
    "canary-street-12",
    "canaryvalue-77",
)


def canaries(shop: Shop) -> None:
    email, session, coupon, key, street, value = SECRETS
    headers = {
        "User-Agent": f"python-requests/2.32 ({email})",
        "Authorization": f"ApiKey-v1 {key}",
        "X-Request-Id": email,
        "Cookie": f"visit={value}",
        "Idempotency-Key": value,
    }
    sent: dict[str, Any] = {
        "profileId": email,
        "cartItems": [{**TWO[0], "name": value, "attributes": {email: street}}],
        "couponCodes": [coupon],
        "attributes": {"ShippingCity": street, email: value, key: 1, "PaymentMethod": 7},
        "identifiers": [value],
    }
    for _ in range(8):
        for target in (session, email.replace("@", "%40")):
            shop.put(target, call={"headers": headers}, **sent)
            shop.put(target, call={"headers": headers}, **{**sent, "attributes": {"ShippingCity": street}})
            shop.put(target, call={"headers": headers, "left": True}, state=email, profileId=value)
            shop.put(target, state="closed", **{**sent, "attributes": {}, "cartItems": TWO})
            shop.call("GET", f"/v2/customer_sessions/{target}?now={value}", headers=headers)
        shop.call("POST", "/v2/events?silent=no", {"profileId": email, "type": email, "attributes": {key: email}})
        shop.call("PUT", f"/v2/customer_profiles/{email}", {"attributes": {"Name": value}}, headers=headers)
        shop.call("GET", f"/v1/{value}/{email}", headers=headers)


def test_no_id_no_mail_address_no_key_and_no_value_is_told(caplog: pytest.LogCaptureFixture) -> None:
    shop = Shop()
    canaries(shop)

    checked = shop.checking.checked()
    told = f"{shop.told} {checked} {caplog.text} {[record.__dict__ for record in caplog.records]}".lower()

    assert shop.told["proxies"][0]["looked_at"] > 80
    assert blamed_by_many(shop) > 5
    for secret in SECRETS:
        for piece in (secret, secret.replace("@", "%40"), secret[: len(secret) * 3 // 4]):
            assert piece not in told


def blamed_by_many(shop: Shop) -> int:
    return sum(rule["broken"] > 0 for rule in shop.told["rules"])


ANSWER = Answer(
    200,
    orjson.dumps(
        {
            "customerSession": {"updateCount": 1, "state": "open"},
            "effects": [
                {"effectType": "acceptCoupon", "props": {"value": "WELCOME10"}},
                {"effectType": "setDiscount", "props": {"value": 12}},
                {"effectType": "couponCreated", "props": {"value": "NEXT-1"}},
            ],
        }
    ),
)


def test_memory_stays_flat_and_below_eight_megabytes() -> None:
    """An hour of many customers, in short; `make checklist` runs ten minutes of it on a real proxy."""
    shop = Shop(gap=0.05)
    past = shop.checking._examiner.past

    def some(first: int, count: int) -> None:
        for number in range(first, first + count):
            told: dict[str, Any] = {"answer": ANSWER, "left": number % 9 == 0}
            attributes = {f"Attribute_{number % 997}": 1}
            shop.put(f"cart-{number}", profileId=f"p{number}", cartItems=TWO, attributes=attributes, call=told)
            shop.event(f"p{number}", f"kind-{number % 997}", call=told)
            shop.put(f"wrong-{number}", profileId=f"p{number}", call={"answer": Answer(400, b"{}")})

    some(0, 3300)
    full = held(past, shop.checking.counts.tallies, shop.checking.counts.inventory)
    some(10_000, 700)

    assert len(past) == SESSIONS
    assert full + MOST_BYTES < 8 << 20
    assert held(past, shop.checking.counts.tallies, shop.checking.counts.inventory) < 1.03 * full


def held(*roots: object) -> int:
    """Give the bytes of all that these hold on to."""
    seen: set[int] = set()
    rest = list(roots)
    size = 0
    while rest:
        found = rest.pop()
        if id(found) not in seen and not isinstance(found, type) and not callable(found):
            seen.add(id(found))
            size += sys.getsizeof(found)
            rest.extend(gc.get_referents(found))
    return size


def test_sessions_that_are_over_are_counted_for_good() -> None:
    shop = Shop()
    for number in range(10):
        shop.put(f"s{number}", profileId="p" if number % 2 else "", cartItems=TWO)
    assert shop.rule("profiles.missing")["checked"] == 10, "as they stand"
    checked = shop.checking.checked()
    assert checked is not None
    assert checked.checked["profiles.missing"] == 0, "a counter never falls, so that it waits for the end"

    shop.wait(DAY)
    for number in range(10):
        shop.put(f"later-{number}", profileId="q", cartItems=TWO)

    checked = shop.checking.checked()
    assert checked is not None
    assert (checked.checked["profiles.missing"], checked.broken["profiles.missing"]) == (10, 5)


def test_the_log_has_a_line_for_a_rule_and_hour(caplog: pytest.LogCaptureFixture) -> None:
    shop = Shop()
    for number in range(60):
        shop.put(f"jane.{number}@shop.example", profileId=f"p{number}", cartItems=TWO)
    shop.orders(40)
    for number in range(60):
        shop.put(f"joe.{number}@shop.example", profileId=f"p{number}", cartItems=TWO)

    lines = [record.__dict__["fields"] for record in caplog.records if record.message == "checklist"]
    assert [line["rule"] for line in lines] == ["session.id-is-email"] * 2
    assert [line["verdict"] for line in lines] == ["warning"] * 2
    assert lines[0]["checked"] == 10, "as soon as there is enough to judge by"
    assert lines[0]["remedy"]
    assert "shop.example" not in f"{lines}"


def test_the_log_tells_of_what_sessions_show_when_they_are_over(caplog: pytest.LogCaptureFixture) -> None:
    shop = Shop()
    for number in range(120):
        shop.put(f"s{number}", cartItems=TWO)
    shop.wait(DAY)
    for number in range(90):
        shop.put(f"later-{number}", profileId=f"p{number}", cartItems=TWO)

    lines = {record.__dict__["fields"]["rule"]: record.__dict__["fields"] for record in caplog.records}
    assert {name: line["verdict"] for name, line in lines.items()} == {
        "session.never-closed": "problem",
        "profiles.missing": "warning",
    }
    assert shop.rule("session.never-closed")["groups"] == [
        ["default", "updateCustomerSessionV2", "SDK python 26", 210],
    ]


def test_one_answer_that_several_calls_shared_has_its_effects_once() -> None:
    shop = Shop()
    for _ in range(3):
        for joined in (False, True):
            shop.put("s", profileId="p", cartItems=TWO, call={"answer": ANSWER, "joined": joined})

    checked = shop.checking.checked()
    assert checked is not None
    assert checked.effects["couponCreated"] == 3


def test_an_answer_that_cannot_be_read_is_no_evidence() -> None:
    shop = Shop()
    for number in range(10):
        shop.put(f"s{number}", profileId=f"p{number}", couponCodes=["WELCOME10"], cartItems=TWO)
        shop.close(f"s{number}", call={"answer": Answer(200, b"[]")})

    assert shop.rule("session.price-changed")["checked"] == 0


def test_long_heads_are_not_kept() -> None:
    shop = Shop()
    for number in range(20):
        shop.put("s", call={"headers": {**SDK, "Cookie": f"{number}-" + "x" * 7000}})
    callers = shop.checking._examiner._callers

    assert sum(map(len, callers._known)) < 4096


def test_profiles_of_an_import_and_customers_of_updates_are_in_the_inventory() -> None:
    shop = Shop()
    profiles = [{"integrationId": f"old-{number}", "attributes": {"Language": "de"}} for number in range(3)]
    shop.call("PUT", "/v2/customer_profiles", {"customerProfiles": profiles})
    for number in range(2):
        shop.put(f"s{number}", profileId=f"p{number}", cartItems=TWO)
        shop.put(f"s{number}", couponCodes=[])
    shop.put("guest", cartItems=TWO)

    inventory = {kind: {name: row[0] for name, row in rows.items()} for kind, rows in shop.told["inventory"].items()}
    assert inventory["attributes"] == {"CustomerProfile.Language: string": 1}
    assert inventory["customers"] == {"named in the call": 2, "known from before": 2, "not known": 1}
    assert shop.rule("profiles.missing")["why"] == "the customer is known for 80% of the updates"


def test_metrics_have_every_rule_and_every_type_of_effect_from_the_start() -> None:
    checked = Shop().checking.checked()

    assert checked is not None
    assert (
        set(checked.checked)
        == set(checked.broken)
        == {rule["id"] for rule in Shop().told["rules"]} - {"relocation.ready"}
    )
    assert checked.effects["setDiscount"] == 0
    assert checked.effects["other"] == 0


def test_while_it_is_off_there_is_nothing() -> None:
    shop = Shop(checklist__enabled="false")

    assert shop.checking.told() is None
    assert shop.checking.checked() is None
    assert list(shop.checking.observers) == []


def test_probes_are_no_calls_of_a_shop() -> None:
    shop = Shop()
    for _ in range(200):
        probe = call(b"/.health")
        probe.timeline.opens = True
        shop.checking.counts.finished(probe, Reply(200, b"", b"", source=Source.PROXY, length=0), whole=True)
        shop.checking.counts.catch_up()

    assert shop.told["proxies"][0]["looked_at"] == 0
    assert shop.told["tallies"]["connections.allowlist"]["checked"] == 0


def test_a_look_changes_no_call_and_no_reply() -> None:
    rig = Shop()
    made, answer = call(body=b'{"customerSession": {"profileId": "p"}}'), reply()
    made.operation, made.timeline.tries = "updateCustomerSessionV2", 1
    before = [getattr(made, name) for name in Call.__slots__], [getattr(answer, name) for name in Reply.__slots__]
    stamped = vars(made.timeline).copy()

    rig.checking.counts.finished(made, answer, whole=True)
    rig.checking.counts.catch_up()

    assert (
        [getattr(made, name) for name in Call.__slots__],
        [getattr(answer, name) for name in Reply.__slots__],
    ) == before
    assert vars(made.timeline) == stamped
