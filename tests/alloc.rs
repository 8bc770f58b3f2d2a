//! A warm `apply` allocates for its output only: the list of changes and the payload.
#![allow(clippy::unwrap_used, unsafe_code, reason = "a counting allocator is the point of this test")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use support::{levels_json, message};
use wup::mapping::Row;
use wup::store::Store;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; the count touches no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's contract is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's contract is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(act: impl FnOnce()) -> usize {
    let before = COUNT.with(Cell::get);
    act();
    COUNT.with(Cell::get) - before
}

/// One changed level is two allocations (the list, the payload); an update that changes nothing is none.
#[test]
fn warm_apply() {
    let store = Store::new(0);
    let asset = ("kalshi", "KXFEDDECISION-26DEC-C25");
    let row = |platform: &str, asset: &str| Row {
        platform: platform.into(),
        asset: asset.into(),
        book: "fed-2026-12.21a66bf6c52cc37d.yes".into(),
        inverted: false,
    };
    store.set_mapping(1, &[row(asset.0, asset.1), row("polymarket", "P")], 0, &mut Vec::new()).unwrap();
    let levels: Vec<(i64, i64)> = (1..50).map(|cent| (cent * 10_000, 5_000_000)).collect();
    store.apply(&message("snapshot", asset, (1, 1), &levels_json(&levels, &[])), 0, &mut Vec::new()).unwrap();
    store
        .apply(
            &message("snapshot", ("polymarket", "P"), (1, 1), &levels_json(&levels, &[])),
            0,
            &mut Vec::new(),
        )
        .unwrap();
    for n in 2..200 {
        let size = 1_000_000 + (n / 2) * 1_234_567;
        let update = message("update", asset, (1, n), &levels_json(&[(250_000, size)], &[]));
        let mut sent = 0;
        let count = allocations(|| {
            let mut out = Vec::new();
            store.apply(&update, n, &mut out).unwrap();
            sent = out.len();
        });
        assert_eq!(sent, usize::from(n % 2 == 0), "every second update repeats the size");
        if n > 10 {
            assert_eq!(count, 2 * sent, "n = {n}");
        }
    }
}
