"""Where a package's weights come from: the packages that it was begun with, and the exams that these and it have seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spineone_core.detection.model_package import ModelPackage
from trainer.datasets.exam_hashes import ExamHashes

# Keys of a manifest's ``training``.
BEGUN_WITH, SEEN = "begun_with", "exams_seen"


def origin_of(package: ModelPackage) -> list[dict[str, Any]]:
    """The package, then those that it was begun with itself, the nearest first.

    Each has ``name``, ``version``, ``digest``, ``data`` (in words), ``licence`` and, where the package has them, the
    fingerprints of the exams that it was trained on.
    """
    training = package.manifest.training
    own = {
        **package.identity.to_json(),
        "data": training.get("data") or "not stated",
        "licence": package.manifest.licence or "not stated",
    }
    if SEEN in training:
        own[SEEN] = training[SEEN]
    return [own, *training.get(BEGUN_WITH, [])]


def exams_seen(training: Mapping[str, Any]) -> tuple[ExamHashes, list[str]]:
    """The fingerprints of all exams that a package and those before it were trained on, and the packages that keep none.

    Parameters
    ----------
    training
        The manifest's ``training``.
    """
    found = ExamHashes.from_json(training[SEEN]) if SEEN in training else ExamHashes()
    origin: Sequence[Mapping[str, Any]] = training.get(BEGUN_WITH, [])
    unknown = [] if SEEN in training else ["this package"]
    for package in origin:
        if SEEN in package:
            found |= ExamHashes.from_json(package[SEEN])
        else:
            unknown.append(f"{package['name']} {package['version']}")
    return found, unknown
