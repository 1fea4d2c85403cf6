from __future__ import annotations

import pytest

from dicom_node.database.connection import prepare_database
from dicom_node.errors import DatabaseError


def test_error__names_the_database_without_its_password() -> None:
    with pytest.raises(DatabaseError) as caught:
        prepare_database("postgresql://node:verysecret@127.0.0.1:1/name")
    assert "127.0.0.1" in str(caught.value)
    assert "verysecret" not in str(caught.value)
