"""Scores during training, by the evaluations that users have too. Their packages are needed only where this is used."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from pipelines.engine import ModelChoice
from pipelines.evaluation.dev_split import evaluate_dev_split, evaluate_s2m
from pipelines.evaluation.scoring import score_folders
from pipelines.flow import segment
from pipelines.training.base import Recipe
from pipelines.training.options import TrainOptions
from pipelines.training.state import save_published, save_weights
from stores.davis import DavisDataset
from stores.errors import DatasetError, UsageError

SPLIT = "val"


def validate(
    recipe: Recipe, weights: dict[str, Tensor], options: TrainOptions, device: torch.device
) -> dict[str, float]:
    """Scores weights on the dev split of ``options.validate`` (0..100).

    Propagation: J&F with the first frame's true mask given. S2M: J of the split's scribble files, each from an empty
    mask. Fusion: J&F after two rounds whose true masks are those of the first and of the middle frame.

    Raises:
        UsageError: no root. DatasetError, MaskError, ModelError: as the evaluations.
    """
    if options.validate is None:
        raise UsageError("nothing to validate on", hint="--validate ROOT")
    with tempfile.TemporaryDirectory(prefix="mivos-valid-") as name:
        folder = Path(name)
        root, sequences = options.validate, None
        if options.validate_sequences or options.validate_frames:
            sequences = DavisDataset(root, split=SPLIT).sequences()[: options.validate_sequences]
            if recipe.part != "s2m":  # the scribbles of that are for whole sequences
                root = _shortened(root, sequences, options.validate_frames, folder / "data")
        file = folder / f"weights{'.pth' if recipe.published else '.safetensors'}"
        (save_published if recipe.published else save_weights)(weights, file)
        files = (file,) if recipe.part != "fusion" or options.propagation is None else (file, options.propagation)
        model = ModelChoice(recipe.model, device.type, "torch", checkpoints=files)
        if recipe.part == "s2m":
            return {"J": evaluate_s2m(root, model=model, sequences=sequences).mean * 100}
        if recipe.part == "propagation":
            report = evaluate_dev_split(root, model=model, baselines=False, sequences=sequences)
            mean = report.mean(report.methods[0])
            return {"J": mean.j, "F": mean.f, "J&F": mean.jf}
        return _two_rounds(root, sequences, model, folder)


def _two_rounds(root: Path, sequences: list[str] | None, model: ModelChoice, folder: Path) -> dict[str, float]:
    """J&F of sequences that were marked on their first and their middle frame."""
    dataset = DavisDataset(root, split=SPLIT)
    for name in sequences or dataset.sequences():
        masks, given = dataset.annotations(name), folder / "given" / name
        for number in (0, len(masks) // 2):
            (given / str(number)).mkdir(parents=True)
            (given / str(number) / masks[number].name).symlink_to(masks[number].resolve())
            segment(
                dataset.frames(name)[0].parent, folder / "out" / name, masks=given / str(number), snap=True,
                session=folder / "sessions" / name, model=model, formats=("png",), force=True,
            )  # fmt: skip
        found = next(path for path in (folder / "out" / name).rglob("*.png")).parent
        (folder / "found").mkdir(exist_ok=True)
        found.rename(folder / "found" / name)
    truth = dataset.annotations((sequences or dataset.sequences())[0])[0].parent.parent
    mean = score_folders(truth, folder / "found", sequences=sequences or dataset.sequences()).mean
    if mean is None:
        raise DatasetError(f"{root}: no object in the frames that are scored")
    return {"J": mean["j"], "F": mean["f"], "J&F": mean["jf"]}


def _shortened(root: Path, sequences: list[str], frames: int | None, out: Path) -> Path:
    """The first frames of some sequences as a DAVIS-layout folder of links."""
    dataset = DavisDataset(root, split=SPLIT)
    (out / "ImageSets" / "2017").mkdir(parents=True)
    (out / "ImageSets" / "2017" / f"{SPLIT}.txt").write_text("".join(f"{name}\n" for name in sequences))
    for name in sequences:
        for kind, files in (("JPEGImages", dataset.frames(name)), ("Annotations", dataset.annotations(name))):
            target = out / kind / "480p" / name
            target.mkdir(parents=True)
            for path in files[:frames]:
                (target / path.name).symlink_to(path.resolve())
    return out
