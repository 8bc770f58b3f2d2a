//! A frozen look at a book: what a script reads while the store goes on.

use std::sync::Arc;

use crate::book::Book;
use crate::encode::put_legs;
use crate::fixed::Price;
use crate::leg::BookState;
use crate::levels::{LegIndex, Levels, PlatformSizes, Side};
use crate::mirror::Mirror;

/// One level of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewLevel {
    /// Price in the view's coordinates.
    pub price: Price,
    /// Size per leg.
    pub sizes: PlatformSizes,
}

/// A book at one moment; sides best first.
#[derive(Debug, Clone)]
pub struct View {
    /// Book id of the view, YES or NO.
    pub id: Arc<str>,
    /// Of the book.
    pub epoch: i64,
    /// Of the book.
    pub seq: i64,
    /// Of the book (in YES coordinates, also for a NO view).
    pub digest: u32,
    /// Of the book.
    pub state: BookState,
    /// Of the book.
    pub crossed: bool,
    /// Names of the legs by index.
    pub names: Arc<[Box<str>]>,
    /// The legs as on the wire, JSON text.
    pub legs_json: Arc<[u8]>,
    /// Best first.
    pub bids: Arc<[ViewLevel]>,
    /// Best first.
    pub asks: Arc<[ViewLevel]>,
}

fn other_id(id: &str) -> Arc<str> {
    match (id.strip_suffix(".yes"), id.strip_suffix(".no")) {
        (Some(head), _) => format!("{head}.no").into(),
        (_, Some(head)) => format!("{head}.yes").into(),
        _ => id.into(),
    }
}

fn copy(levels: &Levels, side: Side) -> Arc<[ViewLevel]> {
    levels.best_first(side).map(|(price, sizes)| ViewLevel { price, sizes: sizes.clone() }).collect()
}

fn turn(levels: &[ViewLevel]) -> Arc<[ViewLevel]> {
    levels
        .iter()
        .map(|level| ViewLevel { price: level.price.complement(), sizes: level.sizes.clone() })
        .collect()
}

impl View {
    /// A look at a store's book.
    #[must_use]
    pub fn of_book(book: &Book, no: bool, now_us: i64) -> Self {
        let mut legs = Vec::new();
        put_legs(&mut legs, &book.legs, now_us);
        let view = Self {
            id: Arc::clone(&book.id),
            epoch: book.epoch,
            seq: book.seq,
            digest: book.levels.digest(),
            state: book.state,
            crossed: book.levels.crossed(),
            names: book.legs.iter().map(|leg| (*leg.name).into()).collect(),
            legs_json: legs.into(),
            bids: copy(&book.levels, Side::Bid),
            asks: copy(&book.levels, Side::Ask),
        };
        if no { view.other() } else { view }
    }

    /// A look at a mirror, in the coordinates of its stream.
    #[must_use]
    pub fn of_mirror(mirror: &Mirror) -> Self {
        let levels = mirror.levels();
        let names = (0..=LegIndex::MAX).map(|leg| mirror.name(leg)).take_while(|name| !name.is_empty());
        let view = Self {
            id: mirror.id().into(),
            epoch: mirror.epoch,
            seq: mirror.seq,
            digest: mirror.digest,
            state: mirror.state,
            crossed: mirror.crossed,
            names: names.map(Into::into).collect(),
            legs_json: mirror.legs_json().into(),
            bids: copy(levels, Side::Bid),
            asks: copy(levels, Side::Ask),
        };
        if mirror.is_no() { Self { id: mirror.id().into(), ..view.other() } } else { view }
    }

    /// A look at bare levels.
    #[must_use]
    pub fn of_levels(id: &str, seq: i64, levels: &Levels, names: &[Box<str>], legs_json: &[u8]) -> Self {
        Self {
            id: id.into(),
            epoch: 0,
            seq,
            digest: levels.digest(),
            state: if names.is_empty() { BookState::Down } else { BookState::Live },
            crossed: levels.crossed(),
            names: names.into(),
            legs_json: legs_json.into(),
            bids: copy(levels, Side::Bid),
            asks: copy(levels, Side::Ask),
        }
    }

    /// The other outcome's view: price' = 1 − price, sides swapped. Of the other it is this one again.
    #[must_use]
    pub fn other(&self) -> Self {
        Self { id: other_id(&self.id), bids: turn(&self.asks), asks: turn(&self.bids), ..self.clone() }
    }

    /// Only the best `n` levels of each side.
    #[must_use]
    pub fn depth(&self, n: usize) -> Self {
        let first = |levels: &[ViewLevel]| levels.iter().take(n).cloned().collect();
        Self { bids: first(&self.bids), asks: first(&self.asks), ..self.clone() }
    }

    /// One side, best first.
    #[must_use]
    pub fn side(&self, side: Side) -> &[ViewLevel] {
        match side {
            Side::Bid => &self.bids,
            Side::Ask => &self.asks,
        }
    }

    /// What taking `size` (millionths) from one side comes to: the sum of price times size in 10^-12, and
    /// how much is there.
    #[must_use]
    pub fn cost(&self, side: Side, size: i64) -> (i128, i64) {
        let (mut paid, mut left) = (0i128, size.max(0));
        for level in self.side(side) {
            let taken = level.sizes.total().min(left);
            paid += i128::from(level.price.micro()) * i128::from(taken);
            left -= taken;
            if left == 0 {
                break;
            }
        }
        (paid, size.max(0) - left)
    }
}
