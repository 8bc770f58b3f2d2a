//! Several threads on one store: writers on different books, readers, and mappings put in force meanwhile.
#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use support::{levels_json, message};
use wup::change::Change;
use wup::mapping::Row;
use wup::mirror::{Mirror, Verdict};
use wup::store::Store;

const WRITERS: usize = 4;
const MESSAGES: i64 = 2_000;

fn book(writer: usize) -> String {
    format!("fed.m{writer}.yes")
}

fn rows(extra: bool) -> Vec<Row> {
    let row = |platform: &str, asset: String, book: String| Row {
        platform: platform.into(),
        asset,
        book,
        inverted: false,
    };
    let mut rows: Vec<_> = (0..WRITERS).map(|w| row("kalshi", format!("K{w}"), book(w))).collect();
    if extra {
        rows.push(row("gemini", "G".into(), "other.m.yes".into()));
    }
    rows
}

/// A writer's messages; sizes depend on its number, so books end differently.
fn sent(writer: usize) -> Vec<Vec<u8>> {
    let asset = format!("K{writer}");
    (1..=MESSAGES)
        .map(|n| {
            let price = (n * 7919 % 97 + 1) * 10_000;
            let levels = levels_json(&[(price, n % 5 * 1_000_000 + i64::try_from(writer).unwrap())], &[]);
            message(if n == 1 { "snapshot" } else { "update" }, ("kalshi", &asset), (1, n), &levels)
        })
        .collect()
}

fn write(store: &Store, writer: usize) -> Vec<Change> {
    let mut out = Vec::new();
    for (now_us, bytes) in (0..).zip(sent(writer)) {
        store.apply(&bytes, now_us, &mut out).unwrap();
    }
    out
}

/// Concurrent writers give exactly the changes that one writer after the other gives, whatever is read or
/// mapped meanwhile, and every snapshot read on the way is consistent in itself.
#[test]
fn equal_to_serial() {
    let serial = Store::new(0);
    serial.set_mapping(1, &rows(false), 0, &mut Vec::new()).unwrap();
    let expected: Vec<_> = (0..WRITERS).map(|writer| write(&serial, writer)).collect();

    let store = Store::new(0);
    store.set_mapping(1, &rows(false), 0, &mut Vec::new()).unwrap();
    let done = AtomicBool::new(false);
    let found = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn({
                    let store = &store;
                    move || write(store, writer)
                })
            })
            .collect();
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut count = 0usize;
                    while !done.load(Ordering::Relaxed) {
                        for writer in 0..WRITERS {
                            let bytes = store.snapshot(&book(writer), None, "join", 0).unwrap();
                            assert_eq!(Mirror::default().apply(&bytes).unwrap(), Verdict::Exact);
                            count += 1;
                        }
                        assert!(store.matching(">").unwrap().len() >= WRITERS);
                        store.marks("0", 0, true);
                    }
                    count
                })
            })
            .collect();
        let mapper = scope.spawn(|| {
            let mut version = 2;
            while !done.load(Ordering::Relaxed) {
                store.set_mapping(version, &rows(version % 2 == 0), 0, &mut Vec::new()).unwrap();
                version += 1;
            }
        });
        let found: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
        mapper.join().unwrap();
        found
    });
    assert_eq!(found, expected);
}
