"""Whether traces are asked for: by OpenTelemetry's own variables, as every program of a fleet has them. Pure and cheap.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from collections.abc import Mapping

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
MISSING = "OTEL_ variables ask for traces, and the extra `otel` is not installed: there are none"


class Unsupported(Exception):
    """They ask for something that does not exist here. The text says what."""


def wanted(environ: Mapping[str, str]) -> bool:
    """Tell whether to trace. Raises Unsupported."""
    values = {name: value.strip() for name, value in environ.items() if name.startswith("OTEL_")}
    exporter = values.get("OTEL_TRACES_EXPORTER", "").lower()
    if values.get("OTEL_SDK_DISABLED", "").lower() == "true" or exporter == "none":
        return False
    if exporter not in ("", "otlp"):
        raise Unsupported("OTEL_TRACES_EXPORTER can only be otlp or none here: there are no traces")
    if not exporter and not any(values.get(name) for name in _ENDPOINTS):
        return False
    protocol = next((values[name] for name in _PROTOCOLS if values.get(name)), "http/protobuf")
    if protocol != "http/protobuf":
        raise Unsupported("OTEL_EXPORTER_OTLP_PROTOCOL can only be http/protobuf here: there are no traces")
    return True
