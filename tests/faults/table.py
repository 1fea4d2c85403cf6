"""The faults that the node must survive: which test proves it, or what is open. `make campaign` prints it.

A row holds one or more tests (``folder/file.py::function``, below ``tests``). ``open`` says what is not proven yet.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One fault."""

    number: int
    fault: str
    expected: str
    tests: tuple[str, ...] = ()
    open: str = ""


_PEERS = "faults/test_hostile_peers.py::test_"
_DATABASE = "faults/test_database.py::test_"
_LISTENER = "integration/test_listener.py::test_"
_DELIVERY = "integration/test_delivery.py::test_"
_PROOF = "integration/test_proof.py::test_commitment__"
_CRASH = "integration/test_listener_crash.py::test_"
_STOP = "integration/test_worker_stop.py::test_"
_INSTANCES = "unit/images/test_store.py::test_receive__"
_WORKER = "unit/analysis/test_worker.py::test_job__"
_SERIES = "unit/imaging/test_series.py::test_"
_SELECTION = "unit/imaging/test_selection.py::test_"
_SERVE = "acceptance/test_node_cli_serve.py::test_serve__"
_CLI = "acceptance/test_node_cli.py::test_"
_HEADERS = "unit/dicom/test_headers.py::test_"
_INTAKE = "integration/test_intake.py::test_"
_TRACES = "unit/upkeep/test_traces.py::test_"
_SAME = "unit/analysis/test_same_study.py::test_"
_STRANGERS = "faults/test_strangers.py::test_"
_WEB = "faults/test_web_strangers.py::test_"
_HTTP = "unit/system/test_http_session.py::test_"
_STOW = "unit/delivery/test_stow_sender.py::test_"
_FHIR = "unit/delivery/test_fhir_sender.py::test_"
_TALLY = "unit/receiving/test_tally.py::test_"
_CROWD = "unit/system/test_crowd.py::test_"
_LOST = "faults/test_lost_database.py::test_"
_PURGE = "integration/test_purge_during_delivery.py::test_purge__"
_CAUSES = "unit/alerts/test_causes.py::test_"
_EXTENT = "unit/imaging/test_extent.py::test_"
_LIMITS = "unit/images/test_limits.py::test_"
_MESSAGES = "unit/commitment/test_messages.py::test_"
_BUDGET = "unit/dicom/test_budget.py::test_"
_SIZE = "unit/imaging/test_series_size.py::test_"
_TIME = "unit/analysis/test_time_limit.py::test_"
_CHILDREN = "unit/imaging/test_children.py::test_"
_UNWRITABLE = "faults/test_unwritable.py::test_"
_STOW_IN = "faults/test_stow_faults.py::test_"
_WADO = "faults/test_wado_faults.py::test_"
_ARRIVAL = "unit/analysis/test_arrival.py::test_"
_TWO = "faults/test_two_patients.py::test_"

ROWS: tuple[Row, ...] = (
    Row(
        1, "PDU length 4 GiB before association", "cut at the cap, memory flat", (f"{_PEERS}four_gigabytes_announced",)
    ),
    Row(
        2,
        "half a PDU header, silent",
        "closed within the time-out",
        (f"{_PEERS}silence", f"{_PEERS}silence_in_an_association"),
    ),
    Row(
        3,
        "one byte a second",
        "one deadline for each PDU",
        (f"{_PEERS}a_byte_at_a_time", f"{_PEERS}a_byte_at_a_time_in_an_association"),
    ),
    Row(
        4,
        "idle sockets, as many as allowed and more",
        "a permitted sender is served",
        (
            f"{_CROWD}enter__the_address_with_most_makes_room_and_others_stay",
            f"{_PEERS}silent_sockets_take_no_place",
        ),
    ),
    Row(
        5,
        "HTTP, TLS hello, random bytes",
        "closed at once, memory flat",
        (f"{_PEERS}other_protocols", f"{_PEERS}broken_data"),
    ),
    Row(
        6,
        "cut in the middle of P-DATA",
        "nothing visible, nothing left",
        (f"{_PEERS}cut_in_the_middle_of_an_object", f"{_LISTENER}store__cut_in_the_middle_leaves_nothing"),
    ),
    Row(
        7,
        "abort after a part of the images",
        "the part is kept and reported",
        (
            f"{_PEERS}abort_after_some_images_keeps_those",
            "unit/images/test_studies.py::test_complete__after_the_quiet_time_and_only_once",
        ),
    ),
    Row(
        8,
        "wrong called AE, unknown calling AE, address",
        "refused, counted, logged",
        (
            f"{_LISTENER}association__wrong_called_title_is_refused_and_counted",
            f"{_LISTENER}association__only_peers_may_send",
        ),
    ),
    Row(
        9, "200 simultaneous associations", "polite refusals, no crash", (f"{_PEERS}two_hundred_associations_at_once",)
    ),
    Row(
        10,
        "SOP Instance UIDs that are paths",
        "refused, nothing outside",
        (
            f"{_PEERS}uids_that_are_no_names",
            f"{_INSTANCES}a_malformed_uid_never_becomes_a_path",
            f"{_INSTANCES}a_uid_of_65_characters_is_refused",
            "unit/system/test_files.py::test_safe_path__takes_names_only",
        ),
    ),
    Row(11, "command UID differs from the data set's", "0xA900", (f"{_INSTANCES}command_and_data_set_must_agree",)),
    Row(
        12,
        "Study or Series UID missing",
        "failure, kept in quarantine",
        (f"{_INSTANCES}a_missing_uid_is_refused_and_kept_in_quarantine",),
    ),
    Row(13, "same UID, same bytes", "success, no second job", (f"{_INSTANCES}the_same_bytes_again_change_nothing",)),
    Row(
        14,
        "same UID, other header; other pixels",
        "new version; quarantine and alert",
        (
            f"{_INSTANCES}a_corrected_header_becomes_the_current_version",
            f"{_INSTANCES}other_pixels_go_to_quarantine_with_an_alert",
        ),
    ),
    Row(
        15,
        "two patients in one study",
        "put aside, nothing sent, freed by command; never merged",
        (
            f"{_TWO}two_patients__are_put_aside_and_nothing_is_sent",
            f"{_TWO}an_image_that_says_nothing__does_not_join_two_patients",
            f"{_TWO}a_series_that_might_have_been_read__decides_too",
            f"{_TWO}a_correction_of_all__is_followed",
            f"{_TWO}a_correction_of_some__waits_for_the_rest",
            f"{_TWO}release__uses_the_images_of_one_patient",
            f"{_TWO}release__is_void_where_the_archive_corrects_some_of_the_images",
            "unit/analysis/test_products.py::test_products__of_another_patient_than_the_source_end_it_all",
        ),
    ),
    Row(
        16,
        "late series after the result",
        "new result that refers to the one before; none if nothing that is used changed",
        (
            f"{_WORKER}a_late_image_gives_a_new_result",
            f"{_WORKER}a_new_result_names_the_report_that_it_replaces",
            f"{_SAME}a_late_series__gives_no_new_result",
            "upgrade/test_upgrade.py::test_upgrade__a_late_localiser_sends_nothing_new",
        ),
    ),
    Row(
        17,
        "disk full during the write",
        "0xA700, nothing left, no row",
        (
            f"{_DATABASE}a_write_that_fails_in_the_middle__nothing_stays",
            f"{_INSTANCES}a_full_disk_leaves_nothing_behind",
        ),
    ),
    Row(
        18,
        "disk under the reserve, or without inodes",
        "associations refused, alert",
        (
            f"{_LISTENER}association__under_the_disk_reserve_all_are_refused",
            f"{_INSTANCES}under_the_disk_reserve_nothing_is_accepted",
            "unit/receiving/test_admission.py::test_refused__alert_and_audit_message",
            "unit/system/test_disk.py::test_names__a_file_system_without_inodes_is_full",
            "unit/receiving/test_disk_alert.py::test_look__opens_the_alert_before_anybody_is_refused",
        ),
    ),
    Row(
        19,
        "kill -9 between file and index",
        "nothing acknowledged is missing",
        (
            f"{_CRASH}kill__what_was_acknowledged_is_there_and_the_rest_can_come_again",
            "faults/test_campaign.py::test_faults_at_random_moments",
        ),
    ),
    Row(
        20,
        "kill -9 of the worker in inference",
        "done again once, same UIDs and bytes",
        (
            f"{_STOP}kill__the_job_is_done_once_by_another_worker",
            f"{_WORKER}a_retry_makes_the_same_bytes",
            f"{_SAME}files_of_an_earlier_attempt__are_kept_and_sent",
            f"{_SAME}after_the_loss_of_the_database__what_is_made_again_has_other_uids",
            "unit/processes/test_supervisor.py::test_dead_worker__its_job_is_given_back_at_once",
        ),
    ),
    Row(
        21,
        "SIGTERM in a job and in an association",
        "handed back; clean stop",
        (f"{_STOP}sigterm__hands_the_job_back", f"{_PEERS}sigterm_in_the_middle_of_an_association"),
    ),
    Row(
        22,
        "ten workers, a thousand jobs",
        "each exactly once",
        (
            "faults/test_many_workers.py::test_ten_processes_do_each_job_once",
            "unit/analysis/test_jobs.py::test_claim__two_workers_and_one_job",
            "unit/analysis/test_jobs.py::test_finish__only_by_the_holder_of_the_lease",
        ),
    ),
    Row(
        23,
        "database locked 30 s",
        "waits; no false success",
        (f"{_DATABASE}locked__waits_and_never_says_success_too_early", f"{_INSTANCES}no_success_without_an_index_row"),
    ),
    Row(
        24,
        "database corrupt, or of a newer schema",
        "refuses to start, clear text",
        (
            "unit/database/test_tables.py::test_open__a_newer_schema_is_refused",
            "unit/database/test_tables.py::test_open__a_corrupt_file_is_refused",
            f"{_CLI}status__a_damaged_database_is_one_line",
        ),
    ),
    Row(
        25,
        "upgrade with queued jobs, or under processes at work",
        "none lost; refused, never half done",
        (f"{_DATABASE}upgrade__queued_jobs_and_parcels_are_kept", f"{_DATABASE}upgrade__under_processes_at_work"),
    ),
    Row(
        26,
        "power cut, only synced writes kept",
        "every acknowledged image present",
        (
            f"{_DATABASE}power_cut__whatever_was_acknowledged_is_on_the_disk",
            "unit/database/test_tables.py::test_sqlite_is_durable",
        ),
    ),
    Row(27, "deflate bomb 1000:1", "bounded, refused", (f"{_INSTANCES}a_deflate_bomb_is_refused",)),
    Row(
        28,
        "65535 x 65535 with tiny data",
        "refused before allocation",
        (f"{_PEERS}a_matrix_that_is_no_matrix", f"{_SERIES}huge_matrix_with_tiny_data_is_refused_before_allocation"),
    ),
    Row(
        29,
        "sequences nested 300 to 20,000 deep",
        "typed refusal, process alive",
        (f"{_PEERS}nested_sequences", f"{_INSTANCES}deeply_nested_sequences_are_refused"),
    ),
    Row(
        30,
        "PixelData truncated",
        "refused by the reader, reason kept",
        (f"{_INSTANCES}truncated_data_are_refused_and_kept_in_quarantine", f"{_SERIES}truncated_pixel_data_is_refused"),
    ),
    Row(
        31,
        "corrupt JPEG, J2K, JPEG-LS, RLE",
        "the decoder's child dies, no more",
        (
            f"{_SERIES}corrupt_compressed_data_is_refused",
            f"{_SERIES}native_decoders_run_in_a_child",
            f"{_SERIES}rle_is_decoded_by_pydicom_alone",
            "unit/imaging/test_isolation.py::test_a_child_that_fails",
        ),
    ),
    Row(
        32,
        "impossible bits or photometric interpretation",
        "refused",
        (f"{_SERIES}colour_is_refused", f"{_SERIES}impossible_bits_and_photometric_interpretation_are_refused"),
    ),
    Row(
        33,
        "impossible spacing, positions, orientation",
        "series refused, never measured",
        (
            f"{_SERIES}impossible_geometry_is_refused",
            f"{_SERIES}numbers_that_are_none_are_refused",
            f"{_SERIES}duplicates_with_another_header_are_refused",
            f"{_SERIES}duplicates_with_another_picture_are_refused",
            f"{_SERIES}one_uid_with_slices_askew_is_split",
        ),
    ),
    Row(
        34,
        "RescaleSlope 1e-12, window width 0",
        "no huge table, no division by zero",
        (
            f"{_SERIES}impossible_rescale_is_ignored",
            "unit/drawing/test_overlay.py::test_window_is_the_series_own_unless_nonsense",
        ),
    ),
    Row(
        35,
        "localiser, coronal, axial, T1, CT, own results",
        "right choice or not analysable",
        (
            f"{_SELECTION}whole_study",
            f"{_SELECTION}three_planes_under_one_uid_are_a_localiser",
            f"{_SELECTION}refused",
            f"{_SELECTION}no_images",
            f"{_WORKER}own_results_that_come_back_start_nothing",
        ),
    ),
    Row(
        36,
        "names in ISO 2022, UTF-8, GB18030",
        "same name in the report",
        (
            "unit/results/test_envelope.py::test_names_survive_byte_by_byte",
            "unit/results/test_envelope.py::test_bytes_that_do_not_fit_their_character_set_stay_as_they_are",
        ),
    ),
    Row(
        37,
        "HTML and control characters in text",
        "escaped on the page and in logs",
        (
            "unit/web/test_app.py::test_page__escapes_what_came_from_outside",
            "unit/system/test_log.py::test_printable__has_no_control_characters",
        ),
    ),
    Row(
        38,
        "PACS down for a day",
        "waits, then sends each once",
        (f"{_DELIVERY}deliver__an_unreachable_pacs_waits_visibly_and_gets_it_later",),
    ),
    Row(
        39,
        "PACS answers 0xA700, 0xB000, 0xC000, 0x0122",
        "retry, accept, stop, stop",
        (f"{_DELIVERY}deliver__an_answer_decides_the_state", f"{_DELIVERY}classify__as_the_table_says"),
    ),
    Row(
        40,
        "PACS drops before the response",
        "same UID again",
        (f"{_DELIVERY}deliver__a_connection_lost_before_the_answer_sends_the_same_uid_again",),
    ),
    Row(
        41,
        "PACS takes no SR",
        "clear error, SC still sent",
        (f"{_DELIVERY}deliver__a_pacs_that_takes_no_report_gets_the_overlay",),
    ),
    Row(
        42,
        "storage commitment unanswered, partial, unknown",
        "asked again; sent again with an alert; ignored",
        (
            f"{_PROOF}never_answered_is_asked_again_under_another_transaction",
            f"{_PROOF}what_is_not_kept_is_sent_again",
            f"{_PROOF}of_an_unknown_transaction_is_ignored",
            f"{_PROOF}of_somebody_else_is_ignored",
            f"{_PROOF}is_taken_whenever_and_wherever_it_comes",
        ),
    ),
    Row(
        43,
        "TLS: expired, self-signed, wrong host, TLS 1.0; silent",
        "refused; others served",
        (
            "faults/test_tls.py::test_listener__refuses_certificates_that_are_not_good",
            "faults/test_tls.py::test_listener__refuses_old_versions",
            "faults/test_tls.py::test_listener__has_one_deadline_for_the_handshake",
            "faults/test_tls.py::test_delivery__sends_only_to_whom_it_can_trust",
            "faults/test_tls.py::test_delivery__refuses_old_versions",
            f"{_LISTENER}tls__a_silent_peer_holds_up_nobody_and_a_plain_one_fails_fast",
        ),
    ),
    Row(
        44,
        "plain client on the TLS port and the reverse",
        "fails fast",
        (f"{_LISTENER}tls__a_silent_peer_holds_up_nobody_and_a_plain_one_fails_fast", f"{_PEERS}other_protocols"),
    ),
    Row(
        45,
        "CUDA out of memory, device lost",
        "transient; never a wrong result",
        (f"{_WORKER}what_may_pass_is_tried_again_and_then_given_up",),
        "not with a device",
    ),
    Row(
        46,
        "model file half copied or changed",
        "refuses to start, says which",
        (
            "unit/detection/test_model_package.py::test_damaged_package__is_refused_with_the_reason",
            f"{_SERVE}a_damaged_model_refuses_to_start",
        ),
    ),
    Row(
        47,
        "NaN in the output, levels out of order",
        "coded refusal, never a report",
        (
            "unit/detection/test_decoding.py::test_decode__values_that_are_not_finite_are_refused",
            "unit/detection/test_decoding.py::test_decode__levels_that_cannot_be_a_spine_are_refused",
        ),
    ),
    Row(
        48,
        "clock steps by days, ten years or to 1970, daylight saving, reboot, suspended machine",
        "images kept; nothing dated, sent or deleted until it is right; leases and time-outs by monotonic clocks",
        (
            "unit/analysis/test_jobs.py::test_reclaim__a_beating_worker_keeps_its_job",
            "unit/analysis/test_jobs.py::test_reclaim__a_clock_that_is_moved_takes_no_job_away",
            "unit/health/test_clock_watch.py::test_jump__is_an_alert_until_the_time_is_back",
            "unit/health/test_clock_watch.py::test_start_of_the_machine__with_a_clock_that_cannot_be_right",
            "unit/health/test_clock_watch.py::test_start_without_a_record__goes_by_the_newest_row",
            "unit/health/test_clock_watch.py::test_acknowledged__the_time_is_right_for_every_process_and_after_a_restart",
            "unit/health/test_clock_watch.py::"
            "test_while_the_clock_is_wrong__images_are_kept_and_nothing_is_analysed_sent_or_deleted",
            "unit/system/test_clock.py::test_now__goes_on_when_the_time_of_day_jumps_until_it_is_back",
            "unit/system/test_clock.py::test_now__follows_slews_and_small_steps",
            "unit/system/test_clock.py::test_uptime__counts_the_time_in_which_the_machine_was_suspended",
            "unit/dicom/test_pynetdicom_setup.py::test_timer__goes_by_the_monotonic_clock",
            "unit/processes/test_scheduler.py::test_every__only_what_needs_no_time_goes_on_while_the_clock_is_wrong",
            "unit/images/test_studies.py::test_complete__though_the_clock_was_set_back",
            "unit/analysis/test_jobs.py::test_claim__what_waits_longer_than_any_pause_was_written_before_the_clock_was_set_back",
            f"{_DELIVERY}deliver__goes_on_when_the_clock_was_set_back",
            "unit/database/test_tables.py::test_times_come_back_aware_and_naive_ones_are_refused",
            # The slow ones, with processes whose clock is really moved.
            "faults/test_clock.py::test_lease__is_kept_while_its_worker_beats_and_ends_after_its_silence",
            "faults/test_clock.py::test_idle_association__ends_though_the_clock_was_set_back",
            "faults/test_clock.py::test_step__while_studies_come_in",
            "faults/test_clock.py::test_start__in_1970",
        ),
    ),
    Row(
        49,
        "wrong settings",
        "all errors at once, exit 2",
        (f"{_CLI}check__settings_are_all_listed_and_exit_2", f"{_CLI}usage__is_one_clear_message"),
    ),
    Row(
        50,
        "after everything: names and ids in logs",
        "none found",
        (
            "unit/system/test_log.py::test_exception__appears_without_its_message",
            "unit/system/test_log.py::test_exception__of_a_library_appears_without_its_message",
            "unit/system/test_log.py::test_exception__of_a_thread_appears_without_its_message",
            "unit/system/test_log.py::test_pydicom__says_nothing",
            f"{_SERVE}the_whole_way_bad_input_crash_and_stop",
            "integration/test_orthanc.py::test_log__holds_no_patient_data",
        ),
    ),
    Row(
        51,
        "database file deleted or replaced; restore while running",
        "nothing acknowledged, not ready, alert; nothing lost after a restart",
        (
            f"{_LOST}lost__nothing_is_acknowledged_and_readiness_and_an_alert_say_so",
            f"{_LOST}lost__a_new_connection_makes_no_empty_database",
            f"{_LOST}restore__while_the_listener_runs_loses_nothing",
        ),
    ),
    Row(
        52,
        "a timer stands still",
        "not ready, alert",
        ("unit/processes/test_scheduler.py::test_stuck__an_alert_and_not_ready_until_it_goes_on",),
    ),
    Row(
        53,
        "purge during delivery",
        "images kept until every destination has the result",
        (
            f"{_PURGE}during_delivery_waits_for_its_end",
            f"{_PURGE}in_turns_with_a_delivery_that_fails_deletes_only_after_it_succeeded",
            f"{_PURGE}goes_by_proof_and_never_by_what_was_acknowledged",
        ),
    ),
    Row(
        54,
        "alerts whose cause is over, or goes on",
        "closed by evidence of their own; open while it goes on",
        (
            f"{_CAUSES}refused__no_such_refusal_for_a_day",
            f"{_CAUSES}quarantine__the_object_was_taken_out",
            f"{_CAUSES}quarantine__a_folder_that_is_not_mounted_is_no_evidence",
            f"{_CAUSES}study_limit__stays_while_the_study_is_at_its_limit",
            f"{_CAUSES}study_limit__the_settings_allow_more",
            f"{_CAUSES}study_limit__an_image_was_taken_again",
            "unit/receiving/test_admission.py::test_admitted__the_alert_about_its_refusal_is_over",
            "unit/receiving/test_admission.py::test_admitted__and_refused_again",
            "integration/test_promises.py::test_answer__closes_the_alert_about_an_answer_that_was_given_up",
        ),
    ),
    Row(
        61,
        "a flood of refused calls on a slow disk",
        "counted, written together; a sender is served",
        (
            f"{_STRANGERS}refused_calls__write_together_and_none_is_lost",
            f"{_TALLY}note__waits_for_no_report",
            f"{_TALLY}note__beyond_the_known_addresses_is_counted_as_others",
            f"{_TALLY}writer__reports_the_first_at_once_then_after_a_pause",
            "unit/receiving/test_admission.py::test_refused__while_the_database_is_gone_none_is_lost",
        ),
    ),
    Row(
        62,
        "a flood of connections from one address, or one IPv6 network",
        "pushes itself out, nobody else",
        (f"{_CROWD}enter__the_address_with_most_makes_room_and_others_stay", f"{_CROWD}origin__of_ipv6_is_its_network"),
    ),
    Row(
        63,
        "another peer's AE title, with a good certificate of one's own",
        "refused",
        (
            "faults/test_tls.py::test_listener__a_certificate_is_bound_to_an_ae_title",
            "unit/receiving/test_peers.py::test_certificate__is_bound_to_a_title_in_any_notation",
        ),
    ),
    Row(
        64,
        "no file descriptor left",
        "a silent connection makes room; one log line a minute",
        (
            f"{_STRANGERS}no_descriptor_is_left__one_log_line_no_busy_loop_and_a_sender_is_served",
            f"{_WEB}no_descriptor_is_left__one_log_line_and_health_is_answered",
        ),
    ),
    Row(
        65,
        "idle sockets and slow heads at the web port",
        "ended; `/healthz` is answered",
        (
            f"{_WEB}idle_sockets__health_is_answered_and_they_end",
            f"{_WEB}one_address__holds_a_few_connections_without_a_head",
            f"{_WEB}a_head_byte_by_byte__meets_a_deadline",
            f"{_WEB}an_answer__has_a_deadline",
        ),
    ),
    Row(
        66,
        "strangers hold all places of the web port",
        "`/healthz` and `/readyz` are answered, others get 503",
        (f"{_WEB}all_places_held__health_and_readiness_are_answered",),
    ),
    Row(
        67,
        "a web page whose name leads to the node (DNS rebinding)",
        "421, no page",
        (f"{_WEB}host__names_of_the_node_only", f"{_WEB}host__an_unknown_name_is_told_what_to_do"),
    ),
    Row(
        68,
        "Content-Length with Transfer-Encoding",
        "one answer, 400, closed",
        (f"{_WEB}length_and_chunks_at_once__one_answer",),
    ),
    Row(
        69,
        "many connections that each send a large request",
        "bounded together, the largest ends",
        ("unit/receiving/test_anteroom.py::test_requests__have_a_bound_together",),
    ),
    Row(
        71,
        "elements out of order, behind the pixels, twice; class and modality absent",
        "read as others read them; put aside where two values differ",
        (
            f"{_HEADERS}read__elements_may_stand_in_any_order",
            f"{_HEADERS}read__an_element_twice_must_say_the_same",
            f"{_HEADERS}read__a_header_that_is_cut_is_still_refused",
            f"{_HEADERS}files__modality_and_class_come_from_the_file_meta",
            f"{_INTAKE}an_element_twice_with_different_values_is_put_aside",
        ),
    ),
    Row(
        72,
        "a name, accession number or study ID that its attribute cannot hold",
        "a result that says so; no identifier is cut",
        (
            "unit/results/test_envelope.py::test_a_name_that_is_too_long_is_cut_and_the_result_says_so",
            "unit/results/test_envelope.py::test_an_accession_number_is_whole_or_absent",
            f"{_INTAKE}an_identifier_that_is_too_long_is_said",
        ),
    ),
    Row(
        73,
        "a Patient ID with a backslash",
        "a coded refusal, nothing is sent, an alert",
        (
            "acceptance/test_process.py::test_a_patient_id_with_two_values_is_refused_with_a_code",
            f"{_INTAKE}a_patient_with_two_values_is_refused_with_a_code",
        ),
    ),
    Row(
        74,
        "an exam in a batch whose analysis fails",
        "a coded refusal, and the next exam goes on",
        ("acceptance/test_process.py::test_an_error_ends_one_study_and_not_the_batch",),
    ),
    Row(
        75,
        "a person hidden in an image that is exported",
        "nothing is written, or the value is not",
        (
            f"{_TRACES}free_text_that_holds_a_trace_is_refused",
            f"{_TRACES}a_number_that_is_an_identifier_is_refused",
            f"{_TRACES}a_decimal_that_is_an_identifier_is_refused",
            f"{_TRACES}coded_attributes_keep_known_terms_only",
        ),
    ),
    Row(
        76,
        "misspelt variables, broken JSON in them, truth values for numbers",
        "named by an error, all at once",
        (
            "unit/settings/test_environment.py::test_a_variable_that_means_to_be_a_setting_is_checked",
            "unit/settings/test_environment.py::test_a_truth_value_is_no_number",
        ),
    ),
    Row(
        77,
        "a backup whose settings lead out of the folder",
        "nothing is written outside",
        ("acceptance/test_backup.py::test_restore__writes_nothing_outside_its_folder",),
    ),
    Row(
        78,
        "terminal escapes in an archive's answer",
        "printed as question marks",
        (
            "unit/cli/test_printing.py::test_tables_and_lines_hold_no_control_characters",
            "unit/cli/test_printing.py::test_errors_hold_no_control_characters",
        ),
    ),
    Row(
        79,
        "random bytes in the database",
        "one line that says so",
        (
            "acceptance/test_damaged_database.py::test_a_value_that_is_no_text",
            "acceptance/test_damaged_database.py::test_a_schema_that_is_no_text",
            "acceptance/test_damaged_database.py::test_random_bytes",
        ),
    ),
    Row(
        80,
        "a name sent as a SOP Instance UID",
        "in no log and no alert",
        (f"{_INSTANCES}a_name_sent_as_a_uid_is_not_repeated",),
    ),
    Row(
        81,
        "10 kB that inflate to a million empty items",
        "unreadable, before anything is parsed",
        (
            f"{_EXTENT}file__of_a_few_kilobytes_takes_no_gigabyte",
            f"{_EXTENT}file__deflated_may_have_parts_in_proportion",
            f"{_LIMITS}receive__inflating_takes_memory_of_the_budget",
        ),
    ),
    Row(
        82,
        "very many elements, items, values or levels; endless texts and lists of character sets",
        "refused while counted, within a time",
        (
            f"{_EXTENT}measure__refuses_what_costs_more_than_it_weighs",
            f"{_EXTENT}measure__has_a_limit_on_its_time",
            f"{_EXTENT}measure__never_counts_less_than_pydicom_makes_of_broken_bytes",
        ),
    ),
    Row(
        83,
        "an image with very many items, which may be ordinary",
        "kept; the listener does not parse them",
        (f"{_LIMITS}receive__sequences_of_very_many_items_are_not_parsed",),
    ),
    Row(
        84,
        "requests for commitment with 90,000 references each",
        "read one by one; further ones are told to come later",
        (
            f"{_MESSAGES}request__of_90000_references_takes_little_memory",
            f"{_MESSAGES}room__is_one_full_request_for_each_requester",
        ),
    ),
    Row(
        85,
        "one peer that takes all memory; senders that go in the middle",
        "a share for each peer; what is left behind is free",
        (
            f"{_BUDGET}take__one_peer_leaves_something_to_the_others",
            f"{_BUDGET}take__a_sender_that_has_gone_frees_what_it_held",
        ),
    ),
    Row(
        86,
        "fragments of two contexts in one message; PDUs of thousands of parts",
        "cut, before they are decoded",
        (
            f"{_PEERS}fragments_of_two_contexts_in_one_message",
            f"{_PEERS}thousands_of_fragments_in_one_pdu",
            "unit/dicom/test_pdu_items.py::test_request__of_empty_items_is_refused",
        ),
    ),
    Row(
        87,
        "150 files of 600 bytes that announce 4096 x 4096 pixels each",
        "coded refusal, nothing decoded; frames one by one",
        (
            f"{_SIZE}series_of_tiny_files_that_announce_gigabytes",
            f"{_SIZE}frames_are_decoded_one_after_the_other",
        ),
    ),
    Row(
        88,
        "many comparisons of pixels at once; several processes that decode; one that is killed meanwhile",
        "one child at a time in the whole node; 0xA700",
        (
            f"{_LIMITS}pixels__are_compared_by_one_child_at_a_time",
            f"{_CHILDREN}place__is_shared_by_processes_and_kept_by_the_child_of_a_killed_one",
            f"{_CHILDREN}place__of_one_process_is_taken_by_one_thread_at_a_time",
            f"{_CHILDREN}child__has_a_limit_on_its_processor_time",
            "unit/processes/test_roles.py::test_processes__share_the_place_of_decoding",
        ),
    ),
    Row(
        89,
        "a study that takes for ever",
        "coded refusal, no further attempt",
        (
            f"{_TIME}reading__that_takes_too_long_is_a_refusal",
            f"{_TIME}job__that_takes_too_long_elsewhere_is_put_aside_at_once",
        ),
    ),
    Row(
        90,
        "objects for the quarantine without end; images that claim to be our results",
        "0xA700 at the limit; nothing kept is deleted",
        (
            f"{_LIMITS}quarantine__is_full_one_day_and_keeps_what_it_has",
            f"{_LIMITS}study_limit__holds_for_what_claims_to_be_a_result_of_ours",
        ),
    ),
    Row(
        91,
        "the data folder cannot be written: the disk turned read-only, permissions were lost",
        "0xA700, not ready, alert; no attempt at a job is used up; goes on when it can be written again",
        (
            f"{_UNWRITABLE}disk_error__all_is_read_only_until_it_is_mounted_again",
            f"{_UNWRITABLE}permissions__are_lost_and_come_back",
            f"{_UNWRITABLE}worker__uses_up_no_attempt_while_its_result_cannot_be_written",
        ),
    ),
    Row(
        92,
        "an archive answers a query with a match of megabytes",
        "association cut before it is parsed; the query has failed",
        (
            "integration/test_large_answers.py::test_match__of_ordinary_length_is_read",
            "integration/test_large_answers.py::test_match__that_is_too_long_is_not_parsed",
        ),
    ),
    Row(
        93,
        "a flood of TLS handshakes that are begun and not ended",
        "pushes itself out; a permitted peer is served",
        ("faults/test_tls.py::test_listener__a_flood_of_handshakes_takes_no_place_from_a_permitted_peer",),
    ),
    Row(
        94,
        "a reading that hangs in C, where no alarm interrupts it",
        "the process ends; then coded refusal, no further reading; a killed worker's job is read again",
        (
            f"{_TIME}reading__that_hangs_in_c_ends_the_process_and_is_a_refusal",
            f"{_TIME}reading__whose_process_was_killed_is_tried_again",
            f"{_TIME}limit__leaves_nothing_behind",
        ),
    ),
    Row(
        95,
        "the first bytes of an image come again after a correction of it",
        "the newest received bytes count; a new result replaces that of the correction",
        (
            f"{_INSTANCES}the_first_bytes_again_take_a_correction_back",
            f"{_WORKER}a_correction_that_is_taken_back_gives_a_new_result",
        ),
    ),
    Row(
        96,
        "an exam that comes series by series, minutes apart, to a busy worker",
        "one result; no word of a missing series before the wait is over",
        (
            f"{_ARRIVAL}series_by_series__one_result_and_no_word_before_it",
            f"{_ARRIVAL}localiser_first__waits_with_its_reason_and_is_superseded_in_silence",
            "unit/images/test_studies.py::test_late_image__its_job_takes_the_place_of_one_that_nobody_has_begun",
        ),
    ),
    Row(
        97,
        "a rule to keep that fits a part of a study only",
        "the study is analysed",
        ("unit/analysis/test_study_rules.py::test_rule_that_fits",),
    ),
    Row(
        98,
        "a report that was never sent, before one that is",
        "it is not named as predecessor",
        ("unit/analysis/test_study_rules.py::test_a_report_that_was_kept__is_no_predecessor_of_one_that_is_sent",),
    ),
    Row(
        101,
        "a web destination that redirects, or shows a certificate of a stranger",
        "nothing and no token goes elsewhere; tried again, alert",
        (
            f"{_HTTP}redirection__is_an_answer_and_the_token_goes_nowhere_else",
            f"{_HTTP}another_origin__gets_nothing",
            f"{_HTTP}environment__has_no_say",
            f"{_HTTP}tls__trusts_the_given_authority_alone_and_shows_our_certificate",
            f"{_HTTP}tls__adds_no_authorities_of_the_library",
            "integration/test_orthanc_dicomweb.py::test_tls__only_whom_the_authority_knows_and_only_with_our_certificate",
        ),
    ),
    Row(
        102,
        "an answer of a web destination that has no end, is compressed, or breaks off",
        "given up at a size and a time; tried again",
        (
            f"{_HTTP}answer__that_is_too_large_is_not_read",
            f"{_HTTP}answer__that_is_compressed_is_not_read",
            f"{_HTTP}answer__that_breaks_off_is_none",
            f"{_HTTP}answer__that_trickles_has_an_end",
            f"{_HTTP}silence__has_a_time_out",
            f"{_STOW}an_answer_that_breaks_off__is_none",
        ),
    ),
    Row(
        103,
        "STOW-RS: a part of a study refused, a success that names nothing, an archive killed in the middle",
        "each object by its own reason; looked for where nobody named it; sent again",
        (
            f"{_STOW}judge__by_the_reasons_of_the_object",
            f"{_STOW}partial_failure__each_object_goes_its_own_way",
            f"{_STOW}a_status_without_a_module__is_proven_even_if_nobody_asked",
            f"{_STOW}a_server_that_lets_nothing_through__is_tried_again_with_an_alert",
            "integration/test_orthanc_dicomweb.py::test_killed__in_the_middle_of_a_study_then_everything_arrives_once",
        ),
    ),
    Row(
        104,
        "a FHIR server that took a report and could not say so",
        "no second report",
        (f"{_FHIR}retry__makes_no_second_report",),
    ),
    Row(
        105,
        "STOW-RS: a multipart body that breaks the rules, ends early, or holds other types",
        "400, or 202 that names what was kept and a Failure Reason; 415 before the body",
        (
            f"{_STOW_IN}bad_multipart__what_was_kept_is_named",
            f"{_STOW_IN}parts_of_wrong_types__fail_by_themselves",
            f"{_STOW_IN}refusals__before_the_body_is_read",
        ),
    ),
    Row(
        106,
        "STOW-RS: huge parts, huge requests, thousands of parts",
        "the part fails alone; 413 or 202; memory bounded",
        (
            f"{_STOW_IN}huge_part__is_dropped_and_the_next_is_kept",
            f"{_STOW_IN}huge_request__413",
            f"{_STOW_IN}thousands_of_parts__are_counted",
            f"{_STOW_IN}memory__is_bounded_for_all_requests_together",
        ),
    ),
    Row(
        107,
        "STOW-RS: silence, a trickle, cut connections, silent strangers",
        "deadlines; places free again; what was kept stays",
        (
            f"{_STOW_IN}silence__in_the_body_is_given_up",
            f"{_STOW_IN}trickle__a_request_has_a_deadline",
            f"{_STOW_IN}cut_connection__what_was_kept_stays_and_the_place_is_free",
            f"{_STOW_IN}strangers__hold_nothing_for_long",
            f"{_STOW_IN}length_and_chunks_at_once__one_answer",
        ),
    ),
    Row(
        108,
        "STOW-RS: no token, a wrong one, that of a peer elsewhere, one token for two peers",
        "401 or 403 before the body; named when the node starts",
        (
            f"{_STOW_IN}refusals__before_the_body_is_read",
            "unit/receiving/test_tokens.py::test_tokens__that_are_wrong_are_all_named",
        ),
    ),
    Row(
        109,
        "STOW-RS: the disk is full, the database is locked or lost, the process is killed",
        "503 or 202, each instance named; nothing acknowledged is lost",
        (
            f"{_STOW_IN}disk_full__503_and_each_instance_is_named",
            f"{_STOW_IN}database_locked__the_answer_waits",
            f"{_STOW_IN}database_lost__503_and_nothing_is_acknowledged",
            f"{_STOW_IN}killed__what_was_acknowledged_is_there",
        ),
    ),
    Row(
        110,
        "a file is released from quarantine that contradicts an image, or is still wrong",
        "it stays there; nothing is replaced",
        (
            "acceptance/test_quarantine.py::test_release__never_gets_round_a_conflict",
            "acceptance/test_quarantine.py::test_release__what_is_still_wrong_stays",
        ),
    ),
    Row(
        111,
        "a series that the node refuses, among those that route.py sends",
        "reported, tried again, listed; the others go on; while the node is down everything waits",
        (
            "unit/test_route.py::test_route__goes_on_past_a_refused_series_and_reports_it",
            "unit/test_route.py::test_route__while_the_node_is_down_everything_waits",
        ),
    ),
    Row(
        112,
        "--purge-data with another path typed, or on a folder without a node",
        "nothing there is deleted",
        (
            "upgrade/test_install.py::test_install__a_fresh_node_and_it_says_that_it_goes_on",
            "upgrade/test_install.py::test_install__purges_no_folder_without_a_node",
        ),
    ),
    Row(
        113,
        "an upgrade whose release does not start",
        "program, units and database are as before, and run",
        ("upgrade/test_install.py::test_upgrade__that_does_not_start_is_taken_back",),
    ),
    Row(
        114,
        "WADO-RS: a cut body, wrong types, a wrong part, 401 to 503, a redirection; searches that fail or are not whole",
        "what came whole is kept byte for byte, the rest is named and comes with the next pull; no login leaves",
        (
            f"{_WADO}cut__what_came_whole_is_kept_and_the_rest_comes_next_time",
            f"{_WADO}no_last_boundary__is_said",
            f"{_WADO}status__is_named_and_nothing_is_kept",
            f"{_WADO}redirect__is_named_and_never_followed",
            f"{_WADO}wrong_type__is_named_and_nothing_is_kept",
            f"{_WADO}wrong_part__is_named_and_the_others_are_kept",
            f"{_WADO}one_series_fails__the_others_come",
            f"{_WADO}search__goes_on_where_the_archive_stops",
            f"{_WADO}search__an_archive_that_begins_again_is_named",
            f"{_WADO}search__that_fails_is_named",
        ),
    ),
    Row(
        115,
        "WADO-RS: a huge part, a body without end, silence, a trickle, no room on the disk",
        "an end in bytes, parts and time; memory bounded; the refused object is named",
        (
            f"{_WADO}huge_part__is_refused_by_name_and_never_held",
            f"{_WADO}endless__has_an_end",
            f"{_WADO}silence__is_given_up",
            f"{_WADO}trickle__a_series_has_a_deadline",
            f"{_WADO}no_room__asks_for_nothing",
        ),
    ),
)


def row_of(number: int) -> Row:
    """The row with this number."""
    return next(row for row in ROWS if row.number == number)
