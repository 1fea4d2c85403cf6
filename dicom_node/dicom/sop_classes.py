"""SOP classes by what the node does with them."""

from __future__ import annotations

from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

# Classes that a SpineOne node has ever written: only such an object can be a result that came back.
OWN_RESULTS = frozenset(
    map(
        str,
        (
            Comprehensive3DSRStorage,
            ComprehensiveSRStorage,
            SecondaryCaptureImageStorage,
            MultiFrameTrueColorSecondaryCaptureImageStorage,
            GrayscaleSoftcopyPresentationStateStorage,
            KeyObjectSelectionDocumentStorage,
        ),
    )
)
