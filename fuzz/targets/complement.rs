//! Any bytes: what has a NO view has it back again, and both prove exact or neither does.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wup::complement::mirror_message;
use wup::mirror::Mirror;

fuzz_target!(|bytes: &[u8]| {
    let Ok(other) = mirror_message(bytes) else { return };
    // The first turn writes prices in their shortest form, so from then on turning twice is the identity.
    let back = mirror_message(&other).expect("a view has a view");
    assert_eq!(mirror_message(&back).as_ref(), Ok(&other));
    let verdict = |message: &[u8]| Mirror::default().apply(message);
    assert_eq!(verdict(&other).is_ok(), verdict(&back).is_ok());
    if let (Ok(one), Ok(two)) = (verdict(&other), verdict(&back)) {
        assert_eq!(one, two);
    }
});
