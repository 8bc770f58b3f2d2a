//! How long does each step of the core take? Medians and the machine are in `benches/README.md`.
#![allow(clippy::unwrap_used, reason = "a bench that cannot set up has nothing to measure")]

mod support;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use support::{BOOK, message, sides, store, update};
use wup::complement::mirror_message;
use wup::digest;
use wup::fixed::{self, Price, Size};
use wup::levels::{Levels, Side};
use wup::mirror::Mirror;
use wup::store::Store;
use wup::venue_book::VenueBook;
use wup::venue_hash::{BookFacts, polymarket_hash};

/// Applies `count` new updates, made in chunks outside the clock: the numbering must go on, and neither all
/// messages of a sample nor their results would fit the cache, as they do in life.
fn apply_updates(store: &Store, levels: i64, n: &mut i64, count: u64) -> Duration {
    let (mut left, mut total, mut out) = (count, Duration::ZERO, Vec::new());
    while left > 0 {
        let chunk = left.min(256);
        let messages: Vec<_> = (0..chunk)
            .map(|_| {
                *n += 1;
                update(levels, 0, *n)
            })
            .collect();
        let start = Instant::now();
        for message in &messages {
            out.clear();
            store.apply(message, 1_795_353_605_123_026, &mut out).unwrap();
        }
        total += start.elapsed();
        left -= chunk;
    }
    total
}

/// What does one venue message cost, from its bytes to the encoded change?
fn apply(c: &mut Criterion) {
    let mut group = c.benchmark_group("apply one-level update");
    for legs in [1, 2, 5] {
        for levels in [10, 100, 1_000] {
            let store = store(levels, legs);
            let mut n = 1;
            let id = BenchmarkId::new(format!("{legs} legs"), format!("{levels} levels"));
            group.bench_function(id, |b| b.iter_custom(|count| apply_updates(&store, levels, &mut n, count)));
        }
    }
    group.finish();

    let mut group = c.benchmark_group("apply 100-level snapshot");
    for (name, legs) in [("1 leg", 1), ("2 legs", 2), ("5 legs", 5)] {
        for (kind, salts) in [("every level changes", [3, 4]), ("nothing changes", [3, 3])] {
            let mut n = 1;
            let store = store(100, legs);
            group.bench_function(BenchmarkId::new(name, kind), |b| {
                b.iter_batched(
                    || {
                        n += 1;
                        message("snapshot", 0, n, &sides(100, salts[usize::try_from(n % 2).unwrap()]))
                    },
                    |message| {
                        let mut out = Vec::new();
                        store.apply(&message, 0, &mut out).unwrap();
                        out
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}

/// What does a snapshot for a new subscriber cost, and the NO view of a delta?
fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode snapshot");
    for levels in [10, 100, 1_000] {
        let store = store(levels, 2);
        let bytes = store.snapshot(BOOK, None, "join", 0).unwrap();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new("2 legs", levels), |b| {
            b.iter(|| store.snapshot(BOOK, None, "join", 0).unwrap());
        });
    }
    group.finish();

    let store = store(100, 2);
    let snapshot = store.snapshot(BOOK, None, "join", 0).unwrap();
    let mut out = Vec::new();
    store.apply(&update(100, 0, 2), 0, &mut out).unwrap();
    let delta = out[0].payload.clone();
    c.bench_function("mirror_message/one-level delta", |b| {
        b.iter(|| mirror_message(black_box(&delta)).unwrap())
    });
    c.bench_function("mirror_message/100-level snapshot", |b| {
        b.iter(|| mirror_message(black_box(&snapshot)).unwrap())
    });
    let mut mirror = Mirror::default();
    c.bench_function("mirror/100-level snapshot", |b| b.iter(|| mirror.apply(black_box(&snapshot)).unwrap()));
    // The same change back and forth, as a client sees it.
    let mut deltas = Vec::new();
    for n in 3..10_003 {
        store.apply(&update(100, 0, n), 0, &mut deltas).unwrap();
    }
    let first = delta;
    c.bench_function("mirror/one-level delta", |b| {
        let mut next = deltas.len();
        b.iter(|| {
            if next == deltas.len() {
                mirror = Mirror::default();
                mirror.apply(&snapshot).unwrap();
                mirror.apply(&first).unwrap();
                next = 0;
            }
            next += 1;
            mirror.apply(&deltas[next - 1].payload).unwrap()
        });
    });
}

/// What does one changed cell cost: in the digest alone, and in the merged levels with their digest?
fn cells(c: &mut Criterion) {
    let salt = digest::salt("kalshi");
    let mut size = 0;
    c.bench_function("digest/one changed cell (old out, new in)", |b| {
        let mut sum = 0u32;
        b.iter(|| {
            size = (size + 1_234_567) & 0xFFFF_FFFF_FFFF;
            let price = black_box(520_000);
            sum = sum.wrapping_sub(digest::cell(salt, Side::Bid, price, size));
            sum = sum.wrapping_add(digest::cell(salt, Side::Bid, price, size + 1));
            sum
        });
    });
    let mut group = c.benchmark_group("merge one cell");
    for count in [10i64, 100, 1_000] {
        let mut levels = Levels::default();
        for place in 0..count {
            for leg in 0..2 {
                let price = Price::new(1 + place * 900_000 / count).unwrap();
                levels.set(Side::Bid, price, leg, salt, Size::new(5_000_000).unwrap());
            }
        }
        let mut step = 0;
        group.bench_function(BenchmarkId::new("set in 2 legs", count), |b| {
            b.iter(|| {
                step += 1;
                let price = Price::new(1 + step * 7_919 % count * 900_000 / count).unwrap();
                levels.set(Side::Bid, price, 0, salt, Size::new(1_000_000 + step).unwrap())
            });
        });
    }
    group.finish();
}

/// What do numbers cost, in and out?
fn numbers(c: &mut Criterion) {
    c.bench_function("number/parse 31045290.25", |b| {
        b.iter(|| fixed::parse_unsigned(black_box(b"31045290.25")))
    });
    let mut out = Vec::with_capacity(32);
    c.bench_function("number/write 31045290.25", |b| {
        b.iter(|| {
            out.clear();
            fixed::write_micro(&mut out, black_box(31_045_290_250_000));
            out.len()
        });
    });
}

/// What does the venue's own checksum cost at 140 levels?
fn venue_hash(c: &mut Criterion) {
    let mut book = VenueBook::default();
    for place in 1..=70 {
        book.set(Side::Bid, &format!("0.{place:03}"), &format!("{}.{:02}", place * 4_211, place)).unwrap();
        book.set(Side::Ask, &format!("0.{:03}", 999 - place), &format!("{}.{:02}", place * 7_211, place))
            .unwrap();
    }
    let facts = BookFacts {
        market: "0xdde06286a7b9464d344f410ab0b3d2ebc6469904e72c27fd982f65fdbf78768d",
        asset_id: "65193234666628291664907888364936366210889305490897648116746073820519263548476",
        timestamp: "1778997825875",
        min_order_size: "5",
        tick_size: "0.001",
        neg_risk: true,
        last_trade_price: Some("0.006"),
    };
    let mut text = Vec::new();
    c.bench_function("polymarket hash/140 levels", |b| b.iter(|| polymarket_hash(&book, &facts, &mut text)));
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1_000))
        .sample_size(30);
    targets = apply, encode, cells, numbers, venue_hash
}
criterion_main!(benches);
