//! Any bytes: the scanner takes exactly what an independent JSON reader takes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use wup::scan::Scanner;

fuzz_target!(|bytes: &[u8]| {
    // The scanner leaves UTF-8 to those who use a text, so compare on UTF-8 only.
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut scanner = Scanner::new(bytes);
    let taken = scanner.skip().and_then(|_| scanner.end());
    let judged = serde_json::from_str::<&RawValue>(text);
    match (&taken, &judged) {
        (Ok(()), Ok(_)) | (Err(_), Err(_)) => {}
        // Left to the reader that decides: what not every reader takes.
        (Err(error), Ok(_))
            if ["nests too deep", "number too large", "number too long"].contains(&error.what) => {}
        other => panic!("{other:?}"),
    }
    let mut scanner = Scanner::new(bytes);
    if let Ok(found) = scanner.text() {
        let raw = scanner.since(0);
        let judged: Option<String> = serde_json::from_slice(raw.trim_ascii()).ok();
        assert_eq!(found.text().map(|text| text.into_owned()), judged);
    }
});
