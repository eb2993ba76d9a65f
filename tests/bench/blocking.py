"""How long a scrape keeps the loop from everything else: `python -m tests.bench.blocking`, on the parts of a real App.

Its metrics are those of the worst shop: every operation, every status, errors of our own. Something that is due in
every turn of the loop looks at the clock while `/metrics` is rendered; the longest time between two looks is what a
call may meet. The clock is the thread's CPU time, because whatever else the machine does is no part of a scrape.
Prints JSON: seconds, for every scrape the longest; and how many samples the text has.
"""

import asyncio
import json
import time

import uvloop

from proxy.app import App, _calm_collector
from proxy.errors import CallTimeout, Draining, NotFound, to_reply
from proxy.messages import Call, Fields, Reply, Sent, Source, Timeline
from proxy.observe.logs import Logs
from proxy.observe.metrics import Metrics
from proxy.secret import Redactor
from proxy.settings import load
from proxy.talon.operations import OPERATIONS

SCRAPES = 20
STATUSES = (200, 201, 204, 400, 401, 403, 404, 409, 422, 429, 500, 502, 503, 504)
ENVIRON = {"TALON_PROXY_UPSTREAM__URL": "http://127.0.0.1:9", "TALON_PROXY_API_KEY": "cafe" * 16}


async def measure() -> dict[str, object]:
    """Fill the metrics, and scrape them."""
    redactor = Redactor(())
    logs = Logs(level="error", format="json", redact=redactor.redact)
    metrics = App(load((), ENVIRON), logs, redactor=redactor)._metrics
    fill(metrics)
    _calm_collector()
    longest = [await _longest(metrics) for _ in range(SCRAPES)]
    text, _ = await metrics.scrape(None)
    samples = sum(not line.startswith(b"#") for line in text.splitlines())
    return {"longest": longest, "samples": samples}


def fill(metrics: Metrics) -> None:
    """End a call of every kind."""
    for operation in OPERATIONS:
        for status in STATUSES:
            reply = Reply(status, b"", b"", source=Source.UPSTREAM, length=0)
            metrics.finished(_call(operation.name), reply, whole=True)
        for error in (CallTimeout("", sent=Sent.MAYBE), Draining(""), NotFound("")):
            failed = _call(operation.name)
            failed.error = error.category.value
            metrics.finished(failed, to_reply(error), whole=True)


def _call(operation: str) -> Call:
    timeline = Timeline(100.0, 100.002)
    timeline.tries = 1
    timeline.sent, timeline.first_byte, timeline.answered, timeline.upstream = 100.003, 100.043, 100.05, 0.047
    timeline.ready, timeline.written = 100.051, 100.057
    call = Call(b"PUT", b"/v2/customer_sessions/s", Fields(b"", []), b"{}", timeline)
    call.operation, call.application = operation, "default"
    return call


async def _longest(metrics: Metrics) -> float:
    """Scrape once; gives the longest time between two turns of the loop, in seconds."""
    scraping = asyncio.ensure_future(metrics.scrape(None))
    longest, looked = 0.0, time.thread_time()
    while not scraping.done():
        await asyncio.sleep(0)
        now = time.thread_time()
        longest, looked = max(longest, now - looked), now
    await scraping
    return longest


if __name__ == "__main__":
    print(json.dumps(uvloop.run(measure())))
