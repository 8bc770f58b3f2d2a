//! `BookStore`: thin calls into `store.rs`, `mapping.rs` and `marks.rs`.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use super::book::PyBook;
use super::change::list;
use super::convert::now_us as time;
use crate::error::{Error, guarded};
use crate::leg::LegState;
use crate::mapping::Row;
use crate::store::Store;
use crate::view::View;

/// Consolidated books, fed by normalised messages. Safe to use from several threads.
#[pyclass(frozen, name = "BookStore", module = "wup._core")]
pub(super) struct PyBookStore {
    store: Store,
}

#[pymethods]
impl PyBookStore {
    #[new]
    fn new(epoch: i64) -> Self {
        Self { store: Store::new(epoch) }
    }

    /// Puts a mapping in force, all of it or nothing.
    fn set_mapping<'py>(
        &self,
        py: Python<'py>,
        version: i64,
        table: Vec<(String, String, String, bool)>,
        now_us: i64,
    ) -> PyResult<Bound<'py, PyList>> {
        let row = |(platform, asset, book, inverted)| Row { platform, asset, book, inverted };
        let changes = py.detach(|| {
            let rows: Vec<Row> = table.into_iter().map(row).collect();
            let mut changes = Vec::new();
            guarded(|| self.store.set_mapping(version, &rows, now_us, &mut changes)).map(|()| changes)
        })?;
        list(py, changes)
    }

    /// Names a book, also before a mapping knows it.
    #[pyo3(signature = (book, title = None, label = None))]
    fn describe(&self, book: &str, title: Option<&str>, label: Option<&str>) -> PyResult<()> {
        Ok(guarded(|| self.store.describe(book, title, label))?)
    }

    /// States an asset's tick and smallest order, also before a mapping knows it.
    #[pyo3(signature = (platform, asset_id, tick = None, min_size = None))]
    fn set_facts(
        &self,
        platform: &str,
        asset_id: &str,
        tick: Option<&str>,
        min_size: Option<&str>,
    ) -> PyResult<()> {
        Ok(guarded(|| self.store.set_facts(platform, asset_id, tick, min_size))?)
    }

    /// Applies one normalised message, that came as one of `platform` and `asset_id` if these are given.
    #[pyo3(signature = (normalized, now_us, platform = None, asset_id = None))]
    fn apply<'py>(
        &self,
        py: Python<'py>,
        normalized: &[u8],
        now_us: i64,
        platform: Option<&str>,
        asset_id: Option<&str>,
    ) -> PyResult<Bound<'py, PyList>> {
        let mut changes = Vec::new();
        let expected = platform.zip(asset_id);
        guarded(|| self.store.apply_of(expected, normalized, now_us, &mut changes))?;
        list(py, changes)
    }

    /// The caller's own verdict about a leg.
    fn set_leg_state<'py>(
        &self,
        py: Python<'py>,
        platform: &str,
        asset_id: &str,
        state: &str,
        why: &str,
        now_us: i64,
    ) -> PyResult<Bound<'py, PyList>> {
        let state = LegState::parse(state).ok_or_else(|| Error::Parse(format!("leg state {state:?}")))?;
        let mut changes = Vec::new();
        guarded(|| self.store.set_leg_state(platform, asset_id, state, why, now_us, &mut changes))?;
        list(py, changes)
    }

    /// Closes a book for good with its outcome; it is dropped 60 s later.
    fn resolve<'py>(
        &self,
        py: Python<'py>,
        book: &str,
        result: &str,
        now_us: i64,
    ) -> PyResult<Bound<'py, PyList>> {
        let mut changes = Vec::new();
        guarded(|| self.store.resolve(book, result, now_us, &mut changes))?;
        list(py, changes)
    }

    /// Compares a producer's marks with what arrived from it.
    fn check_marks<'py>(
        &self,
        py: Python<'py>,
        platform: &str,
        marks: &[u8],
        now_us: i64,
    ) -> PyResult<Bound<'py, PyList>> {
        let mut changes = Vec::new();
        guarded(|| self.store.check_marks(platform, marks, now_us, &mut changes))?;
        list(py, changes)
    }

    /// The epoch of an asset's last message; None before the first.
    fn leg_epoch(&self, platform: &str, asset_id: &str) -> PyResult<Option<i64>> {
        Ok(guarded(|| Ok(self.store.leg_epoch(platform, asset_id)))?)
    }

    /// Those of `assets` that a producer of this epoch speaks for.
    fn speaks_for(&self, platform: &str, epoch: i64, assets: Vec<String>) -> PyResult<Vec<String>> {
        Ok(guarded(|| Ok(self.store.speaks_for(platform, epoch, assets)))?)
    }

    /// Takes the wishes for snapshots that came up since the last call: (platform, asset, why).
    fn take_resyncs(&self) -> Vec<(String, String, &'static str)> {
        let wishes = self.store.take_resyncs().into_iter();
        wishes.map(|wish| (wish.platform.to_string(), wish.asset.to_string(), wish.why)).collect()
    }

    /// The snapshot message of a book, YES or NO by its id.
    #[pyo3(signature = (book, depth = None, why = "subscribe", now_us = None))]
    fn snapshot<'py>(
        &self,
        py: Python<'py>,
        book: &str,
        depth: Option<usize>,
        why: &str,
        now_us: Option<i64>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &guarded(|| self.store.snapshot(book, depth, why, time(now_us)))?))
    }

    /// Snapshot messages, one per line; books that are gone are left out.
    fn lines<'py>(
        &self,
        py: Python<'py>,
        books: Vec<String>,
        why: &str,
        now_us: i64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &guarded(|| Ok(self.store.lines(&books, why, now_us)))?))
    }

    /// A row of a list of books, JSON.
    fn row<'py>(&self, py: Python<'py>, book: &str, now_us: i64) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &guarded(|| self.store.read(book, |book, no| book.row(no, now_us)))?))
    }

    /// Best bid and ask with the legs behind them, per platform, and the size at a crossing, JSON.
    fn bbo<'py>(&self, py: Python<'py>, book: &str, now_us: i64) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &guarded(|| self.store.read(book, |book, no| book.bbo(no, now_us)))?))
    }

    /// The marks messages of this second.
    #[pyo3(signature = (shard, now_us, full = false))]
    fn marks<'py>(
        &self,
        py: Python<'py>,
        shard: &str,
        now_us: i64,
        full: bool,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let messages = guarded(|| Ok(self.store.marks(shard, now_us, full)))?;
        Ok(messages.iter().map(|message| PyBytes::new(py, message)).collect())
    }

    /// Drops resolved books whose time is over; `marks` does it too.
    fn tick(&self, now_us: i64) -> PyResult<()> {
        Ok(guarded(|| {
            self.store.tick(now_us);
            Ok(())
        })?)
    }

    /// A frozen look at a book, YES or NO by its id.
    #[pyo3(signature = (book, now_us = None))]
    fn book(&self, book: &str, now_us: Option<i64>) -> PyResult<PyBook> {
        let view = guarded(|| self.store.read(book, |book, no| View::of_book(book, no, time(now_us))))?;
        Ok(PyBook::new(view))
    }

    /// Ids of the books that match, in mapping order.
    #[pyo3(signature = (pattern = ">"))]
    fn books(&self, pattern: &str) -> PyResult<Vec<String>> {
        Ok(guarded(|| self.store.matching(pattern))?)
    }

    /// Every epoch given out from now on is larger than this.
    fn raise_epoch(&self, epoch_ms: i64) {
        self.store.raise_epoch(epoch_ms);
    }

    /// The last epoch given out, to be kept where the next process finds it.
    fn last_epoch(&self) -> i64 {
        self.store.last_epoch()
    }

    /// What was counted since the store began.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = PyDict::new(py);
        for (name, value) in self.store.stats() {
            stats.set_item(name, value)?;
        }
        Ok(stats)
    }

    fn __len__(&self) -> usize {
        self.store.books.len()
    }

    fn __repr__(&self) -> String {
        format!("BookStore(books={}, last_epoch={})", self.store.books.len(), self.store.last_epoch())
    }
}
