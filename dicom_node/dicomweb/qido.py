"""QIDO-RS (PS3.18 10.6): asking a server for objects, by the library dicomweb-client.

The library is loaded when it is needed: few processes of a node need it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import requests
from pydicom.datadict import tag_for_keyword
from pydicom.uid import generate_uid

from dicom_node.dicom.headers import is_valid_uid
from dicom_node.dicomweb.remote import WebRemote, refusal, why
from dicom_node.errors import DeliveryError
from dicom_node.system.http_session import HttpSession

# A match in DICOM JSON (PS3.18 F), as it came.
Match = Mapping[str, Any]
# Matches that one request asks for; a server may give fewer.
_PAGE = 500
_MOST_MATCHES = 100_000


class QidoClient:
    """Asks one server, over a session that the caller has opened."""

    def __init__(self, remote: WebRemote, session: HttpSession) -> None:
        from dicomweb_client.web import DICOMwebClient

        self._remote = remote
        self._session = session
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
        return any(value_of(match, "SOPInstanceUID") == sop_instance_uid for match in matches)

    def studies(self, keys: Mapping[str, str]) -> list[Match]:
        """The studies that match keywords and values, each once.

        Raises
        ------
        DeliveryError
            As `holds`; also if there are more than 100,000, or the server begins again in place of going on.
        """
        return self._all("StudyInstanceUID", "search_for_studies", filters=keys)

    def series(self, study_uid: str, modality: str = "") -> list[Match]:
        """The series of a study, each once: those of one modality, or all if ``modality`` is empty; raises as `studies`."""
        filters = {"Modality": modality} if modality else {}
        found = self._all("SeriesInstanceUID", "search_for_series", study_uid, filters=filters)
        # A server may not filter. A modality that it does not say may be the one.
        return [match for match in found if not modality or value_of(match, "Modality") in ("", modality)]

    def instances(self, study_uid: str, series_uid: str) -> list[Match]:
        """The instances of a series, each once; raises as `studies`."""
        return self._all("SOPInstanceUID", "search_for_instances", study_uid, series_uid)

    def _all(
        self, uid_keyword: str, question: str, *arguments: str, filters: Mapping[str, str] | None = None
    ) -> list[Match]:
        """All matches, page by page, until a page brings nothing: a server may give fewer than it is asked for."""
        found: dict[str, Match] = {}
        answered = 0
        while len(found) <= _MOST_MATCHES:
            named = {"search_filters": dict(filters or {}), "limit": _PAGE, "offset": answered}
            page = self._ask(question, *arguments, **named)
            fresh = {value_of(match, uid_keyword): match for match in page} if page else {}
            if not fresh.keys() - found.keys():
                if answered and len(page) == _PAGE:
                    raise DeliveryError(f"{self._remote.where}: it does not go on where its answer to QIDO-RS ended")
                found.pop("", None)
                return list(found.values())
            found = fresh | found
            answered += len(page)
        raise DeliveryError(f"{self._remote.where}: QIDO-RS has more than {_MOST_MATCHES} matches")

    def check(self) -> None:
        """Ask for a study that nobody has: the server answers, lets us in, and shows nobody's data.

        Raises
        ------
        DeliveryError
            If it does not answer as a QIDO-RS service does.
        """
        self._ask("search_for_studies", search_filters={"StudyInstanceUID": str(generate_uid(prefix=None))}, limit=1)

    def _ask(self, question: str, *uids: str, **named: Any) -> list[Any]:
        # They come from answers, and become parts of a path.
        if not all(map(is_valid_uid, uids)):
            raise DeliveryError(f"{self._remote.where}: it names a study or series by something that is no UID")
        hooks = self._session.hooks["response"]
        hooks.append(_refuse_redirection)
        try:
            matches = getattr(self._client, question)(*uids, **named)
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            raise DeliveryError(f"{self._remote.where}: QIDO-RS: {refusal(status)}") from None
        except requests.exceptions.JSONDecodeError:
            raise DeliveryError(f"{self._remote.where}: its answer to QIDO-RS is no JSON") from None
        except (requests.RequestException, OSError) as error:
            raise DeliveryError(f"{self._remote.where}: {why(error)}") from None
        except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
            raise DeliveryError(f"{self._remote.where}: its answer to QIDO-RS cannot be read") from None
        finally:
            hooks.remove(_refuse_redirection)
        if not isinstance(matches, list):
            raise DeliveryError(f"{self._remote.where}: its answer to QIDO-RS is no list")
        return matches


def _refuse_redirection(response: requests.Response, **named: Any) -> None:
    """For the library, a redirection that is not followed is an answer without matches: nothing would be there."""
    if 300 <= response.status_code < 400:
        response.close()
        raise requests.HTTPError(response=response)


def value_of(match: Any, keyword: str) -> str:
    """The value of an attribute as text; several are joined by commas, and none, or one of another kind, is empty."""
    element = match.get(f"{tag_for_keyword(keyword):08X}") if isinstance(match, Mapping) else None
    values = element.get("Value") if isinstance(element, Mapping) else None
    plain = isinstance(values, list) and all(isinstance(value, str | int) for value in values)
    return ",".join(str(value) for value in values).strip(" \0") if plain and values else ""
