"""Options of the commands that work on many videos: where, how many at a time, which part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from mivos_cli.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.evaluation.eval_tasks import Share
    from pipelines.execution.executors import Setup

PARTLY_DONE = 3  # exit code
PANEL = "Execution"
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        max=1024,
        help="Videos at a time: processes on this machine, which share its cores.",
        show_default="1",
        rich_help_panel=PANEL,
    ),
]
ExecutorName = Annotated[
    str | None,
    typer.Option(
        "--executor",
        help="serial, processes, dask, or one that a package adds.",
        show_default="as --workers and --cluster say",
        rich_help_panel=PANEL,
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help="A Dask scheduler, tcp://HOST:PORT, or local for one on this machine. All machines see the same paths.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="K/N",
        help="Only the K-th of N parts, from 1 on: for job arrays. All parts write into one output folder.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
Retries = Annotated[
    int,
    typer.Option(
        "--retries",
        min=0,
        max=100,
        help="Further attempts at a video whose worker died or that failed for a passing reason.",
        rich_help_panel=PANEL,
    ),
]


def execution(workers: int | None, executor: str | None, cluster: str | None, shard: str | None, retries: int) -> Setup:
    """The Python API's form of the execution options."""
    from pipelines.execution.executors import Setup
    from pipelines.execution.tasks import parse_shard

    return Setup(executor, workers, cluster, None if shard is None else parse_shard(shard), retries)


def end_of_share(out: Output, share: Share, what: str) -> NoReturn:
    """Tell how far a run of several processes or shards is that cannot be summed up yet, and end the command."""

    def human(console: Console) -> None:
        for outcome in share.failed:
            hint = f" ({outcome.hint})" if outcome.hint else ""
            console.print(f"failed: {outcome.id}: {outcome.error}{hint}", soft_wrap=True)
        console.print(f"{share.finished} of {share.total} {what} are finished; run again for the rest and the results")

    out.result(share.to_json(), human)
    raise typer.Exit(PARTLY_DONE if share.failed else 0)
