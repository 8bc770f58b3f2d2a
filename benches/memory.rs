//! How much memory do 5,000 books of 100 levels take? Counted at the allocator, so nothing is guessed.
#![allow(clippy::unwrap_used, clippy::print_stdout, unsafe_code, reason = "it counts bytes and prints them")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use wup::mapping::Row;
use wup::store::Store;

static HELD: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's contract is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's contract is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    for (legs, name) in [(1usize, "1 leg"), (2, "2 legs"), (3, "3 legs")] {
        let before = HELD.load(Ordering::Relaxed);
        let store = Store::new(0);
        let platforms = ["kalshi", "polymarket", "gemini"];
        let rows: Vec<_> = (0..5_000)
            .flat_map(|book| {
                (0..legs).map(move |leg| Row {
                    platform: platforms[leg].into(),
                    asset: format!("KXFEDDECISION-26DEC-{book}"),
                    book: format!("fed-2026-12.{book:016x}.yes"),
                    inverted: false,
                })
            })
            .collect();
        store.set_mapping(1, &rows, 0, &mut Vec::new()).unwrap();
        drop(store.take_resyncs());
        let fields = support::sides(100, 0);
        let mut out = Vec::new();
        for row in &rows {
            let snapshot = format!(
                r#"{{"type":"snapshot","platform":"{}","asset_id":"{}","epoch":1,"n":1,{fields}}}"#,
                row.platform, row.asset
            );
            store.apply(snapshot.as_bytes(), 0, &mut out).unwrap();
            out.clear();
        }
        drop((rows, out, fields));
        let held = HELD.load(Ordering::Relaxed) - before;
        let mib = held as f64 / 1_048_576.0;
        let each = held as f64 / 500_000.0;
        println!("memory: 5,000 books x 100 levels, {name}: {mib:.1} MiB, {each:.0} bytes a level");
        drop(store);
    }
}
