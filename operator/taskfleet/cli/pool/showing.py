"""Reads pools from the cluster and prints them."""

import json
from collections.abc import Awaitable, Callable

from pydantic import ValidationError

from taskfleet.api.modelpool import ModelPool
from taskfleet.api.servingclass import ServingClass
from taskfleet.cli.cluster import UnusableError, ask
from taskfleet.cli.pool.report import PoolReport, report
from taskfleet.cli.pool.table import table
from taskfleet.cli.rollout.showing import console
from taskfleet.cli.rollout.state import ExitCode
from taskfleet.cli.target import Output, Target
from taskfleet.kube.client import Json, Kube
from taskfleet.kube.errors import ForbiddenError
from taskfleet.kube.resources import MODEL_POOLS, SERVING_CLASSES


def show_status(target: Target, name: str | None, *, all_namespaces: bool, output: Output) -> ExitCode:
    """Prints one pool, those of a namespace, or all."""
    found = ask(target, _reader(name, all_namespaces=all_namespaces))
    if output is Output.JSON:
        print(json.dumps([pool.to_json() for pool in found], indent=2))
    elif found:
        console().print(table(found, namespaces=all_namespaces, all_members=name is not None))
    else:
        console().print("no ModelPools")
    return ExitCode.DONE


def _reader(name: str | None, *, all_namespaces: bool) -> Callable[[Kube, str], Awaitable[list[PoolReport]]]:
    async def work(kube: Kube, namespace: str) -> list[PoolReport]:
        return await read(kube, "" if all_namespaces else namespace, name)

    return work


async def read(kube: Kube, namespace: str, name: str | None) -> list[PoolReport]:
    """Pools by namespace and name; an empty namespace means all. Raises UnusableError where there is no pool of that name, KubeError where pools can't be read."""
    if name is None:
        bodies: tuple[Json, ...] = (await kube.list(MODEL_POOLS, namespace=namespace)).items
    else:
        found = await kube.get(MODEL_POOLS, name, namespace)
        if found is None:
            raise UnusableError(f"there is no ModelPool {name} in namespace {namespace}")
        bodies = (found,)
    pools = [_pool(body) for body in bodies]
    limits = {serving_class: await _max_resident(kube, serving_class) for serving_class in {pool.spec.serving_class_name for pool in pools}}
    reports = [report(pool, max_resident=limits[pool.spec.serving_class_name]) for pool in pools]
    return sorted(reports, key=lambda told: (told.namespace, told.name))


async def _max_resident(kube: Kube, serving_class: str) -> int | None:
    """None also where the class is nothing to the reader: the right on a namespace has no objects of the cluster in it."""
    try:
        body = await kube.get(SERVING_CLASSES, serving_class)
        return ServingClass.model_validate(body).spec.adapters.max_resident if body is not None else None
    except (ForbiddenError, ValidationError):
        return None


def _pool(body: Json) -> ModelPool:
    try:
        return ModelPool.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        name = f"{body['metadata'].get('namespace')}/{body['metadata']['name']}"
        raise UnusableError(f"this version can't read ModelPool {name}: {first['loc']}: {first['msg']}") from None
