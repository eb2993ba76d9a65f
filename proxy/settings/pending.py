"""Settings that are accepted and checked, but that nothing reads yet.

Whoever builds what reads one takes it off this list; `config check` then stops saying that it is without effect.
"""

PENDING: tuple[str, ...] = (
    "upstream.protocol",
    "upstream.proxy",
    "upstream.bind",
    "upstream.dns_refresh",
    "upstream.tls.client_cert_file",
    "upstream.tls.client_key_file",
    "limits.buffered",
)
