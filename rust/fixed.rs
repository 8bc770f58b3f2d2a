//! Exact numbers: integers of one millionth, from decimal text and back (wire.md section 1).
//!
//! There is no float in this crate. Text that has more than six decimals, or a value that does not fit, is
//! an error and never rounded: a rounded price is a wrong price.

use crate::error::{Error, Result};

/// One unit in millionths.
pub const SCALE: i64 = 1_000_000;
/// The most that one leg may show at one level: 10^11 contracts (wire.md section 1).
///
/// With at most 64 legs per book a level's total then stays below 2^63, so sums need no check.
pub const MAX_SIZE: i64 = 100_000_000_000 * SCALE;
/// Longer text is refused unread: no exact number of ours needs it.
const MAX_TEXT: usize = 40;
const POWERS: [i64; 7] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000];

/// A level's price: strictly between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Price(i64);

impl Price {
    /// A price from millionths; `None` outside (0, 1).
    #[must_use]
    pub fn new(micro: i64) -> Option<Self> {
        (0 < micro && micro < SCALE).then_some(Self(micro))
    }

    /// Reads a level's price.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        parse_unsigned(text).and_then(Self::new)
    }

    /// The price of the opposite outcome, 1 − p; applied twice it is the identity.
    #[must_use]
    pub fn complement(self) -> Self {
        Self(SCALE - self.0)
    }

    /// In millionths.
    #[must_use]
    pub fn micro(self) -> i64 {
        self.0
    }
}

/// One leg's size at one level; zero means that it shows nothing there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size(i64);

impl Size {
    /// Nothing shown.
    pub const ZERO: Self = Self(0);

    /// A size from millionths; `None` below zero or above [`MAX_SIZE`].
    #[must_use]
    pub fn new(micro: i64) -> Option<Self> {
        (0..=MAX_SIZE).contains(&micro).then_some(Self(micro))
    }

    /// Reads one leg's size.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        parse_unsigned(text).and_then(Self::new)
    }

    /// In millionths.
    #[must_use]
    pub fn micro(self) -> i64 {
        self.0
    }
}

/// Reads decimal text without a sign; `None` when it is no such number or does not fit exactly.
///
/// A venue's own forms are read too (`0.920`, `.48`, `007`): they name the same number.
#[must_use]
pub fn parse_unsigned(text: &[u8]) -> Option<i64> {
    if text.len() > MAX_TEXT {
        return None;
    }
    let mut value: i64 = 0;
    let mut digits = 0usize;
    let mut decimals: Option<usize> = None;
    for &byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            value = value.checked_mul(10)?.checked_add(i64::from(digit))?;
            digits += 1;
            if let Some(count) = decimals.as_mut() {
                *count += 1;
                if *count > 6 {
                    return None;
                }
            }
        } else if byte == b'.' && decimals.is_none() {
            decimals = Some(0);
        } else {
            return None;
        }
    }
    if digits == 0 {
        return None;
    }
    value.checked_mul(POWERS[6 - decimals.unwrap_or(0)])
}

/// Reads decimal text that may carry a minus sign (a venue's increment).
#[must_use]
pub fn parse_signed(text: &[u8]) -> Option<i64> {
    match text.split_first() {
        Some((b'-', rest)) => parse_unsigned(rest).map(|value| -value),
        _ => parse_unsigned(text),
    }
}

/// Reads decimal text, or says which text does not fit.
///
/// # Errors
/// [`Error::Number`] with the text.
pub fn parse(text: &str) -> Result<i64> {
    parse_signed(text.as_bytes()).ok_or_else(|| Error::Number(format!("{text:?}")))
}

/// Appends a number in its shortest exact form: no exponent, no needless zero.
pub fn write_micro(out: &mut Vec<u8>, micro: i64) {
    let magnitude = micro.unsigned_abs();
    if micro < 0 {
        out.push(b'-');
    }
    let (whole, mut part) = (magnitude / 1_000_000, magnitude % 1_000_000);
    write_unsigned(out, whole);
    if part == 0 {
        return;
    }
    // Three pairs of digits after the point, then without trailing zeros.
    let mut text = *b".000000";
    for place in [5, 3, 1] {
        text[place..place + 2].copy_from_slice(pair(part % 100));
        part /= 100;
    }
    let mut end = 7;
    while text[end - 1] == b'0' {
        end -= 1;
    }
    out.extend_from_slice(&text[..end]);
}

/// Appends an unsigned integer.
pub fn write_unsigned(out: &mut Vec<u8>, mut value: u64) {
    let mut text = [0u8; 20];
    let mut start = text.len();
    while value >= 100 {
        start -= 2;
        text[start..start + 2].copy_from_slice(pair(value % 100));
        value /= 100;
    }
    let last = pair(value);
    start -= 1;
    text[start] = last[1];
    if value >= 10 {
        start -= 1;
        text[start] = last[0];
    }
    out.extend_from_slice(&text[start..]);
}

/// Appends an integer.
pub fn write_integer(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    write_unsigned(out, value.unsigned_abs());
}

/// The shortest exact text of a number.
#[must_use]
pub fn format(micro: i64) -> String {
    let mut out = Vec::with_capacity(20);
    write_micro(&mut out, micro);
    String::from_utf8_lossy(&out).into_owned()
}

/// "00" to "99": two digits at a time halve the divisions.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut value = 0;
    while value < 100 {
        pairs[value as usize] = [b'0' + value / 10, b'0' + value % 10];
        value += 1;
    }
    pairs
};

fn pair(value: u64) -> &'static [u8; 2] {
    // Every caller passes a value below 100.
    PAIRS.get(usize::try_from(value).unwrap_or_default()).unwrap_or(&PAIRS[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The canonical texts of wire.md must survive a round trip unchanged.
    #[test]
    fn canonical_text_round_trips() {
        for text in ["0", "0.52", "1200", "300.5", "0.000001", "100000000000", "5000000.25", "10"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
        assert_eq!(format(-1_500_000), "-1.5");
    }

    /// Other spellings of the same number must be read as that number.
    #[test]
    fn venue_text_is_read() {
        for (text, canonical) in
            [("0.920", "0.92"), (".48", "0.48"), ("5.", "5"), ("007", "7"), ("-54.00", "-54")]
        {
            assert_eq!(format(parse(text).unwrap()), canonical);
        }
    }

    /// What is no number or would need rounding must be refused.
    #[test]
    fn bad_text_is_refused() {
        for text in [
            "",
            ".",
            "-",
            "--1",
            "1e3",
            "+1",
            " 1",
            "1 ",
            "0.0000001",
            "0.5000000",
            "1.2.3",
            "nan",
            "１",
            "9223372036855",
            "99999999999999999999",
            "0000000000000000000000000000000000000000000",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    /// Level bounds are strict for prices and inclusive for sizes.
    #[test]
    fn bounds() {
        assert!(
            Price::parse(b"0").is_none()
                && Price::parse(b"1").is_none()
                && Price::parse(b"0.999999").is_some()
        );
        assert!(Size::parse(b"100000000000").is_some() && Size::parse(b"100000000000.000001").is_none());
        assert!(Size::parse(b"-1").is_none());
    }
}
