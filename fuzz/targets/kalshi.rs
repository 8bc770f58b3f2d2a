//! Any bytes as a Kalshi frame: what is read natively is what an independent JSON reader finds there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use wup::fixed::{self, Price, Size};
use wup::kalshi::{Delta, Whole};
use wup::levels::Side;

/// That reader takes `-0` for a float.
fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| (value.as_f64() == Some(0.0)).then_some(0))
}

fn venue_us(body: &Value) -> Option<i64> {
    integer(&body["ts_ms"]).and_then(|ms| ms.checked_mul(1_000))
}

fuzz_target!(|bytes: &[u8]| {
    let (delta, whole) = (Delta::read(bytes, false), Whole::read(bytes, false));
    assert!(delta.is_none() || whole.is_none());
    if delta.is_none() && whole.is_none() {
        return;
    }
    // It refuses numbers out of a float's range, which nothing here reads.
    let Ok(frame) = serde_json::from_slice::<Value>(bytes) else { return };
    let body = &frame["msg"];
    if let Some(delta) = delta {
        assert_eq!(frame["type"], "orderbook_delta");
        assert_eq!((integer(&frame["sid"]), integer(&frame["seq"])), (Some(delta.sid), Some(delta.seq)));
        assert_eq!(body["market_ticker"], *delta.ticker);
        assert_eq!(body["side"] == "yes", delta.side == Side::Bid);
        let number = |field: &str| body[field].as_str().and_then(|text| fixed::parse_signed(text.as_bytes()));
        assert_eq!(number("delta_fp"), Some(delta.delta));
        let price = if delta.side == Side::Bid { delta.price } else { delta.price.complement() };
        assert_eq!(number("price_dollars"), Some(price.micro()));
        assert_eq!(venue_us(body), delta.venue_us);
    }
    if let Some(whole) = whole {
        assert_eq!(frame["type"], "orderbook_snapshot");
        assert_eq!((integer(&frame["sid"]), integer(&frame["seq"])), (Some(whole.sid), Some(whole.seq)));
        assert_eq!(integer(&frame["id"]), whole.id);
        assert_eq!(body["market_ticker"], *whole.ticker);
        assert_eq!(venue_us(body), whole.venue_us);
        for (side, key) in [(Side::Bid, "yes_dollars_fp"), (Side::Ask, "no_dollars_fp")] {
            let mut naive = std::collections::BTreeMap::new();
            for level in body[key].as_array().map_or(&[][..], Vec::as_slice) {
                let part = |place: usize| level[place].as_str().expect("a level is two texts").as_bytes();
                let price = Price::parse(part(0)).expect("a price that was taken is one");
                let price = if side == Side::Bid { price } else { price.complement() };
                naive.insert(price, Size::parse(part(1)).expect("a size that was taken is one"));
            }
            naive.retain(|_, size| *size != Size::ZERO);
            let found = whole.book.side(side).iter().map(|(price, level)| (*price, level.size));
            assert!(found.eq(naive));
        }
    }
});
