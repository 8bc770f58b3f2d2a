//! Exception classes, and the one place where an error becomes an exception.

use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

use crate::error::Error;

pyo3::create_exception!(wup._core, CoreError, PyException, "Base of every error of the core.");
pyo3::create_exception!(wup._core, ParseError, CoreError, "Bytes or text that cannot be read.");
pyo3::create_exception!(wup._core, UnknownAsset, CoreError, "No leg in the mapping for (platform, asset).");
pyo3::create_exception!(wup._core, UnknownBook, CoreError, "No such book id.");
pyo3::create_exception!(wup._core, NegativeSize, CoreError, "An increment took a level below zero.");
pyo3::create_exception!(wup._core, MappingError, CoreError, "A mapping table that contradicts itself.");

/// `NumberError(CoreError, ValueError)`: two bases, which the macro cannot say.
static NUMBER_ERROR: PyOnceLock<Py<PyType>> = PyOnceLock::new();

fn number_error(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    NUMBER_ERROR
        .get_or_try_init(py, || {
            let bases = PyTuple::new(py, [py.get_type::<CoreError>(), py.get_type::<PyValueError>()])?;
            let body = PyDict::new(py);
            body.set_item("__module__", "wup._core")?;
            body.set_item("__doc__", "A number that does not fit exactly.")?;
            let class = py.get_type::<PyType>().call1(("NumberError", bases, body))?;
            Ok::<_, PyErr>(class.cast_into::<PyType>()?.unbind())
        })
        .map(|class| class.bind(py))
}

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Parse(_) => ParseError::new_err(text),
            Error::UnknownAsset { .. } => UnknownAsset::new_err(text),
            Error::UnknownBook(_) => UnknownBook::new_err(text),
            Error::NegativeSize(_) => NegativeSize::new_err(text),
            Error::Mapping(_) => MappingError::new_err(text),
            Error::Internal(_) => CoreError::new_err(text),
            Error::Number(_) => Python::attach(|py| match number_error(py) {
                Ok(class) => PyErr::from_type(class.clone(), text),
                Err(error) => error,
            }),
        }
    }
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("CoreError", py.get_type::<CoreError>())?;
    module.add("ParseError", py.get_type::<ParseError>())?;
    module.add("UnknownAsset", py.get_type::<UnknownAsset>())?;
    module.add("UnknownBook", py.get_type::<UnknownBook>())?;
    module.add("NegativeSize", py.get_type::<NegativeSize>())?;
    module.add("MappingError", py.get_type::<MappingError>())?;
    module.add("NumberError", number_error(py)?)
}
