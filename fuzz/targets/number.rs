//! Any text: read exactly as a schoolbook reading says, or refused; what is written reads back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wup::fixed;

/// Wide arithmetic, character by character; `None` for what is no number of ours.
fn schoolbook(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= 40)?;
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || whole.len() + part.len() == 0 || part.len() > 6 {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    if whole.len() > 20 {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let part: i128 = format!("{part:0<6}").parse().ok()?;
    i64::try_from(whole * 1_000_000 + part).ok()
}

fuzz_target!(|bytes: &[u8]| {
    let read = fixed::parse_unsigned(bytes);
    assert_eq!(read, schoolbook(bytes));
    let signed = fixed::parse_signed(bytes);
    if let Some(value) = read {
        let text = fixed::format(value);
        assert_eq!(fixed::parse_unsigned(text.as_bytes()), Some(value));
        assert!(text.len() <= bytes.len().max(1) + 1, "the shortest form");
        assert_eq!(signed, Some(value));
    }
    if let Some(value) = signed {
        assert_eq!(fixed::parse_signed(fixed::format(value).as_bytes()), Some(value));
    }
});
