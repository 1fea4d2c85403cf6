"""SOP classes by what the node does with them."""

from __future__ import annotations

from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

# Classes of the objects that the node writes. `results.kinds` says which object is of which; a test compares them.
WRITTEN = frozenset(
    map(
        str,
        (
            Comprehensive3DSRStorage,
            ComprehensiveSRStorage,
            SecondaryCaptureImageStorage,
            GrayscaleSoftcopyPresentationStateStorage,
            KeyObjectSelectionDocumentStorage,
        ),
    )
)
# Only an object of these classes can be a result that came back: those above, and what another version may write.
OWN_RESULTS = WRITTEN | {str(MultiFrameTrueColorSecondaryCaptureImageStorage)}


def class_name(uid: str) -> str:
    """Name of a SOP class in the standard; the UID itself where it has none."""
    return UID(uid).name
