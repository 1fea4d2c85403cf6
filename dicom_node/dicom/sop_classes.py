"""SOP classes, grouped by what the node does with them."""

from __future__ import annotations

from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MRImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

# The classes of the objects that the node writes. `results.kinds` says which object has which class; a test compares
# them.
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
# Only an object of one of these classes can be a result that came back: those above, and one that another version may
# write.
OWN_RESULTS = WRITTEN | {str(MultiFrameTrueColorSecondaryCaptureImageStorage)}


def image_class(uid: str | None) -> str:
    """The SOP class of an image; MR Image Storage if a poor source, or an archive's answer, does not say it."""
    return str(uid or MRImageStorage)


def class_name(uid: str) -> str:
    """The name of a SOP class in the standard, or the UID itself if it has no name there."""
    return UID(uid).name
