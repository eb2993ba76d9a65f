"""Settings that are accepted and checked, but that nothing reads yet.

Whoever builds what reads one takes it off this list; `config check` then stops saying that it is without effect.
"""

PENDING: tuple[str, ...] = (
    "next_api_key",
    "next_api_key_file",
    "applications.<name>.next_api_key",
    "applications.<name>.next_api_key_file",
    "applications.<name>.expires",
    "upstream.protocol",
    "upstream.allowed_hosts",
    "upstream.drain",
    "upstream.timeouts.operations.<operationId>",
    "upstream.next.url",
    "upstream.next.at",
    "upstream.next.hold",
    "upstream.next.applications.<name>.api_key",
    "upstream.next.applications.<name>.api_key_file",
    "management.rate",
    "limits.concurrency",
    "limits.buffered",
)
