"""The source text that protects the node against each fault, and the text that replaces it when it is taken out.

`protections` takes them out one by one. If a fault has several layers of protection and any one of them is enough, one
entry holds them all; if each must hold by itself, each is an entry.
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


_ANALYSIS_COMPLETION = "dicom_node/analysis/completion.py"
_ANALYSIS_DETECTOR = "dicom_node/analysis/detector.py"
_ANALYSIS_JOBS = "dicom_node/analysis/jobs.py"
_ANALYSIS_LEASE = "dicom_node/analysis/lease.py"
_ANALYSIS_WORKER = "dicom_node/analysis/worker.py"
_COMMITMENT_EVIDENCE = "dicom_node/commitment/evidence.py"
_CORE_DETECTION_LEVELS = "spineone_core/detection/levels.py"
_CORE_DETECTION_MODEL_PACKAGE = "spineone_core/detection/model_package.py"
_CORE_DETECTION_VIEWS = "spineone_core/detection/views.py"
_CORE_DRAWING_SLICES = "spineone_core/drawing/slices.py"
_ANALYSIS_TIME_LIMIT = "dicom_node/analysis/time_limit.py"
_COMMITMENT_PROMISES = "dicom_node/commitment/promises.py"
_CORE_IMAGING_CHILDREN = "spineone_core/imaging/children.py"
_CORE_IMAGING_EXTENT = "spineone_core/imaging/extent.py"
_CORE_IMAGING_FILES = "spineone_core/imaging/files.py"
_CORE_IMAGING_INFLATION = "spineone_core/imaging/inflation.py"
_DICOM_BUDGET = "dicom_node/dicom/budget.py"
_IMAGES_QUARANTINE = "dicom_node/images/quarantine.py"
_CORE_IMAGING_HEADERS = "spineone_core/imaging/headers.py"
_CORE_IMAGING_ISOLATION = "spineone_core/imaging/isolation.py"
_CORE_IMAGING_PIXELS = "spineone_core/imaging/pixels.py"
_CORE_IMAGING_SELECTION = "spineone_core/imaging/selection.py"
_CORE_IMAGING_SERIES = "spineone_core/imaging/series.py"
_CORE_IMAGING_VOLUME = "spineone_core/imaging/volume.py"
_DATABASE_CONNECTION = "dicom_node/database/connection.py"
_DATABASE_MIGRATIONS = "dicom_node/database/migrations/__init__.py"
_DATABASE_TABLES = "dicom_node/database/tables.py"
_DELIVERY_CHANNEL = "dicom_node/delivery/channel.py"
_DELIVERY_SENDING = "dicom_node/delivery/sending.py"
_DELIVERY_STORE_SCU = "dicom_node/delivery/store_scu.py"
_DICOM_BOUNDED_DIMSE = "dicom_node/dicom/bounded_dimse.py"
_DICOM_HEADERS = "dicom_node/dicom/headers.py"
_IMAGES_INCOMING = "dicom_node/images/incoming.py"
_IMAGES_RECONCILE = "dicom_node/images/reconcile.py"
_IMAGES_STORE = "dicom_node/images/store.py"
_IMAGES_STUDIES = "dicom_node/images/studies.py"
_PROCESSES_SCHEDULER = "dicom_node/processes/scheduler.py"
_RECEIVING_ADMISSION = "dicom_node/receiving/admission.py"
_RECEIVING_PDUS = "dicom_node/receiving/pdus.py"
_RECEIVING_SERVER = "dicom_node/receiving/server.py"
_RESULTS_ENVELOPE = "dicom_node/results/envelope.py"
_SETTINGS_READING = "dicom_node/settings/reading.py"
_SETTINGS_TYPES = "dicom_node/settings/types.py"
_SYSTEM_FILES = "dicom_node/system/files.py"
_SYSTEM_LIFECYCLE = "dicom_node/system/lifecycle.py"
_SYSTEM_LOG = "dicom_node/system/log.py"
_SYSTEM_TLS = "dicom_node/system/tls.py"
_WEB_STATUS_PAGE = "dicom_node/web/status_page.py"

PROTECTIONS: tuple[Protection, ...] = (
    _of(1, "the cap on the first PDU", (_RECEIVING_PDUS, " or length > SMALLEST_PDU_CAP:", ":")),
    _of(1, "the cap on every later PDU", (_RECEIVING_PDUS, "if nr_bytes > self.pdu_cap:", "if False:")),
    _of(
        2,
        "the deadline of a PDU",
        (_RECEIVING_PDUS, "remaining = deadline - time.monotonic()", "remaining = 3600.0"),
    ),
    _of(
        3,
        "one deadline for the whole PDU: each byte has its own",
        (_RECEIVING_PDUS, "        connection.settimeout(remaining)\n", "        connection.settimeout(2)\n"),
        (_RECEIVING_PDUS, "remaining = deadline - time.monotonic()", "remaining = 2.0"),
    ),
    _of(
        4,
        "silent sockets do not count as associations",
        (
            _RECEIVING_SERVER,
            "if len(self._slots) >= self._most",
            "if len(self._slots) + len(self._waiting) >= self._most",
        ),
    ),
    _of(
        4,
        "the oldest silent socket makes room",
        (_RECEIVING_SERVER, "        if oldest is not None:", "        if False:"),
    ),
    _of(
        5,
        "the look at the first PDU's type and length",
        (_RECEIVING_PDUS, " or head[0] != 0x01 or length > SMALLEST_PDU_CAP:", ":"),
    ),
    _of(
        5,
        "a command that cannot be read is cut",
        (
            _DICOM_BOUNDED_DIMSE,
            "except Exception:  # pynetdicom raises many types on a command set",
            "except ZeroDivisionError:  # of",
        ),
    ),
    _of(5, "no fragment may be empty", (_DICOM_BOUNDED_DIMSE, "any(not data for _, data in fragments) or ", "")),
    _of(
        7,
        "the quiet time closes a study",
        (
            _ANALYSIS_COMPLETION,
            ", and_(StudyRow.images_expected.is_(None), quiet)),",
            "),",
        ),
    ),
    _of(7, "a complete study is not due again", (_ANALYSIS_COMPLETION, "        studies.close(study)\n", "")),
    _of(
        8,
        "the called AE title",
        (_RECEIVING_ADMISSION, "if self._listener.require_called_ae and", "if False and"),
    ),
    _of(
        8,
        "the calling AE title",
        (_RECEIVING_ADMISSION, "if not self._peers.knows_title(caller.calling_ae):", "if False:"),
    ),
    _of(
        8,
        "the address",
        (_RECEIVING_ADMISSION, "if not self._peers.allows(caller.calling_ae, caller.address):", "if False:"),
    ),
    _of(
        8,
        "the alert that counts refusals",
        (
            _RECEIVING_ADMISSION,
            "        try_to_raise(self._database, AlertKind.REFUSED, refusal.alert_subject(address), detail)\n",
            "",
        ),
    ),
    _of(
        9,
        "the most associations at once",
        (_RECEIVING_SERVER, "if len(self._slots) >= self._most_associations:", "if False:"),
        (
            _RECEIVING_SERVER,
            "if sum(slot.calling == calling for slot in self._slots) >= self._doorkeeper.most_associations(calling):",
            "if False:",
        ),
    ),
    _of(
        10,
        "the form of a UID",
        (_DICOM_HEADERS, "return len(text) <= 64 and _UID.fullmatch(text) is not None", "return True"),
    ),
    _of(10, "the length of a UID", (_DICOM_HEADERS, "len(text) <= 64 and ", "")),
    _of(
        10,
        "the form of a UID, and the safe path",
        (_DICOM_HEADERS, "return len(text) <= 64 and _UID.fullmatch(text) is not None", "return True"),
        (_SYSTEM_FILES, "if not _SAFE_NAME.fullmatch(name):", "if False:"),
    ),
    _of(10, "the safe path", (_SYSTEM_FILES, "if not _SAFE_NAME.fullmatch(name):", "if False:")),
    _of(
        11,
        "SOP Instance UID of command and data set agree",
        (_IMAGES_INCOMING, 'if values["SOPInstanceUID"] != incoming.sop_instance_uid:', "if False:"),
    ),
    _of(
        11,
        "SOP Class UID of command and data set agree",
        (_IMAGES_INCOMING, 'if values["SOPClassUID"] != incoming.sop_class_uid:', "if False:"),
    ),
    _of(12, "every UID must be there", (_IMAGES_INCOMING, "        if not is_valid_uid(value):", "        if False:")),
    _of(
        12,
        "quarantine of what is refused",
        (_IMAGES_STORE, "            self._quarantine(meta, incoming, sha256, refusal.why)\n", ""),
    ),
    _of(
        13,
        "the same bytes are a duplicate",
        (_IMAGES_STORE, "if any(row.sha256 == sha256 and self._is_in_place(row) for row in known):", "if False:"),
    ),
    _of(
        14,
        "other pixels are a conflict",
        (_IMAGES_STORE, "if not self._same_pixels(current, header, meta, incoming):", "if False:"),
    ),
    _of(
        14, "a new version becomes the current one", (_IMAGES_STORE, "is_current=True,", "is_current=current is None,")
    ),
    _of(
        15,
        "images of another patient are put aside",
        (
            _IMAGES_STORE,
            "if newest is None or not are_different({identity.patient_id, self._patient_of(newest)}):",
            "if True:",
        ),
    ),
    _of(
        15,
        "only the newest patient's images are analysed",
        (
            _ANALYSIS_WORKER,
            "rows, others = of_newest_patient(rows, data_dir)",
            "others = len(of_newest_patient(rows, data_dir)) * 0",
        ),
    ),
    _of(
        16,
        "a late image opens a new generation",
        (
            _IMAGES_STUDIES,
            "(StudyState.COMPLETE, StudyEvent.IMAGE_ARRIVED): StudyState.RECEIVING,",
            "(StudyState.COMPLETE, StudyEvent.IMAGE_ARRIVED): StudyState.COMPLETE,",
        ),
    ),
    _of(16, "a report names the one before", (_ANALYSIS_WORKER, "history=self._replaced_reports,", "")),
    _of(17, "a failed write is deleted", (_SYSTEM_FILES, "        path.unlink(missing_ok=True)\n", "")),
    _of(
        17,
        "a failed write is an answer",
        (_IMAGES_STORE, "except (OSError, SQLAlchemyError):", "except SQLAlchemyError:"),
    ),
    _of(
        18,
        "no association under the reserve",
        (
            _RECEIVING_ADMISSION,
            "if not self._store.has_room():\n            return Refusal",
            "if False:\n            return Refusal",
        ),
    ),
    _of(18, "no image under the reserve", (_IMAGES_STORE, "if not self.has_room(len(incoming.data)):", "if False:")),
    _of(
        19,
        "the index row is committed before the answer",
        (
            _IMAGES_STORE,
            "if self._index(incoming, identity, sha256, target, expected=current):",
            "threading.Thread(target=self._index, args=(incoming, identity, sha256, target, current)).start()\n"
            "            if target.is_file():",
        ),
    ),
    _of(
        19,
        "reconciliation indexes files without a row",
        (_IMAGES_RECONCILE, "            self._adopt(self._data_dir / name)\n", "            pass\n"),
    ),
    _of(19, "reconciliation sweeps the spool", (_IMAGES_RECONCILE, '.glob("*.tmp")', '.glob("*.none")')),
    _of(
        20, "the lease of a silent worker ends", (_ANALYSIS_JOBS, "return now - since >= self._lease_s", "return False")
    ),
    _of(
        20,
        "an attempt's time is the job's",
        (_ANALYSIS_WORKER, "created=claim.created_at,\n            history", "created=utc_now(),\n            history"),
    ),
    _of(
        21,
        "a job is handed back",
        (_ANALYSIS_LEASE, "                jobs.hand_back(session, self._claim)\n", "                pass\n"),
    ),
    _of(
        21,
        "the process ends although the detector works",
        (_ANALYSIS_LEASE, "                    self._hand_back()\n", "                    pass\n"),
    ),
    _of(
        21, "SIGTERM asks for a clean stop", (_SYSTEM_LIFECYCLE, "(signal.SIGTERM, signal.SIGINT)", "(signal.SIGINT,)")
    ),
    _of(
        22,
        "a claim locks: BEGIN IMMEDIATE on SQLite",
        (_DATABASE_CONNECTION, 'spineone_begin="BEGIN IMMEDIATE"', 'spineone_begin="BEGIN"'),
    ),
    _of(
        22,
        "a claim locks: FOR UPDATE SKIP LOCKED on PostgreSQL",
        (_ANALYSIS_JOBS, "        .limit(1)\n        .with_for_update(skip_locked=True)\n", "        .limit(1)\n"),
    ),
    _of(22, "a lease's token", (_ANALYSIS_JOBS, "if job is None or job.lease_token != held.token:", "if job is None:")),
    _of(
        23,
        "a writer waits for another one",
        (_DATABASE_CONNECTION, "BUSY_TIMEOUT_S = 30", "BUSY_TIMEOUT_S = 0.001"),
    ),
    _of(
        23,
        "no success without an index row",
        (
            _IMAGES_STORE,
            "        except IntegrityError:\n            return False",
            "        except SQLAlchemyError:\n            return True",
        ),
    ),
    _of(
        24,
        "a newer schema is refused",
        (_DATABASE_MIGRATIONS, "if found is not None and found not in known:", "if False:"),
    ),
    _of(
        24,
        "what the database says in plain words",
        (_DATABASE_CONNECTION, "except SQLAlchemyError as error:", "except ZeroDivisionError as error:"),
    ),
    _of(
        25,
        "foreign keys rest while a table is made anew",
        (_DATABASE_MIGRATIONS, "foreign_keys=OFF", "foreign_keys=ON"),
    ),
    _of(26, "fsync of the file", (_SYSTEM_FILES, "            os.fsync(file.fileno())\n", "")),
    _of(
        26,
        "fsync of the folder after the rename",
        (_SYSTEM_FILES, "    source.replace(target)\n    sync_folder(target.parent)\n", "    source.replace(target)\n"),
    ),
    _of(
        26,
        "fsync of the folder in which a folder was made",
        (_SYSTEM_FILES, "            sync_folder(path.parent)\n", ""),
    ),
    _of(26, "SQLite's full synchronisation", (_DATABASE_CONNECTION, '"synchronous=FULL", ', '"synchronous=NORMAL", ')),
    _of(
        27,
        "the bound on what is inflated",
        (_CORE_IMAGING_INFLATION, "if size > limit:", "if False:"),
    ),
    _of(
        28,
        "the bound on a matrix",
        (
            _CORE_IMAGING_PIXELS,
            "if pixels > MAX_PIXELS_PER_FRAME or frames > MAX_FRAMES or pixels * frames > MAX_PIXELS_PER_FILE:",
            "if False:",
        ),
    ),
    _of(
        29,
        "what a parser cannot read is refused",
        (_CORE_IMAGING_EXTENT, "if len(levels) // 2 > MOST_DEPTH:", "if False:"),
        (_DICOM_HEADERS, "    except RecursionError:", "    except ZeroDivisionError:"),
        (
            _DICOM_HEADERS,
            "    except Exception as error:  # hostile",
            "    except ZeroDivisionError as error:  # hostile",
        ),
    ),
    _of(
        30,
        "the listener's look at the pixel data's length",
        (
            _DICOM_HEADERS,
            "        _check_pixel_element(pixel_bytes, implicit=implicit, little=little)\n",
            "        pass\n",
        ),
    ),
    _of(
        30,
        "the reader's look at the pixel data's length",
        (_CORE_IMAGING_PIXELS, "if not syntax.is_encapsulated and stored < expected:", "if False:"),
    ),
    _of(31, "decoders run in a child", (_CORE_IMAGING_SERIES, "if isolate and _is_compressed(path)}", "if False}")),
    _of(
        31,
        "a child's broken answer is a refusal",
        (
            _CORE_IMAGING_ISOLATION,
            "if len(head) < 8 or _read_into(stream, memoryview(frame)) < len(frame):",
            "if _read_into(stream, memoryview(frame)) < 0:",
        ),
    ),
    _of(
        31,
        "RLE is pydicom's alone",
        (_CORE_IMAGING_PIXELS, 'plugin = "pydicom" if', 'plugin = "" if'),
    ),
    _of(31, "the child's time limit", (_CORE_IMAGING_ISOLATION, "    timer.start()\n", "")),
    _of(
        32,
        "the photometric interpretation",
        (_CORE_IMAGING_PIXELS, 'if photometric not in ("MONOCHROME1", "MONOCHROME2"):', "if False:"),
    ),
    _of(32, "the bits", (_CORE_IMAGING_PIXELS, "    _check_bits(dataset)\n", "")),
    _of(
        32,
        "one sample a pixel",
        (_CORE_IMAGING_PIXELS, 'if int(dataset.get("SamplesPerPixel", 1) or 1) != 1:', "if False:"),
    ),
    _of(
        33,
        "the range of the spacing",
        (_CORE_IMAGING_VOLUME, "if not all(math.isfinite(v) and 0.05 <= v <= 10 for v in spacing):", "if False:"),
    ),
    _of(33, "the ratio of the spacings", (_CORE_IMAGING_VOLUME, "if max(spacing) / min(spacing) > 4:", "if False:")),
    _of(
        33,
        "perpendicular unit vectors",
        (
            _CORE_IMAGING_VOLUME,
            "if not np.allclose(lengths, 1, atol=1e-3) or abs(float(row @ column)) > 1e-3:",
            "if False:",
        ),
    ),
    _of(
        33,
        "a position must be finite, in the header and in the volume",
        (_CORE_IMAGING_HEADERS, " and all(map(math.isfinite, numbers)) else None", " else None"),
        (_CORE_IMAGING_VOLUME, "if not np.isfinite(self.origins).all():", "if False:"),
    ),
    _of(
        33,
        "of duplicate positions the first stays",
        (
            _CORE_IMAGING_SERIES,
            "< SAME_POSITION_MM:  # type: ignore[arg-type]\n            continue",
            "< -1:  # type: ignore[arg-type]\n            continue",
        ),
    ),
    _of(33, "skewed orientations are two series", (_CORE_IMAGING_SERIES, "> SAME_ORIENTATION_COSINE:", "> 0.5:")),
    _of(34, "the range of the rescale slope", (_CORE_IMAGING_PIXELS, " and 1e-6 < abs(slope) < 1e6 else", " else")),
    _of(
        34,
        "a window that shows nothing is not used",
        (
            _CORE_DRAWING_SLICES,
            "if own_high > own_low and _shows_picture(plane, own_low, own_high, high - low):",
            "if True:",
        ),
    ),
    _of(35, "localisers", (_CORE_IMAGING_SELECTION, "if _is_localiser(series, slices, step, study):", "if False:")),
    _of(35, "the plane", (_CORE_IMAGING_SELECTION, 'if plane_of(first) != "sagittal":', "if False:")),
    _of(
        35,
        "the contrast",
        (
            _CORE_IMAGING_SELECTION,
            'return None if weighting.kind == "T2" else _contrast_text(weighting)',
            "return None",
        ),
    ),
    _of(35, "MR only", (_CORE_IMAGING_SELECTION, "    if not _is_mr_image(first):\n", "    if False:\n")),
    _of(
        35,
        "own results are not analysed",
        (_IMAGES_INCOMING, "is_own_result=is_own_result(header.dataset),", "is_own_result=False,"),
    ),
    _of(
        36,
        "names stay as bytes under the source's character set",
        (_RESULTS_ENVELOPE, "    terms = character_set(source)\n", "    terms: list[str] = []\n"),
    ),
    _of(
        36,
        "names are not decoded",
        (_RESULTS_ENVELOPE, "if isinstance(raw, RawDataElement) and isinstance(raw.value, bytes):", "if False:"),
    ),
    _of(37, "the page's templates escape", (_WEB_STATUS_PAGE, "autoescape=True,", "autoescape=False,")),
    _of(37, "the log's texts are printable", (_SYSTEM_LOG, 'c if c.isprintable() else "?" for c in', "c for c in")),
    _of(
        38,
        "an unreachable destination is tried again",
        (
            _DELIVERY_SENDING,
            "self._record(parcel, Answer(Outcome.RETRY, None, message))",
            "self._record(parcel, Answer(Outcome.FAILED, None, message))",
        ),
    ),
    _of(38, "its alert", (_DELIVERY_SENDING, "            self._alert_down(message)\n", "")),
    _of(39, "0xA7xx is tried again", (_DELIVERY_STORE_SCU, "if high == 0xA7:", "if False:")),
    _of(39, "0xBxxx is stored", (_DELIVERY_STORE_SCU, "if high >> 4 == 0xB:", "if False:")),
    _of(
        39,
        "0x0122 and others fail for good",
        (_DELIVERY_STORE_SCU, "0x0122: (Outcome.FAILED", "0x0122: (Outcome.RETRY"),
    ),
    _of(
        39,
        "0xCxxx fails for good",
        (
            _DELIVERY_STORE_SCU,
            '        return Outcome.FAILED, "the destination cannot understand',
            '        return Outcome.RETRY, "the destination cannot understand',
        ),
    ),
    _of(
        40,
        "no answer means again",
        (_DELIVERY_CHANNEL, "NO_ANSWER = Answer(Outcome.RETRY", "NO_ANSWER = Answer(Outcome.FAILED"),
    ),
    _of(
        41,
        "a SOP class that is not taken is an answer of its own",
        (
            _DELIVERY_STORE_SCU,
            "    except ValueError:\n        # No accepted",
            "    except ZeroDivisionError:\n        # No accepted",
        ),
    ),
    _of(
        42,
        "another transaction for each question",
        (
            _COMMITMENT_EVIDENCE,
            "str(generate_uid(prefix=None))",
            '"2.25." + parcels[0].sop_instance_uid[-9:].replace(".", "1")',
        ),
    ),
    _of(
        42,
        "an unanswered question is asked again",
        (_COMMITMENT_EVIDENCE, "OutboxRow.proof.in_(UNPROVEN)", 'OutboxRow.proof.in_(("wanted",))'),
    ),
    _of(
        42,
        "what is not kept is sent again",
        (_COMMITMENT_EVIDENCE, "        _lose(session, row, uid, why, rules)\n", "        pass\n"),
    ),
    _of(
        42,
        "only what was asked is answered",
        (
            _COMMITMENT_EVIDENCE,
            "if asked is None or asked.destination not in destinations:",
            "if asked is not None and asked.destination not in destinations:",
        ),
    ),
    _of(
        42,
        "only the one that was asked answers",
        (_COMMITMENT_EVIDENCE, "if asked is None or asked.destination not in destinations:", "if asked is None:"),
    ),
    _of(
        43,
        "peers must show a certificate",
        (_SYSTEM_TLS, "context.verify_mode = ssl.CERT_REQUIRED", "context.verify_mode = ssl.CERT_NONE"),
    ),
    _of(
        43,
        "TLS 1.2 at least, at the listener",
        (
            _SYSTEM_TLS,
            "CLIENT_AUTH)\n    context.minimum_version = ssl.TLSVersion.TLSv1_2",
            'CLIENT_AUTH)\n    context.minimum_version = ssl.TLSVersion.TLSv1\n    context.set_ciphers("ALL:@SECLEVEL=0")',
        ),
    ),
    _of(
        43,
        "TLS 1.2 at least, at a destination",
        (
            _SYSTEM_TLS,
            "authorities)\n    context.minimum_version = ssl.TLSVersion.TLSv1_2\n    return",
            "authorities)\n    context.minimum_version = ssl.TLSVersion.TLSv1\n"
            '    context.set_ciphers("ALL:@SECLEVEL=0")\n    return',
        ),
    ),
    _of(
        43,
        "a destination's certificate is verified",
        (
            _SYSTEM_TLS,
            "ssl.create_default_context(cafile=authorities)",
            "ssl.create_default_context(cafile=authorities)\n"
            "    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE",
        ),
    ),
    _of(
        43,
        "a destination's name is verified",
        (
            _SYSTEM_TLS,
            "ssl.create_default_context(cafile=authorities)",
            "ssl.create_default_context(cafile=authorities)\n    context.check_hostname = False",
        ),
    ),
    _of(
        43,
        "the handshake is not in the loop that accepts",
        (
            _RECEIVING_SERVER,
            "        return connection, address\n",
            "        if self._tls is not None:\n"
            "            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)\n"
            "            with contextlib.suppress(OSError):\n"
            "                connection.do_handshake()\n"
            "        return connection, address\n",
        ),
        (
            _RECEIVING_SERVER,
            "            request = self._tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)\n",
            "            pass\n",
        ),
    ),
    _of(
        43,
        "no last word, which would begin the handshake again",
        (_RECEIVING_SERVER, '            self._cut(connection)\n            return b""\n', '            return b""\n'),
    ),
    _of(
        44,
        "the look at the first PDU's type and length",
        (_RECEIVING_PDUS, " or head[0] != 0x01 or length > SMALLEST_PDU_CAP:", ":"),
    ),
    _of(
        45,
        "an unknown error is tried again",
        (
            _ANALYSIS_WORKER,
            "            outcome = Retry(describe(error))",
            "            outcome = Reject(describe(error))",
        ),
    ),
    _of(
        45,
        "attempts are counted",
        (
            _ANALYSIS_JOBS,
            '    if job.attempts >= max_attempts:\n        return _give_up(session, job, Event.EXHAUSTED, f"{why}',
            '    if False:\n        return _give_up(session, job, Event.EXHAUSTED, f"{why}',
        ),
    ),
    _of(
        45,
        "a message is not repeated",
        (_ANALYSIS_WORKER, "            outcome = Retry(describe(error))", "            outcome = Retry(repr(error))"),
    ),
    _of(
        46,
        "the digest of the weights",
        (_CORE_DETECTION_MODEL_PACKAGE, "    _check_digest(folder / WEIGHTS, weights, expected)\n", ""),
    ),
    _of(
        46,
        "weights must fit the network",
        (
            _CORE_DETECTION_MODEL_PACKAGE,
            "except (SafetensorError, RuntimeError, ConfigError) as error:",
            "except ZeroDivisionError as error:",
        ),
    ),
    _of(
        46,
        "the worker explains and exits",
        (_ANALYSIS_DETECTOR, "except (ModelPackageError, DeviceError) as error:", "except DeviceError as error:"),
    ),
    _of(
        47,
        "values must be finite",
        (_CORE_DETECTION_VIEWS, "if not torch.isfinite(probability).all() or (offsets", "if False and (offsets"),
    ),
    _of(
        47,
        "levels must be in order",
        (
            _CORE_DETECTION_LEVELS,
            "return _accept(check_levels(ten, spacing_mm) or _as_found(ten, decoding), decoding)",
            "return _accept(Chain(tuple(ten), 0.0, 0.0), decoding)",
        ),
    ),
    _of(
        48,
        "timers run again when the clock was set back",
        (_PROCESSES_SCHEDULER, "if lead < before - _SET_BACK_S:", "if False:"),
    ),
    _of(
        48,
        "what lies too far ahead is due",
        (_DATABASE_TABLES, "or_(column <= now, column > now + timedelta(seconds=longest_s))", "column <= now"),
    ),
    _of(
        48,
        "the reclaimer's own clock",
        (_ANALYSIS_JOBS, "now = time.monotonic() if monotonic is None else monotonic", "now = utc_now().timestamp()"),
    ),
    _of(
        48, "a heartbeat renews the lease", (_ANALYSIS_JOBS, "if heartbeat != job.heartbeat:", "if heartbeat is None:")
    ),
    _of(48, "a time has a zone", (_DATABASE_TABLES, "if value.tzinfo is None:", "if False:")),
    _of(48, "times come back in UTC", (_DATABASE_TABLES, "value.replace(tzinfo=UTC)", "value")),
    _of(
        49,
        "an unknown key is an error",
        (
            _SETTINGS_TYPES,
            'model_config = ConfigDict(extra="forbid", frozen=True)',
            'model_config = ConfigDict(extra="ignore", frozen=True)',
        ),
    ),
    _of(
        49,
        "the range of a port",
        (_SETTINGS_TYPES, "Port = Annotated[int, Field(ge=1, le=65535)]", "Port = Annotated[int, Field()]"),
    ),
    _of(
        49,
        "the form of an AE title",
        (_SETTINGS_TYPES, "if not _AE_TITLE.fullmatch(value) or value != value.strip():", "if False:"),
    ),
    _of(49, "all errors at once", (_SETTINGS_READING, "for e in error.errors()]", "for e in error.errors()[:1]]")),
    _of(
        50,
        "an exception's message is not logged",
        (_SYSTEM_LOG, 'event["exception"] = describe(error)', 'event["exception"] = str(error)'),
    ),
    _of(
        50,
        "libraries that quote values are silent",
        (_SYSTEM_LOG, "        logging.getLogger(name).setLevel(logging.CRITICAL + 1)\n", "        pass\n"),
    ),
    _of(
        50,
        "nor one that a library gives as its message",
        (_SYSTEM_LOG, 'event["event"] = describe(record.msg)', 'event["event"] = str(record.msg)'),
    ),
    _of(50, "nor that of a thread", (_SYSTEM_LOG, "    threading.excepthook = _log_thread_exception\n", "")),
    _of(71, "the count of parts", (_CORE_IMAGING_EXTENT, "if self._extent.parts > self._most:", "if False:")),
    _of(71, "files are looked at before they are parsed", (_CORE_IMAGING_FILES, "        check_file(path)\n", "")),
    _of(
        71,
        "deflated data have parts in proportion",
        (_CORE_IMAGING_INFLATION, "return _ALWAYS_PARTS + deflated_size", "return 2**40"),
    ),
    _of(71, "inflating takes memory of the budget", (_CORE_IMAGING_INFLATION, "hold(2 * len(block))", "pass")),
    _of(72, "items count", (_CORE_IMAGING_EXTENT, "            extent.parts += _ITEM_PARTS\n", "")),
    _of(
        72,
        "values that are parsed later are walked over too",
        (_CORE_IMAGING_EXTENT, "if length >= 8 and (vr is None", "if False and (vr is None"),
    ),
    _of(72, "values of lists count", (_CORE_IMAGING_EXTENT, "if vr in _TEXT:", "if False:")),
    _of(72, "numbers of lists count", (_CORE_IMAGING_EXTENT, "elif vr in _NUMBER_BYTES:", "elif False:")),
    _of(72, "the depth", (_CORE_IMAGING_EXTENT, "if len(levels) // 2 > MOST_DEPTH:", "if False:")),
    _of(72, "the length of texts", (_CORE_IMAGING_EXTENT, "if vr in _SHORT_TEXT and", "if False and")),
    _of(
        72,
        "the length of lists of character sets",
        (_CORE_IMAGING_EXTENT, "if end - at > _LONGEST_CHARACTER_SET:", "if False:"),
    ),
    _of(72, "the time", (_CORE_IMAGING_EXTENT, "if time.thread_time() > self._deadline:", "if False:")),
    _of(
        73,
        "large sequences are left out",
        (_DICOM_HEADERS, "if extent.parts <= _FEW_PARTS or not extent.sequences:", "if True:"),
    ),
    _of(74, "a limit on what waits for an answer", (_COMMITMENT_PROMISES, "if waiting > LARGEST:", "if False:")),
    _of(75, "each peer's share", (_DICOM_BUDGET, "if _peer(a) == peer) + size > self._share:", "if False) > size:")),
    _of(75, "who has gone holds nothing", (_DICOM_BUDGET, "if a is association or a.is_alive()}", "}")),
    _of(
        76,
        "a message has one context",
        (_DICOM_BOUNDED_DIMSE, "return self._context in (None, context)", "return True"),
    ),
    _of(
        76,
        "the parts of a PDU",
        (_RECEIVING_PDUS, "if self._kind and has_too_many_items(self._kind, received):", "if False:"),
        (_DICOM_BOUNDED_DIMSE, " or len(fragments) > _MOST_FRAGMENTS:", ":"),
    ),
    _of(76, "the items of a request", (_RECEIVING_PDUS, " or has_too_many_items(head[0], body):", ":")),
    _of(77, "the size of a series", (_CORE_IMAGING_SERIES, "if slices * rows * columns > MOST_VOXELS:", "if False:")),
    _of(
        77, "frames one by one", (_CORE_IMAGING_PIXELS, "index=number, decoding_plugin", "index=None, decoding_plugin")
    ),
    _of(
        78,
        "one child at a time",
        (
            _CORE_IMAGING_CHILDREN,
            "if not _places.acquire(timeout=timeout_s):",
            "if not _places.acquire(blocking=False) and False:",
        ),
    ),
    _of(79, "the alarm", (_ANALYSIS_TIME_LIMIT, "            self._start(self.seconds)\n", "")),
    _of(
        79,
        "no handler of errors stops it",
        (_ANALYSIS_TIME_LIMIT, "class TimeIsUp(BaseException)", "class TimeIsUp(Exception)"),
    ),
    _of(
        80,
        "the limit of the quarantine",
        (_IMAGES_QUARANTINE, "if self._sum + max(size, _BLOCK) > self._most:", "if False:"),
    ),
    _of(
        80,
        "what claims to be our result is counted",
        (_IMAGES_STORE, "    return count, size or 0\n", "    return 0, 0\n"),
    ),
)

# Faults against which the protection is a library's or the system's; the row's tests hold it all the same.
NOT_OURS: dict[int, str] = {
    6: "a store request reaches the node when it is whole: pynetdicom hands over complete messages only, and closes the "
    "connection where a PDU ends early. The node writes nothing before that.",
}
