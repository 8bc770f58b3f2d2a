//! Kalshi's hot frames read natively: `orderbook_delta` and `orderbook_snapshot`.
//!
//! An accelerator beside the Python adapter and not a second adapter: anything that is not exactly the usual
//! form gives nothing, and the adapter reads the frame as it reads all others.

use crate::fixed::{self, Price};
use crate::levels::Side;
use crate::scan::{Malformed, Scan, Scanner};
use crate::usual::usual_text;
use crate::venue_book::VenueBook;

/// One increment as the venue sent it, in YES coordinates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta<'a> {
    /// Subscription.
    pub sid: i64,
    /// Number within it.
    pub seq: i64,
    /// Asset.
    pub ticker: &'a str,
    /// Bid for the venue's `yes`, ask for its `no`.
    pub side: Side,
    /// In YES coordinates.
    pub price: Price,
    /// Signed change in millionths.
    pub delta: i64,
    /// The venue's stamp in microseconds.
    pub venue_us: Option<i64>,
}

/// A whole book as the venue sent it, in YES coordinates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole<'a> {
    /// Subscription.
    pub sid: i64,
    /// Number within it.
    pub seq: i64,
    /// Of the command that asked for it.
    pub id: Option<i64>,
    /// Asset.
    pub ticker: &'a str,
    /// The venue's stamp in microseconds.
    pub venue_us: Option<i64>,
    /// Its levels; a side without orders was absent.
    pub book: VenueBook,
}

#[derive(Default)]
struct Body<'a> {
    ticker: Option<&'a str>,
    price: Option<Price>,
    delta: Option<i64>,
    side: Option<Side>,
    ts_ms: Option<i64>,
    /// A stamp in another form, which the adapter knows how to read.
    other_stamp: bool,
}

impl<'a> Delta<'a> {
    /// Reads a frame; `None` for every other frame and for every unusual form of this one.
    ///
    /// `use_yes_price` is the subscription's mode: whether prices of the `no` side are YES prices already.
    #[must_use]
    pub fn read(frame: &'a [u8], use_yes_price: bool) -> Option<Self> {
        let frame = Frame::read(usual_text(frame)?, "orderbook_delta", read_body).ok()?;
        let body = frame.body;
        let (ticker, price, delta, side) = (body.ticker?, body.price?, body.delta?, body.side?);
        let venue_us = stamp(body.ts_ms, body.other_stamp)?;
        if ticker.is_empty() {
            return None;
        }
        let price = if side == Side::Ask && !use_yes_price { price.complement() } else { price };
        Some(Self { sid: frame.sid, seq: frame.seq, ticker, side, price, delta, venue_us })
    }
}

impl<'a> Whole<'a> {
    /// Reads a frame; `None` for every other frame, every unusual form of this one, and numbers that do not
    /// fit.
    #[must_use]
    pub fn read(frame: &'a [u8], use_yes_price: bool) -> Option<Self> {
        let read = |scanner: &mut Scanner<'a>| read_whole(scanner, use_yes_price);
        let frame = Frame::read(usual_text(frame)?, "orderbook_snapshot", read).ok()?;
        let body = frame.body;
        let ticker = body.ticker.filter(|ticker| !ticker.is_empty())?;
        let venue_us = stamp(body.ts_ms, body.other_stamp)?;
        Some(Self { sid: frame.sid, seq: frame.seq, id: frame.id, ticker, venue_us, book: body.book })
    }
}

/// Milliseconds up to fifteen digits to microseconds; `None` for whatever else stands for a time.
fn stamp(ts_ms: Option<i64>, other: bool) -> Option<Option<i64>> {
    match ts_ms {
        Some(ms) => (0..1_000_000_000_000_000).contains(&ms).then(|| Some(ms * 1_000)),
        None => (!other).then_some(None),
    }
}

/// Not the usual form: the adapter's work.
fn unusual<T>(scanner: &Scanner<'_>) -> Scan<T> {
    Err(Malformed { what: "unusual form", at: scanner.at() })
}

fn text<'a>(scanner: &mut Scanner<'a>) -> Scan<&'a str> {
    let raw = scanner.text()?;
    std::str::from_utf8(raw.bytes).or_else(|_| unusual(scanner))
}

/// What every numbered frame has around its body.
struct Frame<T> {
    sid: i64,
    seq: i64,
    id: Option<i64>,
    body: T,
}

impl<T> Frame<T> {
    fn read<'a>(
        frame: &'a str,
        kind: &str,
        mut read_body: impl FnMut(&mut Scanner<'a>) -> Scan<T>,
    ) -> Scan<Self> {
        let mut scanner = Scanner::new(frame.as_bytes());
        let (mut is_kind, mut sid, mut seq, mut id, mut body) = (false, None, None, None, None);
        scanner.expect(b'{', "object expected")?;
        let mut first = true;
        while let Some(key) = scanner.key(&mut first)? {
            match key.bytes {
                b"type" => {
                    is_kind = scanner.text()?.bytes == kind.as_bytes();
                    if !is_kind {
                        return unusual(&scanner);
                    }
                }
                b"sid" => sid = Some(scanner.integer()?),
                b"seq" => seq = Some(scanner.integer()?),
                b"id" => id = Some(scanner.integer()?),
                b"msg" => body = Some(read_body(&mut scanner)?),
                _ => drop(scanner.skip()?),
            }
        }
        scanner.end()?;
        match (is_kind, sid, seq, body) {
            (true, Some(sid), Some(seq), Some(body)) => Ok(Self { sid, seq, id, body }),
            _ => unusual(&scanner),
        }
    }
}

fn read_body<'a>(scanner: &mut Scanner<'a>) -> Scan<Body<'a>> {
    let mut body = Body::default();
    scanner.expect(b'{', "object expected")?;
    let mut first = true;
    while let Some(key) = scanner.key(&mut first)? {
        match key.bytes {
            b"market_ticker" => body.ticker = Some(text(scanner)?),
            b"price_dollars" => body.price = Price::parse(scanner.text()?.bytes),
            b"delta_fp" => body.delta = fixed::parse_signed(scanner.text()?.bytes),
            b"side" => {
                body.side = match scanner.text()?.bytes {
                    b"yes" => Some(Side::Bid),
                    b"no" => Some(Side::Ask),
                    _ => None,
                };
            }
            b"ts_ms" => body.ts_ms = Some(scanner.integer()?),
            b"ts" => {
                body.other_stamp = true;
                scanner.skip()?;
            }
            _ => drop(scanner.skip()?),
        }
    }
    Ok(body)
}

#[derive(Default)]
struct WholeBody<'a> {
    ticker: Option<&'a str>,
    ts_ms: Option<i64>,
    other_stamp: bool,
    seen: [bool; 2],
    book: VenueBook,
}

fn read_whole<'a>(scanner: &mut Scanner<'a>, use_yes_price: bool) -> Scan<WholeBody<'a>> {
    let mut body = WholeBody::default();
    scanner.expect(b'{', "object expected")?;
    let mut first = true;
    while let Some(key) = scanner.key(&mut first)? {
        match key.bytes {
            b"market_ticker" => body.ticker = Some(text(scanner)?),
            b"yes_dollars_fp" => ladder(scanner, Side::Bid, false, &mut body)?,
            b"no_dollars_fp" => ladder(scanner, Side::Ask, !use_yes_price, &mut body)?,
            // Older forms, which may stand beside these.
            b"yes_dollars" | b"no_dollars" | b"yes" | b"no" => return unusual(scanner),
            b"ts_ms" => body.ts_ms = Some(scanner.integer()?),
            b"ts" => {
                body.other_stamp = true;
                scanner.skip()?;
            }
            _ => drop(scanner.skip()?),
        }
    }
    Ok(body)
}

fn ladder<'a>(scanner: &mut Scanner<'a>, side: Side, mirrored: bool, body: &mut WholeBody<'a>) -> Scan<()> {
    if std::mem::replace(&mut body.seen[side as usize], true) {
        return unusual(scanner);
    }
    scanner.expect(b'[', "array expected")?;
    let mut first = true;
    while scanner.item(&mut first)? {
        scanner.expect(b'[', "array expected")?;
        let price = text(scanner)?;
        scanner.expect(b',', "comma expected")?;
        let size = text(scanner)?;
        scanner.expect(b']', "closing bracket expected")?;
        let set = if mirrored {
            let Some(price) = Price::parse(price.as_bytes()) else { return unusual(scanner) };
            body.book.set(side, &fixed::format(price.complement().micro()), size)
        } else {
            body.book.set(side, price, size)
        };
        if set.is_err() {
            return unusual(scanner);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: &str = r#"{"type":"orderbook_delta","sid":1,"seq":41076,"msg":{"market_ticker":"KXBTC-26SEP2516-B74250","market_id":"ef0c","price_dollars":"0.9600","delta_fp":"-2.00","side":"no","ts":"2026-09-25T19:13:44.342537Z","ts_ms":1790363624342}}"#;

    /// The documented frame is read in YES coordinates, by both price modes.
    #[test]
    fn documented_frame() {
        let delta = Delta::read(FRAME.as_bytes(), false).unwrap();
        assert_eq!((delta.sid, delta.seq, delta.ticker), (1, 41_076, "KXBTC-26SEP2516-B74250"));
        assert_eq!((delta.side, delta.price.micro(), delta.delta), (Side::Ask, 40_000, -2_000_000));
        assert_eq!(delta.venue_us, Some(1_790_363_624_342_000));
        assert_eq!(Delta::read(FRAME.as_bytes(), true).unwrap().price.micro(), 960_000);
    }

    /// Whatever is not the usual form is left to the adapter.
    #[test]
    fn unusual_forms() {
        for (from, to) in [
            ("orderbook_delta", "orderbook_snapshot"),
            ("\"sid\":1", "\"sid\":\"1\""),
            ("\"seq\":41076,", ""),
            ("0.9600", "1.9600"),
            ("-2.00", "-2.0000000"),
            ("\"delta_fp\":\"-2.00\"", "\"delta\":-2"),
            ("\"no\"", "\"maybe\""),
            (",\"ts_ms\":1790363624342", ""),
            ("}}", "}"),
            ("}}", "}}x"),
            ("\"market_ticker\":\"KXBTC-26SEP2516-B74250\"", "\"market_ticker\":\"\""),
        ] {
            assert_eq!(Delta::read(FRAME.replacen(from, to, 1).as_bytes(), false), None, "{from} -> {to}");
        }
    }

    const SNAPSHOT: &str = r#"{"type":"orderbook_snapshot","sid":1,"seq":5,"msg":{"market_ticker":"KXBTC-26SEP2516-B74250","market_id":"ef0c","no_dollars_fp":[["0.0100","33338.00"],["0.0200","5.00"],["0.9900","17336.00"]]}}"#;

    /// The documented snapshot is read in both price modes; an absent side is empty.
    #[test]
    fn documented_snapshot() {
        for (mode, best) in [(false, 10_000), (true, 10_000)] {
            let whole = Whole::read(SNAPSHOT.as_bytes(), mode).unwrap();
            assert_eq!((whole.sid, whole.seq, whole.id), (1, 5, None));
            assert_eq!((whole.book.best(Side::Bid), whole.book.side(Side::Ask).len()), (None, 3));
            assert_eq!(whole.book.best(Side::Ask).unwrap().micro(), best);
            let size = |price| whole.book.side(Side::Ask)[&Price::new(price).unwrap()].size.micro();
            assert_eq!(size(if mode { 20_000 } else { 980_000 }), 5_000_000);
        }
        let asked = SNAPSHOT.replacen("\"seq\":5", "\"seq\":5,\"id\":7", 1);
        assert_eq!(Whole::read(asked.as_bytes(), true).unwrap().id, Some(7));
    }

    /// Whatever is not the usual form is left to the adapter.
    #[test]
    fn unusual_snapshots() {
        for (from, to) in [
            ("orderbook_snapshot", "orderbook_delta"),
            ("\"seq\":5,", ""),
            ("no_dollars_fp", "no_dollars"),
            ("\"0.0100\"", "0.01"),
            ("\"0.0100\"", "\"1.0100\""),
            ("\"5.00\"", "\"-5.00\""),
            ("[[\"0.0100\"", "[[\"0.0100\",\"0.0100\""),
            ("\"no_dollars_fp\":[", "\"no_dollars_fp\":[],\"no_dollars_fp\":["),
            ("}}", ",\"ts\":\"2026\"}}"),
            ("ef0c", "ef\\u0030c"),
            ("}}", "}}x"),
        ] {
            let spoiled = SNAPSHOT.replacen(from, to, 1);
            assert_ne!(spoiled, SNAPSHOT, "{from}");
            assert_eq!(Whole::read(spoiled.as_bytes(), true), None, "{from} -> {to}");
        }
    }
}
