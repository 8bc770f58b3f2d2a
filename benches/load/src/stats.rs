//! Counters and histograms of one measured window.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;

pub struct Stats {
    pub frames: u64,
    pub bytes: u64,
    pub reads: u64,
    /// From the moment when the change was due, microseconds.
    pub due: Histogram<u64>,
    /// From the stamp that the publisher put into it.
    pub published: Histogram<u64>,
    pub notices: BTreeMap<String, u64>,
    pub closes: BTreeMap<String, u64>,
    pub heartbeats: u64,
    pub wrong_counts: u64,
}

impl Stats {
    pub fn new() -> Result<Self, String> {
        let histogram = || Histogram::new_with_max(600_000_000, 3).map_err(|e| e.to_string());
        Ok(Self {
            frames: 0,
            bytes: 0,
            reads: 0,
            due: histogram()?,
            published: histogram()?,
            notices: BTreeMap::new(),
            closes: BTreeMap::new(),
            heartbeats: 0,
            wrong_counts: 0,
        })
    }
}

/// Microseconds since 1970.
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// p50, p99, p99.9 and the maximum as JSON.
pub fn quantiles(histogram: &Histogram<u64>) -> String {
    format!(
        r#"{{"n":{},"p50":{},"p99":{},"p999":{},"max":{}}}"#,
        histogram.len(),
        histogram.value_at_quantile(0.5),
        histogram.value_at_quantile(0.99),
        histogram.value_at_quantile(0.999),
        histogram.max()
    )
}

/// A map of counts as JSON.
pub fn counts(map: &BTreeMap<String, u64>) -> String {
    let entries: Vec<String> = map.iter().map(|(name, count)| format!("{name:?}:{count}")).collect();
    format!("{{{}}}", entries.join(","))
}
