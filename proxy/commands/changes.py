"""`talon-proxy reload` and `switch URL`: change a running proxy, by its admin listener and with its token.

    reload               read the settings again and take them over
    switch URL           point it at another URL of Talon.One, and tell how that goes until the old one is left;
                         --force: also if it does not answer there, or refuses the keys

0: done; 1: not done, and why, or nobody answers; 2: wrong usage, no address to ask, or no token.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from proxy.commands.listener import NoAnswer, NotFound, Place, Sources, ask

WITHIN = 120.0  # seconds for a change: a verification may try several keys
LOOK_EVERY = 0.2  # seconds
LEAVING_WITHIN = 120.0  # seconds that the old URL is watched
ANSWER_WITHIN = 3.0  # seconds

Json = Mapping[str, object]


class Proxy:
    """A running proxy, as operators change it."""

    def __init__(self, place: Place, token: str) -> None:
        self._place = place
        self._token = token

    def change(self, method: str, path: str, content: Json | None = None) -> Json:
        """Ask for a change, and give what came of it. Raises NoAnswer, also where it was not done."""
        body = b"" if content is None else json.dumps(content).encode()
        code, answer = ask(self._place, path, timeout=WITHIN, token=self._token, method=method, body=body)
        try:
            told = json.loads(answer)
        except ValueError:
            told = None
        if code == 403:
            raise NoAnswer(f"{self._place} does not take the token (admin.token), or has none")
        if not isinstance(told, dict) or code not in (200, 422):
            raise NoAnswer(f"what listens on {self._place} is no talon-proxy that can do this: it answers {code}")
        if code == 422:
            raise NoAnswer("\n  ".join((f"{told.get('message')}:", *map(str, _list(told.get("reasons"))))))
        return told

    def upstream(self) -> Json:
        """Give what `/status` says of the upstream; nothing where it says nothing."""
        try:
            code, body = ask(self._place, "/status", timeout=ANSWER_WITHIN, token=self._token)
            told = json.loads(body) if code == 200 else None
        except (NoAnswer, ValueError):
            return {}
        upstream = told.get("upstream") if isinstance(told, dict) else None
        return upstream if isinstance(upstream, dict) else {}


def main(name: str, arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command `reload` or `switch`."""
    options = _parser(name).parse_args(arguments)
    flags = {"admin.listen": options.listen, "admin.token_file": options.token_file, "config": options.config}
    try:
        sources = Sources({key: value for key, value in flags.items() if value is not None}, environ)
        place, token = sources.admin, sources.token
    except NotFound as error:
        return _complain(name, str(error), code=2)
    if not token:
        return _complain(name, "needs the token of the proxy (admin.token, or --admin.token_file FILE)", code=2)
    proxy = Proxy(place, token)
    try:
        lines = reload(proxy) if name == "reload" else switch(proxy, options.url, force=options.force)
        for line in lines:
            print(line, flush=True)
    except NoAnswer as error:
        return _complain(name, str(error), code=1)
    return 0


def reload(proxy: Proxy) -> Iterator[str]:
    """Let it reload, and tell what changed. Raises NoAnswer."""
    told = proxy.change("POST", "/-/reload")
    changed = _list(told.get("changed"))
    yield f"reloaded: {', '.join(map(str, changed)) or 'nothing has changed'}"
    for key in _list(told.get("restart_needed")):
        yield f"needs a restart: {key}"
    for warning in _list(told.get("warnings")):
        yield f"warning: {warning}"
    yield f"calls go to {told.get('url')}" + (", set at run time" if told.get("override") else "")


def switch(
    proxy: Proxy,
    url: str,
    *,
    force: bool,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[str]:
    """Let it switch, and tell how that goes. Raises NoAnswer."""
    outcome: list[Json | NoAnswer] = []

    def ask_for_it() -> None:
        try:
            outcome.append(proxy.change("PUT", "/-/upstream", {"url": url, "force": force}))
        except NoAnswer as error:
            outcome.append(error)

    asking = threading.Thread(target=ask_for_it, name="switch", daemon=True)
    asking.start()
    phase = ""
    while asking.is_alive():
        asking.join(LOOK_EVERY)
        move = proxy.upstream().get("switching")
        if asking.is_alive() and isinstance(move, dict) and move.get("phase") != phase:
            phase = str(move.get("phase"))
            yield f"{url}: {phase}"
    (told,) = outcome
    if isinstance(told, NoAnswer):
        raise told
    yield f"calls go to {told.get('url')} (generation {told.get('generation')})"
    if told.get("override"):
        yield "until restart: upstream.url of the settings names another URL"
    yield from _leaving(proxy, clock, sleep)


def _leaving(proxy: Proxy, clock: Callable[[], float], sleep: Callable[[float], None]) -> Iterator[str]:
    """Tell how the old URL is left."""
    end = clock() + LEAVING_WITHIN
    before = -1
    while clock() < end:
        left = [old for old in _list(proxy.upstream().get("leaving")) if isinstance(old, dict)]
        if not left:
            yield "the old URL is left"
            return
        active = sum(count for old in left if isinstance(count := old.get("active"), int))
        if active != before:
            before = active
            yield f"{active} calls are still on their way to the old URL"
        sleep(LOOK_EVERY)


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()


def _complain(name: str, text: str, *, code: int) -> int:
    print(f"talon-proxy {name}: {text}", file=sys.stderr)
    return code


def _parser(name: str) -> argparse.ArgumentParser:
    what = {
        "reload": "Let a running proxy read its settings again.",
        "switch": "Point a running proxy at another URL of Talon.One.",
    }
    parser = argparse.ArgumentParser(prog=f"talon-proxy {name}", description=what[name], allow_abbrev=False)
    if name == "switch":
        parser.add_argument("url", metavar="URL", help="such as https://mycompany.us-east4.talon.one")
        parser.add_argument(
            "--force", action="store_true", help="also if it does not answer there, or refuses the keys"
        )
    parser.add_argument("--admin.listen", dest="listen", metavar="ADDRESS", help="of the proxy, if not from settings")
    parser.add_argument("--admin.token_file", dest="token_file", metavar="FILE", help="that holds admin.token")
    parser.add_argument("--config", metavar="FILE", help="where its settings are")
    return parser
