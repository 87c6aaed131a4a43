"""What the operator has made in a namespace, and whether that is all."""

from tests.cluster.api import CHILDREN, POOL, Api
from tests.cluster.oracles import settled, silent


def members(api: Api, namespace: str) -> set[str]:
    """The tasks that have a place in a pool."""
    return {member["taskModel"] for pool in api.list(POOL, namespace) for member in pool["spec"]["members"]}


def all_made(api: Api, namespace: str, *names: str) -> bool:
    """Are these the members of one pool with all its children?"""
    pools = api.list(POOL, namespace)
    if len(pools) != 1 or members(api, namespace) != set(names):
        return False
    return all(api.find(kind, pools[0]["metadata"]["name"], namespace) is not None for kind in CHILDREN)


def complete(api: Api, namespace: str, *names: str) -> bool:
    """The same, and is everything settled and has Kubernetes done its part?"""
    if not all_made(api, namespace, *names):
        return False
    settled(api, namespace, within=1)
    silent(api, namespace, seconds=2.5)
    return True
