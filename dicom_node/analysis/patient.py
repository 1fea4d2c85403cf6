"""Whether the images that a result uses are all of one patient."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from itertools import combinations

from dicom_node.errors import NodeError
from dicom_node.images.patients import Comparison, PatientIdentity, Relation

# The images of one patient are never described in so many ways; more would cost too many comparisons.
MOST_IDENTITIES = 100


class TwoPatientsError(NodeError):
    """The images to be read contradict each other about the patient, so nothing is made and nothing is sent.

    Have the archive correct the study and send all of it again, or use `dicom-node release`.
    """

    # The coded reason, as `dicom-node status` and `jobs` show it.
    code = "two_patients"

    def __str__(self) -> str:
        return f"{self.code}: {self.args[0]}"


def judge(
    identities: Mapping[str, PatientIdentity],
    used: Collection[str],
    confirmed: Collection[PatientIdentity] = frozenset(),
) -> list[str]:
    """What a reader should know about whose images were used, as warnings without values.

    Every two identities among the images used are compared: an image that says nothing must not join two patients.

    Parameters
    ----------
    identities
        Of every object of the study, by SOP Instance UID.
    used
        The objects that decide: those that the result uses, and those that it might as well have used.
    confirmed
        Identities that a person said are of one patient.

    Raises
    ------
    TwoPatientsError
        If the images used contradict each other.
    """
    counts = Counter(identities[uid] for uid in sorted(used))
    if len(counts) > MOST_IDENTITIES:
        raise TwoPatientsError(f"the images to be read describe their patient in {len(counts)} ways")
    found = [(one, other, one.compared_to(other)) for one, other in combinations(counts, 2)]
    notes = _within(counts, [_settled(*pair, confirmed) for pair in found])
    others = Counter(identity for uid, identity in identities.items() if uid not in set(used))
    strange = sum(number for identity, number in others.items() if _contradicts(identity, counts))
    if strange:
        notes.append(f"{strange} other objects of the study are of another patient; they were not used")
    return notes


def _settled(
    one: PatientIdentity, other: PatientIdentity, seen: Comparison, confirmed: Collection[PatientIdentity]
) -> Comparison:
    """The comparison of two identities, once a person's word is taken into account."""
    if seen.relation is Relation.CONTRADICTION and one in confirmed and other in confirmed:
        return Comparison(Relation.SPELLING, seen.difference)
    return seen


def _within(counts: Counter[PatientIdentity], found: list[Comparison]) -> list[str]:
    """The notes about the images used, if they can be of one patient."""
    apart = sorted({seen.difference for seen in found if seen.relation is Relation.CONTRADICTION})
    if apart:
        numbers = " and ".join(str(number) for _, number in counts.most_common())
        raise TwoPatientsError(f"the images to be read ({numbers}) contradict each other: {'; '.join(apart)}")
    differences = sorted({seen.difference for seen in found if seen.relation is Relation.SPELLING})
    notes = [f"not all images used say the same of the patient: {'; '.join(differences)}"] if differences else []
    if any(seen.relation is Relation.UNKNOWN for seen in found):
        notes.append("some of the images used do not say for certain whose they are")
    if len(counts) == 1 and all(identity.is_empty for identity in counts):
        notes.append("the images do not say whose they are")
    return notes


def _contradicts(identity: PatientIdentity, used: Collection[PatientIdentity]) -> bool:
    return any(identity.compared_to(other).relation is Relation.CONTRADICTION for other in used)
