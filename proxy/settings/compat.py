"""Compatibility: the settings of talon-access-proxy, Talon.One's archived proxy, taken for ours.

Read only where `--compat talon-access-proxy` asks for it, because `PORT` and `ADDRESS` are often an application's own.
What it had and this proxy has not is a problem where calls would fail without it, else a warning. Values are never
repeated.
"""

from collections.abc import Mapping
from pathlib import Path

import hjson

from proxy.settings.problems import Problem
from proxy.settings.sources import Given, Layer

PROGRAM = "talon-access-proxy"
FILE = "config.json"
# Each the first that is set.
ADDRESS = ("ADDRESS", "APP_ADDRESS")
PORT = ("PORT", "APP_PORT", "HTTP_PLATFORM_PORT", "ASPNETCORE_PORT")
ROOT = ("APP_ROOT",)
EVERYWHERE = "0.0.0.0"  # noqa: S104 - what an address without a host stood for, less IPv6
EGRESS = ("HTTPS_PROXY", "https_proxy")
KNOWN = ("address", "root", "talonapi", "dnsserver", "maxconnections", "application")
REPLACED = "is of a kind that Talon.One has replaced: make an Integration API key, set api_key_file, and remove this"

# One object of the file: keys in lower case, for their case did not matter, with the place of each.
Instance = Mapping[str, Given]


def read_compat(program: str, environ: Mapping[str, str], problems: list[Problem], warnings: list[Problem]) -> Layer:
    """Give the settings of another program as a layer; talon-access-proxy is the only one that is known."""
    if program != PROGRAM:
        problems.append(Problem(f"knows only {PROGRAM}", source="--compat"))
        return {}
    reading = _Reading(environ, problems, warnings)
    instances = reading.instances() or [{}]
    reading.tell_what_is_gone(instances)
    # It passed on what callers sent, and added no key of today's kind.
    layer = {("clients", "inject"): Given("when_missing", f"--compat {PROGRAM}")}
    return layer | reading.listen(instances) | reading.upstream(instances) | reading.rest(instances)


class _Reading:
    """One look at its file and its variables."""

    def __init__(self, environ: Mapping[str, str], problems: list[Problem], warnings: list[Problem]) -> None:
        self._environ = environ
        self._problems = problems
        self._warnings = warnings

    def instances(self) -> list[Instance]:
        """Read the file: one object, or a list of them."""
        named = self._environ.get("APP_CONFIG")
        file = Path(named or FILE)
        if not named and not file.exists():
            return []
        content: object = None
        try:
            content = hjson.loads(file.read_bytes().decode("utf-8-sig"))
        except OSError as exc:
            self._problem(str(file), f"cannot be read: {exc.strerror}")
            return []
        except hjson.HjsonDecodeError as exc:
            self._problem(str(file), f"is not valid Hjson (line {exc.lineno})")
            return []
        except (ValueError, LookupError, ArithmeticError, RecursionError):
            # Not UTF-8 or nested too deep; the library also trips over numbers too large and comments without an end.
            self._problem(str(file), "is not Hjson in UTF-8")
            return []
        objects = content if isinstance(content, list) else [content]
        if not all(isinstance(entry, Mapping) for entry in objects):
            self._problem(str(file), "must be an object or a list of objects")
            return []
        places = [f"{file} entry {number}" if len(objects) > 1 else str(file) for number in range(1, len(objects) + 1)]
        return [
            {name.lower(): Given(value, f"{place} ({name})") for name, value in entry.items()}
            for place, entry in zip(places, objects, strict=True)
        ]

    def listen(self, instances: list[Instance]) -> Layer:
        """Join the addresses of all entries; a variable named one for all, a port served entries without address."""
        address, port = self._variable(ADDRESS), self._variable(PORT)
        if port is not None:
            port = Given(f":{port.value}", port.source)
        given = [address or instance.get("address") or port for instance in instances]
        named = list({str(each.value): each for each in given if each is not None}.values())
        if not named:
            return {}
        addresses = [f"{EVERYWHERE}{each.value}" if str(each.value)[:1] == ":" else each.value for each in named]
        return {("listen",): Given(addresses, named[0].source)}

    def upstream(self, instances: list[Instance]) -> Layer:
        """Take the URL, less the path that was never used, and the number of connections."""
        layer: Layer = {}
        url = self._agreed("talonapi", instances)
        if url is not None:
            value = url.value
            if isinstance(value, str) and value.startswith(("http://", "https://")) and "?" not in value:
                scheme, _, rest = value.partition("://")
                authority, _, path = rest.partition("/")
                if path.strip("/"):
                    self._warn(url.source, "has a path, which was never used and is left out")
                    value = f"{scheme}://{authority}"
            layer["upstream", "url"] = Given(value, url.source)
        most = self._agreed("maxconnections", instances)
        if most is not None and isinstance(most.value, int) and most.value < 1:
            self._warn(most.source, "set no limit; the default of upstream.connections.max holds")
        elif most is not None:
            layer["upstream", "connections", "max"] = most
            if most.value == 1:
                layer["upstream", "connections", "warm"] = most
        return layer

    def rest(self, instances: list[Instance]) -> Layer:
        """Take the root path and the debug switch."""
        layer: Layer = {}
        root = self._variable(ROOT) or self._agreed("root", instances)
        if root is not None:
            path = "/" + root.value.strip("/") if isinstance(root.value, str) else root.value
            layer["base_path",] = Given(path, root.source)
        debug = self._environ.get("DEBUG", "")
        if debug.isascii() and debug.isdigit() and debug.strip("0"):
            layer["log", "level"] = Given("debug", "DEBUG")
        return layer

    def tell_what_is_gone(self, instances: list[Instance]) -> None:
        """Complain about what cannot be taken over."""
        for instance in instances:
            for name, given in instance.items():
                if name == "dnsserver":
                    self._warn(given.source, "is not used: names are looked up as this machine does")
                elif name not in KNOWN:
                    self._warn(given.source, "is an unknown key, and ignored as it was before")
            if "application" in instance:
                self._applications(instance["application"])
        for name in EGRESS:
            if self._environ.get(name):
                self._warn(name, "is not read: set upstream.proxy to go through it")

    def _applications(self, given: Given) -> None:
        """Refuse its signatures and tokens; a key beside them did nothing."""
        entries = given.value.items() if isinstance(given.value, Mapping) else ()
        if not isinstance(given.value, Mapping) or not all(isinstance(entry, Mapping) for _, entry in entries):
            self._problem(given.source, "must be an object of objects")
            return
        for number, entry in entries:
            keys = {name.lower(): (name, value) for name, value in entry.items()}
            signs = keys.get("calculatehmac", ("", False))[1] is True
            for key, (name, value) in keys.items():
                source = f"{given.source.removesuffix(')')}.{number}.{name})"
                if (key == "calculatehmac" and signs) or (key == "applicationtoken" and value):
                    self._problem(source, REPLACED)
                elif key == "applicationkey" and not signs:
                    self._warn(source, "is not used: it signed calls, and API keys have replaced signatures")

    def _variable(self, names: tuple[str, ...]) -> Given | None:
        return next((Given(self._environ[name], name) for name in names if self._environ.get(name)), None)

    def _agreed(self, name: str, instances: list[Instance]) -> Given | None:
        """Give what all entries say: one proxy has one of it."""
        given = [instance[name] for instance in instances if name in instance]
        if len({repr(each.value) for each in given}) > 1:
            self._problem(given[-1].source, "is not the same for all entries: run one talon-proxy for each")
        return given[0] if given else None

    def _problem(self, source: str, message: str) -> None:
        self._problems.append(Problem(message, source=source))

    def _warn(self, source: str, message: str) -> None:
        self._warnings.append(Problem(message, source=source))
