"""Analysing one study: reading it, and making everything that the settings ask for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from pydicom.dataset import Dataset

from dicom_node.analysis.contents import contents_of, contents_of_refusal
from dicom_node.analysis.detector import StudyReader
from dicom_node.analysis.inputs import Headers, Input, used_inputs
from dicom_node.analysis.patient import judge
from dicom_node.analysis.products import History, Material, Origin, Product, make_products
from dicom_node.dicom.identifiers import ResultKey
from dicom_node.images.patients import PatientIdentity, read_identity
from dicom_node.results.envelope import departures, unwritable
from dicom_node.settings.node import NodeSettings
from spineone_core.findings import Detection, Reason
from spineone_core.imaging.headers import MR_IMAGES
from spineone_core.imaging.selection import Selection
from spineone_core.imaging.volume import SagittalVolume

# The settings of [results] that every digest names. A later one counts only where it is not at its default, so that
# a release with more settings still recognises the results of those before it.
_ALWAYS_NAMED = (
    "structured_report",
    "scoord3d",
    "secondary_capture",
    "table_page",
    "slice_sheet",
    "presentation_state",
    "key_object",
    "degenerative_disc",
    "degenerative_vertebra",
)
# Those that only say where a result goes.
_NEVER_NAMED = ("not_analysable", "not_analysable_except")


@dataclass(frozen=True, slots=True)
class Reading:
    """A study that was read, before anything is made of it.

    Parameters
    ----------
    volume
        The series that was analysed; None if none could be read.
    key
        Says whether a result of the same exists already.
    headers
        The headers of the inputs.
    used
        The inputs that the result is about: the analysed images, or if there are none all that might have been.
    notes
        What is to be known about the patient (`patient.judge`).
    departures
        What of patient and study a result cannot repeat as it came, in words without values. Where the patient cannot stand in a
        DICOM object at all, the detection is a refusal whose only file are the findings.
    selection
        How the series was chosen; None if there was none to choose from.
    """

    detection: Detection
    volume: SagittalVolume | None
    key: ResultKey
    headers: Headers
    used: tuple[Input, ...]
    notes: tuple[str, ...]
    departures: tuple[str, ...] = ()
    selection: Selection | None = None


@dataclass(frozen=True, slots=True)
class Analysis:
    """A detection and everything that was made from it.

    ``departures`` says in words, without values, what of patient and study the products do not repeat as it came.
    """

    detection: Detection
    key: ResultKey
    products: tuple[Product, ...]
    departures: tuple[str, ...] = ()


# The settings of [model] that change what the network says of the same picture.
_VIEWS = ("precision", "flips", "scales")


def settings_digest(settings: NodeSettings) -> str:
    """SHA-256 over the settings that change results."""
    fields = type(settings.results).model_fields
    results = {
        name: value
        for name, value in settings.results.model_dump(mode="json", exclude=set(_NEVER_NAMED)).items()
        if name in _ALWAYS_NAMED or getattr(settings.results, name) != fields[name].default
    }
    # "salt" has no meaning any more; it stays because the digests of earlier releases hold it.
    values: dict[str, object] = {"results": results, "min_slices": settings.study.min_slices, "salt": ""}
    # The same holds for how the network is run.
    model, model_fields = settings.model, type(settings.model).model_fields
    views = {
        name: value
        for name, value in model.model_dump(mode="json", include=set(_VIEWS)).items()
        if getattr(model, name) != model_fields[name].default
    }
    if views:
        values["model"] = views
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def read(
    detector: StudyReader,
    study_uid: str,
    inputs: Sequence[Input],
    settings: NodeSettings,
    *,
    created: datetime,
    confirmed: Collection[PatientIdentity] = frozenset(),
    left_out: int = 0,
) -> Reading:
    """Read a study, and find out whether it is one patient's.

    Parameters
    ----------
    created
        Time of the job. It is written into the objects, so that a second attempt makes the same objects.
    confirmed
        Identities that a person said are of one patient.
    left_out
        Number of images that are another patient's, as a person said.

    Raises
    ------
    TwoPatientsError
        If the images that the result uses, or those that it might as well have used, are of two patients.
    """
    looked_at = used_inputs(inputs)
    detection, volume, selection = _detect(detector, study_uid, looked_at, settings.study.min_slices)
    candidates = _candidates(selection)
    stack = {source.sop_instance_uid for source in volume.sources} if volume is not None else set()
    deciding = (stack | candidates) or {i.sop_instance_uid for i in looked_at}
    notes = judge({i.sop_instance_uid: read_identity(i.path) for i in inputs}, deciding, confirmed)
    if left_out:
        notes.append(f"{left_out} images of another patient were left out, as the release of the study says")
    used = tuple(i for i in looked_at if i.sop_instance_uid in (stack or deciding))
    headers = Headers(looked_at, used)
    detection, departing = _with_patient(detection, headers.patient(detection.sop_instance_uid))
    if detection.reason is None and volume is not None:
        contents = contents_of(volume, headers.of)
    else:
        reason = detection.reason or Reason.NO_IMAGES
        contents = contents_of_refusal(reason, headers.patient(detection.sop_instance_uid))
    digest, moment = settings_digest(settings), created.isoformat()
    key = ResultKey(study_uid, contents, detector.identity.digest, digest, moment)
    detection = replace(detection, warnings=(*detection.warnings, *notes))
    return Reading(detection, volume, key, headers, used, tuple(notes), departing, selection)


def make(
    reading: Reading, settings: NodeSettings, *, created: datetime, history: History, origin: Origin | None = None
) -> Analysis:
    """Make what the settings ask for; the findings are always made.

    Parameters
    ----------
    history
        Says which reports the new ones replace.
    origin
        Which generation of the study it is about, and why; by default the first result of the first one.

    Raises
    ------
    RefusedByGateError
        If an object that was made is not fit to be sent.
    """
    detection, key = reading.detection, reading.key
    moment = created.astimezone()
    origin = origin or Origin()
    material = Material(detection, reading.volume, reading.headers, key, moment, settings, history, origin)
    return Analysis(detection, key, make_products(material), reading.departures)


def analyse(
    detector: StudyReader,
    study_uid: str,
    inputs: Sequence[Input],
    settings: NodeSettings,
    *,
    created: datetime,
    history: History = lambda study_uid: {},
) -> Analysis:
    """Read a study and make what the settings ask for, as `read` and `make` do."""
    reading = read(detector, study_uid, inputs, settings, created=created)
    return make(reading, settings, created=created, history=history)


def _with_patient(detection: Detection, header: Dataset) -> tuple[Detection, tuple[str, ...]]:
    """The detection with a warning for each thing that a result cannot repeat of patient and study, or a refusal.

    ``header`` is the image from which patient and study are taken.
    """
    if why := unwritable(header):
        return Detection.refused(detection.model, detection.study_uid, Reason.UNWRITABLE, why), (why,)
    departing = departures(header)
    return replace(detection, warnings=(*detection.warnings, *departing)), departing


def _detect(
    detector: StudyReader, study_uid: str, looked_at: Sequence[Input], min_slices: int
) -> tuple[Detection, SagittalVolume | None, Selection | None]:
    """The detection, what it was made on, and how that was chosen."""
    images = [i.path for i in looked_at if i.sop_class_uid in MR_IMAGES]
    if not images:
        detail = "the study holds no MR image"
        return Detection.refused(detector.identity, study_uid, Reason.NO_IMAGES, detail), None, None
    reading = detector.read_study(images, min_slices=min_slices)
    # A study with unreadable headers does not give its own UID.
    return replace(reading.detection, study_uid=study_uid), reading.volume, reading.selection


def _candidates(selection: Selection | None) -> set[str]:
    """The SOP Instance UIDs of every series that could have been chosen."""
    series = selection.candidates if selection is not None else ()
    return {frame.sop_instance_uid for one in series for frame in one.frames}
