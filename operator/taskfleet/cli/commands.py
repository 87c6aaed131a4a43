"""The subcommands of `taskfleet`. Each imports its part when it is called, so that an image or a laptop installs only the extras that it runs."""

from pathlib import Path
from typing import Annotated

import typer

from taskfleet import __version__
from taskfleet.cli import evaluate, parts
from taskfleet.cli.pool import commands as pool
from taskfleet.cli.rollout import commands as rollout
from taskfleet.cli.target import Output

_LARGEST_RANK = 512  # of those that a ServingClass can allow

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Fleets of task models on Kubernetes.")
agent_app = typer.Typer(no_args_is_help=True, help="The sidecar of a pool's pods.")
app.add_typer(agent_app, name="agent")
app.add_typer(rollout.app, name="rollout")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(pool.app, name="pool")


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


@app.command()
def operator() -> None:
    """Run the operator; settings come from TASKFLEET_* variables."""
    parts.operator()


@app.command()
def gateway() -> None:
    """Run a gateway replica; settings come from TASKFLEET_* variables."""
    parts.gateway()


@app.command()
def lint(
    places: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help="Manifests: files, folders (all *.yaml, *.yml and *.json in them), or - for standard input."
        ),
    ],
    *,
    output: Annotated[Output, typer.Option("--output", "-o", help="text or json.")] = Output.TEXT,
) -> None:
    """Check manifests offline, as the API server and the operator would. Exit codes: 0 nothing is wrong, 1 findings, 2 unreadable."""
    from taskfleet.cli.lint import linting  # noqa: PLC0415

    raise typer.Exit(linting.lint(places, output=output))


@app.command()
def push(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with adapter_config.json and adapter_model.safetensors.")],
    reference: Annotated[str, typer.Argument(metavar="REF", help="HOST/REPOSITORY:VERSION, with or without oci://.")],
    *,
    base: Annotated[Path | None, typer.Option("--base", help="Folder of the base model: shapes and layers are compared with it.")] = None,
    max_rank: Annotated[int, typer.Option("--max-rank", min=1, help="adapters.maxRank of the ServingClass.")] = _LARGEST_RANK,
    insecure: Annotated[bool, typer.Option("--insecure", help="Plain http, for a registry without TLS.")] = False,
) -> None:
    """Verify an adapter's folder, push it, and print source, version and digest for the TaskModel.

    Logins come from the Docker configuration. Exit codes: 0 pushed, 1 the folder is no adapter that can be served, 2 the registry doesn't take it.
    """
    from taskfleet.cli.pushing import push_adapter  # noqa: PLC0415

    raise typer.Exit(push_adapter(directory, reference, base=base, max_rank=max_rank, insecure=insecure))


@agent_app.command("run")
def agent_run() -> None:
    """Run the agent: stage and prove adapters, and be the pod's one open door."""
    parts.agent()


@agent_app.command("await-base")
def agent_await_base() -> None:
    """Wait until the agent beside has staged and verified the base model; the engine starts after it."""
    parts.await_base()
