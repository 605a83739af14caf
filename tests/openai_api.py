"""A service on the loopback interface that fine-tunes as OpenAI's API is described to: files, jobs, models, chat.

It checks every request (``openai_rules``), trains nothing, and moves jobs on when it is told to. Faults come by order:
a refusal before or after the deed, a connection that is dropped before or after it, an answer that takes its time. It
knows no idempotency, as the real one does not: what is asked for twice is there twice.
"""

from __future__ import annotations

import email.parser
import email.policy
import json
import re
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, Literal, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import openai_rules as rules
from openai_rules import KEY, ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE: Final = "gpt-4.1-mini-2025-04-14"
TUNED: Final = "ft:gpt-4.1-mini-2025-04-14:org:cortex:"
BEGAN: Final = 1_795_000_000
PATH: Final = "/v1"

How = Literal["refuse", "late_refuse", "drop", "late_drop", "slow", "late_slow", "late_garbage"]


@dataclass
class Fault:
    """What goes wrong with the next requests that match: ``METHOD /path``, a regular expression without the prefix."""

    match: str
    how: How = "refuse"
    status: int = 500
    code: str | None = None
    message: str = "The server had an error while processing your request"
    times: int = 1
    wait_s: float = 0.0


@dataclass
class Script:
    """How jobs go from now on."""

    outcome: Literal["succeeded", "failed", "cancelled", "paused"] = "succeeded"
    steps: int = 2
    trained_tokens: int = 123_456
    error: dict[str, Any] = field(
        default_factory=lambda: {"code": "server_error", "message": "The job failed.", "param": None}
    )


class OpenaiApi:
    """The service. ``keeps_metadata`` and ``filters`` tell how much like OpenAI's it is."""

    def __init__(self, *, keeps_metadata: bool = True, filters: Literal["yes", "ignored", "refused"] = "yes") -> None:
        self.keeps_metadata = keeps_metadata
        self.filters = filters
        self.key = KEY
        self.script = Script()
        self.models: dict[str, dict[str, Any]] = {}
        self.files: dict[str, dict[str, Any]] = {}
        self.contents: dict[str, bytes] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.events: dict[str, list[dict[str, Any]]] = {}
        self.steps: dict[str, int] = {}
        self.faults: list[Fault] = []
        self.journal: list[str] = []
        self.uploaded = 0
        self.now = BEGAN
        self.busy = 0
        self.most_files = 1_000
        self.hides_jobs = False
        """Whether what was created does not show in the list yet."""
        self.moves_when_asked = False
        """Whether a job takes a step each time it is looked at."""
        self.lock = threading.RLock()
        self.idle = threading.Condition(self.lock)
        self._numbers = 0
        self.add_model(BASE)

    @contextmanager
    def serving(self) -> Iterator[OpenaiApi]:
        server = Server(("127.0.0.1", 0), Handler)
        server.api = self
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}{PATH}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def add_model(self, name: str, **more: Any) -> None:
        self.models[name] = {"id": name, "object": "model", "created": BEGAN, "owned_by": "system", **more}

    def number(self, kind: str) -> str:
        self._numbers += 1
        return f"{kind}-{self._numbers:024d}"

    def at_rest(self) -> None:
        """Wait until no request is under way any more."""
        with self.idle:
            assert self.idle.wait_for(lambda: not self.busy, 10)

    def tick(self, seconds: int = 60) -> None:
        """Let time pass: every job takes a step."""
        with self.lock:
            self.now += seconds
            for job in self.jobs.values():
                self._step(job)

    def told(self, job_id: str, message: str, **data: Any) -> None:
        event = {
            "object": "fine_tuning.job.event",
            "id": self.number("ftevent"),
            "created_at": self.now,
            "level": "info",
            "message": message,
            "type": "metrics" if data else "message",
            "data": data or {},
        }
        self.events.setdefault(job_id, []).insert(0, event)

    def _step(self, job: dict[str, Any]) -> None:
        script = self.script
        match job["status"]:
            case "validating_files":
                wrong = rules.examples(self.contents[job["training_file"]])
                if wrong is not None:
                    error = {"code": "invalid_training_file", "message": wrong, "param": "training_file"}
                    job |= {"status": "failed", "error": error, "finished_at": self.now}
                    self.told(job["id"], f"The job failed: {wrong}")
                else:
                    job["status"] = "queued"
                    self.told(job["id"], "Files validated, moving job to queued state")
            case "queued":
                job["status"] = "running"
                self.told(job["id"], "Fine-tuning job started")
            case "running" if script.outcome in {"cancelled", "failed", "paused"}:
                job["status"] = script.outcome
                if script.outcome == "failed":
                    job |= {"error": script.error, "finished_at": self.now}
                self.told(job["id"], f"The job is {script.outcome}")
            case "running":
                self._train(job, script)

    def _train(self, job: dict[str, Any], script: Script) -> None:
        step = self.steps[job["id"]] = self.steps.get(job["id"], 0) + 1
        measured = {"step": step, "total_steps": script.steps, "train_loss": round(2 / step, 3), "valid_loss": 1.5}
        self.told(job["id"], f"Step {step}/{script.steps}: training loss={2 / step:.2f}", **measured)
        if step >= script.steps:
            name = TUNED + job["id"][-8:]
            self.add_model(name, owned_by="org")
            job |= {"status": "succeeded", "fine_tuned_model": name, "finished_at": self.now}
            job["trained_tokens"] = script.trained_tokens
            self.told(job["id"], "The job has successfully completed")

    # --- what may be asked --------------------------------------------------------------------------------------------

    def create_job(self, asked: dict[str, Any]) -> dict[str, Any]:
        used = rules.job(asked, self.files, self.models)
        job_id = self.number("ftjob")
        full = {"n_epochs": 3, "batch_size": 1, "learning_rate_multiplier": 1.8} | used
        job = {
            "object": "fine_tuning.job",
            "id": job_id,
            "created_at": self.now,
            "finished_at": None,
            "estimated_finish": None,
            "error": None,
            "fine_tuned_model": None,
            "hyperparameters": full,
            "method": {"type": "supervised", "supervised": {"hyperparameters": full}},
            "integrations": [],
            "model": asked["model"],
            "organization_id": "org-1",
            "result_files": [],
            "seed": asked.get("seed", 7),
            "status": "validating_files",
            "trained_tokens": None,
            "training_file": asked["training_file"],
            "validation_file": asked.get("validation_file"),
            "user_provided_suffix": asked.get("suffix"),
        }
        if self.keeps_metadata:
            job["metadata"] = asked.get("metadata", {})
        self.jobs[job_id] = job
        self.told(job_id, f"Created fine-tuning job: {job_id}")
        return job

    def list_jobs(self, query: dict[str, str]) -> dict[str, Any]:
        wanted = {name[9:-1]: value for name, value in query.items() if re.fullmatch(r"metadata\[.+\]", name)}
        if wanted and self.filters == "refused":
            raise rules.bad("Unknown query parameter: metadata", "metadata", "unknown_parameter")
        found = [] if self.hides_jobs else list(reversed(self.jobs.values()))
        if self.filters == "yes" and self.keeps_metadata:
            found = [job for job in found if wanted.items() <= job["metadata"].items()]
        return self._page(found, query, 20)

    def cancel_job(self, job: dict[str, Any]) -> dict[str, Any]:
        if job["status"] in {"succeeded", "failed", "cancelled"}:
            raise rules.bad(f"Job has already completed: {job['id']}", None, "invalid_job_status")
        job["status"] = "cancelled"
        self.told(job["id"], "The job was cancelled")
        return job

    def create_file(self, fields: dict[str, tuple[str | None, bytes]]) -> dict[str, Any]:
        rules.known(fields, {"file", "purpose", "expires_after"})
        if fields.get("purpose", (None, b""))[1] != b"fine-tune":
            raise rules.bad("'purpose' must be 'fine-tune'", "purpose")
        name, content = fields.get("file", (None, b""))
        if not name or not content:
            raise rules.bad("'file' is missing or empty", "file")
        if not name.endswith(".jsonl"):
            raise rules.bad('Invalid extension. Supported formats: "jsonl"', "file")
        if len(self.files) >= self.most_files:
            raise rules.bad("You have too many files", "file")
        file_id = self.number("file")
        found = {"object": "file", "id": file_id, "bytes": len(content), "created_at": self.now, "filename": name}
        self.files[file_id] = found | {"purpose": "fine-tune", "status": "processed", "status_details": None}
        self.contents[file_id] = content
        self.uploaded += 1
        return self.files[file_id]

    def _page(self, found: list[dict[str, Any]], query: dict[str, str], default: int) -> dict[str, Any]:
        limit = int(query.get("limit", default))
        if not 1 <= limit <= 10_000:
            raise rules.bad("Invalid 'limit'", "limit")
        ids = [one["id"] for one in found]
        begin = ids.index(query["after"]) + 1 if "after" in query else 0
        return {"object": "list", "data": found[begin : begin + limit], "has_more": begin + limit < len(found)}

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:  # noqa: C901, PLR0911 - one line a route
        parts = [unquote(part) for part in path.split("/")[1:]]
        match method, *parts:
            case "GET", "models":
                return {"object": "list", "data": list(self.models.values())}
            case "GET", "models", name:
                return self._known(self.models, name, f"The model '{name}' does not exist", "model_not_found")
            case "DELETE", "models", name:
                self._known(self.models, name, "No such model", "model_not_found")
                if not name.startswith("ft:"):
                    raise ApiError(403, "You have insufficient permissions for this operation.")
                del self.models[name]
                return {"id": name, "object": "model", "deleted": True}
            case "GET", "files":
                rules.known(query, {"limit", "after", "purpose", "order"})
                return self._page(list(self.files.values()), query, 10_000)
            case "POST", "files":
                return self.create_file(body)
            case "DELETE", "files", file_id:
                self._known(self.files, file_id, f"No such File object: {file_id}")
                del self.files[file_id]
                return {"id": file_id, "object": "file", "deleted": True}
            case "GET", "fine_tuning", "jobs":
                return self.list_jobs(query)
            case "POST", "fine_tuning", "jobs":
                return self.create_job(body)
            case method, "fine_tuning", "jobs", job_id, *more:
                job = self._known(self.jobs, job_id, f"Could not find fine tune: {job_id}", "fine_tune_not_found")
                return self._of_job(method, job, more, query)
            case "POST", "chat", "completions":
                return self._chat(body)
        raise ApiError(404, f"Invalid URL ({method} {PATH}{path})")

    def _of_job(self, method: str, job: dict[str, Any], more: list[str], query: dict[str, str]) -> Any:
        match method, *more:
            case ("GET",):
                if self.moves_when_asked:
                    self.now += 60
                    self._step(job)
                return job
            case "POST", "cancel":
                return self.cancel_job(job)
            case "GET", "events":
                return self._page(self.events[job["id"]], query, 20)
            case "GET", "checkpoints":
                return self._page(self._checkpoints(job), query, 10)
        raise ApiError(404, "Invalid URL")

    def _checkpoints(self, job: dict[str, Any]) -> list[dict[str, Any]]:
        done = self.steps.get(job["id"], 0)
        return [
            {
                "object": "fine_tuning.job.checkpoint",
                "id": f"ftckpt-{job['id']}-{step}",
                "created_at": self.now,
                "fine_tuned_model_checkpoint": f"{job['fine_tuned_model']}:ckpt-step-{step}",
                "fine_tuning_job_id": job["id"],
                "metrics": {"step": step, "full_valid_loss": 1.0, "full_valid_mean_token_accuracy": 0.75},
                "step_number": step,
            }
            for step in range(done, 0, -1)
        ]

    def _chat(self, asked: Any) -> dict[str, Any]:
        rules.chat(asked)
        self._known(self.models, str(asked.get("model")), "The model does not exist", "model_not_found")
        said = {"role": "assistant", "content": "done", "refusal": None}
        return {
            "id": self.number("chatcmpl"),
            "object": "chat.completion",
            "created": self.now,
            "model": asked["model"],
            "choices": [{"index": 0, "message": said, "finish_reason": "stop", "logprobs": None}],
        }

    @staticmethod
    def _known(found: dict[str, dict[str, Any]], name: str, message: str, code: str | None = None) -> dict[str, Any]:
        if name not in found:
            raise ApiError(404, message, code=code)
        return found[name]

    def take_fault(self, request: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times and re.search(fault.match, request):
                    fault.times -= 1
                    return fault
        return None


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    api: OpenaiApi

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that clients broke off."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        api = cast("Server", self.server).api
        length = int(self.headers.get("Content-Length", 0))
        # A client that was killed while it sent has sent nothing, as far as an API is concerned.
        data = self.rfile.read(length) if length else self._chunks()
        if len(data) < length:
            self.close_connection = True
            return
        if self.path == "/at-rest":
            api.at_rest()
            self._send(200, b"{}")
            return
        parts = urlsplit(self.path)
        path = parts.path.removeprefix(PATH) if parts.path.startswith(f"{PATH}/") else None
        request = f"{self.command} {path}"
        with api.lock:
            api.busy += 1
        try:
            self._do(api, request, path, dict(parse_qsl(parts.query)), data)
        finally:
            with api.idle:
                api.busy -= 1
                api.idle.notify_all()

    def _do(self, api: OpenaiApi, request: str, path: str | None, query: dict[str, str], data: bytes) -> None:
        fault = api.take_fault(request)
        how = fault.how if fault is not None else ""
        if fault is not None and how == "slow":
            time.sleep(fault.wait_s)
        if how == "drop":
            self.close_connection = True
            return
        try:
            if fault is not None and how == "refuse" and fault.status == 307:
                self._send(307, b"", location=fault.message)
                return
            if fault is not None and how == "refuse":
                raise ApiError(fault.status, fault.message, code=fault.code)
            if path is None:
                self._send(404, b"<html>nothing here</html>", "text/html")
                return
            with api.lock:
                self._authorise(api)
                answer = json.dumps(api.answer(self.command, path, query, self._body(data))).encode()
            if fault is not None and how == "late_refuse":
                raise ApiError(fault.status, fault.message, code=fault.code)
            status = 200
        except ApiError as error:
            status, answer = error.status, json.dumps(error.body).encode()
        if fault is not None and how == "late_slow":
            time.sleep(fault.wait_s)
        api.journal.append(f"{status} {request}")
        if how == "late_drop":
            self.close_connection = True
            return
        self._send(status, b"<html>" if how == "late_garbage" else answer)

    def _authorise(self, api: OpenaiApi) -> None:
        given = self.headers.get("Authorization", "")
        if given != f"Bearer {api.key}":
            shown = given.removeprefix("Bearer ")
            raise ApiError(401, f"Incorrect API key provided: {shown[:12]}****{shown[-4:]}.", code="invalid_api_key")

    def _body(self, data: bytes) -> Any:
        kind = self.headers.get("Content-Type", "")
        if not data:
            return None
        if kind == "application/json":
            return json.loads(data)
        if not kind.startswith("multipart/form-data; boundary="):
            raise ApiError(415, f"Unsupported content type {kind}")
        head = f"Content-Type: {kind}\r\n\r\n".encode()
        message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + data)
        fields = {}
        for part in message.iter_parts():
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            name = part.get_param("name", header="content-disposition")
            fields[str(name)] = (part.get_filename(), content)
        return fields

    def _chunks(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return b""
        found = b""
        while size := int(self.rfile.readline() or b"0", 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _send(self, status: int, body: bytes, kind: str = "application/json", *, location: str = "") -> None:
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-request-id", "req_1")
        if status in {429, 500, 503}:
            self.send_header("retry-after-ms", "1")
        self.end_headers()
        self.wfile.write(body)
