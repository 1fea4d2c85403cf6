"""`dicom-node backup` and `restore`: one tar file with the database, the settings and, on request, every stored file.

SQLite's own backup copies the database while the node runs. Stored files never change once they are indexed, so copying
them after the database gives a consistent backup.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from sqlalchemy import select
from sqlalchemy.engine import make_url

from dicom_node.database.connection import Database, prepare_database
from dicom_node.database.migrations import head
from dicom_node.database.tables import Instance, ResultFile
from dicom_node.dicom.identifiers import SOFTWARE_VERSION
from dicom_node.errors import NodeError
from dicom_node.images.folders import prepare_folders
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.reading import CONFIG_NAME, load_settings
from dicom_node.system.files import make_folder, safe_path, sha256_of, sync_folder

MANIFEST, DATABASE = "manifest.json", "node.db"
FORMAT = 1
_FILES = "files"


class BackupError(NodeError):
    """The backup could not be written or restored. Nothing that was there before has changed."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a backup holds."""

    created_at: str
    schema: str
    version: str
    files: int


def write_backup(settings: NodeSettings, config: Path, target: Path, *, with_files: bool = False) -> Summary:
    """Write a backup; ``target`` appears complete or not at all, and only its owner can read it.

    Raises
    ------
    BackupError
        If the database is not SQLite, ``target`` exists already, or the copy is damaged.
    OSError
        If it cannot be written.
    """
    source = _sqlite_file(settings)
    if target.exists():
        raise BackupError(f"{target} exists already; give another name")
    if not target.parent.is_dir():
        raise BackupError(f"no folder {target.parent}")
    with _scratch(target.parent) as folder:
        copy = folder / DATABASE
        _copy_database(source, copy)
        stored = _stored_files(copy) if with_files else {}
        summary = Summary(_now(), head(), SOFTWARE_VERSION, len(stored))
        manifest = _manifest(summary, copy, stored)
        archive = folder / "archive"
        with archive.open("xb") as stream, tarfile.open(fileobj=stream, mode="w") as tar:
            _add_text(tar, folder, MANIFEST, json.dumps(manifest, indent=1))
            tar.add(copy, DATABASE)
            tar.add(config, CONFIG_NAME)
            for name in stored:
                tar.add(settings.data_dir / name, f"{_FILES}/{name}")
        _make_durable(archive)
        archive.rename(target)
    sync_folder(target.parent)
    return summary


def restore_backup(source: Path, folder: Path) -> tuple[Summary, Path]:
    """Put a backup back below ``folder`` and bring its database up to date; settings that are already there are kept.

    Returns
    -------
    What was restored, and the settings file.

    Raises
    ------
    BackupError
        If ``source`` is not an intact backup, or the node there already has a database.
    """
    try:
        with tarfile.open(source, "r:") as tar:
            return _restore(tar, folder)
    except tarfile.TarError as error:
        raise BackupError(f"{source} is not a backup of a node: {error}") from None


def _restore(tar: tarfile.TarFile, folder: Path) -> tuple[Summary, Path]:
    manifest = _read_manifest(tar)
    make_folder(folder)
    config = folder / CONFIG_NAME
    if not config.exists():
        _restore_settings(tar, config)
    settings = load_settings(config)
    database = _sqlite_file(settings, must_exist=False)
    if database.exists():
        raise BackupError(f"there is a database at {database} already; restore into an empty data folder")
    prepare_folders(settings.data_dir)
    for name, sha256 in manifest[_FILES].items():
        _extract(tar, f"{_FILES}/{name}", safe_path(settings.data_dir, *name.split("/")), sha256)
    # The database comes last, so that an interrupted restore can simply be repeated.
    make_folder(database.parent)
    _extract(tar, DATABASE, database, manifest["database_sha256"])
    prepare_database(settings.database).close()
    return _summary(manifest), config


def _restore_settings(tar: tarfile.TarFile, config: Path) -> None:
    """Write the backup's settings, unless they would lead out of their folder: a backup may come from anywhere.

    A person who wants the data elsewhere puts a node.toml there first, or says so in the environment.
    """
    with config.open("xb") as file:
        shutil.copyfileobj(_member(tar, CONFIG_NAME), file)
    config.chmod(0o600)
    try:
        settings = load_settings(config)
        inside = config.parent.resolve()
        places = {
            "SPINEONE_DATA_DIR": settings.data_dir,
            "SPINEONE_DATABASE_URL": _sqlite_file(settings, must_exist=False),
        }
        for variable, place in places.items():
            if variable not in os.environ and not place.resolve().is_relative_to(inside):
                raise BackupError(
                    f"the backup's settings put data in {place}, outside {inside}: "
                    f"write {config} yourself first, then it decides"
                )
    except BackupError:
        config.unlink()
        raise


# ---------------------------------------------------------------- parts


def _sqlite_file(settings: NodeSettings, *, must_exist: bool = True) -> Path:
    url = make_url(settings.database)
    if url.get_backend_name() != "sqlite" or not url.database:
        raise BackupError(
            "the database is PostgreSQL: back it up with pg_dump (docs/operations.md), and the data folder"
        )
    path = Path(url.database)
    if must_exist and not path.is_file():
        raise BackupError(f"no database at {path}")
    return path


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder beside the target (same file system, same free space) that only its owner can read."""
    with tempfile.TemporaryDirectory(prefix=".backup-", dir=folder) as name:
        yield Path(name)


def _copy_database(source: Path, copy: Path) -> None:
    with closing(sqlite3.connect(source)) as original, closing(sqlite3.connect(copy)) as target:
        original.backup(target)
        # This makes the copy a single file, without a write-ahead log.
        target.execute("PRAGMA journal_mode=DELETE")
        verdict = target.execute("PRAGMA integrity_check").fetchone()[0]
    if verdict != "ok":
        raise BackupError(f"the database is damaged: {verdict}")
    copy.chmod(0o600)


def _stored_files(copy: Path) -> dict[str, str]:
    """The path below the data folder and the SHA-256 of every file that the copied database knows."""
    database = Database(f"sqlite:///{copy}")
    try:
        with database.read() as session:
            received = session.execute(select(Instance.path, Instance.sha256).where(Instance.purged_at.is_(None))).all()
            made = session.execute(select(ResultFile.path, ResultFile.sha256)).all()
    finally:
        database.close()
    return {row.path: row.sha256 for row in [*received, *made]}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _manifest(summary: Summary, copy: Path, stored: dict[str, str]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "created_at": summary.created_at,
        "schema": summary.schema,
        "version": summary.version,
        "database_sha256": sha256_of(copy),
        _FILES: stored,
    }


def _add_text(tar: tarfile.TarFile, folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    tar.add(path, name)


def _make_durable(path: Path) -> None:
    path.chmod(0o600)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    try:
        member = tar.extractfile(name)
    except KeyError:
        member = None
    if member is None:
        raise BackupError(f"the backup holds no {name}")
    return member


def _read_manifest(tar: tarfile.TarFile) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.load(_member(tar, MANIFEST))
        found = manifest["format"]
    except (ValueError, KeyError, TypeError):
        raise BackupError(f"the backup's {MANIFEST} cannot be read") from None
    if found != FORMAT:
        raise BackupError(f"the backup has format {found!r}; this version reads {FORMAT}")
    return manifest


def _summary(manifest: dict[str, Any]) -> Summary:
    return Summary(manifest["created_at"], manifest["schema"], manifest["version"], len(manifest[_FILES]))


def _extract(tar: tarfile.TarFile, name: str, target: Path, sha256: str) -> None:
    """Extract one file and check it before it gets its name."""
    make_folder(target.parent)
    part = target.with_name(f"{target.name}.part")
    with part.open("wb") as file:
        shutil.copyfileobj(_member(tar, name), file)
        file.flush()
        os.fsync(file.fileno())
    if sha256_of(part) != sha256:
        part.unlink()
        raise BackupError(f"the backup is damaged: {name} has other bytes than its manifest says")
    part.replace(target)
    sync_folder(target.parent)
