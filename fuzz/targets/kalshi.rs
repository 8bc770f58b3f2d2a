//! Any bytes as a Kalshi frame: what is read natively is what an independent JSON reader finds there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use wup::fixed;
use wup::kalshi::Delta;
use wup::levels::Side;

fuzz_target!(|bytes: &[u8]| {
    let Some(delta) = Delta::read(bytes, false) else { return };
    // What the scanner leaves unchecked is text that is not UTF-8 in fields that are not used.
    let Ok(frame) = serde_json::from_slice::<Value>(bytes) else { return };
    assert_eq!(frame["type"], "orderbook_delta");
    // That reader takes `-0` for a float.
    let integer = |value: &Value| value.as_i64().or_else(|| (value.as_f64() == Some(0.0)).then_some(0));
    assert_eq!((integer(&frame["sid"]), integer(&frame["seq"])), (Some(delta.sid), Some(delta.seq)));
    let body = &frame["msg"];
    assert_eq!(body["market_ticker"], *delta.ticker);
    assert_eq!(body["side"] == "yes", delta.side == Side::Bid);
    let number = |field: &str| body[field].as_str().and_then(|text| fixed::parse_signed(text.as_bytes()));
    assert_eq!(number("delta_fp"), Some(delta.delta));
    let price = if delta.side == Side::Bid { delta.price } else { delta.price.complement() };
    assert_eq!(number("price_dollars"), Some(price.micro()));
    assert_eq!(integer(&body["ts_ms"]).and_then(|ms| ms.checked_mul(1_000)), delta.venue_us);
});
