"""Verification: warm connections, and each key used once; what is wrong is said in words for operators."""

import asyncio

import pytest

from proxy.errors import CertificateError, ConnectionRefused
from proxy.keyset import KeyPair, KeySet, Ledger, Role
from proxy.secret import Secret
from proxy.upstream import Generation, State
from proxy.verification import Unverified, verify
from tests.fleet import message
from tests.generations import TalkingDialer, generation
from tests.upstream_fakes import FakeClock, turns

pytestmark = pytest.mark.usefixtures("silence")

EU, EU_NEXT, US = "e" * 64, "n" * 64, "u" * 64


class Rig:
    def __init__(self, pairs: dict[str, KeyPair] | None = None) -> None:
        self.clock = FakeClock()
        self.ledger = Ledger()
        pairs = pairs if pairs is not None else {"eu": KeyPair(Secret(EU), Secret(EU_NEXT)), "us": KeyPair(Secret(US))}
        self.keys = KeySet(pairs, None, self.ledger)
        self.generation: Generation
        self.generation, _ = generation(self.clock, "new.example", keys=self.keys)
        self.dialer = TalkingDialer()
        self.generation.pool._dialer = self.dialer  # type: ignore[assignment]
        self.progress: list[str] = []

    def accept(self, *keys: str) -> None:
        self.dialer.script = lambda said: message(200 if any(key.encode() in said for key in keys) else 401, b"{}")

    async def verify(self, warm: int = 2) -> None:
        await verify(self.generation, warm=warm, timeout=10.0, progress=self.progress.append)

    async def refused(self) -> str:
        with pytest.raises(Unverified) as caught:
            await self.verify()
        self.generation.abort()
        await turns()
        text = str(caught.value)
        assert not any(key in text for key in (EU, EU_NEXT, US))
        return text


async def test_connections_are_warm_and_each_application_is_asked_for_once() -> None:
    rig = Rig()
    rig.accept(EU, US)
    await rig.verify(warm=3)
    await turns()

    assert (rig.dialer.opened, rig.generation.pool.idle, rig.generation.pool.active) == (3, 3, 0)
    assert rig.generation.state is State.OPENING
    eu, us = rig.dialer.said
    assert eu.startswith(b"GET /v1/integration/campaigns?pageSize=1 HTTP/1.1\r\nHost: new.example\r\n")
    assert b"\r\nAuthorization: ApiKey-v1 %b\r\n\r\n" % EU.encode() in eu
    assert b"\r\nAuthorization: ApiKey-v1 %b\r\n\r\n" % US.encode() in us
    assert rig.progress == ["connecting", "verifying keys"]
    assert rig.ledger.of("eu", Role.PRIMARY).accepted == 1


async def test_without_any_key_connections_are_verified_all_the_same() -> None:
    rig = Rig({})
    await rig.verify(warm=0)

    assert (rig.dialer.opened, rig.dialer.said) == (1, [])


async def test_where_only_the_second_key_is_good_it_leads() -> None:
    rig = Rig()
    rig.accept(EU_NEXT, US)
    await rig.verify()

    assert rig.keys.hints()["eu"] == ["…nnnn", "…eeee"]
    assert rig.ledger.counts()["eu", "primary", "rejected"] == 1


async def test_keys_that_are_refused_are_told_by_application() -> None:
    rig = Rig()
    rig.accept(EU)
    assert await rig.refused() == "https://new.example, Application us: the key is refused (401)"

    both = Rig()
    both.accept(US)
    assert await both.refused() == "https://new.example, Application eu: both keys are refused (401)"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (message(403, b""), "forbidden (403); is the address of this proxy on Talon.One's allowlist?"),
        (
            message(308, b"", "Location: https://moved.example:8443/login?x"),
            "redirects (308) to https://moved.example:8443,",
        ),
        (message(302, b"", "Location: /login"), "redirects (302), and"),
        (message(302, b"", "Location: https://a b"), "redirects (302), and"),
        (message(404, b""), "the answer has status 404"),
        (message(500, b""), "the answer has status 500"),
        (message(200, b"x").replace(b"application/json", b"text/html"), "a web page"),
        (b"HTTP/1.1 nonsense\r\n\r\n", "Talon.One's answer was not valid HTTP"),
    ],
)
async def test_any_other_answer_is_named(answer: bytes, words: str) -> None:
    rig = Rig()
    rig.dialer.script = lambda _: answer

    assert words in await rig.refused()


async def test_a_host_that_cannot_be_reached_or_trusted_is_named_and_sees_no_key() -> None:
    for error, words in (
        (ConnectionRefused("No address of upstream.url took the connection"), "could not be reached: No address"),
        (CertificateError("Verification of the certificate of upstream.url failed"), "certificate was not accepted"),
    ):
        rig = Rig()
        rig.dialer.refuses = error
        assert words in await rig.refused()
        assert rig.dialer.said == []


async def test_an_answer_that_does_not_come_is_not_waited_for_longer_than_a_calls() -> None:
    rig = Rig()
    rig.dialer.script = lambda _: None

    asking = asyncio.ensure_future(rig.refused())
    await turns(20)
    rig.clock.advance(11.0)
    assert "did not answer in time" in await asking
