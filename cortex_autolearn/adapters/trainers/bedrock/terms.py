"""The terms of a training in Bedrock: what stands in its way, and what it costs. Nothing is spent or sent here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cortex_autolearn.adapters.trainers.bedrock import bases, faults, records
from cortex_autolearn.adapters.trainers.bedrock.aws import Fault, aware
from cortex_autolearn.adapters.trainers.bedrock.deployments import PROVISIONED
from cortex_autolearn.adapters.trainers.bedrock.records import Tally
from cortex_autolearn.adapters.trainers.bedrock.uploads import account_of
from cortex_autolearn.adapters.trainers.dataset import PARTS, DatasetDamagedError, FrozenDataset
from cortex_autolearn.exemplars.words import tokens_of
from cortex_autolearn.model.training_jobs import Estimate, Price, Spec
from cortex_autolearn.model.training_problems import (
    AccessRefused,
    BaseModelRetired,
    BaseModelRetiring,
    BaseModelUnknown,
    DatasetUnreadable,
    HyperparameterAdjusted,
    PriceUnknown,
    Problem,
    ServingUnsupported,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from cortex_autolearn.adapters.trainers.bedrock.aws import Aws
    from cortex_autolearn.adapters.trainers.bedrock.bases import Base
    from cortex_autolearn.model.bedrock_policy import BedrockPolicy

_MTOK: Final = 1e6


def of_spec(spec: Spec, dataset: Callable[[], FrozenDataset], price: Price | None) -> Iterator[Problem]:
    """Yield what can be told without asking anybody.

    Raises:
        BoundaryError: the dataset cannot be read just now.
    """
    base = bases.BASES.get(spec.base)
    if base is None:
        yield BaseModelUnknown(spec.base, tuple(bases.BASES))
        return
    if not base.is_on_demand:
        yield ServingUnsupported(spec.base, PROVISIONED)
    yield from bases.problems(base, spec)
    yield from _of_data(spec, dataset, base)
    for what, usd in (
        ("training", None if price is None else price.training),
        ("storage", None if price is None else price.storage_per_month),
        ("serving", None if price is None else price.input),
    ):
        if usd is None:
            yield PriceUnknown(spec.base, what)


def of_account(spec: Spec, policy: BedrockPolicy, aws: Aws, now: datetime) -> Iterator[Problem]:
    """Yield what the account and the service say: the settings, the base's life, the bucket.

    Raises:
        Fault: nobody answers.
    """
    for name, value, what in (
        ("bedrock.role_arn", policy.role_arn, "the ARN of a role that Bedrock may take on to read the bucket"),
        ("bedrock.bucket", policy.bucket, "an S3 bucket for training data, in bedrock.region"),
    ):
        if not value:
            yield AccessRefused(name, "it is not set", f"Set it to {what}: see Amazon Bedrock in the README")
    base = bases.BASES.get(spec.base)
    if base is not None:
        refused = list(_of_base(base, aws, now))
        yield from refused
        if any(isinstance(one, AccessRefused) and one.subject in faults.EVERYWHERE for one in refused):
            return  # whoever is not let in, is let in nowhere
    if policy.bucket:
        yield from _of_bucket(policy, aws)


def estimate(spec: Spec, dataset: FrozenDataset, price: Price | None) -> Estimate:
    """Return what a training costs; what has no price is unknown.

    Raises:
        BoundaryError: the dataset cannot be read.
    """
    base = bases.BASES.get(spec.base)
    # Read twice, as thousands of long examples are more than there is memory.
    tokens = sum(tokens_of(text) for one in dataset.examples("train") for text in (one.system, one.input, one.output))
    notes = ["Tokens are estimated as one for three bytes."]
    epochs = 1
    adjusted: tuple[str, ...] = ()
    if base is not None:
        adjusted = tuple(one.text for one in bases.problems(base, spec) if isinstance(one, HyperparameterAdjusted))
        epochs = bases.epochs(base, spec)
        tally = Tally()
        for _ in records.lines(dataset.examples("train"), base, tally):
            pass
        notes += [f"{told}." for told in [tally.note()] if told]
        if base.is_on_demand:
            notes.append("It is served on demand: what waits costs nothing, tokens cost what the base's do.")
    return Estimate(
        tokens=tokens,
        epochs=epochs,
        training_usd=None if price is None or price.training is None else tokens * epochs * price.training / _MTOK,
        storage_usd_per_month=None if price is None else price.storage_per_month,
        serving_usd_per_hour=0.0 if base is not None and base.is_on_demand else None,
        added_usd_per_task=0.0,
        notes=tuple(notes),
        adjusted=adjusted,
    )


def _of_data(spec: Spec, dataset: Callable[[], FrozenDataset], base: Base) -> Iterator[Problem]:
    try:
        opened = dataset()
        for part in PARTS:
            tally = Tally()
            for _ in records.lines(opened.examples(part), base, tally):
                pass
            yield from records.too_many_or_few(part, tally, base)
            yield from records.too_long(part, opened.examples(part), base)
    except DatasetDamagedError as error:
        yield DatasetUnreadable(spec.dataset.dataset_id, error.cause)


def _of_base(base: Base, aws: Aws, now: datetime) -> Iterator[Problem]:
    where = f"Bedrock in {aws.region}"
    try:
        found = aws.call("bedrock", "get_foundation_model", {"modelIdentifier": base.model_id}).get("modelDetails", {})
    except Fault as fault:
        if fault.kind in {"missing", "invalid"}:
            yield _not_there(base, where, fault.cause)
            return
        refused = faults.problem(fault, where)
        if refused is None:
            raise
        yield refused
        return
    life = found.get("modelLifecycle", {})
    ends, legacy = (aware(life[name]) if name in life else None for name in ("endOfLifeTime", "legacyTime"))
    current = tuple(one.model_id for one in bases.BASES.values() if one.is_on_demand and one.model_id != base.model_id)
    if life.get("status", "ACTIVE") != "ACTIVE" or (ends is not None and ends <= now):
        since = ends if ends is not None and ends <= now else legacy
        yield BaseModelRetired(base.model_id, None if since is None else f"{since:%Y-%m-%d}", current)
    elif "FINE_TUNING" not in found.get("customizationsSupported", ()):
        yield _not_there(base, where, "it is not fine-tuned there")
    elif ends is not None:
        yield BaseModelRetiring(base.model_id, f"{ends:%Y-%m-%d}")


def _not_there(base: Base, where: str, cause: str) -> AccessRefused:
    remedy = (
        f"Set bedrock.region to {' or '.join(base.regions)}, with a bucket there, or training.base_model to another"
    )
    return AccessRefused(where, f"{base.model_id} cannot be trained there ({cause})", remedy)


def _of_bucket(policy: BedrockPolicy, aws: Aws) -> Iterator[Problem]:
    subject = f"the bucket {policy.bucket}"
    account = account_of(policy.role_arn)
    owner = {"ExpectedBucketOwner": account} if account else {}
    try:
        found = aws.call("s3", "head_bucket", {"Bucket": policy.bucket, **owner})
    except Fault as fault:
        if fault.kind == "missing":
            yield AccessRefused(
                subject, "there is none of this name", f"Create it in {aws.region}, or set bedrock.bucket"
            )
        elif fault.kind == "region":
            yield _elsewhere(subject, "another region", aws.region)
        elif fault.kind == "denied":
            yield _of_another(subject, account, policy, aws)
        else:
            refused = faults.problem(fault, subject)
            if refused is None:
                raise
            yield refused
        return
    if found.get("BucketRegion", aws.region) != aws.region:
        yield _elsewhere(subject, found["BucketRegion"], aws.region)


def _elsewhere(subject: str, where: str, region: str) -> AccessRefused:
    remedy = f"Use a bucket in {region} (bedrock.bucket), or set bedrock.region to the bucket's"
    return AccessRefused(subject, f"it is in {where}, and Bedrock trains in {region}", remedy)


def _of_another(subject: str, account: str, policy: BedrockPolicy, aws: Aws) -> AccessRefused:
    """Tell a bucket that is another account's from one that these credentials have no right to see."""
    remedy = (
        f"Set bedrock.bucket to a bucket of account {account}, or bedrock.role_arn to a role of the bucket's account"
    )
    try:
        aws.call("s3", "head_bucket", {"Bucket": policy.bucket})
    except Fault as fault:
        rights = "let these credentials list it (s3:ListBucket)"
        return AccessRefused(
            subject, f"it is another account's, or closed to us ({fault.cause})", f"{remedy}, or {rights}"
        )
    return AccessRefused(subject, f"it does not belong to account {account}, as the role does", remedy)
