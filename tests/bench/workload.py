"""The load: customer session updates by wrk over 32 keep-alive connections, session and profile ids varying.

One call is `PUT /v2/customer_sessions/{id}` with a body of 1,500 bytes and an answer of 3,500. Ids repeat
after 4,096 calls, so that no two calls in flight concern the same session or profile.
"""

import http.client
import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench.servers import BenchError, Server, pinned

CONNECTIONS = 32
IDS = 4096
PATH = "/v2/customer_sessions/session-@ID@"
# As wide as the number that replaces it, so that every body has the same size.
ID_MARK = "@ID@"


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk counted in one run."""

    calls: int
    seconds: float
    bad_statuses: int
    connect_errors: int
    read_errors: int
    write_errors: int
    timeouts: int

    @property
    def problem(self) -> str:
        """Why this run does not count, or nothing."""
        counts = {
            "non-2xx": self.bad_statuses,
            "connect errors": self.connect_errors,
            "read errors": self.read_errors,
            "write errors": self.write_errors,
            "time-outs": self.timeouts,
        }
        problems = [f"{count} {name}" for name, count in counts.items() if count]
        return ", ".join(problems if self.calls else ["no calls", *problems])


def run_wrk(directory: Path, port: int, *, seconds: int, cpu: int | None) -> Load:
    """Load a contender for so many seconds."""
    script = directory / "load.lua"
    script.write_text(lua_script())
    wrk = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(script), f"http://127.0.0.1:{port}"]
    try:
        done = subprocess.run(pinned(wrk, cpu), capture_output=True, text=True, timeout=seconds + 30, check=False)
    except subprocess.TimeoutExpired as exc:
        raise BenchError(f"wrk did not end within {seconds + 30} s") from exc
    return parse_wrk(done.stdout + done.stderr)


def check_call(server: Server, port: int) -> None:
    """Raise BenchError unless one call brings back the origin's answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        path, body = (text.replace(ID_MARK, "0000") for text in (PATH, request_body()))
        connection.request("PUT", path, body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        answer = reply.read().decode()
    except (OSError, http.client.HTTPException) as exc:
        raise BenchError(f"{server.name} did not answer a call: {exc!r}\n{server.tail()}") from exc
    finally:
        connection.close()
    if reply.status != 200 or answer != reply_body():
        raise BenchError(f"{server.name} answered {reply.status}: {answer[:200]}\n{server.tail()}")


def parse_wrk(output: str) -> Load:
    """Read the line that our script's `done` prints."""
    line = re.search(r"^bench: (.*)$", output, re.MULTILINE)
    if line is None:
        raise BenchError(f"wrk gave no result:\n{output.strip() or '(it printed nothing)'}")
    counts = {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", line[1])}
    return Load(
        calls=counts["calls"],
        seconds=counts["microseconds"] / 1e6,
        bad_statuses=counts["status"],
        connect_errors=counts["connect"],
        read_errors=counts["read"],
        write_errors=counts["write"],
        timeouts=counts["timeout"],
    )


def lua_script() -> str:
    """wrk's script: all requests are made beforehand, then sent in turn."""
    return f"""\
local requests = {{}}
local next = 0

function init()
  local headers = {{ ["Content-Type"] = "application/json", ["Accept"] = "application/json" }}
  for i = 1, {IDS} do
    local id = string.format("%0{len(ID_MARK)}d", i)
    local path = string.gsub("{PATH}", "{ID_MARK}", id)
    local body = string.gsub([==[{request_body()}]==], "{ID_MARK}", id)
    requests[i] = wrk.format("PUT", path, headers, body)
  end
end

function request()
  next = next % {IDS} + 1
  return requests[next]
end

function done(summary)
  local errors = summary.errors
  io.write(string.format(
    "bench: calls=%.0f microseconds=%.0f status=%.0f connect=%.0f read=%.0f write=%.0f timeout=%.0f\\n",
    summary.requests, summary.duration,
    errors.status, errors.connect, errors.read, errors.write, errors.timeout))
end
"""


def request_body(size: int = 1500) -> str:
    """A customer session as a shop sends it, marked where the id goes."""
    session = {
        "customerSession": {
            "profileId": f"customer-{ID_MARK}",
            "state": "open",
            "couponCodes": ["WELCOME10"],
            "cartItems": [
                {
                    "name": f"Article {position}",
                    "sku": f"SKU-{position:05d}",
                    "quantity": position,
                    "price": 19.99 + position,
                    "category": "shoes",
                    "attributes": {"colour": "black", "size": "42", "brand": "Example"},
                }
                for position in range(1, 8)
            ],
            "attributes": {"ShippingCity": "Berlin", "PaymentMethod": "invoice"},
        },
        "responseContent": ["customerSession", "customerProfile"],
    }
    return _padded(session, size)


def reply_body(size: int = 3500) -> str:
    """An answer of the Integration API's shape."""
    answer = {
        "customerSession": {
            "id": 6667,
            "created": "2024-03-01T09:00:00Z",
            "integrationId": "session",
            "applicationId": 1,
            "profileId": "customer",
            "state": "open",
            "total": 167.93,
            "cartItems": [
                {
                    "name": f"Article {position}",
                    "sku": f"SKU-{position:05d}",
                    "quantity": position,
                    "price": 19.99 + position,
                    "category": "shoes",
                    "attributes": {"colour": "black", "size": "42", "brand": "Example"},
                }
                for position in range(1, 8)
            ],
        },
        "effects": [
            {
                "campaignId": 244,
                "rulesetId": 73,
                "ruleIndex": index,
                "ruleName": "Ten per cent off for new customers",
                "effectType": "setDiscount",
                "triggeredByCoupon": 4928,
                "props": {"name": "10% off", "value": 16.79, "desiredValue": 16.79},
            }
            for index in range(6)
        ],
        "customerProfile": {"id": 6, "integrationId": "customer", "attributes": {"Language": "de"}},
    }
    return _padded(answer, size)


def _padded(content: Mapping[str, object], size: int) -> str:
    without = len(json.dumps({**content, "padding": ""}, separators=(",", ":")))
    return json.dumps({**content, "padding": "x" * (size - without)}, separators=(",", ":"))
