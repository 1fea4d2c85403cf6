"""The data folder's subfolders and the names of the files in them."""

from __future__ import annotations

import os
from pathlib import Path

from dicom_node.dicom.headers import HeaderError
from dicom_node.images.incoming import Identity
from dicom_node.system.disk import why_not_writable
from dicom_node.system.files import safe_path, sha256_of, sync_folder

FOLDERS = ("instances", "spool", "quarantine", "quarantine-notes", "results")


def prepare_folders(data_dir: Path) -> None:
    """Create the data folder's subfolders. Only the node's own user may look inside: the files are patient data."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
    for name in FOLDERS:
        (data_dir / name).mkdir(exist_ok=True, mode=0o750)
    sync_folder(data_dir)
    sync_folder(data_dir.parent)


def unwritable(data_dir: Path) -> str:
    """Why the data folder cannot be written; empty if it can."""
    return why_not_writable(data_dir / name for name in FOLDERS)


def instance_path(data_dir: Path, identity: Identity, sha256: str) -> Path:
    """The path at which a version of an instance is kept."""
    name = f"{identity.sop_instance_uid}-{sha256[:16]}.dcm"
    return safe_path(data_dir / "instances", identity.study_uid, identity.series_uid, name)


def check_name(path: Path) -> None:
    """Check a file against its name, which is derived from its content, so that a cut or changed file is noticed.

    Raises
    ------
    HeaderError
        If the name does not fit the content.
    """
    if sha256_of(path)[:16] != path.stem.rpartition("-")[2]:
        raise HeaderError("it has other bytes than its name says")


def files_below(root: Path, name: str) -> dict[str, int]:
    """The names, relative to ``root``, and sizes of the files in a folder.

    The names are plain strings: a hundred thousand Path objects would take seconds.
    """
    found, folders = {}, [name]
    while folders:
        folder = folders.pop()
        with os.scandir(f"{root}/{folder}") as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{folder}/{entry.name}")
                else:
                    found[f"{folder}/{entry.name}"] = entry.stat(follow_symlinks=False).st_size
    return found
