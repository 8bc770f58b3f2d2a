//! What the load client looks at in a message. The gateway writes the fields in the contract's order.

use memchr::{memchr, memmem};

/// The number after `"name":`, which must occur before the levels end.
pub fn number(message: &[u8], name: &[u8]) -> Option<i64> {
    digits(&message[find(message, name)? + name.len()..])
}

/// The integer at the start of `text`.
fn digits(text: &[u8]) -> Option<i64> {
    let mut value = 0i64;
    let mut some = false;
    for byte in text.iter().take_while(|byte| byte.is_ascii_digit()) {
        value = value.checked_mul(10)?.checked_add(i64::from(byte - b'0'))?;
        some = true;
    }
    some.then_some(value)
}

/// Like [`number`], looked for from the end.
pub fn last_number(message: &[u8], name: &[u8]) -> Option<i64> {
    let at = memmem::rfind(message, name)?;
    number(&message[at..], name)
}

/// Where `needle` begins.
pub fn find(message: &[u8], needle: &[u8]) -> Option<usize> {
    memmem::find(message, needle)
}

/// The text after `{"type":"`.
pub fn kind(message: &[u8]) -> &[u8] {
    let rest = message.strip_prefix(b"{\"type\":\"").unwrap_or_default();
    &rest[..memchr(b'"', rest).unwrap_or(0)]
}

/// Epoch, `prev` (of a delta or status), seq and book of a book message.
pub struct Head<'a> {
    pub book: &'a [u8],
    pub epoch: i64,
    pub prev: Option<i64>,
    pub seq: i64,
}

impl<'a> Head<'a> {
    pub fn read(message: &'a [u8]) -> Option<Self> {
        const BOOK: &[u8] = b"\"book\":\"";
        // The type is the first field, the book the second.
        let start = find(&message[..message.len().min(40)], BOOK)? + BOOK.len();
        let end = start + memchr(b'"', &message[start..])?;
        let rest = &message[end..];
        let head = &rest[..rest.len().min(160)];
        Some(Self {
            book: &message[start..end],
            epoch: number(head, b"\"epoch\":")?,
            prev: number(head, b"\"prev\":"),
            seq: number(head, b"\"seq\":")?,
        })
    }
}
