"""docs/conformance.md, 7.6, says what the code does: its examples are read by the code, its numbers are the code's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from spineone_core.detection import second_choice
from spineone_core.imaging import judgement, picture_kinds, ranking, sequence_facts, stations
from spineone_core.imaging.fat import Fat
from spineone_core.imaging.headers import FrameHeader
from spineone_core.imaging.picture_kinds import picture_kind
from spineone_core.imaging.regions import read_region
from spineone_core.imaging.weighting import LASTING_WORDS, OTHER_KINDS, read_weighting
from tests.unit.imaging.test_selection import header

TEXT = (Path(__file__).parents[3] / "docs" / "conformance.md").read_text(encoding="utf-8")
NUMBERS = {"TE": "echo_time", "TR": "repetition_time", "TI": "inversion_time", "FA": "flip_angle", "b": "b_value"}
TEXTS = {"protocol": "protocol_name", "body part": "body_part", "contrast": "acquisition_contrast"}


def section(number: str) -> str:
    return re.split(r"\n###", TEXT.split(f"#### {number} ", 1)[1], maxsplit=1)[0]


def rows(number: str) -> list[list[str]]:
    """The rows of a section's table, without its head."""
    lines = [line for line in section(number).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def example(cell: str) -> tuple[FrameHeader, str]:
    """The header that an example describes, and the answer that it gives."""
    given, answer = cell.split(" → ")
    name, *facts = given.split(", ")
    fields: dict[str, Any] = {}
    for fact in facts:
        word, _, value = fact.rpartition(" ")
        if word in NUMBERS:
            fields[NUMBERS[word]] = float(value)
        elif word in TEXTS:
            fields[TEXTS[word]] = value
        elif word == "image":
            fields["image_type"] = ("ORIGINAL", "PRIMARY", value)
        else:
            assert re.fullmatch(r"(SE|GR|IR|EP)(\+(SE|GR|IR|EP))*", fact), fact
            fields["scanning_sequence"] = tuple(fact.split("+"))
    return header("" if name == "no name" else name.strip("`"), **fields), answer


@pytest.mark.parametrize("row", rows("7.6.1"), ids=lambda row: row[0][:40])
def test_contrast(row: list[str]) -> None:
    described, answer = example(row[2])
    weighting = read_weighting(described)
    fat = "" if weighting.fat is Fat.PLAIN else f", {weighting.fat.value}"
    assert (picture_kind(described) or f"{weighting.kind}{fat} by {weighting.source}") == answer


@pytest.mark.parametrize("row", rows("7.6.3"), ids=lambda row: row[0][:40])
def test_region(row: list[str]) -> None:
    described, answer = example(row[2])
    region = read_region(described)
    assert (f"{region.text} by {region.source}" if region.source else region.text) == answer


def test_criteria() -> None:
    assert [row[0] for row in rows("7.6.4")] == [name for name, _ in ranking.CRITERIA]


def test_every_kind_of_name_is_in_the_table_of_overruled_ones() -> None:
    named = {kind for row in rows("7.6.2") for kind in row[0].split(", ")}
    assert named == {"T1-weighted", "proton density", *(kind for kind, _ in OTHER_KINDS)}


@pytest.mark.parametrize("word", ["ADC", "T2 MAP", "MPR", "MIP", "SUBTRACTION"])
def test_words_that_stay(word: str) -> None:
    assert word in rows("7.6.1")[0][1]
    assert re.search(LASTING_WORDS, word)


def test_numbers() -> None:
    (low, high), (stir_low, stir_high) = sequence_facts.T2_ECHO_MS, sequence_facts.STIR_INVERSION_MS
    contrast, choice = section("7.6.1"), section("7.6.4")
    for text in (
        f"slices of {picture_kinds.SLAB_MM:.0f} mm or more",
        f"a flip angle under {sequence_facts.GRADIENT_FLIP_DEG:.0f}",
        f"TI over {stir_high:.0f} | T1-weighted; over {sequence_facts.FLUID_INVERSION_MS:.0f}",
        f"TE over {high:.0f}; TE under {sequence_facts.T1_ECHO_MS:.0f} with TR under {sequence_facts.T1_REPETITION_MS:.0f}",
        f"TI of {stir_low:.0f} to {stir_high:.0f}",
        f"TE of {sequence_facts.STIR_ECHO_MS[0]:.0f} to {sequence_facts.STIR_ECHO_MS[1]:.0f}",
        f"TE under {sequence_facts.NAMED_T2_ECHO_MS:.0f} of what is named T2",
        f"TE of {low:.0f} to {high:.0f} with TR from {sequence_facts.T2_REPETITION_MS:.0f}",
        f"TE under {sequence_facts.POSSIBLE_ECHO_MS[0]:.0f} or over {sequence_facts.POSSIBLE_ECHO_MS[1]:.0f}",
    ):
        assert text in contrast, text
    first, last = sequence_facts.TURBO_ECHOES
    assert f"ETL {first} to {last}, FA over {sequence_facts.SPIN_FLIP_DEG:.0f}" in section("7.6.2")
    assert f"stations over {stations.STATION_MM:.0f} mm apart" in section("7.6.3")
    for text in (
        f"the normal's x over {judgement.SAGITTAL_COSINE}",
        f"at most {judgement.LOCALISER_SLICES} slices more\nthan {judgement.LOCALISER_GAP_MM:.0f} mm apart",
        f"pixels up to {judgement.DIAGNOSTIC_PIXEL_MM:.0f} mm and steps up to {judgement.DIAGNOSTIC_STEP_MM:.0f} mm",
        f"{ranking.USUAL_VIEW_MM[0]:.0f} to {ranking.USUAL_VIEW_MM[1]:.0f} mm",
        f"more, up to {ranking.ENOUGH_SLICES} |",
        f"at most {second_choice.FURTHER_TRIES} further ones",
        f"no more than {stations.NEIGHBOUR_MM:.0f} mm above",
        f"at most {second_choice.STRICTER:.0%} of".replace("%", " %"),
    ):
        assert text in choice, text
