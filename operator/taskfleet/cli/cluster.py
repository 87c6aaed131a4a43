"""A person's way to the cluster: their kubeconfig, and errors in words that help."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

import typer

from taskfleet import __version__
from taskfleet.cli.rollout.state import ExitCode
from taskfleet.cli.target import Target
from taskfleet.kube.client import Kube
from taskfleet.kube.errors import ForbiddenError, KubeError, UnauthorizedError

FIELD_MANAGER = "taskfleet-cli"

Result = TypeVar("Result")


class UnusableError(Exception):
    """The command can't be carried out on what is there; the message says why."""


def ask(target: Target, work: Callable[[Kube, str], Awaitable[Result]]) -> Result:
    """What `work` comes to with the connection and the namespace. Whatever fails is told in one line, and ends the command with exit code 2."""
    try:
        return asyncio.run(_ask(target, work))
    except (UnusableError, KubeError) as error:
        _fail(_in_words(error))


async def _ask(target: Target, work: Callable[[Kube, str], Awaitable[Result]]) -> Result:
    kube = await Kube.connect_as_user(user_agent=f"{FIELD_MANAGER}/{__version__}", kubeconfig=target.kubeconfig, context=target.context)
    try:
        return await work(kube, target.namespace or kube.namespace or "default")
    finally:
        await kube.close()


def _in_words(error: UnusableError | KubeError) -> str:
    if isinstance(error, ForbiddenError):
        return f"not allowed: {error.message}"
    if isinstance(error, UnauthorizedError):
        return f"the cluster doesn't accept the kubeconfig's credential: {error.message}"
    return str(error)


def _fail(message: str) -> NoReturn:
    print(f"taskfleet: {message}", file=sys.stderr)
    raise typer.Exit(ExitCode.UNUSABLE)
