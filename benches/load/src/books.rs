//! Verification. Each message is checked by its digest once, in full, when the first client gets it; every
//! other client must get the very same bytes (compared by a 64 bit hash) at the same place of its own sequence.
//! By induction over the sequence each client's copy is as proven as if it had recomputed the digest itself.

use std::collections::HashMap;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use wup::mirror::{Mirror, Verdict};

use crate::message::Head;

/// Copies of one book at a time.
const COPIES: usize = 16;

/// Where one client stands in one book.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place {
    epoch: i64,
    seq: i64,
    exact: bool,
}

/// What was seen of a book by any client.
#[derive(Default)]
struct Known {
    /// Copies at different positions, newest last: readers whose deltas were dropped go on from a newer snapshot than
    /// those who still have them before them.
    mirrors: Vec<Mirror>,
    /// (epoch, seq) to the hash of the message that led there.
    messages: HashMap<(i64, i64), u64, RandomState>,
    /// The snapshot verified last, as a hash.
    snapshot: u64,
}

impl Known {
    /// The copy that stands at a position.
    fn at(&self, epoch: i64, seq: i64) -> Option<usize> {
        self.mirrors.iter().position(|mirror| (mirror.epoch, mirror.seq) == (epoch, seq))
    }

    /// Keep an exact copy; false when another one says something else about the same position.
    fn put(&mut self, copy: Mirror) -> bool {
        if let Some(same) = self.at(copy.epoch, copy.seq) {
            return self.mirrors[same].digest == copy.digest;
        }
        let newer = self.mirrors.iter().position(|other| (other.epoch, other.seq) > (copy.epoch, copy.seq));
        self.mirrors.insert(newer.unwrap_or(self.mirrors.len()), copy);
        if self.mirrors.len() > COPIES {
            self.mirrors.remove(0);
        }
        true
    }
}

/// What went wrong, and how much was checked.
#[derive(Debug, Default, Clone, Copy)]
pub struct Checks {
    /// Messages proven: by digest or by being the same bytes.
    pub verified: u64,
    /// Digests recomputed.
    pub digests: u64,
    /// Content that contradicts its digest, or bytes that differ between clients.
    pub mismatches: u64,
    /// Messages missing on a stream that nobody said was lost.
    pub gaps: u64,
    /// Messages that could be neither compared nor recomputed.
    pub unverified: u64,
}

/// All books of all clients.
#[derive(Default)]
pub struct Books {
    ids: HashMap<Vec<u8>, u32, RandomState>,
    known: Vec<Known>,
    hasher: RandomState,
    pub checks: Checks,
}

impl Books {
    /// Number of a book.
    pub fn id(&mut self, book: &[u8]) -> u32 {
        if let Some(id) = self.ids.get(book) {
            return *id;
        }
        let id = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
        self.ids.insert(book.to_owned(), id);
        self.known.push(Known::default());
        id
    }

    /// The gateway said that it lost something.
    pub fn doubted(place: &mut Place) {
        place.exact = false;
    }

    /// One snapshot of book `id` at a client.
    pub fn snapshot(&mut self, id: u32, place: &mut Place, head: &Head<'_>, message: &[u8]) {
        let hash = self.hasher.hash_one(message);
        let known = &mut self.known[id as usize];
        if known.snapshot != hash {
            self.checks.digests += 1;
            let mut copy = Mirror::default();
            if copy.apply(message) != Ok(Verdict::Exact) {
                self.checks.mismatches += 1;
                place.exact = false;
                return;
            }
            known.snapshot = hash;
            if !known.put(copy) {
                self.checks.mismatches += 1;
            }
        }
        self.checks.verified += 1;
        *place = Place { epoch: head.epoch, seq: head.seq, exact: true };
    }

    /// One delta or status of book `id` at a client.
    pub fn change(&mut self, id: u32, place: &mut Place, head: &Head<'_>, message: &[u8]) {
        if !place.exact {
            return;
        }
        if head.epoch != place.epoch || head.prev != Some(place.seq) {
            self.checks.gaps += 1;
            place.exact = false;
            return;
        }
        let known = &mut self.known[id as usize];
        let hash = self.hasher.hash_one(message);
        let first = known.messages.get(&(head.epoch, head.seq));
        if first.is_some_and(|first| *first == hash) {
            self.checks.verified += 1;
        } else if first.is_some() {
            self.checks.mismatches += 1;
            place.exact = false;
            return;
        } else if let Some(at) = known.at(head.epoch, place.seq) {
            self.checks.digests += 1;
            let mut mirror = known.mirrors.remove(at);
            if mirror.apply(message) != Ok(Verdict::Exact) || !known.put(mirror) {
                self.checks.mismatches += 1;
                place.exact = false;
                return;
            }
            known.messages.insert((head.epoch, head.seq), hash);
            self.checks.verified += 1;
        } else {
            self.checks.unverified += 1;
        }
        place.seq = head.seq;
    }
}
