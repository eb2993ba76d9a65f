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
  demo       a simulated Talon.One, the proxy in front of it and a shop's calls, measured; --stay keeps both running
  simulate   a simulated Talon.One to develop and test against: talon-proxy simulate --help
  config     whether the settings are right, what they are and where each came from: talon-proxy config --help
  explain    what would become of a call, without sending it: explain METHOD PATH [--body FILE] [--header LINE]
  doctor     is the way to Talon.One as it should be: name, TLS, speed, keys, address; --compare URL before a move
  status     what a running proxy does; --watch follows it, --json prints it for programs
  checklist  what Talon.One's integration checklist finds in a shop's calls; --fail-on warning gates a build
  switch     point a running proxy at another URL of Talon.One: switch URL
  reload     let a running proxy read its settings again
  health     exec probe: can the proxy answer at all? --wait 30s asks until it can
  ready      exec probe: may callers be sent to it? --wait 30s asks until they may
  hash       an id as logs show it: hash ID
  version    print the version
  help       print this

Settings come from flags, TALON_PROXY_… variables and a file (--config FILE); config/README.md lists them.
--compat talon-access-proxy takes over what that proxy was told by its APP_CONFIG, PORT, ADDRESS and APP_ROOT.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; gives the exit code."""
    _occupy_standard_descriptors()
    arguments = sys.argv[1:] if arguments is None else arguments
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    run = COMMANDS.get(_SPELLINGS.get(command, command))
    if run is None:
        print(USAGE, end="", file=sys.stderr)
        return 2
    try:
        return run(rest)
    except KeyboardInterrupt:
        return 130


def _occupy_standard_descriptors() -> None:
    """Open what was closed: else a socket gets its number, and with it the log, or what some library prints."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Gets the lowest number that is free, which is this one.
            os.open(os.devnull, os.O_RDWR)


def _serve(flags: Sequence[str]) -> int:
    import gc
    import signal

    # What comes while it starts waits for `App.run`: it would end a process that reads its settings, and process 1 of a
    # container would never hear of it.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    # Until it serves (`App.start`): looking for cycles among what imports make is a fifth of the start.
    gc.disable()
    from proxy.commands.serve import main as serve

    return serve(flags, os.environ)


def _simulate(flags: Sequence[str]) -> int:
    from proxy.simulator.command import main as simulate

    return simulate(flags)


def _demo(flags: Sequence[str]) -> int:
    from proxy.commands.demo import main as demo

    return demo(flags, os.environ)


def _config(arguments: Sequence[str]) -> int:
    from proxy.settings.command import main as config

    return config(arguments, os.environ)


def _explain(arguments: Sequence[str]) -> int:
    from proxy.commands.explain import main as explain

    return explain(arguments, os.environ)


def _doctor(arguments: Sequence[str]) -> int:
    from proxy.commands.doctor import main as doctor

    return doctor(arguments, os.environ)


def _status(arguments: Sequence[str]) -> int:
    from proxy.commands.status import main as status

    return status(arguments, os.environ)


def _checklist(arguments: Sequence[str]) -> int:
    from proxy.commands.checklist import main as checklist

    return checklist(arguments, os.environ)


def _switch(arguments: Sequence[str]) -> int:
    from proxy.commands.changes import main as change

    return change("switch", arguments, os.environ)


def _reload(arguments: Sequence[str]) -> int:
    from proxy.commands.changes import main as change

    return change("reload", arguments, os.environ)


def _health(arguments: Sequence[str]) -> int:
    from proxy.commands.probe import main as probe

    return probe("health", arguments, os.environ)


def _ready(arguments: Sequence[str]) -> int:
    from proxy.commands.probe import main as probe

    return probe("ready", arguments, os.environ)


def _hash(arguments: Sequence[str]) -> int:
    from proxy.commands.hash import main as hash_id

    return hash_id(arguments, os.environ)


def _version(_: Sequence[str]) -> int:
    print(f"talon-proxy {__version__}")
    return 0


def _help(_: Sequence[str]) -> int:
    print(USAGE, end="")
    return 0


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "serve": _serve,
    "demo": _demo,
    "simulate": _simulate,
    "config": _config,
    "explain": _explain,
    "doctor": _doctor,
    "status": _status,
    "checklist": _checklist,
    "switch": _switch,
    "reload": _reload,
    "health": _health,
    "ready": _ready,
    "hash": _hash,
    "version": _version,
    "help": _help,
}
_SPELLINGS = {"--version": "version", "--help": "help", "-h": "help"}
