//! Encoding of consolidated messages, in the field order of wire.md section 3.
//!
//! Store and mirror encode through the same functions, so a gateway's snapshot is byte for byte the store's.

use crate::fixed::Price;
use crate::fixed::{write_integer, write_micro, write_unsigned};
use crate::json_text::write_text;
use crate::leg::{BookState, Leg};
use crate::levels::{LegIndex, Levels, PlatformSizes, Side};
use crate::normalised::Stamps;

/// Appends raw bytes.
pub(crate) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
}

/// Appends the id of one view of a book, given the id of its YES book.
fn put_view(out: &mut Vec<u8>, yes_id: &str, no: bool) {
    if no {
        put(out, yes_id.strip_suffix("yes").unwrap_or(yes_id).as_bytes());
        put(out, b"no");
    } else {
        put(out, yes_id.as_bytes());
    }
}

/// Numbers that open a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) kind: &'static [u8],
    pub(crate) yes_id: &'a str,
    pub(crate) no: bool,
    pub(crate) epoch: i64,
    pub(crate) prev: Option<i64>,
    pub(crate) seq: i64,
    pub(crate) digest: u32,
    pub(crate) state: BookState,
    pub(crate) crossed: bool,
}

/// Appends `{"type":...` up to `"crossed":...`.
pub(crate) fn put_head(out: &mut Vec<u8>, head: &Head<'_>) {
    put_opening(out, head.kind, head.yes_id, head.no, head.epoch);
    put_numbers(out, head);
}

/// Appends `{"type":...,"book":...,"epoch":...`, which stays the same for a whole epoch.
pub(crate) fn put_opening(out: &mut Vec<u8>, kind: &[u8], yes_id: &str, no: bool, epoch: i64) {
    put(out, b"{\"type\":\"");
    put(out, kind);
    put(out, b"\",\"book\":\"");
    put_view(out, yes_id, no);
    put(out, b"\",\"epoch\":");
    write_integer(out, epoch);
}

/// Appends `,"prev":...` up to `"crossed":...`.
pub(crate) fn put_numbers(out: &mut Vec<u8>, head: &Head<'_>) {
    if let Some(prev) = head.prev {
        put(out, b",\"prev\":");
        write_integer(out, prev);
    }
    put(out, b",\"seq\":");
    write_integer(out, head.seq);
    put(out, b",\"digest\":");
    write_unsigned(out, u64::from(head.digest));
    put(out, b",\"state\":\"");
    put(out, head.state.as_str().as_bytes());
    put(out, if head.crossed { b"\",\"crossed\":true" } else { b"\",\"crossed\":false" });
}

/// Appends one level, `["0.52","1200",{"kalshi":"500","polymarket":"700"}]`; no sizes mean that it is gone.
pub(crate) fn put_level<'a>(
    out: &mut Vec<u8>,
    price: Price,
    sizes: Option<&PlatformSizes>,
    name: &impl Fn(LegIndex) -> &'a str,
) {
    put(out, b"[\"");
    write_micro(out, price.micro());
    put(out, b"\",\"");
    match sizes {
        None => put(out, b"0\",{"),
        Some(sizes) => {
            write_micro(out, sizes.total());
            put(out, b"\",{");
            for (place, cell) in sizes.iter().enumerate() {
                put(out, if place == 0 { b"\"" } else { b",\"" });
                put(out, name(cell.leg).as_bytes());
                put(out, b"\":\"");
                write_micro(out, cell.size.micro());
                put(out, b"\"");
            }
        }
    }
    put(out, b"}]");
}

/// Appends `"bids":[...],"asks":[...]` of a whole view, best first.
pub(crate) fn put_sides<'a>(
    out: &mut Vec<u8>,
    levels: &Levels,
    no: bool,
    depth: Option<usize>,
    name: &impl Fn(LegIndex) -> &'a str,
) {
    for (shown, label) in [(Side::Bid, &b"\"bids\":["[..]), (Side::Ask, b"],\"asks\":[")] {
        put(out, label);
        let side = if no { shown.other() } else { shown };
        let best = levels.best_first(side).take(depth.unwrap_or(usize::MAX));
        for (place, (price, sizes)) in best.enumerate() {
            if place > 0 {
                out.push(b',');
            }
            put_level(out, if no { price.complement() } else { price }, Some(sizes), name);
        }
    }
    out.push(b']');
}

/// Appends `"ts":{...}`; unknown stamps are absent.
pub(crate) fn put_stamps(out: &mut Vec<u8>, stamps: Stamps, book_us: Option<i64>) {
    let named = [
        (&b"\"venue\":"[..], stamps.venue),
        (b"\"recv\":", stamps.recv),
        (b"\"norm\":", stamps.norm),
        (b"\"book\":", book_us),
    ];
    put(out, b"\"ts\":{");
    let mut first = true;
    for (label, stamp) in named {
        if let Some(stamp) = stamp {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            put(out, label);
            write_integer(out, stamp);
        }
    }
    out.push(b'}');
}

/// Appends the object of all legs, without its key.
pub(crate) fn put_legs(out: &mut Vec<u8>, legs: &[Leg], now_us: i64) {
    out.push(b'{');
    for (place, leg) in legs.iter().enumerate() {
        put(out, if place == 0 { b"\"" } else { b",\"" });
        put(out, leg.name.as_bytes());
        put(out, b"\":{\"platform\":");
        write_text(out, &leg.platform);
        put(out, b",\"asset\":");
        write_text(out, &leg.asset);
        put(out, if leg.inverted { b",\"inverted\":true" } else { b",\"inverted\":false" });
        put(out, b",\"state\":\"");
        put(out, leg.state.as_str().as_bytes());
        out.push(b'"');
        if let Some(heard_us) = leg.heard_us {
            put(out, b",\"age_ms\":");
            write_integer(out, now_us.saturating_sub(heard_us).max(0) / 1_000);
        }
        for (label, fact) in [(&b",\"tick\":"[..], &leg.facts.tick), (b",\"min_size\":", &leg.facts.min_size)]
        {
            if let Some(fact) = fact {
                put(out, label);
                write_text(out, fact);
            }
        }
        out.push(b'}');
    }
    out.push(b'}');
}

/// What a snapshot says beside its levels; the raw parts are JSON text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SnapshotParts<'a> {
    pub(crate) head: Head<'a>,
    pub(crate) depth: Option<usize>,
    pub(crate) why: &'a str,
    pub(crate) mapping: Option<&'a [u8]>,
    pub(crate) title: Option<&'a [u8]>,
    pub(crate) label: Option<&'a [u8]>,
    pub(crate) result: Option<&'a [u8]>,
    pub(crate) legs: &'a [u8],
    pub(crate) now_us: i64,
}

/// A whole snapshot message.
pub(crate) fn snapshot<'a>(
    parts: &SnapshotParts<'_>,
    levels: &Levels,
    name: &impl Fn(LegIndex) -> &'a str,
) -> Vec<u8> {
    let shown = Side::BOTH.iter().map(|side| levels.side(*side).len().min(parts.depth.unwrap_or(usize::MAX)));
    let mut out = Vec::with_capacity(512 + parts.legs.len() + 80 * shown.sum::<usize>());
    put_head(&mut out, &parts.head);
    if let Some(depth) = parts.depth {
        put(&mut out, b",\"depth\":");
        write_unsigned(&mut out, depth as u64);
    }
    put(&mut out, b",\"why\":");
    write_text(&mut out, parts.why);
    for (label, raw) in [
        (&b",\"mapping\":"[..], parts.mapping),
        (b",\"title\":", parts.title),
        (b",\"label\":", parts.label),
        (b",\"result\":", parts.result),
        (b",\"legs\":", Some(parts.legs)),
    ] {
        if let Some(raw) = raw {
            put(&mut out, label);
            put(&mut out, raw);
        }
    }
    out.push(b',');
    put_sides(&mut out, levels, parts.head.no, parts.depth, name);
    out.push(b',');
    put_stamps(&mut out, Stamps::default(), Some(parts.now_us));
    out.push(b'}');
    out
}
