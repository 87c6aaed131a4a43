"""`taskfleet pool …` on the command line: names, options and help. The work is in `showing`, which needs what a laptop has only with the extra `cli`."""

from typing import Annotated

import typer

from taskfleet.cli.target import Output, Target

app = typer.Typer(
    no_args_is_help=True,
    help="Pools of pods: how many there are, and why.",
    epilog="Exit codes: 0 shown; 2 usage, no such ModelPool, no right, or no cluster.",
)


@app.callback()
def pools() -> None:
    """Keeps `status` a command of its own: typer folds a group of one command into it."""


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(help="Name of a ModelPool; all of the namespace unless given.", metavar="[NAME]")] = None,
    *,
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Their namespace; that of the context unless set.")] = None,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Those of all namespaces.")] = False,
    context: Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig; the current one unless set.")] = None,
    kubeconfig: Annotated[str | None, typer.Option("--kubeconfig", help="Path of the kubeconfig; as kubectl finds it unless set.")] = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="text or json.")] = Output.TEXT,
) -> None:
    """Show the pods that are wanted and Ready, why so many are wanted, and which tasks they serve."""
    from taskfleet.cli.pool.showing import show_status  # noqa: PLC0415

    if name is not None and all_namespaces:
        raise typer.BadParameter("a ModelPool is looked for in one namespace; leave out NAME or --all-namespaces")
    raise typer.Exit(show_status(Target(kubeconfig, context, namespace), name, all_namespaces=all_namespaces, output=output))
