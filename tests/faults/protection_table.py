"""What in the source protects the node against each fault, as text, and what stands there when it is taken out.

`protections` takes them out one by one. A fault with several layers of protection has them all in one entry where a single
layer is enough; where each must hold by itself, each is an entry.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Patch:
    """A text that a file holds exactly once, and what takes its place."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Protection:
    """One protection against the fault of a row, in words and as patches."""

    row: int
    name: str
    patches: tuple[Patch, ...]


def _of(row: int, name: str, *patches: tuple[str, str, str]) -> Protection:
    return Protection(row, name, tuple(Patch(*patch) for patch in patches))


_ASSOCIATIONS = "dicom_node/receiving/listener.py"
_DIMSE = "dicom_node/dicom/bounded_dimse.py"
_INSTANCES = "dicom_node/images/store.py"
_HEADERS = "dicom_node/dicom/headers.py"
_FILES = "dicom_node/system/files.py"
_STUDIES = "dicom_node/images/studies.py"
_JOBS = "dicom_node/analysis/jobs.py"
_WORKER = "dicom_node/analysis/worker.py"
_SCHEMA = "dicom_node/database/tables.py"
_MIGRATIONS = "dicom_node/database/migrations/__init__.py"
_DELIVERY = "dicom_node/delivery/deliverer.py"
_REMOTE = "dicom_node/dicom/remote.py"
_COMMITMENTS = "dicom_node/commitment/evidence.py"
_ENVELOPE = "dicom_node/results/envelope.py"
_SETTINGS = "dicom_node/settings/node.py"
_LIFECYCLE = "dicom_node/system/lifecycle.py"
_LOG = "dicom_node/system/log.py"
_APP = "dicom_node/web/app.py"
_SERIES = "spineone_core/imaging/series.py"
_SELECTION = "spineone_core/imaging/selection.py"
_ISOLATION = "spineone_core/imaging/isolation.py"
_PACKAGE = "spineone_core/detection/model_package.py"
_INFERENCE = "spineone_core/detection/decoding.py"
_DRAWING = "spineone_core/drawing/overlay.py"

PROTECTIONS: tuple[Protection, ...] = (
    _of(1, "the cap on the first PDU", (_ASSOCIATIONS, " or length > SMALLEST_PDU_CAP:", ":")),
    _of(1, "the cap on every later PDU", (_ASSOCIATIONS, "if nr_bytes > self.pdu_cap:", "if False:")),
    _of(
        2,
        "the deadline of a PDU",
        (_ASSOCIATIONS, "remaining = deadline - time.monotonic()", "remaining = 3600.0"),
    ),
    _of(
        3,
        "one deadline for the whole PDU: each byte has its own",
        (_ASSOCIATIONS, "        connection.settimeout(remaining)\n", "        connection.settimeout(2)\n"),
        (_ASSOCIATIONS, "remaining = deadline - time.monotonic()", "remaining = 2.0"),
    ),
    _of(
        4,
        "silent sockets do not count as associations",
        (_ASSOCIATIONS, "if len(self._slots) >= self._most", "if len(self._slots) + len(self._waiting) >= self._most"),
    ),
    _of(
        4, "the oldest silent socket makes room", (_ASSOCIATIONS, "        if oldest is not None:", "        if False:")
    ),
    _of(
        5,
        "the look at the first PDU's type and length",
        (_ASSOCIATIONS, " or head[0] != 0x01 or length > SMALLEST_PDU_CAP:", ":"),
    ),
    _of(
        5,
        "a command that cannot be read is cut",
        (
            _DIMSE,
            "except Exception:  # pynetdicom raises many types on a command set",
            "except ZeroDivisionError:  # of",
        ),
    ),
    _of(5, "no fragment may be empty", (_DIMSE, "any(not data for _, data in fragments) or ", "")),
    _of(
        7,
        "the quiet time closes a study",
        (
            _STUDIES,
            ", and_(StudyRow.images_expected.is_(None), quiet)),",
            "),",
        ),
    ),
    _of(7, "a complete study is not due again", (_STUDIES, '        study.state = "complete"\n', "")),
    _of(8, "the called AE title", (_ASSOCIATIONS, "if listener.require_called_ae and called", "if False and called")),
    _of(8, "the calling AE title", (_ASSOCIATIONS, "if not self._peers.knows_title(calling):", "if False:")),
    _of(8, "the address", (_ASSOCIATIONS, "if not self._peers.allows(calling, address):", "if False:")),
    _of(
        8,
        "the alert that counts refusals",
        (
            _ASSOCIATIONS,
            '        self._alert("refused", f"{address}: {reason}", f"calling AE {calling}, called AE {called}")\n',
            "",
        ),
    ),
    _of(
        9,
        "the most associations at once",
        (_ASSOCIATIONS, "if len(self._slots) >= self._most_associations:", "if False:"),
        (
            _ASSOCIATIONS,
            "if sum(slot.calling == calling for slot in self._slots) >= self._most_of(calling):",
            "if False:",
        ),
    ),
    _of(
        10,
        "the form of a UID",
        (_HEADERS, "return len(text) <= 64 and _UID.fullmatch(text) is not None", "return True"),
    ),
    _of(10, "the length of a UID", (_HEADERS, "len(text) <= 64 and ", "")),
    _of(
        10,
        "the form of a UID, and the safe path",
        (_HEADERS, "return len(text) <= 64 and _UID.fullmatch(text) is not None", "return True"),
        (_FILES, "if not _SAFE_NAME.fullmatch(name):", "if False:"),
    ),
    _of(10, "the safe path", (_FILES, "if not _SAFE_NAME.fullmatch(name):", "if False:")),
    _of(
        11,
        "SOP Instance UID of command and data set agree",
        (_INSTANCES, 'if values["SOPInstanceUID"] != incoming.sop_instance_uid:', "if False:"),
    ),
    _of(
        11,
        "SOP Class UID of command and data set agree",
        (_INSTANCES, 'if values["SOPClassUID"] != incoming.sop_class_uid:', "if False:"),
    ),
    _of(12, "every UID must be there", (_INSTANCES, "        if not is_valid_uid(value):", "        if False:")),
    _of(
        12,
        "quarantine of what is refused",
        (_INSTANCES, "            self._quarantine(meta, incoming, sha256, refusal.why)\n", ""),
    ),
    _of(
        13,
        "the same bytes are a duplicate",
        (_INSTANCES, "if any(row.sha256 == sha256 and self._is_in_place(row) for row in known):", "if False:"),
    ),
    _of(
        14,
        "other pixels are a conflict",
        (_INSTANCES, "if not self._same_pixels(current, header, meta, incoming):", "if False:"),
    ),
    _of(14, "a new version becomes the current one", (_INSTANCES, "is_current=True,", "is_current=current is None,")),
    _of(
        15,
        "images of another patient are put aside",
        (
            _INSTANCES,
            "if newest is None or not are_different({identity.patient_id, self._patient_of(newest)}):",
            "if True:",
        ),
    ),
    _of(
        15,
        "only the newest patient's images are analysed",
        (
            _WORKER,
            "rows, others = of_newest_patient(rows, data_dir)",
            "others = len(of_newest_patient(rows, data_dir)) * 0",
        ),
    ),
    _of(16, "a late image opens a new generation", (_STUDIES, 'elif study.state == "complete":', "elif False:")),
    _of(16, "a report names the one before", (_WORKER, "history=self._replaced_reports,", "")),
    _of(17, "a failed write is deleted", (_FILES, "        path.unlink(missing_ok=True)\n", "")),
    _of(
        17, "a failed write is an answer", (_INSTANCES, "except (OSError, SQLAlchemyError):", "except SQLAlchemyError:")
    ),
    _of(
        18,
        "no association under the reserve",
        (
            _ASSOCIATIONS,
            'if not self._store.has_room():\n            return "disk',
            'if False:\n            return "disk',
        ),
    ),
    _of(18, "no image under the reserve", (_INSTANCES, "if not self.has_room(len(incoming.data)):", "if False:")),
    _of(
        19,
        "the index row is committed before the answer",
        (
            _INSTANCES,
            "if self._index(incoming, identity, sha256, target, expected=current):",
            "threading.Thread(target=self._index, args=(incoming, identity, sha256, target, current)).start()\n"
            "            if target.is_file():",
        ),
    ),
    _of(
        19,
        "reconciliation indexes files without a row",
        (_INSTANCES, "            self._adopt(self.data_dir / name)\n", "            pass\n"),
    ),
    _of(19, "reconciliation sweeps the spool", (_INSTANCES, '.glob("*.tmp")', '.glob("*.none")')),
    _of(20, "the lease of a silent worker ends", (_JOBS, "return now - since >= self._lease_s", "return False")),
    _of(
        20,
        "an attempt's time is the job's",
        (_WORKER, "created=claim.created_at,\n            history", "created=utc_now(),\n            history"),
    ),
    _of(
        21,
        "a job is handed back",
        (_WORKER, "                jobs.hand_back(session, self._claim)\n", "                pass\n"),
    ),
    _of(
        21,
        "the process ends although the detector works",
        (_WORKER, "                    self._hand_back()\n", "                    pass\n"),
    ),
    _of(21, "SIGTERM asks for a clean stop", (_LIFECYCLE, "(signal.SIGTERM, signal.SIGINT)", "(signal.SIGINT,)")),
    _of(
        22,
        "a claim locks: BEGIN IMMEDIATE on SQLite",
        (_SCHEMA, 'spineone_begin="BEGIN IMMEDIATE"', 'spineone_begin="BEGIN"'),
    ),
    _of(
        22,
        "a claim locks: FOR UPDATE SKIP LOCKED on PostgreSQL",
        (_JOBS, "        .limit(1)\n        .with_for_update(skip_locked=True)\n", "        .limit(1)\n"),
    ),
    _of(22, "a lease's token", (_JOBS, "if job is None or job.lease_token != held.token:", "if job is None:")),
    _of(
        23,
        "a writer waits for another one",
        (_SCHEMA, "BUSY_TIMEOUT_S = 30", "BUSY_TIMEOUT_S = 0.001"),
    ),
    _of(
        23,
        "no success without an index row",
        (
            _INSTANCES,
            "        except IntegrityError:\n            return False",
            "        except SQLAlchemyError:\n            return True",
        ),
    ),
    _of(24, "a newer schema is refused", (_MIGRATIONS, "if found is not None and found not in known:", "if False:")),
    _of(
        24,
        "what the database says in plain words",
        (_SCHEMA, "except SQLAlchemyError as error:", "except ZeroDivisionError as error:"),
    ),
    _of(25, "foreign keys rest while a table is made anew", (_MIGRATIONS, "foreign_keys=OFF", "foreign_keys=ON")),
    _of(26, "fsync of the file", (_FILES, "            os.fsync(file.fileno())\n", "")),
    _of(
        26,
        "fsync of the folder after the rename",
        (_FILES, "    source.replace(target)\n    sync_folder(target.parent)\n", "    source.replace(target)\n"),
    ),
    _of(26, "fsync of the folder in which a folder was made", (_FILES, "            sync_folder(path.parent)\n", "")),
    _of(26, "SQLite's full synchronisation", (_SCHEMA, '"synchronous=FULL", ', '"synchronous=NORMAL", ')),
    _of(
        27,
        "the bound on what is inflated",
        (_HEADERS, "decompress(data, limit + 1)", "decompress(data)"),
        (_HEADERS, "if len(inflated) > limit:", "if False:"),
    ),
    _of(
        28,
        "the bound on a matrix",
        (
            _SERIES,
            "if pixels > MAX_PIXELS_PER_FRAME or frames > MAX_FRAMES or pixels * frames > MAX_PIXELS_PER_FILE:",
            "if False:",
        ),
    ),
    _of(
        29,
        "what a parser cannot read is refused",
        (_HEADERS, "    except RecursionError:", "    except ZeroDivisionError:"),
        (_HEADERS, "    except Exception as error:  # hostile", "    except ZeroDivisionError as error:  # hostile"),
    ),
    _of(
        30,
        "the listener's look at the pixel data's length",
        (_HEADERS, "        _check_pixel_element(pixel_bytes, implicit=implicit, little=little)\n", "        pass\n"),
    ),
    _of(
        30,
        "the reader's look at the pixel data's length",
        (_SERIES, "if not syntax.is_encapsulated and stored < expected:", "if False:"),
    ),
    _of(31, "decoders run in a child", (_SERIES, "if isolate and _needs_library(path)]", "if False]")),
    _of(
        31,
        "a child's broken answer is a refusal",
        (_ISOLATION, "except (ValueError, EOFError, OSError) as error:", "except ZeroDivisionError as error:"),
    ),
    _of(
        31,
        "RLE is pydicom's alone",
        (_SERIES, 'dataset.pixel_array_options(decoding_plugin="pydicom")', "pass"),
    ),
    _of(31, "the child's time limit", (_ISOLATION, "            timeout=TIME_LIMIT_S,\n", "")),
    _of(
        32,
        "the photometric interpretation",
        (_SERIES, 'if photometric not in ("MONOCHROME1", "MONOCHROME2"):', "if False:"),
    ),
    _of(32, "the bits", (_SERIES, "    _check_bits(dataset)\n", "")),
    _of(32, "one sample a pixel", (_SERIES, 'if int(dataset.get("SamplesPerPixel", 1) or 1) != 1:', "if False:")),
    _of(
        33,
        "the range of the spacing",
        (_SERIES, "if not all(math.isfinite(v) and 0.05 <= v <= 10 for v in spacing):", "if False:"),
    ),
    _of(33, "the ratio of the spacings", (_SERIES, "if max(spacing) / min(spacing) > 4:", "if False:")),
    _of(
        33,
        "perpendicular unit vectors",
        (_SERIES, "if not np.allclose(lengths, 1, atol=1e-3) or abs(float(row @ column)) > 1e-3:", "if False:"),
    ),
    _of(
        33,
        "a position must be finite, in the header and in the volume",
        (_SERIES, " and all(map(math.isfinite, numbers)) else None", " else None"),
        (_SERIES, "if not np.isfinite(self.origins).all():", "if False:"),
    ),
    _of(
        33,
        "of duplicate positions the first stays",
        (
            _SERIES,
            "< SAME_POSITION_MM:  # type: ignore[arg-type]\n            continue",
            "< -1:  # type: ignore[arg-type]\n            continue",
        ),
    ),
    _of(33, "skewed orientations are two series", (_SERIES, "> SAME_ORIENTATION_COSINE:", "> 0.5:")),
    _of(34, "the range of the rescale slope", (_SERIES, " and 1e-6 < abs(slope) < 1e6 else", " else")),
    _of(
        34,
        "a window that shows nothing is not used",
        (_DRAWING, "if own_high > own_low and _shows_picture(plane, own_low, own_high, high - low):", "if True:"),
    ),
    _of(35, "localisers", (_SELECTION, "if _is_localiser(series, slices, step, study):", "if False:")),
    _of(35, "the plane", (_SELECTION, 'if plane_of(first) != "sagittal":', "if False:")),
    _of(
        35,
        "the contrast",
        (_SELECTION, 'return None if weighting.kind == "T2" else _contrast_text(weighting)', "return None"),
    ),
    _of(35, "MR only", (_SELECTION, "    if not _is_mr_image(first):\n", "    if False:\n")),
    _of(
        35,
        "own results are not analysed",
        (_INSTANCES, "is_own_result=is_own_result(header.dataset),", "is_own_result=False,"),
    ),
    _of(
        36,
        "names stay as bytes under the source's character set",
        (_ENVELOPE, "    terms = character_set(source)\n", "    terms: list[str] = []\n"),
    ),
    _of(
        36,
        "names are not decoded",
        (_ENVELOPE, "if isinstance(raw, RawDataElement) and isinstance(raw.value, bytes):", "if False:"),
    ),
    _of(37, "the page's templates escape", (_APP, "autoescape=True,", "autoescape=False,")),
    _of(37, "the log's texts are printable", (_LOG, 'c if c.isprintable() else "?" for c in', "c for c in")),
    _of(
        38,
        "an unreachable destination is tried again",
        (
            _DELIVERY,
            "self._record(parcel, Answer(Outcome.RETRY, None, message))",
            "self._record(parcel, Answer(Outcome.FAILED, None, message))",
        ),
    ),
    _of(38, "its alert", (_DELIVERY, "            self._alert_down(destination, message)\n", "")),
    _of(39, "0xA7xx is tried again", (_DELIVERY, "if high == 0xA7:", "if False:")),
    _of(39, "0xBxxx is stored", (_DELIVERY, "if high >> 4 == 0xB:", "if False:")),
    _of(39, "0x0122 and others fail for good", (_DELIVERY, "0x0122: (Outcome.FAILED", "0x0122: (Outcome.RETRY")),
    _of(
        39,
        "0xCxxx fails for good",
        (
            _DELIVERY,
            '        return Outcome.FAILED, "the destination cannot understand',
            '        return Outcome.RETRY, "the destination cannot understand',
        ),
    ),
    _of(
        40,
        "no answer means again",
        (_DELIVERY, "NO_ANSWER = Answer(Outcome.RETRY", "NO_ANSWER = Answer(Outcome.FAILED"),
    ),
    _of(
        41,
        "a SOP class that is not taken is an answer of its own",
        (
            _DELIVERY,
            "    except ValueError:\n        # No accepted",
            "    except ZeroDivisionError:\n        # No accepted",
        ),
    ),
    _of(
        42,
        "another transaction for each question",
        (
            _COMMITMENTS,
            "str(generate_uid(prefix=None))",
            '"2.25." + parcels[0].sop_instance_uid[-9:].replace(".", "1")',
        ),
    ),
    _of(
        42,
        "an unanswered question is asked again",
        (_COMMITMENTS, 'OutboxRow.proof.in_(("wanted", "asked"))', 'OutboxRow.proof.in_(("wanted",))'),
    ),
    _of(
        42,
        "what is not kept is sent again",
        (_COMMITMENTS, "        _lose(session, row, uid, why, rules)\n", "        pass\n"),
    ),
    _of(
        42,
        "only what was asked is answered",
        (
            _COMMITMENTS,
            "if asked is None or asked.destination not in destinations:",
            "if asked is not None and asked.destination not in destinations:",
        ),
    ),
    _of(
        42,
        "only the one that was asked answers",
        (_COMMITMENTS, "if asked is None or asked.destination not in destinations:", "if asked is None:"),
    ),
    _of(
        43,
        "peers must show a certificate",
        (_ASSOCIATIONS, "context.verify_mode = ssl.CERT_REQUIRED", "context.verify_mode = ssl.CERT_NONE"),
    ),
    _of(
        43,
        "TLS 1.2 at least, at the listener",
        (
            _ASSOCIATIONS,
            "context.minimum_version = ssl.TLSVersion.TLSv1_2",
            'context.minimum_version = ssl.TLSVersion.TLSv1\n    context.set_ciphers("ALL:@SECLEVEL=0")',
        ),
    ),
    _of(
        43,
        "TLS 1.2 at least, at a destination",
        (
            _REMOTE,
            "context.minimum_version = ssl.TLSVersion.TLSv1_2",
            'context.minimum_version = ssl.TLSVersion.TLSv1\n        context.set_ciphers("ALL:@SECLEVEL=0")',
        ),
    ),
    _of(
        43,
        "a destination's certificate is verified",
        (
            _REMOTE,
            "ssl.create_default_context(cafile=self._partner.tls_ca)",
            "ssl.create_default_context(cafile=self._partner.tls_ca)\n"
            "        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE",
        ),
    ),
    _of(
        43,
        "a destination's name is verified",
        (
            _REMOTE,
            "ssl.create_default_context(cafile=self._partner.tls_ca)",
            "ssl.create_default_context(cafile=self._partner.tls_ca)\n        context.check_hostname = False",
        ),
    ),
    _of(
        43,
        "the handshake is not in the loop that accepts",
        (
            _ASSOCIATIONS,
            "        return connection, address\n",
            "        if self._tls is not None:\n"
            "            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)\n"
            "            with contextlib.suppress(OSError):\n"
            "                connection.do_handshake()\n"
            "        return connection, address\n",
        ),
        (
            _ASSOCIATIONS,
            "            request = self._tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)\n",
            "            pass\n",
        ),
    ),
    _of(
        43,
        "no last word, which would begin the handshake again",
        (_ASSOCIATIONS, '            self._cut(connection)\n            return b""\n', '            return b""\n'),
    ),
    _of(
        44,
        "the look at the first PDU's type and length",
        (_ASSOCIATIONS, " or head[0] != 0x01 or length > SMALLEST_PDU_CAP:", ":"),
    ),
    _of(
        45,
        "an unknown error is tried again",
        (_WORKER, "            outcome = Retry(describe(error))", "            outcome = Reject(describe(error))"),
    ),
    _of(
        45,
        "attempts are counted",
        (
            _JOBS,
            '    if job.attempts >= max_attempts:\n        return _give_up(session, job, Event.EXHAUSTED, f"{why}',
            '    if False:\n        return _give_up(session, job, Event.EXHAUSTED, f"{why}',
        ),
    ),
    _of(
        45,
        "a message is not repeated",
        (_WORKER, "            outcome = Retry(describe(error))", "            outcome = Retry(repr(error))"),
    ),
    _of(46, "the digest of the weights", (_PACKAGE, "    _check_digest(folder / WEIGHTS, weights, expected)\n", "")),
    _of(
        46,
        "weights must fit the network",
        (
            _PACKAGE,
            "except (SafetensorError, RuntimeError, ConfigError) as error:",
            "except ZeroDivisionError as error:",
        ),
    ),
    _of(
        46,
        "the worker explains and exits",
        (_WORKER, "except (ModelPackageError, DeviceError) as error:", "except DeviceError as error:"),
    ),
    _of(
        47,
        "values must be finite",
        (_INFERENCE, "if not torch.isfinite(probability).all() or (offsets", "if False and (offsets"),
    ),
    _of(
        47,
        "levels must be in order",
        (
            _INFERENCE,
            "return _accept(check_levels(ten, spacing_mm) or _as_found(ten, decoding), decoding)",
            "return _accept(Chain(tuple(ten), 0.0, 0.0), decoding)",
        ),
    ),
    _of(
        48,
        "timers run again when the clock was set back",
        ("dicom_node/processes/scheduler.py", "if lead < before - _SET_BACK_S:", "if False:"),
    ),
    _of(
        48,
        "what lies too far ahead is due",
        (_SCHEMA, "or_(column <= now, column > now + timedelta(seconds=longest_s))", "column <= now"),
    ),
    _of(
        48,
        "the reclaimer's own clock",
        (_JOBS, "now = time.monotonic() if monotonic is None else monotonic", "now = utc_now().timestamp()"),
    ),
    _of(48, "a heartbeat renews the lease", (_JOBS, "if heartbeat != job.heartbeat:", "if heartbeat is None:")),
    _of(48, "a time has a zone", (_SCHEMA, "if value.tzinfo is None:", "if False:")),
    _of(48, "times come back in UTC", (_SCHEMA, "value.replace(tzinfo=UTC)", "value")),
    _of(
        49,
        "an unknown key is an error",
        (
            _SETTINGS,
            'model_config = ConfigDict(extra="forbid", frozen=True)',
            'model_config = ConfigDict(extra="ignore", frozen=True)',
        ),
    ),
    _of(
        49,
        "the range of a port",
        (_SETTINGS, "Port = Annotated[int, Field(ge=1, le=65535)]", "Port = Annotated[int, Field()]"),
    ),
    _of(
        49,
        "the form of an AE title",
        (_SETTINGS, "if not _AE_TITLE.fullmatch(value) or value != value.strip():", "if False:"),
    ),
    _of(49, "all errors at once", (_SETTINGS, "for e in error.errors()]", "for e in error.errors()[:1]]")),
    _of(
        50,
        "an exception's message is not logged",
        (_LOG, 'event["exception"] = describe(error)', 'event["exception"] = str(error)'),
    ),
    _of(
        50,
        "libraries that quote values are silent",
        (_LOG, "        logging.getLogger(name).setLevel(logging.CRITICAL + 1)\n", "        pass\n"),
    ),
    _of(
        50,
        "nor one that a library gives as its message",
        (_LOG, 'event["event"] = describe(record.msg)', 'event["event"] = str(record.msg)'),
    ),
    _of(50, "nor that of a thread", (_LOG, "    threading.excepthook = _log_thread_exception\n", "")),
)

# Faults against which the protection is a library's or the system's; the row's tests hold it all the same.
NOT_OURS: dict[int, str] = {
    6: "a store request reaches the node when it is whole: pynetdicom hands over complete messages only, and closes the "
    "connection where a PDU ends early. The node writes nothing before that.",
}
