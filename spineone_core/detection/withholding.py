"""Classes that are not called: on fat-suppressed T2, levels are named but no disc or vertebra is graded.

No fat-suppressed series was there to learn from or to measure on. In such series marrow is dark, so endplate and marrow
changes look unlike what the grading networks learned (docs/decisions/032-refusals.md has what was seen on made ones).
"""

from __future__ import annotations

from dataclasses import replace

from spineone_core.findings import Detection

WITHHELD = "no class is called and no grade given: the model was not measured on fat-suppressed series"


def without_classes(detection: Detection) -> Detection:
    """The same levels, every class undecided, without grades and signs, with a warning; a refusal stays as it is."""
    if not detection.analysed:
        return detection
    findings = tuple(replace(finding, decided=False, pfirrmann=None, signs=()) for finding in detection.findings)
    return replace(detection, findings=findings, warnings=(*detection.warnings, WITHHELD))
