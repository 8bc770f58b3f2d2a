//! Polymarket's book hash: SHA-1 over the compact JSON of the venue's own book object, keys in the venue's
//! order, the `hash` field empty, levels worst price first with the exact text that the venue sent.

use sha1::{Digest, Sha1};

use crate::encode::put;
use crate::json_text::write_text;
use crate::levels::Side;
use crate::venue_book::{VenueBook, VenueLevel};

/// What the venue states beside its levels.
#[derive(Debug, Clone, Copy)]
pub struct BookFacts<'a> {
    /// Condition id.
    pub market: &'a str,
    /// Token id.
    pub asset_id: &'a str,
    /// Milliseconds as text.
    pub timestamp: &'a str,
    /// Smallest order as text.
    pub min_order_size: &'a str,
    /// Smallest price step as text.
    pub tick_size: &'a str,
    /// Whether the event's outcomes share collateral.
    pub neg_risk: bool,
    /// The market's last match, not complemented; `None` for the nine-field form used until late 2025.
    pub last_trade_price: Option<&'a str>,
}

/// The hash in lower-case hex. `text` is a reused buffer.
#[must_use]
pub fn polymarket_hash(book: &VenueBook, facts: &BookFacts<'_>, text: &mut Vec<u8>) -> String {
    text.clear();
    put(text, b"{\"market\":");
    write_text(text, facts.market);
    put(text, b",\"asset_id\":");
    write_text(text, facts.asset_id);
    put(text, b",\"timestamp\":");
    write_text(text, facts.timestamp);
    put(text, b",\"hash\":\"\",\"bids\":[");
    put_levels(text, book.side(Side::Bid).values());
    put(text, b"],\"asks\":[");
    put_levels(text, book.side(Side::Ask).values().rev());
    put(text, b"],\"min_order_size\":");
    write_text(text, facts.min_order_size);
    put(text, b",\"tick_size\":");
    write_text(text, facts.tick_size);
    put(text, if facts.neg_risk { b",\"neg_risk\":true" } else { b",\"neg_risk\":false" });
    if let Some(price) = facts.last_trade_price {
        put(text, b",\"last_trade_price\":");
        write_text(text, price);
    }
    text.push(b'}');
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digest = Sha1::digest(&*text);
    digest
        .iter()
        .flat_map(|byte| [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

fn put_levels<'a>(text: &mut Vec<u8>, levels: impl Iterator<Item = &'a VenueLevel>) {
    for (place, level) in levels.enumerate() {
        put(text, if place == 0 { b"{\"price\":\"" } else { b",{\"price\":\"" });
        put(text, &level.price_text);
        put(text, b"\",\"size\":\"");
        put(text, &level.size_text);
        put(text, b"\"}");
    }
}
