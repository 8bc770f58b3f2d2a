//! The one Kalshi frame that is hot, read natively: `orderbook_delta`.
//!
//! An accelerator beside the Python adapter and not a second adapter: anything that is not exactly the usual
//! form gives nothing, and the adapter reads the frame as it reads all others.

use std::borrow::Cow;

use crate::fixed::{self, Price};
use crate::json_text::RawText;
use crate::levels::Side;
use crate::scan::{Scan, Scanner};

/// One increment as the venue sent it, in YES coordinates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta<'a> {
    /// Subscription.
    pub sid: i64,
    /// Number within it.
    pub seq: i64,
    /// Asset.
    pub ticker: Cow<'a, str>,
    /// Bid for the venue's `yes`, ask for its `no`.
    pub side: Side,
    /// In YES coordinates.
    pub price: Price,
    /// Signed change in millionths.
    pub delta: i64,
    /// The venue's stamp in microseconds.
    pub venue_us: Option<i64>,
}

#[derive(Default)]
struct Body<'a> {
    ticker: Option<Cow<'a, str>>,
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
        read(frame, use_yes_price).ok().flatten()
    }
}

fn read(frame: &[u8], use_yes_price: bool) -> Scan<Option<Delta<'_>>> {
    let mut scanner = Scanner::new(frame);
    let (mut is_delta, mut sid, mut seq, mut body) = (false, None, None, None);
    scanner.expect(b'{', "object expected")?;
    let mut first = true;
    while let Some(key) = scanner.key(&mut first)? {
        match key.bytes {
            b"type" => {
                is_delta = scanner.text()?.bytes == b"orderbook_delta";
                if !is_delta {
                    return Ok(None);
                }
            }
            b"sid" => sid = Some(scanner.integer()?),
            b"seq" => seq = Some(scanner.integer()?),
            b"msg" => body = Some(read_body(&mut scanner)?),
            _ => drop(scanner.skip()?),
        }
    }
    scanner.end()?;
    let (true, Some(sid), Some(seq), Some(body)) = (is_delta, sid, seq, body) else { return Ok(None) };
    let (Some(ticker), Some(price), Some(delta), Some(side)) =
        (body.ticker, body.price, body.delta, body.side)
    else {
        return Ok(None);
    };
    let venue_us = body.ts_ms.and_then(|ms| ms.checked_mul(1_000));
    if ticker.is_empty() || (body.other_stamp && venue_us.is_none()) {
        return Ok(None);
    }
    let price = if side == Side::Ask && !use_yes_price { price.complement() } else { price };
    Ok(Some(Delta { sid, seq, ticker, side, price, delta, venue_us }))
}

fn read_body<'a>(scanner: &mut Scanner<'a>) -> Scan<Body<'a>> {
    let mut body = Body::default();
    let plain = |text: RawText<'a>| (!text.escaped).then_some(text.bytes);
    scanner.expect(b'{', "object expected")?;
    let mut first = true;
    while let Some(key) = scanner.key(&mut first)? {
        match key.bytes {
            b"market_ticker" => body.ticker = scanner.text()?.text(),
            b"price_dollars" => body.price = plain(scanner.text()?).and_then(Price::parse),
            b"delta_fp" => body.delta = plain(scanner.text()?).and_then(fixed::parse_signed),
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

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: &str = r#"{"type":"orderbook_delta","sid":1,"seq":41076,"msg":{"market_ticker":"KXBTC-26SEP2516-B74250","market_id":"ef0c","price_dollars":"0.9600","delta_fp":"-2.00","side":"no","ts":"2026-09-25T19:13:44.342537Z","ts_ms":1790363624342}}"#;

    /// The documented frame is read in YES coordinates, by both price modes.
    #[test]
    fn documented_frame() {
        let delta = Delta::read(FRAME.as_bytes(), false).unwrap();
        assert_eq!((delta.sid, delta.seq, &*delta.ticker), (1, 41_076, "KXBTC-26SEP2516-B74250"));
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
}
