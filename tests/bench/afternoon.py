"""The proxy that one would write in an afternoon: aiohttp's server, and its client with a pool, on uvloop.

`AUTHORIZATION=… python -m tests.bench.afternoon PORT SOCKET URL CA_FILE`
"""

import asyncio
import os
import ssl
import sys

import uvloop
from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web
from yarl import URL

# RFC 9110, section 7.6.1; Host and lengths are made anew, and so is the key.
NOT_FORWARDED = frozenset(
    ("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host", "content-length")
)


class Proxy:
    """Passes calls on, and answers back."""

    def __init__(self, client: ClientSession, upstream: str, authorization: str) -> None:
        self._client = client
        self._upstream = upstream
        self._authorization = authorization

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Make the same call there."""
        headers = {name: value for name, value in request.headers.items() if name.lower() not in NOT_FORWARDED}
        headers["Authorization"] = self._authorization
        url = URL(self._upstream + request.raw_path, encoded=True)
        body = await request.read() if request.can_read_body else None
        async with self._client.request(
            request.method, url, headers=headers, data=body, allow_redirects=False
        ) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in NOT_FORWARDED}
            return web.Response(status=answer.status, headers=kept, body=await answer.read())


async def serve(port: int, socket: str, upstream: str, ca_file: str, authorization: str) -> None:
    """Serve until cancelled."""
    connector = TCPConnector(limit=128, keepalive_timeout=3600, ssl=ssl.create_default_context(cafile=ca_file))
    async with ClientSession(
        connector=connector,
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept-Encoding", "Content-Type"),
        timeout=ClientTimeout(total=15),
    ) as client:
        server = web.Server(Proxy(client, upstream, authorization).handle, keepalive_timeout=3600, access_log=None)
        runner = web.ServerRunner(server)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
        await web.UnixSite(runner, socket, backlog=4096).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    _, _port, _socket, _upstream, _ca_file = sys.argv
    uvloop.run(serve(int(_port), _socket, _upstream, _ca_file, os.environ["AUTHORIZATION"]))
