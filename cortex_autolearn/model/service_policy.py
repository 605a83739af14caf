"""What an operator may decide about how the daemon is asked from outside: the section ``[http]``."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

DEFAULT_PORT: Final = 9464
"""The port on which OpenTelemetry's exporters answer Prometheus."""

_HOST: Final = r"\A(?:localhost|[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9a-fA-F:]{2,39})\Z"
_HOST_NAME: Final = r"\A[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?\Z"


class HttpPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[http]``: health, metrics and status over HTTP."""

    enabled: Annotated[bool, Meta(description="answer /healthz, /readyz, /metrics and /status over HTTP")] = True
    host: Annotated[
        str,
        Meta(
            pattern=_HOST,
            description="address to listen on; any but this machine's own asks for http.allow_public",
            extra={"loopback_unless": "allow_public", "allowed": 'an IP address, or "localhost"'},
        ),
    ] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535, description="port to listen on; 0 for any that is free")] = DEFAULT_PORT
    allow_public: Annotated[
        bool, Meta(description="let other machines ask: whoever reaches the port may read all it tells")
    ] = False
    allowed_hosts: Annotated[
        tuple[Annotated[str, Meta(pattern=_HOST_NAME, extra={"allowed": "a host name"})], ...],
        Meta(max_length=100, description="names by which others may ask, besides the address itself"),
    ] = ()


def is_loopback(host: str) -> bool:
    """Tell whether nobody but this machine reaches an address."""
    return host in {"localhost", "::1"} or host.startswith("127.")


def is_private(url: str) -> bool:
    """Tell whether nobody on the way reads what goes to a URL: it is https, or this machine's own; none is, too."""
    scheme, _, rest = url.partition("://")
    host = rest.partition("/")[0]
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    is_name = not name.replace(".", "").isdigit()  # 127.0.0.1.example.org is anybody's
    return not url or scheme.lower() == "https" or (is_loopback(name) and not (is_name and name.startswith("127.")))
