"""Which region a name means: every language of the list, ranges of levels, BodyPartExamined, and heights of stations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spineone_core.imaging.regions import Region, named_regions, read_region, without_levels
from spineone_core.imaging.selection import Selection, select_series
from spineone_core.imaging.series import Series
from spineone_core.imaging.stations import centre_height, stations
from tests.unit.imaging.test_selection import header, stack

# Lumbar, thoracic, cervical as technologists write them.
NAMES = {
    "en": ("L-SPINE T2 SAG", "T-SPINE T2 SAG", "C-SPINE T2 SAG"),
    "en, words": ("Lumbar Spine sag T2", "Thoracic Spine sag T2", "Cervical Spine sag T2"),
    "en, short": ("LUMB T2 SAG", "THOR T2 SAG", "CERV T2 SAG"),
    "de": ("LWS t2 sag", "BWS t2 sag", "HWS t2 sag"),
    "de, words": ("Lendenwirbelsäule T2", "Brustwirbelsäule T2", "Halswirbelsäule T2"),
    "fr": ("Rachis lombaire T2 sag", "Rachis dorsal T2 sag", "Rachis cervical T2 sag"),
    "es": ("Columna lumbar SAG T2", "Columna dorsal SAG T2", "Columna cervical SAG T2"),
    "it": ("Rachide lombare T2", "Rachide dorsale T2", "Rachide cervicale T2"),
    "pt": ("Coluna lombar T2 sag", "Coluna torácica T2 sag", "Coluna cervical T2 sag"),
    "nl": ("LWK T2 sag", "TWK T2 sag", "CWK T2 sag"),
    "sv": ("Ländrygg T2 sag", "Bröstrygg T2 sag", "Halsrygg T2 sag"),
    "da": ("Lænderyg T2 sag", "Brystryg T2 sag", "Halsryg T2 sag"),
    "no": ("Korsrygg T2 sag", "Brystrygg T2 sag", "Nakke T2 sag"),
    "sk": ("drieková chrbtica T2", "hrudná chrbtica T2", "krčná chrbtica T2"),
    "hu": ("ágyéki gerinc T2", "háti gerinc T2", "nyaki gerinc T2"),
    "fi": ("lanneranka t2 sag", "rintaranka t2 sag", "kaularanka t2 sag"),
    "pl": ("T2 sag kr. lędźwiowy", "T2 sag kr. piersiowy", "T2 sag kr. szyjny"),
    "cs": ("bederní páteř T2", "hrudní páteř T2", "krční páteř T2"),
    "tr": ("Lomber T2 sag", "Torakal T2 sag", "Servikal T2 sag"),
    "ru": ("ПОП T2 sag", "ГОП T2 sag", "ШОП T2 sag"),
    "ru, words": ("Поясничный отдел Т2", "грудной отдел Т2", "шейный отдел Т2"),
    "uk": ("поперековий відділ Т2", "грудний відділ Т2", "шийний відділ Т2"),
    "el": ("οσφυϊκή μοίρα T2", "θωρακική μοίρα T2", "αυχενική μοίρα T2"),
    "zh": ("腰椎 T2 矢状位", "胸椎 T2 矢状位", "颈椎 T2 矢状位"),
    "zh, without spaces": ("腰椎T2矢状位", "胸椎T2矢状位", "頸椎T2矢狀位"),
    "ja": ("腰椎 T2 SAG", "胸椎 T2 SAG", "頸椎 T2 SAG"),
    "ko": ("요추 T2 SAG", "흉추 T2 SAG", "경추T2시상면"),
    "full width": ("ＬＷＳ Ｔ２ ＳＡＧ", "ＢＷＳ Ｔ２", "ＨＷＳ Ｔ２"),
    "levels": ("SAG T2 T12-S1", "SAG T2 Th1-12", "SAG T2 C1-C8"),
    "levels, short": ("T2 SAG L2-S", "T2 SAG D1-D12", "T2 SAG C2-7"),
    "levels, words": ("T2 L1 to S1", "T2 TSE T3 - T12", "T2 C0-T1"),
    "levels, German": ("T2 LWK1-5", "T2 BWK1-12", "T2 HWK 2-7"),
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES.keys())
def test_the_lumbar_one_of_three_stations_is_chosen(names: tuple[str, str, str]) -> None:
    series = [stack(name, number=number) for number, name in enumerate(names, start=4)]
    selection = select_series(series)
    assert selection.chosen is series[0], selection.explanations
    assert [line.split("not chosen: ")[-1] for line in selection.explanations[1:]] == [
        "described as another region"
    ] * 2


@pytest.mark.parametrize(
    ("name", "regions"),
    [
        ("SI JOINTS T2", {Region.SACRAL}),
        ("SACRUM", {Region.SACRAL}),
        ("ISG T2", {Region.SACRAL}),
        ("骶骨 T2", {Region.SACRAL}),
        ("仙腸関節 T2", {Region.SACRAL}),
        ("천장관절", {Region.SACRAL}),
        ("крестцово-подвздошные КПС", {Region.SACRAL}),
        ("ristiluu", {Region.SACRAL}),
        ("kość krzyżowa", {Region.SACRAL}),
        ("S1-S5", {Region.SACRAL}),
        ("WHOLE SPINE", {Region.WHOLE}),
        ("Ganze WS", {Region.WHOLE}),
        ("全脊柱 T2", {Region.WHOLE}),
        ("전척추", {Region.WHOLE}),
        ("rachis entier", {Region.WHOLE}),
        ("весь позвоночник", {Region.WHOLE}),
        ("koko selkäranka", {Region.WHOLE}),
        ("C1-S1", {Region.WHOLE}),
        ("Th8-L2", {Region.WHOLE}),
        ("lumbosacral spine", {Region.LUMBAR, Region.SACRAL}),
        ("пояснично-крестцовый отдел", {Region.LUMBAR, Region.SACRAL}),
        ("요천추", {Region.LUMBAR, Region.SACRAL}),
        ("胸腰椎", {Region.LUMBAR, Region.THORACIC}),
        ("L4/5", {Region.LUMBAR}),
        ("L5-S1", {Region.LUMBAR}),
        ("BRAIN", {Region.OTHER}),
        ("головной мозг", {Region.OTHER}),
        ("спинной мозг", set()),
        ("脑脊液", set()),
        ("DORSAL RECUMBENT", set()),
        ("décubitus dorsal", set()),
        ("HEAD FIRST SUPINE", set()),
        ("NECK COIL", set()),
        ("T1-T2", set()),
        ("T2-S", set()),
        ("T2-3D", set()),
        ("T2 SAG 384-15", set()),
        ("FSE 4000/128", set()),
        ("BLOCK FIRST PELVIC", {Region.SACRAL}),
        ("", set()),
        ("SPINE", set()),
    ],
)
def test_what_a_name_means(name: str, regions: set[Region]) -> None:
    assert named_regions(name) == regions


def test_levels_are_no_contrast() -> None:
    assert "T1" not in without_levels("SAG T2 T1-T12")
    assert "T1-T2" in without_levels("SAG T1-T2")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("LSPINE", 1), ("LUMBAR SPINE", 1), ("L_SPINE", 1), ("LSSPINE", 1), ("MRI LWK", 1), ("腰椎", 1),
        ("CSPINE", -1), ("TSPINE", -1), ("HEAD", -1), ("SSPINE", -1), ("WHOLESPINE", 0), ("SPINE", 0), ("BACK", 0), ("", 0),
    ],
)  # fmt: skip
def test_body_part(value: str, says: int) -> None:
    assert read_region(header("T2 SAG", body_part=value)).body_part == says


def test_names_go_before_body_part() -> None:
    region = read_region(header("LWS T2", body_part="CSPINE"))
    assert (region.rank, region.text, region.source, region.against) == (2, "lumbar spine", "description", False)
    assert read_region(header("T2", body_part="CSPINE")).against
    assert not read_region(header("T2", protocol_name="T-SPINE")).excluded


# ---------------------------------------------------------------- heights


def at(height: float, description: str = "t2_tse_sag", *, number: int, frame: str = "1.5", **changes: Any) -> Series:
    """A stack whose pictures' centre lies at a height (mm)."""
    made = stack(description, number=number, frame_of_reference_uid=frame, **changes)
    top = height + (384 - 1) / 2 * 0.75
    return Series(tuple(replace(f, position=(f.position[0], f.position[1], top)) for f in made.frames if f.position))


def chosen(*series: Series) -> Series | None:
    selection: Selection = select_series(series)
    return selection.chosen


def test_centre_height() -> None:
    assert centre_height(at(-120.0, number=1)) == pytest.approx(-120.0)
    assert centre_height(stack(pixel_spacing=None)) is None


@pytest.mark.parametrize("order", [(4, 5, 6), (6, 5, 4)])
def test_of_three_unnamed_stations_the_lowest_is_chosen_with_a_warning(order: tuple[int, ...]) -> None:
    series = [at(h, number=n) for h, n in zip((-240.0, 0.0, 240.0), order, strict=True)]
    selection = select_series(series)
    assert selection.chosen is series[0]
    assert any("stations" in warning for warning in selection.warnings)
    assert "lower in the body" in selection.explanations[1]


def test_of_cervical_and_thoracic_by_name_none_is_chosen() -> None:
    assert chosen(at(0.0, "HWS t2 sag", number=1), at(-240.0, "BWS t2 sag", number=2)) is None


def test_a_sacrum_series_may_lie_below_the_lumbar_one() -> None:
    lumbar = at(0.0, number=2)
    assert chosen(at(-130.0, "Sakrum t2 sag", number=3), lumbar, at(240.0, number=4)) is lumbar


def test_a_name_goes_before_body_part_and_that_before_height() -> None:
    named, low = at(240.0, "LWS t2", number=1), at(0.0, number=2)
    assert chosen(named, low) is named
    told, low = at(240.0, number=1, body_part="LSPINE"), at(0.0, number=2, body_part="SPINE")
    assert chosen(told, low) is told


def test_heights_of_two_frames_of_reference_are_not_compared() -> None:
    first, later = at(0.0, number=1, frame="1.5"), at(240.0, number=2, frame="1.6")
    assert chosen(first, later) is later
    assert stations([first, later, at(300.0, number=3, frame="")]) == [(0, 0.0)] * 3


def test_a_repeat_moved_by_some_centimetres_is_the_same_station() -> None:
    assert stations([at(0.0, number=1), at(60.0, number=2), at(230.0, number=3)]) == [(0, 0.0), (0, 60.0), (1, 230.0)]
