"""Detector: model package in, volumes or studies in, detections out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from spineone_core.anatomy import READING_ORDER
from spineone_core.detection.calibration import calibrate
from spineone_core.detection.chain import Chain
from spineone_core.detection.decoding import decode_many
from spineone_core.detection.devices import choose_device, compile_network, gpu_memory
from spineone_core.detection.domain_check import check_score
from spineone_core.detection.levels import mean_confidence
from spineone_core.detection.mid_sagittal import distance_from_middle_mm, prepare_mid_sagittal
from spineone_core.detection.model_package import Manifest, ModelPackage, load_package
from spineone_core.detection.preprocessing import Prepared
from spineone_core.detection.views import InferenceOptions
from spineone_core.findings import Detection, Finding, ModelIdentity, NotAnalysable, Reason, Status
from spineone_core.imaging.headers import read_headers
from spineone_core.imaging.selection import Selection, select_series
from spineone_core.imaging.series import group_series, load_volume
from spineone_core.imaging.volume import SagittalVolume

# Test-time views further apart than this (the paper's distance of a hit) are worth a warning.
SPREAD_MM = 6.0


@dataclass(frozen=True, slots=True, eq=False)
class StudyReading:
    """What reading a study gave: the detection, the volume it looked at (None where none was chosen), and how it chose."""

    detection: Detection
    volume: SagittalVolume | None
    selection: Selection


class Detector:
    """SpineOne ready to read studies.

    Parameters
    ----------
    package
        A loaded model package.
    device
        ``auto``, ``cuda``, ``cuda:N`` or ``cpu``.
    options
        How the network is run: precision, test-time views, compilation, batch.
    """

    def __init__(self, package: ModelPackage, *, device: str = "auto", options: InferenceOptions | None = None) -> None:
        self.identity: ModelIdentity = package.identity
        self.manifest: Manifest = package.manifest
        self.device = choose_device(device)
        self._network = package.network.to(self.device)
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._domain = None if package.domain is None else package.domain.to(self.device)
        self.options = options or InferenceOptions()
        if self.options.compiled:
            compile_network(self._network, self.device)

    @classmethod
    def load(cls, path: str | Path = "default", *, device: str = "auto", released: bool = False) -> Detector:
        """Raises ``ModelPackageError`` or ``DeviceError``; ``released`` as in `load_package`."""
        return cls(load_package(path, released=released), device=device)

    def gpu_memory(self) -> tuple[str, int, int] | None:
        """As `spineone_core.detection.devices.gpu_memory`, of the device that it computes on."""
        return gpu_memory(self.device)

    def read_study(self, paths: Sequence[Path], *, min_slices: int = 1) -> StudyReading:
        """Choose the sagittal T2 series among DICOM files of one study and analyse it.

        What the files hold never raises: a study that cannot be analysed gives a detection with the reason.
        """
        headers, unreadable = read_headers(paths)
        selection = select_series(group_series(headers), min_slices=min_slices)
        study_uid = headers[0].study_uid if headers else ""
        if selection.chosen is None:
            reason = selection.reason or Reason.NO_SAGITTAL_T2
            return StudyReading(self._refusal(study_uid, reason, selection.detail), None, selection)
        series = selection.chosen
        try:
            volume = load_volume(series)
        except NotAnalysable as error:
            refusal = self._refusal(study_uid, error.reason, error.detail, series.uid)
            return StudyReading(refusal, None, selection)
        warnings = [*selection.warnings]
        if unreadable:
            warnings.append(f"{len(unreadable)} files could not be read as images")
        return StudyReading(self.detect(volume, warnings), volume, selection)

    def detect(self, volume: SagittalVolume, warnings: Sequence[str] = ()) -> Detection:
        """Analyse one volume; refuses rather than guesses."""
        return self.detect_many([volume], [warnings])[0]

    def detect_many(
        self, volumes: Sequence[SagittalVolume], warnings: Sequence[Sequence[str]] | None = None
    ) -> list[Detection]:
        """Analyse volumes, those of one size together in a batch; each detection is what `detect` gives for its volume alone."""
        notes = [[] for _ in volumes] if warnings is None else warnings
        results: dict[int, Detection] = {}
        prepared: dict[int, Prepared] = {}
        foreign: dict[int, float | None] = {}
        for i, volume in enumerate(volumes):
            try:
                exam, foreign[i] = prepare_mid_sagittal(volume, self.manifest.preprocessing, self._domain, self.device)
                check_score(self._domain, foreign[i])
                prepared[i] = exam
            except NotAnalysable as error:
                results[i] = self._refused(volume, error, notes[i], foreign.get(i))
        chains = decode_many(self._network, list(prepared.values()), self.manifest, self.device, self.options)
        for (i, exam), chain in zip(prepared.items(), chains, strict=True):
            results[i] = self._detection(volumes[i], exam, chain, foreign[i], notes[i])
        return [results[i] for i in range(len(volumes))]

    def _detection(
        self,
        volume: SagittalVolume,
        prepared: Prepared,
        chain: Chain | NotAnalysable,
        foreign: float | None,
        warnings: Sequence[str],
    ) -> Detection:
        if isinstance(chain, NotAnalysable):
            return self._refused(volume, chain, warnings, foreign)
        notes = [*warnings, *volume.warnings]
        try:
            findings = self._findings(chain, volume, prepared)
        except NotAnalysable as error:
            return self._refused(volume, error, warnings, foreign)
        source = volume.sources[prepared.slice_index]
        if chain.margin < self.manifest.decoding.margin_warning:
            notes.append("level assignment is uncertain: a chain shifted by a level is nearly as likely")
        if (beside_mm := distance_from_middle_mm(volume, prepared)) > 0:
            notes.append(
                f"analysed {beside_mm:.0f} mm beside the middle of the stack, where the middle of the spine seems to be"
            )
        notes.extend(chain.notes)
        notes.extend(disagreement(chain))
        return Detection(
            study_uid=volume.study_uid,
            series_uid=volume.series_uid,
            sop_instance_uid=source.sop_instance_uid,
            frame_number=source.frame_number,
            model=self.identity,
            status=Status.ANALYSED,
            findings=findings,
            ood_score=1 - mean_confidence(chain.candidates) if foreign is None else foreign,
            warnings=tuple(notes),
        )

    def _refused(
        self, volume: SagittalVolume, error: NotAnalysable, warnings: Sequence[str], foreign: float | None
    ) -> Detection:
        return Detection.refused(
            self.identity,
            volume.study_uid,
            error.reason,
            error.detail,
            series_uid=volume.series_uid,
            warnings=[*warnings, *volume.warnings],
            ood_score=foreign,
        )

    def _findings(self, chain: Chain, volume: SagittalVolume, prepared: Prepared) -> tuple[Finding, ...]:
        findings = []
        rows, columns = volume.voxels.shape[1:]
        for landmark, candidate in zip(READING_ORDER, chain.candidates, strict=True):
            x, y = prepared.grid.to_source(np.array([candidate.x, candidate.y]))
            if not (-0.5 <= x <= columns - 0.5 and -0.5 <= y <= rows - 0.5):
                raise NotAnalysable(Reason.INVALID_OUTPUT, f"{landmark.name} lies outside the image")
            probability = calibrate(candidate.probability, self.manifest.calibration.get(landmark.structure.value))
            x_mm, y_mm, z_mm = volume.to_patient(prepared.slice_index, x, y)
            findings.append(
                Finding(
                    structure=landmark.structure,
                    level=landmark.level,
                    probability=probability,
                    decided=self.manifest.decides(landmark.structure, probability),
                    x=float(x),
                    y=float(y),
                    xyz_mm=(float(x_mm), float(y_mm), float(z_mm)),
                    localisation_confidence=min(1.0, candidate.score),
                )
            )
        return tuple(findings)

    def _refusal(
        self, study_uid: str, reason: Reason, detail: str, series_uid: str = "", warnings: Sequence[str] = ()
    ) -> Detection:
        return Detection.refused(self.identity, study_uid, reason, detail, series_uid=series_uid, warnings=warnings)


def disagreement(chain: Chain) -> list[str]:
    """One warning that names the levels at which test-time views lie more than ``SPREAD_MM`` from the result."""
    far = [
        landmark.name for landmark, spread in zip(READING_ORDER, chain.spread_mm, strict=False) if spread > SPREAD_MM
    ]
    return [f"test-time views disagree by more than {SPREAD_MM:.0f} mm at {', '.join(far)}"] if far else []
