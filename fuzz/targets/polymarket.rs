//! Any bytes as a Polymarket frame: what is read natively is what an independent JSON reader finds there.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use wup::fixed::{Price, Size};
use wup::levels::Side;
use wup::polymarket::{Changes, Item, Whole, read};

fn venue_us(item: &Value) -> Option<i64> {
    let text = item["timestamp"].as_str().expect("a stamp is text");
    (!text.is_empty()).then(|| text.parse::<i64>().expect("of digits") * 1_000)
}

fn check_changes(changes: &Changes<'_>, item: &Value) {
    assert_eq!(item["event_type"], "price_change");
    assert_eq!(
        (item["market"].as_str(), item["timestamp"].as_str()),
        (Some(changes.market), Some(changes.timestamp))
    );
    assert_eq!(venue_us(item), changes.venue_us);
    let wanted = item["price_changes"].as_array().expect("an array");
    assert_eq!(wanted.len(), changes.elements.len());
    for (element, wanted) in changes.elements.iter().zip(wanted) {
        let text = |key: &str| wanted[key].as_str();
        assert_eq!(text("asset_id"), Some(element.asset));
        assert!(!element.asset.is_empty());
        assert_eq!(text("side"), Some(if element.side == Side::Bid { "BUY" } else { "SELL" }));
        assert_eq!((text("price"), text("size")), (Some(element.price), Some(element.size)));
        assert_eq!(
            (text("hash"), text("best_bid"), text("best_ask")),
            (element.hash, element.best_bid, element.best_ask)
        );
    }
}

fn check_whole(whole: &Whole<'_>, item: &Value) {
    assert_eq!(item["event_type"], "book");
    assert_eq!(
        (item["market"].as_str(), item["timestamp"].as_str()),
        (Some(whole.market), Some(whole.timestamp))
    );
    assert_eq!(item["asset_id"].as_str(), Some(whole.asset));
    assert_eq!(venue_us(item), whole.venue_us);
    for name in ["hash", "tick_size", "last_trade_price", "min_order_size"] {
        let found = whole.facts.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        assert_eq!(item[name].as_str(), found);
    }
    assert_eq!(item["neg_risk"].as_bool(), whole.neg_risk);
    for (side, key) in [(Side::Bid, "bids"), (Side::Ask, "asks")] {
        let mut naive = BTreeMap::new();
        for level in item[key].as_array().expect("an array") {
            let part = |key: &str| level[key].as_str().expect("text");
            let price = Price::parse(part("price").as_bytes()).expect("a price that was taken is one");
            let size = Size::parse(part("size").as_bytes()).expect("a size that was taken is one");
            naive.insert(price, (size, part("price"), part("size")));
        }
        naive.retain(|_, (size, ..)| *size != Size::ZERO);
        let found = whole.book.side(side).iter();
        assert!(
            found
                .map(|(price, level)| (*price, level.size, &level.price_text[..], &level.size_text[..]))
                .eq(naive.iter().map(|(price, (size, p, s))| (*price, *size, p.as_bytes(), s.as_bytes())))
        );
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some(items) = read(bytes) else { return };
    // It refuses numbers out of a float's range, which nothing here reads.
    let Ok(frame) = serde_json::from_slice::<Value>(bytes) else { return };
    let wanted = match &frame {
        Value::Array(wanted) => wanted.iter().collect::<Vec<_>>(),
        item => vec![item],
    };
    assert_eq!(items.len(), wanted.len());
    for (item, wanted) in items.iter().zip(wanted) {
        match item {
            Item::Changes(changes) => check_changes(changes, wanted),
            Item::Whole(whole) => check_whole(whole, wanted),
        }
    }
});
