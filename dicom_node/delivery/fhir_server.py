"""A FHIR R4 server (https://hl7.org/fhir/R4/http.html): what the node asks of it, beside sending."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import requests
from pydicom.uid import generate_uid

from dicom_node.dicomweb.remote import WebRemote, refusal
from dicom_node.errors import DeliveryError
from dicom_node.system.http_session import HttpSession

JSON = "application/fhir+json"
_CODE = re.compile(r"[a-z][a-z-]{0,30}")


class FhirServer:
    """One server, over a session that the caller has opened."""

    def __init__(self, remote: WebRemote, session: HttpSession) -> None:
        self._remote = remote
        self._session = session

    def transact(self, bundle: bytes) -> requests.Response:
        """Send a transaction; the answer, whatever its status.

        Raises
        ------
        DeliveryError
            If there is no whole answer.
        """
        headers = {"Content-Type": JSON, "Accept": JSON}
        return self._remote.request(self._session, "POST", "", body=bundle, headers=headers)

    def has_report(self, sop_instance_uid: str) -> bool:
        """Whether the server shows the DiagnosticReport of a Structured Report.

        Raises
        ------
        DeliveryError
            If the question is not answered.
        """
        value = f"urn:oid:{sop_instance_uid}"
        found = self._get("/DiagnosticReport", {"identifier": f"urn:dicom:uid|{value}", "_count": "2"})
        if found.get("resourceType") != "Bundle":
            raise DeliveryError(f"{self._remote.where}: its answer to a search is no Bundle")
        entries = found.get("entry")
        return any(value in _identifiers(entry) for entry in (entries if isinstance(entries, list) else []))

    def check(self) -> None:
        """Ask what the server is, and for a report that nobody has: it lets us in, and shows nobody's data.

        Raises
        ------
        DeliveryError
            If it is no FHIR R4 server, or does not let us search.
        """
        statement = self._get("/metadata", {})
        version = str(statement.get("fhirVersion", ""))
        if statement.get("resourceType") != "CapabilityStatement" or not version.startswith("4.0"):
            raise DeliveryError(f"{self._remote.where}: it is no FHIR R4 server (its metadata say no fhirVersion 4.0)")
        self.has_report(str(generate_uid(prefix=None)))

    def _get(self, path: str, params: Mapping[str, str]) -> Mapping[str, Any]:
        answer = self._remote.request(self._session, "GET", path, headers={"Accept": JSON}, params=params)
        if answer.status_code != 200:
            raise DeliveryError(f"{self._remote.where}: FHIR: {refusal(answer.status_code)}")
        return read_resource(answer.content)


def read_resource(content: bytes) -> Mapping[str, Any]:
    """The resource in a body; empty if it is none."""
    try:
        resource = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return resource if isinstance(resource, dict) else {}


def issue_codes(outcome: Mapping[str, Any]) -> list[str]:
    """The codes of an OperationOutcome's issues. Its texts are not repeated: a server may quote what it was sent."""
    issues = outcome.get("issue")
    codes = [issue.get("code") for issue in (issues if isinstance(issues, list) else []) if isinstance(issue, dict)]
    return list(dict.fromkeys(code for code in codes if isinstance(code, str) and _CODE.fullmatch(code)))[:5]


def _identifiers(entry: Any) -> list[str]:
    resource = entry.get("resource") if isinstance(entry, dict) else None
    identifiers = resource.get("identifier") if isinstance(resource, dict) else None
    found = identifiers if isinstance(identifiers, list) else []
    return [str(identifier.get("value")) for identifier in found if isinstance(identifier, dict)]
