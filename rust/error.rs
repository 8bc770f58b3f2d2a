//! What can go wrong at the border of the core.
//!
//! Only input whose leg cannot be told is an error; a bad message of a known leg is an event of that leg
//! (it goes to `resync`), because doubt must reach every client as state and not only the caller as a value.

/// Errors of the public calls. Each maps to one Python exception class (see `python/error.rs`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Bytes or text that cannot be read.
    #[error("cannot read: {0}")]
    Parse(String),
    /// No leg in the mapping for this asset.
    #[error("no leg for {platform}:{asset}")]
    UnknownAsset {
        /// The venue's short name.
        platform: String,
        /// What the venue quotes.
        asset: String,
    },
    /// No such book id.
    #[error("no book {0}")]
    UnknownBook(String),
    /// A number that does not fit.
    #[error("number does not fit: {0}")]
    Number(String),
    /// An increment took a level below zero.
    #[error("size below zero: {0}")]
    NegativeSize(String),
    /// A mapping table that contradicts itself; nothing of it was applied.
    #[error("mapping refused: {0}")]
    Mapping(String),
    /// A fault of ours that was caught; the state it may have touched is in doubt.
    #[error("internal error: {0}")]
    Internal(String),
}

/// Result of the core's calls.
pub type Result<T> = std::result::Result<T, Error>;

/// Runs something and turns a panic into an error, so that none crosses into Python.
///
/// # Errors
/// What `act` returns, or [`Error::Internal`] after a panic.
pub fn guarded<T>(act: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Error::Internal(text.unwrap_or_else(|| "panic".to_owned())))
    })
}
