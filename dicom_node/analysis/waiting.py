"""How long a study that has no series to analyse waits for one, before it is said to be not analysable.

Scanners and routers send an exam series by series, minutes apart: a report after the localiser alone would be wrong, and
stay in the archive for ever.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from dicom_node.database.tables import StudyRow
from dicom_node.settings.study_rules import StudyRules
from spineone_core.findings import Reason

# The reasons that a further series of the same exam can cure.
CURABLE = frozenset(
    {
        Reason.NO_IMAGES,
        Reason.NO_SAGITTAL_T2,
        Reason.TOO_FEW_SLICES,
        Reason.FIELD_OF_VIEW_TOO_SMALL,
        Reason.LEVELS_INCOMPLETE,
        Reason.LEVELS_IMPLAUSIBLE,
        Reason.NOT_LUMBAR,
    }
)


def wait_until(study: StudyRow, reason: Reason | None, rules: StudyRules, now: datetime) -> datetime | None:
    """Until when a study waits for a series; None if it does not wait, or has waited."""
    if reason not in CURABLE:
        return None
    expected, here = study.images_expected, study.images_here
    is_whole = expected is not None and here is not None and here >= expected
    wait_s = rules.wait_for_series_seconds
    until = study.last_received_at + timedelta(seconds=min(wait_s, rules.quiet_seconds) if is_whole else wait_s)
    # A time of receipt that lies ahead was written before the clock was set back.
    return min(until, now + timedelta(seconds=wait_s)) if until > now else None
