"""The recipes of `mivos train`, by part and name. The first of a part is its default."""

from __future__ import annotations

from pipelines.training.base import Recipe
from pipelines.training.recipes.fusion import FusionDavis, FusionRendered, FusionStcnDavis, FusionStcnRendered
from pipelines.training.recipes.nano import (
    NanoFusionRecipe,
    NanoInteractionRecipe,
    NanoPropagationRecipe,
    PlainNanoFusionRecipe,
)
from pipelines.training.recipes.propagation import (
    StcnMain,
    StcnMainShort,
    StcnRendered,
    StcnStatic,
    StmMain,
    StmRendered,
    StmStatic,
)
from pipelines.training.recipes.s2m import S2MRecipe
from stores.errors import UsageError

_ALL: tuple[Recipe, ...] = (
    NanoInteractionRecipe(),
    NanoPropagationRecipe(),
    NanoFusionRecipe(),
    PlainNanoFusionRecipe(),
    S2MRecipe(),
    StmStatic(),
    StmRendered(),
    StmMain(),
    StcnStatic(),
    StcnRendered(),
    StcnMain(),
    StcnMainShort(),
    FusionRendered(),
    FusionDavis(),
    FusionStcnRendered(),
    FusionStcnDavis(),
)
PARTS = ("s2m", "propagation", "fusion")
RECIPES: dict[str, dict[str, Recipe]] = {
    part: {recipe.name: recipe for recipe in _ALL if recipe.part == part} for part in PARTS
}


def find_recipe(words: str) -> Recipe:
    """The recipe of "part" (its nano recipe), "part/name", or a title such as "fusion-no-difference".

    Raises:
        UsageError: there is none.
    """
    part, _, name = words.partition("/")
    if part not in RECIPES:  # a title, as checkpoints and weight files have it
        titled = [recipe for recipe in _ALL if recipe.title == part and name in ("", "nano")]
        if not titled:
            raise UsageError(f"unknown recipe {words!r}", hint=f"choose one of: {', '.join(RECIPES)}")
        return titled[0]
    if name and name not in RECIPES[part]:
        raise UsageError(f"{part} has no recipe {name!r}", hint=f"choose one of: {', '.join(RECIPES[part])}")
    return RECIPES[part][name or "nano"]
