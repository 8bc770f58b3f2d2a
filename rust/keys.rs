//! Book ids and the keys they are made of (wire.md section 1, mapping.md section 3).

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// True for one id token: 1 to 64 of `[A-Za-z0-9_-]`.
#[must_use]
pub fn is_token(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(is_token_byte)
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// True for a platform's short name: a token without hyphen, so that `{platform}-2` is never ambiguous.
#[must_use]
pub fn is_platform(text: &str) -> bool {
    is_token(text) && !text.contains('-')
}

/// Id of the YES book that a book id belongs to, and whether the id names its NO view.
///
/// # Errors
/// [`Error::UnknownBook`] when the text is no book id.
pub fn yes_id(book: &str) -> Result<(Cow<'_, str>, bool)> {
    let mut tokens = book.split('.');
    match (tokens.next(), tokens.next(), tokens.next(), tokens.next()) {
        (Some(aggregate), Some(market), Some("yes"), None) if is_token(aggregate) && is_token(market) => {
            Ok((book.into(), false))
        }
        (Some(aggregate), Some(market), Some("no"), None) if is_token(aggregate) && is_token(market) => {
            Ok((format!("{aggregate}.{market}.yes").into(), true))
        }
        _ => Err(Error::UnknownBook(book.to_owned())),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// First 16 hex digits of SHA-256 over the canonical market key.
#[must_use]
pub fn market_hash(key: &str) -> String {
    hex(&Sha256::digest(key.as_bytes())[..8])
}

/// Aggregate id of an event that no mapping names: `{platform}-{slug}` as one token.
///
/// If a character had to be replaced or the text is longer than a token may be, eight hex digits of the
/// original follow, so that two slugs never share an id.
#[must_use]
pub fn unmapped_aggregate(platform: &str, slug: &str) -> String {
    let plain = format!("{platform}-{slug}");
    let cleaned: String =
        plain.chars().map(|c| if u8::try_from(c).is_ok_and(is_token_byte) { c } else { '-' }).collect();
    if cleaned == plain && is_token(&plain) {
        return plain;
    }
    let suffix = hex(&Sha256::digest(format!("{platform}|{slug}").as_bytes())[..4]);
    let head: String = cleaned.chars().take(55).collect();
    format!("{head}-{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The market-key vectors of mapping.md must come out.
    #[test]
    fn market_keys() {
        assert_eq!(
            market_hash("wup1|mlb:tex@nyy:2026-07-10T23:05Z:g1|moneyline|tex|-|game"),
            "4964cf752165d83f"
        );
        assert_eq!(market_hash("wup1|fed:2026-12|rate_decision|cut-25|-|meeting"), "21a66bf6c52cc37d");
        assert_eq!(market_hash("wup1|kalshi|KXFED-26DEC-C25"), "18bf752ebaf5a12a");
    }

    /// An id made from a slug is always one token, and a changed one carries a hash.
    #[test]
    fn aggregates() {
        assert_eq!(unmapped_aggregate("kalshi", "KXFED-26DEC"), "kalshi-KXFED-26DEC");
        for slug in ["a.b", &"x".repeat(80), "é", ""] {
            let id = unmapped_aggregate("polymarket", slug);
            assert!(is_token(&id), "{id}");
        }
        assert_ne!(unmapped_aggregate("p", "a.b"), unmapped_aggregate("p", "a:b"));
    }

    /// Both views of a book name the same YES id.
    #[test]
    fn views() {
        assert_eq!(yes_id("a.b.no").unwrap(), ("a.b.yes".into(), true));
        assert_eq!(yes_id("a.b.yes").unwrap(), ("a.b.yes".into(), false));
        for bad in ["", "a.b", "a.b.c", "a..yes", "a.b.yes.no", "a b.c.yes"] {
            assert!(yes_id(bad).is_err(), "{bad}");
        }
    }
}
