"""What agents check tokens against: the cluster's token issuer and its keys, looked up again and again because keys are rotated."""

import asyncio
import logging
from collections.abc import Callable

from taskfleet.api.agent import Trust
from taskfleet.kube.client import Kube
from taskfleet.kube.errors import KubeError
from taskfleet.logs import fields

log = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 1.0


class TrustSource:
    """Keeps `current`; `on_change` is called when it has changed."""

    def __init__(
        self, kube: Kube, *, operator_subject: str, gateway_subject: str, refresh_seconds: float, on_change: Callable[[], None]
    ) -> None:
        self._kube = kube
        self._operator_subject = operator_subject
        self._gateway_subject = gateway_subject
        self._refresh_seconds = refresh_seconds
        self._on_change = on_change
        self._current: Trust | None = None

    @property
    def current(self) -> Trust:
        """Raises LookupError before the first look-up."""
        if self._current is None:
            raise LookupError("the issuer's keys have not been looked up yet")
        return self._current

    async def first(self) -> None:
        """Returns when the keys are known."""
        while self._current is None:
            await self._look()
            if self._current is None:
                await asyncio.sleep(_FIRST_PAUSE_SECONDS)

    async def run(self) -> None:
        """Looks again until it is cancelled. While the API server is away the last keys stand."""
        while True:
            await asyncio.sleep(self._refresh_seconds)
            await self._look()

    async def _look(self) -> None:
        try:
            issuer = (await self._kube.get_json("/.well-known/openid-configuration"))["issuer"]
            jwks = await self._kube.get_json("/openid/v1/jwks")
        except KubeError as error:
            log.warning("can't look up the keys of the cluster's token issuer", extra=fields(why=error.message))
            return
        # In one order: a server that lists its keys in another one each time would rewrite every ConfigMap.
        keys = sorted(jwks["keys"], key=lambda key: str(key.get("kid")))
        found = Trust(issuer=issuer, jwks={"keys": keys}, operator_subject=self._operator_subject, gateway_subject=self._gateway_subject)
        if found != self._current:
            log.info("token issuer", extra=fields(issuer=issuer, keys=[key.get("kid") for key in keys]))
            self._current = found
            self._on_change()
