"""The operator's table of contents: what is watched, and what happens then.

Every watched kind has one handler of raw events: into the cache, from there into the queue (`replica`). What is done for a key stands in `taskmodel`, `packing`, `pool` and
`servingclass`; what is decided, in `planning`.
"""

import asyncio
import sys
import uuid
from typing import Any

import kopf

from taskfleet import logs
from taskfleet.controller import kopf_session, quiet_kopf
from taskfleet.controller.replica import Replica
from taskfleet.controller.settings import OperatorSettings
from taskfleet.controller.watched import WATCHED
from taskfleet.kube.errors import KubeError
from taskfleet.kube.resources import Resource


def run(settings: OperatorSettings) -> None:
    """Runs until SIGTERM, then exits with 0; with 1 where the lease was lost or a part failed."""
    logs.configure(level=settings.log_level, style=settings.log_style)
    try:
        failure = asyncio.run(_serve(settings))
    except KubeError as error:
        failure = f"can't connect to the API server: {error}"
    if failure is not None:
        sys.exit(f"taskfleet: {failure}")


async def _serve(settings: OperatorSettings) -> str | None:
    """Why it ended; None after SIGTERM."""
    asyncio.get_running_loop().set_exception_handler(quiet_kopf.report)
    stop = asyncio.Event()
    failures: list[str] = []

    def fail(reason: str) -> None:
        failures.append(reason)
        stop.set()

    # A restarted container has the same pod name, and is another replica all the same.
    identity = f"{settings.pod_name}_{uuid.uuid4().hex[:8]}"
    replica = await Replica.open(settings, identity=identity, fail=fail)
    handlers = registry(replica, stop)
    # Without an identity kopf asks for the user's name, and the container's user has none. Its type for it is not public.
    own_id: Any = identity
    await kopf.operator(registry=handlers, settings=quiet_kopf.settings(), clusterwide=True, stop_flag=stop, identity=own_id)
    return failures[0] if failures else None


def registry(replica: Replica, stopped: asyncio.Event) -> kopf.OperatorRegistry:
    """All that kopf is told to do. Handlers are coroutines, because kopf runs plain functions in threads."""
    found = kopf.OperatorRegistry()
    permanent = kopf.ErrorsMode.PERMANENT

    @kopf.on.login(registry=found, errors=permanent)
    async def login(**arguments: Any) -> kopf_session.Session | None:
        return quiet_kopf.login(**arguments)

    @kopf.on.startup(registry=found, errors=permanent)
    async def start(**_: Any) -> None:
        await replica.start()

    @kopf.on.cleanup(registry=found, errors=permanent)
    async def stop(**_: Any) -> None:
        await replica.stop()
        # Kopf would wait five seconds for its own task that waits for this flag.
        stopped.set()

    for watched in WATCHED:
        watch(watched.resource, replica, found)
    return found


def watch(resource: Resource, replica: Replica, found: kopf.OperatorRegistry) -> None:
    """One kind."""

    @kopf.on.event(group=resource.group, version=resource.version, plural=resource.plural, registry=found)
    async def observe(event: kopf.RawEvent, **_: Any) -> None:
        replica.observe(resource, event["type"], dict(event["object"]))
