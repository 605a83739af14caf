"""``[openai]``: where an API like OpenAI's is, and how trainings are asked for there.

No key stands here: it comes from the environment (``OPENAI_API_KEY``) or from systemd's credentials.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

_URL: Final = r"\A(?:https?://[A-Za-z0-9\[][A-Za-z0-9.:\[\]-]{0,252}(?:/[A-Za-z0-9._~/-]{0,1000})?)?\Z"
_SUFFIX: Final = r"\A[A-Za-z0-9-]{0,64}\Z"


class OpenaiPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[openai]``: any API with ``/files`` and ``/fine_tuning/jobs``."""

    base_url: Annotated[
        str,
        Meta(
            pattern=_URL,
            description="address of the API; empty for OPENAI_BASE_URL, and without that for OpenAI's own",
            extra={"https_unless": "allow_http", "allowed": 'an address, "https://HOST/PATH", or ""'},
        ),
    ] = ""
    allow_http: Annotated[
        bool, Meta(description="let the key and the examples go unencrypted to another machine than this one")
    ] = False
    method: Annotated[
        Literal["supervised", "legacy"],
        Meta(description="where a job's hyperparameters stand: in its method, or, as older APIs have it, in the job"),
    ] = "supervised"
    suffix: Annotated[
        str,
        Meta(
            pattern=_SUFFIX,
            description="what the provider puts into the names of the models; empty for nothing",
            extra={"allowed": 'letters, digits and -, at most 64, or ""'},
        ),
    ] = "cortex"
    keep_rejected: Annotated[
        bool, Meta(description="keep the models of challengers that lost their tests; else they are deleted there")
    ] = False
