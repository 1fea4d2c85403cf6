"""`quarantine list|show|release|delete`: what the node put aside, and what becomes of it. The audit log says who did it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dicom_node.audit.log import AuditLog
from dicom_node.audit.people import command
from dicom_node.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption, WideOption, open_node
from dicom_node.cli.printing import print_json, print_lines, print_list
from dicom_node.cli.tables import cell, heading
from dicom_node.errors import NodeError
from dicom_node.images.quarantine import Quarantine
from dicom_node.upkeep import quarantined

FileArgument = Annotated[str, typer.Argument(metavar="FILE", help="name of the file, or a beginning that only it has")]
FilesArgument = Annotated[
    list[str], typer.Argument(metavar="FILE...", help="names of files, or beginnings that only one has")
]

app = typer.Typer(help="List, look into, release or delete the files in quarantine.", no_args_is_help=True)


@app.command("list")
def list_files(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False, wide: WideOption = False) -> None:
    """List the files in quarantine with the reason of each, the oldest first."""
    settings, database = open_node(config)
    with database.read() as session:
        rows = quarantined.listing(session, Quarantine(settings.data_dir))
    print_list("files in quarantine", rows, as_json, wide=wide)


@app.command()
def show(name: FileArgument, config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Show why a file is in quarantine and what it is, without patient data."""
    settings, database = open_node(config)
    quarantine = Quarantine(settings.data_dir)
    with database.read() as session:
        found = quarantined.detail(session, quarantine, quarantine.named(name))
    if as_json:
        print_json(found)
        return
    for key, value in found.items():
        print_lines(f"{heading(key):18} {cell(key, value, wide=True)}")


@app.command()
def release(names: FilesArgument, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Take files in as if they had just been sent, with every check of intake; exit 1 if one stays in quarantine.

    A conflict of pixels, study or class stays one: settle it in the archive, and delete the file that is wrong.
    """
    settings, database = open_node(config)
    audit = AuditLog(settings)
    refusals = []
    for path in _named(settings.data_dir, names):
        try:
            with command(audit, f"release of {path.name} from quarantine"):
                uid = quarantined.release(settings, database, path)
            print(f"{path.name}: taken in as {uid}")
        except NodeError as error:
            refusals.append(str(error))
    if refusals:
        raise NodeError("\n".join(refusals))


@app.command()
def delete(
    names: FilesArgument,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Delete files in quarantine for good; it asks before."""
    settings, database = open_node(config)
    audit = AuditLog(settings)
    paths = _named(settings.data_dir, names)
    if not yes:
        print_lines(*(str(path) for path in paths))
        typer.confirm(f"delete {len(paths)} files for good?", abort=True)
    for path in paths:
        with command(audit, f"deletion of {path.name} from quarantine"):
            quarantined.remove(settings, database, path)
        print(f"{path.name}: deleted")


def _named(data_dir: Path, names: list[str]) -> list[Path]:
    quarantine = Quarantine(data_dir)
    return list(dict.fromkeys(quarantine.named(name) for name in names))
