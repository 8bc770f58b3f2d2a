//! The printed examples and rules of the wire contract, one by one.
#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod support;

use serde_json::Value;
use support::{levels_json, message};
use wup::change::{Change, ChangeKind};
use wup::complement::mirror_message;
use wup::error::Error;
use wup::leg::LegState;
use wup::mapping::Row;
use wup::mirror::{Mirror, Verdict};
use wup::store::Store;

const BOOK: &str = "fed-2026-12.9b1c22d0a47e55f1.yes";
const KALSHI: (&str, &str) = ("kalshi", "KXFED-26DEC-C25");
const POLYMARKET: (&str, &str) = ("polymarket", "6519...");
const NOW: i64 = 1_795_353_605_001_000;

/// The three example messages of section 3 (the status with the legs of the snapshot).
const SNAPSHOT: &str = r#"{"type":"snapshot","book":"fed-2026-12.9b1c22d0a47e55f1.yes","epoch":1795353600123,"seq":10481,"digest":2395318003,"state":"live","crossed":false,"why":"subscribe","mapping":412,"title":"Fed decision in December","label":"25 bps cut","legs":{"kalshi":{"platform":"kalshi","asset":"KXFED-26DEC-C25","inverted":false,"state":"live","age_ms":12,"tick":"0.01","min_size":"0.01"},"polymarket":{"platform":"polymarket","asset":"6519...","inverted":false,"state":"live","age_ms":3,"tick":"0.001","min_size":"5"}},"bids":[["0.52","1200",{"kalshi":"500","polymarket":"700"}],["0.51","300.5",{"polymarket":"300.5"}]],"asks":[["0.54","250",{"kalshi":"250"}]],"ts":{"book":1795353605001000}}"#;
const DELTA: &str = r#"{"type":"delta","book":"fed-2026-12.9b1c22d0a47e55f1.yes","epoch":1795353600123,"prev":10481,"seq":10482,"digest":3279520256,"state":"live","crossed":false,"cause":"polymarket","bids":[],"asks":[["0.54","0",{}],["0.53","90",{"polymarket":"90"}]],"ts":{"venue":1795353605101000,"recv":1795353605123000,"norm":1795353605123020,"book":1795353605123026}}"#;
const STATUS: &str = r#"{"type":"status","book":"fed-2026-12.9b1c22d0a47e55f1.yes","epoch":1795353600123,"prev":10482,"seq":10483,"digest":3279520256,"state":"degraded","crossed":false,"why":"venue_silent","legs":{},"ts":{"book":1795353620000000}}"#;

fn row(asset: (&str, &str), book: &str, inverted: bool) -> Row {
    Row { platform: asset.0.into(), asset: asset.1.into(), book: book.into(), inverted }
}

fn apply(store: &Store, bytes: &[u8], now_us: i64) -> Vec<Change> {
    let mut out = Vec::new();
    store.apply(bytes, now_us, &mut out).unwrap();
    out
}

fn read(change: &Change) -> Value {
    serde_json::from_slice(&change.payload).unwrap()
}

/// The example book of section 3 built from its two legs.
fn example() -> Store {
    let store = Store::new(0);
    store.describe(BOOK, Some("Fed decision in December"), Some("25 bps cut")).unwrap();
    store.set_facts(KALSHI.0, KALSHI.1, Some("0.01"), Some("0.01")).unwrap();
    store.set_facts(POLYMARKET.0, POLYMARKET.1, Some("0.0010"), Some("5")).unwrap();
    let rows = [row(KALSHI, BOOK, false), row(POLYMARKET, BOOK, false)];
    store.set_mapping(412, &rows, 1_795_353_600_123_456, &mut Vec::new()).unwrap();
    let stamp = |us: i64| format!(r#","ts":{{"recv":{us}}}"#);
    let kalshi = levels_json(&[(520_000, 500_000_000)], &[(540_000, 250_000_000)]) + &stamp(NOW - 12_000);
    apply(&store, &message("snapshot", KALSHI, (1, 1), &kalshi), NOW);
    let polymarket =
        levels_json(&[(510_000, 300_500_000), (520_000, 700_000_000)], &[]) + &stamp(NOW - 3_999);
    apply(&store, &message("snapshot", POLYMARKET, (1, 1), &polymarket), NOW);
    store
}

/// The store must encode the example snapshot byte for byte, apart from its place in the sequence.
#[test]
fn example_snapshot() {
    let bytes = example().snapshot(BOOK, None, "subscribe", NOW).unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), SNAPSHOT.replace("10481", "5"));
}

/// A client must accept the printed examples as exact, and its own snapshot must be the printed one.
#[test]
fn examples_are_exact() {
    let mut mirror = Mirror::default();
    assert_eq!(mirror.apply(SNAPSHOT.as_bytes()).unwrap(), Verdict::Exact);
    let copy = mirror.snapshot(false, None, "subscribe", NOW);
    assert_eq!(String::from_utf8(copy).unwrap(), SNAPSHOT);
    assert_eq!(mirror.apply(DELTA.as_bytes()).unwrap(), Verdict::Exact);
    assert_eq!((mirror.seq, mirror.digest), (10_482, 3_279_520_256));
    assert_eq!(mirror.apply(STATUS.as_bytes()).unwrap(), Verdict::Exact);
    assert_eq!(mirror.state.as_str(), "degraded");
}

/// A delta of the store has the printed fields in the printed order.
#[test]
fn delta_fields() {
    let store = example();
    let rest = r#","bids":[],"asks":[["0.53","90"]],"ts":{"norm":1795353605123020,"venue":1795353605101000,"recv":1795353605123000}"#;
    let changes = apply(&store, &message("update", POLYMARKET, (1, 2), rest), 1_795_353_605_123_026);
    let expected = DELTA.replace(r#"["0.54","0",{}],"#, "").replace("10481", "5").replace("10482", "6");
    let expected = expected.replace("3279520256", &changes[0].digest.to_string());
    assert_eq!(String::from_utf8(changes[0].payload.clone()).unwrap(), expected);
}

/// The NO view swaps sides and complements prices; every other byte stays.
#[test]
fn no_view() {
    let no = String::from_utf8(mirror_message(DELTA.as_bytes()).unwrap()).unwrap();
    let expected = DELTA.replace(".yes", ".no").replace(
        r#""bids":[],"asks":[["0.54","0",{}],["0.53","90",{"polymarket":"90"}]]"#,
        r#""bids":[["0.46","0",{}],["0.47","90",{"polymarket":"90"}]],"asks":[]"#,
    );
    assert_eq!(no, expected);
    let mut mirror = Mirror::default();
    assert_eq!(mirror.apply(&mirror_message(SNAPSHOT.as_bytes()).unwrap()).unwrap(), Verdict::Exact);
    assert_eq!(mirror.apply(no.as_bytes()).unwrap(), Verdict::Exact);
    assert_eq!(mirror.digest, 3_279_520_256);
    let trade = r#"{"type":"trade","book":"a.b.yes","platform":"kalshi","asset":"K","price":"0.53","size":"10","side":"buy","id":"x","ts":{}}"#;
    let no = String::from_utf8(mirror_message(trade.as_bytes()).unwrap()).unwrap();
    assert_eq!(no, trade.replace(".yes", ".no").replace("0.53", "0.47"));
}

/// A leg that leaves `live` is one delta, then one status, and both carry the new state (rule 1).
#[test]
fn leg_leaves_and_returns() {
    let store = example();
    let rest = r#","state":"down","why":"venue_silent""#;
    let changes = apply(&store, &message("state", KALSHI, (1, 2), rest), NOW);
    let kinds: Vec<_> = changes.iter().map(|change| change.kind).collect();
    assert_eq!(kinds, [ChangeKind::Delta, ChangeKind::Status]);
    let (delta, status) = (read(&changes[0]), read(&changes[1]));
    assert_eq!((&delta["state"], &status["state"]), (&"degraded".into(), &"degraded".into()));
    assert_eq!(delta["bids"], serde_json::json!([["0.52", "700", {"polymarket": "700"}]]));
    assert_eq!(delta["asks"], serde_json::json!([["0.54", "0", {}]]));
    assert_eq!(status["why"], "venue_silent");
    assert_eq!(status["legs"]["kalshi"]["state"], "down");
    assert!(apply(&store, &message("state", KALSHI, (1, 3), rest), NOW).is_empty(), "no change, no message");
    let back = levels_json(&[(520_000, 500_000_000)], &[(540_000, 250_000_000)]);
    let changes = apply(&store, &message("snapshot", KALSHI, (1, 4), &back), NOW);
    assert_eq!(read(&changes[1])["why"], "leg_snapshot");
    assert_eq!(changes[1].digest, 2_395_318_003);
    // A leg without sizes changes its state with a status alone.
    apply(&store, &message("snapshot", KALSHI, (1, 5), &levels_json(&[], &[])), NOW);
    assert_eq!(apply(&store, &message("state", KALSHI, (1, 6), rest), NOW).len(), 1);
}

/// A hole in `n` is told once: sizes out, status, one wish for a snapshot; marks repeat the wish.
#[test]
fn holes() {
    let store = example();
    drop(store.take_resyncs());
    let update = levels_json(&[(100_000, 1_000_000)], &[]);
    let changes = apply(&store, &message("update", KALSHI, (1, 5), &update), NOW);
    assert_eq!(changes.len(), 2);
    assert_eq!(read(&changes[1])["why"], "seq_gap");
    for n in [6, 9, 11] {
        assert!(apply(&store, &message("update", KALSHI, (1, n), &update), NOW).is_empty());
    }
    let wishes = store.take_resyncs();
    assert_eq!(wishes.len(), 1);
    assert_eq!((&*wishes[0].asset, wishes[0].why), (KALSHI.1, "seq_gap"));
    let marks =
        |n: i64| format!(r#"{{"type":"marks","epoch":1,"assets":{{"{}":{n},"unmapped":5}}}}"#, KALSHI.1);
    let mut out = Vec::new();
    store.check_marks("kalshi", marks(11).as_bytes(), NOW, &mut out).unwrap();
    assert_eq!((out.len(), store.take_resyncs().len()), (0, 1), "the wish may have been lost");
    apply(&store, &message("snapshot", KALSHI, (1, 12), &update), NOW);
    store.check_marks("kalshi", marks(12).as_bytes(), NOW, &mut out).unwrap();
    assert_eq!((out.len(), store.take_resyncs().len()), (0, 0));
    store.check_marks("kalshi", marks(13).as_bytes(), NOW, &mut out).unwrap();
    assert_eq!((out.len(), store.take_resyncs().len()), (2, 1), "a lost last message is found");
    assert!(matches!(store.check_marks("kalshi", b"{}", NOW, &mut out), Err(Error::Parse(_))));
}

/// A hole before a state message: a graver state is believed all the same.
#[test]
fn hole_before_a_state() {
    let store = example();
    let changes =
        apply(&store, &message("state", KALSHI, (1, 9), r#","state":"halted","why":"halted""#), NOW);
    assert_eq!(read(&changes[1])["legs"]["kalshi"]["state"], "halted");
    let changes = apply(&store, &message("state", POLYMARKET, (1, 9), r#","state":"live""#), NOW);
    assert_eq!(read(&changes[1])["legs"]["polymarket"]["state"], "resync");
}

/// Only input whose leg cannot be told is an error; every other bad message puts its leg into doubt.
#[test]
fn bad_input() {
    for bad in [
        &b""[..],
        b"{",
        b"[]",
        b"null",
        b"\xff",
        br#"{"type":"update"}"#,
        br#"{"type":"update","platform":5}"#,
    ] {
        let store = example();
        assert!(matches!(store.apply(bad, NOW, &mut Vec::new()), Err(Error::Parse(_))), "{bad:?}");
    }
    let store = example();
    let unknown = message("update", ("kalshi", "NEVER"), (1, 1), "");
    assert!(matches!(store.apply(&unknown, NOW, &mut Vec::new()), Err(Error::UnknownAsset { .. })));
    assert!(
        apply(&store, br#"{"type":"marks","epoch":1,"assets":{}}"#, NOW).is_empty(),
        "unknown types are ignored"
    );
    let known = r#"{"type":"update","platform":"kalshi","asset_id":"KXFED-26DEC-C25","epoch":1,"n":2"#;
    for bad in [
        r#","bids":[["0","1"]]}"#,
        r#","bids":[["1","1"]]}"#,
        r#","bids":[["0.1234567","1"]]}"#,
        r#","bids":[["0.5","100000000000.000001"]]}"#,
        r#","bids":[["0.5","-1"]]}"#,
        r#","bids":[[0.5,"1"]]}"#,
        r#","bids":[["",""]]}"#,
        r#","bids":{}}"#,
        r#","bids":[["0.5","1"]]"#,
        r#","bids":[["0.5","1"#,
        "",
        "} trailing",
    ] {
        let store = example();
        let changes = apply(&store, format!("{known}{bad}").as_bytes(), NOW);
        assert_eq!(changes.len(), 2, "{bad}");
        assert_eq!(read(&changes[1])["why"], "gap");
        assert_eq!(read(&changes[1])["legs"]["kalshi"]["state"], "resync");
        assert_eq!(store.take_resyncs().last().unwrap().why, "gap");
    }
    for bad in [
        r#"{"type":"snapshot","platform":"kalshi","asset_id":"KXFED-26DEC-C25","epoch":1,"n":2,"bids":[]}"#,
        r#"{"type":"state","platform":"kalshi","asset_id":"KXFED-26DEC-C25","epoch":1,"n":2,"state":"odd"}"#,
        r#"{"type":"update","platform":"kalshi","asset_id":"KXFED-26DEC-C25","epoch":1.5,"n":2}"#,
        r#"{"platform":"kalshi","asset_id":"KXFED-26DEC-C25","epoch":1,"n":2}"#,
    ] {
        let store = example();
        assert_eq!(apply(&store, bad.as_bytes(), NOW).len(), 2, "{bad}");
    }
}

/// Key order, white space, escapes and unknown fields do not matter.
#[test]
fn lenient_form() {
    let store = example();
    let odd = "{ \"asks\" : [ [ \"0.53\" , \"90\" , {} ] ] , \"later\" : {\"a\":[1,{\"b\":null}]},\r\n\t\"n\":2, \"bids\":[],\
        \"asset_id\":\"KXFED\\u002d26DEC-C25\",\"platform\":\"k\\u0061lshi\",\"epoch\":1,\"type\":\"update\" } ";
    let changes = apply(&store, odd.as_bytes(), NOW);
    assert_eq!(read(&changes[0])["asks"], serde_json::json!([["0.53", "90", {"kalshi": "90"}]]));
}

/// Trades come out in YES coordinates with the venue's id, outside the book's sequence (rule 8).
#[test]
fn trades() {
    let store = Store::new(0);
    store.set_mapping(1, &[row(KALSHI, BOOK, true)], NOW, &mut Vec::new()).unwrap();
    apply(&store, &message("snapshot", KALSHI, (1, 1), &levels_json(&[], &[])), NOW);
    let rest = r#","price":"0.530","size":"10.0","side":"buy","id":"07\"23","ts":{"venue":5}"#;
    let changes = apply(&store, &message("trade", KALSHI, (1, 2), rest), NOW);
    assert_eq!(&*changes[0].subject, format!("orderbook.trades.{BOOK}"));
    assert_eq!((changes[0].kind, changes[0].prev), (ChangeKind::Trade, changes[0].seq));
    let expected = format!(
        r#"{{"type":"trade","book":"{BOOK}","platform":"kalshi","asset":"{}","price":"0.47","size":"10","side":"sell","id":"07\"23","ts":{{"venue":5,"book":{NOW}}}}}"#,
        KALSHI.1
    );
    assert_eq!(String::from_utf8(changes[0].payload.clone()).unwrap(), expected);
    let block = r#","price":"0.5","size":"1","block":true"#;
    let changes = apply(&store, &message("trade", KALSHI, (1, 3), block), NOW);
    assert_eq!(read(&changes[0])["block"], true);
    assert!(read(&changes[0]).get("side").is_none());
}

/// Epochs only ever rise, also when the clock steps back or the process starts again (rule 2).
#[test]
fn epochs() {
    let store = Store::new(2_000);
    let open = |version: i64, inverted: bool, now_us: i64| {
        let mut out = Vec::new();
        store.set_mapping(version, &[row(KALSHI, BOOK, inverted)], now_us, &mut out).unwrap();
        out.iter().map(|change| change.epoch).collect::<Vec<_>>()
    };
    assert_eq!(open(1, false, 1_000_000), [2_001]);
    assert_eq!(open(2, true, 5_000_000), [5_000]);
    assert_eq!(open(3, true, 9_000_000), [0i64; 0], "an unchanged book keeps its epoch");
    assert_eq!(open(4, false, 4_000_000), [5_001]);
    assert_eq!(store.last_epoch(), 5_001);
}

/// A table that contradicts itself is refused whole.
#[test]
fn mapping_is_atomic() {
    let store = example();
    let good = row(("gemini", "G"), "a.b.yes", false);
    for bad in [
        row(("gemini", "G"), "a.c.yes", false),
        row(("gem-ini", "H"), "a.b.yes", false),
        row(("", "H"), "a.b.yes", false),
        row(("gemini", ""), "a.b.yes", false),
        row(("gemini", "H"), "a.b.no", false),
        row(("gemini", "H"), "a.b", false),
    ] {
        let refused = store.set_mapping(500, &[good.clone(), bad], NOW, &mut Vec::new());
        assert!(matches!(refused, Err(Error::Mapping(_))));
        assert_eq!(store.matching(">").unwrap(), [BOOK]);
    }
    let many: Vec<_> = (0..65).map(|n| row(("gemini", &format!("G{n}")), "a.b.yes", false)).collect();
    assert!(store.set_mapping(500, &many, NOW, &mut Vec::new()).is_err());
    assert!(store.set_mapping(500, &many[..64], NOW, &mut Vec::new()).is_ok());
}

/// A resolved book says `closed` with its result and is dropped 60 s later; late messages are no error.
#[test]
fn resolved() {
    let store = example();
    let mut out = Vec::new();
    store.resolve(BOOK, "yes", NOW, &mut out).unwrap();
    assert_eq!(out.len(), 2);
    let last = read(&out[1]);
    assert_eq!(
        (&last["state"], &last["why"], &last["result"]),
        (&"closed".into(), &"resolved".into(), &"yes".into())
    );
    assert_eq!(last["digest"], 0);
    store.resolve(BOOK, "yes", NOW, &mut out).unwrap();
    assert!(
        apply(&store, &message("snapshot", KALSHI, (1, 2), &levels_json(&[(1, 1)], &[])), NOW).is_empty()
    );
    store.marks("0", NOW + 59_999_999, false);
    assert_eq!(store.matching(">").unwrap().len(), 1);
    store.marks("0", NOW + 60_000_000, false);
    assert_eq!(store.matching(">").unwrap().len(), 0);
    assert!(matches!(store.snapshot(BOOK, None, "join", NOW), Err(Error::UnknownBook(_))));
    assert!(
        apply(&store, &message("snapshot", KALSHI, (1, 3), &levels_json(&[(1, 1)], &[])), NOW).is_empty()
    );
    let mut again = Vec::new();
    store.set_mapping(413, &[row(KALSHI, BOOK, false)], NOW, &mut again).unwrap();
    assert!(again.is_empty() && store.matching(">").unwrap().is_empty(), "it is not opened again");
}

/// Marks name every recent book, every other within thirty calls, are split, and count without a hole.
#[test]
fn marks() {
    let store = Store::new(0);
    let head = "x".repeat(60);
    let rows: Vec<_> =
        (0..4_000).map(|n| row(("kalshi", &format!("K{n}")), &format!("{head}.m{n}.yes"), false)).collect();
    store.set_mapping(1, &rows, NOW, &mut Vec::new()).unwrap();
    let recent = store.marks("0", NOW + 1_000_000, false);
    assert!(recent.len() > 1 && recent.iter().all(|message| message.len() <= 256 * 1024));
    let mut seen = std::collections::BTreeSet::new();
    let mut n = i64::try_from(recent.len()).unwrap();
    for second in 10..40 {
        for message in store.marks("0", NOW + second * 1_000_000, false) {
            let message: Value = serde_json::from_slice(&message).unwrap();
            n += 1;
            assert_eq!(
                (&message["type"], &message["shard"], &message["n"]),
                (&"marks".into(), &"0".into(), &n.into())
            );
            seen.extend(message["books"].as_object().unwrap().keys().cloned());
        }
    }
    assert_eq!(seen.len(), 4_000);
    assert_eq!(store.marks("0", NOW + 90_000_000, true).len(), recent.len());
    let empty = Store::new(0).marks("7", NOW, false);
    assert_eq!(empty, [br#"{"type":"marks","shard":"7","n":1,"books":{}}"#.to_vec()]);
}

/// The client's rules, case by case.
#[test]
fn client_rules() {
    let fresh = || {
        let mut mirror = Mirror::default();
        assert_eq!(mirror.apply(DELTA.as_bytes()).unwrap(), Verdict::Ignored, "not exact yet");
        assert_eq!(mirror.apply(SNAPSHOT.as_bytes()).unwrap(), Verdict::Exact);
        mirror
    };
    let say = |mirror: &mut Mirror, text: &str| mirror.apply(text.as_bytes()).unwrap();
    let mut mirror = fresh();
    assert_eq!(say(&mut mirror, &DELTA.replace("3279520256", "1")), Verdict::Broken);
    assert_eq!(say(&mut mirror, DELTA), Verdict::Ignored);
    assert_eq!(say(&mut mirror, SNAPSHOT), Verdict::Exact);
    let mut mirror = fresh();
    assert_eq!(
        say(&mut mirror, &DELTA.replace("10481", "10482").replace("\"seq\":10482", "\"seq\":10483")),
        Verdict::Gap
    );
    assert!(!mirror.exact);
    let mut mirror = fresh();
    assert_eq!(say(&mut mirror, &DELTA.replace("1795353600123", "1795353600124")), Verdict::Gap);
    let mut mirror = fresh();
    assert_eq!(say(&mut mirror, &DELTA.replace("1795353600123", "1795353600122")), Verdict::Ignored);
    assert_eq!(say(&mut mirror, DELTA), Verdict::Exact);
    assert_eq!(say(&mut mirror, DELTA), Verdict::Ignored, "a repeat");
    assert_eq!(say(&mut mirror, SNAPSHOT), Verdict::Ignored, "an older snapshot");
    assert_eq!(say(&mut mirror, &DELTA.replace(".yes", ".no")), Verdict::Ignored, "another view");
    assert_eq!(say(&mut mirror, r#"{"type":"heartbeat","count":1,"ts":2}"#), Verdict::Ignored);
    assert!(mirror.exact);
    let gateway = format!(r#"{{"type":"status","book":"{BOOK}","by":"gateway","state":"down","why":"gap"}}"#);
    assert_eq!(say(&mut mirror, &gateway), Verdict::Ignored);
    assert!(!mirror.exact);
    assert_eq!(say(&mut mirror, SNAPSHOT), Verdict::Exact, "any snapshot heals");
    for bad in [
        "",
        "{",
        "{}x",
        r#"{"type":"delta"}"#,
        &DELTA.replace("\"prev\":10481,", ""),
        &DELTA.replace("\"digest\":3279520256", "\"digest\":-1"),
    ] {
        let mut mirror = fresh();
        assert!(mirror.apply(bad.as_bytes()).is_err(), "{bad}");
        assert!(!mirror.exact);
    }
    for bad in [
        DELTA.replace("\"90\",{", "\"91\",{"),
        DELTA.replace("0.53", "1.53"),
        DELTA.replace(r#"{"polymarket":"90"}"#, r#"{"polymarket":"45","polymarket":"45"}"#),
        DELTA.replace(r#"{"polymarket":"90"}"#, r#"{"polymarket":"90","kalshi":"0"}"#),
    ] {
        assert_eq!(say(&mut fresh(), &bad), Verdict::Broken, "{bad}");
    }
}

/// On a stream with a depth or an interval `prev` must be the own seq, and may be far behind `seq`.
#[test]
fn streams_with_options() {
    let (snapshot, delta) = (
        SNAPSHOT.replace("\"why\"", "\"depth\":5,\"why\""),
        DELTA.replace("\"cause\"", "\"depth\":5,\"cause\""),
    );
    let mut mirror = Mirror::default();
    assert_eq!(mirror.apply(snapshot.as_bytes()).unwrap(), Verdict::Exact);
    let leap = delta.replace("\"seq\":10482", "\"seq\":10499");
    assert_eq!(mirror.apply(leap.as_bytes()).unwrap(), Verdict::Exact);
    assert_eq!(mirror.seq, 10_499);
    let behind = delta.replace("\"seq\":10482", "\"seq\":10500");
    assert_eq!(mirror.apply(behind.as_bytes()).unwrap(), Verdict::Gap);
}

/// A leg that is told to be live stays what it is until its snapshot comes, which is asked for once.
#[test]
fn only_a_snapshot_makes_live() {
    let store = example();
    drop(store.take_resyncs());
    let changes = apply(&store, &message("state", KALSHI, (1, 2), r#","state":"halted""#), NOW);
    assert_eq!(read(&changes[1])["why"], "halted", "the usual reason when none is given");
    for n in 3..5 {
        assert!(apply(&store, &message("state", KALSHI, (1, n), r#","state":"live""#), NOW).is_empty());
    }
    assert_eq!(store.take_resyncs().len(), 1);
    assert_eq!(
        apply(&store, &message("snapshot", KALSHI, (1, 5), &levels_json(&[(1, 1)], &[])), NOW).len(),
        2
    );
}

/// The caller's verdict needs a snapshot afterwards, and the next mark asks for it.
#[test]
fn own_verdict() {
    let store = example();
    drop(store.take_resyncs());
    let mut out = Vec::new();
    store.set_leg_state(KALSHI.0, KALSHI.1, LegState::Down, "upstream_silent", NOW, &mut out).unwrap();
    assert_eq!(out.len(), 2);
    assert_eq!(store.take_resyncs().len(), 0);
    let marks = format!(r#"{{"type":"marks","epoch":1,"assets":{{"{}":1}}}}"#, KALSHI.1);
    store.check_marks("kalshi", marks.as_bytes(), NOW, &mut out).unwrap();
    assert_eq!((out.len(), store.take_resyncs().len()), (2, 1));
    assert!(store.set_leg_state("kalshi", "NEVER", LegState::Down, "gap", NOW, &mut out).is_err());
}

/// A market that is over is not opened by silence or disconnection: its leg stays `closed`, and the book's state
/// without it in the count; the mapping may still halt it, and its producer open it again.
#[test]
fn closed_stays_closed() {
    let store = example();
    apply(&store, &message("state", KALSHI, (1, 2), r#","state":"closed""#), NOW);
    let book =
        || -> Value { serde_json::from_slice(&store.snapshot(BOOK, None, "join", NOW).unwrap()).unwrap() };
    let state = || book()["state"].clone();
    let leg = || book()["legs"]["kalshi"]["state"].clone();
    assert_eq!(state(), "live");
    for doubt in [LegState::Down, LegState::Resync, LegState::Syncing] {
        let mut out = Vec::new();
        store.set_leg_state(KALSHI.0, KALSHI.1, doubt, "upstream_silent", NOW, &mut out).unwrap();
        assert!(out.is_empty(), "{doubt:?}");
        assert_eq!((leg(), state()), ("closed".into(), "live".into()));
    }
    let mut out = Vec::new();
    store.set_leg_state(KALSHI.0, KALSHI.1, LegState::Closed, "closed", NOW, &mut out).unwrap();
    let marks = format!(r#"{{"type":"marks","epoch":1,"assets":{{"{}":9}}}}"#, KALSHI.1);
    store.check_marks("kalshi", marks.as_bytes(), NOW, &mut out).unwrap();
    assert!(out.is_empty(), "what the caller judged closed is no matter of messages");
    store.set_leg_state(KALSHI.0, KALSHI.1, LegState::Halted, "suspended", NOW, &mut out).unwrap();
    assert_eq!(leg(), "halted");
    apply(&store, &message("snapshot", KALSHI, (1, 3), &levels_json(&[(1, 1)], &[])), NOW);
    assert_eq!(leg(), "live");
}

/// What was lost after a leg's end may have been its reopening: the leg is in doubt and a snapshot is asked for, as
/// of any other; it comes back `closed`, or live by a snapshot, and never by itself. A mark that has nothing new asks
/// nothing, and what was lost before an end does not matter.
#[test]
fn a_loss_puts_a_closed_leg_in_doubt() {
    let store = example();
    drop(store.take_resyncs());
    let closed = |n| apply(&store, &message("state", KALSHI, (1, n), r#","state":"closed""#), NOW);
    let state = || -> (Value, Value) {
        let book: Value = serde_json::from_slice(&store.snapshot(BOOK, None, "join", NOW).unwrap()).unwrap();
        (book["legs"]["kalshi"]["state"].clone(), book["state"].clone())
    };
    let mark = |n: i64| {
        let mut out = Vec::new();
        let marks = format!(r#"{{"type":"marks","epoch":1,"assets":{{"{}":{n}}}}}"#, KALSHI.1);
        store.check_marks("kalshi", marks.as_bytes(), NOW, &mut out).unwrap();
        out.len()
    };
    let trade = r#","price":"0.5","size":"1","side":"buy","id":"t""#;
    closed(4);
    assert_eq!(mark(4), 0);
    assert_eq!((state(), store.take_resyncs().len()), (("closed".into(), "live".into()), 0));
    apply(&store, &message("trade", KALSHI, (1, 6), trade), NOW);
    assert_eq!((state(), store.take_resyncs().len()), (("resync".into(), "degraded".into()), 1));
    apply(&store, &message("update", KALSHI, (1, 7), &levels_json(&[(1, 1)], &[])), NOW);
    assert_eq!((state().0, store.take_resyncs().len()), ("resync".into(), 0), "asked once");
    assert_eq!((mark(7), store.take_resyncs().len()), (0, 1), "and again with the next mark");
    closed(8);
    assert_eq!((mark(8), state()), (0, ("closed".into(), "live".into())));
    assert_eq!(mark(9), 1, "the last message was lost");
    assert_eq!((state(), store.take_resyncs().len()), (("resync".into(), "degraded".into()), 1));
    apply(&store, &message("snapshot", KALSHI, (1, 10), &levels_json(&[(1, 1)], &[])), NOW);
    assert_eq!(state(), ("live".into(), "live".into()));
}

/// A producer speaks for mapped assets of which nothing later than its epoch was heard.
#[test]
fn who_speaks_for_a_leg() {
    let store = example();
    let all = || vec![KALSHI.1.to_owned(), "NEVER".to_owned()];
    let epochs = || (store.leg_epoch("kalshi", KALSHI.1), store.leg_epoch("kalshi", "NEVER"));
    assert_eq!(epochs(), (Some(1), None));
    assert_eq!(store.speaks_for("kalshi", 1, all()), [KALSHI.1]);
    apply(&store, &message("snapshot", KALSHI, (5, 1), &levels_json(&[(1, 1)], &[])), NOW);
    apply(&store, &message("snapshot", KALSHI, (4, 90), &levels_json(&[(1, 1)], &[])), NOW);
    assert_eq!(epochs(), (Some(5), None));
    assert!(store.speaks_for("kalshi", 4, all()).is_empty());
    assert_eq!(store.speaks_for("kalshi", 5, all()), [KALSHI.1]);
    assert_eq!(store.speaks_for("kalshi", 6, all()), [KALSHI.1]);
    assert!(store.speaks_for("polymarket", 5, all()).is_empty());
}
