//! Functions of the module.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::{Error, guarded};
use crate::fixed::{self, Price, Size};
use crate::pattern::Pattern;
use crate::{complement as no_view, digest, keys};

/// Reads decimal text as an integer of millionths; a minus sign is read too.
#[pyfunction]
pub(super) fn parse_micro(text: &str) -> PyResult<i64> {
    Ok(fixed::parse(text)?)
}

/// The shortest exact text of an integer of millionths.
#[pyfunction]
pub(super) fn format_micro(value: i64) -> String {
    fixed::format(value)
}

fn price_of(text: &str) -> Result<Price, Error> {
    Price::parse(text.as_bytes()).ok_or_else(|| Error::Number(format!("price {text:?}")))
}

/// The opposite outcome's price, 1 - p.
#[pyfunction]
pub(super) fn complement(price: &str) -> PyResult<String> {
    Ok(fixed::format(price_of(price)?.complement().micro()))
}

/// FNV-1a 32 bit over a leg's name.
#[pyfunction]
pub(super) fn salt(leg: &str) -> u32 {
    digest::salt(leg)
}

/// Hash of one cell of the digest.
#[pyfunction]
pub(super) fn cell_hash(leg: &str, side: &str, price: &str, size: &str) -> PyResult<u32> {
    let side = super::convert::side(side)?;
    let size_read = Size::parse(size.as_bytes()).ok_or_else(|| Error::Number(format!("size {size:?}")))?;
    Ok(digest::cell(digest::salt(leg), side, price_of(price)?.micro(), size_read.micro()))
}

/// First 16 hex digits of SHA-256 over the canonical market key.
#[pyfunction]
pub(super) fn market_hash(key: &str) -> String {
    keys::market_hash(key)
}

/// Aggregate id of an event without mapping.
#[pyfunction]
pub(super) fn unmapped_aggregate(platform: &str, slug: &str) -> String {
    keys::unmapped_aggregate(platform, slug)
}

/// Whether a book id matches a pattern; raises ParseError for what is no pattern.
#[pyfunction]
pub(super) fn matches(pattern: &str, book: &str) -> PyResult<bool> {
    Ok(Pattern::parse(pattern)?.matches(book))
}

/// The NO view of a YES message, or the YES view of a NO message.
#[pyfunction]
pub(super) fn mirror_message<'py>(py: Python<'py>, message: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(py, &guarded(|| no_view::mirror_message(message))?))
}
