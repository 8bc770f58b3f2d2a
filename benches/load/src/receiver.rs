//! Reads all sockets in a thread of its own and notes when the kernel had received what it reads. What it means
//! is looked at elsewhere; in a measured window only when it is over, so that no checker takes the time of the server
//! or of its publisher.
//!
//! The stamp of a read is that of its last bytes. Frames that wait for a reader therefore count as later than they
//! were: hence a thread that does nothing else.

use std::io::IoSliceMut;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver as Channel, SyncSender};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::sys::time::TimeSpec;

use crate::stats::now_us;

/// Time between two looks. Nobody waits in the kernel meanwhile: on one machine the sender pays for the wake-up of
/// its reader, as no sender to another machine does.
const LOOK: Duration = Duration::from_micros(500);
/// Bytes that are handed on together.
const BATCH: usize = 1024 * 1024;
/// Full batches that may be kept until a window is over; then they are handed on in it.
const KEPT: usize = 2048;
const READ: usize = 256 * 1024;

/// What one client received: `len` bytes of its batch, the last of them at `at_us` (microseconds since 1970).
pub struct Piece {
    pub client: usize,
    pub at_us: i64,
    pub len: usize,
    /// Why nothing comes any more.
    pub end: Option<String>,
}

#[derive(Default)]
pub struct Batch {
    pub bytes: Vec<u8>,
    pub pieces: Vec<Piece>,
}

/// What the checker is told, in order.
pub enum Input {
    Command(String),
    Received(Batch),
    Failed(String),
}

pub struct Receiver {
    poll: Poll,
    sockets: Vec<TcpStream>,
    opened: Channel<TcpStream>,
    /// The first so many clients are not read any more.
    stopped: Arc<AtomicUsize>,
    /// A window is being measured.
    measuring: Arc<AtomicBool>,
    out: SyncSender<Input>,
    buffer: Vec<u8>,
    stamps: Vec<u8>,
    batch: Batch,
    kept: Vec<Batch>,
}

impl Receiver {
    /// Sockets arrive over `opened`, in the order of the clients' numbers.
    pub fn new(
        opened: Channel<TcpStream>,
        stopped: Arc<AtomicUsize>,
        measuring: Arc<AtomicBool>,
        out: SyncSender<Input>,
    ) -> Result<Self, String> {
        Ok(Self {
            poll: Poll::new().map_err(|error| error.to_string())?,
            sockets: Vec::new(),
            opened,
            stopped,
            measuring,
            out,
            buffer: vec![0; READ],
            stamps: nix::cmsg_space!(TimeSpec),
            batch: Batch::default(),
            kept: Vec::new(),
        })
    }

    /// Until nobody listens any more.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        loop {
            std::thread::sleep(LOOK);
            if let Err(error) = self.look(&mut events) {
                drop(self.out.send(Input::Failed(error)));
                return;
            }
            if !self.hand_on() {
                return;
            }
        }
    }

    fn look(&mut self, events: &mut Events) -> Result<(), String> {
        while let Ok(mut socket) = self.opened.try_recv() {
            let token = Token(self.sockets.len());
            let registered = self.poll.registry().register(&mut socket, token, Interest::READABLE);
            registered.map_err(|error| format!("register: {error}"))?;
            self.sockets.push(socket);
        }
        if let Err(error) = self.poll.poll(events, Some(Duration::ZERO))
            && error.kind() != std::io::ErrorKind::Interrupted
        {
            return Err(error.to_string());
        }
        let stopped = self.stopped.load(Ordering::Relaxed);
        for event in events.iter().filter(|event| event.token().0 >= stopped) {
            self.read(event.token().0);
        }
        Ok(())
    }

    /// Edge triggered, so until a read comes back short.
    fn read(&mut self, client: usize) {
        let socket = &self.sockets[client];
        loop {
            let (len, at_us) = match receive(socket.as_raw_fd(), &mut self.buffer, &mut self.stamps) {
                Ok(received) => received,
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    self.batch.pieces.push(Piece { client, at_us: 0, len: 0, end: Some(error.to_string()) });
                    return;
                }
            };
            let end = (len == 0).then(|| "end of stream".to_owned());
            self.batch.bytes.extend_from_slice(&self.buffer[..len]);
            self.batch.pieces.push(Piece { client, at_us, len, end });
            if self.batch.bytes.len() >= BATCH {
                let bytes = Vec::with_capacity(BATCH + READ);
                let next = Batch { bytes, pieces: Vec::with_capacity(self.batch.pieces.len()) };
                self.kept.push(std::mem::replace(&mut self.batch, next));
            }
            if len < self.buffer.len() {
                return;
            }
        }
    }

    /// Give the checker what was read; false when it listens no more.
    fn hand_on(&mut self) -> bool {
        if self.measuring.load(Ordering::Relaxed) && self.kept.len() < KEPT {
            return true;
        }
        if !self.batch.pieces.is_empty() {
            self.kept.push(std::mem::take(&mut self.batch));
        }
        self.kept.drain(..).all(|batch| self.out.send(Input::Received(batch)).is_ok())
    }
}

/// Bytes, and when the last of them had come.
fn receive(fd: i32, buffer: &mut [u8], stamps: &mut [u8]) -> nix::Result<(usize, i64)> {
    let mut parts = [IoSliceMut::new(buffer)];
    let found = recvmsg::<()>(fd, &mut parts, Some(stamps), MsgFlags::empty())?;
    let stamp = found.cmsgs()?.find_map(|part| match part {
        ControlMessageOwned::ScmTimestampns(at) => Some(at.tv_sec() * 1_000_000 + at.tv_nsec() / 1_000),
        _ => None,
    });
    Ok((found.bytes, stamp.unwrap_or_else(now_us)))
}
