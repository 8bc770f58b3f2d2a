//! What do readers cost a writer? One thread applies updates to one book while n others take snapshots of it.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "it measures and prints")]

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use support::{BOOK, store, update};

const UPDATES: i64 = 200_000;

fn main() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("threads: {cores} cores, {UPDATES} one-level updates of one book of 100 levels and 2 legs");
    let messages: Vec<_> = (2..UPDATES + 2).map(|n| update(100, 0, n)).collect();
    for readers in [0usize, 1, 2, 4] {
        let store = store(100, 2);
        let (done, reads) = (AtomicBool::new(false), AtomicU64::new(0));
        let seconds = std::thread::scope(|scope| {
            for _ in 0..readers {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        std::hint::black_box(store.snapshot(BOOK, None, "join", 0).unwrap());
                        reads.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let mut out = Vec::new();
            let start = Instant::now();
            for message in &messages {
                out.clear();
                store.apply(message, 0, &mut out).unwrap();
            }
            let seconds = start.elapsed().as_secs_f64();
            done.store(true, Ordering::Relaxed);
            seconds
        });
        let (writes, reads) = (UPDATES as f64 / seconds, reads.load(Ordering::Relaxed) as f64 / seconds);
        println!("threads: {readers} readers: {writes:>9.0} updates/s, {reads:>9.0} snapshots/s");
    }
}
