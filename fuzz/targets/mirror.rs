//! Any bytes to a client's copy: no panic, and a copy that calls itself exact can prove it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wup::mirror::{Mirror, Verdict};

fuzz_target!(|bytes: &[u8]| {
    let mut mirror = Mirror::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        let verdict = mirror.apply(line);
        assert!(verdict != Ok(Verdict::Exact) || mirror.exact);
        assert!(!matches!(verdict, Err(_) | Ok(Verdict::Gap | Verdict::Broken)) || !mirror.exact);
    }
    if mirror.exact {
        for no in [false, true] {
            for depth in [None, Some(1)] {
                let mut copy = Mirror::default();
                assert_eq!(copy.apply(&mirror.snapshot(no, depth, "join", 0)), Ok(Verdict::Exact));
            }
        }
    }
});
