"""The line to AWS over boto3, which is imported nowhere else, in a small pool of threads of its own.

The SDK brings its chain of credentials, signatures, retries and the reading of errors. What it says when something
goes wrong becomes a :class:`Fault` of a few kinds; what these mean for a training is ``faults``' business.
"""

from __future__ import annotations

import configparser
import logging
import re
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Literal

from cortex_autolearn.adapters.credentials import credential
from cortex_autolearn.adapters.trainers.bedrock.pool import Pool
from cortex_autolearn.model.version import VERSION
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CREDENTIAL: Final = "aws_credentials"
"""The file in systemd's ``$CREDENTIALS_DIRECTORY``: as ``~/.aws/credentials``, with a profile ``default``."""

Kind = Literal["absent", "credentials", "denied", "missing", "conflict", "quota", "busy", "region", "invalid", "away"]
"""What a fault is about: the SDK is not installed; who we are; what we may do; what is not there or there already; how
much there may be; that it is too much at once; another region; the request itself; nobody answers."""

Service = Literal["bedrock", "s3"]

_CONNECT_S: Final = 5
_READ_S: Final = 20
_TRIES: Final = 3
_WORKERS: Final = 4
_ANSWER_S: Final = 90.0
"""A call that is tried three times has come to an end by then, unless something hangs."""
_CAUSE_CHARS: Final = 400
_HIDDEN: Final = "[key]"
_KEY_ID: Final = re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}")

_CODES: Final[dict[Kind, frozenset[str]]] = {
    "credentials": frozenset(
        {
            "ExpiredToken",
            "ExpiredTokenException",
            "IncompleteSignature",
            "IncompleteSignatureException",
            "InvalidAccessKeyId",
            "InvalidClientTokenId",
            "InvalidSignatureException",
            "InvalidToken",
            "MissingAuthenticationToken",
            "MissingAuthenticationTokenException",
            "RequestExpired",
            "RequestTimeTooSkewed",
            "SignatureDoesNotMatch",
            "TokenRefreshRequired",
            "UnrecognizedClientException",
        }
    ),
    "denied": frozenset({"AccessDenied", "AccessDeniedException", "AllAccessDisabled", "Forbidden", "403"}),
    "missing": frozenset({"NoSuchBucket", "NoSuchKey", "NotFound", "ResourceNotFoundException", "404"}),
    "conflict": frozenset({"ConflictException", "ResourceInUseException"}),
    "quota": frozenset({"LimitExceededException", "ServiceQuotaExceededException"}),
    "region": frozenset(
        {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect", "301"}
    ),
    "busy": frozenset(
        {"RequestLimitExceeded", "SlowDown", "Throttling", "ThrottlingException", "TooManyRequestsException"}
    ),
}

_BARE: Final = frozenset({"404", "NotFound"})
"""How the SDK calls a 404 that says nothing more; the answer to a HEAD never says more."""
_NEEDED: Final = {
    "get_model_customization_job": frozenset({"jobName", "baseModelArn", "trainingDataConfig", "outputDataConfig"}),
    "get_custom_model_deployment": frozenset({"customModelDeploymentArn", "modelArn", "status"}),
}
"""What answers are read for. The SDK hands on whatever came; half an answer is none."""


class Fault(Exception):  # noqa: N818 - it becomes an error, or a problem, only when ``faults`` has looked at it
    """A call that was refused or came to nothing. ``cause`` is in the words of whoever refused, without any key."""

    def __init__(self, kind: Kind, cause: str, *, code: str = "") -> None:
        super().__init__(cause)
        self.kind: Kind = kind
        self.cause = cause
        self.code = code


class Aws:
    """What an account offers in one region; any number of trainers may share it.

    Arguments:
        region: where.
        environ: names addresses other than AWS's own (``AWS_ENDPOINT_URL…``) and the folder of systemd's credentials.
        tries: how often the SDK makes a call that is refused for now.
        answer_s: a call that takes longer is given up; its thread comes to its own end by the SDK's time-outs.
    """

    def __init__(
        self, region: str, environ: Mapping[str, str], *, tries: int = _TRIES, answer_s: float = _ANSWER_S
    ) -> None:
        self.region = region
        self._environ = environ
        self._tries = tries
        self._answer_s = answer_s
        self._pool = Pool(_WORKERS, "bedrock")
        self._opening = Lock()
        self._clients: dict[Service, Any] = {}
        self._secrets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Aws({self.region!r})"

    def open(self) -> None:
        """Look for credentials and make the clients; else the first call does.

        Raises:
            Fault: there are no credentials that could be some, no such region, or no SDK.
        """
        self._client("s3")

    def call(
        self, service: Service, operation: str, request: Mapping[str, object], *, more_s: float = 0.0
    ) -> dict[str, Any]:
        """Make one call and return the whole answer.

        Arguments:
            service: whose operation it is.
            operation: as the SDK's client calls it.
            request: what the operation takes.
            more_s: how much longer than usual it may take, as what is sent is large.

        Raises:
            Fault: it was refused, or nothing came back.
        """
        answer: dict[str, Any] = self._in_pool(partial(self._call, service, operation, request), more_s)
        return answer

    def read(self, request: Mapping[str, object], *, most_bytes: int) -> bytes:
        """Return the first bytes of an object in S3.

        Raises:
            Fault: as :meth:`call`.
        """
        data: bytes = self._in_pool(partial(self._read, request, most_bytes), 0.0)
        return data

    def _in_pool(self, work: Callable[[], Any], more_s: float) -> Any:  # noqa: ANN401 -- as it was made
        most_s = self._answer_s + more_s
        try:
            return self._pool.run(work, most_s)
        except TimeoutError:
            raise Fault("away", f"no answer within {most_s:.0f} seconds") from None

    def _call(self, service: Service, operation: str, request: Mapping[str, object]) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = getattr(self._client(service), operation)(**request)
            lacking = sorted(_NEEDED.get(operation, frozenset()) - answer.keys())
            if lacking:
                raise Fault("away", f"the answer to {operation} lacks {', '.join(lacking)}")
        except Exception as error:  # noqa: BLE001 -- whatever it is, it becomes a fault
            # Not from the error: it holds the request and its headers.
            raise self._fault(error) from None
        return answer

    def _read(self, request: Mapping[str, object], most_bytes: int) -> bytes:
        body = self._call("s3", "get_object", request)["Body"]
        try:
            data: bytes = body.read(most_bytes)
        except Exception as error:  # noqa: BLE001 -- likewise
            raise self._fault(error) from None
        finally:
            body.close()
        return data

    def _client(self, service: Service) -> Any:  # noqa: ANN401 -- boto3 has no types
        with self._opening:
            if service not in self._clients:
                self._make()
            return self._clients[service]

    def _make(self) -> None:
        try:
            import boto3.session  # noqa: PLC0415 - a second, which only those pay who train there
            from botocore.config import Config  # noqa: PLC0415 - likewise
        except ImportError:
            raise Fault("absent", "the package boto3 is not installed") from None
        for name in ("boto3", "botocore", "urllib3"):
            # At the level debug they write down requests with their headers, and a session token is one.
            logging.getLogger(name).setLevel(logging.WARNING)
        config = Config(
            connect_timeout=_CONNECT_S,
            read_timeout=_READ_S,
            retries={"mode": "standard", "total_max_attempts": self._tries},
            max_pool_connections=_WORKERS,
            user_agent_extra=f"cortex-autolearn/{VERSION}",
        )
        session = boto3.session.Session(region_name=self.region, **self._given())
        self._require_region(session)
        found = session.get_credentials()
        frozen = () if found is None else found.get_frozen_credentials()
        self._secrets = tuple(secret for secret in frozen if isinstance(secret, str) and len(secret) > len(_HIDDEN))
        services: tuple[Service, ...] = ("bedrock", "s3")
        self._clients = {
            name: session.client(name, config=config, endpoint_url=self._address(name)) for name in services
        }

    def _require_region(self, session: Any) -> None:  # noqa: ANN401 -- boto3 has no types
        """Refuse a region that does not exist: its address would not either, which looks like an outage."""
        if self._address("bedrock"):
            return
        partitions = session.get_available_partitions()
        known = {one for name in partitions for one in session.get_available_regions("bedrock", name)}
        if self.region not in known:
            raise Fault("region", f"this version of boto3 knows no Bedrock in {self.region}")

    def _address(self, service: Service) -> str | None:
        for name in (f"AWS_ENDPOINT_URL_{service.upper()}", "AWS_ENDPOINT_URL"):
            if self._environ.get(name):
                return self._environ[name]
        return None

    def _given(self) -> dict[str, str]:
        """Return the credentials that systemd handed over; nothing where the SDK's own chain is to find some."""
        if self._environ.get("AWS_ACCESS_KEY_ID"):
            return {}
        text = credential(self._environ, CREDENTIAL)
        if not text:
            return {}
        parser = configparser.ConfigParser(interpolation=None)
        with suppress(configparser.Error):
            parser.read_string(text)
        found = parser["default"] if parser.has_section("default") else {}
        names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
        given = {name: found[name].strip() for name in names if found.get(name, "").strip()}
        if not {"aws_access_key_id", "aws_secret_access_key"} <= given.keys():
            raise Fault(
                "credentials", f"the credential {CREDENTIAL} holds no profile default with a key and its secret"
            )
        return given

    def _fault(self, error: Exception) -> Exception:
        fault = error if isinstance(error, Fault | BoundaryError) else self._told(error)
        if isinstance(fault, Fault) and fault.kind == "credentials":
            with self._opening:
                self._clients = {}  # the next call looks for others: these have expired, or were replaced
        return fault

    def _told(self, error: Exception) -> Fault:
        from botocore import exceptions as known  # noqa: PLC0415 - as above

        if isinstance(error, known.ClientError):
            told = error.response.get("Error", {})
            code = str(told.get("Code", ""))
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            kind = next((kind for kind, codes in _CODES.items() if code in codes), None)
            if code in _BARE and not error.operation_name.startswith("Head"):
                kind = "away"  # somebody on the way said so: the service itself has a word for what is not there
            return Fault(kind or _kind_of(status), self._clean(f"{code}: {told.get('Message', '')}"), code=code)
        cause = self._clean(f"{type(error).__name__}: {error}")
        missing = (
            known.NoCredentialsError,
            known.PartialCredentialsError,
            known.CredentialRetrievalError,
            known.TokenRetrievalError,
            known.SSOError,
            known.ProfileNotFound,
        )
        if isinstance(error, missing):
            return Fault("credentials", cause)
        if isinstance(error, known.ParamValidationError | known.NoRegionError | known.InvalidRegionError):
            return Fault("invalid", cause)
        if isinstance(error, known.BotoCoreError | OSError):
            return Fault("away", cause)
        return Fault("invalid", cause)

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, _HIDDEN)
        text = " ".join(_KEY_ID.sub(_HIDDEN, text).split())
        return (text[:_CAUSE_CHARS] + "…" if len(text) > _CAUSE_CHARS else text).rstrip(". :")


def aware(instant: datetime) -> datetime:
    """Return an instant of an answer as an aware one: without a zone it is UTC."""
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)


def _kind_of(status: int) -> Kind:
    """Return what an error with an unknown code is about, by its HTTP status."""
    if status in {429, 503}:
        return "busy"
    if status >= 500 or not status:
        return "away"
    return "denied" if status in {401, 403} else "invalid"
