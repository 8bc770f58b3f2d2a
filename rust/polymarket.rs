//! Polymarket's hot frames read natively: `price_change` and `book`, alone or in an array.
//!
//! As with [`crate::kalshi`] this stands beside the Python adapter and is no second adapter: a frame in which
//! anything is not exactly the usual form gives nothing, and the adapter reads it as it reads all others.
//! Numbers of changes stay text, for the venue's checksum is over the text.

use smallvec::SmallVec;

use crate::levels::Side;
use crate::scan::{Malformed, Scan, Scanner};
use crate::usual::{milliseconds, usual_text};
use crate::venue_book::VenueBook;

/// One level's new total size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element<'a> {
    /// Token.
    pub asset: &'a str,
    /// Bid for the venue's `BUY`, ask for its `SELL`.
    pub side: Side,
    /// As sent.
    pub price: &'a str,
    /// As sent; zero removes.
    pub size: &'a str,
    /// Of the token's whole book after the transaction.
    pub hash: Option<&'a str>,
    /// After the transaction.
    pub best_bid: Option<&'a str>,
    /// After the transaction.
    pub best_ask: Option<&'a str>,
}

/// A `price_change`: levels of the tokens of one market.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes<'a> {
    /// Condition.
    pub market: &'a str,
    /// Milliseconds as sent.
    pub timestamp: &'a str,
    /// The same in microseconds.
    pub venue_us: Option<i64>,
    /// In the order sent.
    pub elements: SmallVec<[Element<'a>; 2]>,
}

/// A `book`: everything that one token shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole<'a> {
    /// Condition.
    pub market: &'a str,
    /// Token.
    pub asset: &'a str,
    /// Milliseconds as sent.
    pub timestamp: &'a str,
    /// The same in microseconds.
    pub venue_us: Option<i64>,
    /// Facts that go into the hash, and the hash, as far as they were sent: (name, text).
    pub facts: SmallVec<[(&'static str, &'a str); 4]>,
    /// Said by some forms.
    pub neg_risk: Option<bool>,
    /// The levels with their exact text.
    pub book: VenueBook,
}

/// One object of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<'a> {
    /// A `price_change`.
    Changes(Changes<'a>),
    /// A `book`.
    Whole(Whole<'a>),
}

/// Reads a frame of `price_change` and `book` objects; `None` when anything in it is something else.
#[must_use]
pub fn read(frame: &[u8]) -> Option<SmallVec<[Item<'_>; 1]>> {
    items(usual_text(frame)?).ok()
}

fn items(frame: &str) -> Scan<SmallVec<[Item<'_>; 1]>> {
    let mut scanner = Scanner::new(frame.as_bytes());
    let mut found = SmallVec::new();
    if scanner.take(b'[') {
        let mut first = true;
        while scanner.item(&mut first)? {
            found.push(item(&mut scanner)?);
        }
    } else {
        found.push(item(&mut scanner)?);
    }
    scanner.end()?;
    Ok(found)
}

/// Not the usual form: the adapter's work.
fn unusual<T>(scanner: &Scanner<'_>) -> Scan<T> {
    Err(Malformed { what: "unusual form", at: scanner.at() })
}

fn text<'a>(scanner: &mut Scanner<'a>) -> Scan<&'a str> {
    let raw = scanner.text()?;
    std::str::from_utf8(raw.bytes).or_else(|_| unusual(scanner))
}

#[derive(Default)]
struct Fields<'a> {
    kind: Option<&'a str>,
    market: Option<&'a str>,
    asset: Option<&'a str>,
    timestamp: Option<&'a str>,
    elements: Option<SmallVec<[Element<'a>; 2]>>,
    sides: [bool; 2],
    book: VenueBook,
    facts: SmallVec<[(&'static str, &'a str); 4]>,
    neg_risk: Option<bool>,
}

fn item<'a>(scanner: &mut Scanner<'a>) -> Scan<Item<'a>> {
    let mut fields = Fields::default();
    scanner.expect(b'{', "object expected")?;
    let mut first = true;
    while let Some(key) = scanner.key(&mut first)? {
        match key.bytes {
            b"event_type" => fields.kind = Some(text(scanner)?),
            b"market" => fields.market = Some(text(scanner)?),
            b"asset_id" => fields.asset = Some(text(scanner)?),
            b"timestamp" => fields.timestamp = Some(text(scanner)?),
            b"price_changes" => fields.elements = Some(elements(scanner)?),
            b"bids" => side(scanner, Side::Bid, &mut fields)?,
            b"asks" => side(scanner, Side::Ask, &mut fields)?,
            b"hash" => fact(scanner, "hash", &mut fields)?,
            b"tick_size" => fact(scanner, "tick_size", &mut fields)?,
            b"last_trade_price" => fact(scanner, "last_trade_price", &mut fields)?,
            b"min_order_size" => fact(scanner, "min_order_size", &mut fields)?,
            b"neg_risk" => fields.neg_risk = Some(scanner.boolean()?),
            _ => drop(scanner.skip()?),
        }
    }
    let (Some(market), Some(timestamp)) = (fields.market, fields.timestamp) else { return unusual(scanner) };
    let Some(venue_us) = milliseconds(timestamp) else { return unusual(scanner) };
    match (fields.kind, fields.elements, fields.asset, fields.sides) {
        (Some("price_change"), Some(elements), _, _) => {
            Ok(Item::Changes(Changes { market, timestamp, venue_us, elements }))
        }
        (Some("book"), _, Some(asset), [true, true]) if !asset.is_empty() => {
            let Fields { facts, neg_risk, book, .. } = fields;
            Ok(Item::Whole(Whole { market, asset, timestamp, venue_us, facts, neg_risk, book }))
        }
        _ => unusual(scanner),
    }
}

fn fact<'a>(scanner: &mut Scanner<'a>, name: &'static str, fields: &mut Fields<'a>) -> Scan<()> {
    let value = text(scanner)?;
    // Of a repeated key the last counts.
    fields.facts.retain(|(known, _)| *known != name);
    fields.facts.push((name, value));
    Ok(())
}

fn side<'a>(scanner: &mut Scanner<'a>, side: Side, fields: &mut Fields<'a>) -> Scan<()> {
    if std::mem::replace(&mut fields.sides[side as usize], true) {
        return unusual(scanner);
    }
    scanner.expect(b'[', "array expected")?;
    let mut first = true;
    while scanner.item(&mut first)? {
        let (mut price, mut size) = (None, None);
        scanner.expect(b'{', "object expected")?;
        let mut first = true;
        while let Some(key) = scanner.key(&mut first)? {
            match key.bytes {
                b"price" => price = Some(text(scanner)?),
                b"size" => size = Some(text(scanner)?),
                _ => drop(scanner.skip()?),
            }
        }
        let (Some(price), Some(size)) = (price, size) else { return unusual(scanner) };
        if fields.book.set(side, price, size).is_err() {
            return unusual(scanner);
        }
    }
    Ok(())
}

fn elements<'a>(scanner: &mut Scanner<'a>) -> Scan<SmallVec<[Element<'a>; 2]>> {
    let mut found = SmallVec::new();
    scanner.expect(b'[', "array expected")?;
    let mut first = true;
    while scanner.item(&mut first)? {
        found.push(element(scanner)?);
    }
    Ok(found)
}

fn element<'a>(scanner: &mut Scanner<'a>) -> Scan<Element<'a>> {
    let (mut asset, mut side, mut price, mut size) = (None, None, None, None);
    let (mut hash, mut best_bid, mut best_ask) = (None, None, None);
    scanner.expect(b'{', "object expected")?;
    let mut first = true;
    while let Some(key) = scanner.key(&mut first)? {
        match key.bytes {
            b"asset_id" => asset = Some(text(scanner)?),
            b"price" => price = Some(text(scanner)?),
            b"size" => size = Some(text(scanner)?),
            b"hash" => hash = Some(text(scanner)?),
            b"best_bid" => best_bid = Some(text(scanner)?),
            b"best_ask" => best_ask = Some(text(scanner)?),
            b"side" => {
                side = match scanner.text()?.bytes {
                    b"BUY" => Some(Side::Bid),
                    b"SELL" => Some(Side::Ask),
                    _ => return unusual(scanner),
                };
            }
            _ => drop(scanner.skip()?),
        }
    }
    let (Some(asset), Some(side), Some(price), Some(size)) = (asset, side, price, size) else {
        return unusual(scanner);
    };
    if asset.is_empty() {
        return unusual(scanner);
    }
    Ok(Element { asset, side, price, size, hash, best_bid, best_ask })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGE: &str = r#"{"market":"0x285746de","price_changes":[{"asset_id":"76670567","price":"0.301","size":"1000","side":"BUY","hash":"b762","best_bid":"0.301","best_ask":"0.397"},{"asset_id":"54179564","price":"0.699","size":"1000","side":"SELL","hash":"c097","best_bid":"0.603","best_ask":"0.699"}],"timestamp":"1790658674035","event_type":"price_change"}"#;
    const BOOK: &str = r#"{"market":"0xde04","asset_id":"3076","timestamp":"1778997973345","hash":"abcd","bids":[{"price":"0.001","size":"21048849.75"},{"price":"0.98","size":"13016.36"}],"asks":[{"price":"0.999","size":"3807858"},{"price":"0.981","size":"0"}],"tick_size":"0.001","event_type":"book","last_trade_price":"0.980"}"#;

    /// The documented change is read with its text as sent, both tokens in order.
    #[test]
    fn documented_change() {
        let items = read(CHANGE.as_bytes()).unwrap();
        let [Item::Changes(changes)] = items.as_slice() else { panic!("{items:?}") };
        assert_eq!((changes.market, changes.venue_us), ("0x285746de", Some(1_790_658_674_035_000)));
        let [own, other] = changes.elements.as_slice() else { panic!("{changes:?}") };
        assert_eq!((own.asset, own.side, own.price, own.size), ("76670567", Side::Bid, "0.301", "1000"));
        assert_eq!((own.hash, own.best_bid, own.best_ask), (Some("b762"), Some("0.301"), Some("0.397")));
        assert_eq!((other.asset, other.side, other.price), ("54179564", Side::Ask, "0.699"));
    }

    /// The documented book is read, alone and in an array, without its empty level.
    #[test]
    fn documented_book() {
        for frame in [BOOK.to_owned(), format!("[{BOOK}]\n")] {
            let items = read(frame.as_bytes()).unwrap();
            let [Item::Whole(whole)] = items.as_slice() else { panic!("{items:?}") };
            assert_eq!((whole.asset, whole.venue_us), ("3076", Some(1_778_997_973_345_000)));
            assert!(whole.facts.contains(&("last_trade_price", "0.980")));
            let levels = |side| whole.book.side(side).len();
            assert_eq!((levels(Side::Bid), levels(Side::Ask)), (2, 1));
        }
        assert_eq!(read(format!("[{BOOK},{CHANGE}]").as_bytes()).unwrap().len(), 2);
        assert_eq!(read(b"[]").unwrap().len(), 0);
    }

    /// Whatever is not the usual form is left to the adapter.
    #[test]
    fn unusual_forms() {
        for (frame, from, to) in [
            (CHANGE, "price_change\"", "something\""),
            (CHANGE, "\"BUY\"", "\"buy\""),
            (CHANGE, "\"1000\"", "1000"),
            (CHANGE, "\"76670567\"", "\"\""),
            (CHANGE, "\"b762\"", "null"),
            (CHANGE, "\"1790658674035\"", "\"yesterday\""),
            (CHANGE, "\"1790658674035\"", "1790658674035"),
            (CHANGE, "\"market\":\"0x285746de\",", ""),
            (CHANGE, "price_changes", "changes"),
            (CHANGE, "0x285746de", "0x\\u0032"),
            (CHANGE, "}]", "},]"),
            (BOOK, "\"asks\"", "\"offers\""),
            (BOOK, "\"0.999\"", "\"1.999\""),
            (BOOK, "\"book\"", "\"\""),
            (BOOK, ",\"event_type\":\"book\"", ""),
            (BOOK, "\"asks\":[", "\"asks\":[[],"),
            (BOOK, "}]", "}"),
        ] {
            let spoiled = frame.replacen(from, to, 1);
            assert_ne!(spoiled, frame, "{from}");
            assert!(read(spoiled.as_bytes()).is_none(), "{from} -> {to}");
        }
        assert!(read(b"PONG").is_none() && read(b"").is_none());
        assert!(read(&[CHANGE.as_bytes(), b"x"].concat()).is_none());
    }
}
