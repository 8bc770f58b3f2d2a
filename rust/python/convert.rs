//! Values on their way across the border.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyInt, PyString, PyType};

use crate::error::Error;
use crate::fixed;
use crate::levels::Side;

static DECIMAL: PyOnceLock<Py<PyType>> = PyOnceLock::new();

fn decimal_type(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    DECIMAL.import(py, "decimal", "Decimal")
}

/// A `decimal.Decimal` of a number in millionths, in its shortest exact form.
pub(super) fn decimal(py: Python<'_>, micro: i64) -> PyResult<Bound<'_, PyAny>> {
    decimal_type(py)?.call1((fixed::format(micro),))
}

/// A number in millionths from a `Decimal`, an `int` or text. Floats are refused: they are not exact.
pub(super) fn micro(value: &Bound<'_, PyAny>) -> PyResult<i64> {
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(fixed::parse(text.to_str()?)?);
    }
    let py = value.py();
    if value.is_instance(decimal_type(py)?.as_any())? {
        // Without exponent and needless zeros, which only say how the number was computed.
        let plain = value.call_method0("normalize")?.call_method1("__format__", ("f",))?;
        return Ok(fixed::parse(plain.cast::<PyString>()?.to_str()?)?);
    }
    if value.is_instance_of::<PyInt>() && !value.is_instance_of::<PyBool>() {
        return Ok(fixed::parse(value.str()?.to_str()?)?);
    }
    Err(PyTypeError::new_err("a Decimal, an int or decimal text is wanted (floats are not exact)"))
}

pub(super) fn side(text: &str) -> PyResult<Side> {
    Side::parse(text).ok_or_else(|| Error::Parse(format!("side {text:?} is neither 'bid' nor 'ask'")).into())
}

/// Microseconds since 1970, for calls that were given no time.
pub(super) fn now_us(given: Option<i64>) -> i64 {
    given.unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.ok().and_then(|since| i64::try_from(since.as_micros()).ok()).unwrap_or_default()
    })
}
