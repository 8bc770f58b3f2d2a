//! Books and messages that the benches share.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each bench uses its part")]

use wup::mapping::Row;
use wup::store::Store;

pub const BOOK: &str = "fed-2026-12.21a66bf6c52cc37d.yes";
const PLATFORMS: [&str; 5] = ["kalshi", "polymarket", "gemini", "limitless", "predict"];

pub fn asset(leg: usize) -> (&'static str, String) {
    (PLATFORMS[leg % 5], format!("KXFEDDECISION-26DEC-C25-{leg}"))
}

fn text(micro: i64) -> String {
    wup::fixed::format(micro)
}

/// `count` levels, half of them bids, half asks, as a message's fields. `salt` varies the sizes.
pub fn sides(count: i64, salt: i64) -> String {
    let step = 490_000 / (count / 2).max(1);
    let side = |sign: i64| {
        let level = |place: i64| {
            let price = text(500_000 + sign * (1 + place * step));
            format!(r#"["{price}","{}"]"#, text((place * 37 + salt) % 5_000 * 10_000 + 1_250_000))
        };
        (0..count / 2).map(level).collect::<Vec<_>>().join(",")
    };
    format!(r#""bids":[{}],"asks":[{}]"#, side(-1), side(1))
}

pub fn message(kind: &str, leg: usize, n: i64, fields: &str) -> Vec<u8> {
    let (platform, asset) = asset(leg);
    format!(
        r#"{{"type":"{kind}","platform":"{platform}","market_id":"KXFEDDECISION-26DEC","asset_id":"{asset}","epoch":1795353600001,"n":{n},{fields},"ts":{{"venue":1795353604990000,"recv":1795353605000100,"norm":1795353605000130}}}}"#
    )
    .into_bytes()
}

/// A store with one book in which every leg shows the same prices.
pub fn store(levels: i64, legs: usize) -> Store {
    let store = Store::new(0);
    let rows: Vec<_> = (0..legs)
        .map(|leg| {
            let (platform, asset) = asset(leg);
            Row { platform: platform.into(), asset, book: BOOK.into(), inverted: false }
        })
        .collect();
    store.set_mapping(1, &rows, 0, &mut Vec::new()).unwrap();
    for leg in 0..legs {
        let snapshot = message("snapshot", leg, 1, &sides(levels, i64::try_from(leg).unwrap()));
        store.apply(&snapshot, 0, &mut Vec::new()).unwrap();
    }
    store
}

/// A one-level update near the top of the book; every other one has another size.
pub fn update(levels: i64, leg: usize, n: i64) -> Vec<u8> {
    let step = 490_000 / (levels / 2).max(1);
    let price = text(500_000 - 1 - n % (levels / 2).min(5) * step);
    message(
        "update",
        leg,
        n,
        &format!(r#""bids":[["{price}","{}"]],"asks":[]"#, text(1_000_000 + n % 977 * 10_000)),
    )
}
