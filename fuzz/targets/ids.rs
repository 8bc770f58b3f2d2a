//! Any text as pattern and book id: no panic, wildcards never reach a NO view, made ids are ids.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wup::keys;
use wup::pattern::Pattern;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let (pattern, book) = text.split_once('\n').unwrap_or((&text, "a.b.no"));
    if let Ok(pattern) = Pattern::parse(pattern) {
        let matches = pattern.matches(book);
        assert!(!(matches && book.ends_with(".no") && keys::yes_id(book).is_ok()) || pattern.is_no());
    }
    if let Ok((yes, no)) = keys::yes_id(book) {
        assert_eq!(
            keys::yes_id(&yes).map(|(id, no)| (id.into_owned(), no)),
            Ok((yes.clone().into_owned(), false))
        );
        assert_eq!(no, book.ends_with(".no"));
        assert!(Pattern::parse(book).is_ok_and(|pattern| pattern.matches(book)));
    }
    assert!(keys::is_token(&keys::unmapped_aggregate("kalshi", pattern)));
});
