"""How kopf is run: it watches, and nothing else. It writes to nobody's object, posts no events, and gives up on no outage.

Not here: what is watched (`watched`) and what happens then (`main`).
"""

import asyncio
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kopf

from taskfleet.controller.kopf_session import Session, session
from taskfleet.controller.watched import WATCHED
from taskfleet.logs import fields

log = logging.getLogger(__name__)

# An outage of the API server is waited out with these pauses; kopf's own list ends, and the process with it.
_PAUSES = (1.0, 1.0, 2.0, 3.0)
_LAST_PAUSE = 5.0
_IN_CLUSTER_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105  a path


class _Pauses:
    """Endless; iterated anew for each request."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain(_PAUSES, itertools.repeat(_LAST_PAUSE))


class _NoDiffBase(kopf.DiffBaseStorage):
    """Handlers of raw events need no memory of what an object was before."""

    def build(self, *, body: Any, extra_fields: Any = None, ignored_fields: Any = None) -> Any:  # noqa: ARG002  kopf's signature
        return {}

    def fetch(self, *, body: Any) -> Any:  # noqa: ARG002
        return None

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        pass


class _NoProgress(kopf.ProgressStorage):
    """There is no progress to keep: every handler is done at once."""

    def fetch(self, *, key: Any, body: Any) -> Any:  # noqa: ARG002
        return None

    def store(self, *, key: Any, record: Any, body: Any, patch: Any) -> None:
        pass

    def purge(self, *, key: Any, body: Any, patch: Any) -> None:
        pass

    def touch(self, *, body: Any, patch: Any, value: Any) -> None:
        pass

    def clear(self, *, essence: Any) -> Any:
        return essence


def settings() -> kopf.OperatorSettings:
    """Kopf's settings."""
    found = kopf.OperatorSettings()
    found.scanning.disabled = True  # no watches of CRDs and namespaces for kopf itself
    found.peering.standalone = True
    found.posting.enabled = False
    found.watching.chunk_size = 500
    # A kind without events sends no bookmarks, and kopf takes a silent watch for a dead one after 70 s.
    found.watching.server_timeout = 60
    found.queueing.worker_limit = None  # a limit of 100 means 20 objects a second, because workers linger
    found.queueing.idle_timeout = 1.0
    found.persistence.diffbase_storage = _NoDiffBase()
    found.persistence.progress_storage = _NoProgress()
    found.networking.error_backoffs = _Pauses()
    found.networking.request_timeout = 60.0
    found.networking.connect_timeout = 5.0
    found.process.ultimate_exiting_timeout = 20.0
    for watched in WATCHED:
        if watched.label_selector:
            resource = watched.resource
            found.watching.label_selectors[resource.group, resource.version, resource.plural] = watched.label_selector
    return found


def login(**arguments: Any) -> Session | None:
    """In a pod with its ServiceAccount, elsewhere with KUBECONFIG; as `kube.connection` does."""
    in_cluster = Path(_IN_CLUSTER_TOKEN).exists()
    info = kopf.login_with_service_account(**arguments) if in_cluster else kopf.login_with_kubeconfig(**arguments)
    return session(info) if info is not None else None


def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The event loop's own complaints. Kopf leaves a watch open that it was told to end between two of its objects; the loop closes it, and that it does so is no news."""
    if "asyncgen" in context:
        log.debug("a watch was cut", extra=fields(watch=repr(context["asyncgen"])))
    else:
        loop.default_exception_handler(context)
