//! Which question: what do N subscribers of a gateway get, how late, and is it exact?
//!
//! `wup-load --address HOST:PORT --clients N --pattern 'agg-{}.>' [--groups G]` opens N connections (client i
//! subscribes to the pattern with `{}` = i mod G), prints one JSON line when every book has come, then obeys
//! lines on its standard input: `begin` and `end FRAMES` of a measured window (so many are waited for),
//! `stop N` (the first N clients read no more), `quit`. One thread reads, this one checks: what comes in a window,
//! when it is over. Ends by itself when its input ends or after `--limit` seconds.

mod books;
mod client;
mod frames;
mod message;
mod receiver;
mod stats;

use std::collections::VecDeque;
use std::io::BufRead;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use socket2::{Domain, Socket, Type};

use books::Books;
use client::{Client, Shared};
use receiver::{Input, Receiver};
use stats::{Stats, counts, quantiles};

/// How long the next frame of a window is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Batches that may wait to be checked; then the sockets are read no further.
const WAITING: usize = 256;
/// Connections that are being opened at a time.
const OPENING: usize = 50;

struct Arguments {
    address: SocketAddr,
    clients: usize,
    pattern: String,
    groups: usize,
    receive_buffer: usize,
    limit: Duration,
}

fn arguments() -> Result<Arguments, lexopt::Error> {
    use lexopt::prelude::*;
    let mut found = Arguments {
        address: SocketAddr::from(([127, 0, 0, 1], 8082)),
        clients: 1,
        pattern: ">".to_owned(),
        groups: 1,
        receive_buffer: 0,
        limit: Duration::from_secs(120),
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("address") => found.address = parser.value()?.parse()?,
            Long("clients") => found.clients = parser.value()?.parse()?,
            Long("pattern") => found.pattern = parser.value()?.string()?,
            Long("groups") => found.groups = parser.value()?.parse()?,
            Long("receive-buffer") => found.receive_buffer = parser.value()?.parse()?,
            Long("limit") => found.limit = Duration::from_secs(parser.value()?.parse()?),
            other => return Err(other.unexpected()),
        }
    }
    Ok(found)
}

struct Load {
    arguments: Arguments,
    clients: Vec<Client>,
    shared: Shared,
    opened: mpsc::Sender<TcpStream>,
    stopped: Arc<AtomicUsize>,
    measuring: Arc<AtomicBool>,
    input: mpsc::Receiver<Input>,
    commands: VecDeque<String>,
    deadline: Instant,
    began: Instant,
}

impl Load {
    fn new(arguments: Arguments) -> Result<Self, String> {
        let (sender, input) = mpsc::sync_channel(WAITING);
        let (opened, sockets) = mpsc::channel();
        let stopped = Arc::new(AtomicUsize::new(0));
        let measuring = Arc::new(AtomicBool::new(false));
        let receiver = Receiver::new(sockets, Arc::clone(&stopped), Arc::clone(&measuring), sender.clone())?;
        std::thread::spawn(move || receiver.run());
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines() {
                let Ok(line) = line else { break };
                if sender.send(Input::Command(line)).is_err() {
                    return;
                }
            }
            drop(sender.send(Input::Command("quit".to_owned())));
        });
        let shared = Shared { books: Books::default(), stats: Stats::new()? };
        let deadline = Instant::now() + arguments.limit;
        Ok(Self {
            arguments,
            clients: Vec::new(),
            shared,
            opened,
            stopped,
            measuring,
            input,
            commands: VecDeque::new(),
            deadline,
            began: Instant::now(),
        })
    }

    fn connect(&mut self, place: usize) -> Result<(), String> {
        let failed = |what: &str, error: std::io::Error| format!("client {place}, {what}: {error}");
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).map_err(|e| failed("socket", e))?;
        if self.arguments.receive_buffer > 0 {
            let size = self.arguments.receive_buffer;
            socket.set_recv_buffer_size(size).map_err(|e| failed("receive buffer", e))?;
        }
        // Further loopback addresses, so that the ports of one are never the limit.
        let source = Ipv4Addr::new(127, 0, 1, u8::try_from(1 + place % 200).unwrap_or(1));
        socket.bind(&SocketAddrV4::new(source, 0).into()).map_err(|e| failed("bind", e))?;
        socket.connect(&self.arguments.address.into()).map_err(|e| failed("connect", e))?;
        socket.set_nonblocking(true).map_err(|e| failed("non-blocking", e))?;
        let stream = std::net::TcpStream::from(socket);
        let reading = stream.try_clone().map_err(|e| failed("second handle", e))?;
        let group = (place % self.arguments.groups).to_string();
        let mut client = Client::new(stream, self.arguments.pattern.replace("{}", &group));
        client.greet(&self.arguments.address.to_string())?;
        self.clients.push(client);
        self.opened.send(TcpStream::from_std(reading)).map_err(|_| "nobody reads".to_owned())
    }

    /// Check what has come, until a command came or `until`.
    fn turn(&mut self, until: Instant) -> Result<(), String> {
        let batch = match self.input.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Input::Received(batch)) => batch,
            Ok(Input::Command(command)) => {
                self.commands.push_back(command);
                return Ok(());
            }
            Ok(Input::Failed(why)) => return Err(why),
            Err(RecvTimeoutError::Timeout) => return Ok(()),
            Err(RecvTimeoutError::Disconnected) => return Err("nobody reads".to_owned()),
        };
        let mut rest = batch.bytes.as_slice();
        for piece in batch.pieces {
            let (bytes, after) = rest.split_at(piece.len);
            rest = after;
            let client = &mut self.clients[piece.client];
            match piece.end {
                Some(why) => client.end(&why, &mut self.shared),
                None => client.received(bytes, piece.at_us, &mut self.shared)?,
            }
        }
        Ok(())
    }

    fn open_all(&mut self) -> Result<(), String> {
        let start = Instant::now();
        let mut ready = 0;
        while ready < self.arguments.clients {
            while self.clients.len() < self.arguments.clients && self.clients.len() - ready < OPENING {
                self.connect(self.clients.len())?;
            }
            self.turn(Instant::now() + Duration::from_millis(100))?;
            ready = self.clients.iter().filter(|client| client.ready()).count();
            if let Some(place) = self.clients.iter().position(|client| client.closed) {
                return Err(format!("client {place} was closed: {}", counts(&self.shared.stats.closes)));
            }
            if Instant::now() > self.deadline {
                return Err(format!("{ready} of {} ready in time", self.arguments.clients));
            }
        }
        let took = start.elapsed().as_secs_f64();
        println!(
            r#"{{"type":"ready","clients":{ready},"took_s":{took:.3},"snapshots":{},"bytes":{},"slow":{},"mismatches":{}}}"#,
            self.shared.stats.frames,
            self.shared.stats.bytes,
            counts(&self.shared.stats.notices),
            self.shared.books.checks.mismatches,
        );
        Ok(())
    }

    fn report(&self) {
        let took = self.began.elapsed().as_secs_f64();
        let (stats, checks) = (&self.shared.stats, self.shared.books.checks);
        println!(
            concat!(
                r#"{{"type":"measured","took_s":{:.4},"frames":{},"bytes":{},"reads":{},"due_us":{},"#,
                r#""published_us":{},"verified":{},"digests":{},"mismatches":{},"gaps":{},"unverified":{},"#,
                r#""heartbeats":{},"wrong_counts":{},"notices":{},"closes":{}}}"#
            ),
            took,
            stats.frames,
            stats.bytes,
            stats.reads,
            quantiles(&stats.due),
            quantiles(&stats.published),
            checks.verified,
            checks.digests,
            checks.mismatches,
            checks.gaps,
            checks.unverified,
            stats.heartbeats,
            stats.wrong_counts,
            counts(&stats.notices),
            counts(&stats.closes),
        );
    }

    fn run(&mut self) -> Result<(), String> {
        self.open_all()?;
        while Instant::now() < self.deadline {
            let Some(command) = self.commands.pop_front() else {
                self.turn(Instant::now() + Duration::from_millis(200))?;
                continue;
            };
            let (verb, value) = command.split_once(' ').unwrap_or((&command, ""));
            match verb {
                "begin" => {
                    self.shared.stats = Stats::new()?;
                    self.began = Instant::now();
                    self.measuring.store(true, Ordering::Relaxed);
                    println!(r#"{{"type":"begun"}}"#);
                }
                "end" => {
                    let expected: u64 = value.parse().map_err(|_| format!("bad count {value:?}"))?;
                    self.measuring.store(false, Ordering::Relaxed);
                    let mut last = Instant::now();
                    while self.shared.stats.frames < expected && last.elapsed() < PATIENCE {
                        let before = self.shared.stats.frames;
                        self.turn(Instant::now() + Duration::from_millis(20))?;
                        if self.shared.stats.frames > before {
                            last = Instant::now();
                        }
                    }
                    self.report();
                }
                "stop" => {
                    let count: usize = value.parse().map_err(|_| format!("bad count {value:?}"))?;
                    self.stopped.store(count, Ordering::Relaxed);
                    println!(r#"{{"type":"stopped","clients":{count}}}"#);
                }
                "quit" => return Ok(()),
                other => return Err(format!("unknown command {other:?}")),
            }
        }
        Err("over its time".to_owned())
    }
}

fn main() -> std::process::ExitCode {
    let result = arguments().map_err(|e| e.to_string()).and_then(|found| Load::new(found)?.run());
    if let Err(error) = result {
        eprintln!("wup-load: {error}");
        return std::process::ExitCode::FAILURE;
    }
    std::process::ExitCode::SUCCESS
}
