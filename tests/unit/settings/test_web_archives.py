"""Archives of two kinds in the settings file: what each needs, and what contradicts itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.errors import SettingsError
from dicom_node.receiving.peers import Peers
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.reading import load_settings
from dicom_node.settings.sections import Archive
from dicom_node.settings.web_destinations import DicomWebArchive

PACS = '[[archives]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 104\n'
WEB = '[[archives]]\nname = "vna"\nkind = "dicomweb"\nurl = "https://vna.example/dicom-web"\n'
PEER = '[[peers]]\nae_title = "ROUTER"\naddresses = ["10.0.0.1"]\narchive = "vna"\n'


def load(folder: Path, text: str) -> NodeSettings:
    (folder / "node.toml").write_text(text, encoding="utf-8")
    (folder / "token").write_text("secret")
    return load_settings(folder / "node.toml")


def test_kinds__stand_beside_each_other_and_dicom_needs_no_word(tmp_path: Path) -> None:
    settings = load(tmp_path, PACS + WEB + 'token_file = "token"\nfetch_missing = true\n' + PEER)
    first, second = settings.archives
    assert isinstance(first, Archive)
    assert isinstance(second, DicomWebArchive)
    assert settings.archive_entities == (first,)
    # Who is called by HTTP opens no association, so nobody may come in its name.
    peers = Peers(settings)
    assert peers.allows("PACS", "127.0.0.1")
    assert not peers.allows("vna", "127.0.0.1")
    assert settings.answers_to("PACS") == first
    assert settings.answers_to("vna") is None


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (WEB.replace("dicomweb", "fhir"), "archives[1].kind: must be one of 'dicom', 'dicomweb' (is 'fhir')"),
        (WEB.replace("url =", "# url ="), "archives[1].url: is missing"),
        (WEB.replace('kind = "dicomweb"\n', ""), "archives[1].host: is missing"),
        (WEB.replace('"vna"', '"seventeen-letters"'), "archives[1].name: "),
        (WEB + 'retrieve = "get"', 'archives[1].retrieve: unknown key of a table with kind = "dicomweb"'),
        (WEB + 'ae_title = "VNA"', 'archives[1].ae_title: unknown key of a table with kind = "dicomweb"'),
        (PACS + 'url = "https://a.example"', 'archives[1].url: unknown key of a table with kind = "dicom"'),
        (WEB + 'token_file = "gone"', "archives[1].token_file: no such file"),
        (WEB.replace("https", "http") + 'token_env = "T"', "archives[1]: a token or password is not sent unencrypted"),
        (WEB + WEB, "archives: the name 'vna' is used twice"),
        (WEB + PACS.replace('"pacs"', '"vna"'), "archives: the name 'vna' is used twice"),
        (PACS + PEER, "peers: ROUTER names the archive 'vna'; [[archives]] has pacs"),
    ],
)
def test_load__names_what_is_wrong(tmp_path: Path, text: str, rule: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load(tmp_path, text)
    assert rule in str(raised.value)
    assert "secret" not in str(raised.value)
