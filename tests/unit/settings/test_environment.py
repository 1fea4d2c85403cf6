"""The environment as settings: what means to be one and is wrong is an error, what others put there is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.errors import SettingsError
from dicom_node.settings.reading import default_settings, load_settings


def problems(folder: Path) -> list[str]:
    path = folder / "node.toml"
    path.write_text("")
    with pytest.raises(SettingsError) as raised:
        load_settings(path)
    with pytest.raises(SettingsError):
        default_settings()
    return raised.value.problems


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("SPINEONE_LISTNER__PORT", "104", "there is no table 'listner'"),
        ("SPINEONE_LISTENER__PROT", "104", "there is no key 'prot' in [listener]"),
        ("spineone_listener__prot", "104", "there is no key 'prot' in [listener]"),
        ("SPINEONE_PEERS__AE_TITLE", "A", "a list is given whole, as JSON, in SPINEONE_PEERS"),
        ("SPINEONE_DATA_DIR__X", "A", "is no table"),
        ("SPINEONE_PEERS", "[{secret", "is not valid JSON"),
        ("SPINEONE_LISTENER", "{secret", "is not valid JSON"),
    ],
)
def test_a_variable_that_means_to_be_a_setting_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    monkeypatch.setenv(name, value)
    (problem,) = problems(tmp_path)
    assert name.upper() in problem
    assert says in problem
    assert "secret" not in problem


def test_all_errors_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPINEONE_LISTNER__PORT", "104")
    monkeypatch.setenv("SPINEONE_WEB__PORT", "99999")
    first, second = problems(tmp_path)
    assert "LISTNER" in first
    assert "web.port: must be at most 65535" in second


def test_what_kubernetes_sets_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of services that are called spineone, spineone-web and spineone-listener."""
    for service in ("SPINEONE", "SPINEONE_WEB", "SPINEONE_LISTENER"):
        for suffix in ("_SERVICE_HOST", "_SERVICE_PORT", "_PORT", "_PORT_8080_TCP", "_PORT_8080_TCP_ADDR"):
            monkeypatch.setenv(service + suffix, "tcp://10.0.0.1:8080")
    monkeypatch.setenv("SPINEONE_DEBUG", "1")
    (tmp_path / "node.toml").write_text("")
    assert load_settings(tmp_path / "node.toml").web.port == default_settings().web.port


@pytest.mark.parametrize("key", ["listener.port", "study.quiet_seconds", "retention.keep_days", "web.host"])
def test_a_truth_value_is_no_number(tmp_path: Path, key: str) -> None:
    section, name = key.split(".")
    path = tmp_path / "node.toml"
    path.write_text(f"[{section}]\n{name} = true\n")
    with pytest.raises(SettingsError, match=rf"{key}: must not be true or false"):
        load_settings(path)


def test_a_truth_value_is_one_where_it_is_meant(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text("[listener]\nrequire_called_ae = false\n")
    assert load_settings(path).listener.require_called_ae is False
