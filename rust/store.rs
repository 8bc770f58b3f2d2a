//! The store: every book by id, and by the assets that feed it.
//!
//! Locking rule: the mapping gate first, then look up, clone the `Arc`, drop the map guard, lock the book,
//! apply, encode, unlock. No map guard is held across a second map call, and no lock across anything that
//! could wait for Python. The gate is shared by all calls and exclusive only while a mapping is put in force,
//! so nobody ever sees half a mapping.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use dashmap::DashMap;
use foldhash::fast::FixedState;
use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;

use crate::book::{Book, Description};
use crate::change::Change;
use crate::counters::{Counters, count};
use crate::error::{Error, Result};
use crate::leg::{Facts, LegState};
use crate::merge::{Effect, Scratch};
use crate::normalised::{Kind, Message};

/// A book behind its lock.
pub type Slot = Mutex<Book>;

/// A wish for a fresh snapshot, to be sent to `control.resync.{platform}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resync {
    /// The venue.
    pub platform: Arc<str>,
    /// What the venue quotes.
    pub asset: Arc<str>,
    /// Why the present book cannot be trusted.
    pub why: &'static str,
}

/// The mapping in force.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) version: i64,
    /// Every book, in the order in which mappings named them first.
    pub(crate) order: Vec<Arc<Slot>>,
    /// Resolved and dropped: never opened again.
    pub(crate) retired: Vec<(Arc<str>, Arc<Slot>)>,
    /// Books ever opened, which spreads them over the marks' rotation.
    pub(crate) opened: usize,
}

pub(crate) type Map<K, V> = DashMap<K, V, FixedState>;

/// Consolidated books, fed by normalised messages.
#[derive(Debug)]
pub struct Store {
    pub(crate) gate: RwLock<Table>,
    pub(crate) books: Map<Arc<str>, Arc<Slot>>,
    pub(crate) assets: Map<Box<[u8]>, Arc<Slot>>,
    pub(crate) descriptions: Map<Box<str>, Description>,
    pub(crate) facts: Map<Box<[u8]>, Facts>,
    pub(crate) last_epoch: AtomicI64,
    pub(crate) marks_n: AtomicU64,
    pub(crate) marks_calls: AtomicU64,
    resyncs: Mutex<Vec<Resync>>,
    pub(crate) counters: Counters,
}

/// Key of an asset: a platform's name has no zero byte, so no two pairs share a key.
pub(crate) fn asset_key(platform: &str, asset: &str) -> SmallVec<[u8; 128]> {
    let mut key = SmallVec::new();
    key.extend_from_slice(platform.as_bytes());
    key.push(0);
    key.extend_from_slice(asset.as_bytes());
    key
}

thread_local! {
    static SCRATCH: std::cell::RefCell<Scratch> = std::cell::RefCell::default();
}

impl Store {
    /// An empty store. Every epoch that it gives out is larger than `epoch`, the last one ever given out.
    #[must_use]
    pub fn new(epoch: i64) -> Self {
        // A fixed seed: the keys come from the reviewed mapping, and replay must not depend on chance.
        let state = FixedState::default;
        Self {
            gate: RwLock::default(),
            books: DashMap::with_hasher(state()),
            assets: DashMap::with_hasher(state()),
            descriptions: DashMap::with_hasher(state()),
            facts: DashMap::with_hasher(state()),
            last_epoch: AtomicI64::new(epoch),
            marks_n: AtomicU64::new(0),
            marks_calls: AtomicU64::new(0),
            resyncs: Mutex::default(),
            counters: Counters::default(),
        }
    }

    /// The next epoch: the wall clock in milliseconds, or one more than the last when the clock stands behind.
    pub(crate) fn next_epoch(&self, now_us: i64) -> i64 {
        let next = |last: i64| (now_us / 1_000).max(last.saturating_add(1));
        match self.last_epoch.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last))) {
            Ok(last) | Err(last) => next(last),
        }
    }

    /// Every epoch given out from now on is larger than this.
    pub fn raise_epoch(&self, epoch_ms: i64) {
        self.last_epoch.fetch_max(epoch_ms, Ordering::Relaxed);
    }

    /// The last epoch given out, to be kept where the next process finds it.
    #[must_use]
    pub fn last_epoch(&self) -> i64 {
        self.last_epoch.load(Ordering::Relaxed)
    }

    pub(crate) fn slot_of_asset(&self, platform: &str, asset: &str) -> Result<Arc<Slot>> {
        let key = asset_key(platform, asset);
        self.assets
            .get(&key[..])
            .map(|slot| Arc::clone(&slot))
            .ok_or_else(|| Error::UnknownAsset { platform: platform.to_owned(), asset: asset.to_owned() })
    }

    /// Applies one normalised message and appends what has to be sent.
    ///
    /// # Errors
    /// Only when the leg cannot be told: [`Error::Parse`], [`Error::UnknownAsset`]. A bad message of a known
    /// leg puts that leg into `resync` instead.
    pub fn apply(&self, bytes: &[u8], now_us: i64, out: &mut Vec<Change>) -> Result<()> {
        self.apply_of(None, bytes, now_us, out)
    }

    /// The same for a message that came as one of `expected`, a platform and its asset.
    ///
    /// # Errors
    /// Those of `apply`, and [`Error::Parse`] when it is about another asset: then nothing has changed.
    pub fn apply_of(
        &self,
        expected: Option<(&str, &str)>,
        bytes: &[u8],
        now_us: i64,
        out: &mut Vec<Change>,
    ) -> Result<()> {
        count(&self.counters.messages, 1);
        SCRATCH.with_borrow_mut(|scratch| {
            let message = Message::read(bytes, &mut scratch.read);
            let (Some(platform), Some(asset)) = (&message.platform, &message.asset) else {
                return match message.broken {
                    None if message.kind == Kind::Unknown => {
                        count(&self.counters.ignored, 1);
                        Ok(())
                    }
                    Some(broken) => {
                        count(&self.counters.bad, 1);
                        Err(broken.into())
                    }
                    None => {
                        count(&self.counters.bad, 1);
                        Err(Error::Parse("message without platform or asset_id".to_owned()))
                    }
                };
            };
            if let Some((on_platform, of_asset)) = expected
                && (&**platform != on_platform || &**asset != of_asset)
            {
                count(&self.counters.bad, 1);
                return Err(Error::Parse(format!(
                    "a message of {platform}:{asset} as {on_platform}:{of_asset}"
                )));
            }
            self.with_leg(platform, asset, now_us, out, |book, leg, out| {
                book.apply(leg, &message, scratch, now_us, out)
            })
        })
    }

    /// The caller's own verdict about a leg: silent, disconnected, its producer gone. A market that is over is not
    /// less over for that: a closed leg stays closed, unless the verdict is the mapping's (`halted`).
    ///
    /// # Errors
    /// [`Error::UnknownAsset`].
    pub fn set_leg_state(
        &self,
        platform: &str,
        asset: &str,
        state: LegState,
        why: &str,
        now_us: i64,
        out: &mut Vec<Change>,
    ) -> Result<()> {
        SCRATCH.with_borrow_mut(|scratch| {
            self.with_leg(platform, asset, now_us, out, |book, leg, out| {
                if book.resolved.is_some() || book.dropped {
                    return Effect { ignored: true, ..Effect::default() };
                }
                let ask = book.set_leg_state(leg, state, why, now_us, scratch, out);
                Effect { ask, ..Effect::default() }
            })
        })
    }

    /// Compares one asset's last number with its producer's mark; a lost last message is found here.
    pub(crate) fn check_mark(
        &self,
        platform: &str,
        asset: &str,
        (epoch, n): (i64, i64),
        now_us: i64,
        out: &mut Vec<Change>,
    ) -> Result<()> {
        SCRATCH.with_borrow_mut(|scratch| {
            self.with_leg(platform, asset, now_us, out, |book, leg, out| {
                let own = &mut book.legs[usize::from(leg)];
                let mut effect = Effect::default();
                let behind = own.epoch.is_none_or(|known| known < epoch || (known == epoch && own.n < n));
                let over = book.resolved.is_some() || book.dropped;
                if over || !(behind || own.wants_snapshot) {
                    return effect;
                }
                effect.hole = behind;
                // Ask again: the wish, or the snapshot itself, may be what was lost.
                own.wants_snapshot = false;
                effect.ask = book.doubt_leg(leg, "gap", now_us, scratch, out);
                effect
            })
        })
    }

    /// Finds the leg, does something to its book under the lock, and survives a panic there: the book's
    /// legs go to `resync` in a new epoch and every other book lives on.
    fn with_leg(
        &self,
        platform: &str,
        asset: &str,
        now_us: i64,
        out: &mut Vec<Change>,
        act: impl FnOnce(&mut Book, u8, &mut Vec<Change>) -> Effect,
    ) -> Result<()> {
        let _gate = self.gate.read();
        let slot = self.slot_of_asset(platform, asset).inspect_err(|_| count(&self.counters.unknown, 1))?;
        let before = out.len();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut book = slot.lock();
            let leg = book.leg_of(platform, asset)?;
            let effect = act(&mut book, leg, out);
            let own = &book.legs[usize::from(leg)];
            Some((effect, effect.ask.map(|why| (Arc::clone(&own.platform), Arc::clone(&own.asset), why))))
        }));
        match outcome {
            Ok(Some((effect, ask))) => {
                if let Some((platform, asset, why)) = ask {
                    self.ask(Resync { platform, asset, why });
                }
                count(&self.counters.changes, out.len() - before);
                for (counter, happened) in [
                    (&self.counters.ignored, effect.ignored),
                    (&self.counters.bad, effect.bad),
                    (&self.counters.holes, effect.hole),
                ] {
                    if happened {
                        count(counter, 1);
                    }
                }
            }
            // The asset map and the book disagree only for a tombstone.
            Ok(None) => count(&self.counters.ignored, 1),
            Err(_) => {
                out.truncate(before);
                self.quarantine(&slot, now_us, out);
            }
        }
        Ok(())
    }

    /// After a panic nothing in the book can be trusted, its numbering included: a new epoch opens with an
    /// empty book and every leg asks for a snapshot.
    fn quarantine(&self, slot: &Slot, now_us: i64, out: &mut Vec<Change>) {
        count(&self.counters.panics, 1);
        let epoch = self.next_epoch(now_us);
        let mut book = slot.lock();
        book.levels.clear();
        book.begin_epoch(epoch);
        let mut wishes = Vec::new();
        for leg in book.legs.iter_mut().filter(|leg| leg.state != LegState::Closed) {
            leg.state = LegState::Resync;
            leg.wants_snapshot = true;
            wishes.push(Resync {
                platform: Arc::clone(&leg.platform),
                asset: Arc::clone(&leg.asset),
                why: "gap",
            });
        }
        book.recount();
        book.send_opening(now_us, out);
        drop(book);
        wishes.into_iter().for_each(|wish| self.ask(wish));
    }

    pub(crate) fn ask(&self, wish: Resync) {
        count(&self.counters.resyncs, 1);
        self.resyncs.lock().push(wish);
    }

    /// Takes the wishes for snapshots that came up since the last call.
    #[must_use]
    pub fn take_resyncs(&self) -> Vec<Resync> {
        std::mem::take(&mut *self.resyncs.lock())
    }

    /// Every book, without holding the gate.
    pub(crate) fn slots(&self) -> Vec<Arc<Slot>> {
        self.gate.read().order.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::ChangeKind;
    use crate::mapping::Row;
    use crate::mirror::{Mirror, Verdict};

    fn message(asset: &str, n: i64) -> Vec<u8> {
        format!(
            r#"{{"type":"snapshot","platform":"kalshi","asset_id":"{asset}","epoch":1,"n":{n},"bids":[["0.5","{n}"]],"asks":[]}}"#
        )
        .into_bytes()
    }

    /// After a panic inside a book its legs are `resync` in a new epoch that clients can follow, and every
    /// other book lives on.
    #[test]
    fn a_panic_stays_in_its_book() {
        let store = Store::new(0);
        let row = |asset: &str, book: &str| Row {
            platform: "kalshi".into(),
            asset: asset.into(),
            book: book.into(),
            inverted: false,
        };
        let mut out = Vec::new();
        store.set_mapping(1, &[row("A", "a.a.yes"), row("B", "b.b.yes")], 0, &mut out).unwrap();
        store.apply(&message("A", 1), 0, &mut out).unwrap();
        store.apply(&message("B", 1), 0, &mut out).unwrap();
        drop(store.take_resyncs());
        out.clear();
        std::panic::set_hook(Box::new(|_| {}));
        let half_done = |book: &mut Book, leg: u8, out: &mut Vec<Change>| {
            book.remove_leg(leg, &mut Vec::new());
            book.send_status("half done", 0, out);
            panic!("a fault of ours")
        };
        store.with_leg("kalshi", "A", 5, &mut out, half_done).unwrap();
        drop(std::panic::take_hook());
        assert_eq!(out.len(), 1, "nothing of the half-done message goes out");
        assert_eq!((out[0].kind, out[0].epoch, out[0].seq), (ChangeKind::Snapshot, 2, 1));
        let mut mirror = Mirror::default();
        assert_eq!(mirror.apply(&out[0].payload), Ok(Verdict::Exact));
        assert!(String::from_utf8_lossy(&out[0].payload).contains(r#""state":"resync""#));
        assert_eq!(store.take_resyncs().len(), 1);
        out.clear();
        store.apply(&message("B", 2), 6, &mut out).unwrap();
        assert_eq!(out.len(), 1, "the other book is live");
        store.apply(&message("A", 2), 7, &mut out).unwrap();
        assert_eq!(out.iter().filter(|change| &*change.book == "a.a.yes").count(), 2, "it comes back");
        for change in out.iter().filter(|change| &*change.book == "a.a.yes") {
            assert_eq!(mirror.apply(&change.payload), Ok(Verdict::Exact));
        }
        assert!(store.stats().contains(&("panics", 1)));
    }
}
