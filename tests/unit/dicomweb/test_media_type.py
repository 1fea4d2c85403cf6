"""Content-Type headers: one meaning, or none."""

from __future__ import annotations

import pytest

from dicom_node.dicomweb.media_type import media_type_of


@pytest.mark.parametrize(
    ("value", "name", "parameters"),
    [
        ("application/dicom", "application/dicom", {}),
        ("Multipart/Related; Type=a/b; boundary=x", "multipart/related", {"type": "a/b", "boundary": "x"}),
        ('multipart/related;type="a/b";boundary="a b";', "multipart/related", {"type": "a/b", "boundary": "a b"}),
        (r'a/b; c="d\"e\\"', "a/b", {"c": 'd"e\\'}),
        ("application/dicom;transfer-syntax=*", "application/dicom", {"transfer-syntax": "*"}),
        ("*/*", "*/*", {}),
    ],
)
def test_media_type(value: str, name: str, parameters: dict[str, str]) -> None:
    found = media_type_of(value)
    assert found is not None
    assert (found.name, found.parameters) == (name, parameters)


@pytest.mark.parametrize(
    "value", ["", "a", "a/b c", "a/b; c", "a/b; c=1; C=2", 'a/b; c="1', "a/b; c=1 2", "a/b, c/d", "a/\u00e4"]
)
def test_no_media_type(value: str) -> None:
    assert media_type_of(value) is None
