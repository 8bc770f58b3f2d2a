//! One consolidated book: its legs, its levels, its place in the sequence.
//!
//! This file holds what the book *is* and how it speaks (delta, status, snapshot); what a message does to it
//! is in `merge.rs`.

use std::sync::Arc;

use crate::change::{Change, ChangeKind};
use crate::encode::{self, Head, SnapshotParts, put};
use crate::fixed::{Price, Size};
use crate::json_text::write_text;
use crate::leg::{BookState, Leg};
use crate::levels::{LegIndex, Levels, Side};
use crate::normalised::Stamps;

/// More legs than this and a level's total could leave 63 bits.
pub const MAX_LEGS: usize = 64;

/// Names shown with a book, as JSON text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description {
    /// The event.
    pub title: Option<Box<[u8]>>,
    /// The outcome.
    pub label: Option<Box<[u8]>>,
}

/// One consolidated book in YES coordinates.
#[derive(Debug)]
pub struct Book {
    /// Id of the YES book.
    pub id: Arc<str>,
    pub(crate) changes_subject: Arc<str>,
    pub(crate) trades_subject: Arc<str>,
    /// How every delta of this epoch begins.
    delta_opening: Vec<u8>,
    /// Changes when the service starts and when the legs change; larger each time.
    pub(crate) epoch: i64,
    /// Of the last delta, status or epoch snapshot.
    pub seq: i64,
    /// What the legs show together.
    pub levels: Levels,
    /// In mapping order.
    pub legs: Vec<Leg>,
    /// Follows from the legs.
    pub state: BookState,
    /// Version of the mapping that opened this epoch.
    pub mapping: i64,
    /// Names.
    pub description: Description,
    /// Outcome of a resolved book, and when that was.
    pub resolved: Option<(Box<str>, i64)>,
    /// When something was last sent.
    pub changed_us: i64,
    /// Share of the marks' rotation that this book belongs to.
    pub rotation: u8,
    /// Out of the store: late messages for it are ignored.
    pub dropped: bool,
}

impl Book {
    /// An empty book at the opening of an epoch.
    #[must_use]
    pub fn new(id: Arc<str>, epoch: i64, mapping: i64, legs: Vec<Leg>, now_us: i64) -> Self {
        let mut book = Self {
            changes_subject: format!("orderbook.changes.{id}").into(),
            trades_subject: format!("orderbook.trades.{id}").into(),
            id,
            delta_opening: Vec::new(),
            epoch,
            seq: 0,
            levels: Levels::default(),
            state: BookState::of(legs.iter().map(|leg| leg.state)),
            legs,
            mapping,
            description: Description::default(),
            resolved: None,
            changed_us: now_us,
            rotation: 0,
            dropped: false,
        };
        book.begin_epoch(epoch);
        book
    }

    /// Sequence numbers begin anew: they mean nothing across epochs.
    pub(crate) fn begin_epoch(&mut self, epoch: i64) {
        self.epoch = epoch;
        self.seq = 1;
        self.delta_opening.clear();
        encode::put_opening(&mut self.delta_opening, b"delta", &self.id, false, epoch);
    }

    /// Place of the leg that an asset feeds.
    #[must_use]
    pub fn leg_of(&self, platform: &str, asset: &str) -> Option<LegIndex> {
        let place = self.legs.iter().position(|leg| &*leg.asset == asset && &*leg.platform == platform)?;
        LegIndex::try_from(place).ok()
    }

    pub(crate) fn leg(&mut self, leg: LegIndex) -> &mut Leg {
        &mut self.legs[usize::from(leg)]
    }

    /// Follows the legs' states after one of them changed.
    pub(crate) fn recount(&mut self) {
        self.state = BookState::of(self.legs.iter().map(|leg| leg.state));
    }

    /// Sets a leg's size; returns whether the book changed.
    pub(crate) fn set(&mut self, side: Side, price: Price, leg: LegIndex, size: Size) -> bool {
        let salt = self.legs[usize::from(leg)].salt;
        self.levels.set(side, price, leg, salt, size)
    }

    fn head(&self, kind: ChangeKind, prev: Option<i64>, no: bool) -> Head<'_> {
        Head {
            kind: kind.as_str().as_bytes(),
            yes_id: &self.id,
            no,
            epoch: self.epoch,
            prev,
            seq: self.seq,
            digest: self.levels.digest(),
            state: self.state,
            crossed: self.levels.crossed(),
        }
    }

    fn change(&self, kind: ChangeKind, prev: i64, payload: Vec<u8>) -> Change {
        Change {
            kind,
            book: Arc::clone(&self.id),
            subject: Arc::clone(&self.changes_subject),
            epoch: self.epoch,
            prev,
            seq: self.seq,
            digest: self.levels.digest(),
            payload,
        }
    }

    /// Sends one delta for the levels that were touched, each price once per side.
    pub(crate) fn send_delta(
        &mut self,
        touched: &[(Side, Price)],
        cause: Option<LegIndex>,
        stamps: Stamps,
        now_us: i64,
        out: &mut Vec<Change>,
    ) {
        if touched.is_empty() {
            return;
        }
        let prev = self.seq;
        self.seq += 1;
        self.changed_us = now_us;
        // Enough for two named legs per level, so that the buffer is allocated once.
        let mut payload =
            Vec::with_capacity(416 + self.id.len() + touched.len() * (48 + 40 * self.legs.len().min(4)));
        put(&mut payload, &self.delta_opening);
        encode::put_numbers(&mut payload, &self.head(ChangeKind::Delta, Some(prev), false));
        if let Some(cause) = cause {
            put(&mut payload, b",\"cause\":\"");
            put(&mut payload, self.legs[usize::from(cause)].name.as_bytes());
            payload.push(b'"');
        }
        let name = |leg: LegIndex| &*self.legs[usize::from(leg)].name;
        for (side, label) in [(Side::Bid, &b",\"bids\":["[..]), (Side::Ask, b"],\"asks\":[")] {
            put(&mut payload, label);
            let ladder = self.levels.side(side);
            let mut first = true;
            for (_, price) in touched.iter().filter(|(touched_side, _)| *touched_side == side) {
                if !std::mem::take(&mut first) {
                    payload.push(b',');
                }
                encode::put_level(&mut payload, *price, ladder.get(price), &name);
            }
        }
        put(&mut payload, b"],");
        encode::put_stamps(&mut payload, stamps, Some(now_us));
        payload.push(b'}');
        out.push(self.change(ChangeKind::Delta, prev, payload));
    }

    /// Sends one status with all legs.
    pub(crate) fn send_status(&mut self, why: &str, now_us: i64, out: &mut Vec<Change>) {
        let prev = self.seq;
        self.seq += 1;
        self.changed_us = now_us;
        let mut payload = Vec::with_capacity(384 + self.id.len() + 256 * self.legs.len());
        encode::put_head(&mut payload, &self.head(ChangeKind::Status, Some(prev), false));
        put(&mut payload, b",\"why\":");
        write_text(&mut payload, why);
        if let Some((result, _)) = &self.resolved {
            put(&mut payload, b",\"result\":");
            write_text(&mut payload, result);
        }
        put(&mut payload, b",\"legs\":");
        encode::put_legs(&mut payload, &self.legs, now_us);
        payload.push(b',');
        encode::put_stamps(&mut payload, Stamps::default(), Some(now_us));
        payload.push(b'}');
        out.push(self.change(ChangeKind::Status, prev, payload));
    }

    /// Sends the snapshot that opens an epoch.
    pub(crate) fn send_opening(&mut self, now_us: i64, out: &mut Vec<Change>) {
        self.changed_us = now_us;
        let payload = self.snapshot(false, None, "epoch", now_us);
        out.push(self.change(ChangeKind::Snapshot, 0, payload));
    }

    /// Sends a trade in YES coordinates; the book's sequence stays.
    pub(crate) fn send_trade(&self, payload: Vec<u8>, out: &mut Vec<Change>) {
        let mut change = self.change(ChangeKind::Trade, self.seq, payload);
        change.subject = Arc::clone(&self.trades_subject);
        out.push(change);
    }

    /// The snapshot message of one view; with `depth` its digest covers the levels shown.
    #[must_use]
    pub fn snapshot(&self, no: bool, depth: Option<usize>, why: &str, now_us: i64) -> Vec<u8> {
        let mut legs = Vec::with_capacity(256 * self.legs.len() + 2);
        encode::put_legs(&mut legs, &self.legs, now_us);
        let mut mapping = Vec::with_capacity(20);
        crate::fixed::write_integer(&mut mapping, self.mapping);
        let result = self.resolved.as_ref().map(|(result, _)| {
            let mut text = Vec::new();
            write_text(&mut text, result);
            text
        });
        let mut head = self.head(ChangeKind::Snapshot, None, no);
        if depth.is_some() {
            head.digest = self.levels.digest_of(depth, |leg| self.legs[usize::from(leg)].salt);
        }
        let parts = SnapshotParts {
            head,
            depth,
            why,
            mapping: Some(&mapping),
            title: self.description.title.as_deref(),
            label: self.description.label.as_deref(),
            result: result.as_deref(),
            legs: &legs,
            now_us,
        };
        encode::snapshot(&parts, &self.levels, &|leg| &*self.legs[usize::from(leg)].name)
    }
}
