"""``fit --config``: a file in place of options, and the file that a run writes of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from spineone_core.detection.model_package import MANIFEST
from spineone_core.network.config import SIZE_MULTIPLE
from trainer.datasets import formats
from trainer.training import run_file
from trainer.training.recipe import Recipe, Schedule
from trainer.training.recipe_changes import changed, nested, parse_assignment

# Where the recipe's settings of a file are, in the command's ``meta``.
SETTINGS = "settings"
# What a file does not say: where the run lies, and whether it goes on.
_NOT_IN_FILE = ("out", "config", "resume", "extend", "help")
# Options that change the recipe: the written file has their outcome, the recipe's settings.
_OF_RECIPE = ("epochs", "batch", "crop", "trunk", "width", "learning_rate", "set")

T = TypeVar("T", bound=Schedule)


def _names(context: typer.Context) -> dict[str, str]:
    """Option -> parameter, as in ``{"phantoms": "phantom_count"}``."""
    found = {p.opts[0].removeprefix("--").replace("-", "_"): str(p.name) for p in context.command.params}
    return {option: name for option, name in found.items() if option not in _NOT_IN_FILE}


def _read(context: typer.Context, path: Path | None) -> Path | None:
    """Make the file's options the defaults of this call; what is given on the command line replaces them."""
    if path is None:
        return None
    try:
        options, settings = run_file.read(path)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    names = _names(context)
    unknown = sorted(set(options) - set(names))
    if unknown:
        raise typer.BadParameter(
            f"{path}: unknown {', '.join(unknown)}; allowed: {', '.join(sorted(names))}, {SETTINGS}"
        )
    context.default_map = {names[option]: value for option, value in options.items()}
    context.meta[SETTINGS] = settings
    return path


ConfigOption = Annotated[
    Path | None,
    typer.Option(help="file of options, such as the run.toml of a run", callback=_read, is_eager=True),
]


def render_options(context: typer.Context) -> dict[str, Any]:
    """The options of this call for `trainer.training.run_file.render`; paths are absolute."""
    found = {option: context.params[name] for option, name in _names(context).items() if option not in _OF_RECIPE}
    return {option: _absolute(option, value) for option, value in found.items()}


def _absolute(option: str, value: Any) -> Any:
    if option == "data":
        return [f"{name}:{folder.resolve()}" for name, folder in map(formats.parse, value)]
    if option == "init" and value is not None and (Path(value) / MANIFEST).exists():
        return Path(value).resolve()
    return value.resolve() if isinstance(value, Path) else value


def changed_recipe(
    recipe: T, values: Mapping[str, Any], assignments: Sequence[str], crop: tuple[int, int] | None = None
) -> T:
    """The recipe with other values by dotted name, None leaving it as it is; ``assignments`` are ``NAME=VALUE``.

    Raises
    ------
    ValueError
        If there is no such setting, or a value is impossible.
    """
    given = {name: value for name, value in values.items() if value is not None}
    if crop is not None:
        given |= _crop(recipe, crop)
    return changed(recipe, nested({**given, **dict(map(parse_assignment, assignments))}))


def _crop(recipe: Schedule, crop: tuple[int, int]) -> dict[str, Any]:
    """Crops of so many rows and columns; tall ones grow or shrink with them."""
    if not isinstance(recipe, Recipe):
        raise ValueError("--crop is for lumbar MRI; give --set crop=[Z, Y, X]")
    if min(crop) < SIZE_MULTIPLE or any(side % SIZE_MULTIPLE for side in crop):
        raise ValueError(f"--crop {crop[0]} {crop[1]}; allowed: multiples of {SIZE_MULTIPLE}")
    old = recipe.augmentation
    if old.canvas and max(crop) > old.canvas:
        raise ValueError(f"--crop {crop[0]} {crop[1]} is larger than the recipe's picture of {old.canvas} pixels")
    tall = [
        max(1, round(tall * new / size / SIZE_MULTIPLE)) * SIZE_MULTIPLE
        for tall, size, new in zip(old.tall_size, old.size, crop, strict=True)
    ]
    return {"augmentation.size": list(crop), "augmentation.tall_size": tall}
