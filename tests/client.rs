//! The client's promise: a copy that calls itself exact equals the server's book at (epoch, seq), whatever a
//! bad network does to the messages (wire.md, "What a client does to be exact").
#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod support;

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use support::{levels_json, message};
use wup::change::Change;
use wup::complement::mirror_message;
use wup::mapping::Row;
use wup::mirror::{Mirror, Verdict};
use wup::store::Store;

const BOOK: &str = "fed.m.yes";
const ASSETS: [(&str, &str); 2] = [("kalshi", "K"), ("polymarket", "P")];

/// One thing that happens to the server's book.
#[derive(Debug, Clone)]
enum Step {
    Levels(usize, Vec<(i64, i64)>, Vec<(i64, i64)>),
    Down(usize),
    Turn,
}

/// One thing that the network does with the next message.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Deliver,
    Drop,
    Twice,
    /// Keep it back and deliver it after so many others.
    Late(usize),
    /// One digit of a price or a size is another one.
    Garble(usize),
    /// The client loses faith, for a reason of its own.
    Doubt,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let levels = || {
        prop::collection::vec(
            ((1i64..9).prop_map(|p| p * 110_000), (0i64..5).prop_map(|s| s * 250_000)),
            0..4,
        )
    };
    let step = prop_oneof![
        12 => (0..2usize, levels(), levels()).prop_map(|(leg, bids, asks)| Step::Levels(leg, bids, asks)),
        1 => (0..2usize).prop_map(Step::Down),
        1 => Just(Step::Turn),
    ];
    prop::collection::vec(step, 1..40)
}

fn fates() -> impl Strategy<Value = Vec<(Fate, usize)>> {
    let fate = prop_oneof![
        20 => Just(Fate::Deliver),
        2 => Just(Fate::Drop),
        2 => Just(Fate::Twice),
        2 => (1..4usize).prop_map(Fate::Late),
        2 => (0..500usize).prop_map(Fate::Garble),
        1 => Just(Fate::Doubt),
    ];
    prop::collection::vec((fate, 0..4usize), 120)
}

/// The server's messages, and at each the snapshot of its book.
struct History {
    messages: Vec<Vec<u8>>,
    snapshots: Vec<Vec<u8>>,
    content: BTreeMap<(i64, i64), String>,
}

/// From `"bids"` on, without the stamps: what must be equal.
fn content(snapshot: &[u8]) -> String {
    let text = String::from_utf8(snapshot.to_vec()).unwrap();
    let (start, end) = (text.find("\"bids\"").unwrap(), text.find(",\"ts\"").unwrap());
    text[start..end].to_owned()
}

fn history(steps: &[Step], no: bool) -> History {
    let store = Store::new(0);
    let (mut inverted, mut n) = (false, 1);
    let mut history = History { messages: Vec::new(), snapshots: Vec::new(), content: BTreeMap::new() };
    let map = |inverted: bool, out: &mut Vec<_>| {
        let row = |place: usize, inverted| Row {
            platform: ASSETS[place].0.into(),
            asset: ASSETS[place].1.into(),
            book: BOOK.into(),
            inverted,
        };
        store.set_mapping(1, &[row(0, false), row(1, inverted)], 0, out).unwrap();
    };
    let mut out = Vec::new();
    map(inverted, &mut out);
    for asset in ASSETS {
        store.apply(&message("snapshot", asset, (1, 1), &levels_json(&[], &[])), 0, &mut out).unwrap();
    }
    // The opening and the first books: one step of their own.
    for step in std::iter::once(None).chain(steps.iter().map(Some)) {
        let Some(step) = step else {
            note(&store, &mut out, no, &mut history);
            continue;
        };
        n += 1;
        match step {
            Step::Levels(leg, bids, asks) => {
                // A leg that was down comes back with a snapshot; the other kind is the same levels as an update.
                let kind = if n % 5 == 0 { "snapshot" } else { "update" };
                for (place, asset) in ASSETS.into_iter().enumerate() {
                    let (kind, fields) = if place == *leg {
                        (kind, levels_json(bids, asks))
                    } else {
                        ("update", levels_json(&[], &[]))
                    };
                    store.apply(&message(kind, asset, (1, n), &fields), 0, &mut out).unwrap();
                }
            }
            Step::Down(leg) => {
                for (place, asset) in ASSETS.into_iter().enumerate() {
                    let (kind, fields) = if place == *leg {
                        ("state", r#","state":"down","why":"venue_silent""#.to_owned())
                    } else {
                        ("update", levels_json(&[], &[]))
                    };
                    store.apply(&message(kind, asset, (1, n), &fields), 0, &mut out).unwrap();
                }
            }
            Step::Turn => {
                n -= 1;
                inverted = !inverted;
                map(inverted, &mut out);
            }
        }
        note(&store, &mut out, no, &mut history);
    }
    history
}

/// Adds what came out of one step. Its messages change the levels once, so each leads to the same content; but
/// an opening and the empty snapshots after it do not change them at all.
fn note(store: &Store, out: &mut Vec<Change>, no: bool, history: &mut History) {
    let id = if no { BOOK.replace(".yes", ".no") } else { BOOK.to_owned() };
    let snapshot = store.snapshot(&id, None, "resync", 0).unwrap();
    for change in out.drain(..) {
        history.content.insert((change.epoch, change.seq), content(&snapshot));
        history.messages.push(if no { mirror_message(&change.payload).unwrap() } else { change.payload });
        history.snapshots.push(snapshot.clone());
    }
}

/// Changes one digit inside the levels, if the message has any.
fn garble(message: &[u8], place: usize) -> Vec<u8> {
    let mut message = message.to_vec();
    let text = String::from_utf8_lossy(&message).into_owned();
    let Some(start) = text.find("\"bids\":[") else { return message };
    let end = text.find(",\"ts\"").unwrap_or(text.len());
    // Digits of numbers only, not of leg names.
    let digits: Vec<usize> = (start..end)
        .filter(|at| text.as_bytes()[*at].is_ascii_digit())
        .filter(|at| !text[..*at].ends_with('-') && !text.as_bytes()[*at - 1].is_ascii_alphabetic())
        .collect();
    if let Some(at) = digits.get(place % digits.len().max(1)) {
        message[*at] = b'0' + (message[*at] - b'0' + 1) % 10;
    }
    message
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/client.regressions"))),
        ..ProptestConfig::default()
    })]

    /// Losses, repeats, delays and garbled numbers: exact is exact, and a client that asks for a snapshot
    /// whenever it is told to is exact in the end.
    #[test]
    fn exact_is_exact(steps in steps(), fates in fates(), no in any::<bool>()) {
        let history = history(&steps, no);
        let mut client = Mirror::default();
        let mut late: Vec<(usize, Vec<u8>)> = Vec::new();
        let mut fates = fates.iter().cycle();
        for (place, message) in history.messages.iter().enumerate() {
            let &(fate, behind) = fates.next().unwrap();
            let mut arriving = match fate {
                Fate::Deliver => vec![message.clone()],
                Fate::Drop => vec![],
                Fate::Twice => vec![message.clone(), message.clone()],
                Fate::Late(after) => {
                    late.push((place + after, message.clone()));
                    vec![]
                }
                Fate::Garble(at) => vec![garble(message, at)],
                Fate::Doubt => {
                    client.doubt();
                    vec![message.clone()]
                }
            };
            arriving.extend(late.extract_if(.., |(due, _)| *due <= place).map(|(_, message)| message));
            for message in arriving {
                let verdict = client.apply(&message);
                if !client.exact && behind > 0 {
                    // Ask, and get the server's book of a little later: what follows may be older than it.
                    let ahead = (place + behind - 1).min(history.snapshots.len() - 1);
                    prop_assert_eq!(client.apply(&history.snapshots[ahead]).unwrap(), Verdict::Exact);
                }
                prop_assert!(verdict != Ok(Verdict::Exact) || client.exact);
                if client.exact {
                    let own = content(&client.snapshot(no, None, "resync", 0));
                    prop_assert_eq!(&own, &history.content[&(client.epoch, client.seq)]);
                }
            }
        }
        // The network is well again.
        let last = history.snapshots.last().unwrap();
        if !client.exact {
            prop_assert_eq!(client.apply(last).unwrap(), Verdict::Exact);
            let own = content(&client.snapshot(no, None, "resync", 0));
            prop_assert_eq!(own, content(last));
        }
    }
}
