"""What may stand in a configuration → settings, or a list of problems.

The input is variables, one a line without their prefix, an empty line, and a TOML file. Whatever stands there, loading
gives settings or problems and repeats no secret. What settings show can be given again, and means the same.

Names of files are left to tests that make such files: whatever the machine has is none of a fuzzer's business.
"""

import atexit
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from proxy.settings import Loaded, Settings, SettingsError, load, redacted, settings_hash
from proxy.settings.keys import find, variable
from tests.fuzz.target import Target
from tests.given import CANARY, NOW, URL

PREFIX = "TALON_PROXY_"
ALWAYS = {f"{PREFIX}UPSTREAM__URL": URL, f"{PREFIX}CLIENTS__TOKENS": f"{CANARY}=default"}
_FOLDER = tempfile.TemporaryDirectory(prefix="talon-proxy-fuzz-")
atexit.register(_FOLDER.cleanup)
FILE = Path(_FOLDER.name) / "talon-proxy.toml"


def check(data: bytes) -> None:
    """See `target.Target`."""
    head, _, text = data.partition(b"\n\n")
    environ = dict(ALWAYS)
    for line in head.decode("utf-8", "surrogateescape").replace("\0", "").split("\n"):
        name, given, value = line.partition("=")
        if given and not _names_a_file(name):
            environ[PREFIX + name] = value
    if _names_a_file(text.decode("latin-1")):
        text = b""
    with os.fdopen(os.open(FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(text)
    _load(environ)


def _names_a_file(text: str) -> bool:
    # In TOML, letters may be escaped.
    return any(part in text.lower() for part in ("_file", "config", "\\u", "\\x"))


def _load(environ: Mapping[str, str]) -> None:
    try:
        loaded = load(["--config", str(FILE)], environ, now=NOW)
    except SettingsError as error:
        refused = error
    else:
        _judge(loaded)
        return
    assert refused.problems
    assert all(str(told).isprintable() for told in (*refused.problems, *refused.warnings))
    assert CANARY not in f"{refused}{refused!r}"


def _judge(loaded: Loaded) -> None:
    shown = redacted(loaded.settings)
    for text in (*loaded.warnings, repr(loaded), repr(loaded.settings), str(shown)):
        assert CANARY not in text
    assert set(loaded.origins) == set(shown)
    again = _given_again(shown)
    assert redacted(again) == shown
    assert settings_hash(again) == settings_hash(loaded.settings)


def _given_again(shown: Mapping[str, str]) -> Settings:
    """Load what was shown, as variables. What is masked in it, a secret of ours stands for."""
    environ = {}
    for name, value in shown.items():
        key = find(tuple(name.split(".")))
        assert key is not None
        if value:
            # Numbered, since two equal tokens would be one; the egress proxy's has a name before it.
            parts = value.replace("://***", f"://user:{CANARY}").split("***")
            numbered = [part + f"{CANARY}{at}" for at, part in enumerate(parts[:-1])]
            environ[variable(key.path)] = "".join((*numbered, parts[-1])) if key.kind.secret else value
    return load([], environ, now=NOW).settings


TARGET = Target(
    check,
    seeds=[
        b"API_KEY=0123456789abcdef",
        b"LISTEN=127.0.0.1:0,unix:/tmp/x\nLIMITS__BODY=4MiB\n\n",
        b'APPLICATIONS__EU__API_KEY=0123\n\n[applications.default]\napi_key = "0456"\nkind = "testing"\n',
        b'\n\napi_key = "x0123456789"\n[upstream]\nurl = "https://a.talon.one"\n[upstream.timeouts]\ntotal = "5s"\n',
        b'API_KEY=a\n\n[upstream.timeouts.operations]\nsyncCatalog = "1min"\n[lanes]\nshared_profiles = ["a", "b"]\n',
        b'API_KEY=a\nROUTES__EXTRA=["GET /v1/x/{y}"]\nLOG__ACCESS=sample:0.01\nBASE_PATH=/a',
        b'API_KEY=a\n\n[coalescing]\noff = ["getCustomerSession"]\n[limits]\nbody = 1048576\n"fields" = 12\n',
        b"API_KEY=a\nUPSTREAM__PROXY=http://u:pass@egress:3128\nUPSTREAM__ALLOWED_HOSTS=a.*.talon.one\n\n[x.y]\nz = 1",
        b'\n\n[clients]\ntokens = { "0123456789" = "default" }\nhosts = ["a.example"]\n[admin]\ntoken = "t0123456789"',
    ],
    tokens=[
        *(
            b"API_KEY=",
            b"UPSTREAM__URL=",
            b"LIMITS__",
            b"TIMEOUTS__",
            b"LANES__",
            b"CLIENTS__TOKENS=",
            b"ADMIN__TOKEN=",
        ),
        *(
            b"[upstream]\n",
            b"[limits]\n",
            b"[applications.eu]\n",
            b"[[x]]\n",
            b"url = ",
            b'"',
            b'"""',
            b"'''",
            b"= {",
            b"}",
        ),
        *(b"250ms", b"4MiB", b"1h", b"true", b"nan", b"2027-01-01T00:00:00Z", b"https://", b"unix:", b"[::1]:0", b"*"),
        *(b"\xff", b"\0", b"\n\n", b"\x1b[2J", b"__", b".", b"-1", b"9" * 30, b"sample:", b"999999999999h"),
    ],
)
