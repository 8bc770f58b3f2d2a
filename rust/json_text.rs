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
    out.push(b'"');
    for byte in text.bytes() {
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
    out.push(b'"');
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
}
