"""`verify`, `purge`, `export`, `backup`, `restore`: what the node keeps, and copies of it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.alerts.record import raise_alert
from dicom_node.audit.log import AuditLog
from dicom_node.audit.people import command, person
from dicom_node.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption, log_errors_only, open_node, open_to_change
from dicom_node.cli.printing import print_json
from dicom_node.database.words import AlertKind
from dicom_node.errors import NodeError
from dicom_node.settings.reading import load_settings
from dicom_node.upkeep.backup import restore_backup, write_backup
from dicom_node.upkeep.retention import Retention
from dicom_node.upkeep.verify import verify_files


def verify(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Check every stored file against its SHA-256 (exit 1 if one is missing or changed)."""
    settings, database = open_node(config)
    problems = list(verify_files(database, settings.data_dir))
    for uid, path, what in problems:
        print(f"error: {path} {what}", file=sys.stderr)
        with database.write() as session:
            raise_alert(session, AlertKind.MISSING_FILE, uid, f"{path} {what}")
    if problems:
        raise NodeError(f"{len(problems)} files are not as they were received")
    print("ok: every file is as it was received")


def purge(
    config: ConfigOption = DEFAULT_CONFIG,
    study: Annotated[str | None, typer.Option("--study", help="only this study, whatever its age")] = None,
    older_than: Annotated[
        int | None, typer.Option("--older-than", min=0, help="days; without: retention.keep_days")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be deleted")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete the images of studies whose results are safe (`[retention] evidence`), and say which are kept and why."""
    settings, database = (open_node if dry_run else open_to_change)(config)
    days = settings.retention.keep_days if older_than is None else older_than
    if study is None and older_than is None and not days:
        raise NodeError("retention.keep_days is 0, so nothing is old enough: give --older-than DAYS or --study UID")
    retention = Retention(settings, database, asked_by=person())
    studies = [study] if study else retention.older_than(days)
    verdicts = [retention.judge(uid) if dry_run else retention.purge(uid) for uid in studies]
    if as_json:
        print_json([asdict(verdict) for verdict in verdicts])
    else:
        for verdict in verdicts:
            print(verdict.line(done=not dry_run))
        deleted = [verdict for verdict in verdicts if not verdict.kept_because]
        size = sum(verdict.size for verdict in deleted) / 1e6
        print(f"{'would delete' if dry_run else 'deleted'}: {len(deleted)} of {len(verdicts)} studies, {size:.0f} MB")
    if study and verdicts[0].kept_because:
        raise typer.Exit(1)


def export(
    out: Annotated[Path, typer.Option("--out", help="folder for the studies", file_okay=False)],
    study: Annotated[list[str] | None, typer.Option("--study", help="Study Instance UID; may be repeated")] = None,
    since: Annotated[
        datetime | None, typer.Option("--since", formats=["%Y-%m-%d"], help="all with a result since this day (UTC)")
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", help="file of the site's key; without: export.key in the data folder")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Write analysed series for training: de-identified, with the findings as a proposal for review (docs/training.md)."""
    # This loads highdicom.
    from dicom_node.upkeep.export import KEY_NAME, Exporter, read_key

    settings, database = open_node(config)
    if not study and since is None:
        raise typer.BadParameter("give --study UID or --since YYYY-MM-DD")
    out.mkdir(parents=True, exist_ok=True)
    exporter = Exporter(settings, database, out, read_key(key or settings.data_dir / KEY_NAME))
    found = exporter.studies_since(since.replace(tzinfo=UTC)) if since else []
    done = [exporter.export(uid) for uid in dict.fromkeys([*(study or []), *found])]
    if as_json:
        print_json([asdict(row) for row in done])
    else:
        for row in done:
            print(f"{row.study_uid}: {f'left out: {row.left_out}' if row.left_out else f'{row.files} images'}")
    written = [row for row in done if not row.left_out]
    print(f"exported: {len(written)} of {len(done)} studies", file=sys.stderr)
    if done and not written:
        raise typer.Exit(1)


def backup(
    file: Annotated[Path, typer.Argument(help="tar file to write; must not exist")],
    config: ConfigOption = DEFAULT_CONFIG,
    with_files: Annotated[
        bool, typer.Option("--with-files", help="include every received file and every file of a result")
    ] = False,
) -> None:
    """Write a backup while the node runs: database and settings, on request every stored file."""
    settings, database = open_node(config)
    database.close()
    with command(AuditLog(settings), f"backup to {file.resolve()}{', with all files' if with_files else ''}"):
        summary = write_backup(settings, config, file, with_files=with_files)
    print(f"ok: {file}: database of schema {summary.schema}, settings, {summary.files} files")


def restore(
    file: Annotated[Path, typer.Argument(help="backup to read", exists=True, dir_okay=False)],
    folder: Annotated[Path, typer.Option("--dir", help="folder of the node")] = Path(),
) -> None:
    """Put a backup back into a folder without a database; a node.toml there is kept and decides where the data go."""
    log_errors_only()
    summary, config = restore_backup(file, folder)
    with command(AuditLog(load_settings(config)), f"restore of the backup {file.resolve()} of {summary.created_at}"):
        # Only now is there a node whose audit log can record the restore.
        pass
    print(f"ok: {config}: as of {summary.created_at}, {summary.files} files")
    print(f"next: dicom-node verify --config {config}")
