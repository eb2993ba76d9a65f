"""`talon-proxy serve`: settings → App → exit code."""

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import uvloop

from proxy import __version__, descriptors, privacy
from proxy.app import App, CannotListen
from proxy.observe import otel
from proxy.observe.logs import Logs
from proxy.secret import Redactor
from proxy.settings import Loaded, SettingsError, load, secrets
from proxy.settings.options import asked_for, options
from proxy.sockets import owner
from proxy.talon.operations import OPERATIONS

if TYPE_CHECKING:
    from proxy.observe.tracing import Tracing

THREADS_WITHIN = 3.0  # seconds that threads have to end after all else has


def main(flags: Sequence[str], environ: Mapping[str, str]) -> int:
    """Serve until told to stop. 0 all calls answered, 1 an address taken or calls cut off, 2 wrong settings."""
    if asked_for(flags):
        print(options("serve [--KEY VALUE …]"), end="")
        return 0
    privacy.keep()
    try:
        loaded = load(flags, environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    settings = loaded.settings
    redactor = Redactor(secrets(settings))
    logs = Logs(level=settings.log.level, format=settings.log.format, redact=redactor.redact)
    logs.start()
    too_few = descriptors.allow(settings.limits.connections, settings.upstream.connections.max)
    for warning in (*loaded.warnings, *([too_few] if too_few else ())):
        logs.write("warning", warning, {})
    tracing = _tracing(environ, logs)
    try:
        return uvloop.run(_run(loaded, logs, redactor, lambda: load(flags, environ), tracing))
    except OSError as error:
        print(f"talon-proxy: {_explain(error)}", file=sys.stderr)
        return 1
    finally:
        # How it ended is decided; a signal more must not change that while the log is written to its end.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if tracing is not None:
            tracing.close(1.0)
        logs.stop(1.0)


def _tracing(environ: Mapping[str, str], logs: Logs) -> "Tracing | None":
    """Trace, where variables of OpenTelemetry ask for it. What cannot be had keeps nobody from serving."""
    try:
        if not otel.wanted(environ):
            return None
        # Here, and not above: it takes longer to load than all the rest.
        from proxy.observe import tracing
    except otel.Unsupported as reason:
        logs.write("warning", str(reason), {})
        return None
    except ImportError:
        logs.write("warning", otel.MISSING, {})
        return None
    return tracing.exporting(
        version=__version__, templates={operation.name: operation.template for operation in OPERATIONS}
    )


async def _run(
    loaded: Loaded, logs: Logs, redactor: Redactor, again: Callable[[], Loaded], tracing: "Tracing | None"
) -> int:
    # Addresses that nobody asked for must not keep it from starting.
    ipv6_optional = loaded.origins["listen"] == "default"
    code = await App(loaded, logs, redactor=redactor, load=again, tracing=tracing).run(ipv6_optional=ipv6_optional)
    # Python waits for its threads. One that reads settings may hang, as its file system or a pipe does, and everybody
    # has been answered.
    at_last = threading.Timer(THREADS_WITHIN, os._exit, (code,))
    at_last.daemon = True
    at_last.start()
    return code


def _explain(error: OSError) -> str:
    """Say why it could not start, in one line."""
    if isinstance(error, CannotListen) and error.errno == errno.EADDRINUSE and error.port:
        taken_by = owner(error.port)
        if taken_by:
            return f"cannot listen on {error.address}: the port is in use by {taken_by}"
    return str(error)
