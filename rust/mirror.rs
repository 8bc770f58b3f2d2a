//! A client's copy of one book that can tell whether it is exact (wire.md, "What a client does to be exact").
//!
//! The one implementation of those rules: the gateway's mirror, `wup watch` and the client library use it. It
//! reads full YES streams, NO views (mirrored back before the digest is checked) and streams with a depth or
//! an interval.

use crate::digest;
use crate::encode::{self, Head, SnapshotParts};
use crate::error::Result;
use crate::fixed::{Price, Size};
use crate::keys::yes_id;
use crate::leg::BookState;
use crate::levels::{Cell, LegIndex, Levels, Side};
use crate::normalised::integer;
use crate::scan::{Malformed, Scan, Scanner};
use smallvec::SmallVec;

/// What a message did to the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Applied, and the digest proves the copy exact.
    Exact,
    /// A message is missing: ask for a resync.
    Gap,
    /// The content contradicts its digest: ask for a resync.
    Broken,
    /// A repeat, older, for another book, or nothing can be checked before the next snapshot.
    Ignored,
}

impl Verdict {
    /// The word that Python sees.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Gap => "gap",
            Self::Broken => "broken",
            Self::Ignored => "ignored",
        }
    }
}

/// The fields of a consolidated message; levels and legs stay raw until they are needed.
#[derive(Debug, Default)]
struct Incoming<'a> {
    kind: &'a [u8],
    book: Option<std::borrow::Cow<'a, str>>,
    epoch: Option<i64>,
    prev: Option<i64>,
    seq: Option<i64>,
    digest: Option<u32>,
    state: Option<BookState>,
    crossed: Option<bool>,
    by: Option<&'a [u8]>,
    depth: Option<usize>,
    has_options: bool,
    raw: RawParts<&'a [u8]>,
    bids: Option<&'a [u8]>,
    asks: Option<&'a [u8]>,
}

/// JSON text that a snapshot of the copy repeats.
#[derive(Debug, Clone, Default)]
struct RawParts<T> {
    mapping: Option<T>,
    title: Option<T>,
    label: Option<T>,
    result: Option<T>,
    legs: Option<T>,
}

impl<'a> Incoming<'a> {
    fn read(message: &'a [u8]) -> Scan<Self> {
        let mut scanner = Scanner::new(message);
        let mut read = Self::default();
        scanner.expect(b'{', "object expected")?;
        let mut first = true;
        while let Some(key) = scanner.key(&mut first)? {
            match key.bytes {
                b"type" => read.kind = text(scanner.skip()?),
                b"book" => {
                    let raw = scanner.skip()?;
                    read.book = Scanner::new(raw).text().ok().and_then(|book| book.text());
                }
                b"epoch" => read.epoch = integer(&mut scanner)?,
                b"prev" => read.prev = integer(&mut scanner)?,
                b"seq" => read.seq = integer(&mut scanner)?,
                b"digest" => {
                    read.digest = integer(&mut scanner)?.and_then(|digest| u32::try_from(digest).ok())
                }
                b"state" => read.state = BookState::parse(text(scanner.skip()?)),
                b"crossed" => read.crossed = Scanner::new(scanner.skip()?).boolean().ok(),
                b"by" => read.by = Some(text(scanner.skip()?)),
                b"depth" => {
                    read.depth = integer(&mut scanner)?.and_then(|depth| usize::try_from(depth).ok());
                    read.has_options |= read.depth.is_some();
                }
                b"every_ms" => read.has_options |= integer(&mut scanner)?.is_some(),
                b"mapping" => read.raw.mapping = Some(scanner.skip()?),
                b"title" => read.raw.title = Some(scanner.skip()?),
                b"label" => read.raw.label = Some(scanner.skip()?),
                b"result" => read.raw.result = Some(scanner.skip()?),
                b"legs" => read.raw.legs = Some(scanner.skip()?),
                b"bids" => read.bids = Some(scanner.skip()?),
                b"asks" => read.asks = Some(scanner.skip()?),
                _ => drop(scanner.skip()?),
            }
        }
        scanner.end()?;
        Ok(read)
    }
}

/// The bytes inside a JSON string that needs no unescaping, or nothing.
fn text(raw: &[u8]) -> &[u8] {
    raw.strip_prefix(b"\"").and_then(|raw| raw.strip_suffix(b"\"")).unwrap_or_default()
}

#[derive(Debug, Clone)]
struct Name {
    name: Box<str>,
    salt: u32,
}

/// A verifying copy of one book. It adopts the book of the first snapshot that it sees.
#[derive(Debug, Clone)]
pub struct Mirror {
    id: String,
    yes_id: String,
    no: bool,
    /// Of the last message applied.
    pub epoch: i64,
    /// Of the last message applied.
    pub seq: i64,
    /// Of the last message applied.
    pub digest: u32,
    /// Whether the copy equals the server's book at (epoch, seq).
    pub exact: bool,
    /// As last said.
    pub state: BookState,
    /// As last said.
    pub crossed: bool,
    levels: Levels,
    names: Vec<Name>,
    raw: RawParts<Box<[u8]>>,
}

impl Default for Mirror {
    fn default() -> Self {
        Self {
            id: String::new(),
            yes_id: String::new(),
            no: false,
            epoch: 0,
            seq: 0,
            digest: 0,
            exact: false,
            state: BookState::Down,
            crossed: false,
            levels: Levels::default(),
            names: Vec::new(),
            raw: RawParts::default(),
        }
    }
}

impl Mirror {
    /// Id of the book as its stream names it; empty before the first snapshot.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether the stream is a NO view.
    #[must_use]
    pub fn is_no(&self) -> bool {
        self.no
    }

    /// What the copy holds, in YES coordinates.
    #[must_use]
    pub fn levels(&self) -> &Levels {
        &self.levels
    }

    /// Name of a leg in the levels.
    #[must_use]
    pub fn name(&self, leg: LegIndex) -> &str {
        self.names.get(usize::from(leg)).map_or("", |name| &name.name)
    }

    /// The legs as last said, JSON text.
    #[must_use]
    pub fn legs_json(&self) -> &[u8] {
        self.raw.legs.as_deref().unwrap_or(b"{}")
    }

    /// Something outside the stream is in doubt: not exact until the next snapshot.
    pub fn doubt(&mut self) {
        self.exact = false;
    }

    /// Applies one message of any kind; unknown kinds and other books are ignored.
    ///
    /// # Errors
    /// [`crate::error::Error::Parse`] for text that is no message, after which the copy is not exact.
    pub fn apply(&mut self, message: &[u8]) -> Result<Verdict> {
        let verdict = Incoming::read(message).and_then(|read| self.take(&read));
        if !matches!(verdict, Ok(Verdict::Exact | Verdict::Ignored)) {
            self.exact = false;
        }
        Ok(verdict?)
    }

    fn take(&mut self, read: &Incoming<'_>) -> Scan<Verdict> {
        let kind = match read.kind {
            b"snapshot" | b"delta" | b"status" => read.kind,
            _ => return Ok(Verdict::Ignored),
        };
        let missing = |what| Malformed { what, at: 0 };
        let book = read.book.as_deref().ok_or(missing("book is missing"))?;
        if !self.id.is_empty() && book != self.id {
            return Ok(Verdict::Ignored);
        }
        if read.by == Some(b"gateway") {
            self.exact = false;
            self.state = read.state.unwrap_or(BookState::Down);
            return Ok(Verdict::Ignored);
        }
        let epoch = read.epoch.ok_or(missing("epoch is missing"))?;
        let seq = read.seq.ok_or(missing("seq is missing"))?;
        let digest = read.digest.ok_or(missing("digest is missing"))?;
        if kind == b"snapshot" {
            if self.exact && (epoch, seq) < (self.epoch, self.seq) {
                return Ok(Verdict::Ignored);
            }
            let (yes, no) = yes_id(book).map_err(|_| missing("book is no book id"))?;
            (self.id, self.yes_id, self.no) = (book.to_owned(), yes.into_owned(), no);
            self.restart(read)?;
        } else {
            let prev = read.prev.ok_or(missing("prev is missing"))?;
            if !self.exact || epoch < self.epoch {
                return Ok(Verdict::Ignored);
            }
            let lost = if read.has_options { prev != self.seq } else { prev > self.seq };
            if epoch > self.epoch || lost {
                return Ok(Verdict::Gap);
            }
            if seq <= self.seq {
                return Ok(Verdict::Ignored);
            }
        }
        self.state = read.state.ok_or(missing("state is missing"))?;
        self.crossed = read.crossed.ok_or(missing("crossed is missing"))?;
        let consistent = self.take_sides(read)?;
        if let Some(legs) = read.raw.legs {
            self.raw.legs = Some(legs.into());
        }
        if let Some(result) = read.raw.result {
            self.raw.result = Some(result.into());
        }
        (self.epoch, self.seq, self.digest) = (epoch, seq, digest);
        if !consistent || self.levels.digest() != digest {
            return Ok(Verdict::Broken);
        }
        self.exact = true;
        Ok(Verdict::Exact)
    }

    /// Forgets everything that the snapshot says anew. Legs keep the order in which it lists them.
    fn restart(&mut self, read: &Incoming<'_>) -> Scan<()> {
        self.exact = false;
        self.levels.clear();
        self.names.clear();
        let own = |raw: Option<&[u8]>| raw.map(Into::into);
        self.raw = RawParts {
            mapping: own(read.raw.mapping),
            title: own(read.raw.title),
            label: own(read.raw.label),
            result: own(read.raw.result),
            legs: own(read.raw.legs),
        };
        let mut scanner = Scanner::new(read.raw.legs.unwrap_or(b"{}"));
        scanner.expect(b'{', "object of legs expected")?;
        let mut first = true;
        while let Some(leg) = scanner.key(&mut first)? {
            scanner.skip()?;
            if let Some(name) = leg.text() {
                self.leg(&name);
            }
        }
        Ok(())
    }

    /// Place of a leg by name, new names at the end; `None` when there are too many.
    fn leg(&mut self, name: &str) -> Option<LegIndex> {
        let place = self.names.iter().position(|known| &*known.name == name);
        let leg = LegIndex::try_from(place.unwrap_or(self.names.len())).ok()?;
        if place.is_none() {
            self.names.push(Name { name: name.into(), salt: digest::salt(name) });
        }
        Some(leg)
    }

    /// Applies the levels of a message; `false` when they contradict themselves.
    fn take_sides(&mut self, read: &Incoming<'_>) -> Scan<bool> {
        let mut consistent = true;
        for (shown, raw) in [(Side::Bid, read.bids), (Side::Ask, read.asks)] {
            let Some(raw) = raw else { continue };
            let mut scanner = Scanner::new(raw);
            scanner.expect(b'[', "list of levels expected")?;
            let mut first = true;
            while scanner.item(&mut first)? {
                consistent &= self.take_level(shown, &mut scanner)?;
            }
        }
        Ok(consistent)
    }

    /// Applies `["0.52","1200",{"kalshi":"500","polymarket":"700"}]`.
    fn take_level(&mut self, shown: Side, scanner: &mut Scanner<'_>) -> Scan<bool> {
        scanner.expect(b'[', "level expected")?;
        let price = Price::parse(scanner.text()?.bytes);
        scanner.expect(b',', "comma expected")?;
        let total = crate::fixed::parse_unsigned(scanner.text()?.bytes);
        scanner.expect(b',', "comma expected")?;
        scanner.expect(b'{', "sizes expected")?;
        let mut cells: SmallVec<[Cell; 4]> = SmallVec::new();
        let mut sum = Some(0i64);
        let mut first = true;
        while let Some(leg) = scanner.key(&mut first)? {
            let size = Size::parse(scanner.text()?.bytes).filter(|size| *size != Size::ZERO);
            let leg = leg.text().and_then(|name| self.leg(&name));
            sum = sum.and_then(|sum| sum.checked_add(size?.micro()));
            if let (Some(leg), Some(size)) = (leg, size) {
                cells.push(Cell { leg, size });
            } else {
                sum = None;
            }
        }
        let mut first = false;
        while scanner.item(&mut first)? {
            scanner.skip()?;
        }
        let repeated =
            cells.iter().enumerate().any(|(place, cell)| cells[..place].iter().any(|c| c.leg == cell.leg));
        let (Some(price), false) = (price, repeated) else { return Ok(false) };
        if total.is_none() || total != sum {
            return Ok(false);
        }
        let (side, price) = if self.no { (shown.other(), price.complement()) } else { (shown, price) };
        let names = &self.names;
        self.levels.replace_level(side, price, &cells, |leg| names[usize::from(leg)].salt);
        Ok(true)
    }

    /// The snapshot message of what the copy holds, byte for byte as the store would encode it.
    #[must_use]
    pub fn snapshot(&self, no: bool, depth: Option<usize>, why: &str, now_us: i64) -> Vec<u8> {
        let digest = match depth {
            Some(_) => self.levels.digest_of(depth, |leg| self.names[usize::from(leg)].salt),
            None => self.levels.digest(),
        };
        let parts = SnapshotParts {
            head: Head {
                kind: b"snapshot",
                yes_id: &self.yes_id,
                no,
                epoch: self.epoch,
                prev: None,
                seq: self.seq,
                digest,
                state: self.state,
                crossed: self.crossed,
            },
            depth,
            why,
            mapping: self.raw.mapping.as_deref(),
            title: self.raw.title.as_deref(),
            label: self.raw.label.as_deref(),
            result: self.raw.result.as_deref(),
            legs: self.legs_json(),
            now_us,
        };
        encode::snapshot(&parts, &self.levels, &|leg| self.name(leg))
    }
}
