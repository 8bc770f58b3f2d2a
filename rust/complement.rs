//! The NO view of a message (wire.md section 1): price' = 1 − price, bids and asks swapped, the id of the
//! other view; every other byte stays, the digest included, since it is checked after mirroring back.

use crate::encode::put;
use crate::error::{Error, Result};
use crate::fixed::{Price, write_micro};
use crate::scan::{Scan, Scanner};

/// The other view of a snapshot, delta, status or trade. Applied twice it gives the message back, unless a
/// price was not in its shortest form.
///
/// # Errors
/// [`Error::Parse`] for text that is no such message.
pub fn mirror_message(message: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(message.len() + 16);
    mirror(message, &mut out)?;
    Ok(out)
}

fn mirror(message: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let mut scanner = Scanner::new(message);
    scanner.expect(b'{', "object expected")?;
    // Where the two sides stand; they are written at the end of reading, each in the other's place.
    let (mut bids, mut asks) = (None, None);
    let mut patches: [Option<(usize, usize, What)>; 4] = [None; 4];
    let mut count = 0;
    let mut first = true;
    while let Some(key) = scanner.key(&mut first)? {
        scanner.peek();
        let start = scanner.at();
        let raw = scanner.skip()?;
        let what = match key.bytes {
            b"book" => What::Book,
            b"bids" => {
                bids = Some(raw);
                What::Bids
            }
            b"asks" => {
                asks = Some(raw);
                What::Asks
            }
            b"price" => What::Price,
            _ => continue,
        };
        let Some(patch) = patches.get_mut(count) else {
            return Err(Error::Parse("a field appears twice".to_owned()));
        };
        *patch = Some((start, scanner.at(), what));
        count += 1;
    }
    scanner.end()?;
    let mut copied = 0;
    for (start, end, what) in patches.into_iter().flatten() {
        put(out, &message[copied..start]);
        copied = end;
        match what {
            What::Book => put_other_id(out, &message[start..end])?,
            What::Price => put_price(out, &message[start..end])?,
            // A message that names one side only has nothing on the other.
            What::Bids => put_levels(out, asks.unwrap_or(b"[]"))?,
            What::Asks => put_levels(out, bids.unwrap_or(b"[]"))?,
        }
    }
    put(out, &message[copied..]);
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum What {
    Book,
    Bids,
    Asks,
    Price,
}

fn put_other_id(out: &mut Vec<u8>, raw: &[u8]) -> Result<()> {
    if let Some(head) = raw.strip_suffix(b".yes\"") {
        put(out, head);
        put(out, b".no\"");
    } else if let Some(head) = raw.strip_suffix(b".no\"") {
        put(out, head);
        put(out, b".yes\"");
    } else {
        return Err(Error::Parse("book is no book id".to_owned()));
    }
    Ok(())
}

fn put_price(out: &mut Vec<u8>, raw: &[u8]) -> Result<()> {
    let text = Scanner::new(raw).text()?;
    let price = Price::parse(text.bytes).ok_or_else(|| Error::Parse("price does not fit".to_owned()))?;
    out.push(b'"');
    write_micro(out, price.complement().micro());
    out.push(b'"');
    Ok(())
}

/// Copies a side with every level's price turned over.
fn put_levels(out: &mut Vec<u8>, raw: &[u8]) -> Result<()> {
    let mut scanner = Scanner::new(raw);
    scanner.expect(b'[', "list of levels expected")?;
    let mut copied = 0;
    let mut first = true;
    while scanner.item(&mut first)? {
        scanner.expect(b'[', "level expected")?;
        scanner.peek();
        let start = scanner.at();
        scanner.text()?;
        put(out, &raw[copied..start]);
        copied = scanner.at();
        put_price(out, &raw[start..copied])?;
        finish_level(&mut scanner)?;
    }
    put(out, &raw[copied..]);
    Ok(())
}

fn finish_level(scanner: &mut Scanner<'_>) -> Scan<()> {
    let mut first = false;
    while scanner.item(&mut first)? {
        scanner.skip()?;
    }
    Ok(())
}
