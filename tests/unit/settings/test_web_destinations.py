"""Destinations of several kinds in the settings file: what each needs, and what contradicts itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.database.words import RESULT_ROLES, SENT_ROLES
from dicom_node.errors import SettingsError
from dicom_node.settings.reading import load_settings
from dicom_node.settings.sections import Destination
from dicom_node.settings.web_destinations import DicomWebDestination, FhirDestination

WEB = '[[destinations]]\nname = "web"\nkind = "dicomweb"\nurl = "https://pacs.example/dicom-web"\n'
PLAIN = WEB.replace("https", "http")


def load(folder: Path, text: str) -> tuple[object, ...]:
    (folder / "node.toml").write_text(text, encoding="utf-8")
    for name in ("token", "ca.pem", "cert.pem", "key.pem"):
        (folder / name).write_text("secret")
    return load_settings(folder / "node.toml").destinations


def test_kinds__stand_beside_each_other_and_dicom_needs_no_word(tmp_path: Path) -> None:
    pacs = '[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "h"\nport = 104\n'
    first, second, third = load(tmp_path, pacs + WEB + pacs.replace('"pacs"', '"b"') + 'kind = "dicom"\n')
    assert isinstance(first, Destination)
    assert isinstance(third, Destination)
    assert isinstance(second, DicomWebDestination)
    assert second.url == "https://pacs.example/dicom-web"


@pytest.mark.parametrize(
    "login",
    [
        'token_file = "token"',
        'token_env = "T"',
        'user = "u"\npassword_file = "token"',
        'tls_ca = "ca.pem"\ntls_cert = "cert.pem"\ntls_key = "key.pem"',
    ],
)
def test_web__logs_in_by_token_password_or_certificate(tmp_path: Path, login: str) -> None:
    assert len(load(tmp_path, WEB + login)) == 1


def test_url__a_slash_at_its_end_changes_nothing(tmp_path: Path) -> None:
    assert load(tmp_path, WEB.replace('-web"', '-web/"')) == load(tmp_path, WEB)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8042/dicom-web", "http://localhost/x", "http://[::1]:80/x"])
def test_token__may_stay_on_this_machine_unencrypted(tmp_path: Path, url: str) -> None:
    assert load(tmp_path, WEB.replace("https://pacs.example/dicom-web", url) + 'token_file = "token"')


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (WEB.replace("dicomweb", "ftp"), "destinations[1].kind: must be one of 'dicom', 'dicomweb', 'fhir' (is 'ftp')"),
        (WEB.replace('"dicomweb"', "3"), "destinations[1].kind: must be one of 'dicom', 'dicomweb', 'fhir' (is 3)"),
        (WEB.replace("url =", "# url ="), "destinations[1].url: is missing"),
        (WEB.replace('kind = "dicomweb"\n', ""), "destinations[1].host: is missing"),
        (WEB.replace("https:", "ftp:"), "destinations[1].url: must be a URL such as"),
        (WEB.replace("pacs.example", "u:p@pacs.example"), "destinations[1].url: must hold no user and no password"),
        (WEB.replace("dicom-web", "dicom-web?token=a"), "destinations[1].url: must hold no query"),
        (WEB.replace("dicom-web", "dicom-web#a"), "destinations[1].url: must hold no query"),
        (WEB.replace("example/", "example:99999/"), "destinations[1].url: "),
        (WEB + 'ae_title = "PACS"', 'destinations[1].ae_title: unknown key of a table with kind = "dicomweb"'),
        (WEB + "port = 104", 'destinations[1].port: unknown key of a table with kind = "dicomweb"'),
        (WEB + "storage_commitment = true", "destinations[1].storage_commitment: unknown key of a table with kind"),
        (WEB + 'token_file = "gone"', "destinations[1].token_file: no such file"),
        (WEB + 'token_file = "token"\ntoken_env = "T"', "destinations[1]: give token_file or token_env, not both"),
        (WEB + 'user = "u"', "destinations[1]: user and its password"),
        (WEB + 'password_env = "P"', "destinations[1]: user and its password"),
        (WEB + 'user = "u"\npassword_env = "P"\ntoken_env = "T"', "destinations[1]: give a token or a user, not both"),
        (WEB + 'user = "u:v"\npassword_env = "P"', "destinations[1]: a user has no colon"),
        (PLAIN + 'token_env = "T"', "destinations[1]: a token or password is not sent unencrypted"),
        (PLAIN + 'user = "u"\npassword_env = "P"', "destinations[1]: a token or password is not sent unencrypted"),
        (PLAIN + 'tls_ca = "ca.pem"', "destinations[1]: tls_ca and tls_cert need an https URL"),
        (WEB + 'tls_cert = "cert.pem"', "destinations[1]: tls_cert and tls_key belong together"),
        (WEB + WEB, "destinations: the name 'web' is used twice"),
        ('destinations = ["pacs"]', "destinations[1]: must be a table"),
    ],
)
def test_load__names_what_is_wrong(tmp_path: Path, text: str, rule: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load(tmp_path, text)
    assert rule in str(raised.value)
    assert "secret" not in str(raised.value)


FHIR = """
[[destinations]]
name = "records"
kind = "fhir"
url = "https://fhir.example/r4"
patient_system = "urn:oid:2.999.1"
accession_system = "https://hospital.example/accession"
"""


def test_fhir__gets_reports_alone(tmp_path: Path) -> None:
    web, records = load(tmp_path, WEB + FHIR)
    assert isinstance(records, FhirDestination)
    assert isinstance(web, DicomWebDestination)
    assert [role for role in RESULT_ROLES if records.takes(role)] == ["report"]
    assert all(web.takes(role) for role in SENT_ROLES)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (FHIR.replace("patient_system", "# "), "destinations[1].patient_system: is missing"),
        (FHIR.replace("urn:oid:2.999.1", "hospital"), "destinations[1].patient_system: must be an absolute URI"),
        (FHIR.replace("urn:oid:2.999.1", "urn:a|b"), "destinations[1].patient_system: must be an absolute URI"),
        (FHIR + "storage_commitment = true", 'unknown key of a table with kind = "fhir"'),
        (FHIR + "[results]\nstructured_report = false", "records (FHIR) gets nothing without [results]"),
        (WEB + 'patient_system = "urn:oid:1.2"', 'unknown key of a table with kind = "dicomweb"'),
    ],
)
def test_fhir__names_what_is_wrong(tmp_path: Path, text: str, rule: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load(tmp_path, text)
    assert rule in str(raised.value)
