"""A disk of its own for a node: it can be filled, and have an error that makes it read-only."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MOST_NAMES = 200_000


class Disk:
    """An ext4 file system in a file, mounted at ``at``; after an error it is read-only.

    Raises
    ------
    OSError
        If this user or this system cannot mount one; the message says why.
    """

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.at = folder / "disk"
        self._image = folder / "disk.img"
        if os.geteuid() != 0:
            raise OSError("only root may mount a disk")
        self.at.mkdir()
        with self._image.open("wb") as file:
            file.truncate(megabytes * 1_000_000)
        # Files are small, so it needs many names; but all of them can be taken within a minute.
        _run("mkfs.ext4", "-q", "-N", min(250 * megabytes, _MOST_NAMES), self._image)
        self._mount()

    def _mount(self) -> None:
        _run("mount", "-o", "loop,errors=remount-ro", self._image, self.at)

    @property
    def _trigger(self) -> Path:
        """Where the kernel takes the order to have an error."""
        device = _run("losetup", "-nO", "NAME", "-j", self._image).split()[0]
        return Path(f"/sys/fs/ext4/{Path(device).name}/trigger_fs_error")

    def can_fail(self) -> bool:
        """Whether this kernel lets us make an error."""
        return os.access(self._trigger, os.W_OK)

    def fail(self) -> None:
        """An error: from now on nothing can be written, whatever is open."""
        self._trigger.write_text("test")

    def mount_again(self) -> None:
        """What an operator does after an error; nothing on the disk may be open."""
        _run("umount", self.at)
        subprocess.run(["fsck.ext4", "-p", self._image], capture_output=True, check=False)
        self._mount()

    def close(self) -> None:
        """Nothing of it is left."""
        subprocess.run(["umount", "--lazy", self.at], capture_output=True, check=False)
        self._image.unlink()


def _run(*command: object) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{command[0]}: {done.stderr.strip()}")
    return done.stdout


@contextmanager
def own_disk(folder: Path, megabytes: int) -> Iterator[Disk | None]:
    """A disk; None if this user or this system cannot mount one."""
    try:
        disk = Disk(folder, megabytes)
    except OSError as error:
        print(f"no disk of its own: {error}", flush=True)
        yield None
        return
    try:
        yield disk
    finally:
        disk.close()
