//! `Book` and `Level`: a frozen look at a book; Decimals are made when they are read.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::convert::{self, decimal, micro};
use crate::levels::Side;
use crate::render;
use crate::view::{View, ViewLevel};

/// One level: its price, its total size, and the size per leg.
#[pyclass(frozen, name = "Level", module = "wup._core")]
pub(super) struct PyLevel {
    level: ViewLevel,
    names: Arc<[Box<str>]>,
}

#[pymethods]
impl PyLevel {
    #[getter]
    fn price<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        decimal(py, self.level.price.micro())
    }

    #[getter]
    fn size<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        decimal(py, self.level.sizes.total())
    }

    #[getter]
    fn by_leg<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let parts = PyDict::new(py);
        for cell in self.level.sizes.iter() {
            let name = self.names.get(usize::from(cell.leg)).map_or("", |name| name);
            parts.set_item(name, decimal(py, cell.size.micro())?)?;
        }
        Ok(parts)
    }

    fn __eq__(&self, other: &Self) -> bool {
        let parts = |level: &Self| {
            let name = |leg: u8| level.names.get(usize::from(leg)).cloned();
            let mut parts: Vec<_> =
                level.level.sizes.iter().map(|cell| (name(cell.leg), cell.size)).collect();
            parts.sort();
            parts
        };
        self.level.price == other.level.price && parts(self) == parts(other)
    }

    fn __repr__(&self) -> String {
        format!("Level({})", render::level(&self.level, &self.names))
    }
}

/// A book at one moment, in YES coordinates or as its NO view.
#[pyclass(frozen, name = "Book", module = "wup._core")]
pub(super) struct PyBook {
    view: View,
}

impl PyBook {
    pub(super) fn new(view: View) -> Self {
        Self { view }
    }

    fn level(&self, level: &ViewLevel) -> PyLevel {
        PyLevel { level: level.clone(), names: Arc::clone(&self.view.names) }
    }

    fn side<'py>(&self, py: Python<'py>, side: Side) -> PyResult<Bound<'py, PyList>> {
        let levels: Vec<_> = self.view.side(side).iter().map(|level| self.level(level)).collect();
        PyList::new(py, levels)
    }
}

#[pymethods]
impl PyBook {
    #[getter]
    fn id(&self) -> &str {
        &self.view.id
    }

    #[getter]
    fn epoch(&self) -> i64 {
        self.view.epoch
    }

    #[getter]
    fn seq(&self) -> i64 {
        self.view.seq
    }

    /// Digest in YES coordinates, the same for both views.
    #[getter]
    fn digest(&self) -> u32 {
        self.view.digest
    }

    #[getter]
    fn state(&self) -> &'static str {
        self.view.state.as_str()
    }

    #[getter]
    fn crossed(&self) -> bool {
        self.view.crossed
    }

    /// The legs as on the wire.
    #[getter]
    fn legs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.import("json")?.call_method1("loads", (&*self.view.legs_json,))
    }

    /// Bids, best first.
    #[getter]
    fn bids<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.side(py, Side::Bid)
    }

    /// Asks, best first.
    #[getter]
    fn asks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.side(py, Side::Ask)
    }

    #[getter]
    fn best_bid(&self) -> Option<PyLevel> {
        self.view.bids.first().map(|level| self.level(level))
    }

    #[getter]
    fn best_ask(&self) -> Option<PyLevel> {
        self.view.asks.first().map(|level| self.level(level))
    }

    /// Only the best n levels of each side.
    fn depth(&self, n: usize) -> Self {
        Self::new(self.view.depth(n))
    }

    /// What taking `size` from a side costs: (average price or None, how much of it is there).
    fn cost<'py>(
        &self,
        py: Python<'py>,
        side: &str,
        size: &Bound<'py, PyAny>,
    ) -> PyResult<(Option<Bound<'py, PyAny>>, Bound<'py, PyAny>)> {
        let (paid, there) = self.view.cost(convert::side(side)?, micro(size)?);
        let filled = decimal(py, there)?;
        if there == 0 {
            return Ok((None, filled));
        }
        // Both sums are exact; only the division may have to stop at the context's 28 digits.
        let average = filled
            .get_type()
            .call1((paid,))?
            .div(filled.get_type().call1((i128::from(there) * 1_000_000,))?)?;
        Ok((Some(average), filled))
    }

    /// The other outcome's view.
    fn no(&self) -> Self {
        Self::new(self.view.other())
    }

    fn __repr__(&self) -> String {
        render::text(&self.view)
    }

    fn _repr_html_(&self) -> String {
        render::html(&self.view)
    }
}
