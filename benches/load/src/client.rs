//! One subscriber: handshake, one subscription, then every frame counted, timed and verified.

use std::collections::HashMap;
use std::io::Write;
use std::net::TcpStream;

use foldhash::fast::RandomState;
use nix::sys::socket::{setsockopt, sockopt};

use crate::books::{Books, Place};
use crate::frames::{self, Frame};
use crate::message::{self, Head};
use crate::stats::Stats;

/// What all clients share.
pub struct Shared {
    pub books: Books,
    pub stats: Stats,
}

pub struct Client {
    stream: TcpStream,
    pub closed: bool,
    pattern: String,
    opened: bool,
    partial: Vec<u8>,
    places: HashMap<u32, Place, RandomState>,
    matched: Option<usize>,
    snapshots: usize,
    count: u64,
}

impl Client {
    pub fn new(stream: TcpStream, pattern: String) -> Self {
        Self {
            stream,
            closed: false,
            pattern,
            opened: false,
            partial: Vec::new(),
            places: HashMap::default(),
            matched: None,
            snapshots: 0,
            count: 0,
        }
    }

    /// Ask for the upgrade, and for the kernel's stamps; the socket is connected.
    pub fn greet(&mut self, host: &str) -> Result<(), String> {
        setsockopt(&self.stream, sockopt::ReceiveTimestampns, &true).map_err(|e| format!("stamps: {e}"))?;
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: wup.v1\r\n\r\n"
        );
        self.write(request.as_bytes())
    }

    /// Subscribed, and every matching book has come.
    pub fn ready(&self) -> bool {
        self.matched.is_some_and(|matched| self.snapshots >= matched)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        // Everything that this client says fits into an empty send buffer.
        self.stream.write_all(bytes).map_err(|error| format!("write: {error}"))
    }

    /// What the socket gave, the last of it at `now` (microseconds since 1970).
    pub fn received(&mut self, bytes: &[u8], now: i64, shared: &mut Shared) -> Result<(), String> {
        if self.closed {
            return Ok(());
        }
        shared.stats.reads += 1;
        shared.stats.bytes += bytes.len() as u64;
        if self.partial.is_empty() {
            let used = self.take_all(bytes, now, shared)?;
            self.partial.extend_from_slice(&bytes[used..]);
        } else {
            let mut joined = std::mem::take(&mut self.partial);
            joined.extend_from_slice(bytes);
            let used = self.take_all(&joined, now, shared)?;
            joined.drain(..used);
            if joined.is_empty() {
                joined = Vec::new();
            }
            self.partial = joined;
        }
        Ok(())
    }

    /// Nothing comes any more.
    pub fn end(&mut self, why: &str, shared: &mut Shared) {
        if !self.closed {
            self.closed = true;
            *shared.stats.closes.entry(why.to_owned()).or_default() += 1;
        }
    }

    fn take_all(&mut self, bytes: &[u8], now: i64, shared: &mut Shared) -> Result<usize, String> {
        let mut used = 0;
        if !self.opened {
            let Some(end) = message::find(bytes, b"\r\n\r\n") else { return Ok(0) };
            if !bytes.starts_with(b"HTTP/1.1 101") {
                return Err(format!("refused: {}", String::from_utf8_lossy(&bytes[..end])));
            }
            used = end + 4;
            self.opened = true;
            let op = format!(r#"{{"op":"subscribe","id":"1","books":["{}"]}}"#, self.pattern);
            self.write(&frames::masked(frames::TEXT, op.as_bytes()))?;
        }
        while let Some((frame, size)) = frames::next(&bytes[used..])? {
            used += size;
            self.take(&frame, now, shared)?;
        }
        Ok(used)
    }

    fn take(&mut self, frame: &Frame<'_>, now: i64, shared: &mut Shared) -> Result<(), String> {
        match frame.opcode {
            frames::TEXT => self.message(frame.payload, now, shared),
            frames::PING => self.write(&frames::masked(10, frame.payload)),
            frames::CLOSE => {
                let code = frame.payload.first_chunk::<2>().map_or(1005, |code| u16::from_be_bytes(*code));
                self.end(&code.to_string(), shared);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn message(&mut self, message: &[u8], now: i64, shared: &mut Shared) -> Result<(), String> {
        let bad = || format!("unreadable: {}", String::from_utf8_lossy(&message[..message.len().min(300)]));
        let kind = message::kind(message);
        match kind {
            b"delta" | b"status" | b"snapshot" => {}
            b"heartbeat" => {
                shared.stats.heartbeats += 1;
                let count = message::number(message, b"\"count\":").ok_or_else(bad)?;
                if u64::try_from(count) != Ok(self.count) {
                    shared.stats.wrong_counts += 1;
                }
                return Ok(());
            }
            b"subscribed" => {
                let matched = message::number(message, b"\"matched\":").ok_or_else(bad)?;
                self.matched = usize::try_from(matched).ok();
                return Ok(());
            }
            b"notice" => {
                let code = if message::find(message, b"\"slow\"").is_some() { "slow" } else { "other" };
                *shared.stats.notices.entry(code.to_owned()).or_default() += 1;
                return Ok(());
            }
            b"error" => return Err(bad()),
            _ => return Ok(()),
        }
        shared.stats.frames += 1;
        self.count += 1;
        if kind == b"status" && message::find(message, b"\"by\":\"gateway\"").is_some() {
            *shared.stats.notices.entry("gap".to_owned()).or_default() += 1;
            for place in self.places.values_mut() {
                Books::doubted(place);
            }
            return Ok(());
        }
        let head = Head::read(message).ok_or_else(bad)?;
        let id = shared.books.id(head.book);
        let place = self.places.entry(id).or_default();
        if kind == b"snapshot" {
            self.snapshots += 1;
            shared.books.snapshot(id, place, &head, message);
            return Ok(());
        }
        shared.books.change(id, place, &head, message);
        let tail = &message[message.len().saturating_sub(160)..];
        if let Some(due) = message::last_number(tail, b"\"recv\":") {
            shared.stats.due.saturating_record(u64::try_from(now - due).unwrap_or(0));
        }
        if let Some(published) = message::last_number(tail, b"\"book\":") {
            shared.stats.published.saturating_record(u64::try_from(now - published).unwrap_or(0));
        }
        Ok(())
    }
}
