//! Functions of the module.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::{Error, guarded};
use crate::fixed::{self, Price, Size};
use crate::json_text::write_text;
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

/// A frame as a line of a recording; `None` when it is no UTF-8. `head` stands between the time and the count.
#[pyfunction]
pub(super) fn recorded_frame<'py>(
    py: Python<'py>,
    head: &[u8],
    rx_us: i64,
    n: i64,
    payload: &[u8],
) -> Option<Bound<'py, PyBytes>> {
    let text = std::str::from_utf8(payload).ok()?;
    let mut line = Vec::with_capacity(head.len() + payload.len() + payload.len() / 4 + 80);
    line.extend_from_slice(b"{\"rx_us\":");
    line.extend_from_slice(rx_us.to_string().as_bytes());
    line.extend_from_slice(head);
    line.extend_from_slice(n.to_string().as_bytes());
    line.extend_from_slice(b",\"raw\":");
    write_text(&mut line, text);
    line.extend_from_slice(b"}\n");
    Some(PyBytes::new(py, &line))
}

/// The NO view of a YES message, or the YES view of a NO message.
#[pyfunction]
pub(super) fn mirror_message<'py>(py: Python<'py>, message: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(py, &guarded(|| no_view::mirror_message(message))?))
}
