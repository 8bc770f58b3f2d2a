//! The two sides of one consolidated book: at each price the size of each leg.
//!
//! Everything is in YES coordinates. The digest is kept up with every cell that changes, so reading it costs
//! nothing.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use crate::digest;
use crate::fixed::{Price, Size};

/// A side of the book; the numbers are those of the digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// Who wants to buy.
    Bid = 0,
    /// Who wants to sell.
    Ask = 1,
}

impl Side {
    /// Both sides, bids first as on the wire.
    pub const BOTH: [Self; 2] = [Self::Bid, Self::Ask];

    /// The other side.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Bid => Self::Ask,
            Self::Ask => Self::Bid,
        }
    }

    /// Reads `bid` or `ask`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "bid" => Some(Self::Bid),
            "ask" => Some(Self::Ask),
            _ => None,
        }
    }
}

/// Place of a leg in its book's list of legs.
pub type LegIndex = u8;

/// One leg's size at one level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// Whose size.
    pub leg: LegIndex,
    /// How much; never zero inside a book.
    pub size: Size,
}

/// The size per leg at one price, in the order of the legs. Two legs are the common case and need no heap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlatformSizes(SmallVec<[Cell; 2]>);

impl PlatformSizes {
    /// Sum over the legs, in millionths.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.0.iter().map(|cell| cell.size.micro()).sum()
    }

    /// What one leg shows here.
    #[must_use]
    pub fn get(&self, leg: LegIndex) -> Size {
        self.0.iter().find(|cell| cell.leg == leg).map_or(Size::ZERO, |cell| cell.size)
    }

    /// The legs that show something here.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Cell> {
        self.0.iter()
    }

    /// Sets one leg's size and returns the one before.
    fn set(&mut self, leg: LegIndex, size: Size) -> Size {
        match self.0.iter().position(|cell| cell.leg >= leg) {
            Some(place) if self.0[place].leg == leg => {
                let before = self.0[place].size;
                if size == Size::ZERO {
                    self.0.remove(place);
                } else {
                    self.0[place].size = size;
                }
                before
            }
            _ if size == Size::ZERO => Size::ZERO,
            Some(place) => {
                self.0.insert(place, Cell { leg, size });
                Size::ZERO
            }
            None => {
                self.0.push(Cell { leg, size });
                Size::ZERO
            }
        }
    }
}

/// One side: price to sizes.
pub type Ladder = BTreeMap<Price, PlatformSizes>;

/// Both sides and their digest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Levels {
    sides: [Ladder; 2],
    digest: u32,
}

impl Levels {
    /// One side, ascending by price.
    #[must_use]
    pub fn side(&self, side: Side) -> &Ladder {
        &self.sides[side as usize]
    }

    /// Digest over every cell (wire.md section 3); 0 when empty.
    #[must_use]
    pub fn digest(&self) -> u32 {
        self.digest
    }

    /// True when neither side shows anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sides.iter().all(BTreeMap::is_empty)
    }

    /// Best level of a side: the highest bid, the lowest ask.
    #[must_use]
    pub fn best(&self, side: Side) -> Option<(Price, &PlatformSizes)> {
        let ladder = self.side(side);
        let entry = match side {
            Side::Bid => ladder.last_key_value(),
            Side::Ask => ladder.first_key_value(),
        };
        entry.map(|(price, sizes)| (*price, sizes))
    }

    /// Both sides present and the best bid above the best ask: information, never repaired.
    #[must_use]
    pub fn crossed(&self) -> bool {
        match (self.best(Side::Bid), self.best(Side::Ask)) {
            (Some((bid, _)), Some((ask, _))) => bid > ask,
            _ => false,
        }
    }

    /// Levels of a side, best first.
    pub fn best_first(&self, side: Side) -> Box<dyn Iterator<Item = (Price, &PlatformSizes)> + '_> {
        let pairs = self.side(side).iter().map(|(price, sizes)| (*price, sizes));
        match side {
            Side::Bid => Box::new(pairs.rev()),
            Side::Ask => Box::new(pairs),
        }
    }

    /// Sets what one leg shows at a price; returns whether anything changed.
    pub fn set(&mut self, side: Side, price: Price, leg: LegIndex, salt: u32, size: Size) -> bool {
        let ladder = &mut self.sides[side as usize];
        let before = if size == Size::ZERO {
            let Some(sizes) = ladder.get_mut(&price) else { return false };
            let before = sizes.set(leg, size);
            if sizes.0.is_empty() {
                ladder.remove(&price);
            }
            before
        } else {
            ladder.entry(price).or_default().set(leg, size)
        };
        if before == size {
            return false;
        }
        let old = digest::cell(salt, side, price.micro(), before.micro());
        let new = digest::cell(salt, side, price.micro(), size.micro());
        self.digest = self.digest.wrapping_sub(old).wrapping_add(new);
        true
    }

    /// Replaces a whole level by its cells; `salts` is indexed by leg.
    pub fn replace_level(
        &mut self,
        side: Side,
        price: Price,
        cells: &[Cell],
        salts: impl Fn(LegIndex) -> u32,
    ) {
        let ladder = &mut self.sides[side as usize];
        let hash = |cell: &Cell| digest::cell(salts(cell.leg), side, price.micro(), cell.size.micro());
        let mut digest = self.digest;
        if cells.is_empty() {
            if let Some(old) = ladder.remove(&price) {
                for cell in old.iter() {
                    digest = digest.wrapping_sub(hash(cell));
                }
            }
        } else {
            let sizes = ladder.entry(price).or_default();
            for cell in sizes.iter() {
                digest = digest.wrapping_sub(hash(cell));
            }
            sizes.0.clear();
            for cell in cells {
                digest = digest.wrapping_add(hash(cell));
                sizes.set(cell.leg, cell.size);
            }
        }
        self.digest = digest;
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// What one leg shows on one side, ascending by price.
    pub fn of_leg(&self, side: Side, leg: LegIndex) -> impl Iterator<Item = (Price, Size)> + '_ {
        self.side(side).iter().filter_map(move |(price, sizes)| {
            let size = sizes.get(leg);
            (size != Size::ZERO).then_some((*price, size))
        })
    }

    /// The digest computed anew over the best `depth` levels of each side, or over all.
    #[must_use]
    pub fn digest_of(&self, depth: Option<usize>, salts: impl Fn(LegIndex) -> u32) -> u32 {
        let mut sum = 0u32;
        for side in Side::BOTH {
            for (price, sizes) in self.best_first(side).take(depth.unwrap_or(usize::MAX)) {
                for cell in sizes.iter() {
                    sum = sum.wrapping_add(digest::cell(
                        salts(cell.leg),
                        side,
                        price.micro(),
                        cell.size.micro(),
                    ));
                }
            }
        }
        sum
    }
}
