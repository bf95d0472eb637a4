"""`mivos bench confidence`: whether the page's confidence points at mistakes."""

from __future__ import annotations

from rich.console import Console

from mivos_cli.options import DataRoot, Model, Sequences
from mivos_cli.output import Json, Output, Verbose, row_table


def confidence(
    data: DataRoot, sequences: Sequences = None, model: Model = "nano", json: Json = False, verbose: Verbose = False
) -> None:
    """Compare a frame's confidence with its true overlap, on held-out sequences."""
    out = Output(json=json, verbose=verbose)
    with out.progress() as progress:
        from pipelines.evaluation.certainty import measure_certainty

        report = measure_certainty(data, model=model, sequences=sequences, progress=progress)

    def human(console: Console) -> None:
        rows = [
            {
                "sequence": row.sequence,
                "frames": row.frames,
                "rank correlation": row.rank_correlation,
                "J": row.j,
                "J of the least sure tenth": row.j_least,
            }
            for row in report.rows
        ]
        row_table(console, f"{report.model}: confidence and overlap of frames", rows)

    out.result(report.to_json(), human)
