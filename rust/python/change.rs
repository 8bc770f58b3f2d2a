//! `Change`: one encoded message on its way out.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::change::{Change, ChangeKind};

/// One outgoing message and what it is about.
#[pyclass(frozen, name = "Change", module = "wup._core")]
pub(super) struct PyChange {
    kind: ChangeKind,
    book: Arc<str>,
    subject: Arc<str>,
    /// The book's epoch.
    #[pyo3(get)]
    epoch: i64,
    /// Sequence before; 0 for a snapshot.
    #[pyo3(get)]
    prev: i64,
    /// Sequence after.
    #[pyo3(get)]
    seq: i64,
    /// Digest after.
    #[pyo3(get)]
    digest: u32,
    /// The message.
    #[pyo3(get)]
    payload: Py<PyBytes>,
}

impl PyChange {
    fn new(py: Python<'_>, change: Change) -> Self {
        Self {
            kind: change.kind,
            book: change.book,
            subject: change.subject,
            epoch: change.epoch,
            prev: change.prev,
            seq: change.seq,
            digest: change.digest,
            payload: PyBytes::new(py, &change.payload).unbind(),
        }
    }
}

#[pymethods]
impl PyChange {
    /// Id of the YES book.
    #[getter]
    fn book(&self) -> &str {
        &self.book
    }

    /// Where it is published.
    #[getter]
    fn subject(&self) -> &str {
        &self.subject
    }

    /// snapshot, delta, status or trade.
    #[getter]
    fn kind(&self) -> &'static str {
        self.kind.as_str()
    }

    fn __repr__(&self) -> String {
        format!(
            "Change({} {} epoch={} seq={} digest={})",
            self.kind.as_str(),
            self.book,
            self.epoch,
            self.seq,
            self.digest
        )
    }
}

/// The list that a call of the store returns.
pub(super) fn list(py: Python<'_>, changes: Vec<Change>) -> PyResult<Bound<'_, PyList>> {
    let changes: Vec<_> = changes.into_iter().map(|change| PyChange::new(py, change)).collect();
    PyList::new(py, changes)
}
