//! A naive model of the store: one map per leg, everything recomputed from scratch.
//!
//! It shares no code with the store except the reading of numbers, so that the two can only agree by both
//! being right. It knows the rules of wire.md section 2 for what a leg's message does to the leg.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test uses its part; a failing unwrap is a failing test"
)]

use std::collections::BTreeMap;

use serde_json::Value;

/// Leg, price in millionths, size in millionths.
pub type Side = BTreeMap<i64, i64>;
/// Price to total and parts, as text on the wire.
pub type Shown = BTreeMap<String, (String, BTreeMap<String, String>)>;

pub fn text(micro: i64) -> String {
    let (whole, part) = (micro / 1_000_000, micro % 1_000_000);
    let text = format!("{whole}.{part:06}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

pub fn micro(text: &str) -> i64 {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    whole.parse::<i64>().unwrap() * 1_000_000 + format!("{part:0<6}").parse::<i64>().unwrap()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Live,
    Syncing,
    Resync,
    Down,
    Halted,
    Closed,
}

impl State {
    pub const ALL: [Self; 6] =
        [Self::Live, Self::Syncing, Self::Resync, Self::Down, Self::Halted, Self::Closed];

    pub fn word(self) -> &'static str {
        ["live", "syncing", "resync", "down", "halted", "closed"][self as usize]
    }
}

/// One asset as its own messages describe it, in its own coordinates.
#[derive(Debug, Clone)]
pub struct Asset {
    pub state: State,
    /// That it is closed is the caller's verdict, which no loss puts in doubt.
    pub judged: bool,
    pub last: Option<(i64, i64)>,
    pub bids: Side,
    pub asks: Side,
}

impl Asset {
    pub fn new() -> Self {
        Self { state: State::Syncing, judged: false, last: None, bids: Side::new(), asks: Side::new() }
    }

    /// Whether a message is new, and whether others before it are missing.
    fn number(&mut self, epoch: i64, n: i64) -> Option<bool> {
        if self.last.is_some_and(|last| (epoch, n) <= last) {
            return None;
        }
        let hole = self.last.is_none_or(|(known, last)| known != epoch || n != last + 1);
        self.last = Some((epoch, n));
        Some(hole)
    }

    pub fn doubt(&mut self) {
        if self.state == State::Live || (self.state == State::Closed && !self.judged) {
            self.state = State::Resync;
        }
    }

    pub fn snapshot(&mut self, epoch: i64, n: i64, bids: &[(i64, i64)], asks: &[(i64, i64)]) {
        if self.number(epoch, n).is_some() {
            self.state = State::Live;
            self.judged = false;
            self.bids.clear();
            self.asks.clear();
            put(&mut self.bids, bids);
            put(&mut self.asks, asks);
        }
    }

    pub fn update(&mut self, epoch: i64, n: i64, bids: &[(i64, i64)], asks: &[(i64, i64)]) {
        match self.number(epoch, n) {
            Some(true) => self.doubt(),
            Some(false) if self.state == State::Live => {
                put(&mut self.bids, bids);
                put(&mut self.asks, asks);
            }
            _ => {}
        }
    }

    pub fn other(&mut self, epoch: i64, n: i64, bad: bool) {
        if self.number(epoch, n).is_some_and(|hole| hole || bad) {
            self.doubt();
        }
    }

    pub fn said(&mut self, epoch: i64, n: i64, state: State) {
        match self.number(epoch, n) {
            None => {}
            Some(false) => self.verdict(state),
            Some(true) => {
                if state > State::Resync {
                    self.verdict(state);
                }
                if state != State::Closed {
                    self.doubt();
                }
            }
        }
    }

    /// What the caller of the store thinks of the leg: doubt does not open a market that is over.
    pub fn judged(&mut self, state: State) {
        if self.state != State::Closed || !matches!(state, State::Syncing | State::Resync | State::Down) {
            self.verdict(state);
            self.judged |= state == State::Closed;
            if self.state == State::Down {
                // The producer is gone, and the next one may begin with a smaller epoch.
                self.last = None;
            }
        }
    }

    /// A state that the leg was told; live only ever comes with a snapshot.
    pub fn verdict(&mut self, state: State) {
        self.judged &= state == State::Live;
        self.state = match (state, self.state) {
            (State::Live, own) => own,
            (told, _) => told,
        };
    }
}

fn put(side: &mut Side, levels: &[(i64, i64)]) {
    for &(price, size) in levels {
        if size == 0 {
            side.remove(&price);
        } else {
            side.insert(price, size);
        }
    }
}

pub type Row = (&'static str, &'static str, &'static str, bool);

/// All assets and the mapping in force.
#[derive(Debug, Default)]
pub struct Model {
    pub assets: BTreeMap<(String, String), Asset>,
    /// The legs of each book.
    pub table: Vec<Row>,
    /// Which book each asset feeds; a resolved book keeps its legs, whatever the mapping says later.
    pub routes: Vec<Row>,
    pub resolved: Vec<String>,
    /// Resolved and gone: never opened again.
    pub retired: Vec<String>,
}

/// What a book must show.
#[derive(Debug, PartialEq, Eq)]
pub struct Expected {
    pub bids: Shown,
    pub asks: Shown,
    pub state: &'static str,
    pub crossed: bool,
    pub digest: u32,
    pub legs: Vec<(String, &'static str)>,
}

pub fn legs_of(table: &[Row], book: &str) -> Vec<(String, Row)> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let rows = table.iter().filter(|row| row.2 == book);
    rows.map(|row| {
        let count = seen.entry(row.0).or_default();
        *count += 1;
        let name = if *count == 1 { row.0.to_owned() } else { format!("{}-{count}", row.0) };
        (name, *row)
    })
    .collect()
}

impl Model {
    pub fn asset(&mut self, platform: &str, asset: &str) -> Option<&mut Asset> {
        let book = self.routes.iter().find(|row| row.0 == platform && row.1 == asset)?.2;
        if self.resolved.iter().chain(&self.retired).any(|over| over == book) {
            return None;
        }
        self.assets.get_mut(&(platform.to_owned(), asset.to_owned()))
    }

    /// Assets of the new table that were mapped before keep what they show; the others begin anew. Books
    /// that are resolved stay as they are.
    pub fn set_mapping(&mut self, table: &[Row]) {
        let gone = |book: &str| self.retired.iter().any(|id| id == book);
        let over = |book: &str| gone(book) || self.resolved.iter().any(|id| id == book);
        for row in table {
            let key = (row.0.to_owned(), row.1.to_owned());
            let before = self.routes.iter().find(|known| (known.0, known.1) == (row.0, row.1));
            if before.is_none_or(|before| over(before.2)) {
                self.assets.insert(key, Asset::new());
            }
        }
        let kept = self.table.iter().filter(|row| over(row.2) && !gone(row.2));
        let kept: Vec<Row> = kept.copied().collect();
        self.table = table.iter().filter(|row| !over(row.2)).copied().chain(kept).collect();
        self.routes = table.to_vec();
    }

    pub fn expected(&self, book: &str) -> Expected {
        let over = self.resolved.iter().any(|resolved| resolved == book);
        let mut sides = [BTreeMap::new(), BTreeMap::new()];
        let mut legs = Vec::new();
        let mut digest = 0u32;
        for (name, row) in legs_of(&self.table, book) {
            if over {
                legs.push((name, State::Closed.word()));
                continue;
            }
            let asset = &self.assets[&(row.0.to_owned(), row.1.to_owned())];
            legs.push((name.clone(), asset.state.word()));
            if asset.state != State::Live {
                continue;
            }
            for (side, levels) in [&asset.bids, &asset.asks].into_iter().enumerate() {
                for (&price, &size) in levels {
                    let (side, price) = if row.3 { (1 - side, 1_000_000 - price) } else { (side, price) };
                    let level: &mut BTreeMap<String, i64> = sides[side].entry(price).or_default();
                    level.insert(name.clone(), size);
                    digest = digest.wrapping_add(hash(&name, side, price, size));
                }
            }
        }
        let crossed = match (sides[0].keys().next_back(), sides[1].keys().next()) {
            (Some(bid), Some(ask)) => bid > ask,
            _ => false,
        };
        let count = |state: &str| legs.iter().filter(|leg| leg.1 == state).count();
        let (live, closed) = (count("live"), count("closed"));
        let state = match legs.len() - closed {
            0 if closed > 0 => "closed",
            _ if live == 0 => "down",
            open if open == live => "live",
            _ => "degraded",
        };
        let [bids, asks] = sides.map(|side| {
            side.into_iter()
                .map(|(price, parts)| {
                    let total = text(parts.values().sum());
                    let parts = parts.into_iter().map(|(leg, size)| (leg, text(size)));
                    (text(price), (total, parts.collect()))
                })
                .collect()
        });
        Expected { bids, asks, state, crossed, digest, legs }
    }
}

/// The digest recipe of wire.md section 3, written once more.
pub fn hash(leg: &str, side: usize, price: i64, size: i64) -> u32 {
    let finish = |mut h: u32| {
        h ^= h >> 16;
        h = h.wrapping_mul(0x85EB_CA6B);
        h ^= h >> 13;
        h = h.wrapping_mul(0xC2B2_AE35);
        h ^ (h >> 16)
    };
    let mut salt = 2_166_136_261u32;
    for byte in leg.bytes() {
        salt = (salt ^ u32::from(byte)).wrapping_mul(16_777_619);
    }
    let modulus = 1u64 << 32;
    let seed = (2 * u64::try_from(price).unwrap() + side as u64 + 0x9E37_79B9 + u64::from(salt)) % modulus;
    let size = u64::try_from(size).unwrap();
    let low = u32::try_from(size % modulus).unwrap();
    let high = u32::try_from(size / modulus).unwrap();
    finish(finish(finish(u32::try_from(seed).unwrap()) ^ low) ^ high)
}

/// The levels of one side of a message, each price once; checks that totals and parts add up.
pub fn read_side(message: &Value, side: &str) -> Vec<(String, String, BTreeMap<String, String>)> {
    let mut seen = Vec::new();
    let levels = message[side].as_array().unwrap().iter().map(|level| {
        let word = |value: &Value| value.as_str().unwrap().to_owned();
        let parts: BTreeMap<String, String> =
            level[2].as_object().unwrap().iter().map(|(leg, size)| (leg.clone(), word(size))).collect();
        let sum: i64 = parts.values().map(|size| micro(size)).sum();
        assert_eq!(micro(&word(&level[1])), sum, "total is the sum of the parts: {level}");
        assert!(!seen.contains(&word(&level[0])), "a price appears twice: {message}");
        seen.push(word(&level[0]));
        (word(&level[0]), word(&level[1]), parts)
    });
    levels.collect()
}

/// A whole side of a snapshot as the model shows it.
pub fn shown(message: &Value, side: &str) -> Shown {
    read_side(message, side).into_iter().map(|(price, total, parts)| (price, (total, parts))).collect()
}

/// A normalised message.
pub fn message(kind: &str, asset: (&str, &str), number: (i64, i64), rest: &str) -> Vec<u8> {
    format!(
        r#"{{"type":"{kind}","platform":"{}","market_id":"m","asset_id":"{}","epoch":{},"n":{}{rest}}}"#,
        asset.0, asset.1, number.0, number.1
    )
    .into_bytes()
}

pub fn levels_json(bids: &[(i64, i64)], asks: &[(i64, i64)]) -> String {
    let side = |levels: &[(i64, i64)]| {
        let levels: Vec<_> =
            levels.iter().map(|(price, size)| format!(r#"["{}","{}"]"#, text(*price), text(*size))).collect();
        levels.join(",")
    };
    format!(r#","bids":[{}],"asks":[{}]"#, side(bids), side(asks))
}
