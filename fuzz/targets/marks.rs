//! Any bytes as marks: no panic, and a refused message changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wup::mapping::Row;
use wup::store::Store;

fuzz_target!(|bytes: &[u8]| {
    let store = Store::new(0);
    let row = Row { platform: "kalshi".into(), asset: "K".into(), book: "a.b.yes".into(), inverted: false };
    let mut changes = Vec::new();
    store.set_mapping(1, &[row], 0, &mut changes).ok();
    let snapshot = br#"{"type":"snapshot","platform":"kalshi","asset_id":"K","epoch":1,"n":1,"bids":[["0.5","1"]],"asks":[]}"#;
    store.apply(snapshot, 0, &mut changes).ok();
    let before = changes.len();
    let refused = store.check_marks("kalshi", bytes, 0, &mut changes).is_err();
    assert!(!refused || changes.len() == before);
    assert!(store.stats().contains(&("panics", 0)));
});
