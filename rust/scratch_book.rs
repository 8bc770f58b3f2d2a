//! A book without venues, for scripts: legs are made by naming them.

use crate::digest;
use crate::error::{Error, Result};
use crate::fixed::{Price, Size};
use crate::json_text::write_text;
use crate::levels::{LegIndex, Levels, Side};
use crate::view::View;

/// Levels per leg under a name.
#[derive(Debug, Clone, Default)]
pub struct ScratchBook {
    name: String,
    levels: Levels,
    legs: Vec<Box<str>>,
    /// Rises with every change.
    seq: i64,
}

impl ScratchBook {
    /// An empty book.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Sets what a leg shows at a price; zero removes it.
    ///
    /// # Errors
    /// [`Error::Mapping`] for more than 64 legs.
    pub fn set(&mut self, side: Side, price: Price, size: Size, leg: &str) -> Result<()> {
        let place = match self.legs.iter().position(|known| &**known == leg) {
            Some(place) => place,
            None if self.legs.len() < crate::book::MAX_LEGS => {
                self.legs.push(leg.into());
                self.legs.len() - 1
            }
            None => return Err(Error::Mapping("more than 64 legs".to_owned())),
        };
        let index = LegIndex::try_from(place).unwrap_or(LegIndex::MAX);
        if self.levels.set(side, price, index, digest::salt(leg), size) {
            self.seq += 1;
        }
        Ok(())
    }

    /// Forgets every level.
    pub fn clear(&mut self) {
        self.levels.clear();
        self.seq += 1;
    }

    /// A frozen look at the book.
    #[must_use]
    pub fn view(&self) -> View {
        let mut legs = Vec::new();
        legs.push(b'{');
        for (place, leg) in self.legs.iter().enumerate() {
            if place > 0 {
                legs.push(b',');
            }
            write_text(&mut legs, leg);
            legs.extend_from_slice(b":{\"state\":\"live\"}");
        }
        legs.push(b'}');
        View::of_levels(&self.name, self.seq, &self.levels, &self.legs, &legs)
    }
}
