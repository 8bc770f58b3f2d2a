//! What all native readers of venue frames ask of a frame before they look at it, so that they never read it
//! otherwise than a full JSON reader would.

/// The frame as text, if it is UTF-8 and holds no escape: then a string's bytes are the string.
#[must_use]
pub fn usual_text(frame: &[u8]) -> Option<&str> {
    if frame.contains(&b'\\') {
        return None;
    }
    std::str::from_utf8(frame).ok()
}

/// Milliseconds as digits to microseconds: `Some(None)` for an empty text, `None` for anything else.
#[must_use]
pub fn milliseconds(text: &str) -> Option<Option<i64>> {
    if text.is_empty() {
        return Some(None);
    }
    if text.len() > 15 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Fifteen digits times a thousand always fit.
    text.parse::<i64>().ok().map(|ms| Some(ms * 1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stamps are digits or nothing; escapes and broken text are not usual.
    #[test]
    fn forms() {
        assert_eq!(milliseconds("1790658674035"), Some(Some(1_790_658_674_035_000)));
        assert_eq!((milliseconds(""), milliseconds("0")), (Some(None), Some(Some(0))));
        for bad in ["-1", "1.5", " 1", "1790658674035000"] {
            assert_eq!(milliseconds(bad), None);
        }
        assert!(
            usual_text(b"{}").is_some() && usual_text(br"\u0041").is_none() && usual_text(b"\xff").is_none()
        );
    }
}
