from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from dicom_node.errors import SettingsError
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.reading import load_settings
from dicom_node.settings.text import render_markdown, render_toml, sections_of
from dicom_node.settings.types import Section

ROOT = Path(__file__).resolve().parents[3]
_EMAIL = '[[emails]]\nname = "m"\nto = ["a@h"]\nsender = "b@h"\nhost = "h"\n'
_RULE = '[[rules]]\nname = "{}"\naction = "{}"\ndescription = "{}"\n'
_DESTINATION = '[[destinations]]\nname = "a"\nae_title = "A"\nhost = "h"\nport = 1\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "node.toml"
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(folder: Path, text: str) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        load_settings(write(folder, text))
    return raised.value.problems


def test_render__reads_back_as_the_defaults(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, render_toml()))
    assert settings == load_settings(write(tmp_path, ""))
    assert settings.data_dir == tmp_path / "data"


def test_render__its_commented_tables_are_valid_when_uncommented(tmp_path: Path) -> None:
    lines = []
    inside = False
    for line in render_toml().splitlines():
        if line.startswith("# [["):
            inside = True
        elif not line.strip():
            inside = False
        lines.append(line.removeprefix("# ") if inside else line)
    settings = load_settings(write(tmp_path, "\n".join(lines)))
    assert settings.peers[0].ae_title == "ROUTER"
    assert settings.destinations[0].name == "pacs"


def commented_keys() -> list[int]:
    """The numbers of the lines that are a commented key of a table which is there."""
    found, is_table = [], True
    for number, line in enumerate(render_toml().splitlines()):
        is_table = (is_table and bool(line)) or line.startswith("[")
        if is_table and re.match(r"# \w+ = ", line):
            found.append(number)
    return found


def test_render__has_commented_keys_to_uncomment() -> None:
    assert len(commented_keys()) >= 4


@pytest.mark.parametrize("number", commented_keys())
def test_render__each_commented_default_is_valid_when_uncommented(number: int, tmp_path: Path) -> None:
    lines = render_toml().splitlines()
    lines[number] = lines[number].removeprefix("# ")
    assert load_settings(write(tmp_path, "\n".join(lines))) == load_settings(write(tmp_path, ""))


def test_empty__is_no_value_only_where_a_key_may_have_none(tmp_path: Path) -> None:
    assert load_settings(write(tmp_path, '[listener]\ntls_ca = ""\n')).listener.tls_ca is None
    for text in ('[listener]\nhost = ""\n', '[listener]\nport = ""\n', '[[peers]]\nae_title = ""\n'):
        assert problems_of(tmp_path, text)
    # Half a pair is an error as before.
    assert problems_of(tmp_path, f'{_EMAIL}user = "u"\npassword_file = ""\n')


def test_load__lists_all_errors_at_once_with_key_and_rule(tmp_path: Path) -> None:
    problems = problems_of(
        tmp_path,
        """
        unknown = 1
        [listener]
        port = 99999
        ae_title = "SEVENTEEN-LETTERS"
        tls_cert = "gone.pem"
        [model]
        path = "nowhere"
        [[destinations]]
        name = "pacs"
        [[peers]]
        ae_title = "A"
        addresses = ["10.0.0.0/33"]
        """,
    )
    text = "\n".join(problems)
    assert "listener.port: must be at most 65535 (is 99999)" in text
    assert "listener.ae_title: an AE title has 1 to 16" in text
    assert "listener.tls_cert: no such file" in text
    assert "model.path: no such model package folder" in text
    assert "destinations[1].host: is missing" in text
    assert "peers[1].addresses[1]: must be an IP address or network" in text
    assert "unknown: unknown key" in text
    assert len(problems) == 9


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("listener = 3", "listener: must be a table"),
        ("[listener", "is not valid TOML"),
        ("[worker]\nlease_s = 5", "lease_s (5) must be at least twice heartbeat_s (10)"),
        ('[[destinations]]\nname="a"\nae_title="A"\nhost="h"\nport=1\n' * 2, "the name 'a' is used twice"),
        ('database_url = "mysql://u:secret@h/d"', "mysql is not supported"),
        ('[listener]\nrequire_called_ae = "maybe"', "require_called_ae: must be true or false"),
        ('[web]\nhosts = ["node:8080"]', "web.hosts[1]: must be a host name without port"),
        ('[web]\nhosts = ["http://node/"]', "web.hosts[1]: must be a host name without port"),
        ('[web]\nhosts = "node"', "web.hosts: must be a list"),
        ('[[peers]]\nae_title = "A"\ncertificates = ["ab"]', "peers[1].certificates[1]: must be the SHA-256"),
        (f'[[peers]]\nae_title = "A"\ncertificates = ["{"ab" * 32}"]', "certificates of A need [listener] tls_ca"),
        (_EMAIL + 'user = "u"', "user and its password (password_file or password_env) belong together"),
        (_EMAIL + 'user = "u"\npassword_env = "P"\nsecurity = "none"', "a password is not sent unencrypted"),
        (_EMAIL + 'kinds = ["poem"]', "there is no such kind of alert; there are quarantine, "),
        (_EMAIL.replace("a@h", "nobody"), 'must be an e-mail address such as "pacs@hospital.example"'),
        (_EMAIL.replace('["a@h"]', "[]"), "emails[1]: to must not be empty"),
        ('[[webhooks]]\nname = "w"\nurl = "ftp://h/secret"', "must be a URL such as"),
        (_EMAIL + '[[webhooks]]\nname = "m"\nurl = "https://h/x"', "emails and webhooks: the name 'm' is used twice"),
        (
            _RULE.format("a", "keep", "(brain"),
            "rules[1].description: must be a regular expression: missing ), unterminated",
        ),
        (_RULE.format("a", "drop", "brain"), "rules[1].action: must be one of 'analyse' or 'keep' (is 'drop')"),
        (_RULE.format("a", "keep", ""), "rules[1]: a rule needs modality, body_part or description"),
        (_RULE.format("a", "keep", "x") + 'station = "MR1"', "rules[1].station: unknown key"),
        (_RULE.format("a", "keep", "x") + _RULE.format("a", "keep", "y"), "rules: the name 'a' is used twice"),
        (
            _RULE.format("a", "keep", "x") + _RULE.format("b", "analyse", "x"),
            "rules: 'b' asks for what 'a' before it asks for, and says the contrary: it can never decide",
        ),
        (
            _RULE.format("a", "keep", ".*") + _RULE.format("b", "analyse", "x"),
            "rules: 'b' can never decide: 'a' before it fits every study",
        ),
        ('[results]\nnot_analysable = "drop"', "results.not_analysable: must be one of 'send' or 'keep'"),
        ('[results]\nnot_analysable_except = ["poem"]', "there is no such reason; there are two_patients, "),
        (_DESTINATION + 'results = ["poem"]', "destinations[1].results[1]: there is no such kind of result; there are"),
        (_DESTINATION + 'results = ["findings"]', "there is no such kind of result; there are report, overlay, "),
        (_DESTINATION + "results = []", "destinations[1].results: must not be empty"),
        ('[model]\ndevice = "tpu"', 'must be "auto", "cpu", "cuda" or "cuda:N"'),
    ],
)
def test_load__names_the_rule(tmp_path: Path, text: str, rule: str) -> None:
    problems = "\n".join(problems_of(tmp_path, text))
    assert rule in problems
    assert "secret" not in problems


def test_load__a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="dicom-node init"):
        load_settings(tmp_path / "node.toml")


def test_load__the_environment_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPINEONE_LISTENER__PORT", "104")
    settings = load_settings(write(tmp_path, '[listener]\nport = 1\nae_title = "X"'))
    assert (settings.listener.port, settings.listener.ae_title) == (104, "X")


@pytest.mark.parametrize(
    "code",
    ["77547008", "77547008, SCT", "1, 2, ", "12345678901234567, SCT, x", "1, SCT, \u00fc", "1, SCT, " + "x" * 65],
)
def test_load__a_code_that_no_report_can_hold_is_refused(tmp_path: Path, code: str) -> None:
    with pytest.raises(SettingsError, match="degenerative_disc"):
        load_settings(write(tmp_path, f'[results]\ndegenerative_disc = "{code}"'))


def all_sections() -> list[type[BaseModel]]:
    return [NodeSettings, *subclasses(Section)]


def subclasses(model: type[BaseModel]) -> list[type[BaseModel]]:
    """Those of the node; tests have some of their own."""
    mine = [direct for direct in model.__subclasses__() if direct.__module__.startswith("dicom_node.")]
    return [found for direct in mine for found in (direct, *subclasses(direct))]


@pytest.mark.parametrize("model", all_sections(), ids=lambda model: model.__name__)
def test_every_setting_has_a_documentation_line(model: type[BaseModel]) -> None:
    for name, field in model.model_fields.items():
        assert field.description or sections_of(field.annotation), name


def test_configuration_document__is_what_the_settings_say() -> None:
    document = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert document == render_markdown(), "run `make configuration`"


def test_configuration_document__names_every_key_and_its_variable() -> None:
    document = render_markdown()
    for model in all_sections():
        for name, field in model.model_fields.items():
            assert sections_of(field.annotation) or f"| `{name}` |" in document, name
    for variable in ("SPINEONE_DATA_DIR", "SPINEONE_LISTENER__PORT", "SPINEONE_DESTINATIONS"):
        assert f"`{variable}`" in document


def test_load__a_list_from_the_environment_is_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPINEONE_PEERS", '[{"ae_title": "ROUTER", "addresses": ["10.0.0.0/8"]}]')
    settings = load_settings(write(tmp_path, ""))
    assert settings.peers[0].addresses == ("10.0.0.0/8",)


def test_node__listens_on_loopback_until_told_otherwise() -> None:
    settings = NodeSettings()
    assert (settings.web.host, settings.listener.host) == ("127.0.0.1", "127.0.0.1")
