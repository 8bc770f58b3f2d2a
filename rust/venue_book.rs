//! One asset's own book, as its venue has it: increments, absolute sizes, and the venue's exact text.
//!
//! A venue's checksum is over the text that it sent (`0.920`, not `0.92`), so both are kept: the number for
//! merging, the text for the checksum.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use crate::error::{Error, Result};
use crate::fixed::{MAX_SIZE, Price, Size, parse_signed, write_micro};
use crate::levels::Side;

/// Text as the venue sent it; sixteen bytes hold nearly every number without heap.
pub type Text = SmallVec<[u8; 16]>;

/// One level of a venue's book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VenueLevel {
    /// Exact size.
    pub size: Size,
    /// The venue's text of the price.
    pub price_text: Text,
    /// The venue's text of the size.
    pub size_text: Text,
}

impl VenueLevel {
    /// Price and size as the venue wrote them. Only numbers are ever kept, so that every byte is ASCII.
    #[must_use]
    pub fn texts(&self) -> (String, String) {
        let text = |text: &Text| String::from_utf8_lossy(text).into_owned();
        (text(&self.price_text), text(&self.size_text))
    }
}

/// One side, ascending by price.
pub type VenueLadder = BTreeMap<Price, VenueLevel>;

/// One asset's own book.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VenueBook {
    sides: [VenueLadder; 2],
}

fn number_error(what: &str, text: &str) -> Error {
    Error::Number(format!("{what} {text:?}"))
}

fn read_price(text: &str) -> Result<Price> {
    Price::parse(text.as_bytes()).ok_or_else(|| number_error("price", text))
}

fn read_size(text: &str) -> Result<Size> {
    Size::parse(text.as_bytes()).ok_or_else(|| number_error("size", text))
}

impl VenueBook {
    /// One side, ascending by price.
    #[must_use]
    pub fn side(&self, side: Side) -> &VenueLadder {
        &self.sides[side as usize]
    }

    /// Replaces both sides, or neither when a number does not fit. Levels of size zero are left out; of a
    /// repeated price the last counts.
    ///
    /// # Errors
    /// [`Error::Number`].
    pub fn replace<'a>(
        &mut self,
        bids: impl Iterator<Item = (&'a str, &'a str)>,
        asks: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<()> {
        let mut fresh = Self::default();
        for (price, size) in bids {
            fresh.set(Side::Bid, price, size)?;
        }
        for (price, size) in asks {
            fresh.set(Side::Ask, price, size)?;
        }
        *self = fresh;
        Ok(())
    }

    /// Sets a level's size, zero removes it; returns whether the size changed.
    ///
    /// # Errors
    /// [`Error::Number`].
    pub fn set(&mut self, side: Side, price_text: &str, size_text: &str) -> Result<bool> {
        let (price, size) = (read_price(price_text)?, read_size(size_text)?);
        let ladder = &mut self.sides[side as usize];
        if size == Size::ZERO {
            return Ok(ladder.remove(&price).is_some());
        }
        let level = VenueLevel {
            size,
            price_text: Text::from_slice(price_text.as_bytes()),
            size_text: Text::from_slice(size_text.as_bytes()),
        };
        Ok(ladder.insert(price, level).is_none_or(|before| before.size != size))
    }

    /// Checks every change first, so that a bad one leaves the book as it was.
    ///
    /// # Errors
    /// [`Error::Number`].
    pub fn check<'a>(changes: impl Iterator<Item = (&'a str, &'a str)>) -> Result<()> {
        for (price, size) in changes {
            read_price(price)?;
            read_size(size)?;
        }
        Ok(())
    }

    /// Adds an increment to a level and returns its new size. The text becomes the shortest exact form.
    ///
    /// # Errors
    /// [`Error::NegativeSize`] when the level would fall below zero, [`Error::Number`]; the book stays.
    pub fn add(&mut self, side: Side, price_text: &str, delta_text: &str) -> Result<Size> {
        let price = read_price(price_text)?;
        let delta = parse_signed(delta_text.as_bytes()).ok_or_else(|| number_error("size", delta_text))?;
        let ladder = &mut self.sides[side as usize];
        let before = ladder.get(&price).map_or(0, |level| level.size.micro());
        let after = before.checked_add(delta).filter(|after| *after <= MAX_SIZE);
        let after = after.ok_or_else(|| number_error("size", delta_text))?;
        let size =
            Size::new(after).ok_or_else(|| Error::NegativeSize(format!("{delta_text} at {price_text}")))?;
        if size == Size::ZERO {
            ladder.remove(&price);
            return Ok(size);
        }
        let mut size_text = Vec::with_capacity(16);
        write_micro(&mut size_text, size.micro());
        let level = ladder.entry(price).or_insert_with(|| VenueLevel {
            size,
            price_text: Text::from_slice(price_text.as_bytes()),
            size_text: Text::new(),
        });
        level.size = size;
        level.size_text = Text::from_slice(&size_text);
        Ok(size)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Best price of a side.
    #[must_use]
    pub fn best(&self, side: Side) -> Option<Price> {
        let ladder = self.side(side);
        match side {
            Side::Bid => ladder.last_key_value(),
            Side::Ask => ladder.first_key_value(),
        }
        .map(|(price, _)| *price)
    }

    /// Whether the best prices are those that the venue reports. A missing side is reported by nothing, an
    /// empty text, 0 or 1.
    ///
    /// # Errors
    /// [`Error::Number`].
    pub fn top_is(&self, bid: Option<&str>, ask: Option<&str>) -> Result<bool> {
        for (side, text) in [(Side::Bid, bid), (Side::Ask, ask)] {
            let reported = match text {
                None | Some("") => None,
                Some(text) => {
                    let micro = parse_signed(text.as_bytes()).ok_or_else(|| number_error("price", text))?;
                    Price::new(micro)
                }
            };
            if self.best(side) != reported {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Best bid above best ask.
    #[must_use]
    pub fn crossed(&self) -> bool {
        matches!((self.best(Side::Bid), self.best(Side::Ask)), (Some(bid), Some(ask)) if bid > ask)
    }

    /// Appends one side as JSON, best first, numbers in shortest exact form.
    pub fn write_side(&self, side: Side, out: &mut Vec<u8>) {
        out.push(b'[');
        let start = out.len();
        let mut put_level = |price: &Price, level: &VenueLevel| {
            out.extend_from_slice(if out.len() == start { b"[\"" } else { b",[\"" });
            write_micro(out, price.micro());
            out.extend_from_slice(b"\",\"");
            write_micro(out, level.size.micro());
            out.extend_from_slice(b"\"]");
        };
        match side {
            Side::Bid => self.side(side).iter().rev().for_each(|(price, level)| put_level(price, level)),
            Side::Ask => self.side(side).iter().for_each(|(price, level)| put_level(price, level)),
        }
        out.push(b']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_the_venue_until_a_sum_is_made() {
        let mut book = VenueBook::default();
        book.replace([("0.50", "12.00")].into_iter(), [].into_iter()).unwrap();
        let texts =
            |book: &VenueBook| book.side(Side::Bid).values().map(VenueLevel::texts).collect::<Vec<_>>();
        assert_eq!(texts(&book), [("0.50".to_owned(), "12.00".to_owned())]);
        book.add(Side::Bid, "0.500", "0.50").unwrap();
        assert_eq!(texts(&book), [("0.50".to_owned(), "12.5".to_owned())]);
    }
}
