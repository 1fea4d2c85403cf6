"""QIDO-RS (PS3.18 10.6): asking a server for objects, by the library dicomweb-client.

The library is loaded when it is needed: few processes of a node need it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import requests
from pydicom.uid import generate_uid

from dicom_node.dicomweb.remote import WebRemote, refusal, why
from dicom_node.errors import DeliveryError
from dicom_node.system.http_session import HttpSession

_SOP_INSTANCE_UID = "00080018"


class QidoClient:
    """Asks one server, over a session that the caller has opened."""

    def __init__(self, remote: WebRemote, session: HttpSession) -> None:
        from dicomweb_client.web import DICOMwebClient

        self._remote = remote
        self._client = DICOMwebClient(remote.server.url, session=session)
        # Delivery has pauses of its own.
        self._client.set_http_retry_params(retry=False)

    def holds(self, study_uid: str, series_uid: str, sop_instance_uid: str) -> bool:
        """Whether the server shows the object.

        Raises
        ------
        DeliveryError
            If the question is not answered.
        """
        filters = {"SOPInstanceUID": sop_instance_uid}
        matches = self._ask("search_for_instances", study_uid, series_uid, search_filters=filters)
        return any(_value(match, _SOP_INSTANCE_UID) == sop_instance_uid for match in matches)

    def check(self) -> None:
        """Ask for a study that nobody has: the server answers, lets us in, and shows nobody's data.

        Raises
        ------
        DeliveryError
            If it does not answer as a QIDO-RS service does.
        """
        self._ask("search_for_studies", search_filters={"StudyInstanceUID": str(generate_uid(prefix=None))}, limit=1)

    def _ask(self, question: str, *arguments: str, **named: Any) -> list[Any]:
        try:
            matches = getattr(self._client, question)(*arguments, **named)
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            raise DeliveryError(f"{self._remote.where}: QIDO-RS: {refusal(status)}") from None
        except requests.exceptions.JSONDecodeError:
            raise DeliveryError(f"{self._remote.where}: its answer to QIDO-RS is no JSON") from None
        except (requests.RequestException, OSError) as error:
            raise DeliveryError(f"{self._remote.where}: {why(error)}") from None
        except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
            raise DeliveryError(f"{self._remote.where}: its answer to QIDO-RS cannot be read") from None
        if not isinstance(matches, list):
            raise DeliveryError(f"{self._remote.where}: its answer to QIDO-RS is no list")
        return matches


def _value(match: Any, tag: str) -> str:
    """The first value of an element in DICOM JSON (PS3.18 F); empty if there is none."""
    element = match.get(tag) if isinstance(match, Mapping) else None
    values = element.get("Value") if isinstance(element, Mapping) else None
    return str(values[0]) if isinstance(values, list) and values else ""
