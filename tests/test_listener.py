"""Which addresses are bound, and what happens with those that cannot be had."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator

import pytest

from proxy.settings import Address, load
from proxy.wire.listener import CannotListen, Listener
from tests.harness import Proxy

IPV4, IPV6 = Address.parse("127.0.0.1:0"), Address.parse("[::1]:0")


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    proxy = Proxy("http://127.0.0.1:9")
    yield proxy.listener
    await proxy.stop()


def without_ipv6(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Make the loop behave as where IPv6 is off."""
    loop = asyncio.get_running_loop()
    create = loop.create_server

    async def refusing(factory: object, host: str, *args: object, **options: object) -> asyncio.Server:
        if host == "::1":
            raise OSError(number, os.strerror(number))
        return await create(factory, host, *args, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(loop, "create_server", refusing)


@pytest.mark.parametrize("number", [errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT])
async def test_a_default_ipv6_address_is_skipped_without_ipv6(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    without_ipv6(monkeypatch, number)

    (bound,) = await listener.start([IPV6, IPV4], ipv6_optional=True)

    assert bound.startswith("127.0.0.1:")
    said = f"cannot listen on [::1]:0: {os.strerror(number)}; going on without IPv6"
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("WARNING", said)]


@pytest.mark.parametrize(
    ("addresses", "number", "optional"),
    [
        ([IPV4, IPV6], errno.EADDRNOTAVAIL, False),  # asked for
        ([IPV6], errno.EADDRNOTAVAIL, True),  # nothing would be left
        ([IPV4, IPV6], errno.EADDRINUSE, True),  # there is IPv6
    ],
)
async def test_otherwise_it_is_fatal_and_named(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, addresses: list[Address], number: int, *, optional: bool
) -> None:
    without_ipv6(monkeypatch, number)

    with pytest.raises(CannotListen, match=r"cannot listen on \[::1\]:0: ") as raised:
        await listener.start(addresses, ipv6_optional=optional)

    assert raised.value.errno == number
    assert repr(listener) == "<Listener addresses=0 connections=0>"


def test_a_default_can_be_told_from_a_setting() -> None:
    environ = {"TALON_PROXY_UPSTREAM__URL": "http://127.0.0.1:9", "TALON_PROXY_API_KEY": "k"}

    assert load((), environ).origins["listen"] == "default"
    assert load((), {**environ, "TALON_PROXY_LISTEN": "[::1]:7410"}).origins["listen"] == "TALON_PROXY_LISTEN"
