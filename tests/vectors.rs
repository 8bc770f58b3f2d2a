//! The vector files that clients in all languages are held to (`tests/vectors/README.md`).
#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use serde_json::Value;
use wup::digest;
use wup::fixed;
use wup::levels::Side;
use wup::mirror::Mirror;
use wup::pattern::Pattern;

fn load(name: &str) -> Value {
    let path = format!("{}/tests/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn rows<'a>(file: &'a Value, name: &str) -> &'a [Value] {
    let rows = file[name].as_array().unwrap();
    assert!(!rows.is_empty());
    rows
}

/// After every message the copy is exactly as exact as it must be, and holds exactly these levels.
#[test]
fn streams() {
    for case in rows(&load("streams"), "cases") {
        let mut mirror = Mirror::default();
        for (place, step) in rows(case, "steps").iter().enumerate() {
            let at = format!("{} step {place}", case["name"]);
            if step["doubt"] == true {
                mirror.doubt();
            } else {
                let verdict = mirror.apply(step["message"].as_str().unwrap().as_bytes());
                assert_eq!(verdict.map_or("unreadable", |verdict| verdict.as_str()), step["verdict"], "{at}");
            }
            let expect = step["expect"].as_object().unwrap();
            assert_eq!(mirror.exact, expect["exact"], "{at}");
            if mirror.exact {
                let own: Value =
                    serde_json::from_slice(&mirror.snapshot(mirror.is_no(), None, "resync", 0)).unwrap();
                for (name, value) in expect.iter().filter(|(name, _)| *name != "exact") {
                    assert_eq!(&own[name], value, "{at}: {name}");
                }
            }
        }
    }
}

#[test]
fn digests() {
    let file = load("digest");
    for row in rows(&file, "salts") {
        assert_eq!(digest::salt(row[0].as_str().unwrap()), row[1]);
    }
    for row in rows(&file, "cells") {
        let side = if row[1] == "bid" { Side::Bid } else { Side::Ask };
        let price = fixed::parse(row[2].as_str().unwrap()).unwrap();
        let size = fixed::parse(row[3].as_str().unwrap()).unwrap();
        let salt = digest::salt(row[0].as_str().unwrap());
        assert_eq!(digest::cell(salt, side, price, size), row[4], "{row}");
    }
}

#[test]
fn numbers() {
    let file = load("numbers");
    for row in rows(&file, "exact") {
        let (text, micro) = (row[0].as_str().unwrap(), row[1].as_str().unwrap().parse().unwrap());
        assert_eq!(fixed::parse(text).unwrap(), micro);
        assert_eq!(fixed::format(micro), text);
    }
    for row in rows(&file, "refused") {
        assert!(fixed::parse(row.as_str().unwrap()).is_err(), "{row}");
    }
}

#[test]
fn patterns() {
    let file = load("patterns");
    for row in rows(&file, "matches") {
        let pattern = Pattern::parse(row[0].as_str().unwrap()).unwrap();
        let no = row[1].as_str().unwrap().ends_with(".no");
        let matches = pattern.is_no() == no && pattern.matches(row[1].as_str().unwrap());
        assert_eq!(matches, row[2], "{row}");
    }
    for row in rows(&file, "refused") {
        assert!(Pattern::parse(row.as_str().unwrap()).is_err(), "{row}");
    }
}
