"""The line to the provider: one HTTP request at a time, over the openai package, which is imported nowhere else.

The package brings what is tedious to get right: headers, TLS, proxies, multipart bodies, the query of a metadata
filter. It follows no redirect here (the key goes nowhere but to the configured address) and builds no objects from
answers: those are read by ``wire``, and none is held that is longer than one may be. Only questions are repeated, and
not often: the next look comes by itself.
"""

from __future__ import annotations

import re
import time
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from cortex_autolearn.adapters import extras
from cortex_autolearn.adapters.credentials import credential
from cortex_autolearn.adapters.trainers.openai_compat import wire
from cortex_autolearn.model.service_policy import is_private
from cortex_autolearn.model.version import VERSION
from cortex_autolearn.ports import BackendError, BoundaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import httpx2
    import openai

    from cortex_autolearn.model.openai_policy import OpenaiPolicy

KEY_VARIABLE: Final = "OPENAI_API_KEY"
CREDENTIAL: Final = "openai_api_key"
"""The name of the file in systemd's ``$CREDENTIALS_DIRECTORY`` (``LoadCredential=openai_api_key:…``)."""
OPENAI: Final = "https://api.openai.com/v1"
PURPOSE: Final = "fine-tune"

_KEY: Final = re.compile(r"[\x21-\x7e]{1,1024}\Z")
_LIKE_A_KEY: Final = re.compile(r"\bsk-[\w*.-]+")
_HIDDEN: Final = "[key]"
_CAUSE_CHARS: Final = 500
_CONNECT_S: Final = 10.0
_READ_S: Final = 30.0
_WAITS: Final = 3
_UPLOAD_S: Final = 300.0
_QUESTION_TRIES: Final = 2
"""A question that got no answer is repeated so often by the package, which waits half a second and more between."""
_JOBS_A_PAGE: Final = 100
_FILES_A_PAGE: Final = 1_000
_MOST_PAGES: Final = 100
_EVENTS: Final = 50
_ANSWER_BYTES: Final = 16 << 20
"""A longer answer is none: a page of a thousand files is a third of a megabyte."""
_PLAIN: Final = "identity"

_T = TypeVar("_T")


class Fault(Exception):  # noqa: N818 - it becomes an error, or a problem, only when ``faults`` has looked at it
    """A request that was refused or came to nothing, before anybody decided what that means.

    ``status`` is HTTP's, None where no answer came; ``sent`` tells whether the provider may have got the request;
    ``code`` is the provider's ``error.code``, ``is_api`` whether the refusal has the form that the API gives it.
    """

    def __init__(
        self, cause: str, *, status: int | None = None, code: str | None = None, sent: bool = True, is_api: bool = False
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.status = status
        self.code = code
        self.sent = sent
        self.is_api = is_api


class AccessError(BackendError):
    """There is nobody to ask, or nothing to ask with: no package, no key, an address that may not be used."""

    def __init__(self, subject: str, cause: str, *, hint: str) -> None:
        super().__init__("use the API for fine-tuning", subject, cause, hint=hint, retryable=False)


class Line:
    """Connections to one address with one key, opened when first used.

    Arguments:
        policy: the ``[openai]`` section.
        environ: where the key is, and the address where the section names none.
        read_s: how long to wait for the next bytes of an answer; all of it may take :data:`_WAITS` times that.
    """

    def __init__(self, policy: OpenaiPolicy, environ: Mapping[str, str], *, read_s: float = _READ_S) -> None:
        self._read_s = read_s
        self._policy = policy
        self._environ = environ
        self._client: openai.OpenAI | None = None
        self._key = ""

    def __repr__(self) -> str:
        return "Line()"

    @property
    def address(self) -> str:
        """Where the provider is.

        Raises:
            AccessError: it is none, holds a password, or would carry the key unencrypted to another machine.
        """
        named = "openai.base_url" if self._policy.base_url else "OPENAI_BASE_URL"
        url = self._policy.base_url or self._environ.get("OPENAI_BASE_URL", "").strip() or OPENAI
        try:
            parts = urlsplit(url)
            is_whole = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_whole = False
        if not is_whole or "@" in url or parts.query or parts.fragment:
            # What stands before an @, or behind a ?, may be a secret: the address is not repeated.
            raise AccessError(named, "it is no http or https address", hint=f"Set it to one like {OPENAI}")
        if not self._policy.allow_http and not is_private(url):
            cause = "it is not https, and would carry the key and the examples unencrypted"
            raise AccessError(named, cause, hint="Use https, or set openai.allow_http")
        return url.rstrip("/")

    # --- questions ----------------------------------------------------------------------------------------------------

    def model(self, name: str) -> wire.Model:
        """Return a model. Raises Fault (404: it is not known)."""
        return self._ask(lambda client: client.models.with_raw_response.retrieve(name), wire.Model)

    def models(self) -> list[wire.Model]:
        """Return the models that the key may use."""
        return self._ask(lambda client: client.models.with_raw_response.list(), wire.Models).data

    def job(self, job_id: str) -> wire.Job:
        """Return a job. Raises Fault (404: it is not known)."""
        return self._ask(lambda client: client.fine_tuning.jobs.with_raw_response.retrieve(job_id), wire.Job)

    def jobs(self, metadata: dict[str, str] | None = None, *, limit: int | None = None) -> list[wire.Job]:
        """Return the jobs, the newest first: those with this metadata, where the provider can tell."""
        found: list[wire.Job] = []
        options: dict[str, Any] = {"limit": limit or _JOBS_A_PAGE}
        if metadata:
            options["metadata"] = metadata
        for _ in range(_MOST_PAGES):
            page = self._ask(lambda client: client.fine_tuning.jobs.with_raw_response.list(**options), wire.Jobs)
            found += page.data
            if limit or not page.has_more or not page.data:
                return found
            options["after"] = page.data[-1].id
        raise Fault(f"it has more than {_MOST_PAGES * _JOBS_A_PAGE:,} jobs")

    def events(self, job_id: str) -> list[wire.Event]:
        """Return the newest events of a job."""
        return self._ask(
            lambda client: client.fine_tuning.jobs.with_raw_response.list_events(job_id, limit=_EVENTS), wire.Events
        ).data

    def checkpoints(self, job_id: str) -> list[wire.Checkpoint]:
        """Return the newest checkpoints of a job."""
        return self._ask(
            lambda client: client.fine_tuning.jobs.checkpoints.with_raw_response.list(job_id), wire.Checkpoints
        ).data

    def uploads(self, *, limit: int | None = None) -> list[wire.Upload]:
        """Return the files that were uploaded for fine-tuning."""
        found: list[wire.Upload] = []
        options: dict[str, Any] = {"limit": limit or _FILES_A_PAGE, "purpose": PURPOSE}
        for _ in range(_MOST_PAGES):
            page = self._ask(lambda client: client.files.with_raw_response.list(**options), wire.Uploads)
            found += page.data
            if limit or not page.has_more or not page.data:
                return found
            options["after"] = page.data[-1].id
        raise Fault(f"it has more than {_MOST_PAGES * _FILES_A_PAGE:,} files")

    # --- what changes something: asked once ---------------------------------------------------------------------------

    def upload(self, name: str, content: IO[bytes]) -> wire.Upload:
        """Upload a file, once: no failure sends it again."""
        return self._ask(
            lambda client: client.files.with_raw_response.create(
                file=(name, content, "application/jsonl"), purpose=PURPOSE, timeout=self._patience(_UPLOAD_S)
            ),
            wire.Upload,
            tries=0,
        )

    def create(self, asked: dict[str, Any]) -> wire.Job:
        """Create a job, once: no failure sends it again."""
        return self._ask(lambda client: client.fine_tuning.jobs.with_raw_response.create(**asked), wire.Job, tries=0)

    def cancel(self, job_id: str) -> wire.Job:
        """Ask for the end of a job."""
        return self._ask(lambda client: client.fine_tuning.jobs.with_raw_response.cancel(job_id), wire.Job, tries=0)

    def delete_upload(self, file_id: str) -> None:
        """Delete an uploaded file; that it is gone already is no fault."""
        self._delete(lambda client: client.files.with_raw_response.delete(file_id))

    def delete_model(self, name: str) -> None:
        """Delete a model; that it is gone already is no fault."""
        self._delete(lambda client: client.models.with_raw_response.delete(name))

    # --- helpers ------------------------------------------------------------------------------------------------------

    def _delete(self, call: Callable[[openai.OpenAI], Any]) -> None:
        try:
            self._ask(call, dict)  # deleting is safe to repeat
        except Fault as fault:
            if fault.status != 404 or not fault.is_api:
                raise

    def _ask(self, call: Callable[[openai.OpenAI], Any], kind: type[_T], *, tries: int = _QUESTION_TRIES) -> _T:
        client = self._open()
        try:
            content: bytes = call(client.with_options(max_retries=tries)).content
        except Exception as error:  # noqa: BLE001 -- whatever it is, it becomes a fault
            # Not from the error: its request and its response hold the headers, and the key is one.
            raise self._fault(error) from None
        try:
            return msgspec.json.decode(content, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Fault(f"the answer cannot be read: {error}", status=200) from None

    def _open(self) -> openai.OpenAI:
        if self._client is not None:
            return self._client
        address = self.address
        key = self._found_key()
        organization, project = self._found_id("OPENAI_ORG_ID"), self._found_id("OPENAI_PROJECT_ID")
        try:
            import openai  # noqa: PLC0415 - a second and 60 MB, which only those pay who train with it
        except ImportError:
            raise AccessError("the package openai", "it is not installed", hint=extras.remedy("openai")) from None
        self._key = key
        self._client = openai.OpenAI(
            api_key=key,
            base_url=address,
            organization=organization,
            project=project,
            max_retries=0,
            timeout=self._patience(self._read_s),
            # Looks are minutes apart: a connection that is kept meanwhile serves nobody, and nobody closes it.
            # A megabyte that is packed well is a gigabyte when it has been read.
            default_headers={
                "User-Agent": f"cortex-autolearn/{VERSION}",
                "Connection": "close",
                "Accept-Encoding": _PLAIN,
            },
            http_client=openai.DefaultHttpxClient(follow_redirects=False, event_hooks={"response": [_bound]}),
        )
        return self._client

    def _found_key(self) -> str:
        hint = f"Set {KEY_VARIABLE}, or the systemd credential {CREDENTIAL}, to a key of the API at {self.address}"
        key = self._environ.get(KEY_VARIABLE, "").strip() or credential(self._environ, CREDENTIAL)
        if not key:
            raise AccessError("the key", "there is none", hint=hint)
        if _KEY.match(key) is None:
            # The HTTP library would repeat a header's value where it complains about it.
            raise AccessError("the key", "it holds characters that no key has", hint=hint)
        return key

    def _found_id(self, variable: str) -> str | None:
        """Return the id that a request names its payer by; None where none is set."""
        found = self._environ.get(variable)
        if found is None:
            return None
        found = found.strip()
        if found and _KEY.match(found) is None:
            # As above; and no request would ever go out, which looks like an outage.
            hint = f"Set {variable} to the id alone, or leave it out"
            raise AccessError(variable, "it holds characters that no id has", hint=hint)
        return found

    @staticmethod
    def _patience(read_s: float) -> openai.Timeout:
        import openai  # noqa: PLC0415 - as above

        return openai.Timeout(read_s, connect=_CONNECT_S)

    def _fault(self, error: Exception) -> Exception:
        import openai  # noqa: PLC0415 - as above

        if isinstance(error, openai.APIStatusError):
            if error.status_code == 401:
                self._client = None  # the next request looks for another key: this one has expired, or was replaced
            body = error.body if isinstance(error.body, dict) else {}
            said = self._clean(str(body.get("message") or error.response.reason_phrase or "no reason given"))
            return Fault(said, status=error.status_code, code=error.code, is_api="message" in body)
        # Whatever goes wrong while a request is sent is the cause of a connection error.
        cause = error.__cause__ or error
        if isinstance(cause, BoundaryError | Fault):
            return cause
        name = type(cause).__name__
        is_unsent = name in {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol"}
        return Fault(self._clean(f"{name}: {cause}".removesuffix(": ")), sent=not is_unsent)

    def _clean(self, text: str) -> str:
        text = _LIKE_A_KEY.sub(_HIDDEN, " ".join(text.replace(self._key, _HIDDEN).split()))
        return (text[:_CAUSE_CHARS] + "…" if len(text) > _CAUSE_CHARS else text).rstrip(".")


def _bound(response: httpx2.Response) -> None:
    """Have an answer end in a fault where it is packed, too long to be one, or takes too long."""
    import httpx2  # noqa: PLC0415 - as above

    status = response.status_code
    most_s = response.request.extensions["timeout"]["read"] * _WAITS
    if response.headers.get("content-encoding", _PLAIN) != _PLAIN:
        raise Fault("the answer cannot be read: it is packed, though it was asked for plain", status=status)
    assert isinstance(response.stream, httpx2.SyncByteStream)
    stream: httpx2.SyncByteStream = response.stream

    class Bounded(httpx2.SyncByteStream):  # the library asks for one by inheritance
        def __iter__(self) -> Iterator[bytes]:
            size, ends_at = 0, time.monotonic() + most_s
            for piece in stream:
                size += len(piece)
                if time.monotonic() > ends_at:  # a few bytes now and then would hold up all trainings for ever
                    raise Fault(f"the answer cannot be read: it was not done after {most_s:g} seconds", status=status)
                if size > _ANSWER_BYTES:
                    cause = f"the answer cannot be read: it is longer than {_ANSWER_BYTES:,} bytes"
                    raise Fault(cause, status=status)
                yield piece

        def close(self) -> None:
            stream.close()

    response.stream = Bounded()
