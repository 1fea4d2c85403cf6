"""The version of the software, and the option ``--version`` of its programs."""

# Annotations are evaluated here: the option's callback is a local name that Typer could not find by its text.

from importlib import metadata
from typing import Annotated

import typer

DISTRIBUTION = "spineone-node"


def software_version() -> str:
    """Version of the installed distribution; ``0+source`` where the code runs from a bare checkout."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "0+source"


def add_version_option(app: typer.Typer, program: str) -> None:
    """Give a program the option ``--version``, which prints its name and version and ends it."""

    def show(asked: bool) -> None:
        if asked:
            print(f"{program} {software_version()}")
            raise typer.Exit

    @app.callback()
    def options(
        version: Annotated[
            bool, typer.Option("--version", callback=show, is_eager=True, help="print name and version")
        ] = False,
    ) -> None:
        pass
