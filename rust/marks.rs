//! Marks: a cheap proof once a second that nothing was lost (wire.md section 2 and section 3 rule 7).

use std::sync::atomic::Ordering;

use crate::change::Change;
use crate::encode::put;
use crate::error::{Error, Result};
use crate::fixed::{write_integer, write_unsigned};
use crate::json_text::write_text;
use crate::normalised::integer;
use crate::scan::Scanner;
use crate::store::Store;

/// A marks message is split before it grows past this: its readers parse one at a time between changes, and 16 KiB
/// take them a tenth of a millisecond.
const SPLIT: usize = 16 * 1024;
/// Books that changed this recently are in every call's marks.
const RECENT_US: i64 = 2_000_000;

impl Store {
    /// The marks messages of one second: books changed in the last two seconds and one thirtieth of all, or
    /// all when `full`. There is always at least one message. Also drops books whose time is over.
    pub fn marks(&self, shard: &str, now_us: i64, full: bool) -> Vec<Vec<u8>> {
        self.tick(now_us);
        // Counted by call and not by message: a split must not skip a share.
        let turn = self.marks_calls.fetch_add(1, Ordering::Relaxed) % 30;
        let mut messages = Vec::new();
        let mut message = self.begin_marks(shard);
        let mut empty = true;
        for slot in self.slots() {
            let book = slot.lock();
            let recent = now_us.saturating_sub(book.changed_us) <= RECENT_US;
            if book.dropped || !(full || recent || u64::from(book.rotation) == turn) {
                continue;
            }
            if message.len() + book.id.len() + 80 > SPLIT {
                put(&mut message, b"}}");
                messages.push(std::mem::replace(&mut message, self.begin_marks(shard)));
                empty = true;
            }
            put(&mut message, if std::mem::take(&mut empty) { b"\"" } else { b",\"" });
            put(&mut message, book.id.as_bytes());
            put(&mut message, b"\":[");
            write_integer(&mut message, book.epoch);
            message.push(b',');
            write_integer(&mut message, book.seq);
            message.push(b',');
            write_unsigned(&mut message, u64::from(book.levels.digest()));
            put(&mut message, b",\"");
            put(&mut message, book.state.as_str().as_bytes());
            put(&mut message, b"\"]");
        }
        put(&mut message, b"}}");
        messages.push(message);
        messages
    }

    fn begin_marks(&self, shard: &str) -> Vec<u8> {
        let n = self.marks_n.fetch_add(1, Ordering::Relaxed) + 1;
        let mut message = Vec::with_capacity(1024);
        put(&mut message, b"{\"type\":\"marks\",\"shard\":");
        write_text(&mut message, shard);
        put(&mut message, b",\"n\":");
        write_unsigned(&mut message, n);
        put(&mut message, b",\"books\":{");
        message
    }

    /// Compares a producer's marks with what arrived; an asset that is behind goes to `resync`.
    ///
    /// # Errors
    /// [`Error::Parse`] for bytes that are no marks message. Assets that are not mapped are passed over.
    pub fn check_marks(
        &self,
        platform: &str,
        marks: &[u8],
        now_us: i64,
        out: &mut Vec<Change>,
    ) -> Result<()> {
        let (epoch, assets) = read_marks(marks)?;
        for (asset, n) in assets {
            match self.check_mark(platform, &asset, (epoch, n), now_us, out) {
                Ok(()) | Err(Error::UnknownAsset { .. }) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }

    /// The epoch of an asset's last message, which names the process that it came from; `None` before the first.
    #[must_use]
    pub fn leg_epoch(&self, platform: &str, asset: &str) -> Option<i64> {
        let _gate = self.gate.read();
        let slot = self.slot_of_asset(platform, asset).ok()?;
        let mut book = slot.lock();
        let leg = book.leg_of(platform, asset)?;
        book.leg(leg).epoch
    }

    /// Those of `assets` that a producer of this epoch speaks for: they are mapped, and nothing of a later epoch was
    /// heard of them. Another's marks say nothing about what is shown.
    #[must_use]
    pub fn speaks_for(&self, platform: &str, epoch: i64, assets: Vec<String>) -> Vec<String> {
        let _gate = self.gate.read();
        let speaks = |asset: &str| {
            let slot = self.slot_of_asset(platform, asset).ok()?;
            let mut book = slot.lock();
            let leg = book.leg_of(platform, asset)?;
            Some(book.leg(leg).epoch.is_none_or(|known| known <= epoch))
        };
        assets.into_iter().filter(|asset| speaks(asset) == Some(true)).collect()
    }
}

/// Reads a whole marks message before anything of it counts.
fn read_marks(marks: &[u8]) -> Result<(i64, Vec<(String, i64)>)> {
    let mut scanner = Scanner::new(marks);
    let (mut is_marks, mut epoch, mut assets) = (false, None, None);
    scanner.expect(b'{', "object expected")?;
    let mut first = true;
    while let Some(key) = scanner.key(&mut first)? {
        match key.bytes {
            b"type" => is_marks = scanner.skip()? == b"\"marks\"",
            b"epoch" => epoch = integer(&mut scanner)?,
            b"assets" => {
                scanner.expect(b'{', "object of assets expected")?;
                let (mut list, mut first) = (Vec::new(), true);
                while let Some(asset) = scanner.key(&mut first)? {
                    let n = integer(&mut scanner)?;
                    if let (Some(asset), Some(n)) = (asset.text(), n) {
                        list.push((asset.into_owned(), n));
                    }
                }
                assets = Some(list);
            }
            _ => drop(scanner.skip()?),
        }
    }
    scanner.end()?;
    match (is_marks, epoch, assets) {
        (true, Some(epoch), Some(assets)) => Ok((epoch, assets)),
        _ => Err(Error::Parse("not a marks message".to_owned())),
    }
}
