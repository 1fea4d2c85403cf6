"""Which database URLs the settings take: those of the two databases that SQLAlchemy can read, without loading it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from dicom_node.settings.types import check_database_url

ROOT = Path(__file__).resolve().parents[3]

GOOD = (
    "",
    "sqlite://",
    "sqlite:///node.db",
    "sqlite:////var/lib/spineone/node.db",
    "sqlite+pysqlite:///:memory:",
    "sqlite:///a folder/node.db?timeout=5",
    "postgresql://host/name",
    "postgresql+psycopg://user:password@host/name",
    "postgresql+psycopg://user:password@host:5432/name?sslmode=verify-full&sslrootcert=/etc/ca.pem",
    "postgresql+psycopg://user:p%40ss@[::1]:5432/name",
    "postgresql+psycopg://user@/name?host=/run/postgresql",
    "postgresql://user:/@host/name",
)
NO_URL = 'must be a database URL such as "sqlite:////var/lib/spineone/node.db"'
BAD = {
    "node.db": NO_URL,
    "/var/lib/spineone/node.db": NO_URL,
    "sqlite:node.db": NO_URL,
    "://host/name": NO_URL,
    " sqlite:///node.db": NO_URL,
    "postgre-sql://host/name": NO_URL,
    "mysql://user:secret@host/name": "mysql is not supported; use sqlite or postgresql",
    "mysql+pymysql://user:secret@host/name": "mysql is not supported; use sqlite or postgresql",
    "postgres://host/name": "postgres is not supported; use sqlite or postgresql",
    "SQLITE:///node.db": "SQLITE is not supported; use sqlite or postgresql",
    "+psycopg://host/name": " is not supported; use sqlite or postgresql",
}
# The last is a password with an @ that was not written as %40: what follows it stands where the port is looked for.
NO_PORT = (
    "postgresql://host:/name",
    "postgresql://host:secret/name",
    "postgresql://user:pass@word:secret@host/name",
)


@pytest.mark.parametrize("url", GOOD)
def test_good(url: str) -> None:
    assert check_database_url(url) == url


@pytest.mark.parametrize("url", BAD)
def test_bad(url: str) -> None:
    with pytest.raises(ValueError, match=r"database URL|is not supported") as caught:
        check_database_url(url)
    assert str(caught.value) == BAD[url]


@pytest.mark.parametrize("url", NO_PORT)
def test_a_port_that_is_no_number_is_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="must be a database URL") as caught:
        check_database_url(url)
    assert "secret" not in str(caught.value)


@given(
    st.one_of(
        st.tuples(
            st.sampled_from(["sqlite", "postgresql", "postgresql+psycopg", "mysql"]), st.text("ab1:/@[]?=%+ ")
        ).map("://".join),
        st.text("sqlite:/+@1[]?"),
    )
)
def test_the_same_are_taken_as_sqlalchemy_reads(url: str) -> None:
    try:
        read = url == "" or make_url(url).get_backend_name() in ("sqlite", "postgresql")
    except (ArgumentError, ValueError):
        read = False
    try:
        taken = check_database_url(url) == url
    except ValueError:
        taken = False
    assert taken == read


@pytest.mark.parametrize("module", ["reading", "text"])
def test_settings_are_read_without_sqlalchemy(module: str) -> None:
    code = f"import sys, dicom_node.settings.{module}; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
