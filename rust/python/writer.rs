//! `Writer`: one asset's normalised messages as bytes.

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::PyBytes;

use super::venue::PyVenueBook;
use crate::normalised::Stamps;
use crate::writer::Writer;

/// Writes the normalised messages of one asset.
#[pyclass(frozen, name = "Writer", module = "wup._core")]
pub(super) struct PyWriter {
    writer: Writer,
}

#[pymethods]
impl PyWriter {
    #[new]
    fn new(platform: &str, market_id: &str, asset_id: &str, epoch: i64) -> Self {
        Self { writer: Writer::new(platform, market_id, asset_id, epoch) }
    }

    /// A `snapshot` of a whole book.
    fn snapshot<'py>(
        &self,
        py: Python<'py>,
        n: i64,
        book: &PyVenueBook,
        venue_us: Option<i64>,
        recv_us: Option<i64>,
        norm_us: Option<i64>,
    ) -> Bound<'py, PyBytes> {
        let stamps = Stamps { venue: venue_us, recv: recv_us, norm: norm_us };
        PyBytes::new(py, &book.with(|book| self.writer.snapshot(n, book, stamps)))
    }

    /// An `update` of levels, given in shortest exact text.
    #[expect(clippy::too_many_arguments, reason = "the message's own fields")]
    fn update<'py>(
        &self,
        py: Python<'py>,
        n: i64,
        bids: Vec<(PyBackedStr, PyBackedStr)>,
        asks: Vec<(PyBackedStr, PyBackedStr)>,
        venue_us: Option<i64>,
        recv_us: Option<i64>,
        norm_us: Option<i64>,
    ) -> Bound<'py, PyBytes> {
        let stamps = Stamps { venue: venue_us, recv: recv_us, norm: norm_us };
        PyBytes::new(py, &self.writer.update(n, &bids, &asks, stamps))
    }
}
