"""What admission costs beside very many others: `python -m tests.bench.crowd live 100000`, in one process, no socket.

`live`: so many sessions have an update under way that is not answered. `remembered`: the profile of so many is known.
Calls go the whole way from a complete request to its answer (fields, routes, keys, lanes, memory, gates, attempts) past
a fake upstream that answers when told; each is of a session and a profile of its own. Two cores cannot hold a hundred
thousand calls in flight through sockets, so this is measured here; from source, since compiled modules take no fakes:
only the growth counts. Prints JSON: seconds per call, the median of batches.
"""

import gc
import json
import statistics
import sys
import time

import orjson

from tests.traffic_rig import Shop, open_shop

BATCH, BATCHES = 1_000, 9
LIMIT = 10_000_000  # calls at a time, sessions remembered: none is refused, none is forgotten


def crowded(kind: str, count: int) -> float:
    """Make the crowd, then measure calls beside it; seconds per call."""
    shop = open_shop(memory=LIMIT, concurrency=LIMIT)
    for number in range(count):
        _submit(shop, f"crowd-{number}")
        if kind == "remembered":
            shop.upstream.answer()
    shop.sent.clear()
    gc.collect()
    gc.freeze()
    gc.disable()
    return statistics.median(_batch(shop, batch) for batch in range(BATCHES))


def _batch(shop: Shop, batch: int) -> float:
    names = [f"one-{batch}-{number}" for number in range(BATCH)]
    began = time.thread_time()
    for name in names:
        _submit(shop, name)
        shop.upstream.answer()
    took = time.thread_time() - began
    shop.sent.clear()
    shop.witness.ended.clear()
    return took / BATCH


def _submit(shop: Shop, name: str) -> None:
    body = orjson.dumps({"customerSession": {"profileId": f"of-{name}", "state": "open"}})
    shop.submit(b"PUT", b"/v2/customer_sessions/%b" % name.encode(), body)


if __name__ == "__main__":
    print(json.dumps(crowded(sys.argv[1], int(sys.argv[2]))))
