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


_SYSTEM_HTTP_SESSION = "dicom_node/system/http_session.py"
_DELIVERY_STOW_SENDER = "dicom_node/delivery/stow_sender.py"
_RESULTS_DIAGNOSTIC_REPORT = "dicom_node/results/diagnostic_report.py"
_ANALYSIS_ANALYSE = "dicom_node/analysis/analyse.py"
_ALERTS_CAUSES = "dicom_node/alerts/causes.py"
_ANALYSIS_COMPLETION = "dicom_node/analysis/completion.py"
_ANALYSIS_DETECTOR = "dicom_node/analysis/detector.py"
_ANALYSIS_JOBS = "dicom_node/analysis/jobs.py"
_ANALYSIS_LEASE = "dicom_node/analysis/lease.py"
_ANALYSIS_OFFLINE = "dicom_node/analysis/offline.py"
_ANALYSIS_PATIENT = "dicom_node/analysis/patient.py"
_ANALYSIS_PRODUCTS = "dicom_node/analysis/products.py"
_ANALYSIS_RELEASE = "dicom_node/analysis/release.py"
_ANALYSIS_STORING = "dicom_node/analysis/storing.py"
_ANALYSIS_STUDY_RULES = "dicom_node/analysis/study_rules.py"
_ANALYSIS_WAITING = "dicom_node/analysis/waiting.py"
_ANALYSIS_WORKER = "dicom_node/analysis/worker.py"
_CLI_APP = "dicom_node/cli/app.py"
_CLI_TABLES = "dicom_node/cli/tables.py"
_COMMITMENT_EVIDENCE = "dicom_node/commitment/evidence.py"
_COMMITMENT_PROMISES = "dicom_node/commitment/promises.py"
_CORE_DETECTION_LEVELS = "spineone_core/detection/levels.py"
_CORE_DETECTION_MODEL_PACKAGE = "spineone_core/detection/model_package.py"
_CORE_DETECTION_VIEWS = "spineone_core/detection/views.py"
_CORE_DRAWING_SLICES = "spineone_core/drawing/slices.py"
_CORE_IMAGING_ACQUISITIONS = "spineone_core/imaging/acquisitions.py"
_CORE_IMAGING_FILES = "spineone_core/imaging/files.py"
_ANALYSIS_TIME_LIMIT = "dicom_node/analysis/time_limit.py"
_COMMITMENT_PROMISES = "dicom_node/commitment/promises.py"
_CORE_IMAGING_CHILDREN = "spineone_core/imaging/children.py"
_CORE_IMAGING_EXTENT = "spineone_core/imaging/extent.py"
_CORE_IMAGING_INFLATION = "spineone_core/imaging/inflation.py"
_DICOM_BUDGET = "dicom_node/dicom/budget.py"
_IMAGES_QUARANTINE = "dicom_node/images/quarantine.py"
_CORE_IMAGING_HEADERS = "spineone_core/imaging/headers.py"
_CORE_IMAGING_JUDGEMENT = "spineone_core/imaging/judgement.py"
_CORE_IMAGING_ISOLATION = "spineone_core/imaging/isolation.py"
_CORE_IMAGING_KINDS = "spineone_core/imaging/kinds.py"
_CORE_IMAGING_PIXELS = "spineone_core/imaging/pixels.py"
_CORE_IMAGING_SERIES = "spineone_core/imaging/series.py"
_CORE_IMAGING_VOLUME = "spineone_core/imaging/volume.py"
_DATABASE_CONNECTION = "dicom_node/database/connection.py"
_DATABASE_MIGRATIONS = "dicom_node/database/migrations/__init__.py"
_DATABASE_BASE = "dicom_node/database/base.py"
_DATABASE_TABLES = "dicom_node/database/tables.py"
_DELIVERY_CHANNEL = "dicom_node/delivery/channel.py"
_DELIVERY_DELIVERER = "dicom_node/delivery/deliverer.py"
_DELIVERY_SENDING = "dicom_node/delivery/sending.py"
_DELIVERY_STORE_SCU = "dicom_node/delivery/store_scu.py"
_DICOM_BOUNDED_DIMSE = "dicom_node/dicom/bounded_dimse.py"
_DICOM_HEADERS = "dicom_node/dicom/headers.py"
_DICOM_IDENTIFIERS = "dicom_node/dicom/identifiers.py"
_DICOM_PYNETDICOM_SETUP = "dicom_node/dicom/pynetdicom_setup.py"
_HEALTH_CLOCK_WATCH = "dicom_node/health/clock_watch.py"
_HEALTH_DATABASE_WATCH = "dicom_node/health/database_watch.py"
_HEALTH_READINESS = "dicom_node/health/readiness.py"
_IMAGES_INCOMING = "dicom_node/images/incoming.py"
_IMAGES_PATIENTS = "dicom_node/images/patients.py"
_IMAGES_RECONCILE = "dicom_node/images/reconcile.py"
_IMAGES_STORE = "dicom_node/images/store.py"
_IMAGES_STUDIES = "dicom_node/images/studies.py"
_PROCESSES_SCHEDULER = "dicom_node/processes/scheduler.py"
_PROCESSES_SUPERVISOR = "dicom_node/processes/supervisor.py"
_RECEIVING_ADMISSION = "dicom_node/receiving/admission.py"
_RECEIVING_ANTEROOM = "dicom_node/receiving/anteroom.py"
_PROCESSES_ROLES = "dicom_node/processes/roles.py"
_RECEIVING_LISTENER = "dicom_node/receiving/listener.py"
_RECEIVING_PDUS = "dicom_node/receiving/pdus.py"
_RECEIVING_SERVER = "dicom_node/receiving/server.py"
_RECEIVING_TALLY = "dicom_node/receiving/tally.py"
_RESULTS_ENVELOPE = "dicom_node/results/envelope.py"
_RESULTS_REPORT = "dicom_node/results/report.py"
_SETTINGS_ENVIRONMENT = "dicom_node/settings/environment.py"
_SETTINGS_READING = "dicom_node/settings/reading.py"
_SETTINGS_TYPES = "dicom_node/settings/types.py"
_SYSTEM_CROWD = "dicom_node/system/crowd.py"
_SYSTEM_DESCRIPTORS = "dicom_node/system/descriptors.py"
_SYSTEM_CLOCK = "dicom_node/system/clock.py"
_SYSTEM_DISK = "dicom_node/system/disk.py"
_SYSTEM_FILES = "dicom_node/system/files.py"
_SYSTEM_LIFECYCLE = "dicom_node/system/lifecycle.py"
_SYSTEM_LOG = "dicom_node/system/log.py"
_SYSTEM_TLS = "dicom_node/system/tls.py"
_UPKEEP_BACKUP = "dicom_node/upkeep/backup.py"
_UPKEEP_DEIDENTIFY = "dicom_node/upkeep/deidentify.py"
_UPKEEP_TRACES = "dicom_node/upkeep/traces.py"
_WEB_APP = "dicom_node/web/app.py"
_WEB_CONNECTIONS = "dicom_node/web/connections.py"
_WEB_REQUEST_GUARD = "dicom_node/web/request_guard.py"
_WEB_SERVER = "dicom_node/web/server.py"
_WEB_STOW_APP = "dicom_node/web/stow_app.py"
_DICOMWEB_READER = "dicom_node/dicomweb/multipart_reader.py"
_DICOMWEB_ANSWER = "dicom_node/dicomweb/store_answer.py"
_DICOMWEB_QIDO = "dicom_node/dicomweb/qido.py"
_DICOMWEB_WADO = "dicom_node/dicomweb/wado.py"
_RECEIVING_WEB_PULL = "dicom_node/receiving/web_pull.py"
_RECEIVING_PARTS = "dicom_node/receiving/parts.py"
_RECEIVING_TOKENS = "dicom_node/receiving/tokens.py"
_RECEIVING_VISITS = "dicom_node/receiving/visits.py"
_UPKEEP_RETENTION = "dicom_node/upkeep/retention.py"
_DEPLOY_INSTALL = "deploy/install.sh"
_DEPLOY_ROUTE = "deploy/orthanc/route.py"
_UPKEEP_QUARANTINED = "dicom_node/upkeep/quarantined.py"
_WEB_STATUS_PAGE = "dicom_node/web/status_page.py"

PROTECTIONS: tuple[Protection, ...] = (
    _of(1, "the cap on the first PDU", (_RECEIVING_PDUS, " or length > SMALLEST_PDU_CAP):", "):")),
    _of(1, "the cap on every later PDU", (_RECEIVING_PDUS, "if nr_bytes > self.pdu_cap:", "if False:")),
    _of(
        2,
        "the deadline of the first PDU",
        (_RECEIVING_ANTEROOM, "if guest.deadline > now:", "if guest.deadline > 0:"),
    ),
    _of(
        2,
        "the deadline of every later PDU",
        (_RECEIVING_PDUS, "remaining = deadline - time.monotonic()", "remaining = 3600.0"),
    ),
    _of(
        3,
        "one deadline for the whole first PDU: each byte has its own",
        (
            _RECEIVING_ANTEROOM,
            "                guest.request += block\n",
            "                guest.request += block\n                guest.deadline = time.monotonic() + self._timeout_s\n",
        ),
    ),
    _of(
        3,
        "one deadline for the whole of a later PDU: each byte has its own",
        (_RECEIVING_PDUS, "        connection.settimeout(remaining)\n", "        connection.settimeout(2)\n"),
        (_RECEIVING_PDUS, "remaining = deadline - time.monotonic()", "remaining = 2.0"),
    ),
    _of(
        4,
        "silent sockets do not count as associations",
        (
            _RECEIVING_SERVER,
            "if len(self._slots) >= self._most",
            "if len(self._slots) + len(self._anteroom._guests) >= self._most",
        ),
    ),
    _of(
        4,
        "the oldest silent socket makes room",
        (_SYSTEM_CROWD, "return self.first_to_leave() if len(self._members) >= self._most else None", "return None"),
    ),
    _of(
        5,
        "the look at the first PDU's type and length",
        (_RECEIVING_PDUS, "if request and (request[0] != 0x01 or length > SMALLEST_PDU_CAP):", "if False:"),
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
            "                raise_alert(session, AlertKind.REFUSED, subject, detail, times=count.times, at=count.at)\n",
            "                pass\n",
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
        (_IMAGES_STORE, "if current is not None and is_current and self._is_in_place(current):", "if False:"),
    ),
    _of(
        14,
        "other pixels are a conflict",
        (_IMAGES_STORE, "if not self._same_pixels(current, header, meta, incoming):", "if False:"),
    ),
    _of(
        14, "a new version becomes the current one", (_IMAGES_STORE, "is_current=True,", "is_current=current is None,")
    ),
    _of(15, "a contradiction puts the study aside", (_ANALYSIS_PATIENT, "    if apart:\n", "    if False:\n")),
    _of(
        15,
        "every two identities are compared",
        (_ANALYSIS_PATIENT, "combinations(counts, 2)", "zip(list(counts), list(counts)[1:], strict=False)"),
    ),
    _of(
        15,
        "another Patient ID parts",
        (_IMAGES_PATIENTS, "return False if issuers[0] == issuers[1] else None", "return None"),
    ),
    _of(
        15,
        "another birth date parts",
        (_IMAGES_PATIENTS, '"birth date": _same(self.birth_date, other.birth_date),', '"birth date": None,'),
    ),
    _of(15, "another sex parts", (_IMAGES_PATIENTS, '"sex": _same(self.sex, other.sex),', '"sex": None,')),
    _of(
        15,
        "another name parts those who share no id",
        (_IMAGES_PATIENTS, "Relation.SPELLING if akin else Relation.CONTRADICTION", "Relation.SPELLING"),
    ),
    _of(
        15,
        "series that might have been read decide too",
        (_ANALYSIS_ANALYSE, "deciding = (stack | candidates) or", "deciding = stack or"),
    ),
    _of(
        15,
        "a release leaves the other patient's images out",
        (_ANALYSIS_RELEASE, "if uid in confirmed or _belongs(now[uid], now[named], released)]", "]"),
    ),
    _of(
        15,
        "a corrected image of a released study is still looked at",
        (
            _ANALYSIS_RELEASE,
            "if uid in confirmed or _belongs(now[uid], now[named], released)]",
            "if _belongs(now[uid], now[named], released)]",
        ),
    ),
    _of(
        15,
        "the gate compares an object with its source",
        (
            _ANALYSIS_PRODUCTS,
            "check.check_with_source(dataset, Source(material.patient, material.images))",
            "check.check(dataset)",
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
    _of(
        16,
        "a report names the one before",
        (_ANALYSIS_WORKER, "history=self._replaced_reports,", "history=lambda study_uid: {},"),
    ),
    _of(
        16,
        "a result is known by what it uses",
        (
            _ANALYSIS_ANALYSE,
            "contents = contents_of(volume, headers.of)",
            "contents = tuple((i.sop_instance_uid, i.sha256) for i in looked_at)",
        ),
    ),
    _of(
        16,
        "results of earlier releases are known again",
        (_ANALYSIS_STORING, "    recognise(session, reading)\n", ""),
    ),
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
    _of(18, "inodes are counted", (_SYSTEM_DISK, "self.names < FEWEST_NAMES", "False")),
    _of(
        18,
        "the alert when an association is refused",
        (
            _RECEIVING_ADMISSION,
            "        if any(count.why == Refusal.DISK_RESERVE.words for count in counts):\n",
            "        if False:\n",
        ),
    ),
    _of(
        18,
        "the alert before anybody is refused",
        (_RECEIVING_LISTENER, "    elif not is_open and not has_room:\n", "    elif False:\n"),
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
        20,
        "the supervisor gives the job of a dead worker back",
        (_PROCESSES_SUPERVISOR, "        if child.is_worker:\n", "        if False:\n"),
    ),
    _of(
        20, "the lease of a silent worker ends", (_ANALYSIS_JOBS, "return now - since >= self._lease_s", "return False")
    ),
    _of(
        20,
        "an attempt's time is the job's",
        (_ANALYSIS_WORKER, "when = claim.created_at", "when = utc_now()"),
    ),
    _of(
        20,
        "files of an earlier attempt are kept",
        (_ANALYSIS_STORING, "    if not path.exists():\n", "    if True:\n"),
    ),
    _of(20, "the job's time is in the UIDs", (_DICOM_IDENTIFIERS, '                "created": self.created,\n', "")),
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
        "pictures at one position that nothing tells apart are no stack",
        (_CORE_IMAGING_ACQUISITIONS, "return [Volume(slices, NOTHING_TELLS_APART, ", "return [Volume(slices[:1], '', "),
    ),
    _of(
        33,
        "copies of a slice have its picture",
        (_CORE_IMAGING_SERIES, "    _check_copies(series, frames, voxels, isolate)\n", ""),
    ),
    _of(33, "skewed orientations are two series", (_CORE_IMAGING_KINDS, "> SAME_ORIENTATION_COSINE)", "> 0.5)")),
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
    _of(35, "localisers", (_CORE_IMAGING_JUDGEMENT, "if _is_localiser(series, slices, step, study):", "if False:")),
    _of(35, "the plane", (_CORE_IMAGING_JUDGEMENT, 'if plane_of(first) != "sagittal":', "if False:")),
    _of(
        35,
        "the contrast",
        (
            _CORE_IMAGING_JUDGEMENT,
            'return None if weighting.kind == "T2" else _contrast_text(weighting)',
            "return None",
        ),
    ),
    _of(35, "MR only", (_CORE_IMAGING_JUDGEMENT, "    if not is_mr_image(first):\n", "    if False:\n")),
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
        (_DELIVERY_STORE_SCU, "NOT_SUPPORTED: (Outcome.FAILED", "NOT_SUPPORTED: (Outcome.RETRY"),
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
            "authorities)\n    context.minimum_version = ssl.TLSVersion.TLSv1_2\n    if certificate",
            "authorities)\n    context.minimum_version = ssl.TLSVersion.TLSv1\n"
            '    context.set_ciphers("ALL:@SECLEVEL=0")\n    if certificate',
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
        "nothing in the anteroom waits for one peer",
        (_RECEIVING_ANTEROOM, "connection.setblocking(False)", "connection.settimeout(self._timeout_s)"),
    ),
    _of(
        43,
        "one deadline for the whole handshake",
        (_RECEIVING_ANTEROOM, "if guest.deadline > now:", "if guest.deadline > 0:"),
    ),
    _of(
        44,
        "the look at the first PDU's type and length",
        (_RECEIVING_PDUS, "if request and (request[0] != 0x01 or length > SMALLEST_PDU_CAP):", "if False:"),
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
            "return _accept(check_levels(ten, spacing_mm), decoding)",
            "return _accept(Chain(tuple(ten), 0.0, 0.0), decoding)",
        ),
    ),
    _of(
        48,
        "after a jump the time goes on from before it",
        (_SYSTEM_CLOCK, "            lead_s = anchor.lead_s\n", "            pass\n"),
    ),
    _of(
        48,
        "small steps are followed",
        (_SYSTEM_CLOCK, "            self._anchor = Anchor(lead_s)\n", "            pass\n"),
    ),
    _of(
        48,
        "a suspended machine's time counts",
        (_SYSTEM_CLOCK, 'getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)', "time.CLOCK_PROCESS_CPUTIME_ID"),
    ),
    _of(
        48,
        "what a machine's clock says at its start is compared with the last time that is recorded",
        (_HEALTH_CLOCK_WATCH, "max(record.last_at, newest if", "max(0.0, newest if"),
        (_HEALTH_CLOCK_WATCH, "is_late = record.last_at > 0 and", "is_late = False and"),
    ),
    _of(
        48,
        "and with the newest row",
        (_HEALTH_CLOCK_WATCH, "newest if newest > record.rows_until else 0.0", "0.0"),
    ),
    _of(
        48,
        "what was known before a restart of the process is known after it",
        (_HEALTH_CLOCK_WATCH, "clock.set(known or _first_anchor(record, database))", "clock.set(Anchor(lead()))"),
    ),
    _of(
        48,
        "an acknowledgement is a person's word for every process",
        (_HEALTH_CLOCK_WATCH, "known.is_sure and known.fits(lead())", "False"),
    ),
    _of(
        48,
        "timers that date, send or delete wait",
        (_PROCESSES_SCHEDULER, "if not (self.needs_time and clock.fault()):", "if True:"),
    ),
    _of(48, "workers wait", (_ANALYSIS_WORKER, "if clock.fault() or unwritable", "if unwritable")),
    _of(48, "delivery waits", (_DELIVERY_DELIVERER, "        if clock.fault():\n            return\n", "")),
    _of(48, "retention waits", (_UPKEEP_RETENTION, "if fault := clock.fault():", 'if fault := "":')),
    _of(
        48,
        "associations' time-outs go by the monotonic clock",
        (_DICOM_PYNETDICOM_SETUP, "    dul.Timer = MonotonicTimer\n", ""),
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
    _of(48, "a time has a zone", (_DATABASE_BASE, "if value.tzinfo is None:", "if False:")),
    _of(48, "times come back in UTC", (_DATABASE_BASE, "value.replace(tzinfo=UTC)", "value")),
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
    _of(49, "all errors at once", (_SETTINGS_READING, "found = error.errors()\n", "found = error.errors()[:1]\n")),
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
    _of(
        51,
        "no write into a lost database file",
        (_DATABASE_CONNECTION, "if self._file is not None and not even_if_lost:", "if False:"),
    ),
    _of(
        51,
        "no connection to what stands in its place",
        (_DATABASE_CONNECTION, '        event.listen(engine, "do_connect", lambda *_: file.check())\n', ""),
    ),
    _of(
        51,
        "its alert",
        (_HEALTH_DATABASE_WATCH, "            elif open_alert(", "            elif False and open_alert("),
    ),
    _of(
        52,
        "a turn that takes too long is noticed",
        (
            _PROCESSES_SCHEDULER,
            "return time.monotonic() - self.done_at > self.every_s + self.longest_s",
            "return False",
        ),
    ),
    _of(
        52,
        "its alert makes the node not ready",
        (_HEALTH_READINESS, "if alert.kind == AlertKind.TIMER_STUCK]", "if False]"),
    ),
    _of(
        53,
        "what a destination does not have yet keeps the images",
        (_UPKEEP_RETENTION, "        if behind:\n", "        if False:\n"),
    ),
    _of(
        54,
        "a refusal is over after a quiet day, no sooner",
        (_ALERTS_CAUSES, "return alert.last_at < utc_now() - QUIET_AFTER_REFUSAL", "return True"),
    ),
    _of(
        54,
        "an object that is in quarantine is not dealt with",
        (_ALERTS_CAUSES, "not (self._quarantine / kept[1]).exists()", "True"),
    ),
    _of(
        54,
        "a quarantine that cannot be seen is no evidence",
        (_ALERTS_CAUSES, "self._quarantine.is_dir() and", "True and"),
    ),
    _of(
        54,
        "a study at its limit stays an alert",
        (_ALERTS_CAUSES, "return study.stored_images < self._study.max_images and", "return True or"),
    ),
    _of(
        54,
        "only the caller that was refused ends its alert",
        (_RECEIVING_ADMISSION, "alert.subject in subjects and alert.detail.startswith(_calling(calling_ae))", "True"),
    ),
    _of(
        54,
        "a refusal after it got a place counts",
        (_RECEIVING_ADMISSION, "at >= alert.last_at and _is_about", "_is_about"),
    ),
    _of(
        54,
        "an answer ends the alert about unanswered ones",
        (_COMMITMENT_PROMISES, "    close_alert(session, AlertKind.COMMITMENT_UNANSWERED, promise.calling_ae)\n", ""),
    ),
    _of(
        61,
        "refusals are counted, and written by one writer",
        (
            _RECEIVING_ADMISSION,
            "        self._tally.note(Count(_REFUSED, refusal.words, caller.address, caller.calling_ae, caller.called_ae))\n",
            "        self.report([Count(_REFUSED, refusal.words, caller.address, caller.calling_ae, caller.called_ae)])\n",
        ),
    ),
    _of(61, "the pause between two reports", (_RECEIVING_TALLY, "            self._stop.wait(self._every_s)\n", "")),
    _of(
        61,
        "the most addresses that are told apart",
        (_RECEIVING_TALLY, "if key not in self._seen and len(self._seen) >= self._most:", "if False:"),
    ),
    _of(
        61,
        "a refusal that could not be written is counted on",
        (_RECEIVING_ADMISSION, "replace(count, times=count.times + before.times) if before else count", "count"),
    ),
    _of(
        62,
        "the address with most connections makes room",
        (
            _SYSTEM_CROWD,
            "        (largest, _), *_ = self._counts.most_common(1)\n        return self._oldest_of(largest)\n",
            "        return next(iter(self._members))\n",
        ),
    ),
    _of(62, "an IPv6 network is one address", (_SYSTEM_CROWD, "if ip.version == 4:", "if True:")),
    _of(
        63,
        "the certificate of an AE title",
        (
            _RECEIVING_ADMISSION,
            "if not self._peers.shows_certificate_of(caller.calling_ae, caller.certificate):",
            "if False:",
        ),
    ),
    _of(
        64,
        "a silent connection makes room for a descriptor",
        (_RECEIVING_SERVER, "                self._anteroom.make_room()\n", ""),
    ),
    _of(
        64,
        "the shortage is said once a minute",
        (_SYSTEM_DESCRIPTORS, "if time.monotonic() - self._said_at >= SAY_AGAIN_S:", "if True:"),
    ),
    _of(
        64,
        "silent connections to the web port make room",
        (_WEB_CONNECTIONS, "                self._end_first()\n", "                pass\n"),
    ),
    _of(
        64,
        "asyncio does not log the shortage itself",
        (_WEB_SERVER, "    asyncio.get_running_loop().set_exception_handler(lobby.on_loop_error)\n", ""),
    ),
    _of(
        65,
        "the deadline of a head",
        (_WEB_CONNECTIONS, "            self.loop.call_later(HEAD_WITHIN_S, self.end),\n", ""),
    ),
    _of(
        65,
        "few connections without a head",
        (_WEB_CONNECTIONS, "            self.loop.call_later(_GRACE_S, self._lobby.enter, self, address),\n", ""),
    ),
    _of(
        65,
        "the deadline of an answer",
        (
            _WEB_CONNECTIONS,
            "self._set_timers(self.loop.call_later(self._answer_within_s or ANSWER_WITHIN_S, self.end))",
            "self._set_timers()",
        ),
    ),
    _of(
        66,
        "health needs no place",
        (_WEB_REQUEST_GUARD, 'if scope["path"] != HEALTH and self._running', "if self._running"),
    ),
    _of(
        66,
        "readiness has places of its own",
        (
            _WEB_REQUEST_GUARD,
            'self._running[scope["path"] == READINESS] >= self._most',
            "self._running[False] >= self._most",
        ),
    ),
    _of(
        66,
        "readiness has threads of its own",
        (_WEB_APP, "_in_thread(readiness, for_readiness)", "_in_thread(readiness, for_pages)"),
    ),
    _of(
        66,
        "the most requests at once",
        (_WEB_REQUEST_GUARD, 'self._running[scope["path"] == READINESS] >= self._most', "False"),
    ),
    _of(67, "the name in the Host header", (_WEB_REQUEST_GUARD, "if not self._is_ours(name):", "if False:")),
    _of(
        68,
        "a request has one length",
        (_WEB_REQUEST_GUARD, 'if "content-length" in headers and "transfer-encoding" in headers:', "if False:"),
    ),
    _of(
        68,
        "the connection ends after a request with two lengths",
        (_WEB_REQUEST_GUARD, ', 400, {"Connection": "close"})', ", 400)"),
    ),
    _of(
        69,
        "the bytes of all requests",
        (_RECEIVING_ANTEROOM, "if sum(held.values()) > _MOST_BYTES else None", "if False else None"),
    ),
    _of(
        71,
        "the end of a header",
        (_DICOM_HEADERS, "    if layout.is_cut(stopped,", "    if False and layout.is_cut(stopped,"),
    ),
    _of(
        71,
        "an element twice must say the same",
        (_DICOM_HEADERS, "    if layout.contradicts_itself(", "    if False and layout.contradicts_itself("),
    ),
    _of(
        71,
        "what stands behind the pixels, when it is received",
        (_DICOM_HEADERS, "        _add_trailing(dataset, stream, implicit=implicit, little=little)\n", ""),
    ),
    _of(
        71,
        "what stands behind the pixels, when it is analysed",
        (
            _CORE_IMAGING_FILES,
            "        dataset.update(trailing_elements(file, implicit=bool(implicit), little=little is not False))\n",
            "",
        ),
    ),
    _of(
        71,
        "class and modality from the file meta",
        (
            _CORE_IMAGING_FILES,
            '    complete(dataset, str(dataset.file_meta.get("MediaStorageSOPClassUID") or ""))\n',
            "",
        ),
    ),
    _of(
        72,
        "a name that is too long is cut",
        (_RESULTS_ENVELOPE, "    if name := _cut_name(source):\n        target.PatientName = name\n", ""),
    ),
    _of(72, "the accession number in the content", (_RESULTS_REPORT, "    items.extend(context)\n", "")),
    _of(
        72,
        "an alert",
        (_ANALYSIS_WORKER, "        if analysis.departures:\n", "        if False:\n"),
    ),
    _of(
        73,
        "the look at the patient before anything is made",
        (_ANALYSIS_ANALYSE, "    if why := unwritable(header):\n", "    if (why := unwritable(header)) and False:\n"),
    ),
    _of(
        74,
        "an error ends one study only",
        (
            _ANALYSIS_OFFLINE,
            "    except Exception as error:  # one study must not end the batch\n",
            "    except ZeroDivisionError as error:\n",
        ),
    ),
    _of(
        75,
        "coded attributes keep known terms",
        (_UPKEEP_DEIDENTIFY, "        elif element.keyword in CLOSED:\n", "        elif False:\n"),
    ),
    _of(75, "accents and case", (_UPKEEP_TRACES, 'unicodedata.normalize("NFKD", text.casefold()', "(text.lower()")),
    _of(
        75,
        "umlauts as two letters",
        (_UPKEEP_TRACES, '_TWO_LETTERS = re.compile(r"([aou])e")', '_TWO_LETTERS = re.compile(r"(a)ae")'),
    ),
    _of(
        75,
        "joined names",
        (
            _UPKEEP_TRACES,
            "for pair, keyword in self._pairs.items() if pair in whole",
            "for pair, keyword in self._pairs.items() if False",
        ),
    ),
    _of(75, "days in several writings", (_UPKEEP_TRACES, "for day in _days_in(folded(text))", "for day in ()")),
    _of(75, "digits of an identifier", (_UPKEEP_TRACES, "if len(n) > _SHORTEST_NUMBER and n in digits", "if False")),
    _of(
        75,
        "numbers",
        (_UPKEEP_TRACES, "element.VR if element.VR in _NUMBER_VR else", "element.VR if False else"),
    ),
    _of(
        76,
        "a variable that names no setting",
        (_SETTINGS_READING, "    problems = problems_of(os.environ, NodeSettings)\n", "    problems: list[str] = []\n"),
    ),
    _of(
        76,
        "broken JSON",
        (
            _SETTINGS_ENVIRONMENT,
            "    except ValueError:\n        return False\n",
            "    except ValueError:\n        return True\n",
        ),
    ),
    _of(
        76,
        "no truth value for a number",
        (_SETTINGS_TYPES, "if isinstance(value, bool) and kind is not bool", "if False and kind is not bool"),
    ),
    _of(
        77,
        "the look at where a backup's settings lead",
        (_UPKEEP_BACKUP, "not place.resolve().is_relative_to(inside)", "False"),
    ),
    _of(
        78,
        "values are made printable",
        (_CLI_TABLES, "    return printable(value, _LONGEST)\n", "    return str(value)\n"),
    ),
    _of(78, "so are errors", (_CLI_APP, "{printable(line, 10_000)}", "{line}")),
    _of(
        79,
        "damage that shows when a command reads",
        (_CLI_APP, "(SQLAlchemyError, UnicodeDecodeError)", "ZeroDivisionError"),
    ),
    _of(
        80,
        "only what has the form of a UID is shown",
        (_DICOM_HEADERS, 'return str(value) if is_valid_uid(value) else "(malformed UID)"', "return str(value)"),
    ),
    _of(81, "the count of parts", (_CORE_IMAGING_EXTENT, "if self._extent.parts > self._most:", "if False:")),
    _of(81, "files are looked at before they are parsed", (_CORE_IMAGING_FILES, "        check_file(path)\n", "")),
    _of(
        81,
        "deflated data have parts in proportion",
        (_CORE_IMAGING_INFLATION, "return _ALWAYS_PARTS + deflated_size", "return 2**40"),
    ),
    _of(81, "inflating takes memory of the budget", (_CORE_IMAGING_INFLATION, "hold(2 * len(block))", "pass")),
    _of(82, "items count", (_CORE_IMAGING_EXTENT, "            extent.parts += _ITEM_PARTS\n", "")),
    _of(
        82,
        "values that are parsed later are walked over too",
        (_CORE_IMAGING_EXTENT, "if length >= 8 and (vr is None", "if False and (vr is None"),
    ),
    _of(82, "values of lists count", (_CORE_IMAGING_EXTENT, "if vr in _TEXT:", "if False:")),
    _of(82, "numbers of lists count", (_CORE_IMAGING_EXTENT, "elif vr in _NUMBER_BYTES:", "elif False:")),
    _of(82, "the depth", (_CORE_IMAGING_EXTENT, "if len(levels) // 2 > MOST_DEPTH:", "if False:")),
    _of(82, "the length of texts", (_CORE_IMAGING_EXTENT, "if vr in _SHORT_TEXT and", "if False and")),
    _of(
        82,
        "the length of lists of character sets",
        (_CORE_IMAGING_EXTENT, "if end - at > _LONGEST_CHARACTER_SET:", "if False:"),
    ),
    _of(82, "the time", (_CORE_IMAGING_EXTENT, "if time.thread_time() > self._deadline:", "if False:")),
    _of(
        83,
        "large sequences are left out",
        (_DICOM_HEADERS, "if extent.parts <= _FEW_PARTS or not extent.sequences:", "if True:"),
    ),
    _of(84, "a limit on what waits for an answer", (_COMMITMENT_PROMISES, "if waiting > LARGEST:", "if False:")),
    _of(85, "each peer's share", (_DICOM_BUDGET, "if _peer(a) == peer) + size > self._share:", "if False) > size:")),
    _of(85, "who has gone holds nothing", (_DICOM_BUDGET, "if a is association or a.is_alive()}", "}")),
    _of(
        86,
        "a message has one context",
        (_DICOM_BOUNDED_DIMSE, "return self._context in (None, context)", "return True"),
    ),
    _of(
        86,
        "the parts of a PDU",
        (_RECEIVING_PDUS, "if self._kind and has_too_many_items(self._kind, received):", "if False:"),
        (_DICOM_BOUNDED_DIMSE, " or len(fragments) > _MOST_FRAGMENTS:", ":"),
    ),
    _of(86, "the items of a request", (_RECEIVING_PDUS, " or has_too_many_items(request[0], request[6:]):", ":")),
    _of(87, "the size of a series", (_CORE_IMAGING_SERIES, "if slices * rows * columns > MOST_VOXELS:", "if False:")),
    _of(
        87, "frames one by one", (_CORE_IMAGING_PIXELS, "index=number, decoding_plugin", "index=None, decoding_plugin")
    ),
    _of(
        88,
        "one child at a time",
        (
            _CORE_IMAGING_CHILDREN,
            "if not _place.acquire(timeout=timeout_s):",
            "if not _place.acquire(blocking=False) and False:",
        ),
    ),
    _of(
        88,
        "one place for several processes",
        (_CORE_IMAGING_CHILDREN, "            _lock(file.fileno(), deadline)\n", ""),
    ),
    _of(88, "the child of a killed process keeps it", (_CORE_IMAGING_CHILDREN, "yield (file.fileno(),)", "yield ()")),
    _of(
        88,
        "a child's processor time",
        (
            _CORE_IMAGING_CHILDREN,
            "    resource.setrlimit(resource.RLIMIT_CPU, (TIME_LIMIT_S, TIME_LIMIT_S))\n",
            "",
        ),
    ),
    _of(
        88,
        "the node's processes share the place",
        (_PROCESSES_ROLES, '    share_place(settings.data_dir / "decoding.lock")\n', ""),
    ),
    _of(89, "the alarm", (_ANALYSIS_TIME_LIMIT, "        self._start(self.seconds)\n", "")),
    _of(
        89,
        "no handler of errors stops it",
        (_ANALYSIS_TIME_LIMIT, "class TimeIsUp(BaseException)", "class TimeIsUp(Exception)"),
    ),
    _of(
        90,
        "the limit of the quarantine",
        (_IMAGES_QUARANTINE, "if self._sum + cost > self._most:", "if False:"),
    ),
    _of(
        90,
        "what claims to be our result is counted",
        (_IMAGES_STORE, "    return count, int(size or 0)\n", "    return 0, 0\n"),
    ),
    _of(91, "readiness tries to write", (_HEALTH_READINESS, " or unwritable(settings.data_dir)", "")),
    _of(
        91,
        "the alert that nothing can be written",
        (_IMAGES_STORE, "            if unwritable(self.data_dir):\n                self.tell_of_no_room()\n", ""),
        (_RECEIVING_LISTENER, "not store.why_no_room()", "store.has_room()"),
    ),
    _of(91, "no job is begun meanwhile", (_ANALYSIS_WORKER, " or unwritable(self._settings.data_dir)", "")),
    _of(
        92,
        "the length of a match",
        (
            _DICOM_BOUNDED_DIMSE,
            "min(self._budget.most_each, _IDENTIFIER_CAP) if is_answer",
            "self._budget.most_each if is_answer",
        ),
    ),
    _of(
        93,
        "handshakes are heard without waiting",
        (_RECEIVING_ANTEROOM, "connection.setblocking(False)", "connection.settimeout(self._timeout_s)"),
    ),
    _of(
        94,
        "the watchdog of the process",
        (_ANALYSIS_TIME_LIMIT, "            self._note.end_process_after(seconds + END_AFTER_S)\n", ""),
    ),
    _of(
        94,
        "what the watchdog wrote is a refusal",
        (_ANALYSIS_TIME_LIMIT, "            if not self._limit.was_used_up:\n", "            if True:\n"),
    ),
    _of(94, "and only what it wrote", (_ANALYSIS_TIME_LIMIT, " and self._path.stat().st_size > 0", "")),
    _of(
        95,
        "the newest bytes count",
        (
            _IMAGES_STORE,
            "is_current = current is not None and current.sha256 == sha256",
            "is_current = any(row.sha256 == sha256 for row in known)",
        ),
    ),
    _of(
        95,
        "a result that was replaced does not hold any longer",
        (_ANALYSIS_STORING, "            or_(ResultRow.id == newest, ResultRow.generation == generation),\n", ""),
    ),
    _of(96, "a refusal waits", (_ANALYSIS_WAITING, "if reason not in CURABLE:", "if True:")),
    _of(96, "a study that is receiving is left", (_ANALYSIS_JOBS, ", ~_is_receiving())", ")")),
    _of(
        96,
        "what nobody has begun is superseded",
        (
            _ANALYSIS_COMPLETION,
            "StudyRow.study_uid, Job.state == JobState.RUNNING)",
            "StudyRow.study_uid, Job.finished_at.is_(None))",
        ),
    ),
    _of(97, "all series must fit", (_ANALYSIS_STUDY_RULES, 'all(found) if rule.action == "keep" else any', "any")),
    _of(98, "what was withheld is left out", (_ANALYSIS_STORING, ", ~ResultRow.is_withheld)", ")")),
    _of(
        101,
        "redirections are not followed",
        (_SYSTEM_HTTP_SESSION, 'named |= {"allow_redirects": False, ', 'named |= {"allow_redirects": True, '),
        (_SYSTEM_HTTP_SESSION, "def get_redirect_target(", "def _get_redirect_target("),
        (_SYSTEM_HTTP_SESSION, 'if origin_of(request.url or "") != self._origin:', "if False:"),
    ),
    _of(
        101,
        "a request goes to one origin",
        (_SYSTEM_HTTP_SESSION, 'if origin_of(request.url or "") != self._origin:', "if False:"),
    ),
    _of(
        101,
        "nothing of the environment counts",
        (_SYSTEM_HTTP_SESSION, "self.trust_env = False", "self.trust_env = True"),
    ),
    _of(
        101,
        "no authorities but those of the settings",
        (_SYSTEM_HTTP_SESSION, "def cert_verify(", "def _cert_verify("),
    ),
    _of(
        102,
        "the size of an answer",
        (_SYSTEM_HTTP_SESSION, "if size > most_bytes:", "if False:"),
    ),
    _of(
        102,
        "the time of an answer",
        (_SYSTEM_HTTP_SESSION, "if time.monotonic() > deadline:", "if False:"),
    ),
    _of(
        102,
        "no compressed answers",
        (
            _SYSTEM_HTTP_SESSION,
            'if response.headers.get("Content-Encoding", "identity").lower() != "identity":',
            "if False:",
        ),
    ),
    _of(103, "a failure counts", (_DELIVERY_STOW_SENDER, "if sop_instance_uid in answer.failed:", "if False:")),
    _of(
        103,
        "what nobody named must be proven",
        (_DELIVERY_STOW_SENDER, 'does not name the object", was_there=True)', 'does not name the object")'),
    ),
    _of(
        104,
        "conditional create",
        (
            _RESULTS_DIAGNOSTIC_REPORT,
            "f\"identifier={identifier['system']}|{own}\"",
            "f\"identifier={identifier['system']}|{uuid.uuid4()}\"",
        ),
    ),
    _of(
        105,
        "a body has an end",
        (_DICOMWEB_READER, "if not self._is_over:\n            raise", "if False:\n            raise"),
    ),
    _of(
        105,
        "the type of a part",
        (_RECEIVING_PARTS, "media_type is None or media_type.name != DICOM or not set", "not set"),
    ),
    _of(
        105,
        "no coding of a body but its own",
        (_WEB_STOW_APP, 'headers.get("content-encoding", "identity") != "identity"', "False"),
    ),
    _of(106, "the size of a part", (_DICOMWEB_READER, "self._of_part <= self._limits.most_of_part", "True")),
    _of(106, "the size of a body", (_DICOMWEB_READER, "if self._bytes > self._limits.most_bytes:", "if False:")),
    _of(106, "the number of parts", (_DICOMWEB_READER, "if self._parts > self._limits.most_parts:", "if False:")),
    _of(
        106,
        "the memory of all",
        (_RECEIVING_PARTS, "self._refusal and self.budget.take(self.visit, len(data)):", "self._refusal:"),
    ),
    _of(107, "silence", (_WEB_STOW_APP, "asyncio.timeout(self._rules.idle_timeout_s)", "asyncio.timeout(None)")),
    _of(
        107,
        "a deadline for the whole",
        (_WEB_STOW_APP, "asyncio.timeout(self._rules.request_timeout_s)", "asyncio.timeout(None)"),
    ),
    _of(107, "places are given back", (_WEB_STOW_APP, "            self._door.leave(visit)\n", "")),
    _of(
        107,
        "a request has one length",
        (_WEB_STOW_APP, 'if "content-length" in headers and "transfer-encoding" in headers:', "if False:"),
    ),
    _of(108, "a token", (_RECEIVING_VISITS, "if peer is None:", "if False:")),
    _of(108, "the peer's addresses", (_RECEIVING_VISITS, "if not self._peers.may_send(peer, address):", "if False:")),
    _of(108, "one token stands for one peer", (_RECEIVING_TOKENS, "if twice is not None:", "if False:")),
    _of(109, "failures are named", (_DICOMWEB_ANSWER, "        if reason:\n", "        if False:\n")),
    _of(
        109,
        "an answer that says to come again",
        (_DICOMWEB_ANSWER, "return 503 if all(reason >> 8 == 0xA7", "return 409 if all(reason >> 8 == 0xA7"),
    ),
    _of(
        110,
        "a release makes every check of intake",
        (_UPKEEP_QUARANTINED, "        raise RefusedError(OUT_OF_RESOURCES, why)\n", "        return\n"),
    ),
    _of(
        111,
        "a refused series holds up no other",
        (_DEPLOY_ROUTE, "            self._refuse(series, uid, attempt)\n            return\n", "            raise\n"),
    ),
    _of(
        111,
        "a node that is down refuses nothing",
        (_DEPLOY_ROUTE, "            self._check_node()\n            self._refuse", "            self._refuse"),
    ),
    _of(112, "the path must be typed", (_DEPLOY_INSTALL, '[ "$typed" = "$state" ] ||', "true ||")),
    _of(
        112,
        "only a node's folder is purged",
        (_DEPLOY_INSTALL, '[ -f "$config" ] || refuse "$state is no data', 'true || refuse "$state is no data'),
    ),
    _of(
        113,
        "a release that does not start is taken back",
        (_DEPLOY_INSTALL, "  start || take_back\n", "  start || true\n"),
    ),
    _of(114, "a good status", (_DICOMWEB_WADO, "if status not in (200, 206):", "if False:")),
    _of(
        114,
        "the type of an answer",
        (_DICOMWEB_WADO, 'if media_type is None or media_type.name != "multipart/related":', "if media_type is None:"),
    ),
    _of(114, "a body has its last boundary", (_DICOMWEB_WADO, "            reader.close()\n", "")),
    _of(
        114,
        "objects of the study alone",
        (
            _RECEIVING_WEB_PULL,
            "Parts(visit, store, self._budget, note, study_uid)",
            "Parts(visit, store, self._budget, note)",
        ),
    ),
    _of(
        114,
        "a series that fails holds up no other",
        (_RECEIVING_WEB_PULL, "            problems.append(str(error))\n", "            raise error\n"),
    ),
    _of(114, "searches go on page by page", (_DICOMWEB_QIDO, "answered += len(page)", "answered += 0")),
    _of(114, "a search that begins again", (_DICOMWEB_QIDO, "if answered and len(page) == _PAGE:", "if False:")),
    _of(
        114,
        "a redirected search is no empty answer",
        (_DICOMWEB_QIDO, "if 300 <= response.status_code < 400:", "if False:"),
    ),
    _of(114, "UIDs of answers are UIDs", (_DICOMWEB_QIDO, "if not all(map(is_valid_uid, uids)):", "if False:")),
    _of(
        115,
        "the size of a part",
        (_RECEIVING_WEB_PULL, "most_of_part=self._budget.most_each", "most_of_part=10**12"),
        (_RECEIVING_PARTS, "self._refusal and self.budget.take(self.visit, len(data)):", "self._refusal:"),
    ),
    _of(
        115,
        "the memory of all",
        (_RECEIVING_PARTS, "self._refusal and self.budget.take(self.visit, len(data)):", "self._refusal:"),
    ),
    _of(
        115,
        "the size of a body",
        (_DICOMWEB_WADO, "most_bytes=limits.body.most_bytes,", "most_bytes=10**15,"),
        (_DICOMWEB_READER, "if self._bytes > self._limits.most_bytes:", "if False:"),
    ),
    _of(115, "the number of parts", (_DICOMWEB_READER, "if self._parts > self._limits.most_parts:", "if False:")),
    _of(115, "silence", (_SYSTEM_HTTP_SESSION, "(self._timeout_s, silence_s)", "(self._timeout_s, None)")),
    _of(115, "a deadline for a series", (_SYSTEM_HTTP_SESSION, "if time.monotonic() > deadline:", "if False:")),
    _of(
        115,
        "nothing is fetched without room",
        (_RECEIVING_WEB_PULL, "if lack := store.why_no_room():", 'if lack := "":'),
    ),
)

# Faults against which the protection is a library's or the system's; the row's tests hold it all the same.
NOT_OURS: dict[int, str] = {
    6: "a store request reaches the node when it is whole: pynetdicom hands over complete messages only, and closes the "
    "connection where a PDU ends early. The node writes nothing before that.",
}
