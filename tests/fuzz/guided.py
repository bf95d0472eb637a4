"""Coverage-guided fuzzing of one target: `python -m tests.fuzz.guided TARGET RUNS FOLDER`.

libFuzzer mutates what reached new code. A case that breaks a promise ends the run with its trace and is kept in FOLDER.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import atheris

CASE_SECONDS = 20
MEMORY_MB = 3000
LENGTH = 90  # of a first document, so that it is not an empty one
NAMES = {"masks": "mask.png", "checkpoints": "net.pth", "manifests": "m.csv", "annotations": "labels.json"}
# What is watched for new ways through it; it must not have been imported before.
MODULES = {
    "scribbles": "stores.scribbles stores.strokes stores.json_files",
    "masks": "stores.masks stores.png stores.mask_colours",
    "scenes": "blender.scene_file stores.json_files",
    "records": "pipelines.evaluation.records stores.json_files",
    "actions": "pipelines.editing.actions",
    "manifests": "stores.manifest",
    "annotations": "stores.exchange stores.exchange.reading",
    "checkpoints": "stores.checkpoints",
}


def seeds(target: str) -> list[bytes]:
    """Sound files to begin with."""
    from hypothesis import find

    from tests.fuzz import documents, pictures, weights

    if target == "masks":
        return pictures.SOUND
    if target == "checkpoints":
        return list(weights.seeds())
    if target == "manifests":
        return [documents.ROWS.encode()]
    strategy = {"actions": documents.action, "records": documents.record}.get(target) or getattr(documents, target)
    first = json.dumps(find(strategy, lambda value: len(json.dumps(value)) > LENGTH)).encode()
    return [first, documents.CVAT.encode()] if target == "annotations" else [first]


def main(target: str, runs: int, folder: Path) -> None:
    """Run until `runs` cases are done or one fails."""
    with atheris.instrument_imports(include=["stores", "blender", "pipelines.evaluation", "pipelines.editing"]):
        for module in MODULES[target].split():  # readers import them only when they run, which is too late
            importlib.import_module(module)
        from stores.errors import MivosError
        from tests.fuzz.readers import READERS

        reader = READERS[target]
        reader.warm_up()
    corpus, cases = folder / "corpus", folder / "cases"
    for path in (corpus, cases):
        path.mkdir(parents=True, exist_ok=True)
    for index, data in enumerate(seeds(target)):
        (corpus / str(index)).write_bytes(data)
    case = cases / NAMES.get(target, "case.json")
    for name in ("clip.mp4", "s.json"):
        (cases / name).touch()

    def one(data: bytes) -> None:
        case.write_bytes(data)
        try:
            reader.check(case)
        except MivosError as error:
            assert reader.problem_of(error, case) is None, (reader.problem_of(error, case), str(error))

    options = [
        f"-runs={runs}",
        f"-timeout={CASE_SECONDS}",
        f"-rss_limit_mb={MEMORY_MB}",
        "-max_len=20000",
        "-len_control=0",
    ]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}/", str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
