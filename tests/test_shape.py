"""The shape of the code, as `proxy/__init__.py` tells it: which room may know which, and who may know a library."""

import ast
import json
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from proxy.cli import COMMANDS, USAGE
from tests.process import ROOT, run, variables

PACKAGE = ROOT / "proxy"
ROOMS = ("commands", "observe", "settings", "simulator", "talon", "traffic", "wire")

# Which rooms and modules may be imported by those of a room. Everything points towards messages and errors.
NOUNS = frozenset({"messages", "errors"})
KNOWS: Mapping[str, frozenset[str]] = {
    "messages": frozenset(),
    "errors": frozenset({"messages"}),
    "secret": frozenset(),
    "sockets": frozenset(),
    "wire": NOUNS,
    "talon": NOUNS,
    "observe": NOUNS,
    "settings": frozenset({"secret", "talon"}),
    "simulator": frozenset(),
    "callers": NOUNS,
    "credentials": NOUNS | {"secret", "talon"},
    "fields": NOUNS | {"wire"},
    "keyset": NOUNS | {"credentials", "secret", "talon"},
    "upstream": NOUNS | {"keyset", "settings", "wire"},
    "traffic": NOUNS | {"credentials", "keyset", "talon", "upstream", "wire"},
    "reception": NOUNS | {"callers", "credentials", "fields", "talon"},
    "pipeline": NOUNS | {"callers", "credentials", "fields", "reception", "talon", "traffic", "upstream", "wire"},
    "report": frozenset({"observe", "traffic"}),
    "target": frozenset({"keyset", "secret", "settings"}),
    "verification": NOUNS | {"keyset", "settings", "upstream", "wire"},
    "switching": frozenset({"settings", "target", "upstream", "verification"}),
    "planned": frozenset({"settings", "switching", "target", "traffic", "upstream", "verification"}),
    "watching": frozenset(),
    "reloading": frozenset({"settings", "switching", "verification", "watching"}),
    "overview": frozenset(
        {"keyset", "observe", "planned", "reloading", "settings", "switching", "target", "traffic", "upstream"}
    ),
    "bulletin": frozenset({"observe", "overview", "pipeline", "report", "wire"}),
    "checking": NOUNS | {"credentials", "observe", "settings", "talon"},
    "assembly": NOUNS
    | {"callers", "credentials", "fields", "keyset", "pipeline", "settings", "talon", "target", "traffic", "upstream"}
    | {"descriptors", "wire"},
    "app": NOUNS
    | {"assembly", "bulletin", "checking", "fields", "keyset", "observe", "overview", "pipeline", "planned"}
    | {"reloading", "report", "secret", "settings", "switching", "talon", "target", "traffic", "upstream"}
    | {"verification", "wire"},
    "commands": NOUNS
    | {"app", "assembly", "credentials", "fields", "observe", "pipeline", "reception", "secret", "settings"}
    | {"simulator", "sockets", "talon", "traffic", "wire"}
    | {"descriptors", "privacy"},
    "descriptors": frozenset(),
    "privacy": frozenset(),
    "cli": frozenset({"commands", "settings", "simulator"}),
    "__main__": frozenset({"cli"}),
    "__init__": frozenset(),
}
# Where a library may be imported: rooms, or single modules of one.
LIBRARIES: Mapping[str, frozenset[str]] = {
    "aiohappyeyeballs": frozenset({"wire.egress"}),
    "aiohttp": frozenset({"observe.admin", "simulator"}),
    "hjson": frozenset({"settings.compat"}),
    "httptools": frozenset({"wire"}),
    "msgspec": frozenset({"talon.bodies", "talon.checklist.records"}),
    "orjson": frozenset({"talon.keys", "talon.checklist.facts", "errors", "observe", "simulator"}),
    "jh2": frozenset({"wire.hpack"}),
    "opentelemetry": frozenset({"observe.tracing"}),
    "prometheus_client": frozenset({"observe"}),
    "pydantic": frozenset({"settings", "simulator"}),
    "pydantic_core": frozenset({"settings", "simulator.rulebook_file"}),
    "pydantic_settings": frozenset({"settings.variables"}),
    "uvloop": frozenset({"commands.demo", "commands.doctor", "commands.serve", "simulator.command"}),
}
# Stamps of logs and spans, `Date`, expiry dates, the moment of a planned switch (which looks again and again).
WALL_CLOCK = frozenset(
    {"app", "checking", "commands.doctor", "observe.logs", "observe.tracing", "settings.loading", "wire.rendering"}
)
# What other commands need, or what only a careless import brings in.
NOT_TO_SERVE = {
    "aiohttp.pytest_plugin",
    "aiohttp.test_utils",
    "cryptography",
    "hjson",
    "proxy.settings.document",
    "proxy.observe.document",
}
NOT_TO_SERVE |= {"opentelemetry", "proxy.observe.tracing", "requests"}
NOT_TO_SERVE |= {"multiprocessing", "sqlite3", "unittest", "xml", "prometheus_client.multiprocess"}
REVEALS = frozenset({"app", "assembly", "commands", "credentials", "keyset", "secret", "settings"})

MODULES = sorted(".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py"))


@cache
def tree(module: str) -> ast.Module:
    return ast.parse((PACKAGE / Path(*module.split("."))).with_suffix(".py").read_text())


def imported(module: str) -> Iterator[str]:
    """Give what a module imports, wherever in it, by full name."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            assert node.module is not None
            # `from proxy import fields` names a module, `from proxy.errors import ProxyError` what is in one.
            yield from (f"proxy.{alias.name}" for alias in node.names) if node.module == "proxy" else (node.module,)


def room(module: str) -> str:
    """Give the room, or the module where it stands in none."""
    return module.partition(".")[0]


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    allowed = KNOWS[room(module)] | ({room(module)} if room(module) in ROOMS else set())
    ours = [name.removeprefix("proxy.") for name in imported(module) if name.startswith("proxy.")]

    strangers = {name for name in ours if room(name) not in allowed and not name.startswith("__")}

    assert strangers == set(), f"proxy.{module} may not know {', '.join(sorted(strangers))}"


def test_nobody_knows_each_other_in_a_circle() -> None:
    """What is allowed above holds no circle, so that there is an order in which to read the rooms."""
    done: set[str] = set()
    while ready := [name for name, known in KNOWS.items() if name not in done and known <= done]:
        done.update(ready)

    assert done == set(KNOWS)


@pytest.mark.parametrize("module", MODULES)
def test_a_library_is_known_in_one_place(module: str) -> None:
    for name in imported(module):
        library = name.partition(".")[0]
        if library == "proxy" or library in sys.stdlib_module_names:
            continue
        assert library in LIBRARIES, f"proxy.{module} imports {library}, which nobody does so far"
        assert {module, room(module)} & LIBRARIES[library], f"proxy.{module} may not know {library}"


@pytest.mark.parametrize("module", MODULES)
def test_p8_the_wall_clock_is_looked_at_for_stamps_and_dates_only(module: str) -> None:
    """It may be set at any moment: no time-out, back-off or age may go by it."""
    looks = {
        ast.unparse(node)
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("time.time", "time.time_ns", "datetime.now")
    }

    assert not looks or module in WALL_CLOCK or room(module) == "simulator"


@pytest.mark.parametrize("module", MODULES)
def test_secrets_are_revealed_in_few_places(module: str) -> None:
    reveals = any(isinstance(node, ast.Attribute) and node.attr == "reveal" for node in ast.walk(tree(module)))

    assert not reveals or room(module) in REVEALS


@pytest.mark.parametrize("module", MODULES)
def test_no_tuple_of_floats_is_final(module: str) -> None:
    """Compiled, it is taken for one that was never set by mypyc 2.4, and whoever reads it gets a NameError."""
    finals = [
        ast.unparse(node)
        for node in ast.walk(tree(module))
        if isinstance(node, ast.AnnAssign)
        and "Final" in ast.unparse(node.annotation)
        and isinstance(node.value, ast.Tuple)
        if any(isinstance(part, ast.Constant) and isinstance(part.value, float) for part in node.value.elts)
    ]

    assert finals == []


@pytest.mark.parametrize("quarter", range(4))
async def test_each_module_can_be_imported_alone(quarter: int) -> None:
    """One process for a quarter of them: what is ours is forgotten before each, the libraries stay."""
    program = """
import importlib, json, sys, traceback
failed = {}
for name in json.loads(sys.argv[1]):
    for known in [known for known in sys.modules if known.partition(".")[0] == "proxy"]:
        del sys.modules[known]
    try:
        importlib.import_module(name)
    except BaseException:
        failed[name] = traceback.format_exc()
print(json.dumps(failed))
"""
    names = [f"proxy.{module}".removesuffix(".__init__") for module in MODULES[quarter::4] if module != "__main__"]

    ended = await run(sys.executable, "-W", "error", "-c", program, json.dumps(names))

    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out) == {}


async def test_small_commands_cost_little() -> None:
    """`version` and help run often: they must not load what only `serve` needs. Probes: tests/test_probe.py."""
    program = """
import sys
from proxy.cli import main
main(["version"])
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""

    ended = await run(sys.executable, "-c", program)

    assert (ended.code, ended.err) == (0, "")
    assert not set(ended.out.split()) & set(LIBRARIES)


async def test_serve_starts_with_what_it_needs_and_nothing_else(tmp_path: Path) -> None:
    """From exec to ready half a second: of that nearly all is imports."""
    program = """
import gc, json, os, signal, sys
from proxy.app import App
start = App.start
async def ready(self, **options):
    collecting = gc.isenabled()
    await start(self, **options)
    print(json.dumps([sorted(sys.modules), collecting, gc.isenabled()]), file=sys.stderr)
    os.kill(os.getpid(), signal.SIGTERM)
App.start = ready
from proxy.cli import main
sys.exit(main(["serve"]))
"""
    settings = {
        "upstream__url": "https://127.0.0.1:9",
        "api_key": "k",
        "listen": "127.0.0.1:0",
        "admin__listen": f"unix:{tmp_path / 'admin'}",
        "shutdown__quiet": "0ms",
    }

    ended = await run(sys.executable, "-c", program, env=variables(settings))

    assert ended.code == 0
    loaded, collecting, collects = json.loads(ended.err)
    assert {name for name in loaded if name.startswith(("proxy.commands.", "proxy.simulator"))} == {
        "proxy.commands.serve"
    }
    assert not set(loaded) & NOT_TO_SERVE
    assert (collecting, collects) == (False, True), "looking for cycles waits until it serves, and is not forgotten"


def test_the_readme_has_every_command_in_one_line() -> None:
    """So has the help."""
    readme = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| `talon-proxy ([a-z]+)[^`]*` \| \S.* \|$", readme, re.MULTILINE)
    helped = re.findall(r"^  ([a-z]+) +\S", USAGE, re.MULTILINE)

    assert rows == helped == list(COMMANDS)


def test_the_texts_of_errors_that_the_readme_quotes_are_those_of_the_code() -> None:
    table = (ROOT / "README.md").read_text().split("What one meets first", 1)[1].split("\n\n")[1]
    quoted = re.findall(r"^\| [^|]*?`([^`]*)` \|", table, re.MULTILINE)
    source = "".join(path.read_text() for path in PACKAGE.rglob("*.py"))

    assert len(quoted) == 6
    assert [text for text in quoted if text.removesuffix(" …") not in source] == []
