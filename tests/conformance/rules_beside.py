"""The rules beside the conversation: between the stages (wire.md section 2), HTTP (section 5) and recordings
(section 6)."""

from __future__ import annotations

from conformance.rule import Rule

_A = "aggregator/test_aggregator.py::test_"
_P = "replay/test_player.py::test_"
_N = "normalizer/test_engine.py::test_"
_NS = "normalizer/test_service.py::test_"
_O = "orderbook/test_service.py::test_"
_OH = "orderbook/test_http.py::test_"
_GH = "gateway/test_http.py::test_"
_E = "events/test_service.py::test_"
_SH = "security/test_http.py::test_"
_D = "conformance/test_asyncapi.py::test_"


def _rule(key: str, text: str, *tests: str) -> Rule:
    return Rule(key, text, tests)


BESIDE: tuple[Rule, ...] = (
    # --- 2. between the stages ------------------------------------------------------------------------
    _rule(
        "2.raw",
        "raw frames: the venue's bytes, counted",
        _A + "frames_are_forwarded_untouched_and_counted",
    ),
    _rule(
        "2.normalised", "the fields of the four messages", _N + "the_messages_are_those_of_the_wire_contract"
    ),
    _rule(
        "2.n",
        "n rises by one an asset; the reader finds no hole where there is none",
        _N + "the_store_takes_every_message_without_a_hole",
        _N + "requests_are_answered_from_memory",
    ),
    _rule(
        "2.n-hole", "a hole: resync, and a snapshot is asked for", _O + "a_hole_takes_the_leg_out_and_asks"
    ),
    _rule(
        "2.request",
        "a snapshot on request has its n",
        _NS + "requests_are_answered_and_our_own_wishes_are_not",
    ),
    _rule(
        "2.marks",
        "marks each second, of what changed and one thirtieth of all",
        _NS + "marks_come_from_the_start",
        _N + "marks_name_what_changed_and_everything_within_thirty_seconds",
    ),
    _rule(
        "2.marks-ahead",
        "a mark ahead of the reader reveals a loss, on both hops",
        _N + "marks_find_a_lost_last_record",
        _O + "a_lost_last_message_is_found_by_the_marks",
    ),
    _rule(
        "2.marks-missed",
        "two marks missed: those legs go down, on both hops",
        _N + "marks_that_stop_take_the_legs_down_and_bring_them_back",
        _O + "a_dead_normalizer_takes_its_legs_down",
    ),
    # --- 5. HTTP --------------------------------------------------------------------------------------
    _rule("5.books", "lists by pattern or asset, paged, at most 1,000", _OH + "lists_page_and_filter"),
    _rule(
        "5.book",
        "one book is the snapshot message, with ETag and 304",
        _OH + "a_book_is_the_snapshot_message",
    ),
    _rule("5.book-503", "503 when the service cannot vouch", _OH + "a_book_that_nobody_vouches_for_is_503"),
    _rule("5.snapshots", "one snapshot a line, streamed", _OH + "snapshots_are_streamed_one_per_line"),
    _rule(
        "5.bbo",
        "best bid and ask, and a crossing's size",
        _OH + "best_bid_and_offer_per_platform_and_at_a_crossing",
    ),
    _rule("5.aggregates", "what books are about", _OH + "aggregates_tell_what_books_are_about"),
    _rule(
        "5.health",
        "healthz: the process is up; readyz: 503 with codes",
        _OH + "health_and_readiness",
        _GH + "health_and_page",
        _GH + "not_ready_without_marks",
        _SH + "h6_health_says_only_ok",
    ),
    _rule(
        "5.events",
        "events listed, and one shown",
        _E + "listing",
        _E + "venue_down_serves_last_good_data",
    ),
    _rule("5.track", "track and untrack", _E + "track_and_untrack", _E + "tracking_errors"),
    _rule(
        "5.gateway",
        "the page, wup.js and the documents",
        _GH + "health_and_page",
        _D + "the_document_is_sound",
    ),
    _rule(
        "5.forward",
        "books and aggregates forwarded, ETag and 304 passed on",
        _GH + "forwarding",
        _GH + "pages_over_shards_lose_nothing",
    ),
    _rule("5.cors", "other origins only by ALLOWED_ORIGINS", _GH + "cors_only_for_listed_origins"),
    _rule(
        "5.errors",
        "RFC 9457 problem documents",
        _OH + "errors_are_problem_documents",
        _GH + "errors_are_problems",
    ),
    _rule(
        "5.openapi",
        "OpenAPI served and true of live answers",
        "orderbook/test_openapi.py::test_live_answers_are_what_the_document_says",
        _E + "openapi_is_served",
        _SH + "h1_served_documents_are_obeyed",
    ),
    _rule(
        "6.log",
        "verdicts, mapping changes and closes come from the log",
        _P + "verdicts_and_closes_come_from_the_log",
    ),
    _rule(
        "6.timers",
        "a log without verdicts runs its timers on rx_us",
        _P + "without_verdicts_deadlines_run_on_receive_times",
    ),
    _rule(
        "6.identity",
        "live and replay are the same but for their clocks",
        _P + "live_and_replay_are_compared_without_their_clocks",
        "replay/test_identity.py::test_replay_of_a_live_run_is_identical",
    ),
    _rule(
        "6.catalog",
        "the tokens of one market share one book",
        "replay/test_commands.py::test_a_catalog_file_makes_one_book_of_two_tokens",
    ),
    _rule("5.asyncapi", "AsyncAPI served and true of live frames", _D + "live_frames_obey_the_document"),
)
