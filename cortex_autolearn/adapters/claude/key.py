"""Where the key to Claude comes from, and where the requests go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from cortex_autolearn.adapters.credentials import credential
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_VARIABLE: Final = "ANTHROPIC_API_KEY"
CREDENTIAL: Final = "anthropic_api_key"
"""The name of the file in systemd's ``$CREDENTIALS_DIRECTORY`` (``LoadCredential=anthropic_api_key:…``)."""

_BASE_URL: Final = "https://api.anthropic.com"


def api_key(environ: Mapping[str, str]) -> str | None:
    """Return the key from the environment, else from systemd's credentials; None where there is none.

    Raises:
        BoundaryError: there is a credential, and it cannot be read.
    """
    key = environ.get(KEY_VARIABLE, "").strip()
    return key or credential(environ, CREDENTIAL)


def base_url(environ: Mapping[str, str]) -> str:
    """Return where the provider is: ``ANTHROPIC_BASE_URL``, such as a gateway of one's own, or the provider's address.

    Raises:
        BoundaryError: it is set, and no address that a request can go to.
    """
    url = environ.get("ANTHROPIC_BASE_URL", "").strip() or _BASE_URL
    try:
        parts = urlsplit(url)
        whole = parts.scheme in {"http", "https"} and parts.hostname is not None and parts.port != 0
    except ValueError:
        whole = False
    if not whole or "@" in url:
        # What stands before an @ is a password: the address is not repeated.
        cause = "it is no http or https address, or it holds a password"
        raise BoundaryError("use", "ANTHROPIC_BASE_URL", cause, hint=f"Leave it out for {_BASE_URL}", retryable=False)
    return url.rstrip("/")
