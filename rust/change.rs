//! What the store hands out: one encoded message and what it is about.

use std::sync::Arc;

/// Kind of an outgoing message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// Opens an epoch.
    Snapshot,
    /// Levels that changed.
    Delta,
    /// A leg or the book changed its state.
    Status,
    /// A trade, outside the book's sequence.
    Trade,
}

impl ChangeKind {
    /// The wire's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Delta => "delta",
            Self::Status => "status",
            Self::Trade => "trade",
        }
    }
}

/// One outgoing message, encoded once; every later hop forwards these bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What it is.
    pub kind: ChangeKind,
    /// Id of the YES book.
    pub book: Arc<str>,
    /// Where it is published.
    pub subject: Arc<str>,
    /// The book's epoch.
    pub epoch: i64,
    /// Sequence before (0 for a snapshot; a trade leaves the sequence as it is).
    pub prev: i64,
    /// Sequence after.
    pub seq: i64,
    /// Digest after.
    pub digest: u32,
    /// The message.
    pub payload: Vec<u8>,
}
