//! WUP's core: consolidated order books for prediction markets, exact, diffed and digested.
//!
//! In the order in which data flows:
//!
//! - [`scan`] and [`json_text`] read JSON in place; [`normalised`] is a venue's message; [`fixed`] its exact numbers.
//! - [`leg`] is one venue asset in a book; [`levels`] the sizes per leg at each price with their [`digest`].
//! - [`book`] is one consolidated book, [`merge`] what a message does to it, `encode` how it speaks, [`best`] its top.
//! - [`store`] holds all books, [`mapping`] says which assets feed them, [`marks`] proves that nothing was lost;
//!   `answers` is what it is asked for, `counters` what it counts.
//! - [`mirror`] is a client's verifying copy, [`complement`] the NO view of a message.
//! - [`venue_book`] is one asset's own book for the adapters, [`venue_hash`] a venue's checksum over it;
//!   [`kalshi`] and [`polymarket`] read the venues' hot frames, [`usual`] what both ask of a frame first;
//!   [`writer`] writes the normalised messages that [`normalised`] reads.
//! - [`keys`], [`pattern`], [`view`], [`render`], [`scratch_book`] and [`histogram`] are what stands beside.
//!
//! Everything here builds, tests and fuzzes without Python; the module `python` is the border to it.

pub(crate) mod answers;
pub mod best;
pub mod book;
pub mod change;
pub mod complement;
pub(crate) mod counters;
pub mod digest;
pub(crate) mod encode;
pub mod error;
pub mod fixed;
pub mod histogram;
pub mod json_text;
pub mod kalshi;
pub mod keys;
pub mod leg;
pub mod levels;
pub mod mapping;
pub mod marks;
pub mod merge;
pub mod mirror;
pub mod normalised;
pub mod pattern;
pub mod polymarket;
#[cfg(feature = "python")]
mod python;
pub mod render;
pub mod scan;
pub mod scratch_book;
pub mod store;
pub mod usual;
pub mod venue_book;
pub mod venue_hash;
pub mod view;
pub mod writer;
