"""`GET /v1/models` and `/v1/models/{model}`: what the caller may invoke, and nothing that tells of the rest."""

import asyncio
from datetime import datetime
from typing import Any

from taskfleet.gateway.auth import INVOKE, PREVIEW, Access, Caller
from taskfleet.gateway.errors import ModelNotFoundError
from taskfleet.gateway.model_name import ModelName, parse
from taskfleet.gateway.records import TaskRecord
from taskfleet.gateway.routes import RouteTable

# Questions to the API server at once, for one listing.
_CONCURRENCY = 16


async def listing(table: RouteTable, access: Access, caller: Caller) -> dict[str, Any]:
    """OpenAI's list of models: the TaskModels that can answer and that the caller may invoke. Raises UnavailableError.

    Asks for a namespace as a whole first, and for single TaskModels only where that is refused.
    """
    records = [record for record in table.tasks() if table.route(record.key) is not None]
    namespaces = sorted({record.namespace for record in records})
    bound = asyncio.Semaphore(_CONCURRENCY)

    async def may(namespace: str, name: str = "") -> bool:
        async with bound:
            return await access.may(caller, INVOKE, namespace, name)

    whole = dict(zip(namespaces, await asyncio.gather(*(may(namespace) for namespace in namespaces)), strict=True))
    single = [record for record in records if not whole[record.namespace]]
    allowed = dict(zip((record.key for record in single), await asyncio.gather(*(may(*record.key) for record in single)), strict=True))
    return {"object": "list", "data": [_card(record) for record in records if whole[record.namespace] or allowed[record.key]]}


async def one(table: RouteTable, access: Access, caller: Caller, text: str) -> dict[str, Any]:
    """One model, by any name that a request could use. Raises ModelNotFoundError, UnavailableError."""
    name = parse(text, own_namespace=caller.namespace)
    if name is None:
        raise ModelNotFoundError(text)
    await authorise(table, access, caller, name, text)
    record = table.task((name.namespace, name.name))
    if record is None:
        raise ModelNotFoundError(text)
    return {**_card(record), "id": name.public}


async def authorise(table: RouteTable, access: Access, caller: Caller, name: ModelName, text: str) -> None:
    """Raises ModelNotFoundError where the model does not exist or the caller may not use it; UnavailableError where that can't be found out.

    A revision that never had all traffic is the business of those who may preview: it has not passed what its task asks of it.
    """
    if table.task((name.namespace, name.name)) is None:
        raise ModelNotFoundError(text)
    subresource = INVOKE
    if name.revision is not None:
        pinned = table.pinned(name)
        if pinned is None:
            raise ModelNotFoundError(text)
        subresource = INVOKE if pinned.revision.promoted else PREVIEW
    if not await access.may(caller, subresource, name.namespace, name.name):
        raise ModelNotFoundError(text)


def _card(record: TaskRecord) -> dict[str, Any]:
    created = int(datetime.fromisoformat(record.created).timestamp()) if record.created else 0
    return {"id": f"{record.namespace}/{record.name}", "object": "model", "created": created, "owned_by": record.namespace}
