"""Faults at random moments, as many as are asked for: kill -9 of the listener while studies stream in, mutated PDUs and
files. Prints what was really done and found; the seed repeats it.

    python -m tests.faults.campaign --kills 100 --pdus 20000 --files 2000 --write docs/reliability.md
"""

from __future__ import annotations

import argparse
import hashlib
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select

from dicom_node.schema import Instance
from tests.fakes import wire
from tests.fakes.datasets import encode, mr_image
from tests.faults.node import Listener, running_listener
from tests.faults.table import ROWS


@dataclass
class Found:
    """What a campaign did and saw."""

    seed: int
    kills: int = 0
    sent: int = 0
    acknowledged: int = 0
    lost: int = 0
    changed: int = 0
    mutated_pdus: int = 0
    mutated_files: int = 0
    ended_by_input: int = 0
    memory_growth: int = 0
    restarts: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        """Whether all targets hold."""
        return not (self.lost or self.changed or self.ended_by_input) and self.memory_growth < 20_000_000

    def lines(self) -> list[str]:
        """A table in Markdown."""
        rows = [
            ("kill -9 of the listener at random moments", self.kills),
            ("images sent", self.sent),
            ("images acknowledged", self.acknowledged),
            ("acknowledged images lost", self.lost),
            ("acknowledged images with other bytes", self.changed),
            ("mutated PDUs", self.mutated_pdus),
            ("mutated data sets", self.mutated_files),
            ("processes ended by input", self.ended_by_input),
            ("growth of resident memory over the mutations", f"{self.memory_growth / 1e6:.1f} MB"),
            ("longest restart to serving", f"{max(self.restarts, default=0.0):.1f} s"),
            ("seed", self.seed),
            ("duration", f"{self.seconds:.0f} s"),
        ]
        return ["| what | seen |", "| --- | --- |", *(f"| {what} | {seen} |" for what, seen in rows)]


def run(folder: Path, *, kills: int, pdus: int, files: int, seed: int) -> Found:
    """Run a campaign in an empty folder."""
    found, began = Found(seed), time.monotonic()
    source = random.Random(seed)
    with running_listener(folder, "max_associations = 25\npdu_timeout_s = 2\nmax_object_mb = 20") as listener:
        acknowledged = stream_and_kill(listener, source, found, kills)
        mutate(listener, source, found, pdus, files)
        compare(listener, acknowledged, found)
    found.seconds = time.monotonic() - began
    return found


# ---------------------------------------------------------------- kill -9


def stream_and_kill(listener: Listener, source: random.Random, found: Found, kills: int) -> dict[str, str]:
    """Send images; after a random number of them, and a random moment later, the listener is killed.

    Returns the SHA-256 of what was acknowledged, by UID.
    """
    acknowledged: dict[str, str] = {}
    while found.kills < kills:
        _send(listener, source, found, acknowledged, source.randint(0, 30))
        time.sleep(source.uniform(0, 0.02))
        listener.kill()
        found.kills += 1
        began = time.monotonic()
        listener.start()
        found.restarts.append(time.monotonic() - began)
    return acknowledged


def _send(listener: Listener, source: random.Random, found: Found, acknowledged: dict[str, str], count: int) -> None:
    """``count`` images on one association, and one more that is left on its way, unanswered."""
    with wire.connect(listener.port) as connection:
        connection.sendall(wire.associate())
        if wire.kind(wire.answer(connection)) != "accepted":
            return
        for left in range(count, -1, -1):
            found.sent += 1
            number = found.sent
            image = mr_image(number, study=f"1.2.826.0.1.3680043.10.{number // 20 + 1}", fill=source.randrange(4000))
            connection.sendall(b"".join(wire.store(image, message=number % 60000 + 1, fragment=200)))
            if left == 0:
                return
            if wire.status_of(wire.answer(connection)) == 0:
                found.acknowledged += 1
                acknowledged[str(image.SOPInstanceUID)] = hashlib.sha256(encode(image)).hexdigest()


def compare(listener: Listener, acknowledged: dict[str, str], found: Found) -> None:
    """Every acknowledged image is in the index and on disk, bit by bit."""
    with listener.database.read() as session:
        paths = {row.sop_instance_uid: row.path for row in session.scalars(select(Instance))}
    for uid, digest in acknowledged.items():
        path = listener.settings.data_dir / paths.get(uid, "none")
        if not path.is_file():
            found.lost += 1
            continue
        data = path.read_bytes()
        stored = data[144 + int.from_bytes(data[140:144], "little") :]
        found.changed += hashlib.sha256(stored).hexdigest() != digest


# ---------------------------------------------------------------- mutations


def mutate(listener: Listener, source: random.Random, found: Found, pdus: int, files: int) -> None:
    """Broken PDUs and broken data sets; the process must live and stay as large as it was."""
    good = b"".join(wire.store(mr_image(1, study="1.2.9"), fragment=300))
    before = 0
    for number in range(pdus):
        _send_raw(listener, _broken(wire.associate() if number % 4 == 0 else good, source), asked=number % 4 != 0)
        found.mutated_pdus += 1
        before = before or (listener.memory if number == pdus // 5 else 0)
        _see_that_it_lives(listener, found)
    data = encode(mr_image(2, study="1.2.9"))
    for _ in range(files):
        pdu = wire.store(mr_image(2, study="1.2.9"), data=_broken(data, source))
        _send_raw(listener, b"".join(pdu), asked=True)
        found.mutated_files += 1
        _see_that_it_lives(listener, found)
    found.memory_growth = max(0, listener.memory - before) if before else 0


def _send_raw(listener: Listener, data: bytes, *, asked: bool) -> None:
    try:
        with wire.connect(listener.port) as connection:
            if asked:
                connection.sendall(wire.associate())
                wire.answer(connection)
            connection.sendall(data)
            connection.settimeout(0.02)
            wire.answer(connection)
    except OSError:
        pass


def _broken(data: bytes, source: random.Random) -> bytes:
    """One to eight bytes changed, some cut out or put in, or the end cut off."""
    mutant = bytearray(data)
    for _ in range(source.randint(1, 8)):
        at = source.randrange(len(mutant))
        what = source.random()
        if what < 0.7:
            mutant[at] = source.choice((0, 0xFF, 0x7F, 0x80, source.randrange(256)))
        elif what < 0.85:
            del mutant[at : at + source.randint(1, 12)]
        else:
            mutant[at:at] = source.randbytes(source.randint(1, 12))
        if len(mutant) < 2:
            return bytes(mutant)
    return bytes(mutant[: source.randrange(1, len(mutant))] if source.random() < 0.2 else mutant)


def _see_that_it_lives(listener: Listener, found: Found) -> None:
    if listener.process.poll() is not None:
        found.ended_by_input += 1
        listener.start()


# ---------------------------------------------------------------- the document


def document(found: Found) -> str:
    """docs/reliability.md: what the last campaign really did, and the table of faults."""
    lines = ["# Reliability", "", "Written by `make campaign`. The last campaign:", "", *found.lines(), ""]
    lines += ["Not in it yet: kills of worker and delivery. The faults, and the tests that hold them:", ""]
    lines += ["| # | fault | expected | proven by | open |", "| --- | --- | --- | --- | --- |"]
    for row in ROWS:
        tests = "<br>".join(f"`{name.split('::')[1]}`" for name in row.tests)
        lines.append(f"| {row.number} | {row.fault} | {row.expected} | {tests} | {row.open} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--pdus", type=int, default=100_000)
    parser.add_argument("--files", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    # So that a campaign that is stopped stops its listener.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print(f"seed {asked.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        found = run(Path(folder), kills=asked.kills, pdus=asked.pdus, files=asked.files, seed=asked.seed)
    print("\n".join(found.lines()))
    if asked.write:
        asked.write.write_text(document(found), encoding="utf-8")
    raise SystemExit(0 if found.is_good else 1)


if __name__ == "__main__":
    main()
