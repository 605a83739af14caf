"""The line to AWS: credentials, faults and their remedies, time-outs, and that no key is ever told."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest
from bedrock_api import ACCOUNT, BUCKET, KEY, NOVA, ROLE, SECRET, BedrockApi
from bedrock_support import POLICY, Rig, credentials, fresh, service

from cortex_autolearn.adapters import extras, observe
from cortex_autolearn.adapters.trainers.bedrock import Aws, BedrockTrainer
from cortex_autolearn.adapters.trainers.bedrock.aws import Fault
from cortex_autolearn.adapters.trainers.bedrock.pool import Pool
from cortex_autolearn.model.training_jobs import client_token
from cortex_autolearn.model.training_problems import AccessRefused
from cortex_autolearn.ports import BoundaryError

TOKEN = "FwoGZXIvYXdzEDExampleSessionToken" + "x7Q" * 40


@pytest.fixture(scope="module")
def bedrock() -> Iterator[BedrockApi]:
    with service() as found:
        yield found


@pytest.fixture
def api(bedrock: BedrockApi) -> Iterator[BedrockApi]:
    with fresh(bedrock) as found:
        yield found


def refused(rig: Rig) -> AccessRefused:
    """The one thing that keeps a training from starting."""
    found = [problem for problem in rig.trainer().preflight(rig.spec()) if problem.blocks]
    assert len(found) == 1, found
    assert isinstance(found[0], AccessRefused)
    return found[0]


# --- what is said, and what to do about it ---------------------------------------------------------------------------


def test_nothing_is_set(api: BedrockApi, tmp_path: Path) -> None:
    """Without role and bucket each is named, and where to read on."""
    rig = Rig(tmp_path, api, policy=msgspec.structs.replace(POLICY, role_arn="", bucket=""))
    found = rig.trainer().preflight(rig.spec())
    assert [problem.text for problem in found] == ["bedrock.role_arn: it is not set", "bedrock.bucket: it is not set"]
    assert all("README" in problem.remedy for problem in found)
    with pytest.raises(BoundaryError, match=r"role_arn is not set\. Set bedrock\.role_arn"):
        rig.trainer().submit(rig.spec(), client_token(rig.spec()))


def test_credentials_have_expired(api: BedrockApi, tmp_path: Path) -> None:
    """It is told once, with where credentials may come from; new ones are used without a restart."""
    rig = Rig(tmp_path, api).alone()
    api.keys[KEY] = "expired"
    found = refused(rig)
    assert found.subject == "the AWS credentials"
    assert found.cause.startswith("ExpiredTokenException")
    assert "AWS_PROFILE" in found.remedy
    assert "aws_credentials" in found.remedy
    trainer = rig.trainer()
    with pytest.raises(BoundaryError) as caught:
        trainer.find(client_token(rig.spec()))
    assert caught.value.retryable
    api.keys["AKIALOOPBACK00000002"] = "good"
    credentials(rig.root / "credentials", key="AKIALOOPBACK00000002")
    assert trainer.find(client_token(rig.spec())) is None


def test_there_are_no_credentials(api: BedrockApi, tmp_path: Path) -> None:
    """No chain leads to any: said so; likewise a credential that is not what it should be."""
    rig = Rig(tmp_path, api)
    (rig.root / "credentials" / "aws_credentials").write_text("none")
    assert refused(rig.alone()).cause == "NoCredentialsError: Unable to locate credentials"
    for text in ("[other]\naws_access_key_id = a\n", "aws_access_key_id", "[default]\naws_access_key_id = AKIA\n"):
        (rig.root / "credentials" / "aws_credentials").write_text(text)
        assert (
            refused(rig.alone()).cause
            == "the credential aws_credentials holds no profile default with a key and its secret"
        )


@pytest.mark.parametrize(
    ("region", "cause", "remedy"),
    [
        ("eu-north-1", f"{NOVA} cannot be trained there (ResourceNotFoundException", "Set bedrock.region to us-east-1"),
        ("us-west-2", f"{NOVA} cannot be trained there (ResourceNotFoundException", "Set bedrock.region to us-east-1"),
    ],
)
def test_the_region_is_wrong(region: str, cause: str, remedy: str, api: BedrockApi, tmp_path: Path) -> None:
    """A region that does not have the base is named, with one that has; so is the bucket that is elsewhere."""
    rig = Rig(tmp_path, api, policy=msgspec.structs.replace(POLICY, region=region))
    found = [one for one in rig.trainer().preflight(rig.spec()) if isinstance(one, AccessRefused)]
    assert found[0].subject == f"Bedrock in {region}"
    assert found[0].cause.startswith(cause)
    assert found[0].remedy.startswith(remedy)
    assert found[1].text == f"the bucket {BUCKET}: it is in us-east-1, and Bedrock trains in {region}"


def test_a_region_that_there_is_not(tmp_path: Path) -> None:
    """It is said to be unknown, not taken for an outage; nobody is asked."""
    aws = Aws("us-south-7", credentials(tmp_path / "credentials"))
    with pytest.raises(Fault, match="knows no Bedrock in us-south-7") as caught:
        aws.open()
    assert caught.value.kind == "region"


def test_a_base_that_is_not_fine_tuned_there(api: BedrockApi, tmp_path: Path) -> None:
    """The service's own word counts, not our table."""
    rig = Rig(tmp_path, api)
    api.regions["us-east-1"].models[NOVA]["customizationsSupported"] = ["DISTILLATION"]
    assert refused(rig).cause == f"{NOVA} cannot be trained there (it is not fine-tuned there)"


def test_the_bucket_is_another_account_s(api: BedrockApi, tmp_path: Path) -> None:
    """It is told from one that is not there, and from one that we have no right to see; nothing is sent to it."""
    rig = Rig(tmp_path, api)
    api.owners[BUCKET] = "999999999999"
    found = refused(rig)
    assert found.text == f"the bucket {BUCKET}: it does not belong to account {ACCOUNT}, as the role does"
    assert found.remedy.startswith(f"Set bedrock.bucket to a bucket of account {ACCOUNT}")
    with pytest.raises(BoundaryError, match="403"):
        rig.trainer().submit(rig.spec(), client_token(rig.spec()))
    assert (api.asked("s3:PUT"), api.jobs()) == (0, [])
    api.owners[BUCKET] = ACCOUNT
    api.order("s3:HEAD", status=403, code="AccessDenied", times=2)
    assert "another account's, or closed to us" in refused(rig).cause
    rig.policy = msgspec.structs.replace(POLICY, bucket="not-there")
    assert refused(rig).text == "the bucket not-there: there is none of this name"


def test_the_role_cannot_be_taken_on(api: BedrockApi, tmp_path: Path) -> None:
    """The service says so when the job is created: that waits, for a person and for IAM; then the job is made, once."""
    rig = Rig(tmp_path, api)
    api.roles.clear()
    token = client_token(rig.spec())
    for _ in range(2):
        with pytest.raises(BoundaryError, match="Could not assume provided IAM role") as caught:
            rig.trainer().submit(rig.spec(), token)
        assert caught.value.retryable
        assert "trusts bedrock.amazonaws.com" in caught.value.hint
        assert "iam:PassRole" in caught.value.hint
    api.roles.add(ROLE)
    assert rig.trainer().submit(rig.spec(), token).state == "running"
    assert len(api.jobs()) == 1


def test_a_right_is_missing(api: BedrockApi, tmp_path: Path) -> None:
    """What may not be done is named in AWS's words, with where the rights stand that are needed."""
    rig = Rig(tmp_path, api)
    text = "User: arn:aws:iam::123456789012:user/x is not authorized to perform: bedrock:GetFoundationModel"
    api.order("GetFoundationModel", status=403, code="AccessDeniedException", text=text)
    found = refused(rig)
    assert found.cause == f"AccessDeniedException: {text}"
    assert "README" in found.remedy


def test_an_outage_is_no_problem_of_the_spec(api: BedrockApi, tmp_path: Path) -> None:
    """When nobody answers, preflight says that it does not know; every other call does as well."""
    rig = Rig(tmp_path, api)
    spec = rig.spec()
    token = client_token(spec)
    job = rig.trainer().submit(spec, token)
    api.is_away = True
    trainer = rig.trainer()
    for call in (
        lambda: trainer.preflight(spec),
        lambda: trainer.find(token),
        lambda: trainer.submit(spec, token),
        lambda: trainer.poll(job.job_id),
        lambda: trainer.cancel(job.job_id),
        lambda: trainer.discard(token),
    ):
        with pytest.raises(BoundaryError) as caught:
            call()
        assert caught.value.retryable
        assert caught.value.hint.startswith("Wait: it is asked again by itself")
    api.is_away = False
    assert rig.trainer().poll(job.job_id).state == "running"
    assert len(api.jobs()) == 1


# --- time ------------------------------------------------------------------------------------------------------------


class _Silent(BaseHTTPRequestHandler):
    """Takes requests and never answers."""

    def do_GET(self) -> None:
        self.server.let_go.wait(30)  # type: ignore[attr-defined]  # ours
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a service that takes requests and never answers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Silent)
    server.daemon_threads = True
    server.let_go = threading.Event()  # type: ignore[attr-defined]  # ours
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.let_go.set()  # type: ignore[attr-defined]  # ours
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_call_that_hangs_is_given_up(silent: str, tmp_path: Path) -> None:
    """Whoever asked goes on after the time allowed, with an error that says so."""
    environ = {"AWS_ENDPOINT_URL_BEDROCK": silent} | credentials(tmp_path / "credentials")
    aws = Aws("us-east-1", environ, tries=1, answer_s=0.2)
    aws.open()
    began = time.monotonic()
    with pytest.raises(Fault, match="no answer within 0 seconds") as caught:
        aws.call("bedrock", "get_foundation_model", {"modelIdentifier": NOVA})
    assert caught.value.kind == "away"
    assert time.monotonic() - began < 5


def test_a_call_that_hangs_keeps_no_process_from_leaving(silent: str, tmp_path: Path) -> None:
    """A daemon that is to stop leaves while a call still hangs: its thread is not waited for."""
    environ = {"AWS_ENDPOINT_URL_BEDROCK": silent} | credentials(tmp_path / "credentials")
    code = (
        "from cortex_autolearn.adapters.trainers.bedrock.aws import Aws, Fault\n"
        f"aws = Aws('us-east-1', {environ!r}, answer_s=0.2)\n"
        "aws.open()\n"
        "try: aws.call('bedrock', 'get_foundation_model', {'modelIdentifier': 'amazon.nova-micro-v1:0'})\n"
        "except Fault as fault: print(fault.kind, flush=True)"
    )
    done = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert done.stdout is not None
    assert done.stdout.readline() == "away\n"
    done.communicate(timeout=10)  # the SDK would wait for its answer for 20 s, three times
    assert done.returncode == 0


def test_the_pool_is_small() -> None:
    """No more calls are under way at once than there are threads; what one raises comes to who asked for it."""
    pool = Pool(2, "test")
    gate, entered = threading.Event(), threading.Semaphore(0)

    def work() -> int:
        entered.release()
        assert gate.wait(10)
        return threading.get_ident()

    found: list[int] = []
    askers = [threading.Thread(target=lambda: found.append(pool.run(work, 10))) for _ in range(5)]
    for asker in askers:
        asker.start()
    assert entered.acquire(timeout=10)
    assert entered.acquire(timeout=10)
    assert not entered.acquire(timeout=0.1)
    gate.set()
    for asker in askers:
        asker.join()
    assert (len(found), len(set(found))) == (5, 2)
    with pytest.raises(ZeroDivisionError):
        pool.run(lambda: 1 // 0, 10)


def test_nothing_is_imported_until_somebody_asks() -> None:
    """Making a trainer costs no import of boto3, and its limits are known without it."""
    code = (
        "import sys; from pathlib import Path; from cortex_autolearn.adapters.clock import SystemClock\n"
        "from cortex_autolearn.adapters.trainers.bedrock import BedrockTrainer, DEFAULT\n"
        "trainer = BedrockTrainer(Path('/nowhere'), SystemClock())\n"
        "print(trainer.name, trainer.limits(DEFAULT).min_train, {'boto3', 'botocore'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "bedrock 8 set()\n"


def test_without_boto3_it_says_how_to_get_it() -> None:
    """Whoever chose the backend without its extra is told by which command it comes here, and nothing crashes."""
    code = (
        "import sys; sys.modules['boto3'] = sys.modules['boto3.session'] = None\n"
        "from pathlib import Path; from cortex_autolearn.adapters.clock import SystemClock\n"
        "from cortex_autolearn.adapters.trainers.bedrock import BedrockTrainer\n"
        "from cortex_autolearn.ports import BoundaryError\n"
        "try: BedrockTrainer(Path('/nowhere'), SystemClock()).find('0' * 64)\n"
        "except BoundaryError as error: print(error.cause, error.hint, sep='; ')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"the package boto3 is not installed; {extras.remedy('bedrock')}\n"


# --- keys ------------------------------------------------------------------------------------------------------------


def test_the_environment_goes_before_a_credential(
    api: BedrockApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with every key of the daemon's: what the environment names is used, the file is not even read."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    environ = api.environ | {"CREDENTIALS_DIRECTORY": str(tmp_path / "nowhere"), "AWS_ACCESS_KEY_ID": KEY}
    aws = Aws("us-east-1", environ, tries=1)
    assert aws.call("bedrock", "get_foundation_model", {"modelIdentifier": NOVA})["modelDetails"]["modelId"] == NOVA


def test_no_key_is_told(api: BedrockApi, tmp_path: Path) -> None:
    """Neither key, secret nor session token stands in an error, a traceback, a log at the level debug, or a file."""
    out = io.StringIO()
    logging = observe.configure(level="debug", fmt="json", file=None, queue_size=10_000, stream=out)
    told: list[str] = []
    try:
        rig = Rig(tmp_path, api)
        credentials(rig.root / "credentials", token=TOKEN)
        rig.alone(tries=2)
        spec = rig.spec()
        job = rig.trainer().submit(spec, client_token(spec))
        api.advance(4_000)
        told.append(repr(rig.trainer().poll(job.job_id)))
        told += [repr(rig.aws), repr(rig.trainer()), json.dumps([str(one) for one in api.journal])]
        said = f"The security token {TOKEN} of {KEY} with {SECRET} is no good"
        for code, status in (
            ("ExpiredTokenException", 403),
            ("ValidationException", 400),
            ("AccessDeniedException", 403),
            ("InternalServerException", 500),
        ):
            api.order("GetModelCustomizationJob", status=status, code=code, text=said, times=2)
            api.order("GetFoundationModel", status=status, code=code, text=said, times=2)
            for call in (lambda: rig.trainer().poll(job.job_id), lambda: rig.trainer().preflight(spec)):
                try:
                    told.append(repr(call()))
                except BoundaryError as error:
                    told += [str(error), "".join(traceback.format_exception(error))]
                    logging.log.error("provider_trouble", error=str(error), exc_info=error)
            api.orders.clear()
        assert logging.flush(5.0)
    finally:
        logging.close()
    told.append(out.getvalue())
    told += [path.read_text() for path in tmp_path.rglob("*") if path.is_file() and path.parent.name != "credentials"]
    told += [data.decode() for data in api.objects().values()]
    assert len(told) > 12
    assert "[key]" in "".join(told)
    for secret in (KEY, SECRET, TOKEN):
        for text in told:
            assert secret not in text
            assert secret[4:24] not in text


def test_the_trainer_is_made_from_the_settings(api: BedrockApi, tmp_path: Path) -> None:
    """With nothing but policy and environment it finds its own way to the account."""
    rig = Rig(tmp_path, api)
    trainer = BedrockTrainer(tmp_path, rig.clock, policy=POLICY, environ=rig.environ)
    assert trainer.find(client_token(rig.spec())) is None
    assert api.asked("GetModelCustomizationJob") == 1
