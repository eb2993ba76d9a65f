"""Prometheus and Grafana get answers: every panel, rule and alert is asked of a real Prometheus, with real traffic.

Two proxies: one before a simulated Talon.One, with customers and everything that can go wrong, and one that reaches
nobody. The scene is played once (some ten seconds, mostly of waiting for scrapes); each test looks at what it left.
"""

import asyncio
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
import uvloop
import yaml
from yarl import URL

from tests.observing import dashboard
from tests.observing.__main__ import LINKED
from tests.observing.prometheus import RULES, SHIPPED, Prometheus, Series
from tests.observing.scene import staged
from tests.observing.shop import Shop
from tests.process import PATIENCE, Process

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="the prometheus program is not there")

EVERY = 1.0  # seconds between scrapes
SHOWN = 30.0  # seconds: the whole scene
CHOSEN = {"job": ".*", "instance": ".*"}
QUESTIONS = list(dashboard.questions(dashboard.load()))
EVERY_RULE = [
    rule
    for name in RULES
    for group in yaml.safe_load((SHIPPED.parent / name).read_text())["groups"]
    for rule in group["rules"]
]
RECORDED = [rule["record"] for rule in EVERY_RULE if "record" in rule]
# What the scene must set off; the others need more than some seconds, or are right to keep quiet.
SET_OFF = {
    "TalonProxyCircuitOpen",
    "TalonProxyConflictsReturned",
    "TalonProxyFailuresFast",
    "TalonProxyFailuresSlow",
    "TalonProxyKeyRefused",
    "TalonProxyRefusing",
    "TalonProxyTwoHosts",
    "TalonProxyUnknownOutcomes",
}
# What deploy/READING.md tells to ask; of these, what need not have an answer here.
READ = [
    asked
    for asked in re.findall(r"`([^`\n]+)`", (SHIPPED.parents[1] / "READING.md").read_text().partition("Three traps")[0])
    if re.search(r"talon_proxy_|process_", asked) and "…" not in asked
]
UNANSWERED = {asked for asked in READ if "expiry" in asked or "shared_profiles > 0" in asked}
METRIC = re.compile(r"(?<!:)\b(?:talon_proxy|process|python)_\w+\b(?!:)")


@dataclass
class Seen:
    """What Prometheus said in the end."""

    answers: dict[dashboard.Question, Sequence[Series]] = field(default_factory=dict)
    recorded: dict[str, Sequence[Series]] = field(default_factory=dict)
    read: dict[str, Sequence[Series]] = field(default_factory=dict)
    rules: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    metrics: frozenset[str] = frozenset()
    offered: dict[str, Sequence[str]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Nothing is missing that more time could bring."""
        said = [*self.answers.values(), *self.recorded.values()]
        active = {name for name, rule in self.rules.items() if rule.get("alerts")}
        return all(map(numbers, said)) and active >= SET_OFF


def numbers(answer: Sequence[Series]) -> Sequence[Series]:
    """Give the series that have any."""
    return [series for series in answer if series.values]


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner.run(play())


async def play() -> Seen:
    async with staged(every=f"{EVERY:g}s", cut_off=True) as scene:
        shop, cut_off = scene.shops
        calling = [asyncio.create_task(shop.customer(name)) for name in range(3)]
        calling.append(asyncio.create_task(cut_off.in_vain()))
        try:
            await scene.prometheus.until_scraped(len(scene.proxies))
            return await look(scene.prometheus, shop)
        finally:
            for caller in calling:
                caller.cancel()
            await asyncio.gather(*calling, return_exceptions=True)


async def look(prometheus: Prometheus, shop: Shop) -> Seen:
    """Ask until everything has an answer; what still has none then is for the tests to tell.

    Everything goes wrong again each time: on a slow machine the first time may be over before Prometheus looks.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        await shop.incidents()
        await asyncio.sleep(2 * EVERY)  # so that it has been scraped, and rules evaluated
        seen = await ask_everything(prometheus)
        if seen.complete or time.monotonic() > deadline:
            return seen


async def ask_everything(prometheus: Prometheus) -> Seen:
    seen = Seen()
    for question in QUESTIONS:
        expression = dashboard.substituted(question.without_default, scraped_every=EVERY, shown=SHOWN, chosen=CHOSEN)
        if question.instant:
            seen.answers[question] = await prometheus.ask(expression)
        else:
            seen.answers[question] = await prometheus.ask_range(expression, seconds=SHOWN, step=EVERY)
    for name in RECORDED:
        seen.recorded[name] = await prometheus.ask(name)
    for expression in READ:
        seen.read[expression] = await prometheus.ask(expression)
    groups = (await prometheus.get("rules"))["groups"]
    seen.rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
    seen.metrics = frozenset(await prometheus.get("label/__name__/values"))
    for name, variable in dashboard.variables(dashboard.load()).items():
        if variable["type"] == "query":
            seen.offered[name] = await offered(prometheus, variable["query"])
    return seen


async def offered(prometheus: Prometheus, query: str) -> Sequence[str]:
    """Give what a reader can choose of: `label_values(SELECTOR, LABEL)`."""
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
    assert found is not None, query
    selector = dashboard.substituted(found[1], scraped_every=EVERY, shown=SHOWN, chosen=CHOSEN)
    values: Sequence[str] = await prometheus.get(f"label/{found[2]}/values", **{"match[]": selector})
    return values


# --- the dashboard --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_a_panel_has_something_to_show(seen: Seen, question: dashboard.Question) -> None:
    shown = numbers(seen.answers[question])

    assert shown, question.expression
    for series in shown:
        assert question.labels <= series.labels.keys(), "the legend names a label that is not there"


def test_a_reader_can_choose_a_fleet_and_a_proxy(seen: Seen) -> None:
    assert {name: len(values) for name, values in seen.offered.items()} == {"job": 1, "instance": 2}


# --- rules and alerts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", EVERY_RULE, ids=lambda rule: rule.get("record") or rule["alert"])
def test_a_rule_is_evaluated(seen: Seen, rule: Mapping[str, Any]) -> None:
    name = rule.get("record") or rule["alert"]

    assert seen.rules[name]["health"] == "ok", seen.rules[name]
    if "record" in rule:
        assert numbers(seen.recorded[name])


def test_every_metric_that_is_asked_for_exists(seen: Seen) -> None:
    """Also those of which panels and alerts are right to show nothing."""
    asked = "\n".join([*(question.expression for question in QUESTIONS), *(rule["expr"] for rule in EVERY_RULE)])

    assert set(METRIC.findall(asked)) - seen.metrics == set()


@pytest.mark.parametrize("name", sorted(SET_OFF))
def test_an_alert_tells_what_happened(seen: Seen, name: str) -> None:
    alerts = seen.rules[name].get("alerts", [])

    assert alerts
    for alert in alerts:
        text = alert["annotations"]["description"]
        assert "<" not in text, "a label or value is missing"


# --- make observe ---------------------------------------------------------------------------------------------


async def test_it_can_be_looked_at_until_ctrl_c() -> None:
    observe = await Process.start(sys.executable, "-m", "tests.observing")
    try:
        await observe.line("Ctrl-C ends it")
        places = re.findall(r"http://\S+", observe.out)
        assert len(places) == 2 + 2 * 3 + 3 + len(LINKED)
        async with aiohttp.ClientSession() as client:
            for place in places:
                async with client.get(place) as answer:
                    # An address alone may have no page; but somebody is at home.
                    assert answer.status == 200 or not URL(place).path.strip("/"), place
                if expression := URL(place).query.get("g0.expr"):
                    query = URL(place).with_path("/api/v1/query").with_query(query=expression)
                    async with client.get(query) as answer:
                        assert answer.status == 200, expression

        ended = await observe.stop(signal.SIGINT)

        assert (ended.code, ended.err) == (0, "")
        async with aiohttp.ClientSession() as client:
            for place in places:
                with pytest.raises(aiohttp.ClientConnectionError):
                    await client.get(place)
    finally:
        await observe.kill()


# --- the guide to metrics -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("expression", READ)
def test_what_the_guide_tells_to_ask_has_an_answer(seen: Seen, expression: str) -> None:
    assert numbers(seen.read[expression]) or expression in UNANSWERED


def test_the_guide_has_questions() -> None:
    assert len(READ) > 15
    assert 0 < len(UNANSWERED) < 3
