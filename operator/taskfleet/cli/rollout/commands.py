"""`taskfleet rollout …` on the command line: names, options and help. The work is in `showing` and `steering`, which need what a laptop has only with the extra `cli`."""

from typing import Annotated

import typer

from taskfleet.cli.rollout.verbs import Verb
from taskfleet.cli.target import Output, Target

app = typer.Typer(
    no_args_is_help=True,
    help="How versions of a task are rolled: see how it stands, and steer it.",
    epilog="Exit codes: 0 serves, or was written; 1 rejected, failed, or nothing to act on; 2 usage, no right, or no cluster; 3 under way; 4 held.",
)

Name = Annotated[str, typer.Argument(help="Name of the TaskModel.", metavar="NAME")]
Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="Its namespace; that of the context unless set.")]
Context = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig; the current one unless set.")]
Kubeconfig = Annotated[str | None, typer.Option("--kubeconfig", help="Path of the kubeconfig; as kubectl finds it unless set.")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="text or json.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Draw it again at each change, until the rollout has ended.")]
Timeout = Annotated[
    float | None, typer.Option("--timeout", min=0, help="Seconds after which --watch ends, with the exit code of that moment.")
]


@app.command()
def status(
    name: Name,
    *,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: OutputOption = Output.TEXT,
    watch: Watch = False,
    timeout: Timeout = None,
) -> None:
    """Show the TaskModel, its revisions with scores and weights, the evaluation and the pods. The exit code tells how the rollout stands."""
    from taskfleet.cli.rollout.showing import show_status  # noqa: PLC0415

    raise typer.Exit(show_status(Target(kubeconfig, context, namespace), name, output=output, watch=watch, timeout=timeout))


@app.command()
def history(
    name: Name,
    *,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List all revisions that are kept, with verdicts, figures and times."""
    from taskfleet.cli.rollout.showing import show_history  # noqa: PLC0415

    raise typer.Exit(show_history(Target(kubeconfig, context, namespace), name, output=output))


@app.command()
def pause(name: Name, *, namespace: Namespace = None, context: Context = None, kubeconfig: Kubeconfig = None) -> None:
    """Hold the rollout where it is. It is still rolled back if it does badly."""
    _carry_out(Verb.PAUSE, name, Target(kubeconfig, context, namespace))


@app.command()
def resume(name: Name, *, namespace: Namespace = None, context: Context = None, kubeconfig: Kubeconfig = None) -> None:
    """Let a paused rollout go on."""
    _carry_out(Verb.RESUME, name, Target(kubeconfig, context, namespace))


@app.command()
def promote(
    name: Name,
    *,
    full: Annotated[bool, typer.Option("--full", help="All traffic at once, instead of the next step.")] = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Go on to the next step, or with --full to all traffic. Skips steps, never the gate."""
    _carry_out(Verb.PROMOTE_FULLY if full else Verb.PROMOTE, name, Target(kubeconfig, context, namespace))


@app.command()
def abort(name: Name, *, namespace: Namespace = None, context: Context = None, kubeconfig: Kubeconfig = None) -> None:
    """Stop the rollout: all traffic goes back to the stable revision, and the new one counts as rejected."""
    _carry_out(Verb.ABORT, name, Target(kubeconfig, context, namespace))


@app.command()
def retry(name: Name, *, namespace: Namespace = None, context: Context = None, kubeconfig: Kubeconfig = None) -> None:
    """Roll a rejected revision again, from its gate on."""
    _carry_out(Verb.RETRY, name, Target(kubeconfig, context, namespace))


@app.command()
def undo(name: Name, *, namespace: Namespace = None, context: Context = None, kubeconfig: Kubeconfig = None) -> None:
    """Take back the revision that serves: the one before it serves again. The spec stays as it is."""
    _carry_out(Verb.UNDO, name, Target(kubeconfig, context, namespace))


def _carry_out(verb: Verb, name: str, target: Target) -> None:
    from taskfleet.cli.rollout.steering import carry_out  # noqa: PLC0415

    raise typer.Exit(carry_out(target, verb, name))
