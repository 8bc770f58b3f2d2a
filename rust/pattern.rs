//! Subscription patterns: NATS rules over the three tokens of a book id (wire.md section 1).

use crate::error::{Error, Result};
use crate::keys::is_token;

/// One token of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Exact(Box<str>),
    Any,
}

/// A parsed pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    tokens: Vec<Token>,
    /// Ends in `>`: one or more further tokens.
    tail: bool,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`Error::Parse`] for an empty or illegal token, `>` before the end, or more than three tokens.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |why: &str| Err(Error::Parse(format!("pattern {text:?}: {why}")));
        let mut tokens = Vec::with_capacity(3);
        let mut tail = false;
        for part in text.split('.') {
            if tail {
                return refuse("'>' must be last");
            }
            match part {
                ">" => tail = true,
                "*" => tokens.push(Token::Any),
                exact if is_token(exact) => tokens.push(Token::Exact(exact.into())),
                _ => return refuse("illegal token"),
            }
        }
        match tokens.len() + usize::from(tail) {
            4.. => refuse("more than three tokens"),
            3 => Ok(Self { tokens, tail }),
            _ if tail => Ok(Self { tokens, tail }),
            _ => refuse("fewer than three tokens"),
        }
    }

    /// True when the pattern's third token is written `no`: it names NO views.
    #[must_use]
    pub fn is_no(&self) -> bool {
        matches!(self.tokens.get(2), Some(Token::Exact(token)) if &**token == "no")
    }

    /// Whether a book id matches. Wildcards never match the token `no`.
    #[must_use]
    pub fn matches(&self, book: &str) -> bool {
        let mut parts = book.split('.');
        for (place, token) in self.tokens.iter().enumerate() {
            let Some(part) = parts.next() else { return false };
            let fits = match token {
                Token::Any => place < 2 || part != "no",
                Token::Exact(exact) => &**exact == part,
            };
            if !fits {
                return false;
            }
        }
        if !self.tail {
            return parts.next().is_none();
        }
        let rest = parts.count();
        rest > 0 && !book.ends_with(".no")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, book: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(book)
    }

    /// Wildcards must follow NATS, and never reach NO views.
    #[test]
    fn rules() {
        for pattern in [">", "a.>", "a.b.>", "a.*.yes", "*.*.*", "*.b.yes", "a.b.yes"] {
            assert!(matches(pattern, "a.b.yes"), "{pattern}");
            assert!(!matches(pattern, "a.b.no"), "{pattern}");
        }
        for pattern in ["*.*.no", "a.b.no", "a.*.no"] {
            assert!(matches(pattern, "a.b.no") && !matches(pattern, "a.b.yes"), "{pattern}");
        }
        assert!(!matches("a.b.>", "c.b.yes"));
        assert!(matches("no.no.*", "no.no.yes"));
    }

    /// What is no pattern must be refused.
    #[test]
    fn refused() {
        for bad in ["", "a", "a.b", "a..yes", "a.b.c.d", ">.a", "a.>.yes", "a.b*.yes", "a.b.yes.>", "ä.b.yes"]
        {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }
}
