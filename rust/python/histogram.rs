//! `Histogram`: latency in microseconds.

use pyo3::prelude::*;

use crate::histogram::Histogram;

/// Latency in microseconds, log-bucketed; safe to use from several threads.
#[pyclass(frozen, name = "Histogram", module = "wup._core")]
pub(super) struct PyHistogram {
    histogram: Histogram,
}

#[pymethods]
impl PyHistogram {
    #[new]
    fn new() -> Self {
        Self { histogram: Histogram::default() }
    }

    /// Counts one duration; a negative one (clocks disagree) counts as 0.
    fn observe(&self, us: i64) {
        self.histogram.observe(u64::try_from(us).unwrap_or(0));
    }

    /// The value below which a share `q` of all lies; 0 when empty.
    fn quantile(&self, q: f64) -> f64 {
        self.histogram.quantile(q)
    }

    fn count(&self) -> u64 {
        self.histogram.count()
    }

    fn sum(&self) -> u64 {
        self.histogram.sum()
    }

    /// (upper bound in microseconds, how many are at most that).
    fn buckets(&self) -> Vec<(u64, u64)> {
        self.histogram.buckets()
    }

    fn __repr__(&self) -> String {
        let h = &self.histogram;
        format!("Histogram(count={}, p50={:.0}us, p99={:.0}us)", h.count(), h.quantile(0.5), h.quantile(0.99))
    }
}
