//! Putting a mapping in force: which assets feed which book (wire.md section 3 rule 2, mapping.md section 3).
//!
//! A new table is checked whole, then applied whole while nobody else looks. Books whose legs changed open a
//! new epoch; an asset that stays mapped keeps what it shows, also when it moves or turns around.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::book::{Book, MAX_LEGS};
use crate::change::Change;
use crate::error::{Error, Result};
use crate::fixed::{self, Price, Size};
use crate::json_text::write_text;
use crate::keys::{is_platform, yes_id};
use crate::leg::{Facts, Leg, LegState};
use crate::levels::{LegIndex, Side};
use crate::normalised::Stamps;
use crate::store::{Resync, Slot, Store, Table, asset_key};

/// One row of a mapping: an asset, the YES book that it feeds, and whether it is its opposite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The venue's short name.
    pub platform: String,
    /// What the venue quotes.
    pub asset: String,
    /// Id of the YES book.
    pub book: String,
    /// The asset's YES is the book's NO.
    pub inverted: bool,
}

/// A leg on its way from the old mapping to the new one, with what it shows in its own coordinates.
struct Carried {
    leg: Leg,
    shown: Vec<(Side, Price, Size)>,
}

type Key = (Arc<str>, Arc<str>);

/// Turns a level over to the other outcome when a leg is inverted.
fn turn(inverted: bool, (side, price, size): (Side, Price, Size)) -> (Side, Price, Size) {
    if inverted { (side.other(), price.complement(), size) } else { (side, price, size) }
}

fn check(rows: &[Row]) -> Result<()> {
    let mut seen = HashSet::with_capacity(rows.len());
    let mut legs: HashMap<&str, usize> = HashMap::new();
    for row in rows {
        let refuse =
            |why: &str| Err(Error::Mapping(format!("{}:{} -> {}: {why}", row.platform, row.asset, row.book)));
        if !is_platform(&row.platform) {
            return refuse("not a platform name");
        }
        if row.asset.is_empty() {
            return refuse("empty asset");
        }
        match yes_id(&row.book) {
            Ok((_, false)) => {}
            _ => return refuse("not the id of a YES book"),
        }
        if !seen.insert((&row.platform, &row.asset)) {
            return refuse("asset is mapped twice");
        }
        let count = legs.entry(&row.book).or_default();
        *count += 1;
        if *count > MAX_LEGS {
            return refuse("more than 64 legs");
        }
    }
    Ok(())
}

/// `kalshi`, `kalshi-2`, ... in mapping order.
fn leg_name(platform: &str, taken: &mut HashMap<String, usize>) -> Arc<str> {
    let count = taken.entry(platform.to_owned()).or_default();
    *count += 1;
    if *count == 1 { platform.into() } else { format!("{platform}-{count}").into() }
}

impl Store {
    /// Puts a mapping in force, all of it or nothing, and appends what has to be sent.
    ///
    /// # Errors
    /// [`Error::Mapping`] for a table that contradicts itself; then nothing has changed.
    pub fn set_mapping(&self, version: i64, rows: &[Row], now_us: i64, out: &mut Vec<Change>) -> Result<()> {
        check(rows)?;
        let mut table = self.gate.write();
        table.version = version;
        let mut groups: Vec<(&str, Vec<&Row>)> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for row in rows {
            let place = *places.entry(&row.book).or_insert_with(|| {
                groups.push((&row.book, Vec::new()));
                groups.len() - 1
            });
            groups[place].1.push(row);
        }
        let wanted: HashMap<&str, &[&Row]> = groups.iter().map(|(id, rows)| (*id, &rows[..])).collect();
        let mapped: HashSet<(&str, &str)> = rows.iter().map(|row| (&*row.platform, &*row.asset)).collect();

        let mut carried: HashMap<Key, Carried> = HashMap::new();
        let mut changed: HashSet<Arc<str>> = HashSet::new();
        let mut kept = Vec::with_capacity(groups.len());
        for slot in std::mem::take(&mut table.order) {
            let mut book = slot.lock();
            let stays = match wanted.get(&*book.id) {
                // It has said its last word, and stays for its 60 s whatever the mapping says.
                _ if book.resolved.is_some() => true,
                Some(rows) if same_legs(&book, rows) => true,
                Some(_) => {
                    carry(&book, &mut carried);
                    changed.insert(Arc::clone(&book.id));
                    true
                }
                None => {
                    carry(&book, &mut carried);
                    let moved = book.legs.iter().any(|leg| mapped.contains(&(&*leg.platform, &*leg.asset)));
                    self.end_book(&mut book, if moved { "mapping" } else { "unmapped" }, now_us, out);
                    false
                }
            };
            drop(book);
            if stays {
                kept.push(slot);
            }
        }
        table.order = kept;
        self.open_books(&mut table, &groups, &changed, carried, now_us, out);
        self.route(&table, rows);
        Ok(())
    }

    /// Opens new and changed books in one new epoch.
    fn open_books(
        &self,
        table: &mut Table,
        groups: &[(&str, Vec<&Row>)],
        changed: &HashSet<Arc<str>>,
        mut carried: HashMap<Key, Carried>,
        now_us: i64,
        out: &mut Vec<Change>,
    ) {
        let mut epoch = None;
        for (id, rows) in groups {
            let existing = self.books.get(*id).map(|slot| Arc::clone(&slot));
            let is_retired = table.retired.iter().any(|(retired, _)| &**retired == *id);
            if is_retired || (existing.is_some() && !changed.contains(*id)) {
                continue;
            }
            let epoch = *epoch.get_or_insert_with(|| self.next_epoch(now_us));
            let id: Arc<str> = Arc::from(*id);
            let mut taken = HashMap::new();
            let mut shown = Vec::with_capacity(rows.len());
            let mut legs = Vec::with_capacity(rows.len());
            for row in rows {
                let name = leg_name(&row.platform, &mut taken);
                let key: Key = (row.platform.as_str().into(), row.asset.as_str().into());
                let before = carried.remove(&key);
                if before.is_none() {
                    self.ask(Resync {
                        platform: Arc::clone(&key.0),
                        asset: Arc::clone(&key.1),
                        why: "mapping",
                    });
                }
                let mut leg = Leg::new(key.0, key.1, name, row.inverted);
                if let Some(before) = before {
                    leg.state = before.leg.state;
                    leg.epoch = before.leg.epoch;
                    leg.n = before.leg.n;
                    leg.heard_us = before.leg.heard_us;
                    leg.wants_snapshot = before.leg.wants_snapshot;
                    leg.judged_closed = before.leg.judged_closed;
                    shown.push(before.shown);
                } else {
                    shown.push(Vec::new());
                }
                if let Some(facts) = self.facts.get(&asset_key(&row.platform, &row.asset)[..]) {
                    leg.facts = facts.clone();
                }
                legs.push(leg);
            }
            let mut book = Book::new(Arc::clone(&id), epoch, table.version, legs, now_us);
            for (leg, levels) in (0..).zip(shown) {
                let inverted = book.leg(leg).inverted;
                for level in levels {
                    let (side, price, size) = turn(inverted, level);
                    book.set(side, price, leg, size);
                }
            }
            if let Some(description) = self.descriptions.get(&*id) {
                book.description = description.clone();
            }
            if let Some(slot) = existing {
                let mut old = slot.lock();
                book.rotation = old.rotation;
                book.send_opening(now_us, out);
                *old = book;
            } else {
                // The marks' rotation has thirty shares.
                book.rotation = u8::try_from(table.opened % 30).unwrap_or_default();
                table.opened += 1;
                book.send_opening(now_us, out);
                let slot = Arc::new(Mutex::new(book));
                table.order.push(Arc::clone(&slot));
                self.books.insert(id, slot);
            }
        }
    }

    /// Points every mapped asset at its book, and no other.
    fn route(&self, table: &Table, rows: &[Row]) {
        let mut routes: HashMap<Box<[u8]>, Arc<Slot>> = HashMap::with_capacity(rows.len());
        for row in rows {
            let slot = self.books.get(&*row.book).map(|slot| Arc::clone(&slot)).or_else(|| {
                table.retired.iter().find(|(id, _)| **id == *row.book).map(|(_, slot)| Arc::clone(slot))
            });
            if let Some(slot) = slot {
                routes.insert(asset_key(&row.platform, &row.asset).into_vec().into_boxed_slice(), slot);
            }
        }
        self.assets.retain(|key, _| routes.contains_key(key));
        for (key, slot) in routes {
            self.assets.insert(key, slot);
        }
    }

    /// Ends a book that has no leg left: its sizes go, a last status, and it is dropped.
    fn end_book(&self, book: &mut Book, why: &str, now_us: i64, out: &mut Vec<Change>) {
        let mut touched = Vec::new();
        for place in 0..book.legs.len() {
            if let Ok(leg) = LegIndex::try_from(place) {
                book.remove_leg(leg, &mut touched);
            }
        }
        touched.sort_unstable();
        touched.dedup();
        book.legs.clear();
        book.recount();
        book.send_delta(&touched, None, Stamps::default(), now_us, out);
        book.send_status(why, now_us, out);
        book.dropped = true;
        self.books.remove(&book.id);
        self.descriptions.remove(&*book.id);
    }

    /// Closes a book for good with its outcome; it is dropped 60 s later.
    ///
    /// # Errors
    /// [`Error::UnknownBook`].
    pub fn resolve(&self, book: &str, result: &str, now_us: i64, out: &mut Vec<Change>) -> Result<()> {
        let (id, _) = yes_id(book)?;
        let _gate = self.gate.read();
        let slot = self.books.get(&*id).map(|slot| Arc::clone(&slot));
        let slot = slot.ok_or_else(|| Error::UnknownBook(book.to_owned()))?;
        let mut book = slot.lock();
        if book.resolved.is_some() {
            return Ok(());
        }
        book.resolved = Some((result.into(), now_us));
        let mut touched = Vec::new();
        for place in 0..book.legs.len() {
            book.legs[place].state = LegState::Closed;
            book.legs[place].wants_snapshot = false;
            if let Ok(leg) = LegIndex::try_from(place) {
                book.remove_leg(leg, &mut touched);
            }
        }
        touched.sort_unstable();
        touched.dedup();
        book.recount();
        book.send_delta(&touched, None, Stamps::default(), now_us, out);
        book.send_status("resolved", now_us, out);
        Ok(())
    }

    /// Names a book, also before the mapping knows it, so that its first snapshot carries them.
    ///
    /// # Errors
    /// [`Error::UnknownBook`] for what is no book id.
    pub fn describe(&self, book: &str, title: Option<&str>, label: Option<&str>) -> Result<()> {
        let (id, _) = yes_id(book)?;
        let text = |text: &str| {
            let mut out = Vec::with_capacity(text.len() + 2);
            write_text(&mut out, text);
            out.into_boxed_slice()
        };
        let _gate = self.gate.read();
        let mut description = self.descriptions.get(&*id).map(|known| known.clone()).unwrap_or_default();
        if let Some(title) = title {
            description.title = Some(text(title));
        }
        if let Some(label) = label {
            description.label = Some(text(label));
        }
        self.descriptions.insert(id.clone().into(), description.clone());
        let slot = self.books.get(&*id).map(|slot| Arc::clone(&slot));
        if let Some(slot) = slot {
            slot.lock().description = description;
        }
        Ok(())
    }

    /// States an asset's tick and smallest order, also before the mapping knows it.
    ///
    /// # Errors
    /// [`Error::Number`] for text that is no number.
    pub fn set_facts(
        &self,
        platform: &str,
        asset: &str,
        tick: Option<&str>,
        min_size: Option<&str>,
    ) -> Result<()> {
        let canonical = |text: Option<&str>| {
            text.map(|text| fixed::parse(text).map(|value| fixed::format(value).into_boxed_str())).transpose()
        };
        let (tick, min_size) = (canonical(tick)?, canonical(min_size)?);
        let key = asset_key(platform, asset);
        let _gate = self.gate.read();
        let known = self.facts.get(&key[..]).map(|known| known.clone()).unwrap_or_default();
        let facts = Facts { tick: tick.or(known.tick), min_size: min_size.or(known.min_size) };
        self.facts.insert(key.to_vec().into_boxed_slice(), facts.clone());
        let slot = self.assets.get(&key[..]).map(|slot| Arc::clone(&slot));
        if let Some(slot) = slot {
            let mut book = slot.lock();
            if let Some(leg) = book.leg_of(platform, asset) {
                book.leg(leg).facts = facts;
            }
        }
        Ok(())
    }

    /// Drops resolved books whose last status is 60 s old. They are remembered, so that a mapping that still
    /// names them does not open them again and their late messages stay unremarkable.
    pub fn tick(&self, now_us: i64) {
        let due = |book: &Book| {
            book.resolved.as_ref().is_some_and(|(_, at)| now_us.saturating_sub(*at) >= 60_000_000)
        };
        if !self.slots().iter().any(|slot| due(&slot.lock())) {
            return;
        }
        let mut table = self.gate.write();
        let (gone, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut table.order).into_iter().partition(|slot| due(&slot.lock()));
        table.order = kept;
        for slot in gone {
            let mut book = slot.lock();
            book.dropped = true;
            self.books.remove(&book.id);
            self.descriptions.remove(&*book.id);
            let id = Arc::clone(&book.id);
            drop(book);
            table.retired.push((id, slot));
        }
    }
}

fn same_legs(book: &Book, rows: &[&Row]) -> bool {
    book.legs.len() == rows.len()
        && book.legs.iter().zip(rows).all(|(leg, row)| {
            *leg.platform == *row.platform && *leg.asset == *row.asset && leg.inverted == row.inverted
        })
}

/// Notes every leg of a book and what it shows, in the asset's own coordinates.
fn carry(book: &Book, carried: &mut HashMap<Key, Carried>) {
    for (place, leg) in (0..).zip(&book.legs) {
        let shown = Side::BOTH.into_iter().flat_map(|side| {
            book.levels.of_leg(side, place).map(move |(price, size)| turn(leg.inverted, (side, price, size)))
        });
        let key = (Arc::clone(&leg.platform), Arc::clone(&leg.asset));
        carried.insert(key, Carried { leg: leg.clone(), shown: shown.collect() });
    }
}
