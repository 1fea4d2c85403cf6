"""How many items a PDU holds, counted in its bytes: pynetdicom makes objects of each before anybody can look at them."""

from __future__ import annotations

# A P-DATA-TF (PS3.8 9.3.5) holds one presentation data value or two, since each has a header of its own.
MOST_VALUES = 256
# An A-ASSOCIATE-RQ (PS3.8 9.3.2) with 128 contexts of 40 transfer syntaxes has about 5,300 items.
MOST_ITEMS = 10_000
_ASSOCIATE_RQ, _ASSOCIATE_AC, _P_DATA = 0x01, 0x02, 0x04
# Where the items of an A-ASSOCIATE PDU begin behind its first six bytes; its items that hold items, and where in them.
_FIRST_ITEM = 68
_NESTED = {0x20: 8, 0x21: 8, 0x50: 4}


def has_too_many_items(kind: int, body: bytes | bytearray) -> bool:
    """Whether a PDU is made of more parts than any needs.

    Parameters
    ----------
    kind
        Its type, the first byte of the PDU.
    body
        What follows its first six bytes.
    """
    if kind == _P_DATA:
        return _values(body) > MOST_VALUES
    if kind in (_ASSOCIATE_RQ, _ASSOCIATE_AC):
        return _items(body) > MOST_ITEMS
    return False


def _values(body: bytes | bytearray) -> int:
    at, count = 0, 0
    while at + 4 <= len(body) and count <= MOST_VALUES:
        at += 4 + int.from_bytes(body[at : at + 4], "big")
        count += 1
    return count


def _items(body: bytes | bytearray) -> int:
    """The items, and those in them; it stops counting behind the limit."""
    at, count = _FIRST_ITEM, 0
    while at + 4 <= len(body) and count <= MOST_ITEMS:
        # An item that holds items is entered, any other one is passed.
        at += _NESTED.get(body[at]) or 4 + int.from_bytes(body[at + 2 : at + 4], "big")
        count += 1
    return count
