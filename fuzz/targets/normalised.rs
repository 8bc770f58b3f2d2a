//! Any bytes to a store with live legs: no panic, and its clients stay exact.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wup::mapping::Row;
use wup::mirror::{Mirror, Verdict};
use wup::store::Store;

fuzz_target!(|bytes: &[u8]| {
    let store = Store::new(0);
    let row = |platform: &str, asset: &str, inverted| Row {
        platform: platform.into(),
        asset: asset.into(),
        book: "a.b.yes".into(),
        inverted,
    };
    let mut changes = Vec::new();
    let rows = [row("kalshi", "K", false), row("kalshi", "L", true)];
    store.set_mapping(1, &rows, 0, &mut changes).ok();
    for asset in ["K", "L"] {
        let snapshot = format!(
            r#"{{"type":"snapshot","platform":"kalshi","asset_id":"{asset}","epoch":1,"n":1,"bids":[["0.5","1"]],"asks":[["0.6","2"]]}}"#
        );
        store.apply(snapshot.as_bytes(), 0, &mut changes).ok();
    }
    // Several messages in one input, one a line.
    for line in bytes.split(|byte| *byte == b'\n') {
        store.apply(line, 1, &mut changes).ok();
    }
    let mut mirror = Mirror::default();
    for change in &changes {
        let verdict = mirror.apply(&change.payload);
        if change.kind != wup::change::ChangeKind::Trade {
            assert_eq!(verdict, Ok(Verdict::Exact));
        }
    }
    let now = store.snapshot("a.b.yes", None, "join", 1);
    assert_eq!(now.and_then(|now| mirror.apply(&now)), Ok(Verdict::Exact));
    assert!(store.stats().contains(&("panics", 0)));
});
