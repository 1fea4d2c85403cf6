"""The detector: it takes a model package, reads volumes or whole studies, and gives detections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spineone_core.anatomy import READING_ORDER
from spineone_core.detection.chain import Chain
from spineone_core.detection.class_rule import ClassRule, definitions, says_grades
from spineone_core.detection.devices import choose_device, compile_network, gpu_memory, place_network
from spineone_core.detection.keypoints import FoundKeypoints, Refusal, find_keypoints
from spineone_core.detection.mid_sagittal import distance_from_middle_mm
from spineone_core.detection.model_package import Manifest, ModelPackage, ModelPackageError, load_package
from spineone_core.detection.second_choice import Attempt, read_best
from spineone_core.detection.views import InferenceOptions
from spineone_core.detection.withholding import without_classes
from spineone_core.findings import Detection, Finding, ModelIdentity, NotAnalysable, Reason, Status
from spineone_core.imaging.headers import read_headers
from spineone_core.imaging.selection import Selection, select_series
from spineone_core.imaging.series import Series, group_series, load_volume
from spineone_core.imaging.volume import SagittalVolume
from spineone_core.network.fusing import fold_norms

# A view that lies farther from the result than this is worth a warning. It is the distance within which the paper counts a hit.
SPREAD_MM = 6.0


@dataclass(frozen=True, slots=True, eq=False)
class StudyReading:
    """What reading a study gave: the detection, its volume (None where none could be read), and how it was chosen.

    ``selection.chosen`` is the series that was analysed in the end, or the first one tried where none was.
    """

    detection: Detection
    volume: SagittalVolume | None
    selection: Selection


class Detector:
    """SpineOne, ready to read studies.

    Parameters
    ----------
    package
        A loaded model package.
    device
        ``auto``, ``cuda``, ``cuda:N`` or ``cpu``.
    options
        How the network is run: precision, test-time views, compilation, batch size.
    rule
        The site's rule of what a degenerative disc is.

    Raises
    ------
    ModelPackageError
        If the rule needs a Pfirrmann grade, and the package says none.
    """

    def __init__(
        self,
        package: ModelPackage,
        *,
        device: str = "auto",
        options: InferenceOptions | None = None,
        rule: ClassRule | None = None,
    ) -> None:
        self.rule = rule or ClassRule()
        if self.rule.disc_from_grade and not says_grades(package):
            raise ModelPackageError(
                f"it says no Pfirrmann grade, so no disc can be degenerative from grade {self.rule.disc_from_grade} on"
            )
        self._definitions = definitions([e.config for e in package.grading.values()], self.rule)
        self.identity: ModelIdentity = package.identity
        self.manifest: Manifest = package.manifest
        self.device = choose_device(device)
        self._network = place_network(fold_norms(package.network), self.device)
        self._domain = None if package.domain is None else fold_norms(package.domain).to(self.device)
        self._grading = {
            structure: fold_norms(network).to(self.device) for structure, network in package.grading.items()
        }
        self.options = options or InferenceOptions()
        if self.options.compiled:
            compile_network(self._network, self.device)

    @classmethod
    def load(
        cls,
        path: str | Path = "default",
        *,
        device: str = "auto",
        released: bool = False,
        options: InferenceOptions | None = None,
        rule: ClassRule | None = None,
    ) -> Detector:
        """Raises ``ModelPackageError`` or ``DeviceError``; ``released`` as in `load_package`."""
        return cls(load_package(path, released=released), device=device, options=options, rule=rule)

    def gpu_memory(self) -> tuple[str, int, int] | None:
        """As `spineone_core.detection.devices.gpu_memory`, for the device that this detector computes on."""
        return gpu_memory(self.device)

    def read_study(self, paths: Sequence[Path], *, min_slices: int = 1) -> StudyReading:
        """Choose the sagittal T2 series among the DICOM files of one study and analyse it, or the next best where it cannot be.

        Nothing in the files makes this raise: a study that cannot be analysed gives a detection with the reason.
        """
        headers, unreadable = read_headers(paths)
        selection = select_series(group_series(headers), min_slices=min_slices)
        study_uid = headers[0].study_uid if headers else ""
        if selection.chosen is None:
            reason = selection.reason or Reason.NO_SAGITTAL_T2
            return StudyReading(self._refusal(study_uid, reason, selection.detail), None, selection)
        left_out = [f"{len(unreadable)} files could not be read as images"] if unreadable else []
        read, selection = read_best(
            selection,
            lambda series, warnings: self._read_series(
                series, (*warnings, *left_out), selection.judgement(series).weighting.fat_suppressed
            ),
            None if self._domain is None else self._domain.config.limit,
        )
        return StudyReading(read.detection, read.volume, selection)

    def _read_series(self, series: Series, warnings: Sequence[str], fat_suppressed: bool) -> Attempt:
        try:
            volume = load_volume(series)
        except NotAnalysable as error:
            refusal = self._refusal(series.first.study_uid, error.reason, error.detail, series.uid, warnings)
            return Attempt(refusal, None)
        detection = self.detect(volume, warnings)
        return Attempt(without_classes(detection) if fat_suppressed else detection, volume)

    def detect(self, volume: SagittalVolume, warnings: Sequence[str] = ()) -> Detection:
        """Analyse one volume; refuses rather than guesses."""
        return self.detect_many([volume], [warnings])[0]

    def detect_many(
        self, volumes: Sequence[SagittalVolume], warnings: Sequence[Sequence[str]] | None = None
    ) -> list[Detection]:
        """Analyse several volumes, those of the same size in one batch. Each detection is what `detect` gives for that volume."""
        notes = [[] for _ in volumes] if warnings is None else warnings
        found = find_keypoints(
            volumes,
            self._network,
            self.manifest,
            self.device,
            domain=self._domain,
            grading=self._grading,
            options=self.options,
            rule=self.rule,
        )
        return [self._detection(*one) for one in zip(volumes, found, notes, strict=True)]

    def _detection(self, volume: SagittalVolume, found: FoundKeypoints | Refusal, warnings: Sequence[str]) -> Detection:
        notes = [*warnings, *volume.warnings]
        if isinstance(found, Refusal):
            return Detection.refused(
                self.identity,
                volume.study_uid,
                found.error.reason,
                found.error.detail,
                series_uid=volume.series_uid,
                series_uids=volume.series_uids,
                warnings=notes,
                ood_score=found.ood_score,
            )
        source = volume.sources[found.prepared.slice_index]
        return Detection(
            study_uid=volume.study_uid,
            series_uid=volume.series_uid_of(found.prepared.slice_index),
            series_uids=volume.series_uids,
            sop_instance_uid=source.sop_instance_uid,
            frame_number=source.frame_number,
            model=self.identity,
            status=Status.ANALYSED,
            findings=_findings(volume, found),
            definitions=self._definitions,
            ood_score=found.ood_score,
            warnings=(*notes, *self._doubts(volume, found)),
        )

    def _doubts(self, volume: SagittalVolume, found: FoundKeypoints) -> list[str]:
        """What a reader should know about the keypoints found."""
        notes = []
        if found.chain.margin < self.manifest.decoding.margin_warning:
            notes.append("level assignment is uncertain: a chain shifted by a level is nearly as likely")
        if (beside_mm := distance_from_middle_mm(volume, found.prepared)) > 0:
            notes.append(
                f"analysed {beside_mm:.0f} mm beside the middle of the stack, where the middle of the spine seems to be"
            )
        return [*notes, *found.chain.notes, *disagreement(found.chain)]

    def _refusal(
        self, study_uid: str, reason: Reason, detail: str, series_uid: str = "", warnings: Sequence[str] = ()
    ) -> Detection:
        return Detection.refused(self.identity, study_uid, reason, detail, series_uid=series_uid, warnings=warnings)


def _findings(volume: SagittalVolume, found: FoundKeypoints) -> tuple[Finding, ...]:
    findings = []
    for keypoint in found.keypoints:
        x_mm, y_mm, z_mm = volume.to_patient(found.prepared.slice_index, keypoint.x, keypoint.y)
        findings.append(
            Finding(
                structure=keypoint.landmark.structure,
                level=keypoint.landmark.level,
                probability=keypoint.probability,
                decided=keypoint.decided,
                x=keypoint.x,
                y=keypoint.y,
                xyz_mm=(float(x_mm), float(y_mm), float(z_mm)),
                localisation_confidence=keypoint.confidence,
                pfirrmann=keypoint.pfirrmann,
                signs=keypoint.signs,
            )
        )
    return tuple(findings)


def disagreement(chain: Chain) -> list[str]:
    """A warning that names the levels where a test-time view lies over ``SPREAD_MM`` from the result; empty if none does."""
    far = [
        landmark.name for landmark, spread in zip(READING_ORDER, chain.spread_mm, strict=False) if spread > SPREAD_MM
    ]
    return [f"test-time views disagree by more than {SPREAD_MM:.0f} mm at {', '.join(far)}"] if far else []
