"""Our application entities, and pynetdicom's global switches, which are set whenever one is made.

Every association of the node, whether we open it or accept it, begins with `application_entity`, so that no process and
no command can run without the switches.
"""

from __future__ import annotations

from pynetdicom import AE, _config

from dicom_node.dicom.identifiers import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


def application_entity(ae_title: str) -> AE:
    """An application entity of the node with this AE title, without contexts; pynetdicom's switches are set."""
    set_up_pynetdicom()
    ae = AE(ae_title)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    return ae


def set_up_pynetdicom() -> None:
    """Set pynetdicom's switches.

    They keep identifiers out of logs, turn expensive log handlers off, refuse private classes, and make pynetdicom send
    files without reading them whole. Setting the switches again changes nothing.
    """
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    _config.UNRESTRICTED_STORAGE_SERVICE = False
    _config.STORE_SEND_CHUNKED_DATASET = True
