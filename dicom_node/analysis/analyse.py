"""Analysing one study: reading it, and making everything that the settings ask for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from pydicom.dataset import Dataset

from dicom_node.analysis.detector import StudyReader
from dicom_node.analysis.inputs import Headers, Input, used_inputs
from dicom_node.analysis.products import History, Material, Product, make_products
from dicom_node.dicom.identifiers import ResultKey
from dicom_node.results.envelope import departures, unwritable
from dicom_node.settings.node import NodeSettings
from spineone_core.findings import Detection, Reason
from spineone_core.imaging.headers import MR_IMAGES
from spineone_core.imaging.volume import SagittalVolume


@dataclass(frozen=True, slots=True)
class Analysis:
    """A detection and everything that was made from it.

    ``departures`` says in words, without values, what of patient and study the products do not repeat as it came.
    """

    detection: Detection
    key: ResultKey
    products: tuple[Product, ...]
    departures: tuple[str, ...] = ()


def settings_digest(settings: NodeSettings, *, salt: str = "") -> str:
    """SHA-256 over the settings that change results."""
    values = {"results": settings.results.model_dump(), "min_slices": settings.study.min_slices, "salt": salt}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def analyse(
    detector: StudyReader,
    study_uid: str,
    inputs: Sequence[Input],
    settings: NodeSettings,
    *,
    created: datetime,
    salt: str = "",
    history: History = lambda key: {},
) -> Analysis:
    """Read a study and make what the settings ask for; the findings are always made.

    Parameters
    ----------
    created
        Time of the job. It is written into the objects, so that a second attempt makes the same objects.
    salt
        Distinguishes results that are made outside the node's database.
    history
        Says which reports the new ones replace.

    Returns
    -------
    Where the patient cannot stand in a DICOM object, a refusal whose only file are the findings.

    Raises
    ------
    RefusedByGateError
        If an object that was made is not fit to be sent.
    """
    used = used_inputs(inputs)
    key = ResultKey(
        study_uid,
        tuple((i.sop_instance_uid, i.sha256) for i in used),
        detector.identity.digest,
        settings_digest(settings, salt=salt),
    )
    headers = Headers(used)
    detection, volume = _detect(detector, study_uid, used, settings.study.min_slices)
    detection, departing = _with_patient(detection, headers.patient(detection.sop_instance_uid))
    material = Material(detection, volume, headers, key, created.astimezone(), settings, history)
    return Analysis(detection, key, make_products(material), departing)


def _with_patient(detection: Detection, header: Dataset) -> tuple[Detection, tuple[str, ...]]:
    """The detection with a warning for each thing that a result cannot repeat of patient and study, or a refusal.

    ``header`` is the image from which patient and study are taken.
    """
    if why := unwritable(header):
        return Detection.refused(detection.model, detection.study_uid, Reason.UNWRITABLE, why), (why,)
    departing = departures(header)
    return replace(detection, warnings=(*detection.warnings, *departing)), departing


def _detect(
    detector: StudyReader, study_uid: str, used: Sequence[Input], min_slices: int
) -> tuple[Detection, SagittalVolume | None]:
    images = [i.path for i in used if i.sop_class_uid in MR_IMAGES]
    if not images:
        detail = "the study holds no MR image"
        return Detection.refused(detector.identity, study_uid, Reason.NO_IMAGES, detail), None
    reading = detector.read_study(images, min_slices=min_slices)
    # A study with unreadable headers does not give its own UID.
    return replace(reading.detection, study_uid=study_uid), reading.volume
