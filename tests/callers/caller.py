"""Python's urllib3, which the SDK uses: python caller.py URL."""

import os
import sys

import urllib3


def main(base: str) -> None:
    """Make the calls over one pool, and tell what came back."""
    json = {"Content-Type": "application/json"}
    calls: list[tuple[str, str, dict[str, str], str | None]] = [
        ("PUT", "/v2/customer_sessions/cart%2F1", {**json, "X-Request-Id": "from-caller"}, os.environ["SESSION"]),
        ("GET", "/v2/customer_sessions/cart%2F1", {}, None),
        ("POST", "/v2/events", json, os.environ["EVENT"]),
    ]
    with urllib3.PoolManager(retries=False) as pool:
        for method, path, headers, body in calls:
            answer = pool.request(method, base + path, body=body, headers=headers)
            print(answer.data.decode(), f"{answer.status} {answer.headers['X-Request-Id']}", sep="\n")
        connections = pool.connection_from_url(base)
        assert isinstance(connections, urllib3.HTTPConnectionPool)
        assert connections.num_connections == 1


if __name__ == "__main__":
    main(sys.argv[1])
