//! `MirrorBook`: a verifying client copy.

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::book::PyBook;
use super::convert::now_us as time;
use crate::error::{Error, guarded};
use crate::mirror::Mirror;
use crate::view::View;

/// A client's copy of one book that can tell whether it is exact.
#[pyclass(frozen, name = "MirrorBook", module = "wup._core")]
pub(super) struct PyMirrorBook {
    mirror: Mutex<Mirror>,
}

#[pymethods]
impl PyMirrorBook {
    #[new]
    fn new() -> Self {
        Self { mirror: Mutex::default() }
    }

    /// Id of the book as its stream names it; empty before the first snapshot.
    #[getter]
    fn book(&self) -> String {
        self.mirror.lock().id().to_owned()
    }

    #[getter]
    fn epoch(&self) -> i64 {
        self.mirror.lock().epoch
    }

    #[getter]
    fn seq(&self) -> i64 {
        self.mirror.lock().seq
    }

    #[getter]
    fn digest(&self) -> u32 {
        self.mirror.lock().digest
    }

    /// Whether the copy equals the server's book at (epoch, seq).
    #[getter]
    fn exact(&self) -> bool {
        self.mirror.lock().exact
    }

    #[getter]
    fn state(&self) -> &'static str {
        self.mirror.lock().state.as_str()
    }

    #[getter]
    fn crossed(&self) -> bool {
        self.mirror.lock().crossed
    }

    /// Applies one message; after "gap" and "broken" the caller has to ask for a resync.
    fn apply(&self, message: &[u8]) -> PyResult<&'static str> {
        // The lock ends with the closure: an error becomes an exception without it.
        let verdict = guarded(|| self.mirror.lock().apply(message));
        if verdict.is_err() {
            self.mirror.lock().doubt();
        }
        Ok(verdict?.as_str())
    }

    /// Something outside the stream is in doubt: not exact until the next snapshot.
    fn doubt(&self) {
        self.mirror.lock().doubt();
    }

    /// The snapshot message of what the copy holds, byte for byte as the store would encode it.
    #[pyo3(signature = (no = false, depth = None, why = "subscribe", now_us = None))]
    fn snapshot<'py>(
        &self,
        py: Python<'py>,
        no: bool,
        depth: Option<usize>,
        why: &str,
        now_us: Option<i64>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let message = {
            let mirror = self.mirror.lock();
            guarded(|| match mirror.id() {
                "" => Err(Error::UnknownBook("the mirror has seen no snapshot yet".to_owned())),
                _ => Ok(mirror.snapshot(no, depth, why, time(now_us))),
            })
        }?;
        Ok(PyBytes::new(py, &message))
    }

    /// A frozen look at the copy, in the coordinates of its stream.
    fn view(&self) -> PyResult<PyBook> {
        Ok(PyBook::new(guarded(|| Ok(View::of_mirror(&self.mirror.lock())))?))
    }

    fn __repr__(&self) -> String {
        let mirror = self.mirror.lock();
        let exact = if mirror.exact { "exact" } else { "not exact" };
        format!("MirrorBook({} epoch={} seq={} {exact})", mirror.id(), mirror.epoch, mirror.seq)
    }
}
