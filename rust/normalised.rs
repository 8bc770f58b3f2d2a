//! Normalised messages, the input of the store (wire.md section 2).
//!
//! Reading never fails half-way into a leg's state: the message is read whole first, levels into reused
//! buffers. What is wrong with it is kept beside what could be read, because a bad message of a known leg
//! must put that leg into doubt instead of being dropped.

use std::borrow::Cow;

use crate::fixed::{Price, Size};
use crate::json_text::RawText;
use crate::leg::LegState;
use crate::scan::{Malformed, Scan, Scanner};

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// No `type` at all.
    #[default]
    Missing,
    /// A type of a later version: ignored, but counted in `n`.
    Unknown,
    /// Everything the asset shows.
    Snapshot,
    /// Absolute sizes of the levels that changed.
    Update,
    /// A change of the leg's state.
    State,
    /// A trade.
    Trade,
}

/// Time stamps of the stages before, in microseconds (wire.md section 3 rule 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamps {
    /// The venue's own.
    pub venue: Option<i64>,
    /// Socket read.
    pub recv: Option<i64>,
    /// Normalised.
    pub norm: Option<i64>,
}

/// Level buffers that are reused from message to message.
#[derive(Debug, Default)]
pub struct LevelBuffers {
    /// Bids in the asset's coordinates.
    pub bids: Vec<(Price, Size)>,
    /// Asks in the asset's coordinates.
    pub asks: Vec<(Price, Size)>,
}

/// One message as far as it could be read.
#[derive(Debug, Default)]
pub struct Message<'a> {
    /// What it is.
    pub kind: Kind,
    /// The venue.
    pub platform: Option<Cow<'a, str>>,
    /// What the venue quotes.
    pub asset: Option<Cow<'a, str>>,
    /// The normalizer process's epoch.
    pub epoch: Option<i64>,
    /// The asset's running number in that epoch.
    pub n: Option<i64>,
    /// Of a state message.
    pub state: Option<LegState>,
    /// Of a state message.
    pub why: Option<Cow<'a, str>>,
    /// Of a trade.
    pub price: Option<Price>,
    /// Of a trade.
    pub size: Option<Size>,
    /// Of a trade: `buy`, `sell`, or what the venue says.
    pub side: Option<Cow<'a, str>>,
    /// Of a trade: the venue's id.
    pub id: Option<Cow<'a, str>>,
    /// Of a trade: agreed off the book.
    pub block: bool,
    /// Stamps of the stages before.
    pub stamps: Stamps,
    /// Whether `bids` and `asks` were both there.
    pub two_sided: bool,
    /// A field that the message cannot do without is wrong.
    pub fault: Option<&'static str>,
    /// The text ended or broke off here; fields after it are unknown.
    pub broken: Option<Malformed>,
}

impl<'a> Message<'a> {
    /// Reads a message as far as it goes.
    pub fn read(bytes: &'a [u8], levels: &mut LevelBuffers) -> Self {
        levels.bids.clear();
        levels.asks.clear();
        let mut message = Self::default();
        if let Err(broken) = message.fields(bytes, levels) {
            message.broken = Some(broken);
        }
        message
    }

    fn fields(&mut self, bytes: &'a [u8], levels: &mut LevelBuffers) -> Scan<()> {
        let mut scanner = Scanner::new(bytes);
        scanner.expect(b'{', "object expected")?;
        let mut first = true;
        let mut seen = [false; 2];
        while let Some(key) = scanner.key(&mut first)? {
            match key.bytes {
                b"type" => {
                    self.kind = match word(&mut scanner)?.map(|text| text.bytes) {
                        Some(b"snapshot") => Kind::Snapshot,
                        Some(b"update") => Kind::Update,
                        Some(b"state") => Kind::State,
                        Some(b"trade") => Kind::Trade,
                        Some(_) => Kind::Unknown,
                        None => Kind::Missing,
                    };
                }
                b"platform" => self.platform = word(&mut scanner)?.and_then(|text| text.text()),
                b"asset_id" => self.asset = word(&mut scanner)?.and_then(|text| text.text()),
                b"epoch" => self.epoch = integer(&mut scanner)?,
                b"n" => self.n = integer(&mut scanner)?,
                b"state" => {
                    let text = word(&mut scanner)?.and_then(|text| text.text());
                    self.state = text.and_then(|text| LegState::parse(&text));
                }
                b"why" => self.why = word(&mut scanner)?.and_then(|text| text.text()),
                b"price" => self.price = word(&mut scanner)?.and_then(|text| Price::parse(text.bytes)),
                b"size" => self.size = word(&mut scanner)?.and_then(|text| Size::parse(text.bytes)),
                b"side" => self.side = word(&mut scanner)?.and_then(|text| text.text()),
                b"id" => self.id = word(&mut scanner)?.and_then(|text| text.text()),
                b"block" => self.block = scanner.skip()? == b"true",
                b"ts" => self.stamps = stamps(&mut scanner)?,
                b"bids" => {
                    seen[0] = true;
                    self.levels(&mut scanner, &mut levels.bids)?;
                }
                b"asks" => {
                    seen[1] = true;
                    self.levels(&mut scanner, &mut levels.asks)?;
                }
                _ => drop(scanner.skip()?),
            }
        }
        self.two_sided = seen == [true; 2];
        scanner.end()
    }

    /// Reads `[["0.51","300.5"], ...]`; a level that does not fit is a fault, not the end of reading.
    fn levels(&mut self, scanner: &mut Scanner<'a>, into: &mut Vec<(Price, Size)>) -> Scan<()> {
        into.clear();
        if scanner.peek() != Some(b'[') {
            self.fault = Some("levels are no list");
            return scanner.skip().map(drop);
        }
        scanner.take(b'[');
        let mut first = true;
        while scanner.item(&mut first)? {
            if scanner.peek() != Some(b'[') {
                self.fault = Some("level is no list");
                scanner.skip()?;
                continue;
            }
            scanner.take(b'[');
            let mut parts = [None; 2];
            let (mut count, mut first) = (0, true);
            while scanner.item(&mut first)? {
                let part = word(scanner)?;
                if let Some(place) = parts.get_mut(count) {
                    *place = part;
                }
                count += 1;
            }
            let price = parts[0].and_then(|text| Price::parse(text.bytes));
            let size = parts[1].and_then(|text| Size::parse(text.bytes));
            match (price, size) {
                (Some(price), Some(size)) => into.push((price, size)),
                _ => self.fault = Some("level does not fit"),
            }
        }
        Ok(())
    }

    /// What makes this message useless for its leg, if anything does.
    #[must_use]
    pub fn wrong(&self) -> Option<&'static str> {
        if let Some(broken) = self.broken {
            return Some(broken.what);
        }
        if self.kind == Kind::Missing {
            return Some("no type");
        }
        if self.epoch.is_none() || self.n.is_none() {
            return (self.kind != Kind::Unknown).then_some("no epoch or n");
        }
        match self.kind {
            Kind::Snapshot if !self.two_sided => Some("snapshot without both sides"),
            Kind::Snapshot | Kind::Update => self.fault,
            Kind::State if self.state.is_none() => Some("unknown state"),
            Kind::Trade if self.price.is_none() => Some("trade price does not fit"),
            Kind::Trade if self.size.is_none_or(|size| size == Size::ZERO) => Some("trade size does not fit"),
            _ => None,
        }
    }
}

/// A string, or `None` after stepping over a value of another kind.
#[inline(always)]
fn word<'a>(scanner: &mut Scanner<'a>) -> Scan<Option<RawText<'a>>> {
    if scanner.peek() == Some(b'"') { scanner.text().map(Some) } else { scanner.skip().map(|_| None) }
}

/// An integer, or `None` after stepping over a value of another kind.
#[inline(always)]
pub(crate) fn integer(scanner: &mut Scanner<'_>) -> Scan<Option<i64>> {
    let start = scanner.clone();
    if let Ok(value) = scanner.integer() {
        return Ok(Some(value));
    }
    *scanner = start;
    scanner.skip().map(|_| None)
}

fn stamps(scanner: &mut Scanner<'_>) -> Scan<Stamps> {
    let mut stamps = Stamps::default();
    if scanner.peek() != Some(b'{') {
        scanner.skip()?;
        return Ok(stamps);
    }
    scanner.take(b'{');
    let mut first = true;
    while let Some(key) = scanner.key(&mut first)? {
        match key.bytes {
            b"venue" => stamps.venue = integer(scanner)?,
            b"recv" => stamps.recv = integer(scanner)?,
            b"norm" => stamps.norm = integer(scanner)?,
            _ => drop(scanner.skip()?),
        }
    }
    Ok(stamps)
}
