"""The status page `/`: everything that `dicom-node status` shows, the processes and the checks, as HTML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from dicom_node.database.connection import Database
from dicom_node.dicom.identifiers import SOFTWARE_VERSION
from dicom_node.health import overview
from dicom_node.health.heartbeats import running
from dicom_node.health.readiness import checks
from dicom_node.health.wording import OF_DELIVERY, in_words, reason_beside, with_result
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now

STUDIES_SHOWN = 25
# Every template is escaped automatically: reasons and subjects may hold what a peer sent.
_templates = Environment(
    loader=PackageLoader("dicom_node.web"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters["when"] = lambda text: "" if text is None else str(text)[:19].replace("T", " ")
_templates.filters["words"] = in_words
_templates.globals.update(reason_beside=reason_beside, with_result=with_result, of_delivery=OF_DELIVERY)


@dataclass(frozen=True, slots=True)
class Page:
    """The status page as HTML, and the studies of which it says whose they are."""

    html: str
    named_studies: tuple[str, ...]


def render_page(settings: NodeSettings, database: Database) -> Page:
    """The status page as it is now."""
    now = utc_now()
    with database.read() as session:
        state: dict[str, Any] = overview.status(session, settings, studies=STUDIES_SHOWN)
        processes = running(session, now=now)
    html = _templates.get_template("status.html").render(
        state=state,
        with_patients=settings.shown.patient,
        processes=processes,
        checks=checks(settings, database),
        now=now.isoformat(),
        version=SOFTWARE_VERSION,
    )
    named = [s["study_uid"] for s in state["studies"] if s.get("patient_id") or s.get("accession")]
    return Page(html, tuple(named))
