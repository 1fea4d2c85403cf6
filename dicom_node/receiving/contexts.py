"""What the node accepts: presentation contexts for every standard storage class."""

from __future__ import annotations

from typing import Any

from pydicom.uid import UID_dictionary
from pynetdicom import ALL_TRANSFER_SYNTAXES, build_context, register_uid
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import _STORAGE_CLASSES, Verification

from dicom_node.commitment import messages

# JPIP only refers to pixels elsewhere, so there would be nothing to keep. SMPTE 2110 syntaxes are streams, not files.
_NOT_STORABLE_SYNTAXES = ("1.2.840.10008.1.2.4.94", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.204")
_NOT_STORABLE_PREFIX = "1.2.840.10008.1.2.7."
# JPIP HTJ2K Referenced Deflate
_NOT_STORABLE = {*_NOT_STORABLE_SYNTAXES, "1.2.840.10008.1.2.4.205"}


def storage_sop_classes() -> list[str]:
    """Every standard storage SOP class of composite instances, even retired ones, which old archives still send."""
    known = set(_STORAGE_CLASSES.values())
    listed = {
        uid
        for uid, (name, kind, *_) in UID_dictionary.items()
        if kind == "SOP Class"
        and "Storage" in name
        and uid.startswith(("1.2.840.10008.5.1.4.1.1.", "1.2.840.10008.5.1.4.34."))
    }
    return sorted(known | listed)


def transfer_syntaxes() -> list[str]:
    """Every transfer syntax in which an object itself contains its pixels."""
    return [
        uid for uid in ALL_TRANSFER_SYNTAXES if uid not in _NOT_STORABLE and not uid.startswith(_NOT_STORABLE_PREFIX)
    ]


class SharedContexts(list[PresentationContext]):
    """Presentation contexts that all associations share.

    pynetdicom copies an acceptor's contexts for each association, although it only reads them. With about two hundred
    classes in forty transfer syntaxes, that took most of a tenth of a second.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> SharedContexts:
        return self


def supported_contexts() -> SharedContexts:
    """What the node accepts: verification, storage commitment in both roles, and storage in all transfer syntaxes."""
    syntaxes = transfer_syntaxes()
    commitment = build_context(messages.SOP_CLASS)
    # A destination that reports to us is the SCP (PS3.4 J.3.3), a sender that asks us is the SCU.
    commitment.scu_role = commitment.scp_role = True
    contexts = SharedContexts([build_context(Verification), commitment])
    for uid in storage_sop_classes():
        if uid not in _STORAGE_CLASSES.values():
            # pynetdicom would not serve retired classes by itself.
            register_uid(uid, f"RetiredStorage_{uid.replace('.', '_')}", StorageServiceClass)
        contexts.append(build_context(uid, syntaxes))
    return contexts
