"""The rules of the wire contract, and the tests that hold them: sections 1, 3 and 4 here, 2, 5 and 6 beside.

A key is the section, the rule's number there, and a letter for each sentence of it that can be tested alone.
Rules without a number have a word. Tests are named from tests/ on.
"""

from __future__ import annotations

from conformance.rule import Rule
from conformance.rules_beside import BESIDE

_S = "conformance/test_stream.py::test_"
_C = "conformance/test_conversation.py::test_"
_F = "conformance/test_frames.py::test_"
_GX = "gateway/test_exact.py::test_"
_GS = "gateway/test_session.py::test_"
_GM = "gateway/test_mirror.py::test_"
_GR = "gateway/test_raw.py::test_"
_GA = "gateway/test_access.py::test_"
_SL = "gateway/test_slow.py::test_"
_B = "gateway/test_buses.py::test_"
_O = "orderbook/test_service.py::test_"
_V = "core/test_vectors.py::test_"
_VF = "core/test_vector_files.py::test_"
_CL = "client/test_feed.py::test_"
_J = "javascript/test_javascript.py::test_"


def _rule(key: str, text: str, *tests: str) -> Rule:
    return Rule(key, text, tests)


RULES: tuple[Rule, ...] = (
    *BESIDE,
    # --- readers --------------------------------------------------------------------------------------
    _rule("0.fields", "unknown fields are ignored by readers", _GS + "unknown_fields_are_ignored"),
    _rule("0.types", "unknown types are ignored by readers", _GM + "unknown_kind_and_book_are_ignored"),
    # --- 1. ids, numbers, time ------------------------------------------------------------------------
    _rule("1.id", "a book id is three tokens of A-Z a-z 0-9 _ -", _S + "ids_numbers_times_and_levels"),
    _rule("1.id-bad", "what is no id or pattern is refused", _GS + "bad_patterns"),
    _rule("1.hash", "the market id is 16 hex digits of SHA-256 over the market key", _V + "market_keys"),
    _rule("1.unmapped", "without a mapping ids come from platform and slug", _V + "unmapped_aggregates"),
    _rule("1.pattern", "* is one token, > one or more at the end", _V + "patterns", _GS + "patterns"),
    _rule(
        "1.pattern-no", "wildcards never match no; no has to be written", _VF + "patterns", _GS + "patterns"
    ),
    _rule("1.number", "numbers are decimal strings in shortest exact form", _V + "numbers_are_exact"),
    _rule("1.number-bad", "what would need rounding is refused", _V + "what_does_not_fit_is_refused"),
    _rule("1.price", "level prices lie between 0 and 1", _S + "numbers_out_of_bounds_take_the_leg_out"),
    _rule(
        "1.size",
        "one leg has at most 10^11 contracts at a level",
        _S + "numbers_out_of_bounds_take_the_leg_out",
    ),
    _rule("1.time", "stamps are microseconds since 1970 as integers", _S + "ids_numbers_times_and_levels"),
    _rule(
        "1.leg",
        "a leg is named by its platform, further ones -2, -3",
        _S + "second_leg_of_a_platform_is_numbered",
    ),
    _rule("1.level", "a level is total and parts, which add up exactly", _S + "ids_numbers_times_and_levels"),
    _rule("1.level-replace", "in deltas a level replaces the whole level", _S + "a_plain_reader_stays_exact"),
    _rule("1.no", "a NO view is the complement with sides swapped", _GX + "all_views_stay_exact"),
    _rule("1.no-bus", "only YES is published on the bus", _S + "ids_numbers_times_and_levels"),
    # --- 3. consolidated messages ---------------------------------------------------------------------
    _rule(
        "3.bytes", "the bytes of the bus are the bytes of the stream", _GX + "bytes_are_the_published_bytes"
    ),
    _rule("3.1a", "seq rises by one; prev, seq, digest, state, crossed", _S + "seq_rises_by_one"),
    _rule("3.1b", "a leg's change of state: one delta, one status", _S + "a_legs_change_of_state"),
    _rule("3.2a", "an epoch opens with a snapshot, seq 1, why epoch", _S + "an_epoch_opens_with_a_snapshot"),
    _rule("3.2b", "epochs are per book and change with its legs", _S + "epochs_are_per_book_and_grow"),
    _rule(
        "3.2c",
        "an epoch is larger than any before, also after a restart",
        _S + "epochs_are_per_book_and_grow",
    ),
    _rule("3.3a", "snapshot levels best first, each price once per side", _S + "a_plain_reader_stays_exact"),
    _rule("3.3b", "one venue transaction is one delta", _S + "one_transaction_is_one_delta"),
    _rule("3.3c", "no message when nothing shown changed", _S + "nothing_shown_nothing_said"),
    _rule("3.4a", "only live legs contribute size", _S + "only_live_legs_contribute"),
    _rule("3.4b", "live, degraded, down", _S + "states"),
    _rule("3.4c", "crossed: best bid above best ask", _S + "crossed"),
    _rule("3.4d", "the digest of an empty book is 0", _S + "states"),
    _rule("3.5a", "cause and why have the contract's words", _S + "cause_and_whys"),
    _rule(
        "3.5b",
        "a resolved book ends closed with result, dropped after 60 s",
        _S + "a_resolved_book_ends_closed",
        _GM + "resolved_book_is_dropped",
    ),
    _rule("3.6", "ts: venue, recv, norm, book", _S + "stamps"),
    _rule("3.7a", "marks each second, also when empty", _S + "marks"),
    _rule("3.7b", "marks name what changed and one thirtieth of all", _S + "marks"),
    _rule("3.7c", "marks are split at 256 KiB", _S + "large_marks_are_split"),
    _rule("3.7d", "a mark ahead of the reader reveals a loss", _GM + "last_message_lost_is_found_by_a_mark"),
    _rule(
        "3.8", "trades: YES coordinates, outside seq, the venue's id", _S + "trades_are_outside_the_sequence"
    ),
    _rule(
        "3.9a",
        "snapshots by request, one message per book",
        _O + "snapshots_by_request_end_with_an_empty_answer",
    ),
    _rule("3.9b", "join: subscribe, buffer, ask, drop, go on", _S + "join_by_snapshot"),
    _rule("3.9c", "changes during the request are replayed", _GM + "changes_during_the_request_are_replayed"),
    _rule("3.digest", "the digest's vectors", _V + "salts", _V + "cells", _GX + "digest_vectors"),
    # --- 4. the conversation --------------------------------------------------------------------------
    _rule(
        "4.protocol", "sub-protocol wup.v1, optional", _GS + "welcome", _GS + "other_subprotocol_is_no_error"
    ),
    _rule("4.text", "one JSON object per text frame", _C + "one_object_per_text_frame"),
    _rule("4.plain", "no compression", _GR + "accept_key"),
    _rule("4.id", "an id is echoed in exactly one answer", _C + "each_op_gets_one_answer_with_its_id"),
    _rule("4.welcome", "welcome is first and tells the limits", _GS + "welcome"),
    _rule("4.op-subscribe", "subscribe", _GS + "patterns"),
    _rule("4.op-unsubscribe", "unsubscribe", _GS + "overlapping_patterns_deliver_once"),
    _rule("4.op-resync", "resync", _GS + "resync"),
    _rule("4.op-auth", "auth", _GA + "auth_by_message", _C + "auth_without_tokens_is_answered"),
    _rule("4.op-list", "list", _GS + "list", _C + "list_is_paged"),
    _rule("4.op-ping", "ping", _GS + "ping", _C + "ping_op_and_control_pings_are_both_answered"),
    _rule("4.opt-depth", "depth: exactly the n best levels", _GX + "depth_stream_holds_the_best_levels"),
    _rule("4.opt-every", "every_ms: at most one delta per interval", _GX + "interval_stream"),
    _rule("4.opt-trades", "trades of the matching books", _GS + "trades"),
    _rule(
        "4.opt-slow",
        "on_slow disconnect",
        _SL + "on_slow_disconnect",
        _C + "on_slow_belongs_to_its_subscription",
    ),
    _rule("4.1a", "one snapshot per book, then no hole and no repeat", _GX + "all_views_stay_exact"),
    _rule("4.1b", "a book that begins to match joins", _GS + "late_book_joins"),
    _rule("4.1c", "an id not known yet is accepted and joins later", _GS + "late_book_joins"),
    _rule("4.1d", "platform:asset stands for its book", _GS + "patterns", _GS + "late_book_joins"),
    _rule("4.2a", "each stream once, however many patterns match", _GS + "overlapping_patterns_deliver_once"),
    _rule("4.2b", "messages carry depth and every_ms", _C + "a_late_reader_gets_the_state_last_sent"),
    _rule("4.2c", "prev is the seq last sent, digest of the levels shown", _GX + "interval_stream"),
    _rule("4.2d", "a status is never held back", _GX + "status_is_not_held_back"),
    _rule("4.2e", "a snapshot at join is the state last sent", _C + "a_late_reader_gets_the_state_last_sent"),
    _rule("4.2f", "clients of one stream share bytes", _C + "a_late_reader_gets_the_state_last_sent"),
    _rule("4.3a", "an op is all or nothing, at = first bad entry", _GS + "bad_patterns"),
    _rule("4.3b", "the same again: already_subscribed", _GS + "already_and_not_subscribed"),
    _rule("4.3c", "unsubscribe takes a pattern in force", _GS + "already_and_not_subscribed"),
    _rule("4.3d", "after unsubscribed nothing more comes", _SL + "unsubscribe_during_a_large_subscribe"),
    _rule("4.3e", "growth beyond the limit: notice books_limit", _GS + "pattern_and_book_limits"),
    _rule("4.4a", "heartbeat after heartbeat_ms of silence", _GX + "heartbeat_counts_agree"),
    _rule(
        "4.4b",
        "heartbeat every 5 s in any case",
        _C + "heartbeat_in_any_case",
        _SL + "a_reader_that_is_always_behind_gets_its_heartbeat",
    ),
    _rule(
        "4.4c",
        "count = snapshots, deltas, statuses and trades written",
        _GX + "heartbeat_counts_agree",
        _GS + "trades",
        _SL + "heartbeat_count_after_drops",
    ),
    _rule("4.5a", "nothing unverified is forwarded", _GM + "tampered_delta_is_not_forwarded"),
    _rule("4.5b", "a loss is told without a position", _C + "a_loss_is_told_without_a_position"),
    _rule("4.5c", "then comes the snapshot", _GS + "lost_bus_message_is_told_and_repaired"),
    _rule("4.6a", "1 MiB or 500 ms: dropped, told, owed", _SL + "slow_reader_is_conflated"),
    _rule("4.6b", "notice slow at most once a second", _C + "an_owed_book_gets_no_deltas"),
    _rule("4.6c", "owed snapshots are paced", _SL + "large_subscribe_is_paced_not_slow"),
    _rule("4.6d", "a book that is owed one gets no deltas", _C + "an_owed_book_gets_no_deltas"),
    _rule("4.6e", "what waits for one client is bounded", _SL + "memory_of_a_stopped_reader_is_bounded"),
    _rule("4.6f", "one slow reader never delays another", _SL + "a_slow_reader_delays_nobody"),
    _rule(
        "4.6g",
        "nor does one large operation",
        "security/test_websocket.py::test_w12_large_operations_delay_nobody",
        "gateway/test_pieces.py::test_any_order_of_things_during_large_operations",
    ),
    _rule("4.7a", "an error does not close", _GS + "bad_messages"),
    _rule(
        "4.7b", "bad_json, bad_request, unknown_op", _GS + "bad_messages", _C + "duplicate_keys_are_refused"
    ),
    _rule("4.7c", "bad_pattern", _GS + "bad_patterns"),
    _rule("4.7d", "too_many_patterns, too_many_books", _GS + "pattern_and_book_limits"),
    _rule("4.7e", "unknown_book", _GS + "resync"),
    _rule("4.7f", "unauthorized, forbidden", _GA + "auth_by_message"),
    _rule("4.7g", "rate_limited", _GS + "message_rate"),
    _rule("4.7h", "internal", _GR + "a_fault_of_one_connection_stays_there"),
    _rule("4.8", "graceful stop: going_away, flush, 1012", _GS + "going_away"),
    # --- closes ---------------------------------------------------------------------------------------
    _rule(
        "close-1002",
        "protocol error",
        _GR + "broken_frames",
        _F + "reserved_bits",
        _F + "unknown_opcodes",
        _F + "closes_that_are_not",
        _F + "sixteen_pieces_are_the_most",
        _GR + "unfinished_message_is_cut",
    ),
    _rule("close-1003", "binary frame", _GR + "broken_frames"),
    _rule(
        "close-1007",
        "bad UTF-8",
        _GR + "broken_frames",
        _F + "invalid_utf8",
        _F + "a_reason_that_is_not_utf8",
    ),
    _rule("close-1009", "over 64 KiB", _GR + "broken_frames"),
    _rule("close-1011", "server fault", _C + "server_fault_closes_1011"),
    _rule("close-1012", "restart", _GS + "going_away"),
    _rule("close-1013", "overloaded", _C + "overload_closes_1013"),
    _rule("close-4400", "20 bad messages in 10 s", _GS + "twenty_bad_messages_close_4400"),
    _rule(
        "close-4401",
        "token missing, bad, expired or revoked",
        _GA + "bad_tokens",
        _GA + "revoked_within_five_seconds",
    ),
    _rule("close-4403", "not allowed any more", _C + "narrowed_scopes_close_4403"),
    _rule("close-4408-auth", "no auth within 5 s", _GA + "no_auth_in_time"),
    _rule("close-4408-subscribe", "no first subscribe within 30 s", _GS + "deadlines"),
    _rule("close-4429", "over the message rate twice", _GS + "message_rate", _GR + "ping_flood"),
    _rule("close-4490", "slow reader", _SL + "stuck_reader_is_closed", _SL + "on_slow_disconnect"),
    _rule("close-4491", "no pong", _GR + "no_pong_closes_4491"),
    # --- RFC 6455 -------------------------------------------------------------------------------------
    _rule("6455-handshake", "the handshake's answer", _GR + "accept_key", _F + "broken_handshakes"),
    _rule(
        "6455-fragments",
        "fragments, and control frames between them",
        _GR + "fragments_and_control_frames_between",
        _F + "empty_pieces_and_pings_between",
        _GR + "valid_utf8_split_in_a_character",
    ),
    _rule("6455-sizes", "125, 126, 65535, 65536 in", _GR + "message_sizes", _F + "pings_of_every_size"),
    _rule(
        "6455-sizes-out",
        "the shortest length form out",
        _F + "our_frames_use_the_shortest_length",
        _F + "received_sizes_around_every_border",
    ),
    _rule(
        "6455-mask",
        "client frames are masked, whatever the mask",
        _GR + "broken_frames",
        _F + "a_mask_of_zeros",
    ),
    _rule("6455-pong", "a pong that nobody asked for", _F + "pong_of_nobody"),
    _rule(
        "6455-packets",
        "any cutting into packets",
        _GR + "one_byte_at_a_time",
        _F + "many_frames_in_one_packet",
    ),
    _rule("6455-close", "a close is echoed", _GR + "close_is_echoed", _F + "closes_that_are_allowed"),
    _rule(
        "6455-races",
        "close races",
        _GR + "frames_after_close_are_ignored",
        _F + "close_while_the_server_is_sending",
        _F + "both_close_at_once",
        _F + "a_reset_in_the_middle_of_a_frame",
        _F + "end_of_stream_without_a_close",
    ),
    # --- limits and access ----------------------------------------------------------------------------
    _rule("limit-defaults", "the contract's defaults", _C + "default_limits"),
    _rule("limit-message", "64 KiB", _GR + "broken_frames", _GR + "message_sizes"),
    _rule("limit-depth", "JSON depth 8", _GS + "bad_messages", _GS + "unknown_fields_are_ignored"),
    _rule("limit-rate", "20 messages a second, burst 40", _GS + "message_rate"),
    _rule("limit-patterns", "patterns and books per connection", _GS + "pattern_and_book_limits"),
    _rule("limit-address", "connections per address", _GR + "connection_limits"),
    _rule("limit-all", "connections in all", _C + "connections_in_all"),
    _rule(
        "limit-new",
        "new connections a second",
        _GR + "connection_rate",
        _C + "overload_keeps_new_clients_out",
    ),
    _rule("access", "Origin, Host, no token in the address", _GR + "handshake_refusals"),
    _rule("access-token", "tokens by header or message", _GA + "auth_by_header", _GA + "auth_by_message"),
    # --- what a client does ---------------------------------------------------------------------------
    _rule(
        "client-vectors",
        "conversations and their verdicts",
        _VF + "streams",
        _VF + "every_verdict_occurs",
        _J + "its_own_tests",
        _J + "same_verdicts_as_the_native_copy",
    ),
    # What its_own_tests runs for each of these in JavaScript is named in tests/javascript/feed.test.mjs.
    _rule(
        "client-gap",
        "a hole or a wrong digest: not exact, resync",
        _CL + "wrong_stream_is_noticed",
        _J + "its_own_tests",
        _J + "lost_messages_and_restart",
    ),
    _rule(
        "client-status",
        "status by the gateway: wait for the snapshot",
        _CL + "gateway_says_gap",
        _J + "its_own_tests",
    ),
    _rule("client-count", "another count: reconnect", _CL + "wrong_heartbeat_count", _J + "its_own_tests"),
    _rule(
        "client-silence", "no frame for 5 s: reconnect", _CL + "silence_means_reconnect", _J + "its_own_tests"
    ),
)
