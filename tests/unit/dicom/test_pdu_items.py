"""PDUs that are made of very many parts are found out before they are decoded."""

from __future__ import annotations

import struct

import pytest

from dicom_node.dicom.pdu_items import has_too_many_items
from dicom_node.receiving import pdus
from dicom_node.receiving.contexts import supported_contexts
from tests.fakes import wire


def test_request__of_every_class_and_syntax_is_read() -> None:
    contexts = [(str(c.abstract_syntax), str(s)) for c in supported_contexts() for s in c.transfer_syntax][:128]
    request = wire.associate(contexts=contexts)
    assert len(contexts) == 128
    assert not has_too_many_items(1, request[6:])


@pytest.mark.parametrize("item", [b"\x52\0\0\0", b"\x20\0\0\4\1\0\0\0", b"\x50\0\0\0"])
def test_request__of_empty_items_is_refused(item: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    body = wire.associate()[6:] + item * 20_000
    assert has_too_many_items(1, body)
    decoded: list[bytes] = []
    monkeypatch.setattr(pdus.A_ASSOCIATE_RQ, "decode", lambda self, data: decoded.append(data))
    assert not pdus.is_readable(b"\1\0" + struct.pack(">I", len(body)) + body)
    assert decoded == []


@pytest.mark.parametrize(("values", "is_too_many"), [(2, False), (256, False), (257, True), (30_000, True)])
def test_data__has_few_values(values: int, is_too_many: bool) -> None:
    assert has_too_many_items(4, b"\0\0\0\2\1\0" * values) is is_too_many
