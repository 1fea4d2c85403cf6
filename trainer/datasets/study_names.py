"""Names of studies from their folders; which files are one study, their StudyInstanceUID says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path

from spineone_core.imaging.headers import FrameHeader

Parts = tuple[str, ...]


class StudyNames:
    """``SUBSET/STUDY`` for each study: the data set's folder, and the shortest path below it that no other study shares.

    So ``lumbar/study1`` names a study in its folder, and ``lumbar/train/study1`` one that lies a level deeper. Studies that share
    one folder are told apart by the end of their UIDs.
    """

    def __init__(self, folder: Path, headers: Iterable[FrameHeader]) -> None:
        self.folder = folder
        places: dict[str, set[Parts]] = defaultdict(set)
        for header in headers:
            places[header.study_uid].add(header.path.parent.relative_to(folder).parts)
        self._common = {uid: _common_start(of) for uid, of in places.items()}
        starts: dict[Parts, set[str]] = defaultdict(set)
        for uid, of in places.items():
            for parts in of:
                for depth in range(len(parts) + 1):
                    starts[parts[:depth]].add(uid)
        self._name_of = {uid: self._name(uid, common, starts) for uid, common in self._common.items()}
        self.all = set(self._name_of.values())

    def of(self, header: FrameHeader) -> str:
        """The name of a frame's study."""
        return self._name_of[header.study_uid]

    def of_path(self, path: Path) -> str:
        """The name of the only study that lies in the folder of a file, else that folder's own."""
        parts = path.parent.relative_to(self.folder).parts
        near = {self._name_of[uid] for uid, common in self._common.items() if common and parts[: len(common)] == common}
        return near.pop() if len(near) == 1 else "/".join((self.folder.name, *parts))

    def _name(self, uid: str, common: Parts, starts: dict[Parts, set[str]]) -> str:
        for depth in range(1, len(common) + 1):
            if starts[common[:depth]] == {uid}:
                return "/".join((self.folder.name, *common[:depth]))
        return "/".join((self.folder.name, *common, uid[-12:]))


def _common_start(places: Iterable[Parts]) -> Parts:
    """The folders that all paths begin with."""
    return tuple(at[0] for at in takewhile(lambda at: len(set(at)) == 1, zip(*places, strict=False)))
