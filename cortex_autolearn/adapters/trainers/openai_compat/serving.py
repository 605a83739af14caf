"""Serving at a provider that serves every model it has made: what is noted here, and asked there.

A note on the shelf says that a model serves. Whether it does, the provider says; it knows no deployments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cortex_autolearn.adapters import files
from cortex_autolearn.adapters.trainers.openai_compat import faults
from cortex_autolearn.adapters.trainers.openai_compat.line import Fault, Line
from cortex_autolearn.adapters.trainers.openai_compat.sendings import Sendings, require_home
from cortex_autolearn.adapters.trainers.openai_compat.told import MODEL_ID, identity_of
from cortex_autolearn.adapters.trainers.shelf import MANIFEST, Shelf, pretty
from cortex_autolearn.model.training_jobs import Endpoint, ModelRef, Price
from cortex_autolearn.model.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cortex_autolearn.adapters.trainers.openai_compat.uploads import Uploads
    from cortex_autolearn.ports import Clock


class Serving:
    """The models of one ROOT that a provider serves.

    Arguments:
        root: the ROOT.
        clock: tells when a model began to serve.
        line: to the provider.
        sendings: where the jobs that made the models were sent.
        uploads: what the models were made from.
        prices: what bases cost.
    """

    def __init__(  # noqa: PLR0913, PLR0917 -- what the trainer has
        self,
        root: Path,
        clock: Clock,
        line: Line,
        sendings: Sendings,
        uploads: Uploads,
        prices: Mapping[str, Price],
    ) -> None:
        self._line = line
        self._sendings = sendings
        self._uploads = uploads
        self._prices = prices
        self._shelf = Shelf(root, clock)

    def deploy(self, model: ModelRef, token: str) -> Endpoint:
        """Note that a model serves; the provider serves every model that it has made.

        Raises:
            BoundaryError: the provider does not answer, or the note cannot be written.
        """
        require_home(self._sendings.of_model(model.model_id), self._line, "deploy the model", model.model_id)
        endpoint = Endpoint(
            endpoint_id=f"{model.model_id}/{token}",
            token=token,
            model=model,
            state="creating",
            target=model.artefact,
            usd_per_hour=self._serving_price(model.base),
        )
        folder = self._shelf.folder(model.model_id)
        if not (folder / MANIFEST).exists():
            with files.wrap("create", folder):
                files.make_folder(folder)
            content = {"kind": model.kind, **msgspec.structs.asdict(model), "package_version": VERSION}
            files.replace(folder / MANIFEST, pretty(content))
        self._shelf.serve(endpoint)
        return self.poll(endpoint)

    def poll(self, endpoint: Endpoint) -> Endpoint:
        """Return an endpoint as it is; a model that was just made may need a while until the provider serves it.

        Raises:
            BoundaryError: the provider does not answer.
        """
        model_id = endpoint.model.model_id
        require_home(self._sendings.of_model(model_id), self._line, "look at the endpoint of", model_id)
        missing = self._shelf.missing(endpoint)
        if missing:
            return msgspec.structs.replace(endpoint, state="gone", reason=missing)
        try:
            self._line.model(endpoint.model.artefact)
        except Fault as fault:
            if faults.is_missing(fault) and endpoint.state == "ready":
                return msgspec.structs.replace(endpoint, state="gone", reason="the provider does not know it any more")
            if faults.is_missing(fault):
                return msgspec.structs.replace(endpoint, state="creating", reason="the provider does not know it yet")
            raise faults.error(fault, "look for the model", endpoint.model.artefact) from None
        return msgspec.structs.replace(endpoint, state="ready", reason="")

    def end(self, endpoint: Endpoint) -> None:
        """Note that a model serves no more; it stays, costs nothing, and can be restored. Of its files nothing stays.

        Raises:
            BoundaryError: the provider does not answer, or the note cannot be removed.
        """
        model = endpoint.model
        require_home(self._sendings.of_model(model.model_id), self._line, "delete the uploads of", model.model_id)
        try:
            token = self._token_of(model.model_id)
            if token is not None:
                self._uploads.tidy(token)
        except Fault as fault:
            raise faults.error(fault, "delete the uploads of", model.artefact) from None
        self._shelf.serve_no_more(endpoint)

    def forget(self, model: ModelRef) -> None:
        """Delete a model; that it is gone already is no error.

        Raises:
            BoundaryError: the provider does not answer.
        """
        require_home(self._sendings.of_model(model.model_id), self._line, "delete the model", model.artefact)
        try:
            self._line.delete_model(model.artefact)
        except Fault as fault:
            raise faults.error(fault, "delete the model", model.artefact) from None

    def _token_of(self, model_id: str) -> str | None:
        """Return the token of the job that made a model; None where nobody knows."""
        sending = self._sendings.of_model(model_id)
        if sending is not None:
            return sending.token
        try:
            listed = self._line.jobs({MODEL_ID: model_id})
        except Fault as fault:
            if fault.status not in {400, 422}:
                raise
            return None
        found = [identity for job in listed if (identity := identity_of(job)) is not None]
        return next((one.token for one in found if one.model_id == model_id), None)

    def _serving_price(self, base: str) -> float | None:
        price = self._prices.get(base)
        return None if price is None else price.serving_per_hour
