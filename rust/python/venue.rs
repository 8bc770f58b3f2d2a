//! `VenueBook`: one asset's own book, for the adapters.

use parking_lot::Mutex;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyDict, PyList, PyTuple};

use super::convert::side as read_side;
use crate::error::guarded;
use crate::fixed::{self, Price, Size};
use crate::levels::Side;
use crate::venue_book::{VenueBook, VenueLevel};
use crate::venue_hash::{BookFacts, polymarket_hash};

type Pair = (PyBackedStr, PyBackedStr);
type Texts = Vec<(String, String)>;

/// One asset's own book, with the venue's exact text.
#[pyclass(frozen, name = "VenueBook", module = "wup._core")]
pub(super) struct PyVenueBook {
    /// The book, and the buffer in which its hash text is built.
    book: Mutex<(VenueBook, Vec<u8>)>,
}

impl PyVenueBook {
    /// Something done with the book as it stands.
    pub(super) fn with<T>(&self, act: impl FnOnce(&VenueBook) -> T) -> T {
        act(&self.book.lock().0)
    }
}

impl From<VenueBook> for PyVenueBook {
    fn from(book: VenueBook) -> Self {
        Self { book: Mutex::new((book, Vec::new())) }
    }
}

/// Reads levels as venues send them: pairs, lists of two, or `{"price": ..., "size": ...}`.
fn pairs(levels: &Bound<'_, PyAny>) -> PyResult<Vec<Pair>> {
    let mut out = Vec::with_capacity(levels.len().unwrap_or(0));
    for level in levels.try_iter()? {
        let level = level?;
        let pair = if let Ok(level) = level.cast::<PyTuple>() {
            (level.get_item(0)?.extract()?, level.get_item(1)?.extract()?)
        } else if let Ok(level) = level.cast::<PyList>() {
            (level.get_item(0)?.extract()?, level.get_item(1)?.extract()?)
        } else if let Ok(level) = level.cast::<PyDict>() {
            (level.as_any().get_item("price")?.extract()?, level.as_any().get_item("size")?.extract()?)
        } else {
            return Err(PyTypeError::new_err("a level is a pair or a dict with price and size"));
        };
        out.push(pair);
    }
    Ok(out)
}

fn texts(levels: &[Pair]) -> impl Iterator<Item = (&str, &str)> {
    levels.iter().map(|(price, size)| (&**price, &**size))
}

fn text(price: Price, size: Size) -> (String, String) {
    (fixed::format(price.micro()), fixed::format(size.micro()))
}

#[pymethods]
impl PyVenueBook {
    #[new]
    fn new() -> Self {
        Self { book: Mutex::default() }
    }

    /// Replaces both sides, or neither when a number does not fit.
    fn replace(&self, bids: &Bound<'_, PyAny>, asks: &Bound<'_, PyAny>) -> PyResult<()> {
        let (bids, asks) = (pairs(bids)?, pairs(asks)?);
        Ok(guarded(|| self.book.lock().0.replace(texts(&bids), texts(&asks)))?)
    }

    /// Sets a level's size, "0" removes it; returns whether the size changed.
    fn set(&self, side: &str, price: &str, size: &str) -> PyResult<bool> {
        let side = read_side(side)?;
        Ok(guarded(|| self.book.lock().0.set(side, price, size))?)
    }

    /// Sets many levels, or none when a number does not fit; returns what changed as (bids, asks), and
    /// whether the best prices are then those that were reported: None when nothing usable was reported.
    #[pyo3(signature = (changes, best_bid, best_ask))]
    fn change(
        &self,
        changes: Vec<(PyBackedStr, PyBackedStr, PyBackedStr)>,
        best_bid: Option<&str>,
        best_ask: Option<&str>,
    ) -> PyResult<(Texts, Texts, Option<bool>)> {
        let changes: Vec<(Side, PyBackedStr, PyBackedStr)> = changes
            .into_iter()
            .map(|(side, price, size)| read_side(&side).map(|side| (side, price, size)))
            .collect::<PyResult<_>>()?;
        let [bids, asks] = guarded(|| {
            VenueBook::check(changes.iter().map(|(_, price, size)| (&**price, &**size)))?;
            let mut changed = <[Texts; 2]>::default();
            let mut book = self.book.lock();
            for (side, price, size) in &changes {
                if book.0.set(*side, price, size)? {
                    let canonical = |text: &str| fixed::parse(text).map(fixed::format);
                    let pair = (canonical(price)?, canonical(size)?);
                    let list = &mut changed[*side as usize];
                    // Of a repeated price only the last size is told.
                    list.retain(|(known, _)| *known != pair.0);
                    list.push(pair);
                }
            }
            Ok(changed)
        })?;
        let top = match (best_bid, best_ask) {
            (Some(bid), Some(ask)) => self.book.lock().0.top_is(Some(bid), Some(ask)).ok(),
            _ => None,
        };
        Ok((bids, asks, top))
    }

    /// Adds an increment to a level; returns the level's new size, and whether the book is crossed then.
    fn add(&self, side: &str, price: &str, delta: &str) -> PyResult<(String, bool)> {
        let side = read_side(side)?;
        Ok(guarded(|| {
            let book = &mut self.book.lock().0;
            let size = book.add(side, price, delta)?;
            Ok((fixed::format(size.micro()), book.crossed()))
        })?)
    }

    /// Forgets everything.
    fn clear(&self) {
        self.book.lock().0.clear();
    }

    /// Best price of a side.
    fn best(&self, side: &str) -> PyResult<Option<String>> {
        let side = read_side(side)?;
        let best = self.book.lock().0.best(side);
        Ok(best.map(|price| fixed::format(price.micro())))
    }

    /// Size at a price, "0" when there is none.
    fn size(&self, side: &str, price: &str) -> PyResult<String> {
        let side = read_side(side)?;
        let book = self.book.lock();
        let level = Price::parse(price.as_bytes()).and_then(|price| book.0.side(side).get(&price));
        Ok(fixed::format(level.map_or(0, |level| level.size.micro())))
    }

    /// Whether the best prices are those that the venue reports; None, "", "0" and "1" mean an empty side.
    #[pyo3(signature = (bid, ask))]
    fn top_is(&self, bid: Option<&str>, ask: Option<&str>) -> PyResult<bool> {
        Ok(guarded(|| self.book.lock().0.top_is(bid, ask))?)
    }

    /// Best bid above best ask.
    fn crossed(&self) -> bool {
        self.book.lock().0.crossed()
    }

    /// Both sides best first, numbers in shortest exact form.
    fn levels(&self) -> (Texts, Texts) {
        let book = self.book.lock();
        let side = |side: Side| book.0.side(side).iter().map(|(price, level)| text(*price, level.size));
        (side(Side::Bid).rev().collect(), side(Side::Ask).collect())
    }

    /// Both sides best first, numbers as the venue wrote them.
    fn texts(&self) -> (Texts, Texts) {
        let book = self.book.lock();
        let side = |side: Side| book.0.side(side).values().map(VenueLevel::texts);
        (side(Side::Bid).rev().collect(), side(Side::Ask).collect())
    }

    /// Polymarket's book hash; without `last_trade_price` the nine-field form used until late 2025.
    #[expect(clippy::too_many_arguments, reason = "the venue's own fields")]
    #[pyo3(signature = (market, asset_id, timestamp, min_order_size, tick_size, neg_risk, last_trade_price))]
    fn polymarket_hash(
        &self,
        market: &str,
        asset_id: &str,
        timestamp: &str,
        min_order_size: &str,
        tick_size: &str,
        neg_risk: bool,
        last_trade_price: Option<&str>,
    ) -> String {
        let facts =
            BookFacts { market, asset_id, timestamp, min_order_size, tick_size, neg_risk, last_trade_price };
        let (book, buffer) = &mut *self.book.lock();
        polymarket_hash(book, &facts, buffer)
    }

    fn __len__(&self) -> usize {
        let book = self.book.lock();
        Side::BOTH.iter().map(|side| book.0.side(*side).len()).sum()
    }

    fn __repr__(&self) -> String {
        let book = self.book.lock();
        format!("VenueBook(bids={}, asks={})", book.0.side(Side::Bid).len(), book.0.side(Side::Ask).len())
    }
}
