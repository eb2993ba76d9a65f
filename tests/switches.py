"""`make switches`: switches, planned switches, rotations and broken reloads under load, on real processes and sockets.

    python -m tests.switches [--switches 10] [--rate 500] [--rotations 5] [--reloads 50]

Counts, and no times: failed calls, writes out of order, calls to a host that was left, keys where they do not belong.
`tests/test_switches.py` runs the same with small numbers.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fleet import SIGNED, TOKEN, Arrivals, Host, left, reload, shopping, switch, until_status
from tests.process import Serve, serving

KEY_A, KEY_B = "a" * 64, "b" * 64
Figures = dict[str, int]
QUIET = {"log__access": "off", "admin__token": TOKEN}


@asynccontextmanager
async def two_hosts() -> AsyncIterator[tuple[Arrivals, Host, Host]]:
    """Give two hosts, each with a key of its own."""
    arrivals = Arrivals()
    async with AsyncExitStack() as stack:
        hosts = [await Host(name, arrivals, [key]).start() for name, key in (("a", KEY_A), ("b", KEY_B))]
        for host in hosts:
            stack.push_async_callback(host.stop)
        yield arrivals, hosts[0], hosts[1]


def moving(a: Host, b: Host, at: datetime) -> Mapping[str, str]:
    """Give the settings of a switch from one host to the other, planned for a moment."""
    return {
        "api_key": KEY_A,
        "upstream__url": a.url,
        "upstream__next__url": b.url,
        "upstream__next__at": at.isoformat(),
        "upstream__next__applications__default__api_key": KEY_B,
        **QUIET,
    }


async def back_and_forth(switches: int, rate: float) -> Figures:
    """Switch between two hosts while a shop writes."""
    far = datetime.now(UTC) + timedelta(days=1)  # only the keys of the other host are wanted of the plan
    async with two_hosts() as (arrivals, a, b), AsyncExitStack() as stack:
        evil = await Host("evil", arrivals, [KEY_A, KEY_B]).start("127.0.0.2")
        stack.push_async_callback(evil.stop)
        settings = dict(moving(a, b, far))
        proxy = await stack.enter_async_context(serving(settings.pop("upstream__url"), **settings))
        late = refused = 0
        async with shopping([proxy], sessions=20, rate=rate) as crowd:
            await crowd.more(100)
            for number in range(switches):
                old, new = (a, b) if number % 2 == 0 else (b, a)
                answer = await switch(proxy, new.url)
                assert answer.status == 200, answer
                await left(proxy)
                before = len(arrivals.at(old.name))
                refused += (await switch(proxy, f"http://127.0.0.2:{evil.port}")).status == 422
                refused += (await switch(proxy, f"http://127.0.0.2:{evil.port}", force=True)).status == 422
                await crowd.more(100)
                late += len(arrivals.at(old.name)) - before
        return {
            "switches": switches,
            "calls": crowd.answered,
            "failed": len(crowd.failed),
            "out of order": len(arrivals.out_of_order()),
            "lost": crowd.answered - len(arrivals.all),
            "to the old host after the drain": late,
            "switches refused": refused,
            "connections to a host that is not allowed": evil.connections,
            "keys at the wrong host": len(a.seen - {KEY_A}) + len(b.seen - {KEY_B}),
        }


async def planned(proxies: int, rate: float) -> Figures:
    """Let several proxies switch at one moment."""
    async with two_hosts() as (arrivals, a, b), AsyncExitStack() as stack:
        file = Path(stack.enter_context(TemporaryDirectory())) / "talon-proxy.toml"
        now = GOOD.format(key=KEY_A, token=TOKEN, url=a.url)
        file.write_text(now)
        file.chmod(0o600)
        starting = [
            stack.enter_async_context(serving(None, config=str(file), log__access="off")) for _ in range(proxies)
        ]
        fleet = [await proxy for proxy in starting]
        began = time.monotonic()
        await asyncio.gather(*map(reload, fleet))
        # All of them must know of it before its moment, on a machine however busy.
        at = datetime.now(UTC) + timedelta(seconds=1.0 + 20 * (time.monotonic() - began))
        file.write_text(now + PLANNED.format(url=b.url, at=at.isoformat(), key=KEY_B))
        await asyncio.gather(*map(reload, fleet))
        async with shopping(fleet, sessions=8, rate=rate) as crowd:
            await asyncio.gather(*(proxy.line('"switched to another upstream"') for proxy in fleet))
            await asyncio.gather(*map(left, fleet))
            await crowd.more(100)
        first = min(arrival.order for arrival in arrivals.at("b"))
        return {
            "proxies": proxies,
            "calls": crowd.answered,
            "failed": len(crowd.failed),
            "out of order": len(arrivals.out_of_order()),
            "before the switch": len(arrivals.at("a")),
            "after the switch": len(arrivals.at("b")),
            "to the old host after one reached the new": sum(arrival.order > first for arrival in arrivals.at("a")),
            "keys at the wrong host": len(a.seen - {KEY_A}) + len(b.seen - {KEY_B}),
        }


async def rotating(rotations: int, rate: float) -> Figures:
    """Change the key again and again, by the second key and by its file, and revoke the old one at once."""
    arrivals = Arrivals()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        secret = Mounted(folder)
        host = await Host("a", arrivals, [key(0)]).start()
        stack.push_async_callback(host.stop)
        secret.put(key(0), key(1))
        files = {"api_key_file": str(secret.key), "next_api_key_file": str(secret.following)}
        proxy = await stack.enter_async_context(serving(host.url, **files, **QUIET))
        async with shopping([proxy], sessions=20, rate=rate) as crowd:
            await crowd.more(100)
            for number in range(rotations):
                old, new, then = key(number), key(number + 1), key(number + 2)
                host.keys = {old, new}
                await crowd.more(20)
                host.keys = {new}  # revoked while calls are on their way
                await crowd.more(100)
                secret.put(new, then)
                await following(proxy, f"…{new[-4:]} …{then[-4:]}")
                await crowd.more(50)
        return {
            "rotations": rotations,
            "calls": crowd.answered,
            "failed": len(crowd.failed),
            "out of order": len(arrivals.out_of_order()),
            "lost": crowd.answered - len(arrivals.all),
        }


def key(number: int) -> str:
    """Give a key with an end of its own, by which a proxy shows it."""
    return f"{number:064x}"


class Mounted:
    """A Secret as Kubernetes mounts it: files behind `..data`, which is pointed at another directory in one step."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self.key, self.following = folder / "key", folder / "next"

    def put(self, key: str, following: str) -> None:
        """Replace both keys at once."""
        self._count += 1
        version = self._folder / f"..{self._count}"
        version.mkdir()
        for name, text in (("key", key), ("next", following)):
            (version / name).write_text(f"{text}\n")
            (version / name).chmod(0o600)
        link = self._folder / "..new"
        link.symlink_to(version.name)
        link.replace(self._folder / "..data")
        for file in (self.key, self.following):
            if not file.is_symlink():
                file.symlink_to(Path("..data") / file.name)


async def following(proxy: Serve, hints: str) -> None:
    """Wait until the proxy has these keys, the leading one first."""
    await until_status(proxy, lambda status: status["keys"]["default"] == hints)


GOOD = """\
listen = ["127.0.0.1:0"]
api_key = "{key}"
[admin]
token = "{token}"
[upstream]
url = "{url}"
"""


PLANNED = """\
[upstream.next]
url = "{url}"
at = {at}
hold = "2s"
[upstream.next.applications.default]
api_key = "{key}"
"""


def broken(good: str, number: int) -> tuple[str, str]:
    """Give a file that cannot be used, and what of it must be named."""
    ways = [
        (good + "[lanes]\ndepht = 3\n", "lanes.depht"),
        (good + f"[timeouts]\nhead = {number}\n", "timeouts.head"),
        (good.replace('url = "', 'url = "ftp'), "upstream.url"),
        (good.replace('api_key = "', 'api_key = "two words '), "api_key"),
        (good.replace("api_key = ", "api_key_file = "), "api_key_file"),
        (good.replace("[upstream]", "[upstream"), "TOML"),
        (good + '[retries.conflict]\nbase = "2s"\ncap = "1s"\n', "retries.conflict.cap"),
        (good.replace('"\n[admin]', '0"\n[admin]'), "401"),  # a key that Talon.One does not know
        ("", "upstream.url"),
        (good.replace("127.0.0.1:", "127.0.0.1:1"), ""),
    ]
    return ways[number % len(ways)]


async def breaking(reloads: int, rate: float) -> Figures:
    """Reload what cannot be used, again and again, while a shop writes."""
    async with two_hosts() as (arrivals, a, _), AsyncExitStack() as stack:
        file = Path(stack.enter_context(TemporaryDirectory())) / "talon-proxy.toml"
        good = GOOD.format(key=KEY_A, token=TOKEN, url=a.url)
        file.write_text(good)
        file.chmod(0o600)
        proxy = await stack.enter_async_context(serving(None, config=str(file), log__access="off"))
        before = await _behaviour(proxy)
        clear = 0
        async with shopping([proxy], sessions=10, rate=rate) as crowd:
            await crowd.more(20)
            for number in range(reloads):
                text, named = broken(good, number)
                file.write_text(text)
                answer = await reload(proxy)
                reasons = "\n".join(answer.json.get("reasons", ()))
                clear += answer.status == 422 and bool(reasons) and named in reasons and KEY_A not in reasons
            await crowd.more(20)
        metrics = (await proxy.ask_admin("/metrics")).body
        after = await _behaviour(proxy)
        file.write_text(good)
        mended = (await reload(proxy)).status
        return {
            "reloads": reloads,
            "clear messages": clear,
            "changed behaviour": sum(before[name] != after[name] for name in before),
            "told by the metric": b"talon_proxy_config_last_reload_successful 0.0" in metrics,
            "mended": mended == 200,
            "calls": crowd.answered,
            "failed": len(crowd.failed),
            "out of order": len(arrivals.out_of_order()),
        }


async def _behaviour(proxy: Serve) -> Mapping[str, object]:
    status = await proxy.status()
    config = (await proxy.change("GET", "/-/config", **SIGNED)).json
    return {
        "settings": status["settings"],
        "url": status["upstream"]["url"],
        "generation": status["upstream"]["generation"],
        "keys": status["keys"],
        "config": config["settings"],
        "override": config["override"],
    }


async def _main(options: argparse.Namespace) -> int:
    wrong = 0
    for name, figures in (
        ("back and forth", back_and_forth(options.switches, options.rate)),
        ("planned, three proxies", planned(3, options.rate)),
        ("rotating keys", rotating(options.rotations, options.rate)),
        ("broken reloads", breaking(options.reloads, options.rate / 5)),
    ):
        found = await figures
        print(f"{name}: {', '.join(f'{what} {figure}' for what, figure in found.items())}", flush=True)
        wrong += bad(found)
    return 1 if wrong else 0


def bad(figures: Figures) -> int:
    """Count what must not have happened."""
    zero = ("failed", "out of order", "lost", "to the old", "connections to a host", "keys at", "changed behaviour")
    never = sum(abs(figure) for what, figure in figures.items() if what.startswith(zero))
    unclear = figures.get("reloads", 0) - figures.get("clear messages", 0)
    unrefused = 2 * figures.get("switches", 0) - figures.get("switches refused", 0)
    untold = sum(not figures.get(what, True) for what in ("mended", "told by the metric"))
    return never + unclear + unrefused + untold


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.switches")
    parser.add_argument("--switches", type=int, default=10)
    parser.add_argument("--rotations", type=int, default=5)
    parser.add_argument("--reloads", type=int, default=50)
    parser.add_argument("--rate", type=float, default=500.0, help="writes a second")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(_main(_options())))
