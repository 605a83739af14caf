"""The training data in S3: what is sent, where it lies, when it goes.

A job's data lies in ``<prefix>/<job name>/``, below the client token and the model id, so that the job tells by the
place of its data what it is: nothing has to be remembered here. A file's name holds its digest and its counts. So what
was sent before is not sent again, and whoever finds the folder of a job that has ended removes it.
"""

from __future__ import annotations

import base64
import hashlib
import re
import tempfile
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cortex_autolearn.adapters import files
from cortex_autolearn.adapters.trainers.bedrock import faults
from cortex_autolearn.adapters.trainers.bedrock.aws import Fault
from cortex_autolearn.adapters.trainers.bedrock.records import Tally, lines
from cortex_autolearn.adapters.trainers.dataset import DatasetDamagedError, FrozenDataset
from cortex_autolearn.model import layout
from cortex_autolearn.model.training_jobs import job_name
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from pathlib import Path

    from cortex_autolearn.adapters.trainers.bedrock.aws import Aws
    from cortex_autolearn.adapters.trainers.bedrock.bases import Base
    from cortex_autolearn.adapters.trainers.dataset import Part
    from cortex_autolearn.model.bedrock_policy import BedrockPolicy
    from cortex_autolearn.model.training_jobs import Spec

OUTPUT: Final = "output"
"""The folder below the prefix that Bedrock writes what it measured to; it stays."""

_SLOWEST_BYTES_PER_S: Final = 100_000
_DIGEST_DIGITS: Final = 16
_PLACE: Final = re.compile(
    r"s3://(?P<bucket>[^/]+)/(?P<folder>(?:.+/)?(?P<name>cortex-[0-9a-f]{12}))/(?P<token>[^/]+)/(?P<model_id>[^/]+)/"
    r"train-(?P<digest>[0-9a-f]{16})-(?P<records>[0-9]+)-(?P<escaped>[0-9]+)\.jsonl\Z"
)


class Place(NamedTuple):
    """Where the data of a job lies, and what that tells about the job."""

    bucket: str
    folder: str
    token: str
    model_id: str
    records: int
    escaped: int


class Sent(NamedTuple):
    """The data of a job, as it was sent; the places are S3 URIs."""

    train: str
    validation: str | None
    output: str


def place_of(uri: str, name: str) -> Place | None:
    """Return what the place of a job's training data tells; None where the job of this name is not one of ours."""
    match = _PLACE.match(uri)
    if match is None or match["name"] != name or job_name(match["token"]) != name:
        return None
    counts = int(match["records"]), int(match["escaped"])
    return Place(match["bucket"], match["folder"], match["token"], match["model_id"], *counts)


class Uploads:
    """The training data of jobs.

    Arguments:
        root: the ROOT.
        aws: the account.
        policy: the ``[bedrock]`` section.
    """

    def __init__(self, root: Path, aws: Aws, policy: BedrockPolicy) -> None:
        self._root = root
        self._aws = aws
        self._policy = policy

    @property
    def owner(self) -> dict[str, str]:
        """What a request says about whose bucket it has to be: the role's account's."""
        account = account_of(self._policy.role_arn)
        return {"ExpectedBucketOwner": account} if account else {}

    def send(self, spec: Spec, token: str, base: Base) -> Sent:
        """Send the examples of a dataset, and nothing else; what is there already is not sent again.

        Raises:
            DatasetDamagedError: the dataset is not as its manifest says.
            BoundaryError: a file cannot be read, or S3 does not take it.
        """
        dataset = FrozenDataset(self._root, spec.dataset)
        name = job_name(token)
        folder = f"{self._policy.prefix}/{name}/{token}/{layout.safe_name('model', spec.model_id)}"
        train = self._send_part("train", dataset, base, folder)
        validation = self._send_part("validation", dataset, base, folder) if spec.dataset.validation else None
        return Sent(train, validation, f"s3://{self._policy.bucket}/{self._policy.prefix}/{OUTPUT}/{name}/")

    def remove_of(self, token: str) -> None:
        """Remove what was sent for a token, wherever its job is.

        Raises:
            BoundaryError: S3 does not do it.
        """
        if self._policy.bucket:
            self.remove(self._policy.bucket, f"{self._policy.prefix}/{job_name(token)}")

    def remove(self, bucket: str, folder: str) -> None:
        """Remove all that was sent for a job; that it is gone already is no error.

        Raises:
            BoundaryError: S3 does not do it.
        """
        try:
            for key in self.keys(bucket, f"{folder}/"):
                self._aws.call("s3", "delete_object", {"Bucket": bucket, "Key": key, **self.owner})
        except Fault as fault:
            if fault.kind == "missing":  # the bucket is gone, and what was in it
                return
            raise faults.error(fault, "remove the training data", f"s3://{bucket}/{folder}/") from None

    def keys(self, bucket: str, prefix: str) -> list[str]:
        """Return the keys that begin with a prefix.

        Raises:
            Fault: S3 does not say.
        """
        found: list[str] = []
        more: dict[str, str] = {}
        while True:
            answer = self._aws.call("s3", "list_objects_v2", {"Bucket": bucket, "Prefix": prefix, **more, **self.owner})
            found += [entry["Key"] for entry in answer.get("Contents", ()) if "Key" in entry]
            if not answer.get("IsTruncated"):
                return found
            if not answer.get("NextContinuationToken"):
                raise Fault("away", f"S3 lists only a part of s3://{bucket}/{prefix}")
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def _send_part(self, part: Part, dataset: FrozenDataset, base: Base, folder: str) -> str:
        scratch = self._root / layout.AUTOLEARN
        with files.wrap("write the training data", scratch), tempfile.TemporaryFile(dir=scratch) as file:
            # Without a name, so that nothing is left of it, however the process ends.
            tally, digest = Tally(), hashlib.sha256()
            for line in lines(dataset.examples(part), base, tally):
                digest.update(line)
                file.write(line)
            if not tally.records:
                raise DatasetDamagedError(part, "no example has both a question and an answer")
            counts = f"{tally.records}-{tally.escaped_words}"
            key = f"{folder}/{part}-{digest.hexdigest()[:_DIGEST_DIGITS]}-{counts}.jsonl"
            file.seek(0)
            self._put(key, file, tally.bytes, base64.b64encode(digest.digest()).decode())
        return f"s3://{self._policy.bucket}/{key}"

    def _put(self, key: str, file: Any, size: int, checksum: str) -> None:  # noqa: ANN401 -- a file
        to = {"Bucket": self._policy.bucket, "Key": key, **self.owner}
        try:
            if self._checksum(to) == checksum:
                return
            # S3 computes the digest as well, and refuses what arrives as something else.
            whole = {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": checksum, "ContentLength": size}
            request = {**to, **whole, "Body": file, "ContentType": "application/x-ndjson"}
            self._aws.call("s3", "put_object", request, more_s=size / _SLOWEST_BYTES_PER_S)
            if self._checksum(to) != checksum:
                cause = "what S3 holds is not what was sent"
                hint = "Send it again; if it stays so, see who else writes to this bucket"
                raise BoundaryError("send the training data", key, cause, hint=hint, retryable=True)
        except Fault as fault:
            raise faults.error(fault, "send the training data", f"s3://{self._policy.bucket}/{key}") from None

    def _checksum(self, where: dict[str, str]) -> str | None:
        try:
            answer = self._aws.call("s3", "head_object", {**where, "ChecksumMode": "ENABLED"})
        except Fault as fault:
            if fault.kind == "missing":
                return None
            raise
        found: str | None = answer.get("ChecksumSHA256")
        return found


def account_of(role_arn: str) -> str:
    """Return the account that a role belongs to; empty where there is no role."""
    parts = role_arn.split(":")
    return parts[4] if len(parts) > 4 else ""
