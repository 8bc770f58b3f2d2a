//! What a store counts: messages by what became of them, and its books by state.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::leg::BookState;
use crate::store::Store;

/// What the store counted since it began.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) messages: AtomicU64,
    pub(crate) changes: AtomicU64,
    pub(crate) ignored: AtomicU64,
    pub(crate) holes: AtomicU64,
    pub(crate) bad: AtomicU64,
    pub(crate) unknown: AtomicU64,
    pub(crate) resyncs: AtomicU64,
    pub(crate) panics: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Ordering::Relaxed);
}

impl Store {
    /// What was counted, by name.
    #[must_use]
    pub fn stats(&self) -> Vec<(&'static str, u64)> {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        let mut states = [0_u64; 4];
        for slot in self.slots() {
            states[slot.lock().state as usize] += 1;
        }
        vec![
            ("books_live", states[BookState::Live as usize]),
            ("books_degraded", states[BookState::Degraded as usize]),
            ("books_down", states[BookState::Down as usize]),
            ("books_closed", states[BookState::Closed as usize]),
            ("books", self.books.len() as u64),
            ("assets", self.assets.len() as u64),
            ("messages", load(&counters.messages)),
            ("changes", load(&counters.changes)),
            ("ignored", load(&counters.ignored)),
            ("holes", load(&counters.holes)),
            ("bad", load(&counters.bad)),
            ("unknown_asset", load(&counters.unknown)),
            ("resyncs", load(&counters.resyncs)),
            ("panics", load(&counters.panics)),
        ]
    }
}
