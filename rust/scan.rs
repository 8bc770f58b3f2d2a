//! A scanner over JSON text that borrows and never copies.
//!
//! Messages are read in one pass, any key order, whitespace and escapes included; unknown values are skipped
//! but still checked, so a cut or garbled message is always found. Nothing recurses: depth is a counter.

use crate::json_text::RawText;

/// Text that is not the JSON expected, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    /// What was missing or wrong.
    pub what: &'static str,
    /// Byte offset.
    pub at: usize,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

impl From<Malformed> for crate::error::Error {
    fn from(error: Malformed) -> Self {
        Self::Parse(error.to_string())
    }
}

/// Result of a scanning step.
pub type Scan<T> = std::result::Result<T, Malformed>;

/// How many bytes at the front are neither a quote, a backslash nor a control character: eight at a time, since
/// most of a message is inside strings.
#[inline]
fn plain(text: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    let is_zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let mut at = 0;
    while let Some(chunk) = text.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let found = is_zero(word ^ (ONES * 0x22)) | is_zero(word ^ (ONES * 0x5C)) | control;
        if found != 0 {
            // A borrow can only spoil the bytes after the first hit.
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1F);
    at + text[at..].iter().position(special).unwrap_or(text.len() - at)
}

/// The number that the first eight bytes spell, if they are digits: pairs, then fours, then all eight.
#[inline(always)]
fn eight_digits(text: &[u8]) -> Option<i64> {
    let word = u64::from_le_bytes(*text.first_chunk::<8>()?);
    let digits = word ^ 0x3030_3030_3030_3030;
    // A byte above nine shows in its high half, or gets there by adding six.
    if (digits | digits.wrapping_add(0x0606_0606_0606_0606)) & 0xF0F0_F0F0_F0F0_F0F0 != 0 {
        return None;
    }
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8) & 0x00FF_00FF_00FF_00FF;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_FFFF_0000_FFFF;
    let eight = fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xFFFF_FFFF;
    i64::try_from(eight).ok()
}

/// Position in a JSON text.
#[derive(Debug, Clone)]
pub struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// Byte offset of the next byte.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// The text from an earlier offset up to here.
    #[must_use]
    pub fn since(&self, start: usize) -> &'a [u8] {
        &self.text[start..self.at]
    }

    #[cold]
    fn fail<T>(&self, what: &'static str) -> Scan<T> {
        Err(Malformed { what, at: self.at })
    }

    /// Next byte that is not white space, not consumed.
    #[inline(always)]
    pub fn peek(&mut self) -> Option<u8> {
        match self.text.get(self.at) {
            Some(&byte) if byte > b' ' => Some(byte),
            _ => self.peek_past_space(),
        }
    }

    /// Our own producers write no white space, so this is kept out of the way of the above.
    #[cold]
    fn peek_past_space(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.text.get(self.at) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    /// Consumes a given byte if it is next.
    #[inline(always)]
    pub fn take(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    /// Consumes a byte that must be next.
    ///
    /// # Errors
    /// [`Malformed`] when it is not.
    #[inline(always)]
    pub fn expect(&mut self, wanted: u8, what: &'static str) -> Scan<()> {
        if self.take(wanted) { Ok(()) } else { self.fail(what) }
    }

    /// Next key of an object whose brace was consumed, with its colon; `None` at the closing brace.
    ///
    /// # Errors
    /// [`Malformed`] when neither is there.
    #[inline(always)]
    pub fn key(&mut self, first: &mut bool) -> Scan<Option<RawText<'a>>> {
        if self.take(b'}') {
            // A comma before the brace was refused by the key that had to follow it.
            return Ok(None);
        }
        if !std::mem::take(first) {
            self.expect(b',', "comma or closing brace expected")?;
        }
        let key = self.text()?;
        self.expect(b':', "colon expected")?;
        Ok(Some(key))
    }

    /// Moves to the next item of an array whose bracket was consumed; `false` at the closing bracket.
    ///
    /// # Errors
    /// [`Malformed`] when neither an item nor the end is there.
    #[inline(always)]
    pub fn item(&mut self, first: &mut bool) -> Scan<bool> {
        if self.take(b']') {
            return Ok(false);
        }
        if !std::mem::take(first) {
            self.expect(b',', "comma or closing bracket expected")?;
            if self.peek() == Some(b']') {
                return self.fail("item expected");
            }
        }
        Ok(true)
    }

    /// A string.
    ///
    /// # Errors
    /// [`Malformed`] when none is there or it does not end.
    #[inline(always)]
    pub fn text(&mut self) -> Scan<RawText<'a>> {
        self.expect(b'"', "string expected")?;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += plain(&self.text[self.at..]);
            let Some(&byte) = self.text.get(self.at) else { break };
            match byte {
                b'"' => {
                    let bytes = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(RawText { bytes, escaped });
                }
                b'\\' => {
                    escaped = true;
                    let length = match self.text.get(self.at + 1) {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
                        Some(b'u') => {
                            let digits = self.text.get(self.at + 2..self.at + 6);
                            if !digits.is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) {
                                return self.fail("bad escape");
                            }
                            6
                        }
                        _ => return self.fail("bad escape"),
                    };
                    self.at += length;
                }
                0..=0x1F => return self.fail("control character in string"),
                _ => self.at += 1,
            }
        }
        self.fail("string does not end")
    }

    /// An integer.
    ///
    /// # Errors
    /// [`Malformed`] when none is there or it does not fit 64 bits.
    #[inline(always)]
    pub fn integer(&mut self) -> Scan<i64> {
        let negative = self.take(b'-');
        if !negative {
            self.peek();
        }
        let start = self.at;
        let mut value: i64 = 0;
        // Stamps have sixteen digits: eight at a time, at most twice, which always fits.
        for _ in 0..2 {
            let Some(eight) = self.text.get(self.at..).and_then(eight_digits) else { break };
            value = value * 100_000_000 + eight;
            self.at += 8;
        }
        while let Some(digit) = self.text.get(self.at).map(|byte| byte.wrapping_sub(b'0')).filter(|d| *d <= 9)
        {
            // Eighteen digits always fit.
            value = if self.at - start < 18 {
                value * 10 + i64::from(digit)
            } else {
                match value.checked_mul(10).and_then(|value| value.checked_add(i64::from(digit))) {
                    Some(value) => value,
                    None => return self.fail("integer does not fit"),
                }
            };
            self.at += 1;
        }
        let leading_zero = self.at > start + 1 && self.text.get(start) == Some(&b'0');
        let goes_on = matches!(self.text.get(self.at), Some(b'.' | b'e' | b'E'));
        if self.at == start || leading_zero || goes_on {
            return self.fail("integer expected");
        }
        Ok(if negative { -value } else { value })
    }

    /// True or false.
    ///
    /// # Errors
    /// [`Malformed`] when neither is there.
    pub fn boolean(&mut self) -> Scan<bool> {
        match self.peek() {
            Some(b't') => self.word(b"true").map(|()| true),
            Some(b'f') => self.word(b"false").map(|()| false),
            _ => self.fail("boolean expected"),
        }
    }

    fn word(&mut self, word: &'static [u8]) -> Scan<()> {
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(())
        } else {
            self.fail("unknown word")
        }
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        self.at - start
    }

    /// A number by JSON's own grammar, so that a garbled one is found.
    fn number(&mut self) -> Scan<()> {
        self.at += usize::from(self.text.get(self.at) == Some(&b'-'));
        let leading_zero = self.text.get(self.at) == Some(&b'0');
        let whole = self.digits();
        if whole == 0 || (leading_zero && whole > 1) {
            return self.fail("value expected");
        }
        let mut written = whole;
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            let part = self.digits();
            if part == 0 {
                return self.fail("digit expected");
            }
            written += part;
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            self.at += 1;
            self.at += usize::from(matches!(self.text.get(self.at), Some(b'+' | b'-')));
            let exponent = self.digits();
            if exponent == 0 {
                return self.fail("digit expected");
            }
            // Not every reader has a number so large: the one that decides about them gets it.
            if exponent > 2 {
                return self.fail("number too large");
            }
        }
        if written > 40 {
            return self.fail("number too long");
        }
        Ok(())
    }

    /// Steps over one value of any kind and returns its text.
    ///
    /// # Errors
    /// [`Malformed`] when it is not one whole value, or nests deeper than 64.
    pub fn skip(&mut self) -> Scan<&'a [u8]> {
        self.peek();
        let start = self.at;
        // One bit per open bracket: 1 for an object.
        let (mut open, mut depth) = (0u64, 0u32);
        loop {
            // A value is expected here.
            match self.peek() {
                Some(opening @ (b'{' | b'[')) => {
                    self.at += 1;
                    let object = opening == b'{';
                    if !self.take(if object { b'}' } else { b']' }) {
                        if depth == 64 {
                            return self.fail("nests too deep");
                        }
                        open = open << 1 | u64::from(object);
                        depth += 1;
                        if object {
                            self.text()?;
                            self.expect(b':', "colon expected")?;
                        }
                        continue;
                    }
                }
                Some(b'"') => drop(self.text()?),
                Some(b't') => self.word(b"true")?,
                Some(b'f') => self.word(b"false")?,
                Some(b'n') => self.word(b"null")?,
                _ => self.number()?,
            }
            // A value has ended: close brackets until a comma asks for the next.
            loop {
                if depth == 0 {
                    return Ok(self.since(start));
                }
                let object = open & 1 == 1;
                if self.take(b',') {
                    if object {
                        self.text()?;
                        self.expect(b':', "colon expected")?;
                    }
                    break;
                }
                self.expect(if object { b'}' } else { b']' }, "comma or closing bracket expected")?;
                open >>= 1;
                depth -= 1;
            }
        }
    }

    /// Only white space may follow.
    ///
    /// # Errors
    /// [`Malformed`] when something else does.
    pub fn end(&mut self) -> Scan<()> {
        if self.peek().is_none() { Ok(()) } else { self.fail("text after the message") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole values are stepped over; cut or garbled ones are found.
    #[test]
    fn skip_checks() {
        for good in [r#"{"a":[1,{"b":null}],"c":"\u00e9\"x"}"#, "[]", "{}", "-1.5e3", "true", " [ 1 , 2 ] "] {
            let mut scanner = Scanner::new(good.as_bytes());
            scanner.skip().unwrap();
            scanner.end().unwrap();
        }
        let deep = "[".repeat(70);
        for bad in
            ["", "{", "[1,]", r#"{"a"}"#, r#"{"a":1,}"#, "[1}", r#""a"#, "tru", r#""\x""#, "\"\n\"", &deep]
        {
            let mut scanner = Scanner::new(bad.as_bytes());
            assert!(scanner.skip().and_then(|_| scanner.end()).is_err(), "{bad}");
        }
    }
}
