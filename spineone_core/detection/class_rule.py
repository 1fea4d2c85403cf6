"""What "degenerative" means in a result: what the package's networks were taught, or a site's own rule for discs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from spineone_core.anatomy import Structure
from spineone_core.detection.grading import PFIRRMANN, calibration_key
from spineone_core.detection.model_package import ModelPackage
from spineone_core.findings import PfirrmannGrade
from spineone_core.network.grading import PFIRRMANN_GRADES, GradingConfig

_TAUGHT = "as labelled in the model's training data, see its model card"
# How `spineone_core.network.grading.class_logits` makes the class out of signs.
_FROM_SIGNS = {
    Structure.DISC: "Pfirrmann grade 3 or more, or bulging",
    Structure.VERTEBRA: "a Modic or endplate change beside the vertebra, no finding of the vertebra itself",
}


@dataclass(frozen=True, slots=True)
class ClassRule:
    """The site's rule: a disc is degenerative from this Pfirrmann grade on; 0 leaves the class to the model.

    Raises
    ------
    ValueError
        If the grade is neither 0 nor 2 to 5.
    """

    disc_from_grade: int = 0

    def __post_init__(self) -> None:
        if self.disc_from_grade and self.disc_from_grade not in range(2, PFIRRMANN_GRADES + 1):
            raise ValueError(
                f"a disc cannot be degenerative from Pfirrmann grade {self.disc_from_grade}; allowed: 2 to 5"
            )

    def probability(self, grade: PfirrmannGrade | None) -> float | None:
        """The calibrated probability that the disc has the rule's grade or a higher one; None where the rule says nothing."""
        if not self.disc_from_grade or grade is None:
            return None
        return min(1.0, sum(grade.probabilities[self.disc_from_grade - 1 :]))


def definitions(grading: Iterable[GradingConfig], rule: ClassRule) -> tuple[tuple[str, str], ...]:
    """For each structure's name, when it counts as degenerative, as the end of a sentence."""
    found = dict.fromkeys(Structure, _TAUGHT)
    found |= {c.structure: _FROM_SIGNS[c.structure] for c in grading if c.class_from in ("signs", "joined")}
    if rule.disc_from_grade:
        found[Structure.DISC] = f"Pfirrmann grade {rule.disc_from_grade} or more, by a rule of this site"
    return tuple((structure.value, text) for structure, text in found.items())


def says_grades(package: ModelPackage) -> bool:
    """Whether the package says Pfirrmann grades: it looks at discs once more and has a calibration of each threshold."""
    keys = {calibration_key(Structure.DISC, f"{PFIRRMANN}.{k}") for k in range(1, PFIRRMANN_GRADES)}
    return Structure.DISC in package.grading and keys <= set(package.manifest.calibration)
