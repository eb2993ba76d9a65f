"""Delivery brings an answer to its caller, or does what a fault says instead."""

import asyncio

import orjson
from aiohttp import web

from proxy.simulator.connections import NAME, Connection, EndedError, rendered
from proxy.simulator.faults import Fault, Kind
from proxy.simulator.operations import Answer
from proxy.simulator.problems import Problem

PIECES = 10  # of a slow body
# The head and body of an answer to nobody: the worst that an idle connection may bring.
GARBAGE = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{"effects": [1]}'


async def deliver(request: web.BaseRequest, connection: Connection, answer: Answer, fault: Fault) -> web.StreamResponse:
    """Answer as the fault says; EndedError where there is no answer, or no whole one."""
    match fault.kind:
        case Kind.RESET_BEFORE_READ | Kind.RESET_AFTER_READ:
            connection.reset()
            raise EndedError
        case Kind.STALL:
            await _unless_left(connection, fault.seconds)
            if not fault.executed:
                connection.end()
                raise EndedError
        case Kind.SLOW_BODY:
            return await _slowly(request, connection, answer, fault.seconds)
        case Kind.TRUNCATED_BODY:
            await _head(request, answer, answer.body[: len(answer.body) // 2])
            connection.end()
            raise EndedError
        case Kind.STATUS:
            return _refused(fault)
        case Kind.GARBAGE:
            asyncio.get_running_loop().call_later(fault.seconds, connection.inject, GARBAGE)
        case Kind.CLOSE_AFTER if connection.calls >= fault.requests:
            # Without a word: aiohttp closes after the answer, which does not say so.
            connection.close()
        case Kind.CONNECTION_CLOSE:
            response = rendered(answer)
            response.force_close()
            return response
    return rendered(answer)


def _refused(fault: Fault) -> web.Response:
    content = Problem(fault.status, f"A simulated fault: {fault.text}").content()
    response = rendered(Answer(fault.status, orjson.dumps(content)))
    if fault.retry_after is not None:
        response.headers["Retry-After"] = str(fault.retry_after)
    return response


async def _head(request: web.BaseRequest, answer: Answer, beginning: bytes) -> web.StreamResponse:
    """Send the head of the whole answer, and the beginning of its body."""
    response = web.StreamResponse(status=answer.status, headers={"Server": NAME, "Content-Type": "application/json"})
    response.content_length = len(answer.body)
    await response.prepare(request)
    await response.write(beginning)
    return response


async def _slowly(
    request: web.BaseRequest, connection: Connection, answer: Answer, seconds: float
) -> web.StreamResponse:
    response = await _head(request, answer, b"")
    size = max(1, -(-len(answer.body) // PIECES))
    for start in range(0, len(answer.body), size):
        await _unless_left(connection, seconds / PIECES)
        await response.write(answer.body[start : start + size])
    return response


async def _unless_left(connection: Connection, seconds: float) -> None:
    """Let time pass, or raise EndedError as soon as the caller leaves."""
    left: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end() -> None:
        if not left.done():
            left.set_result(None)

    connection.on_left = end
    try:
        async with asyncio.timeout(seconds):
            await left
        raise EndedError
    except TimeoutError:
        return
    finally:
        connection.on_left = None
