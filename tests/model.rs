//! The store against a naive model, over random interleavings of everything that can happen to it.
#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod support;

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use serde_json::Value;
use support::{Model, Row, State, legs_of, levels_json, message, read_side, shown};
use wup::change::{Change, ChangeKind};
use wup::complement::mirror_message;
use wup::leg::LegState;
use wup::mirror::{Mirror, Verdict};
use wup::store::Store;

const BOOKS: [&str; 3] = ["fed.aaaa.yes", "fed.bbbb.yes", "game.cccc.yes"];
const ASSETS: [(&str, &str); 5] =
    [("kalshi", "K1"), ("kalshi", "K2"), ("polymarket", "P1"), ("gemini", "G1"), ("polymarket", "K1")];
/// Tables that move, turn, drop and add legs; the same asset id on two platforms is in all of them.
const TABLES: [&[Row]; 6] = [
    &[("kalshi", "K1", BOOKS[0], false), ("polymarket", "P1", BOOKS[0], false)],
    &[
        ("kalshi", "K1", BOOKS[0], false),
        ("kalshi", "K2", BOOKS[0], true),
        ("polymarket", "P1", BOOKS[0], false),
        ("polymarket", "K1", BOOKS[1], false),
    ],
    &[
        ("kalshi", "K2", BOOKS[0], false),
        ("kalshi", "K1", BOOKS[0], true),
        ("polymarket", "P1", BOOKS[1], true),
        ("gemini", "G1", BOOKS[2], false),
    ],
    &[
        ("gemini", "G1", BOOKS[2], true),
        ("kalshi", "K1", BOOKS[2], false),
        ("polymarket", "K1", BOOKS[2], false),
    ],
    &[],
    &[
        ("kalshi", "K1", BOOKS[2], false),
        ("kalshi", "K2", BOOKS[1], false),
        ("polymarket", "P1", BOOKS[0], false),
        ("gemini", "G1", BOOKS[0], false),
        ("polymarket", "K1", BOOKS[0], true),
    ],
];

type Levels = Vec<(i64, i64)>;

#[derive(Debug, Clone)]
enum Op {
    Snapshot(usize, Jump, Levels, Levels),
    Update(usize, Jump, Levels, Levels),
    State(usize, Jump, State),
    Trade(usize, Jump, i64),
    Unknown(usize, Jump),
    Bad(usize, Jump, usize),
    Verdict(usize, State),
    Marks(usize, i64),
    Mapping(usize),
    Resolve(usize),
    Wait(i64),
}

/// How a message is numbered relative to the last one of its asset.
#[derive(Debug, Clone, Copy)]
enum Jump {
    Next,
    Repeat,
    Hole,
    NewEpoch,
    OldEpoch,
}

const BAD: [&str; 8] = [
    r#","bids":[["0","1"]],"asks":[]"#,
    r#","bids":[["1","1"]],"asks":[]"#,
    r#","bids":[["0.5","100000000000.000001"]],"asks":[]"#,
    r#","bids":[["0.1234567","1"]],"asks":[]"#,
    r#","bids":[["0.5","-1"]],"asks":[]"#,
    r#","bids":[["0.5"]],"asks":[]"#,
    r#","bids":"x","asks":[]"#,
    r#","bids":[["0.5","1"],"asks":[]"#,
];

fn levels() -> impl Strategy<Value = Levels> {
    // Few prices, so that legs meet on levels; unsorted and repeated ones occur.
    let price = prop_oneof![8 => (1i64..12).prop_map(|p| p * 80_000), 1 => Just(1), 1 => Just(999_999)];
    let size = prop_oneof![
        2 => Just(0i64),
        6 => (1i64..40).prop_map(|s| s * 250_000),
        1 => Just(100_000_000_000_000_000i64),
        1 => Just(1),
    ];
    prop::collection::vec((price, size), 0..6)
}

fn jump() -> impl Strategy<Value = Jump> {
    prop_oneof![
        12 => Just(Jump::Next), 1 => Just(Jump::Repeat), 1 => Just(Jump::Hole),
        1 => Just(Jump::NewEpoch), 1 => Just(Jump::OldEpoch),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let asset = 0..ASSETS.len();
    let state = prop::sample::select(State::ALL.to_vec());
    prop_oneof![
        6 => (asset.clone(), jump(), levels(), levels()).prop_map(|(a, j, b, s)| Op::Snapshot(a, j, b, s)),
        16 => (asset.clone(), jump(), levels(), levels()).prop_map(|(a, j, b, s)| Op::Update(a, j, b, s)),
        2 => (asset.clone(), jump(), state.clone()).prop_map(|(a, j, s)| Op::State(a, j, s)),
        1 => (asset.clone(), jump(), 1i64..99).prop_map(|(a, j, p)| Op::Trade(a, j, p * 10_000)),
        1 => (asset.clone(), jump()).prop_map(|(a, j)| Op::Unknown(a, j)),
        1 => (asset.clone(), jump(), 0..BAD.len()).prop_map(|(a, j, b)| Op::Bad(a, j, b)),
        1 => (asset.clone(), state).prop_map(|(a, s)| Op::Verdict(a, s)),
        1 => (asset, -1i64..3).prop_map(|(a, ahead)| Op::Marks(a, ahead)),
        2 => (0..TABLES.len()).prop_map(Op::Mapping),
        1 => (0..BOOKS.len()).prop_map(Op::Resolve),
        1 => (0i64..40_000_000).prop_map(Op::Wait),
    ]
}

/// The rows as they were given, with the names of this file.
fn table_rows(table: &[wup::mapping::Row]) -> Vec<Row> {
    let same = |row: &Row, of: &wup::mapping::Row| {
        (row.0, row.1, row.2, row.3) == (&of.platform, &of.asset, &of.book, of.inverted)
    };
    let rows = TABLES.iter().flat_map(|rows| rows.iter());
    table.iter().map(|of| *rows.clone().find(|row| same(row, of)).unwrap()).collect()
}

/// Store, model and clients side by side.
struct World {
    store: Store,
    model: Model,
    clients: BTreeMap<String, Client>,
    numbers: BTreeMap<usize, (i64, i64)>,
    now_us: i64,
    last_epoch: i64,
    version: i64,
    resolved_at: BTreeMap<String, i64>,
}

/// A client of the YES stream and one of the NO view.
#[derive(Default)]
struct Client {
    yes: Mirror,
    no: Mirror,
    levels: [support::Shown; 2],
    seq: i64,
}

impl World {
    fn new() -> Self {
        Self {
            store: Store::new(7),
            model: Model::default(),
            clients: BTreeMap::new(),
            numbers: BTreeMap::new(),
            now_us: 1_795_353_600_000_000,
            last_epoch: 7,
            version: 0,
            resolved_at: BTreeMap::new(),
        }
    }

    fn number(&mut self, asset: usize, jump: Jump) -> (i64, i64) {
        let (epoch, n) = *self.numbers.entry(asset).or_insert((100, 0));
        let (sent, next) = match jump {
            Jump::Next => ((epoch, n + 1), (epoch, n + 1)),
            Jump::Repeat => ((epoch, n), (epoch, n)),
            Jump::Hole => ((epoch, n + 3), (epoch, n + 3)),
            Jump::NewEpoch => ((epoch + 1, 1), (epoch + 1, 1)),
            Jump::OldEpoch => ((epoch - 1, n + 50), (epoch, n)),
        };
        self.numbers.insert(asset, next);
        sent
    }

    /// Applies one message, twice: the repeat must change nothing.
    fn send(&mut self, place: usize, bytes: &[u8]) -> Vec<Change> {
        let mapped = self.model.routes.iter().any(|row| (row.0, row.1) == ASSETS[place]);
        let mut changes = Vec::new();
        assert_eq!(self.store.apply(bytes, self.now_us, &mut changes).is_ok(), mapped);
        if mapped && self.numbered(bytes) {
            let before = changes.len();
            self.store.apply(bytes, self.now_us, &mut changes).unwrap();
            assert_eq!(changes.len(), before, "a repeated message changes nothing");
        }
        changes
    }

    fn numbered(&self, bytes: &[u8]) -> bool {
        serde_json::from_slice::<Value>(bytes).is_ok()
    }

    fn step(&mut self, op: &Op) {
        self.now_us += 1_000;
        let mut changes = Vec::new();
        let mut mapping = false;
        match op {
            Op::Snapshot(place, jump, bids, asks) => {
                let (number, asset) = (self.number(*place, *jump), ASSETS[*place]);
                changes = self.send(*place, &message("snapshot", asset, number, &levels_json(bids, asks)));
                if let Some(asset) = self.model.asset(asset.0, asset.1) {
                    asset.snapshot(number.0, number.1, bids, asks);
                }
                assert!(changes.len() <= 2);
            }
            Op::Update(place, jump, bids, asks) => {
                let (number, asset) = (self.number(*place, *jump), ASSETS[*place]);
                changes = self.send(*place, &message("update", asset, number, &levels_json(bids, asks)));
                if let Some(asset) = self.model.asset(asset.0, asset.1) {
                    asset.update(number.0, number.1, bids, asks);
                }
                assert!(changes.len() <= 2);
            }
            Op::State(place, jump, state) => {
                let (number, asset) = (self.number(*place, *jump), ASSETS[*place]);
                let rest = format!(r#","state":"{}","why":"halted""#, state.word());
                changes = self.send(*place, &message("state", asset, number, &rest));
                if let Some(asset) = self.model.asset(asset.0, asset.1) {
                    asset.said(number.0, number.1, *state);
                }
                assert!(changes.len() <= 2);
            }
            Op::Trade(place, jump, price) => {
                let (number, asset) = (self.number(*place, *jump), ASSETS[*place]);
                let rest =
                    format!(r#","price":"{}","size":"2","side":"buy","id":"t""#, support::text(*price));
                changes = self.send(*place, &message("trade", asset, number, &rest));
                if let Some(asset) = self.model.asset(asset.0, asset.1) {
                    asset.other(number.0, number.1, false);
                }
            }
            Op::Unknown(place, jump) => {
                let (number, asset) = (self.number(*place, *jump), ASSETS[*place]);
                changes = self.send(*place, &message("auction", asset, number, ""));
                if let Some(asset) = self.model.asset(asset.0, asset.1) {
                    asset.other(number.0, number.1, false);
                }
            }
            Op::Bad(place, jump, bad) => {
                let (number, asset) = (self.number(*place, *jump), ASSETS[*place]);
                changes = self.send(*place, &message("update", asset, number, BAD[*bad]));
                if let Some(asset) = self.model.asset(asset.0, asset.1) {
                    asset.other(number.0, number.1, true);
                }
            }
            Op::Verdict(place, state) => {
                let asset = ASSETS[*place];
                let said = LegState::parse(state.word()).unwrap();
                let mapped = self.model.routes.iter().any(|row| (row.0, row.1) == asset);
                let done =
                    self.store.set_leg_state(asset.0, asset.1, said, "down", self.now_us, &mut changes);
                assert_eq!(done.is_ok(), mapped);
                if let Some(asset) = self.model.asset(asset.0, asset.1) {
                    asset.judged(*state);
                }
            }
            Op::Marks(place, ahead) => {
                let asset = ASSETS[*place];
                let (epoch, n) = self.numbers.get(place).copied().unwrap_or((100, 0));
                let marks =
                    format!(r#"{{"type":"marks","epoch":{epoch},"assets":{{"{}":{}}}}}"#, asset.1, n + ahead);
                self.store.check_marks(asset.0, marks.as_bytes(), self.now_us, &mut changes).unwrap();
                if let Some(asset) = self.model.asset(asset.0, asset.1) {
                    if asset.last.is_none_or(|last| last < (epoch, n + ahead)) {
                        asset.doubt();
                    }
                }
            }
            Op::Mapping(table) => {
                self.version += 1;
                let rows =
                    TABLES[*table].iter().filter(|row| !self.model.retired.iter().any(|id| id == row.2));
                let rows: Vec<Row> = rows.copied().collect();
                let table = TABLES[*table].iter().map(|row| wup::mapping::Row {
                    platform: row.0.into(),
                    asset: row.1.into(),
                    book: row.2.into(),
                    inverted: row.3,
                });
                let table: Vec<_> = table.collect();
                self.check_mapping(&rows, &table, &mut changes);
                mapping = true;
            }
            Op::Resolve(book) => {
                let known = self.model.table.iter().any(|row| row.2 == BOOKS[*book]);
                let done = self.store.resolve(BOOKS[*book], "yes", self.now_us, &mut changes);
                assert_eq!(done.is_ok(), known);
                if known && !self.model.resolved.iter().any(|id| id == BOOKS[*book]) {
                    self.model.resolved.push(BOOKS[*book].to_owned());
                    self.resolved_at.insert(BOOKS[*book].to_owned(), self.now_us);
                }
            }
            Op::Wait(us) => {
                self.now_us += us;
                self.store.marks("0", self.now_us, false);
                let due = self.resolved_at.iter().filter(|(_, at)| self.now_us - **at >= 60_000_000);
                let due: Vec<String> = due.map(|(id, _)| id.clone()).collect();
                for id in due {
                    self.retire(&id);
                }
            }
        }
        self.deliver(&changes, mapping);
        self.compare();
    }

    /// A resolved book leaves for good.
    fn retire(&mut self, id: &str) {
        self.resolved_at.remove(id);
        self.clients.remove(id);
        self.model.table.retain(|row| row.2 != id);
        self.model.resolved.retain(|resolved| resolved != id);
        self.model.retired.push(id.to_owned());
    }

    fn check_mapping(&mut self, rows: &[Row], table: &[wup::mapping::Row], changes: &mut Vec<Change>) {
        let before = self.model.table.clone();
        self.store.set_mapping(self.version, table, self.now_us, changes).unwrap();
        let over = self.model.resolved.clone();
        self.model.set_mapping(&table_rows(table));
        for book in BOOKS {
            let (old, new) = (legs_of(&before, book), legs_of(rows, book));
            let of_book: Vec<_> = changes.iter().filter(|change| &*change.book == book).collect();
            let kinds: Vec<_> = of_book.iter().map(|change| change.kind).collect();
            if over.iter().any(|id| id == book) {
                assert!(kinds.is_empty(), "a resolved book has said its last word");
            } else if old == new {
                assert!(kinds.is_empty(), "an unchanged book says nothing");
            } else if new.is_empty() {
                assert_eq!(kinds.last(), Some(&ChangeKind::Status), "a book without legs ends with a status");
                let last: Value = serde_json::from_slice(&of_book.last().unwrap().payload).unwrap();
                let routes = &self.model.routes;
                let moved =
                    old.iter().any(|(_, leg)| routes.iter().any(|row| (row.0, row.1) == (leg.0, leg.1)));
                assert_eq!(last["why"], if moved { "mapping" } else { "unmapped" });
            } else {
                assert_eq!(kinds, [ChangeKind::Snapshot], "changed legs open an epoch");
                let opening: Value = serde_json::from_slice(&of_book[0].payload).unwrap();
                assert_eq!((&opening["why"], &opening["seq"]), (&"epoch".into(), &1.into()));
                assert_eq!(opening["mapping"], self.version);
            }
        }
    }

    /// Clients get every change; both must stay exact, and every level sent must be a real change.
    fn deliver(&mut self, changes: &[Change], mapping: bool) {
        for change in changes {
            let sent: Value = serde_json::from_slice(&change.payload).unwrap();
            assert_eq!(sent["type"], change.kind.as_str());
            assert_eq!(sent["book"], *change.book);
            let no_view = mirror_message(&change.payload).unwrap();
            assert_eq!(mirror_message(&no_view).unwrap(), change.payload, "NO of NO is YES");
            if change.kind == ChangeKind::Trade {
                assert_eq!(*change.subject, format!("orderbook.trades.{}", change.book));
                continue;
            }
            assert_eq!(*change.subject, format!("orderbook.changes.{}", change.book));
            for (field, value) in
                [("epoch", change.epoch), ("seq", change.seq), ("digest", change.digest.into())]
            {
                assert_eq!(sent[field], value);
            }
            let client = self.clients.entry(change.book.to_string()).or_default();
            if change.kind == ChangeKind::Snapshot {
                assert!(change.epoch > self.last_epoch || mapping, "an epoch never comes back");
                assert_eq!((change.prev, change.seq), (0, 1));
                self.last_epoch = self.last_epoch.max(change.epoch);
                client.levels = [shown(&sent, "bids"), shown(&sent, "asks")];
            } else {
                assert_eq!((change.prev, change.seq), (client.seq, client.seq + 1), "seq has no hole");
                assert_eq!(sent["prev"], change.prev);
            }
            if change.kind == ChangeKind::Delta {
                let mut count = 0;
                for (place, side) in ["bids", "asks"].into_iter().enumerate() {
                    for (price, total, parts) in read_side(&sent, side) {
                        count += 1;
                        let before = client.levels[place].get(&price).cloned();
                        if parts.is_empty() {
                            assert!(before.is_some(), "only a level that was there can go");
                            client.levels[place].remove(&price);
                        } else {
                            let after = (total, parts);
                            assert_ne!(before.as_ref(), Some(&after), "a level that stays is not sent");
                            client.levels[place].insert(price, after);
                        }
                    }
                }
                assert!(count > 0, "no delta when nothing changed");
            }
            client.seq = change.seq;
            assert_eq!(client.yes.apply(&change.payload).unwrap(), Verdict::Exact);
            assert_eq!(client.no.apply(&no_view).unwrap(), Verdict::Exact);
            assert_eq!(
                client.yes.apply(&change.payload).unwrap() == Verdict::Exact,
                change.kind == ChangeKind::Snapshot
            );
        }
        // Both messages of a leg's change of state carry the new state.
        if let [first, second] = changes {
            if !mapping && first.book == second.book && second.kind == ChangeKind::Status {
                let state = |change: &Change| {
                    serde_json::from_slice::<Value>(&change.payload).unwrap()["state"].clone()
                };
                assert_eq!(state(first), state(second));
            }
        }
    }

    /// Every book of the store equals the model, and so does every copy of it.
    fn compare(&mut self) {
        let mut ids: Vec<&str> = self.model.table.iter().map(|row| row.2).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut known = self.store.matching(">").unwrap();
        known.sort();
        assert_eq!(known, ids);
        for id in ids {
            let expected = self.model.expected(id);
            let bytes = self.store.snapshot(id, None, "subscribe", self.now_us).unwrap();
            let sent: Value = serde_json::from_slice(&bytes).unwrap();
            let legs: Vec<_> = legs_of(&self.model.table, id)
                .into_iter()
                .map(|(name, _)| {
                    let state = sent["legs"][&name]["state"].as_str().unwrap();
                    (name, State::ALL.into_iter().find(|s| s.word() == state).unwrap().word())
                })
                .collect();
            let found = support::Expected {
                bids: shown(&sent, "bids"),
                asks: shown(&sent, "asks"),
                state: ["live", "degraded", "down", "closed"]
                    .into_iter()
                    .find(|s| sent["state"] == *s)
                    .unwrap(),
                crossed: sent["crossed"].as_bool().unwrap(),
                digest: u32::try_from(sent["digest"].as_u64().unwrap()).unwrap(),
                legs,
            };
            assert_eq!(found, expected, "{id}");
            let client = &self.clients[id];
            assert_eq!(client.levels, [found.bids, found.asks], "old book and deltas give the new book");
            assert_eq!((client.yes.digest, client.yes.state.as_str()), (expected.digest, expected.state));
            assert_eq!(client.yes.crossed, expected.crossed);
            for depth in [None, Some(1), Some(5)] {
                self.check_copies(id, depth);
            }
        }
    }

    /// A mirror fed with a snapshot encodes the same bytes, in both views.
    fn check_copies(&self, id: &str, depth: Option<usize>) {
        let yes = self.store.snapshot(id, depth, "join", self.now_us).unwrap();
        let no = self.store.snapshot(&id.replace(".yes", ".no"), depth, "join", self.now_us).unwrap();
        assert_eq!(mirror_message(&yes).unwrap(), no);
        for (bytes, is_no) in [(&yes, false), (&no, true)] {
            let mut mirror = Mirror::default();
            assert_eq!(mirror.apply(bytes).unwrap(), Verdict::Exact);
            assert_eq!(mirror.is_no(), is_no);
            assert_eq!(&mirror.snapshot(false, depth, "join", self.now_us), &yes);
            assert_eq!(&mirror.snapshot(true, depth, "join", self.now_us), &no);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        max_shrink_iters: 20_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/model.regressions"))),
        ..ProptestConfig::default()
    })]

    /// Whatever happens, every book equals the sum of its live legs, every message leads exactly from the
    /// book before to the book after, and every client that follows is exact.
    #[test]
    fn store_equals_model(first in 0..TABLES.len(), ops in prop::collection::vec(op(), 1..80)) {
        let mut world = World::new();
        world.step(&Op::Mapping(first));
        for op in &ops {
            world.step(op);
        }
    }
}
