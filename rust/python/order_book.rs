//! `OrderBook`: a book in three lines, for scripts.

use parking_lot::Mutex;
use pyo3::prelude::*;

use super::book::PyBook;
use super::convert::{micro, side as read_side};
use crate::error::{Error, guarded};
use crate::fixed::{Price, Size};
use crate::scratch_book::ScratchBook;

/// A plain book: set levels per leg, look at the result.
#[pyclass(frozen, name = "OrderBook", module = "wup._core")]
pub(super) struct PyOrderBook {
    book: Mutex<ScratchBook>,
}

#[pymethods]
impl PyOrderBook {
    #[new]
    #[pyo3(signature = (name = "book"))]
    fn new(name: &str) -> Self {
        Self { book: Mutex::new(ScratchBook::new(name)) }
    }

    /// Sets what a leg shows at a price; 0 removes it.
    #[pyo3(signature = (side, price, size, leg = "me"))]
    fn set(&self, side: &str, price: &Bound<'_, PyAny>, size: &Bound<'_, PyAny>, leg: &str) -> PyResult<()> {
        let side = read_side(side)?;
        let fits = |what: &str| Error::Number(format!("{what} is out of bounds"));
        let price = Price::new(micro(price)?).ok_or_else(|| fits("price"))?;
        let size = Size::new(micro(size)?).ok_or_else(|| fits("size"))?;
        Ok(guarded(|| self.book.lock().set(side, price, size, leg))?)
    }

    /// Forgets everything.
    fn clear(&self) {
        self.book.lock().clear();
    }

    /// A frozen look at the book.
    fn view(&self) -> PyBook {
        PyBook::new(self.book.lock().view())
    }

    fn __repr__(&self) -> String {
        crate::render::text(&self.book.lock().view())
    }

    fn _repr_html_(&self) -> String {
        crate::render::html(&self.book.lock().view())
    }
}
