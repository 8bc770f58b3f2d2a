//! The border to Python: thin calls, no logic. The complete export list is on this screen.
//!
//! Calls stay attached to the interpreter: they take microseconds, and giving the interpreter back would cost
//! a switch interval on a busy process. Only putting a mapping in force, which is bulk work, detaches. No
//! lock of the core is ever held while Python runs, so neither can wait for the other.

mod book;
mod change;
mod convert;
mod decode;
mod error;
mod functions;
mod histogram;
mod mirror;
mod order_book;
mod store;
mod venue;
mod writer;

use pyo3::prelude::*;

/// The native order book core.
#[pymodule]
mod _core {
    #[pymodule_export]
    use super::book::{PyBook, PyLevel};
    #[pymodule_export]
    use super::change::PyChange;
    #[pymodule_export]
    use super::decode::{kalshi_delta, kalshi_snapshot, polymarket_frame};
    #[pymodule_export]
    use super::functions::{
        cell_hash, complement, format_micro, market_hash, matches, mirror_message, parse_micro,
        recorded_frame, salt, unmapped_aggregate,
    };
    #[pymodule_export]
    use super::histogram::PyHistogram;
    #[pymodule_export]
    use super::mirror::PyMirrorBook;
    #[pymodule_export]
    use super::order_book::PyOrderBook;
    #[pymodule_export]
    use super::store::PyBookStore;
    #[pymodule_export]
    use super::venue::PyVenueBook;
    #[pymodule_export]
    use super::writer::PyWriter;
    use super::*;
    use pyo3::types::PyTuple;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::error::register(module)?;
        let typing = module.py().import("typing")?;
        let literal = typing.getattr("Literal")?;
        for (name, words) in [
            ("LegState", &["syncing", "live", "resync", "down", "halted", "closed"][..]),
            ("BookState", &["live", "degraded", "down", "closed"]),
            ("Side", &["bid", "ask"]),
            ("Verdict", &["exact", "gap", "broken", "ignored"]),
        ] {
            // A union of single literals, which is how type checkers see `Literal` of several words.
            let words = words.iter().map(|word| literal.get_item(word)).collect::<PyResult<Vec<_>>>()?;
            module.add(name, typing.getattr("Union")?.get_item(PyTuple::new(module.py(), words)?)?)?;
        }
        // Whether this build is fit for measuring; the package warns on import when it is not.
        module.add("OPTIMISED", !cfg!(debug_assertions))
    }
}
