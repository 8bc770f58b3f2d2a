//! JSON strings: as they stand in a message, with their escapes undone, and written.

use std::borrow::Cow;

/// A JSON string as it stands in the text, without its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawText<'a> {
    /// The bytes between the quotes.
    pub bytes: &'a [u8],
    /// Whether they hold a backslash.
    pub escaped: bool,
}

impl<'a> RawText<'a> {
    /// The text with its escapes undone; `None` when it is not UTF-8 or holds a lone surrogate.
    #[must_use]
    pub fn text(&self) -> Option<Cow<'a, str>> {
        let text = std::str::from_utf8(self.bytes).ok()?;
        if self.escaped { unescape(text).map(Cow::Owned) } else { Some(Cow::Borrowed(text)) }
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(place) = rest.find('\\') {
        out.push_str(&rest[..place]);
        let tail = rest.get(place + 1..)?;
        let mut skip = 1;
        match *tail.as_bytes().first()? {
            b'n' => out.push('\n'),
            b't' => out.push('\t'),
            b'r' => out.push('\r'),
            b'b' => out.push('\u{8}'),
            b'f' => out.push('\u{c}'),
            byte @ (b'"' | b'\\' | b'/') => out.push(char::from(byte)),
            b'u' => {
                let high = hex4(tail.get(1..5)?)?;
                skip = 5;
                let code = if (0xD800..0xDC00).contains(&high) {
                    let low = tail.get(5..11)?.strip_prefix("\\u").and_then(hex4)?;
                    skip = 11;
                    let low = low.checked_sub(0xDC00).filter(|low| *low < 0x400)?;
                    0x1_0000 + ((high - 0xD800) << 10) + low
                } else {
                    high
                };
                out.push(char::from_u32(code)?);
            }
            _ => return None,
        }
        rest = tail.get(skip..)?;
    }
    out.push_str(rest);
    Some(out)
}

fn hex4(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(text, 16).ok())?
}

/// Appends a JSON string, quotes included.
pub fn write_text(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    out.reserve(rest.len() + rest.len() / 4 + 2);
    out.push(b'"');
    // Eight bytes at a time, up to the first among them that must be escaped.
    while let Some(eight) = rest.first_chunk::<8>() {
        out.extend_from_slice(eight);
        let marks = escaped_in(u64::from_le_bytes(*eight));
        if marks == 0 {
            rest = &rest[8..];
            continue;
        }
        let place = (marks.trailing_zeros() / 8) as usize;
        out.truncate(out.len() - 8 + place);
        write_byte(out, rest[place]);
        rest = &rest[place + 1..];
    }
    for byte in rest {
        write_byte(out, *byte);
    }
    out.push(b'"');
}

/// The highest bit of the first byte that must be escaped; bits above it may be set as well.
const fn escaped_in(eight: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = ONES << 7;
    let below_space = eight.wrapping_sub(ONES * 0x20) & !eight;
    let quote = eight ^ (ONES * b'"' as u64);
    let backslash = eight ^ (ONES * b'\\' as u64);
    let quotes = quote.wrapping_sub(ONES) & !quote;
    let backslashes = backslash.wrapping_sub(ONES) & !backslash;
    (below_space | quotes | backslashes) & HIGHS
}

fn write_byte(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        0..=0x1F => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
        }
        _ => out.push(byte),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Scanner;

    /// Escapes are undone exactly.
    #[test]
    fn escapes() {
        let mut scanner = Scanner::new(br#""a\"\\\/\n\u00e9\ud83d\ude00""#);
        assert_eq!(scanner.text().unwrap().text().unwrap(), "a\"\\/\n\u{e9}\u{1f600}");
        for bad in [&br#""\ud800""#[..], br#""\ud800\u0041""#, br#""\udc00""#, b"\"\xff\""] {
            assert!(Scanner::new(bad).text().unwrap().text().is_none());
        }
        let mut out = Vec::new();
        write_text(&mut out, "a\"\\\n\u{e9}");
        assert_eq!(Scanner::new(&out).text().unwrap().text().unwrap(), "a\"\\\n\u{e9}");
    }

    /// Every byte, wherever it stands among eight, is written as alone.
    #[test]
    fn every_place() {
        for code in (0..0x100).chain([0x7ff, 0xffff, 0x1_f600]) {
            let Some(sign) = char::from_u32(code) else { continue };
            let mut alone = Vec::new();
            write_text(&mut alone, &sign.to_string());
            for before in 0..18 {
                for after in 0..10 {
                    let text = format!("{}{sign}{sign}{}", "x".repeat(before), "\u{e9}\"".repeat(after));
                    let mut out = Vec::new();
                    write_text(&mut out, &text);
                    let middle = std::str::from_utf8(&alone[1..alone.len() - 1]).unwrap();
                    let expected =
                        format!("\"{}{middle}{middle}{}\"", "x".repeat(before), "\u{e9}\\\"".repeat(after));
                    assert_eq!(out, expected.as_bytes());
                }
            }
        }
    }
}
