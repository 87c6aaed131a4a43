"""Leader election on a Lease: of all replicas one writes.

Written anew because the client's asynchronous lock is broken in 37.0.2. As in client-go, other replicas' clocks are never compared with ours: a lease has run out when
this replica has seen no change of it for its whole duration.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from taskfleet.controller import metrics
from taskfleet.kube.errors import ConflictError, KubeError
from taskfleet.kube.resources import LEASES, Resource
from taskfleet.logs import fields

log = logging.getLogger(__name__)

Json = dict[str, Any]


class LeaseStore(Protocol):
    """`kube.Kube` has it."""

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Json | None: ...
    async def create(self, resource: Resource, body: Json) -> Json: ...
    async def replace(self, resource: Resource, body: Json) -> Json: ...


class Election:
    """One replica's part. `acquire`, then `hold`; `release` at the end, so that the next one needn't wait."""

    def __init__(
        self,
        store: LeaseStore,
        *,
        namespace: str,
        name: str,
        identity: str,
        lease_seconds: float,
        renew_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._lease_seconds = lease_seconds
        self._renew_seconds = renew_seconds
        # Before anybody else may think it has run out, this replica has stopped.
        self._deadline_seconds = lease_seconds * 3 / 4
        self._clock = clock
        self._seen: tuple[str, float] = ("", 0.0)
        self._lease: Json | None = None
        self._renewed_at = 0.0

    @property
    def leading(self) -> bool:
        return self._lease is not None

    def may_write(self) -> bool:
        """Is it sure that nobody else leads by now? False after this process stood still for too long, before it has noticed what it missed."""
        return self.leading and self._clock() < self._renewed_at + self._deadline_seconds

    async def acquire(self) -> None:
        """Returns when this replica is the leader."""
        told = ""
        while True:
            try:
                async with asyncio.timeout(self._deadline_seconds):
                    holder = await self._attempt()
            except (KubeError, TimeoutError) as error:
                log.warning("can't ask for the lease", extra=fields(lease=self._name, why=str(error) or "no answer in time"))
                holder = told
            if self.leading:
                metrics.LEADER.set(1)
                metrics.LEADER_CHANGES.inc()
                log.info("leading", extra=fields(lease=self._name, identity=self._identity))
                return
            if holder != told:
                log.info("standing by", extra=fields(lease=self._name, leader=holder))
                told = holder
            await asyncio.sleep(self._renew_seconds * random.uniform(0.5, 0.8))  # noqa: S311  no secret

    async def hold(self) -> None:
        """Renews; returns when the lease is lost. Whoever called must then stop writing at once."""
        pause = self._renew_seconds
        while self.leading:
            await asyncio.sleep(pause)
            left = self._renewed_at + self._deadline_seconds - self._clock()
            renewed = False
            try:
                # Several attempts fit before the deadline: one connection that hangs must not cost the lease.
                async with asyncio.timeout(max(0.1, min(left, self._deadline_seconds / 3))):
                    renewed = await self._renew()
            except (KubeError, TimeoutError) as error:
                log.warning("lease not renewed", extra=fields(lease=self._name, why=str(error) or "no answer in time"))
            if not renewed and self.leading and self._clock() >= self._renewed_at + self._deadline_seconds:
                self._lost()
            pause = self._renew_seconds if renewed else self._renew_seconds / 6

    async def release(self) -> None:
        """Gives the lease back, if it is held. Raises KubeError."""
        lease, self._lease = self._lease, None
        metrics.LEADER.set(0)
        if lease is not None:
            await self._store.replace(LEASES, {**lease, "spec": {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}})
            log.info("lease released", extra=fields(lease=self._name))

    async def _attempt(self) -> str:
        """Takes the lease if it is free or has run out; the holder otherwise."""
        began = self._clock()
        lease = await self._store.get(LEASES, self._name, self._namespace)
        try:
            if lease is None:
                body = {
                    "apiVersion": LEASES.api_version,
                    "kind": LEASES.kind,
                    "metadata": {"name": self._name, "namespace": self._namespace},
                    "spec": self._spec({}),
                }
                self._won(await self._store.create(LEASES, body), began)
                return self._identity
            holder = str(lease["spec"].get("holderIdentity") or "")
            # An own earlier attempt whose answer was lost is no other replica.
            if holder and holder != self._identity and not self._run_out(lease):
                return holder
            self._won(await self._store.replace(LEASES, {**lease, "spec": self._spec(lease["spec"])}), began)
            return self._identity
        except ConflictError:
            return "another replica"

    async def _renew(self) -> bool:
        if self._lease is None:
            return False
        began = self._clock()
        spec = {**self._lease["spec"], "renewTime": _now()}
        try:
            self._won(await self._store.replace(LEASES, {**self._lease, "spec": spec}), began)
            return True
        except ConflictError:
            # A person's label, or our own renewal whose answer was lost, is no reason to step down; another holder is.
            lease = await self._store.get(LEASES, self._name, self._namespace)
            if lease is None or lease["spec"].get("holderIdentity") != self._identity:
                self._lost()
            else:
                self._lease = lease
            return False

    def _run_out(self, lease: Json) -> bool:
        version = lease["metadata"]["resourceVersion"]
        now = self._clock()
        if self._seen[0] != version:
            self._seen = (version, now)
        return now >= self._seen[1] + float(lease["spec"].get("leaseDurationSeconds") or self._lease_seconds)

    def _spec(self, before: Json) -> Json:
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._lease_seconds)),
            "acquireTime": _now(),
            "renewTime": _now(),
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + (1 if before else 0),
        }

    def _won(self, lease: Json, began: float) -> None:
        self._lease = lease
        # From before the call: the others' time runs from when the server took it, which was not earlier.
        self._renewed_at = began

    def _lost(self) -> None:
        self._lease = None
        metrics.LEADER.set(0)
        log.error("lease lost", extra=fields(lease=self._name))


def _now() -> str:
    """metav1.MicroTime."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
