//! Latency in microseconds, log-bucketed: an observation is two atomic additions.

use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets per power of two: quantiles are right within one eighth.
const STEPS: usize = 8;
/// Powers of two covered; 2^36 microseconds are 19 hours.
const POWERS: usize = 36;
const SIZE: usize = STEPS * (POWERS - 2);

/// Counts of durations in microseconds.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: (0..SIZE).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }
}

/// Bucket of a value: values below eight have their own, then eight per power of two.
fn bucket(us: u64) -> usize {
    if us < STEPS as u64 {
        return usize::try_from(us).unwrap_or_default();
    }
    let power = us.ilog2() as usize;
    let step = usize::try_from((us >> (power - 3)) & 7).unwrap_or_default();
    ((power - 2) * STEPS + step).min(SIZE - 1)
}

/// Smallest value that falls into a bucket.
fn floor(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let (power, step) = (bucket / STEPS + 2, bucket % STEPS);
    ((STEPS + step) as u64) << (power - 3)
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, us: u64) {
        self.buckets[bucket(us)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(us, Ordering::Relaxed);
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// Sum of all, in microseconds.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }

    /// The value below which a share `q` of all lies, interpolated inside its bucket; 0 when empty.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a statistic, right within one eighth")]
    pub fn quantile(&self, q: f64) -> f64 {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        let wanted = q.clamp(0.0, 1.0) * counts.iter().sum::<u64>() as f64;
        let mut below = 0.0;
        for (place, count) in counts.into_iter().enumerate().filter(|(_, count)| *count > 0) {
            let count = count as f64;
            if below + count >= wanted {
                let (low, high) = (floor(place) as f64, floor(place + 1) as f64);
                return low + (high - low) * ((wanted - below) / count).clamp(0.0, 1.0);
            }
            below += count;
        }
        0.0
    }

    /// `(upper bound in microseconds, how many are at most that)` at the powers of two, as Prometheus wants.
    #[must_use]
    pub fn buckets(&self) -> Vec<(u64, u64)> {
        let mut total = 0;
        let mut place = 0;
        let mut out = Vec::with_capacity(28);
        for power in 0..28u32 {
            // Integers below 2^p + 1, that is at most 2^p; exact below eight, one step late above.
            let limit = 1u64 << power;
            while place < SIZE && floor(place) <= limit {
                total += self.buckets[place].load(Ordering::Relaxed);
                place += 1;
            }
            out.push((limit, total));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every value lies in its bucket's range, and quantiles are right within one eighth.
    #[test]
    fn buckets_hold_their_values() {
        for us in (0..4096).chain([1 << 20, (1 << 33) + 12345, u64::MAX]) {
            let place = bucket(us);
            assert!(floor(place) <= us && (place == SIZE - 1 || us < floor(place + 1)), "{us}");
        }
        let histogram = Histogram::default();
        (1..=1000).for_each(|us| histogram.observe(us));
        assert_eq!((histogram.count(), histogram.sum()), (1000, 500_500));
        for (q, value) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = histogram.quantile(q);
            assert!((found - value).abs() <= value / 8.0, "{q}: {found}");
        }
    }
}
