"""WADO-RS (PS3.18 10.4): fetching objects from a server, as it has them and byte for byte.

The answer is read block by block: nothing of it is held but what the reader's events hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import requests

from dicom_node.dicom.headers import is_valid_uid
from dicom_node.dicomweb.media_type import media_type_of
from dicom_node.dicomweb.multipart_reader import MultipartError, MultipartLimits, MultipartReader, PartEvent
from dicom_node.dicomweb.remote import WebRemote, refusal, why
from dicom_node.errors import DeliveryError
from dicom_node.system.http_session import HttpSession

DICOM = "application/dicom"
# Each object in the transfer syntax in which the server has it (PS3.18 8.7.3.5.2): nothing is encoded anew.
_ACCEPT = f'multipart/related; type="{DICOM}"; transfer-syntax=*'
_WORDS = {
    404: "it has no such series any more, or no WADO-RS at this url (status 404)",
    406: "it does not give files as it has them (status 406)",
}


@dataclass(frozen=True, slots=True)
class RetrieveLimits:
    """What an answer may be.

    Parameters
    ----------
    body
        Its parts and their size.
    silence_s
        How long the server may send nothing (seconds).
    longest_s
        How long the whole body may take (seconds).
    """

    body: MultipartLimits
    silence_s: float
    longest_s: float


def retrieve_series(
    remote: WebRemote, session: HttpSession, study_uid: str, series_uid: str, limits: RetrieveLimits
) -> Iterator[PartEvent]:
    """The parts of a series as they come; each event must be taken before the next one is asked for.

    Raises
    ------
    DeliveryError
        If there is no answer, not a whole one, or one that is none; what came before is good all the same.
    """
    if not (is_valid_uid(study_uid) and is_valid_uid(series_uid)):
        raise DeliveryError(f"{remote.where}: it names a series by something that is no UID")
    url = f"{remote.server.url}/studies/{study_uid}/series/{series_uid}"
    try:
        with session.reading(
            url,
            {"Accept": _ACCEPT},
            most_bytes=limits.body.most_bytes,
            silence_s=limits.silence_s,
            longest_s=limits.longest_s,
        ) as (response, blocks):
            reader = MultipartReader(_boundary_of(response), limits.body)
            for block in blocks:
                yield from reader.feed(block)
            reader.close()
    except MultipartError as error:
        raise DeliveryError(f"{remote.where}: its answer to WADO-RS: {error}") from None
    except (requests.RequestException, OSError) as error:
        raise DeliveryError(f"{remote.where}: WADO-RS: {why(error)}") from None


def _boundary_of(response: requests.Response) -> str:
    """The boundary of a good answer's body; 206 says that the server leaves something out, which is seen by its absence."""
    status = response.status_code
    if status not in (200, 206):
        raise MultipartError(_WORDS.get(status) or refusal(status))
    media_type = media_type_of(response.headers.get("Content-Type", ""))
    if media_type is None or media_type.name != "multipart/related":
        raise MultipartError(f"it is no multipart/related of {DICOM}")
    if media_type.parameters.get("type", DICOM).lower() != DICOM:
        raise MultipartError(f"it is no multipart/related of {DICOM}")
    return media_type.parameters.get("boundary", "")
