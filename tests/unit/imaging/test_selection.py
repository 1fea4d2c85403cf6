"""Series selection: a table of descriptions and headers as real scanners write them, and whole studies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from spineone_core.findings import Reason
from spineone_core.imaging.fat import Fat
from spineone_core.imaging.headers import FrameHeader
from spineone_core.imaging.judgement import plane_of
from spineone_core.imaging.selection import Selection, select_series
from spineone_core.imaging.series import Series, group_series
from spineone_core.imaging.weighting import read_weighting

MR = "1.2.840.10008.5.1.4.1.1.4"
SC = "1.2.840.10008.5.1.4.1.1.7"
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
STEPS = {SAGITTAL: (1.0, 0.0, 0.0), AXIAL: (0.0, 0.0, 1.0), CORONAL: (0.0, 1.0, 0.0)}


def header(description: str = "T2 TSE SAG", **changes: Any) -> FrameHeader:
    fields: dict[str, Any] = {
        "path": Path("image.dcm"),
        "study_uid": "1.2",
        "series_uid": "1.2.3",
        "sop_instance_uid": "1.2.3.1",
        "sop_class_uid": MR,
        "frame_number": None,
        "modality": "MR",
        "rows": 384,
        "columns": 384,
        "orientation": SAGITTAL,
        "position": (0.0, 0.0, 0.0),
        "pixel_spacing": (0.75, 0.75),
        "slice_thickness": 4.0,
        "echo_time": None,
        "repetition_time": None,
        "inversion_time": None,
        "series_description": description,
        "protocol_name": "",
        "sequence_name": "",
        "scan_options": "",
        "acquisition_contrast": "",
        "image_type": ("ORIGINAL", "PRIMARY", "M", "ND"),
        "body_part": "",
        "series_number": 1,
        "manufacturer": "",
        "window": None,
    }
    return FrameHeader(**{**fields, **changes})


def stack(
    description: str = "T2 TSE SAG", *, number: int = 1, slices: int = 15, step: float = 4.4, **changes: Any
) -> Series:
    uid = changes.pop("series_uid", f"1.2.826.0.1.{number:012d}")
    axis = STEPS[changes.get("orientation") or SAGITTAL]
    return Series(
        tuple(
            header(
                description,
                series_uid=uid,
                series_number=number,
                sop_instance_uid=f"{uid}.{k}",
                position=tuple(step * k * a for a in axis),
                **changes,
            )
            for k in range(slices)
        )
    )


def outcome(*series: Series, min_slices: int = 1) -> Selection:
    selection = select_series(series, min_slices=min_slices)
    assert len(selection.explanations) == len(series)
    assert (selection.chosen is None) == (selection.reason is not None)
    return selection


# ---------------------------------------------------------------- contrast, one header at a time

T2_DESCRIPTIONS = [
    "T2 TSE SAG",
    "t2_tse_sag",
    "t2_tse_sag_384_p2",
    "SAG T2",
    "Sag T2 FSE",
    "SAGT2",
    "Sag T2 frFSE",
    "T2W_TSE_SAG",
    "sT2W_TSE",
    "T2 SPACE SAG",
    "t2_spc_sag_iso",
    "SAG CUBE T2",
    "T2-weighted sagittal",
    "LWS T2 sag",
    "MRI LWK T2 sag",
    "T2 SAG BLOCK",
    "T2 sag first attempt",
    "T2W_DRIVE_SAG",
    "T2 HASTE SAG",
    "3DT2 SAG",
    "SAG T2 T12-S1",
    "T2 blade sag lumbar",
    "FSE 4000/128",
    "SAG FSE 3500/102",
]


@pytest.mark.parametrize("description", T2_DESCRIPTIONS)
def test_plain_t2_descriptions(description: str) -> None:
    weighting = read_weighting(header(description))
    assert (weighting.kind, weighting.source, weighting.fat_suppressed) == ("T2", "description", False)


@pytest.mark.parametrize(
    "description",
    [
        "T2 STIR SAG",
        "SAG STIR",
        "t2_tirm_sag",
        "T2 SAG FS",
        "t2_tse_fs_sag",
        "T2 FATSAT",
        "SAG T2 FAT SAT",
        "T2W_SPAIR",
        "T2 SPIR SAG",
        "T2 IR SAG",
        "t2_tse_dixon_sag_W",
        "SAG T2 IDEAL WATER",
    ],
)
def test_fat_suppressed_t2_descriptions(description: str) -> None:
    weighting = read_weighting(header(description))
    assert (weighting.kind, weighting.fat_suppressed) == ("T2", True)


def test_the_fat_part_of_a_dixon_series_is_not_read() -> None:
    assert read_weighting(header("T2 DIXON FAT")).fat is Fat.ONLY
    assert outcome(stack("T2 DIXON FAT")).chosen is None


def test_dixon_in_phase_is_plain() -> None:
    assert not read_weighting(header("t2_tse_dixon_sag_in")).fat_suppressed


@pytest.mark.parametrize(
    ("description", "kind"),
    [
        ("T1 TSE SAG", "T1-weighted"),
        ("SAGT1", "T1-weighted"),
        ("sT1W_TSE", "T1-weighted"),
        ("T1 SAG FS +GD", "T1-weighted"),
        ("t1_tirm_sag", "T1-weighted"),
        ("SAG T1 FLAIR", "fluid-attenuated"),
        ("T2 FLAIR SAG", "fluid-attenuated"),
        ("T2* SAG", "T2*-weighted"),
        ("t2_star_sag", "T2*-weighted"),
        ("SAG T2 MEDIC", "gradient echo"),
        ("T2 GRE SAG", "gradient echo"),
        ("T2 me2d MERGE", "gradient echo"),
        ("FISP T2 SAG", "gradient echo"),
        ("T2 MYELO", "myelography"),
        ("HASTE MYELOGRAM T2", "myelography"),
        ("DWI SAG T2", "diffusion"),
        ("ep2d diff ADC", "diffusion"),
        ("T2 MAP SAG", "a parameter map"),
        ("T2 SAG MPR", "a reformatted or derived picture"),
        ("PD TSE SAG", "proton density"),
        ("FSE 600/12", "T1-weighted"),
        ("SAG", "unknown"),
        ("", "unknown"),
        ("PART2 SAG", "unknown"),
        ("T12 LEVEL SAG", "unknown"),
    ],
)
def test_other_contrasts(description: str, kind: str) -> None:
    assert read_weighting(header(description)).kind == kind


@pytest.mark.parametrize(
    ("changes", "kind", "source"),
    [
        ({"protocol_name": "L-SPINE T2 SAG"}, "T2", "protocol name"),
        ({"protocol_name": "T1 SAG"}, "T1-weighted", "protocol name"),
        ({"acquisition_contrast": "T2"}, "T2", "AcquisitionContrast"),
        ({"acquisition_contrast": "T1", "echo_time": 100.0, "repetition_time": 3000.0}, "T1-weighted", "AcquisitionContrast"),
        ({"acquisition_contrast": "UNKNOWN", "echo_time": 100.0, "repetition_time": 3000.0}, "T2", "TE and TR"),
        ({"echo_time": 80.0, "repetition_time": 5600.0}, "T2", "TE and TR"),
        ({"echo_time": 124.0, "repetition_time": 1000.0}, "T2", "TE and TR"),
        ({"echo_time": 100.0}, "T2", "TE and TR"),
        ({"echo_time": 0.0, "repetition_time": 3000.0}, "unknown", "TE and TR"),
        ({"echo_time": 10.0, "repetition_time": 600.0}, "T1-weighted", "TE and TR"),
        ({"echo_time": 15.0, "repetition_time": 2500.0}, "proton density", "TE and TR"),
        ({"echo_time": 700.0, "repetition_time": 8000.0}, "with too long an echo time", "TE and TR"),
        ({"repetition_time": 3000.0}, "unknown", "TE and TR"),
    ],
)  # fmt: skip
def test_contrast_without_description(changes: dict[str, Any], kind: str, source: str) -> None:
    weighting = read_weighting(header("", **changes))
    assert (weighting.kind, weighting.source) == (kind, source)


def test_description_goes_before_protocol_name() -> None:
    assert read_weighting(header("T1 SAG", protocol_name="T2 SAG")).kind == "T1-weighted"
    assert read_weighting(header("T2 SAG", protocol_name="T1 SAG")).kind == "T2"


def test_both_t1_and_t2_named_are_told_by_times() -> None:
    assert read_weighting(header("SAG T1 T2", echo_time=100.0, repetition_time=3000.0)).kind == "T2"
    assert read_weighting(header("SAG T1 T2")).kind == "T1-weighted"


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"echo_time": 10.0, "repetition_time": 500.0}, "T1-weighted"),
        ({"sequence_name": "*me2d1r3"}, "gradient echo"),
        ({"sequence_name": "fl2d1"}, "gradient echo"),
        ({"inversion_time": 2500.0}, "fluid-attenuated"),
        ({"inversion_time": 860.0}, "T1-weighted"),
        ({"sequence_name": "*tse2d1_17"}, "T2"),
        ({"inversion_time": 0.0}, "T2"),
    ],
)
def test_a_description_of_t2_can_be_contradicted(changes: dict[str, Any], kind: str) -> None:
    assert read_weighting(header("T2 SAG", **changes)).kind == kind


@pytest.mark.parametrize(
    "changes", [{"inversion_time": 160.0}, {"scan_options": "PFP FS"}, {"sequence_name": "*tir2d1_15"}]
)
def test_stir_named_t2_is_told_by_its_header(changes: dict[str, Any]) -> None:
    assert read_weighting(header("T2 SAG", **changes)).fat_suppressed


@pytest.mark.parametrize("options", ["FAST_GEMS EDR_GEMS", "PFP", ""])
def test_other_scan_options_suppress_nothing(options: str) -> None:
    assert not read_weighting(header("T2 SAG", scan_options=options)).fat_suppressed


# ---------------------------------------------------------------- planes


@pytest.mark.parametrize(
    ("orientation", "plane"),
    [
        (SAGITTAL, "sagittal"),
        ((0.0, -1.0, 0.0, 0.0, 0.0, -1.0), "sagittal"),
        ((0.3, 0.954, 0.0, 0.0, 0.0, -1.0), "sagittal"),
        (AXIAL, "axial"),
        (CORONAL, "coronal"),
        ((0.7071, 0.7071, 0.0, 0.0, 0.0, -1.0), "oblique"),
        ((0.0,) * 6, "unknown"),
        (None, "unknown"),
    ],
)
def test_plane(orientation: tuple[float, ...] | None, plane: str) -> None:
    assert plane_of(header(orientation=orientation)) == plane


# ---------------------------------------------------------------- one series: taken or refused, and why

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("T2 TSE TRA", {"orientation": AXIAL}, "axial"),
    ("T2 COR", {"orientation": CORONAL}, "coronal"),
    ("T2 SAG", {"orientation": None}, "without image orientation"),
    ("T1 SAG", {}, "T1-weighted by description"),
    ("SAG", {}, "of unknown contrast"),
    ("LOC T2 SAG", {}, "a localiser"),
    ("T2 Localizer", {}, "a localiser"),
    ("SURVEY T2", {}, "a localiser"),
    ("T2 PLANNING", {}, "a localiser"),
    ("AAHScout T2", {}, "a localiser"),
    ("T2 SAG", {"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, "a localiser"),
    ("T2 SAG", {"slices": 3, "step": 30.0}, "a localiser"),
    ("T2 SAG", {"image_type": ("DERIVED", "SECONDARY", "OTHER")}, "a derived secondary picture"),
    ("T2 SAG", {"image_type": ("DERIVED", "PRIMARY", "MPR")}, "a reformatted or derived picture"),
    ("T2 SAG", {"image_type": ("DERIVED", "PRIMARY", "PROJECTION IMAGE")}, "a reformatted or derived picture"),
    ("T2 SAG", {"modality": "CT"}, "not an MR image"),
    ("T2 SAG", {"sop_class_uid": SC}, "not an MR image"),
    ("T2 SAG", {"modality": "", "sop_class_uid": ""}, "not an MR image"),
    ("T2 SAG CERVICAL", {}, "described as another region"),
    ("C-SPINE T2 SAG", {}, "described as another region"),
    ("T2 SAG HWS", {}, "described as another region"),
    ("T2 SAG T-SPINE", {}, "described as another region"),
    ("T2 SAG BRAIN", {}, "described as another region"),
]


@pytest.mark.parametrize(("description", "changes", "why"), REFUSED)
def test_refused(description: str, changes: dict[str, Any], why: str) -> None:
    selection = outcome(stack(description, **changes))
    assert selection.chosen is None
    assert selection.explanations[0].endswith(f"not chosen: {why}")


@pytest.mark.parametrize(
    ("description", "changes"),
    [
        ("T2 SAG", {"body_part": "HEAD"}),
        ("T2 SAG", {"body_part": "LSPINE"}),
        ("T2 SAG", {"image_type": ()}),
        ("T2 SAG", {"image_type": ("DERIVED", "PRIMARY", "OTHER")}),
        ("T2 SAG", {"modality": ""}),
        ("T2 SAG", {"sop_class_uid": ""}),
        ("T2 SAG", {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.4.1"}),
        ("T2 SAG", {"slices": 1}),
        ("T2 SAG", {"slices": 3, "step": 4.0}),
        ("T2 SAG THORACOLUMBAR", {}),
        ("T2 SAG", {"protocol_name": "C-SPINE"}),
    ],
)
def test_taken(description: str, changes: dict[str, Any]) -> None:
    assert outcome(stack(description, **changes)).chosen is not None


# ---------------------------------------------------------------- whole studies


def test_whole_study() -> None:
    chosen = stack("T2 TSE SAG", number=3)
    selection = outcome(
        stack("LOC", number=1, slices=3, step=20.0),
        stack("T1 TSE SAG", number=2),
        chosen,
        stack("T2 TIRM SAG", number=4),
        stack("T2 TSE TRA", number=5, orientation=AXIAL),
        stack("REPORT", number=6, slices=1, modality="SR", sop_class_uid=SC),
    )
    assert selection.chosen is chosen
    assert selection.explanations[2] == "series 3 (…000000000003): chosen: sagittal, T2 by description, 15 slices"
    assert "without fat suppression" in selection.explanations[3]
    assert selection.explanations[4] == "series 5 (…000000000005): not chosen: axial"
    assert selection.warnings == ()


@pytest.mark.parametrize(
    ("better", "worse", "why"),
    [
        ({"description": "T2 SAG"}, {"description": "STIR SAG"}, "fat suppression"),
        ({"description": "T2 SAG"}, {"description": "", "echo_time": 100.0, "repetition_time": 3000.0}, "surer"),
        ({"slices": 11}, {"slices": 7}, "more slices"),
        ({"pixel_spacing": (0.6, 0.6)}, {"pixel_spacing": (0.75, 0.75)}, "finer"),
        ({"description": "T2 SAG L-SPINE"}, {"description": "T2 SAG"}, "lumbar"),
        ({"description": "T2 SAG"}, {"description": "T2 SAG WHOLE SPINE", "pixel_spacing": (0.5, 0.5)}, "lumbar"),
        ({}, {"rows": 1024}, "field of view"),
        ({}, {"pixel_spacing": None}, "geometry"),
    ],
)
@pytest.mark.parametrize("flipped", [False, True])
def test_preference(better: dict[str, Any], worse: dict[str, Any], why: str, flipped: bool) -> None:
    first, second = stack(number=1, **(worse if flipped else better)), stack(number=2, **(better if flipped else worse))
    selection = outcome(first, second)
    assert selection.chosen is (second if flipped else first)
    if why != "lumbar":
        assert why in selection.explanations[0 if flipped else 1]


def test_the_later_of_two_equal_series_is_chosen() -> None:
    first, repeat = stack(number=3), stack(number=7)
    assert outcome(repeat, first).chosen is repeat


def test_fat_suppressed_alone_is_chosen_with_a_warning() -> None:
    selection = outcome(stack("STIR SAG"))
    assert selection.chosen is not None
    assert "fat-suppressed" in selection.warnings[0]


def test_single_slice_is_chosen_with_a_warning() -> None:
    selection = outcome(stack("T2 TSE SAG", slices=1))
    assert selection.chosen is not None
    assert "only one slice" in selection.warnings[0]


def test_contrast_by_times_is_a_warning() -> None:
    selection = outcome(stack("", echo_time=100.0, repetition_time=3000.0))
    assert any("TE and TR" in warning for warning in selection.warnings)


def test_too_few_slices() -> None:
    selection = outcome(stack("T2 SAG", slices=4), stack("T1 SAG", number=2), min_slices=5)
    assert selection.reason is Reason.TOO_FEW_SLICES
    assert "4 slices; 5 are needed" in selection.detail
    assert selection.explanations[0].endswith("not chosen: too few slices")


def test_a_fat_suppressed_series_is_taken_where_the_plain_one_is_too_short() -> None:
    stir = stack("STIR SAG", number=2)
    assert outcome(stack("T2 SAG", slices=3), stir, min_slices=5).chosen is stir


def test_a_stack_that_cannot_be_told_is_not_chosen() -> None:
    """One picture of it is known, and it would be sagittal T2."""
    faulty = Series(
        stack("T2 SAG").frames[:1], fault="with several pictures at one position that no attribute tells apart"
    )
    selection = outcome(faulty)
    assert selection.reason is Reason.NO_SAGITTAL_T2
    assert "no attribute tells apart" in selection.detail
    assert outcome(faulty, stack("T2 SAG", number=2)).chosen is not None


def test_duplicates_at_one_position_count_once() -> None:
    twice = stack("T2 SAG", slices=4)
    doubled = Series(twice.frames + twice.frames)
    assert outcome(doubled, min_slices=5).reason is Reason.TOO_FEW_SLICES


@pytest.mark.parametrize("series", [[], [stack("T2 SAG", modality="CT")], [stack("X", sop_class_uid=SC)]])
def test_no_images(series: list[Series]) -> None:
    assert outcome(*series).reason is Reason.NO_IMAGES


def test_no_sagittal_t2_counts_the_reasons() -> None:
    selection = outcome(stack("T1 SAG"), stack("T1 SAG", number=2), stack("T2", number=3, orientation=AXIAL))
    assert selection.reason is Reason.NO_SAGITTAL_T2
    assert selection.detail == "3 series: 2 T1-weighted by description, 1 axial"


def test_three_planes_under_one_uid_are_a_localiser() -> None:
    planes = [stack("T2", slices=3, series_uid="1.9", orientation=o) for o in (SAGITTAL, AXIAL, CORONAL)]
    assert outcome(*planes).chosen is None


def test_diagnostic_slices_that_share_a_uid_with_a_scout_are_found() -> None:
    scout = stack("T2 SAG", slices=2, series_uid="1.9", step=40.0, rows=256, columns=256)
    reference = stack("T2 SAG", slices=1, series_uid="1.9", orientation=AXIAL)
    diagnostic = stack("T2 SAG", slices=13, series_uid="1.9")
    split = group_series([*scout.frames, *diagnostic.frames, *reference.frames])
    chosen = outcome(*split).chosen
    assert chosen is not None
    assert len(chosen) == 13


def test_explanations_hold_no_free_text() -> None:
    selection = outcome(stack("T2 SAG Doe^Jane"), stack("Doe^Jane", number=2), stack("T1 Doe^Jane", number=3))
    assert "doe" not in " ".join((*selection.explanations, selection.detail, *selection.warnings)).lower()


def test_order_of_series_does_not_matter() -> None:
    series = [stack("T2 SAG", number=n, slices=s) for n, s in ((1, 5), (2, 15), (3, 15))]
    assert outcome(*series).chosen is outcome(*reversed(series)).chosen


def test_impossible_minimum() -> None:
    with pytest.raises(ValueError, match="min_slices"):
        select_series([], min_slices=0)
