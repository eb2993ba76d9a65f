"""`talon-proxy`: the commands. Exit codes: 0, 1 it failed while running, 2 usage or settings.

Each command imports what it needs itself, so that a small one costs little.
"""

import os
import sys
from collections.abc import Callable, Sequence

from proxy import __version__

USAGE = """\
usage: talon-proxy COMMAND [--KEY VALUE …]

  serve      serve callers: talon-proxy serve --upstream.url https://mycompany.europe-west1.talon.one
  demo       a simulated Talon.One, the proxy in front of it and a few calls, explained; --stay keeps both running
  simulate   a simulated Talon.One to develop and test against: talon-proxy simulate --help
  config     whether the settings are right, what they are and where each came from: talon-proxy config --help
  version    print the version

Settings come from flags, TALON_PROXY_… variables and a file (--config FILE); config/README.md lists them.
--compat talon-access-proxy takes over what that proxy was told by its APP_CONFIG, PORT, ADDRESS and APP_ROOT.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; gives the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if command in {"help", "--help", "-h"}:
        print(USAGE, end="")
        return 0
    if command in {"version", "--version"}:
        print(f"talon-proxy {__version__}")
        return 0
    run = _COMMANDS.get(command)
    if run is None:
        print(USAGE, end="", file=sys.stderr)
        return 2
    try:
        return run(rest)
    except KeyboardInterrupt:
        return 130


def _serve(flags: Sequence[str]) -> int:
    from proxy.serve import main as serve

    return serve(flags, os.environ)


def _simulate(flags: Sequence[str]) -> int:
    from proxy.simulator.command import main as simulate

    return simulate(flags)


def _demo(flags: Sequence[str]) -> int:
    from proxy.demo import main as demo

    return demo(flags, os.environ)


def _config(arguments: Sequence[str]) -> int:
    from proxy.settings.command import main as config

    return config(arguments, os.environ)


_COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "config": _config,
    "demo": _demo,
    "serve": _serve,
    "simulate": _simulate,
}
