//! Which question: what do N subscribers of a gateway get, how late, and is it exact?
//!
//! `wup-load --address HOST:PORT --clients N --pattern 'agg-{}.>' [--groups G]` opens N connections (client i
//! subscribes to the pattern with `{}` = i mod G), prints one JSON line when every book has come, then obeys
//! lines on its standard input: `begin` and `end FRAMES` of a measured window (so many are waited for),
//! `stop N` (the first N clients read no more), `quit`. One thread, one epoll. Ends by itself when its input
//! ends or after `--limit` seconds.

mod books;
mod client;
mod frames;
mod message;
mod stats;

use std::io::BufRead;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use socket2::{Domain, Socket, Type};

use books::Books;
use client::{Client, Shared};
use stats::{Stats, counts, quantiles};

const WAKER: Token = Token(usize::MAX);
/// How long the last frames of a window are waited for.
const PATIENCE: Duration = Duration::from_secs(5);
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
    poll: Poll,
    events: Events,
    clients: Vec<Client>,
    shared: Shared,
    commands: Receiver<String>,
    deadline: Instant,
    began: Instant,
}

impl Load {
    fn new(arguments: Arguments) -> Result<Self, String> {
        let poll = Poll::new().map_err(|e| e.to_string())?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(|e| e.to_string())?;
        let (sender, commands) = channel();
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines() {
                let Ok(line) = line else { break };
                if sender.send(line).is_err() || waker.wake().is_err() {
                    return;
                }
            }
            drop(sender.send("quit".to_owned()));
            drop(waker.wake());
        });
        let shared = Shared {
            books: Books::default(),
            stats: Stats::new()?,
            buffer: vec![0; 256 * 1024],
            stamps: nix::cmsg_space!(nix::sys::time::TimeSpec),
        };
        let deadline = Instant::now() + arguments.limit;
        let events = Events::with_capacity(1024);
        let clients = Vec::new();
        Ok(Self { arguments, poll, events, clients, shared, commands, deadline, began: Instant::now() })
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
        let mut stream = TcpStream::from_std(socket.into());
        self.poll
            .registry()
            .register(&mut stream, Token(place), Interest::READABLE)
            .map_err(|e| failed("register", e))?;
        let group = (place % self.arguments.groups).to_string();
        let mut client = Client::new(stream, self.arguments.pattern.replace("{}", &group));
        client.greet(&self.arguments.address.to_string())?;
        self.clients.push(client);
        Ok(())
    }

    /// Read until `until`, or until a command came.
    fn turn(&mut self, until: Instant) -> Result<(), String> {
        let wait = until.saturating_duration_since(Instant::now());
        if let Err(error) = self.poll.poll(&mut self.events, Some(wait)) {
            return if error.kind() == std::io::ErrorKind::Interrupted {
                Ok(())
            } else {
                Err(error.to_string())
            };
        }
        for event in &self.events {
            let Some(client) = self.clients.get_mut(event.token().0) else { continue };
            if !client.stopped && !client.closed {
                client.read(&mut self.shared)?;
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
            let Ok(command) = self.commands.try_recv() else {
                self.turn(Instant::now() + Duration::from_millis(200))?;
                continue;
            };
            let (verb, value) = command.split_once(' ').unwrap_or((&command, ""));
            match verb {
                "begin" => {
                    self.shared.stats = Stats::new()?;
                    self.began = Instant::now();
                    println!(r#"{{"type":"begun"}}"#);
                }
                "end" => {
                    let expected: u64 = value.parse().map_err(|_| format!("bad count {value:?}"))?;
                    let patience = Instant::now() + PATIENCE;
                    while self.shared.stats.frames < expected && Instant::now() < patience {
                        self.turn(patience.min(Instant::now() + Duration::from_millis(20)))?;
                    }
                    self.report();
                }
                "stop" => {
                    let count: usize = value.parse().map_err(|_| format!("bad count {value:?}"))?;
                    self.clients.iter_mut().take(count).for_each(|client| client.stopped = true);
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
