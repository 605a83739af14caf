"""On-demand deployments of custom models: they cost nothing while nobody asks, and a request names their ARN.

A model that cannot be served so needs Provisioned Throughput, which costs thousands a month whether anybody asks or
not: that is never bought here, and said.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cortex_autolearn.adapters.trainers.bedrock import faults
from cortex_autolearn.adapters.trainers.bedrock.aws import Fault
from cortex_autolearn.adapters.trainers.bedrock.bases import BASES
from cortex_autolearn.model.training_jobs import Endpoint, EndpointState, ModelRef, job_name
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cortex_autolearn.adapters.trainers.bedrock.aws import Aws

PROVISIONED: Final = "Provisioned Throughput"

_STATES: Final[Mapping[str, EndpointState]] = {"Creating": "creating", "Active": "ready", "Failed": "failed"}
_OTHER_HINT: Final = "Look at it in the AWS console; it is not touched"


class Deployments:
    """What serves the models of an account in a region.

    Arguments:
        aws: the account.
    """

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    def deploy(self, model: ModelRef, token: str) -> Endpoint:
        """Have a model served under a client token, or return the deployment that was.

        Raises:
            BoundaryError: the service does not say, or another model is served under that name.
        """
        self._require_home(model)
        name = _name(token, model)
        endpoint = Endpoint(endpoint_id=name, token=token, model=model, state="creating", usd_per_hour=0.0)
        base = BASES.get(model.base)
        if base is not None and not base.is_on_demand:
            reason = (
                f"a model made from {model.base} needs {PROVISIONED}, which is paid by the hour and not bought here"
            )
            return msgspec.structs.replace(endpoint, state="failed", reason=reason, usd_per_hour=None)
        found = self._find(name)
        if found is not None:
            return _told(endpoint, found)
        request = {"modelDeploymentName": name, "modelArn": model.artefact, "clientRequestToken": name}
        try:
            self._aws.call("bedrock", "create_custom_model_deployment", request)
        except Fault as fault:
            # The service has no word of its own for a name that is taken: another process may just have been faster.
            found = self._find(name)
            if found is not None:
                return _told(endpoint, found)
            if fault.kind in {"invalid", "missing"} and not faults.is_about_role(fault):
                return msgspec.structs.replace(endpoint, state="failed", reason=fault.cause)
            raise faults.error(fault, "deploy the model", model.model_id) from None
        found = self._find(name)
        return endpoint if found is None else _told(endpoint, found)

    def poll(self, endpoint: Endpoint) -> Endpoint:
        """Return how a deployment stands.

        Raises:
            BoundaryError: the service does not say.
        """
        found = self._found(endpoint)
        if found is None:
            return msgspec.structs.replace(endpoint, state="gone", reason="")
        return _told(endpoint, found)

    def end(self, endpoint: Endpoint) -> None:
        """End a deployment; that it is gone already is no error.

        Raises:
            BoundaryError: the service does not do it.
        """
        found = self._found(endpoint)
        if found is None:
            return
        _told(endpoint, found)  # never another's
        named = {"customModelDeploymentIdentifier": found["customModelDeploymentArn"]}
        try:
            self._aws.call("bedrock", "delete_custom_model_deployment", named)
        except Fault as fault:
            if fault.kind != "missing":
                raise faults.error(fault, "end the deployment", endpoint.endpoint_id) from None

    def forget(self, model: ModelRef) -> None:
        """Delete a custom model, for which its keeping is paid by the month; that it is gone already is no error.

        Raises:
            BoundaryError: the service does not do it.
        """
        self._require_home(model)
        try:
            self._aws.call("bedrock", "delete_custom_model", {"modelIdentifier": model.artefact})
        except Fault as fault:
            if fault.kind != "missing":
                raise faults.error(fault, "delete the custom model", model.artefact) from None

    def _found(self, endpoint: Endpoint) -> dict[str, Any] | None:
        """Return the deployment of an endpoint: by its ARN, as another account has no such, where that is known."""
        self._require_home(endpoint.model)
        return self._find(endpoint.target or _name(endpoint.token, endpoint.model))

    def _require_home(self, model: ModelRef) -> None:
        """Refuse to ask one region about what is in another: it would say that there is no such thing."""
        parts = model.artefact.split(":")
        region = parts[3] if len(parts) > 3 else ""
        if region and region != self._aws.region:
            cause = f"it is in {region}, and bedrock.region is {self._aws.region}"
            hint = f'Set bedrock.region = "{region}" until nothing of it is needed'
            raise BoundaryError("look after the model", model.model_id, cause, hint=hint, retryable=True)

    def _find(self, name: str) -> dict[str, Any] | None:
        try:
            return self._aws.call("bedrock", "get_custom_model_deployment", {"customModelDeploymentIdentifier": name})
        except Fault as fault:
            if fault.kind == "missing":
                return None
            raise faults.error(fault, "look at the deployment", name) from None


def _name(token: str, model: ModelRef) -> str:
    """Return a deployment's name; of the model too, as two ROOTs that share an account may give the same token."""
    return job_name(sha256(f"{token} {model.artefact}".encode()).hexdigest())


def _told(endpoint: Endpoint, found: Mapping[str, Any]) -> Endpoint:
    if found["modelArn"] != endpoint.model.artefact:
        cause = f"it serves another model: {found['modelArn']}"
        raise BoundaryError("use the deployment", endpoint.endpoint_id, cause, hint=_OTHER_HINT, retryable=False)
    state = _STATES.get(found["status"], "creating")
    reason = found.get("failureMessage", "the service gives no reason") if state == "failed" else ""
    return msgspec.structs.replace(endpoint, state=state, target=found["customModelDeploymentArn"], reason=reason)
