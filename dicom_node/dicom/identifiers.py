"""Names and UIDs of what the node writes: equal content gets the same UID, different content never does.

A UID is ``2.25.`` followed by a name-based UUID as a decimal number (PS3.5 B.2, RFC 9562 version 5). The name is the
SHA-256 of a canonical JSON text, so that not even a crafted input can make two results collide.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset

from dicom_node.dicom.sop_classes import OWN_RESULTS
from spineone_core.anatomy import Landmark
from spineone_core.version import software_version

MANUFACTURER = "SpineOne Node project"
MODEL_NAME = "SpineOne Node"

# Raise it whenever a change makes reports, overlays or presentation states of equal inputs look different.
WRITER_VERSION = "3"

_NAMESPACE = uuid.UUID("6f1c2f0e-3f5b-5a53-9a5e-2d9c7b1e40d7")

SOFTWARE_VERSION = software_version()


@dataclass(frozen=True)
class ResultKey:
    """Everything that a result's content depends on.

    Parameters
    ----------
    study_uid
        Study Instance UID.
    inputs
        For each analysed instance, its SOP Instance UID and the SHA-256 of its content. Order and repetition do not
        matter.
    model_digest
        SHA-256 of the model package, hex.
    settings_digest
        Digest of the settings that change results; it may be empty if there are none.
    created
        Time of the job, which is written into the objects: what is made again at another time has other UIDs. It does
        not say whether a result is new.

    Raises
    ------
    ValueError
        If there is no study UID.
    """

    study_uid: str
    inputs: tuple[tuple[str, str], ...]
    model_digest: str
    settings_digest: str
    created: str

    def __post_init__(self) -> None:
        if not self.study_uid:
            raise ValueError("a result key needs a study UID")
        object.__setattr__(self, "inputs", tuple(sorted(set(self.inputs))))

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over all fields, the version of the writer and the version of the software."""
        return _digest(
            {
                "study": self.study_uid,
                "inputs": [list(pair) for pair in self.inputs],
                "model": self.model_digest,
                "settings": self.settings_digest,
                "created": self.created,
                "writer": WRITER_VERSION,
                "software": SOFTWARE_VERSION,
            }
        )

    def uid(self, role: str) -> str:
        """The UID of one object or series of this result; a role is e.g. ``"sr"``, ``"sr-series"``, ``"overlay"``."""
        if not role:
            raise ValueError("a UID needs a role")
        return _uid({"kind": "result", "key": self.digest, "role": role})


def tracking_uid(study_uid: str, landmark: Landmark | None) -> str:
    """Tracking Unique Identifier (112040) of a structure: a disc of a study keeps it through every re-analysis.

    A ``landmark`` of None stands for the lumbar spine as a whole.
    """
    structure, level = (landmark.structure.value, landmark.level) if landmark else ("spine", "")
    return _uid({"kind": "tracking", "study": study_uid, "structure": structure, "level": level})


def tracking_identifier(landmark: Landmark) -> str:
    """Tracking Identifier (112039): readable, and unique within a report: ``"L4 vertebra"``, ``"L4-L5 disc"``."""
    return f"{landmark.level} {landmark.structure.value}"


def model_device_uid(model_digest: str) -> str:
    """Device UID (0018,1002) of the analysing algorithm: it changes with the model, and only with the model."""
    return _uid({"kind": "device", "model": model_digest})


# Ours, so that no library's root appears in File Meta Information (PS3.10 7.1).
IMPLEMENTATION_CLASS_UID = "2.25." + str(uuid.uuid5(_NAMESPACE, "implementation-class").int)
IMPLEMENTATION_VERSION_NAME = f"SPINEONE_{SOFTWARE_VERSION}"[:16]


def is_own_result(dataset: Dataset) -> bool:
    """Whether an object was written by a SpineOne node (this one or another), judged by its header alone.

    Only objects of classes that the node writes can be its own: an MR image that names us in its equipment (a phantom,
    an original that passed through) is an input. An archive may overwrite Manufacturer; then Contributing Equipment
    still tells.
    """
    if _text(dataset, "SOPClassUID") not in OWN_RESULTS:
        return False
    return _is_ours(dataset) or any(_is_ours(item) for item in _items(dataset, "ContributingEquipmentSequence"))


def _is_ours(equipment: Dataset) -> bool:
    return _text(equipment, "Manufacturer") == MANUFACTURER


def _text(dataset: Dataset, keyword: str) -> str:
    try:
        return str(dataset.get(keyword) or "").strip().strip("\0")
    except Exception:  # an element that cannot be decoded is no proof of anything
        return ""


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    try:
        return [item for item in dataset.get(keyword) or [] if isinstance(item, Dataset)]
    except Exception:  # as above
        return []


def _digest(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _uid(content: dict[str, Any]) -> str:
    return f"2.25.{uuid.uuid5(_NAMESPACE, _digest(content)).int}"
