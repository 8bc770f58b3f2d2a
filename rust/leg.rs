//! A leg: one venue asset in a book, with the state that decides whether its sizes may be shown.

use std::sync::Arc;

use crate::digest;

/// State of a leg. Only `Live` contributes size (architecture.md section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LegState {
    /// Shown.
    Live,
    /// No snapshot yet.
    Syncing,
    /// An integrity check failed, repair under way.
    Resync,
    /// No connection, or silent too long.
    Down,
    /// The venue stopped trading.
    Halted,
    /// The market is over.
    Closed,
}

impl LegState {
    /// Reads the wire's word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "syncing" => Self::Syncing,
            "live" => Self::Live,
            "resync" => Self::Resync,
            "down" => Self::Down,
            "halted" => Self::Halted,
            "closed" => Self::Closed,
            _ => return None,
        })
    }

    /// The wire's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Syncing => "syncing",
            Self::Resync => "resync",
            Self::Down => "down",
            Self::Halted => "halted",
            Self::Closed => "closed",
        }
    }

    /// The word for why a leg got there, when nobody said (wire.md section 3 rule 5).
    #[must_use]
    pub fn usual_reason(self) -> &'static str {
        match self {
            Self::Down => "disconnected",
            Self::Halted => "halted",
            Self::Closed => "closed",
            Self::Live | Self::Syncing | Self::Resync => "gap",
        }
    }

    /// The graver of two states: the order in which they are declared.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        self.max(other)
    }
}

/// State of a book (wire.md section 3 rule 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BookState {
    /// All legs live.
    Live,
    /// Some legs live.
    Degraded,
    /// No leg live, or no leg.
    Down,
    /// All legs closed.
    Closed,
}

impl BookState {
    /// The wire's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::Closed => "closed",
        }
    }

    /// Reads the wire's word.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        Some(match text {
            b"live" => Self::Live,
            b"degraded" => Self::Degraded,
            b"down" => Self::Down,
            b"closed" => Self::Closed,
            _ => return None,
        })
    }

    /// The state that follows from the legs' states; closed legs are left out of the count.
    #[must_use]
    pub fn of(legs: impl Iterator<Item = LegState>) -> Self {
        let (mut live, mut other, mut closed) = (0, 0, 0);
        for state in legs {
            match state {
                LegState::Live => live += 1,
                LegState::Closed => closed += 1,
                _ => other += 1,
            }
        }
        match (live, other) {
            (0, 0) if closed > 0 => Self::Closed,
            (0, _) => Self::Down,
            (_, 0) => Self::Live,
            _ => Self::Degraded,
        }
    }
}

/// What is known of an asset beside its book; shortest exact text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Smallest price step.
    pub tick: Option<Box<str>>,
    /// Smallest order.
    pub min_size: Option<Box<str>>,
}

/// One venue asset in a book.
#[derive(Debug, Clone)]
pub struct Leg {
    /// The venue's short name.
    pub platform: Arc<str>,
    /// What the venue quotes.
    pub asset: Arc<str>,
    /// Unique in the book: `kalshi`, `kalshi-2`.
    pub name: Arc<str>,
    /// Of the name, for the digest.
    pub salt: u32,
    /// The asset's YES is the book's NO.
    pub inverted: bool,
    /// Whether it is shown.
    pub state: LegState,
    /// Epoch of the last message; `None` before the first.
    pub epoch: Option<i64>,
    /// Number of the last message in that epoch.
    pub n: i64,
    /// When it was last heard.
    pub heard_us: Option<i64>,
    /// A snapshot is wanted that will not come by itself: asked for once, and again at each mark until it
    /// is there (the request can be lost as any message can).
    pub wants_snapshot: bool,
    /// That it is closed is the caller's verdict (the mapping's): its messages may not be passed on any more, so that
    /// none of them being lost means anything. Ends with whatever its producer says.
    pub judged_closed: bool,
    /// Facts for display.
    pub facts: Facts,
}

impl Leg {
    /// A leg that nothing was heard of yet.
    #[must_use]
    pub fn new(platform: Arc<str>, asset: Arc<str>, name: Arc<str>, inverted: bool) -> Self {
        Self {
            platform,
            asset,
            salt: digest::salt(&name),
            name,
            inverted,
            state: LegState::Syncing,
            epoch: None,
            n: 0,
            heard_us: None,
            wants_snapshot: true,
            judged_closed: false,
            facts: Facts::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use LegState::{Closed, Down, Live, Syncing};

    /// Closed legs are left out of the count unless all are closed.
    #[test]
    fn book_states() {
        for (legs, state) in [
            (&[][..], BookState::Down),
            (&[Live], BookState::Live),
            (&[Live, Closed], BookState::Live),
            (&[Live, Syncing], BookState::Degraded),
            (&[Syncing, Closed], BookState::Down),
            (&[Closed, Closed], BookState::Closed),
            (&[Live, Down, Closed], BookState::Degraded),
        ] {
            assert_eq!(BookState::of(legs.iter().copied()), state, "{legs:?}");
        }
    }
}
