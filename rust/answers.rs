//! What a store answers: one book, several, and which there are.

use std::sync::Arc;

use crate::book::Book;
use crate::error::{Error, Result};
use crate::keys::yes_id;
use crate::pattern::Pattern;
use crate::store::{Slot, Store};

impl Store {
    fn slot_of_book(&self, yes_id: &str) -> Result<Arc<Slot>> {
        let slot = self.books.get(yes_id).map(|slot| Arc::clone(&slot));
        slot.ok_or_else(|| Error::UnknownBook(yes_id.to_owned()))
    }

    /// Reads one book under its lock.
    ///
    /// # Errors
    /// [`Error::UnknownBook`].
    pub fn read<T>(&self, book: &str, act: impl FnOnce(&Book, bool) -> T) -> Result<T> {
        let (id, no) = yes_id(book)?;
        let _gate = self.gate.read();
        let slot = self.slot_of_book(&id)?;
        let book = slot.lock();
        Ok(act(&book, no))
    }

    /// The snapshot message of a book, YES or NO by its id.
    ///
    /// # Errors
    /// [`Error::UnknownBook`].
    pub fn snapshot(&self, book: &str, depth: Option<usize>, why: &str, now_us: i64) -> Result<Vec<u8>> {
        self.read(book, |book, no| book.snapshot(no, depth, why, now_us))
    }

    /// Snapshot messages of these books, one per line; those that are gone are left out.
    #[must_use]
    pub fn lines(&self, books: &[String], why: &str, now_us: i64) -> Vec<u8> {
        let mut lines = Vec::new();
        for book in books {
            if let Ok(snapshot) = self.snapshot(book, None, why, now_us) {
                lines.extend_from_slice(&snapshot);
                lines.push(b'\n');
            }
        }
        lines
    }

    /// Ids of the books that match, in mapping order; NO ids for a pattern that names NO views.
    ///
    /// # Errors
    /// [`Error::Parse`] for what is no pattern.
    pub fn matching(&self, pattern: &str) -> Result<Vec<String>> {
        let pattern = Pattern::parse(pattern)?;
        let slots = self.slots();
        let ids = slots.iter().map(|slot| {
            let id = Arc::clone(&slot.lock().id);
            if pattern.is_no() {
                format!("{}no", id.strip_suffix("yes").unwrap_or(&id))
            } else {
                id.to_string()
            }
        });
        Ok(ids.filter(|id| pattern.matches(id)).collect())
    }
}
