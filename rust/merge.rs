//! What a leg's message does to the consolidated book (wire.md section 2, architecture.md section 3).
//!
//! One venue message is one diff: it is read whole, checked, and only then applied, so a book is never half
//! changed. Doubt removes a leg's sizes at once; only a snapshot brings them back.

use crate::book::Book;
use crate::change::Change;
use crate::encode::{put, put_stamps};
use crate::fixed::{Price, Size, write_micro};
use crate::json_text::write_text;
use crate::leg::LegState;
use crate::levels::{LegIndex, Side};
use crate::normalised::{Kind, LevelBuffers, Message, Stamps};

/// Buffers reused from message to message, so that a warm `apply` allocates for its output only.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(crate) read: LevelBuffers,
    wanted: Vec<(Side, Price, Size)>,
    touched: Vec<(Side, Price)>,
}

/// What the store has to do and to count after a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Effect {
    /// Ask the producer for a snapshot of this leg, for this reason.
    pub ask: Option<&'static str>,
    /// It was a repeat, of an older epoch, or for a book that is over.
    pub ignored: bool,
    /// It was not usable.
    pub bad: bool,
    /// Messages before it are missing.
    pub hole: bool,
}

/// The message being applied: which leg sent it, with which stamps, at what time.
#[derive(Debug, Clone, Copy)]
struct Origin {
    leg: LegIndex,
    stamps: Stamps,
    now_us: i64,
}

impl Book {
    /// Applies one message of one leg.
    pub(crate) fn apply(
        &mut self,
        leg: LegIndex,
        message: &Message<'_>,
        scratch: &mut Scratch,
        now_us: i64,
        out: &mut Vec<Change>,
    ) -> Effect {
        let mut effect = Effect::default();
        if self.resolved.is_some() || self.dropped {
            effect.ignored = true;
            return effect;
        }
        let origin = Origin { leg, stamps: message.stamps, now_us };
        let wrong = message.wrong();
        let (Some(epoch), Some(n)) = (message.epoch, message.n) else {
            effect.ignored = wrong.is_none();
            if wrong.is_some() {
                effect.bad = true;
                effect.ask = self.doubt(origin, "gap", scratch, out);
            }
            return effect;
        };
        let own = self.leg(leg);
        if own.epoch.is_some_and(|known| epoch < known || (epoch == known && n <= own.n)) {
            effect.ignored = true;
            return effect;
        }
        effect.hole = own.epoch != Some(epoch) || own.n.checked_add(1) != Some(n);
        own.epoch = Some(epoch);
        own.n = n;
        own.heard_us = Some(message.stamps.recv.unwrap_or(now_us));
        if wrong.is_some() {
            effect.bad = true;
            effect.ask = self.doubt(origin, "gap", scratch, out);
            return effect;
        }
        match message.kind {
            Kind::Snapshot => {
                effect.hole = false;
                self.take_snapshot(origin, scratch, out);
            }
            Kind::State => effect.ask = self.take_state(origin, message, effect.hole, scratch, out),
            _ if effect.hole => effect.ask = self.doubt(origin, "seq_gap", scratch, out),
            Kind::Update if self.leg(leg).state == LegState::Live => {
                collect(&mut scratch.wanted, &scratch.read, self.leg(leg).inverted);
                self.take_levels(origin, scratch, out);
            }
            _ => {}
        }
        if message.kind == Kind::Trade {
            self.take_trade(origin, message, out);
        }
        effect
    }

    /// A leg that can no longer be trusted: its sizes go, and a snapshot is asked for, once. A producer's word that it
    /// is closed is doubted too, for what was lost may have opened it again; the caller's verdict is not.
    pub(crate) fn doubt_leg(
        &mut self,
        leg: LegIndex,
        why: &'static str,
        now_us: i64,
        scratch: &mut Scratch,
        out: &mut Vec<Change>,
    ) -> Option<&'static str> {
        self.doubt(Origin { leg, stamps: Stamps::default(), now_us }, why, scratch, out)
    }

    fn doubt(
        &mut self,
        origin: Origin,
        why: &'static str,
        scratch: &mut Scratch,
        out: &mut Vec<Change>,
    ) -> Option<&'static str> {
        let state = self.leg(origin.leg).state;
        if state == LegState::Closed && self.leg(origin.leg).judged_closed {
            return None;
        }
        if matches!(state, LegState::Live | LegState::Closed) {
            self.leave(origin, LegState::Resync, why, scratch, out);
        }
        let leg = self.leg(origin.leg);
        let ask = !leg.wants_snapshot;
        leg.wants_snapshot |= ask;
        ask.then_some(why)
    }

    /// A leg's change of state that is not a snapshot: one delta when sizes change, then one status.
    pub(crate) fn set_leg_state(
        &mut self,
        leg: LegIndex,
        state: LegState,
        why: &str,
        now_us: i64,
        scratch: &mut Scratch,
        out: &mut Vec<Change>,
    ) -> Option<&'static str> {
        let doubted = matches!(state, LegState::Down | LegState::Resync | LegState::Syncing);
        if doubted && self.leg(leg).state == LegState::Closed {
            return None;
        }
        let origin = Origin { leg, stamps: Stamps::default(), now_us };
        let ask = self.move_to(origin, state, why, scratch, out);
        self.leg(leg).judged_closed |= state == LegState::Closed;
        // The verdict was ours, so the producer does not know that a snapshot is needed afterwards.
        let leg = self.leg(leg);
        leg.wants_snapshot |= matches!(leg.state, LegState::Down | LegState::Resync | LegState::Syncing);
        if leg.state == LegState::Down {
            // Its producer is gone. The next may have a clock that stands behind, and so a smaller epoch.
            leg.epoch = None;
        }
        ask
    }

    fn take_state(
        &mut self,
        origin: Origin,
        message: &Message<'_>,
        hole: bool,
        scratch: &mut Scratch,
        out: &mut Vec<Change>,
    ) -> Option<&'static str> {
        let said = message.state.unwrap_or(LegState::Resync);
        let why = message.why.as_deref().unwrap_or(said.usual_reason());
        if !hole {
            return self.move_to(origin, said, why, scratch, out);
        }
        // What was lost may have been anything, but a graver state is believed all the same.
        if said.worse(LegState::Resync) == said && said != LegState::Resync {
            self.move_to(origin, said, why, scratch, out);
        }
        if said == LegState::Closed {
            // It shows nothing, whatever was lost before it.
            return None;
        }
        self.doubt(origin, "seq_gap", scratch, out)
    }

    /// Moves a leg to a state that it was told. Only a snapshot can make a leg live.
    fn move_to(
        &mut self,
        origin: Origin,
        state: LegState,
        why: &str,
        scratch: &mut Scratch,
        out: &mut Vec<Change>,
    ) -> Option<&'static str> {
        let before = self.leg(origin.leg).state;
        match state {
            LegState::Live if before == LegState::Live => None,
            LegState::Live => {
                // It stays what it is until its snapshot is there; the wish is said once.
                let asked = std::mem::replace(&mut self.leg(origin.leg).wants_snapshot, true);
                (!asked).then_some("gap")
            }
            LegState::Closed => {
                self.leave(origin, state, why, scratch, out);
                let leg = self.leg(origin.leg);
                // No snapshot will come; marks that ask for one would only put it in doubt.
                leg.wants_snapshot = false;
                leg.judged_closed = false;
                None
            }
            _ => {
                self.leave(origin, state, why, scratch, out);
                self.leg(origin.leg).judged_closed = false;
                None
            }
        }
    }

    /// Puts a leg into a state in which it shows nothing.
    fn leave(
        &mut self,
        origin: Origin,
        state: LegState,
        why: &str,
        scratch: &mut Scratch,
        out: &mut Vec<Change>,
    ) {
        let leg = self.leg(origin.leg);
        if leg.state == state {
            return;
        }
        leg.state = state;
        self.recount();
        scratch.touched.clear();
        self.remove_leg(origin.leg, &mut scratch.touched);
        self.send_delta(&scratch.touched, Some(origin.leg), origin.stamps, origin.now_us, out);
        self.send_status(why, origin.now_us, out);
    }

    /// Takes a leg's sizes out of the levels and notes which levels that touched.
    pub(crate) fn remove_leg(&mut self, leg: LegIndex, touched: &mut Vec<(Side, Price)>) {
        for side in Side::BOTH {
            let start = touched.len();
            touched.extend(self.levels.of_leg(side, leg).map(|(price, _)| (side, price)));
            for &(side, price) in &touched[start..] {
                self.set(side, price, leg, Size::ZERO);
            }
        }
    }

    /// Replaces a leg's sizes; what it showed before is the base of the diff, so only real changes go out.
    fn take_snapshot(&mut self, origin: Origin, scratch: &mut Scratch, out: &mut Vec<Change>) {
        let leg = self.leg(origin.leg);
        leg.wants_snapshot = false;
        leg.judged_closed = false;
        let came_back = std::mem::replace(&mut leg.state, LegState::Live) != LegState::Live;
        let inverted = leg.inverted;
        self.recount();
        collect(&mut scratch.wanted, &scratch.read, inverted);
        scratch.wanted.sort_unstable_by_key(|(side, price, _)| (*side, *price));
        let named = scratch.wanted.len();
        for side in Side::BOTH {
            for (price, _) in self.levels.of_leg(side, origin.leg) {
                let known = &scratch.wanted[..named];
                if known.binary_search_by_key(&(side, price), |(side, price, _)| (*side, *price)).is_err() {
                    scratch.wanted.push((side, price, Size::ZERO));
                }
            }
        }
        self.take_levels(origin, scratch, out);
        if came_back {
            self.send_status("leg_snapshot", origin.now_us, out);
        }
    }

    /// Applies the wanted levels and sends what changed.
    fn take_levels(&mut self, origin: Origin, scratch: &mut Scratch, out: &mut Vec<Change>) {
        scratch.touched.clear();
        for &(side, price, size) in &scratch.wanted {
            if self.set(side, price, origin.leg, size) {
                scratch.touched.push((side, price));
            }
        }
        self.send_delta(&scratch.touched, Some(origin.leg), origin.stamps, origin.now_us, out);
    }

    /// Sends a trade in YES coordinates, kept with the venue's id (wire.md section 3 rule 8).
    fn take_trade(&mut self, origin: Origin, message: &Message<'_>, out: &mut Vec<Change>) {
        let (Some(price), Some(size)) = (message.price, message.size) else { return };
        let leg = &self.legs[usize::from(origin.leg)];
        let mut payload = Vec::with_capacity(320 + self.id.len() + leg.asset.len());
        put(&mut payload, b"{\"type\":\"trade\",\"book\":\"");
        put(&mut payload, self.id.as_bytes());
        put(&mut payload, b"\",\"platform\":");
        write_text(&mut payload, &leg.platform);
        put(&mut payload, b",\"asset\":");
        write_text(&mut payload, &leg.asset);
        put(&mut payload, b",\"price\":\"");
        write_micro(&mut payload, if leg.inverted { price.complement() } else { price }.micro());
        put(&mut payload, b"\",\"size\":\"");
        write_micro(&mut payload, size.micro());
        payload.push(b'"');
        // Whoever buys the inverted asset sells this one.
        let side = message.side.as_deref().map(|side| match side {
            "buy" if leg.inverted => "sell",
            "sell" if leg.inverted => "buy",
            other => other,
        });
        for (label, text) in [(&b",\"side\":"[..], side), (b",\"id\":", message.id.as_deref())] {
            if let Some(text) = text {
                put(&mut payload, label);
                write_text(&mut payload, text);
            }
        }
        if message.block {
            put(&mut payload, b",\"block\":true");
        }
        payload.push(b',');
        put_stamps(&mut payload, message.stamps, Some(origin.now_us));
        payload.push(b'}');
        self.send_trade(payload, out);
    }
}

/// Brings a message's levels into YES coordinates, each price once per side; of a repeated price the last counts.
fn collect(wanted: &mut Vec<(Side, Price, Size)>, read: &LevelBuffers, inverted: bool) {
    wanted.clear();
    for (side, levels) in [(Side::Bid, &read.bids), (Side::Ask, &read.asks)] {
        let start = wanted.len();
        wanted.extend(levels.iter().map(|&(price, size)| {
            if inverted { (side.other(), price.complement(), size) } else { (side, price, size) }
        }));
        let part = &wanted[start..];
        let ordered = part.windows(2).all(|pair| pair[0].1 < pair[1].1)
            || part.windows(2).all(|pair| pair[0].1 > pair[1].1);
        if !ordered {
            // Stable, and the later of equals first, so that it is the one that stays.
            wanted[start..].reverse();
            wanted[start..].sort_by_key(|level| level.1);
            let mut kept = start;
            for next in start..wanted.len() {
                if next == start || wanted[next].1 != wanted[kept - 1].1 {
                    wanted[kept] = wanted[next];
                    kept += 1;
                }
            }
            wanted.truncate(kept);
        }
    }
}
