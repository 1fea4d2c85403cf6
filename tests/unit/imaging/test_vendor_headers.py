"""Headers as six vendors write them, each with its right answer: plain T2, T2 without fat, or why it is not read."""

from __future__ import annotations

from typing import Any

import pytest

from spineone_core.imaging.selection import select_series
from tests.unit.imaging.test_selection import stack

ORIGINAL = ("ORIGINAL", "PRIMARY")
PLAIN, SUPPRESSED = "plain", "fat-suppressed"
FAT, OPPOSED = "fat only of a Dixon series", "opposed phase of a Dixon series"
SECONDARY, REFORMATTED = "a derived secondary picture", "a reformatted or derived picture"
GRE_CODES = {"scanning_sequence": ("GR",), "sequence_variant": ("SP",)}


def tse(echo: float, repetition: float, train: int = 17, **more: Any) -> dict[str, Any]:
    """A turbo spin echo as Siemens writes it."""
    facts = {"scanning_sequence": ("SE",), "sequence_variant": ("SK", "SP"), "flip_angle": 150.0, "echo_train": train}
    return {**facts, "echo_time": echo, "repetition_time": repetition, **more}


def fse(echo: float, repetition: float, **more: Any) -> dict[str, Any]:
    """A fast spin echo as GE writes it, with the whole protocol's name."""
    image = (*ORIGINAL, "OTHER")
    return {**tse(echo, repetition, 20, flip_angle=111.0, sequence_variant=("SK",), image_type=image), **more}


def philips(echo: float, repetition: float, kind: str = "SE", **more: Any) -> dict[str, Any]:
    image = (*ORIGINAL, f"M_{kind}", "M", kind)
    return {**tse(echo, repetition, 22, flip_angle=90.0, sequence_variant=("SK",), image_type=image), **more}


def inversion(echo: float, repetition: float, time: float | None, **more: Any) -> dict[str, Any]:
    return {**tse(echo, repetition), "scanning_sequence": ("SE", "IR"), "inversion_time": time, **more}


def gradient(echo: float, repetition: float, flip: float, **more: Any) -> dict[str, Any]:
    return {**GRE_CODES, "echo_time": echo, "repetition_time": repetition, "flip_angle": flip, "echo_train": 1, **more}


def planar(echo: float, repetition: float, **more: Any) -> dict[str, Any]:
    return {"scanning_sequence": ("EP",), "echo_time": echo, "repetition_time": repetition, "flip_angle": 90.0, **more}


SIEMENS = [
    ("t2_tse_sag_384_p2", tse(102, 3500, sequence_name="*tse2d1_17"), PLAIN),
    ("t2_tse_sag_p3 DRB", tse(96, 3000, 19), PLAIN),
    ("T2 TSE SAG Deep Resolve", tse(102, 3500), PLAIN),
    ("t2_blade_sag", tse(110, 4200, 35, sequence_name="*bld2d1_35"), PLAIN),
    ("t2_spc_sag_p2_iso", tse(124, 1000, 60, sequence_name="*spcR3d1_60", sequence_variant=("SK", "SP", "OSP")), PLAIN),
    ("t2_haste_sag", tse(92, 1400, 160, sequence_name="h2d1_160"), PLAIN),
    ("t2_tse_sag", tse(102, 3500, image_type=(*ORIGINAL, "P", "ND")), "a phase picture"),
    ("t2_tirm_sag", inversion(60, 4000, 160, sequence_name="*tir2d1rr15"), SUPPRESSED),
    ("t2_tse_sag", inversion(60, 4000, 220), SUPPRESSED),
    ("t2_tse_dixon_sag_in", tse(80, 3500, image_type=("DERIVED", "PRIMARY", "DIXON", "IN_PHASE")), PLAIN),
    ("t2_tse_dixon_sag_opp", tse(80, 3500, image_type=("DERIVED", "PRIMARY", "DIXON", "OPP_PHASE")), OPPOSED),
    ("t2_tse_dixon_sag_W", tse(80, 3500, image_type=("DERIVED", "PRIMARY", "DIXON", "WATER")), SUPPRESSED),
    ("t2_tse_dixon_sag_F", tse(80, 3500), FAT),
    ("t2_tse_sag_spair", tse(80, 3800, scan_options="PFP FS"), SUPPRESSED),
    ("t2_me2d_sag", gradient(17, 560, 28, sequence_name="*me2d1r3"), "gradient echo by"),
    ("T2 SAG", gradient(15, 500, 20), "gradient echo by its sequence parameters"),
    ("t2_ci3d_sag", gradient(60, 120, 70, sequence_name="*ci3d1"), "gradient echo by"),
    ("t1_tse_sag", tse(11, 600, 3), "T1-weighted by description"),
    ("t1_tirm_sag_dark-fluid", inversion(12, 2000, 860), "fluid-attenuated by description"),
    ("t2_tse_sag_dark", inversion(110, 9000, 2500), "fluid-attenuated by its sequence parameters"),
    ("ep2d_diff_sag_TRACEW", planar(80, 4000, sequence_name="*ep_b500"), "diffusion by description"),
    ("resolve_sag_b800", planar(62, 4000, sequence_name="*re_b800"), "diffusion by description"),
    ("t2_haste_myelo_sag", tse(950, 8000, 240, slice_thickness=50.0), "a thick slab"),
    ("t2_haste_sag_thin", tse(700, 8000, 240), "with too long an echo time by TE and TR"),
    ("t2_tse_sag", tse(102, 3500, image_type=("DERIVED", "SECONDARY", "M", "ND", "NORM")), PLAIN),
    ("t2_spc_sag MPR", tse(124, 1000, image_type=("DERIVED", "SECONDARY", "MPR", "CSA MPR")), REFORMATTED),
    ("localizer", gradient(3, 7, 20, slices=3, step=20.0, image_type=(*ORIGINAL, "LOCALIZER")), "a localiser"),
    ("t2_haste_loc_sag", tse(80, 1200, 160, pixel_spacing=(1.4, 1.4)), "a localiser"),
    ("t2_tse_sag_LOC L4", tse(102, 3500), PLAIN),
    ("t2_map_sag", tse(69, 2000, 5, image_type=("DERIVED", "PRIMARY", "M", "T2 MAP")), "a parameter map"),
]  # fmt: skip
GE = [
    ("SAG T2 FRFSE", fse(102, 3200), PLAIN),
    ("Sag T2 frFSE", fse(105, 3000, protocol_name="L-SPINE T1 T2 STIR DWI"), PLAIN),
    ("SAG FSE", fse(102, 3500, protocol_name="L-SPINE T1 T2 STIR DWI"), PLAIN),
    ("SAG", fse(98, 3100, protocol_name="L-SPINE MYELO FLAIR T2"), PLAIN),
    ("SAG T2 FLOW COMP", fse(102, 3500), PLAIN),
    ("Sag T2 PROPELLER", fse(110, 4500), PLAIN),
    ("Sag CUBE T2", fse(90, 2000, flip_angle=90.0, echo_train=60), PLAIN),
    ("InPhase: Sag T2 Flex", fse(85, 3000, image_type=("DERIVED", "PRIMARY", "DIXON", "IN_PHASE")), PLAIN),
    ("WATER: Sag T2 Flex", fse(85, 3000), SUPPRESSED),
    ("FAT: Sag T2 Flex", fse(85, 3000), FAT),
    ("OutPhase: Sag T2 Flex", fse(85, 3000), OPPOSED),
    ("Sag T2 IDEAL", fse(85, 3000, image_type=("DERIVED", "PRIMARY", "DIXON", "FAT")), FAT),
    ("SAG STIR", fse(42, 4500, inversion_time=150.0, scanning_sequence=("SE", "IR")), SUPPRESSED),
    ("SAG FSE-IR", fse(30, 4500, inversion_time=165.0, scanning_sequence=("IR",)), SUPPRESSED),
    ("SAG T2 NON FS", fse(102, 3300), PLAIN),
    ("SAG T2 FS", fse(85, 3300), SUPPRESSED),
    ("SAG T2 MERGE", gradient(14, 600, 20, sequence_variant=("SS",)), "gradient echo by description"),
    ("SAG T2 GRE", gradient(15, 450, 20), "gradient echo by description"),
    ("SAG T1 FLAIR", inversion(9, 2200, 800), "fluid-attenuated by description"),
    ("SAG FLAIR", inversion(120, 9000, 2300), "fluid-attenuated by description"),
    ("SAG PD", fse(30, 2500), "proton density by description"),
    ("SAG T2 SSFSE MYELOGRAM", fse(900, 6000, echo_train=200, slice_thickness=40.0), "a thick slab"),
    ("SAG DWI b800", planar(75, 5000, b_value=800.0), "diffusion by its b-value"),
    ("SAG T2", fse(75, 5000, b_value=600.0), "diffusion by its b-value"),
    ("SAG T2 SPINETOOL", fse(102, 3300, image_type=("DERIVED", "SECONDARY"), burned_in="YES"), "with burned-in annotations"),
    ("3 PLANE LOC", gradient(1.6, 5, 30, slices=5, step=15.0), "a localiser"),
]  # fmt: skip
PHILIPS = [
    ("T2W_TSE", philips(120, 3000), PLAIN),
    ("sT2W_TSE DRIVE", philips(110, 2500), PLAIN),
    ("T2W_VISTA_SAG", philips(130, 2000, echo_train=60), PLAIN),
    ("T2_SAG_TSE clear", philips(100, 3200, acquisition_contrast="T2"), PLAIN),
    ("T2W_mDIXON_TSE", philips(80, 3000, image_type=("DERIVED", "PRIMARY", "W", "W", "DERIVED")), SUPPRESSED),
    ("T2W_mDIXON_TSE", philips(80, 3000, image_type=("DERIVED", "PRIMARY", "IP", "IP", "DERIVED")), PLAIN),
    ("T2W_mDIXON_TSE", philips(80, 3000, image_type=("DERIVED", "PRIMARY", "F", "F", "DERIVED")), FAT),
    ("T2W_SPAIR", philips(80, 3500, scan_options="FS"), SUPPRESSED),
    ("STIR_longTE", inversion(80, 3500, 165, image_type=(*ORIGINAL, "M_IR", "M", "IR")), SUPPRESSED),
    ("Sag IR", inversion(55, 3000, 150), SUPPRESSED),
    ("IR SAG", tse(80, 3500), SUPPRESSED),
    ("T2_FFE_SAG", gradient(14, 600, 25, image_type=(*ORIGINAL, "M_FFE", "M", "FFE")), "gradient echo by"),
    ("T2 SAG", {"echo_time": 80.0, "image_type": (*ORIGINAL, "M_FFE", "M", "FFE")}, "gradient echo by"),
    ("PD+T2 TSE SAG", philips(14, 3200), "proton density by"),
    ("PD+T2 TSE SAG", philips(102, 3200), PLAIN),
    ("DWI_SSh", philips(80, 3500, echo_train=61), "diffusion by description"),
    ("BFFE_SAG", gradient(2.2, 4.5, 60, sequence_variant=("SS",)), "gradient echo by description"),
    ("T1W_TSE", philips(8, 550), "T1-weighted by description"),
    ("Survey", gradient(4, 11, 20, slices=3, step=30.0), "a localiser"),
    ("T2W_TSE", philips(100, 3000, complex_component="PHASE"), "a phase picture"),
    ("T2W_TSE", philips(100, 3000, complex_component="REAL"), "a real or imaginary part"),
]  # fmt: skip
OTHERS = [
    ("FSE_SAG_T2", tse(120, 4000, 21, flip_angle=90.0, sequence_variant=("OSP",), manufacturer="CANON_MEC"), PLAIN),
    ("T2 SAG FatSAT", tse(100, 4000, flip_angle=90.0), SUPPRESSED),
    ("Sg STIR", inversion(40, 3500, 190, sequence_name="FIR"), SUPPRESSED),
    ("FSE 4000/128", {"manufacturer": "HITACHI"}, PLAIN),
    ("T2 FSE SAG", tse(120, 3000, flip_angle=90.0, manufacturer="HITACHI"), PLAIN),
    ("SAG STIR", inversion(25, 1500, 90, manufacturer="HITACHI"), SUPPRESSED),
    ("GE SAG T2", gradient(23, 600, 25), "gradient echo by its sequence parameters"),
    ("SAG T2 FSE STAND UP", tse(160, 2500, 14, flip_angle=90.0, manufacturer="FONAR"), PLAIN),
    ("T1 SAG", tse(102, 3500), PLAIN),
    ("T2 TSE SAG FLOW", tse(102, 3500), PLAIN),
    ("SAG T2 SUB", tse(102, 3500), PLAIN),
    ("SAG T2 (NO FS)", tse(102, 3500), PLAIN),
    ("T2 sag o. FS", tse(102, 3500), PLAIN),
    ("T2 sag ohne Fettsättigung", tse(102, 3500), PLAIN),
    ("T2 sans saturation de la graisse", tse(102, 3500), PLAIN),
    ("T2 FS OFF", tse(102, 3500), PLAIN),
    ("Sag T2 w/o FS", tse(102, 3500), PLAIN),
    ("Sag T2 w/ FS", tse(102, 3500), SUPPRESSED),
    ("STIR", {"acquisition_contrast": "STIR", "echo_time": 30.0, "repetition_time": 3000.0}, SUPPRESSED),
    ("SAG T2 DORSAL RECUMBENT", tse(102, 3500), PLAIN),
    ("T2 SAG HEAD FIRST", tse(102, 3500), PLAIN),
    ("腰椎 T2 矢状位", tse(102, 3500), PLAIN),
    ("腰椎 T2 不压脂", tse(102, 3500), PLAIN),
    ("腰椎 T2 压脂", tse(85, 3500), SUPPRESSED),
    ("ПОП Т2 саг", {}, PLAIN),
    ("T2 SAG", tse(0.102, 3.5), PLAIN),
    ("T2 SAG", tse(0.032, 3500), PLAIN),
    ("T2 SAG", {"echo_time": 0.0, "repetition_time": 0.0}, PLAIN),
    ("", tse(0.102, 3.5), "of unknown contrast"),
    ("T2 SAG", tse(20, 2500), "proton density by TE and TR"),
    ("T2 SAG", {"echo_time": 15.0}, "with too short an echo time by TE and TR"),
    ("T2 SAG", tse(45, 2500), PLAIN),
    ("SAG", tse(45, 2500), "proton density by TE and TR"),
    ("T2 TSE annotated", tse(102, 3500, image_type=("DERIVED", "SECONDARY")), SECONDARY),
    ("T2 TSE", {"echo_time": 102.0, "repetition_time": 3500.0, "image_type": ("DERIVED", "SECONDARY")}, SECONDARY),
    ("T2 SAG", {"flip_angle": 20.0}, "gradient echo by its sequence parameters"),
    ("T2 SAG", {"sequence_variant": ("SS",)}, "gradient echo by its sequence parameters"),
    ("SAG T2 C2-T12", tse(102, 3500), "described as another region"),
    ("SAG T2 T1-T12", tse(102, 3500), "described as another region"),
    ("T2 SAG", tse(102, 3500, echo_kind="GRADIENT", scanning_sequence=()), "gradient echo by its sequence parameters"),
    ("T2 SAG", tse(102, 3500, echo_kind="SPIN", scanning_sequence=(), suppression="FAT"), SUPPRESSED),
    ("T2 SAG", tse(102, 3500, suppression="WATER"), FAT),
]  # fmt: skip


@pytest.mark.parametrize(
    ("description", "facts", "answer"),
    [
        pytest.param(*row, id=f"{vendor}: {row[0]} [{number}]")
        for vendor, rows in {"siemens": SIEMENS, "ge": GE, "philips": PHILIPS, "others": OTHERS}.items()
        for number, row in enumerate(rows)
    ],
)
def test_right_answer(description: str, facts: dict[str, Any], answer: str) -> None:
    selection = select_series([stack(description, **facts)])
    outcome = selection.explanations[0].split(": ", 1)[1]
    if answer in (PLAIN, SUPPRESSED):
        assert outcome.startswith(
            "chosen: sagittal, fat-suppressed" if answer is SUPPRESSED else "chosen: sagittal, T2 by"
        )
        assert any("fat-suppressed" in warning for warning in selection.warnings) == (answer is SUPPRESSED)
    else:
        assert outcome.startswith(f"not chosen: {answer}"), outcome


def test_a_contrast_that_the_times_overrule_is_told() -> None:
    selection = select_series([stack("T1 SAG", **tse(102, 3500))])
    assert selection.warnings == (
        "no description says T2; taken as T2 by TE and TR",
        "the description names another contrast than TE and TR, which are those of T2",
    )


def test_impossible_times_are_told() -> None:
    selection = select_series([stack("T2 SAG", **tse(0.102, 3.5))])
    assert selection.warnings == ("impossible echo time not used", "impossible repetition time not used")


def test_an_acquired_series_goes_before_one_marked_as_derived() -> None:
    original = stack("T2 SAG", number=1, **tse(102, 3500))
    derived = stack("LWS T2 SAG", number=2, **tse(102, 3500, image_type=("DERIVED", "SECONDARY")))
    assert select_series([derived, original]).chosen is original
    assert any("marked as derived" in warning for warning in select_series([derived]).warnings)


def test_of_dixon_parts_in_phase_goes_first_then_water() -> None:
    names = ("WATER: Sag T2 Flex", "InPhase: Sag T2 Flex", "OutPhase: Sag T2 Flex", "FAT: Sag T2 Flex")
    water, in_phase, opposed, fat = (stack(name, number=n, **fse(85, 3000)) for n, name in enumerate(names, start=5))
    assert select_series([water, in_phase, opposed, fat]).candidates == (in_phase, water)
    assert select_series([opposed, fat]).chosen is None


def test_the_magnitude_of_two_series_is_chosen_though_the_phase_is_later() -> None:
    magnitude, phase = (
        stack("t2_tse_sag", number=n, **tse(102, 3500, image_type=(*ORIGINAL, part, "ND")))
        for n, part in ((4, "M"), (5, "P"))
    )
    assert select_series([magnitude, phase]).candidates == (magnitude,)


def test_a_denied_fat_suppression_goes_before_stir() -> None:
    plain = stack("SAG T2 NON FS", number=4, **tse(102, 3500))
    stir = stack("SAG STIR", number=5, **inversion(60, 3500, 170))
    assert select_series([plain, stir]).candidates == (plain, stir)


def test_the_long_echo_of_two_is_chosen() -> None:
    echoes = [stack("PD+T2 TSE SAG", number=2, **tse(echo, 3200)) for echo in (14, 102)]
    assert select_series(echoes).candidates == (echoes[1],)
