//! Venue frames read natively: what they say as plain tuples, books as `VenueBook`.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use super::venue::PyVenueBook;
use crate::error::guarded;
use crate::fixed;
use crate::kalshi;
use crate::levels::Side;
use crate::polymarket::{self, Changes, Element, Item, Whole};

fn word(py: Python<'_>, side: Side) -> &Bound<'_, PyString> {
    match side {
        Side::Bid => intern!(py, "bid"),
        Side::Ask => intern!(py, "ask"),
    }
}

/// What a Kalshi `orderbook_delta` says: sid, seq, ticker, side, price, delta, venue's microseconds.
type KalshiDelta<'py> = (i64, i64, Bound<'py, PyString>, Bound<'py, PyString>, String, String, Option<i64>);

/// Reads Kalshi's hot frame in YES coordinates; None for any other frame and any unusual form.
#[pyfunction]
#[pyo3(signature = (frame, use_yes_price = false))]
pub(super) fn kalshi_delta<'py>(
    py: Python<'py>,
    frame: &[u8],
    use_yes_price: bool,
) -> PyResult<Option<KalshiDelta<'py>>> {
    let read = guarded(|| Ok(kalshi::Delta::read(frame, use_yes_price)))?;
    Ok(read.map(|delta| {
        let (price, size) = (fixed::format(delta.price.micro()), fixed::format(delta.delta));
        let side = word(py, delta.side).clone();
        (delta.sid, delta.seq, PyString::new(py, delta.ticker), side, price, size, delta.venue_us)
    }))
}

/// What a Kalshi `orderbook_snapshot` says: sid, seq, command id, ticker, venue's microseconds, book.
type KalshiSnapshot<'py> = (i64, i64, Option<i64>, Bound<'py, PyString>, Option<i64>, PyVenueBook);

/// Reads Kalshi's whole book in YES coordinates; None for any other frame and any unusual form.
#[pyfunction]
#[pyo3(signature = (frame, use_yes_price = false))]
pub(super) fn kalshi_snapshot<'py>(
    py: Python<'py>,
    frame: &[u8],
    use_yes_price: bool,
) -> PyResult<Option<KalshiSnapshot<'py>>> {
    let read = guarded(|| Ok(kalshi::Whole::read(frame, use_yes_price)))?;
    Ok(read.map(|whole| {
        let ticker = PyString::new(py, whole.ticker);
        (whole.sid, whole.seq, whole.id, ticker, whole.venue_us, PyVenueBook::from(whole.book))
    }))
}

/// Reads a frame of `price_change` and `book` objects; None when anything in it is something else.
///
/// `tokens` has the assets of interest: of any other asset a change that is alone in its frame gives
/// (asset, market, venue_us) only.
#[pyfunction]
#[pyo3(signature = (frame, tokens = None))]
pub(super) fn polymarket_frame<'py>(
    py: Python<'py>,
    frame: &[u8],
    tokens: Option<&Bound<'py, PyDict>>,
) -> PyResult<Option<Bound<'py, PyList>>> {
    let Some(items) = guarded(|| Ok(polymarket::read(frame)))? else { return Ok(None) };
    let found = PyList::empty(py);
    // A book earlier in the frame may be what makes an asset one of interest.
    let tokens = tokens.filter(|_| items.len() == 1);
    for item in items {
        match item {
            Item::Changes(changes) => put_changes(&found, &changes, tokens)?,
            Item::Whole(whole) => found.append(whole_of(py, whole)?)?,
        }
    }
    Ok(Some(found))
}

fn put_changes<'py>(
    found: &Bound<'py, PyList>,
    changes: &Changes<'_>,
    tokens: Option<&Bound<'py, PyDict>>,
) -> PyResult<()> {
    let py = found.py();
    let market = PyString::new(py, changes.market);
    let stamp = PyString::new(py, changes.timestamp);
    let elements = changes.elements.as_slice();
    for (place, element) in elements.iter().enumerate() {
        // One event per asset, where it is named first.
        let same = |other: &&Element<'_>| other.asset == element.asset;
        if elements[..place].iter().any(|other| same(&other)) {
            continue;
        }
        let asset = PyString::new(py, element.asset);
        if let Some(tokens) = tokens
            && !tokens.contains(&asset)?
        {
            found.append((asset, &market, changes.venue_us))?;
            continue;
        }
        let levels = PyList::empty(py);
        let mut last = element;
        for element in elements[place..].iter().filter(same) {
            levels.append((word(py, element.side), element.price, element.size))?;
            last = element;
        }
        let head = (asset, &market, &stamp, changes.venue_us);
        let (asset, market, stamp, venue_us) = head;
        found.append((asset, market, stamp, venue_us, levels, last.hash, last.best_bid, last.best_ask))?;
    }
    Ok(())
}

fn whole_of<'py>(py: Python<'py>, whole: Whole<'_>) -> PyResult<Bound<'py, PyTuple>> {
    let facts = PyDict::new(py);
    facts.set_item(intern!(py, "market"), whole.market)?;
    facts.set_item(intern!(py, "timestamp"), whole.timestamp)?;
    for (name, value) in whole.facts {
        facts.set_item(name, value)?;
    }
    if let Some(neg_risk) = whole.neg_risk {
        facts.set_item(intern!(py, "neg_risk"), neg_risk)?;
    }
    (whole.asset, facts, whole.venue_us, PyVenueBook::from(whole.book)).into_pyobject(py)
}
