"""When a study is complete; which studies are analysed, and which are only kept; whether identifiers of patients are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import model_validator

from dicom_node.settings.types import Name, Pattern, Section, setting


class StudyRules(Section):
    """When a study is complete, and what is analysed."""

    quiet_seconds: float = setting(
        30.0, "a study is complete when no image has come for this long", unit="s", ge=0, le=86400
    )
    max_wait_seconds: float = setting(
        900.0, "or when its first image is this old, even if more images are coming", unit="s", ge=0, le=604800
    )
    quiet_seconds_after_release: float | None = setting(
        None,
        "quiet time once the sender has released its association; must exceed the sender's pauses between associations; "
        "unset: quiet_seconds",
        unit="s",
        ge=0,
        le=86400,
    )
    wait_for_series_seconds: float = setting(
        600.0,
        "a study without a series that can be analysed waits for one until no image has come for this long; then it is "
        "reported as not analysable; where an archive says that all images are here: quiet_seconds, if less; 0: at once",
        unit="s",
        ge=0,
        le=604800,
    )
    max_images: int = setting(
        20000,
        "most images of a study that are kept, where every version of an image counts; further ones are refused",
        ge=1,
    )
    max_gb: float = setting(50.0, "largest size of a study; further images of it are refused", unit="GB", gt=0)
    min_slices: int = setting(5, "slices that a sagittal T2 series needs to be analysed", unit="slices", ge=1, le=1000)


class StudyRule(Section):
    """Which studies are analysed: the first rule that fits decides; where none fits, a study is analysed."""

    name: Name = setting(..., "short unique name; a kept study shows it", example="brains")
    action: Literal["analyse", "keep"] = setting(
        ...,
        'what becomes of a study that fits: "analyse" (one of its series fits) or "keep" (all of them do): its images stay '
        "on the node and nothing is analysed or sent",
        example="keep",
    )
    modality: Pattern = setting("", "regular expression that is found in Modality, in any case; empty: any")
    body_part: Pattern = setting("", "the same for Body Part Examined")
    description: Pattern = setting("", "the same for Study Description", example="brain|head")

    @model_validator(mode="after")
    def _asks_for_something(self) -> StudyRule:
        if not (self.modality or self.body_part or self.description):
            raise ValueError('a rule needs modality, body_part or description (".*" fits every study)')
        return self

    @property
    def conditions(self) -> tuple[str, str, str]:
        """What it asks for: patterns of modality, body part and description; empty for what does not matter."""
        modality, body_part, description = (
            "" if p == ".*" else p for p in (self.modality, self.body_part, self.description)
        )
        return modality, body_part, description


class ShownRules(Section):
    """What screen and status page show of patients. Off by default: no column of the database holds such data then."""

    patient: bool = setting(
        False,
        "keep Patient ID and Accession Number of each study that comes in the database, show them in `status`, `find`, "
        "`study` and on the status page, and find studies by them; the audit log says who looked; false deletes at the next "
        "start what was kept",
    )


def contradiction(rules: Sequence[StudyRule]) -> str:
    """Why a list of rules cannot be meant: two have one name, or one can never decide; empty if all is well."""
    seen: dict[tuple[str, str, str], StudyRule] = {}
    for number, rule in enumerate(rules):
        if any(rule.name == other.name for other in rules[:number]):
            return f"the name {rule.name!r} is used twice"
        earlier = seen.get(rule.conditions)
        if earlier is not None:
            what = "the same" if earlier.action == rule.action else "the contrary"
            return (
                f"{rule.name!r} asks for what {earlier.name!r} before it asks for, and says {what}: it can never decide"
            )
        if ("", "", "") in seen:
            return f"{rule.name!r} can never decide: {seen['', '', ''].name!r} before it fits every study"
        seen[rule.conditions] = rule
    return ""
