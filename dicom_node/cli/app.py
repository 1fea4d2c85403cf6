"""`dicom-node`: all commands, and how they end. Exit status: 0 done, 1 failed, 2 bad usage or settings.

These commands also start the node's processes, so importing them must not load a large library that only one process
needs: torch, Starlette, Jinja, highdicom, SciPy. Those few imports are inside functions.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.cli import act, explain, find, keep, look, offline, quarantine, run, set_up
from dicom_node.database.connection import DAMAGED
from dicom_node.errors import DatabaseError, NodeError
from dicom_node.system.log import describe, printable
from spineone_core.version import add_version_option

# The commands, in the order in which the help lists them.
COMMANDS: tuple[Callable[..., Any], ...] = (
    set_up.init,
    set_up.check,
    run.serve,
    run.listen,
    run.work,
    run.deliver,
    run.web,
    run.stow,
    offline.process,
    explain.explain,
    offline.demo,
    look.status,
    look.jobs,
    look.job,
    find.find,
    find.study,
    act.retry,
    act.analyse,
    act.release,
    act.resend,
    act.flush,
    act.pause,
    act.resume,
    look.alerts,
    act.acknowledge,
    keep.verify,
    act.pull,
    keep.purge,
    keep.export,
    keep.backup,
    keep.restore,
)

app = typer.Typer(
    help="SpineOne node: receives lumbar MRI studies, analyses them, and sends reports back. Research use only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
add_version_option(app, "dicom-node")
for command in COMMANDS:
    app.command()(command)
app.add_typer(quarantine.app, name="quarantine")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point. An error that a person can correct is printed as one line, without a traceback."""
    try:
        app(args=None if arguments is None else list(arguments))
    except NodeError as error:
        for line in str(error).splitlines():
            print(f"error: {printable(line, 10_000)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        print(f"error: {error.strerror or error}: {error.filename or ''}".rstrip(": "), file=sys.stderr)
        sys.exit(1)
    except (SQLAlchemyError, UnicodeDecodeError) as error:
        # Text that is no UTF-8 comes from a damaged database: everything else decodes with care.
        print(f"error: the database cannot be used ({describe(error)}): {DAMAGED}", file=sys.stderr)
        sys.exit(DatabaseError.exit_code)
    except Exception as error:  # its message may hold patient data, so it is shown only on request
        if os.environ.get("SPINEONE_DEBUG"):
            raise
        print(f"error: unexpected {describe(error)}; SPINEONE_DEBUG=1 shows the traceback", file=sys.stderr)
        sys.exit(1)
