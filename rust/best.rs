//! What a book shows at its top: the row of a list, the best bid and ask, the size at a crossing.

use crate::book::Book;
use crate::encode::{put, put_legs, put_level};
use crate::fixed::{Price, write_integer, write_micro, write_unsigned};
use crate::json_text::write_text;
use crate::levels::{LegIndex, Levels, PlatformSizes, Side};

type Top<'a> = Option<(Price, &'a PlatformSizes)>;

/// How much of one platform stands at its own best price on one side.
type Best = Option<(Price, i64)>;

/// What could be taken at once, in millionths: bids above asks, matched best against best.
#[must_use]
pub fn crossing_size(levels: &Levels) -> i128 {
    let mut bids = levels.best_first(Side::Bid).map(|(price, sizes)| (price, sizes.total()));
    let mut asks = levels.best_first(Side::Ask).map(|(price, sizes)| (price, sizes.total()));
    let (mut bid, mut ask) = (bids.next(), asks.next());
    let mut total = 0i128;
    while let (Some((bid_price, bid_left)), Some((ask_price, ask_left))) = (bid, ask) {
        if bid_price <= ask_price {
            break;
        }
        let taken = bid_left.min(ask_left);
        total += i128::from(taken);
        bid = if bid_left == taken { bids.next() } else { Some((bid_price, bid_left - taken)) };
        ask = if ask_left == taken { asks.next() } else { Some((ask_price, ask_left - taken)) };
    }
    total
}

/// Writes a sum of sizes, which may be larger than one size can be.
fn write_sum(out: &mut Vec<u8>, sum: i128) {
    let (whole, rest) = (sum / 1_000_000, sum % 1_000_000);
    write_unsigned(out, u64::try_from(whole).unwrap_or(u64::MAX));
    if rest > 0 {
        let mut text = Vec::with_capacity(8);
        write_micro(&mut text, i64::try_from(rest).unwrap_or_default());
        // `0.5` without its nought.
        put(out, &text[1..]);
    }
}

/// Writes `["0.53","10"]`, or `null`.
fn put_pair(out: &mut Vec<u8>, no: bool, best: Best) {
    match best {
        None => put(out, b"null"),
        Some((price, size)) => {
            put(out, b"[\"");
            write_micro(out, if no { price.complement() } else { price }.micro());
            put(out, b"\",\"");
            write_micro(out, size);
            put(out, b"\"]");
        }
    }
}

impl Book {
    /// The sides as a view shows them: its bids and asks are sides of the YES book.
    fn sides(no: bool) -> [(Side, &'static [u8]); 2] {
        let [bid, ask] = if no { [Side::Ask, Side::Bid] } else { Side::BOTH };
        [(bid, b"best_bid"), (ask, b"best_ask")]
    }

    fn put_top(&self, out: &mut Vec<u8>, no: bool) {
        put(out, b"{\"book\":\"");
        if no {
            put(out, self.id.strip_suffix("yes").unwrap_or(&self.id).as_bytes());
            put(out, b"no");
        } else {
            put(out, self.id.as_bytes());
        }
        put(out, b"\",\"epoch\":");
        write_integer(out, self.epoch);
        put(out, b",\"seq\":");
        write_integer(out, self.seq);
        put(out, b",\"digest\":");
        write_unsigned(out, u64::from(self.levels.digest()));
        put(out, b",\"state\":\"");
        put(out, self.state.as_str().as_bytes());
        put(out, if self.levels.crossed() { b"\",\"crossed\":true" } else { b"\",\"crossed\":false" });
        if let Some((result, _)) = &self.resolved {
            put(out, b",\"result\":");
            write_text(out, result);
        }
    }

    fn put_bottom(&self, out: &mut Vec<u8>, now_us: i64) {
        put(out, b",\"legs\":");
        put_legs(out, &self.legs, now_us);
        out.push(b'}');
    }

    /// One row of a list of books, as JSON: identity, state, best prices with their total sizes, legs.
    #[must_use]
    pub fn row(&self, no: bool, now_us: i64) -> Vec<u8> {
        let mut out = Vec::with_capacity(320 + 256 * self.legs.len());
        self.put_top(&mut out, no);
        for (side, label) in Self::sides(no) {
            put(&mut out, b",\"");
            put(&mut out, label);
            put(&mut out, b"\":");
            let best: Top<'_> = self.levels.best(side);
            put_pair(&mut out, no, best.map(|(price, sizes)| (price, sizes.total())));
        }
        self.put_bottom(&mut out, now_us);
        out
    }

    /// The best bid and ask as JSON: whole levels with the legs behind them, each platform's own best, and the
    /// size at a crossing.
    #[must_use]
    pub fn bbo(&self, no: bool, now_us: i64) -> Vec<u8> {
        let mut out = Vec::with_capacity(512 + 384 * self.legs.len());
        self.put_top(&mut out, no);
        let name = |leg: LegIndex| &*self.legs[usize::from(leg)].name;
        for (side, label) in Self::sides(no) {
            put(&mut out, b",\"");
            put(&mut out, label);
            put(&mut out, b"\":");
            match self.levels.best(side) {
                None => put(&mut out, b"null"),
                Some((price, sizes)) => {
                    put_level(&mut out, if no { price.complement() } else { price }, Some(sizes), &name);
                }
            }
        }
        put(&mut out, b",\"crossing_size\":\"");
        write_sum(&mut out, crossing_size(&self.levels));
        put(&mut out, b"\",\"platforms\":{");
        let mut platforms: Vec<&str> = Vec::new();
        for leg in &self.legs {
            if !platforms.contains(&&*leg.platform) {
                platforms.push(&leg.platform);
            }
        }
        let [bids, asks] = Self::sides(no).map(|(side, label)| (self.best_of_each(&platforms, side), label));
        for (place, platform) in platforms.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            write_text(&mut out, platform);
            for (opening, (best, label)) in [(&b":{\""[..], &bids), (b",\"", &asks)] {
                put(&mut out, opening);
                put(&mut out, label);
                put(&mut out, b"\":");
                put_pair(&mut out, no, best[place]);
            }
            out.push(b'}');
        }
        out.push(b'}');
        self.put_bottom(&mut out, now_us);
        out
    }

    /// Each platform's best price on a side with what its legs show there together.
    fn best_of_each(&self, platforms: &[&str], side: Side) -> Vec<Best> {
        let place_of: Vec<usize> = self
            .legs
            .iter()
            .map(|leg| platforms.iter().position(|platform| **platform == *leg.platform).unwrap_or_default())
            .collect();
        let mut best: Vec<Best> = vec![None; platforms.len()];
        let mut left = platforms.len();
        for (price, sizes) in self.levels.best_first(side) {
            for cell in sizes.iter() {
                let found = &mut best[place_of[usize::from(cell.leg)]];
                match found {
                    None => {
                        *found = Some((price, cell.size.micro()));
                        left -= 1;
                    }
                    Some((at, size)) if *at == price => *size += cell.size.micro(),
                    Some(_) => {}
                }
            }
            // Two legs of one platform at one price are both in this level.
            if left == 0 {
                break;
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixed::Size;
    use crate::leg::{Leg, LegState};

    fn book(levels: &[(Side, i64, u8, i64)]) -> Book {
        let leg = |platform: &str, asset: &str, name: &str| {
            let mut leg = Leg::new(platform.into(), asset.into(), name.into(), false);
            leg.state = LegState::Live;
            leg.heard_us = Some(1_000);
            leg
        };
        let legs =
            vec![leg("kalshi", "A", "kalshi"), leg("kalshi", "B", "kalshi-2"), leg("poly", "C", "poly")];
        let mut book = Book::new("a.b.yes".into(), 7, 1, legs, 0);
        for (side, price, leg, size) in levels {
            let (price, size) = (Price::new(*price).unwrap(), Size::new(*size).unwrap());
            book.set(*side, price, *leg, size);
        }
        book
    }

    /// Two legs of one platform at its best price count together; a price that only others show does not.
    #[test]
    fn each_platform_has_its_own_best() {
        let book = book(&[
            (Side::Bid, 530_000, 2, 10_000_000),
            (Side::Bid, 520_000, 0, 500_000_000),
            (Side::Bid, 520_000, 1, 500_000),
            (Side::Bid, 510_000, 0, 9_000_000),
            (Side::Ask, 510_000, 2, 4_000_000),
            (Side::Ask, 540_000, 0, 250_000_000),
        ]);
        let text = String::from_utf8(book.bbo(false, 5_000)).unwrap();
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["best_bid"], serde_json::json!(["0.53", "10", {"poly": "10"}]));
        assert_eq!(read["platforms"]["kalshi"]["best_bid"], serde_json::json!(["0.52", "500.5"]));
        assert_eq!(read["platforms"]["kalshi"]["best_ask"], serde_json::json!(["0.54", "250"]));
        assert_eq!(read["platforms"]["poly"]["best_ask"], serde_json::json!(["0.51", "4"]));
        assert_eq!((read["crossed"].as_bool(), read["crossing_size"].as_str()), (Some(true), Some("4")));
        assert_eq!(read["legs"]["poly"]["age_ms"], serde_json::json!(4));
        let no: serde_json::Value = serde_json::from_slice(&book.bbo(true, 5_000)).unwrap();
        assert_eq!((no["book"].as_str(), no["crossing_size"].as_str()), (Some("a.b.no"), Some("4")));
        assert_eq!(no["best_bid"], serde_json::json!(["0.49", "4", {"poly": "4"}]));
        assert_eq!(no["platforms"]["kalshi"]["best_ask"], serde_json::json!(["0.48", "500.5"]));
        let row: serde_json::Value = serde_json::from_slice(&book.row(true, 5_000)).unwrap();
        assert_eq!(row["best_bid"], serde_json::json!(["0.49", "4"]));
        assert_eq!(row["seq"], serde_json::json!(1));
    }

    /// Bids above asks are matched best against best until they no longer cross; equal prices do not cross.
    #[test]
    fn what_crosses_is_matched() {
        let crossed = book(&[
            (Side::Bid, 600_000, 0, 3_500_000),
            (Side::Bid, 580_000, 1, 2_000_000),
            (Side::Bid, 500_000, 2, 100_000_000),
            (Side::Ask, 550_000, 2, 4_250_000),
            (Side::Ask, 570_000, 0, 1_000_000),
            (Side::Ask, 580_000, 0, 50_000_000),
        ]);
        assert_eq!(crossing_size(&crossed.levels), 5_250_000);
        assert_eq!(crossing_size(&book(&[(Side::Bid, 500_000, 0, 1)]).levels), 0);
        let touching = [(Side::Bid, 500_000, 0, 1), (Side::Ask, 500_000, 1, 1)];
        assert_eq!(crossing_size(&book(&touching).levels), 0);
        let mut text = Vec::new();
        write_sum(&mut text, 9_300_000_000_000_000_000 * 3 + 250_000);
        assert_eq!(text, b"27900000000000.25");
    }

    /// An empty book has no best, on neither side, of nobody.
    #[test]
    fn nothing_is_null() {
        let read: serde_json::Value = serde_json::from_slice(&book(&[]).bbo(false, 0)).unwrap();
        assert!(read["best_bid"].is_null() && read["platforms"]["kalshi"]["best_bid"].is_null());
        assert_eq!(read["crossing_size"], "0");
    }
}
