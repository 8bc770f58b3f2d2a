//! The normalised messages of one asset as bytes (wire.md section 2): what the normalizer publishes.

use crate::encode::{put, put_stamps};
use crate::fixed::write_integer;
use crate::json_text::write_text;
use crate::levels::Side;
use crate::normalised::Stamps;
use crate::venue_book::VenueBook;

/// Writes the messages that carry levels; what stays the same for an asset is written once.
#[derive(Debug, Clone)]
pub struct Writer {
    /// `,"platform":...` up to `"n":`.
    head: Vec<u8>,
}

impl Writer {
    /// For one asset in one epoch of its normalizer.
    #[must_use]
    pub fn new(platform: &str, market: &str, asset: &str, epoch: i64) -> Self {
        let mut head = Vec::with_capacity(64 + platform.len() + market.len() + asset.len());
        put(&mut head, b",\"platform\":");
        write_text(&mut head, platform);
        put(&mut head, b",\"market_id\":");
        write_text(&mut head, market);
        put(&mut head, b",\"asset_id\":");
        write_text(&mut head, asset);
        put(&mut head, b",\"epoch\":");
        write_integer(&mut head, epoch);
        put(&mut head, b",\"n\":");
        Self { head }
    }

    fn open(&self, kind: &[u8], n: i64, levels: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(160 + self.head.len() + 32 * levels);
        put(&mut out, b"{\"type\":\"");
        put(&mut out, kind);
        out.push(b'"');
        put(&mut out, &self.head);
        write_integer(&mut out, n);
        out
    }

    fn close(mut out: Vec<u8>, stamps: Stamps) -> Vec<u8> {
        out.push(b',');
        put_stamps(&mut out, stamps, None);
        out.push(b'}');
        out
    }

    /// A `snapshot` of a whole book.
    #[must_use]
    pub fn snapshot(&self, n: i64, book: &VenueBook, stamps: Stamps) -> Vec<u8> {
        let mut out = self.open(b"snapshot", n, book.side(Side::Bid).len() + book.side(Side::Ask).len());
        put(&mut out, b",\"bids\":");
        book.write_side(Side::Bid, &mut out);
        put(&mut out, b",\"asks\":");
        book.write_side(Side::Ask, &mut out);
        Self::close(out, stamps)
    }

    /// An `update` of levels in shortest exact text.
    #[must_use]
    pub fn update<T: AsRef<str>>(&self, n: i64, bids: &[(T, T)], asks: &[(T, T)], stamps: Stamps) -> Vec<u8> {
        let mut out = self.open(b"update", n, bids.len() + asks.len());
        for (label, levels) in [(&b",\"bids\":["[..], bids), (b",\"asks\":[", asks)] {
            put(&mut out, label);
            for (place, (price, size)) in levels.iter().enumerate() {
                put(&mut out, if place == 0 { b"[" } else { b",[" });
                write_text(&mut out, price.as_ref());
                out.push(b',');
                write_text(&mut out, size.as_ref());
                out.push(b']');
            }
            out.push(b']');
        }
        Self::close(out, stamps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the wire contract, byte for byte.
    #[test]
    fn the_contracts_example() {
        let mut book = VenueBook::default();
        book.set(Side::Bid, "0.51", "300.50").unwrap();
        book.set(Side::Ask, "0.5400", "250").unwrap();
        let writer = Writer::new("kalshi", "KXFED-26DEC-C25", "KXFED-26DEC-C25", 1_795_353_600_001);
        let stamps = Stamps {
            venue: Some(1_795_353_604_990_000),
            recv: Some(1_795_353_605_000_100),
            norm: Some(1_795_353_605_000_130),
        };
        assert_eq!(
            String::from_utf8(writer.snapshot(1, &book, stamps)).unwrap(),
            r#"{"type":"snapshot","platform":"kalshi","market_id":"KXFED-26DEC-C25","asset_id":"KXFED-26DEC-C25","epoch":1795353600001,"n":1,"bids":[["0.51","300.5"]],"asks":[["0.54","250"]],"ts":{"venue":1795353604990000,"recv":1795353605000100,"norm":1795353605000130}}"#
        );
        let update = writer.update(8, &[("0.52", "700"), ("0.5", "0")], &[], Stamps::default());
        assert!(
            String::from_utf8(update)
                .unwrap()
                .ends_with(r#","n":8,"bids":[["0.52","700"],["0.5","0"]],"asks":[],"ts":{}}"#)
        );
    }
}
