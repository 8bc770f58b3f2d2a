//! Any sequence of levels and increments: equal to a map of numbers, and a refused one changes nothing.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use wup::fixed;
use wup::levels::Side;
use wup::venue_book::VenueBook;

fuzz_target!(|bytes: &[u8]| {
    let mut book = VenueBook::default();
    let mut naive: [BTreeMap<i64, i64>; 2] = Default::default();
    // Lines of `<b|a><s|+>price size`.
    for line in String::from_utf8_lossy(bytes).lines() {
        let Some((price, size)) = line.get(2..).and_then(|rest| rest.split_once(' ')) else { continue };
        let side = if line.starts_with('b') { Side::Bid } else { Side::Ask };
        let before = book.clone();
        let done = match line.as_bytes()[1] {
            b'+' => book.add(side, price, size).map(|size| size.micro()),
            _ => book.set(side, price, size).map(|_| fixed::parse(size).unwrap_or(0)),
        };
        match done {
            Ok(size) => {
                let price = fixed::parse(price).expect("a price that was taken is a number");
                assert!(0 < price && price < 1_000_000 && (0..=fixed::MAX_SIZE).contains(&size));
                let ladder = &mut naive[side as usize];
                if size == 0 {
                    ladder.remove(&price)
                } else {
                    ladder.insert(price, size)
                };
            }
            Err(_) => assert_eq!(book, before),
        }
    }
    for side in Side::BOTH {
        let found = book.side(side).iter().map(|(price, level)| (price.micro(), level.size.micro()));
        assert!(found.eq(naive[side as usize].iter().map(|(price, size)| (*price, *size))));
    }
});
