//! Makes HTTP requests as fast as they are answered: over so many connections, one request at a time on each.
//!
//! It costs about as much as wrk does, and unlike wrk makes an exact number of requests and knows the time each took.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::failure::Failure;

/// As many as an HTTP client of a busy provider might keep.
pub(crate) const CONNECTIONS: usize = 256;

/// What is asked, and how.
pub(crate) struct Load<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) connections: usize,
    /// The first request's number; they count upwards from here.
    pub(crate) first: u64,
    pub(crate) until: Until,
    /// Writes the request of a number.
    pub(crate) request: &'a (dyn Fn(u64, &mut Vec<u8>) + Sync),
}

/// When it is enough.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    /// So many requests.
    Count(u64),
    /// So long.
    Elapsed(Duration),
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) elapsed: Duration,
    /// Of the requests answered with 2xx, in microseconds, in no order.
    latencies: Vec<u32>,
    /// Answered otherwise.
    pub(crate) refused: u64,
}

struct Connection {
    stream: TcpStream,
    began: Instant,
    out: Vec<u8>,
    written: usize,
    answer: Vec<u8>,
}

/// How long an answer may take before the whole is given up.
const PATIENCE: Duration = Duration::from_secs(60);

impl Load<'_> {
    /// Makes the requests, from as many threads as the machine has cores.
    pub(crate) fn run(&self) -> Result<Outcome, Failure> {
        let threads = std::thread::available_parallelism().map_or(2, usize::from).min(self.connections);
        let (next, began) = (AtomicU64::new(0), Instant::now());
        let outcomes = std::thread::scope(|scope| {
            let share = |thread| self.connections / threads + usize::from(thread < self.connections % threads);
            let next = &next;
            let running: Vec<_> =
                (0..threads).map(|thread| scope.spawn(move || self.run_some(share(thread), next, began))).collect();
            let ended = running.into_iter().map(|thread| thread.join().unwrap_or(Err(Failure("it panicked".into()))));
            ended.collect::<Result<Vec<_>, _>>()
        })?;
        let mut all = Outcome { elapsed: began.elapsed(), ..Outcome::default() };
        for outcome in outcomes {
            all.latencies.extend(outcome.latencies);
            all.refused += outcome.refused;
        }
        Ok(all)
    }

    fn run_some(&self, connections: usize, next: &AtomicU64, began: Instant) -> Result<Outcome, Failure> {
        let mut poll = Poll::new()?;
        let (mut events, mut outcome) = (Events::with_capacity(1024), Outcome::default());
        let mut open = Vec::with_capacity(connections);
        for index in 0..connections {
            let mut stream = TcpStream::connect(self.address)?;
            stream.set_nodelay(true)?;
            poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
            let (out, answer) = (Vec::with_capacity(2048), Vec::with_capacity(2048));
            open.push(Connection { stream, began, out, written: 0, answer });
        }
        let mut busy = 0;
        for connection in &mut open {
            busy += usize::from(self.begin(connection, next, began));
        }
        while busy > 0 {
            poll.poll(&mut events, Some(PATIENCE))?;
            if events.is_empty() {
                return Err(Failure(format!("no answer from {} within {} s", self.address, PATIENCE.as_secs())));
            }
            for event in &events {
                let Token(index) = event.token();
                let connection = &mut open[index];
                connection.write()?;
                let read = connection.read();
                let read = read.map_err(|Failure(text)| Failure(format!("{}: {text}", self.address)))?;
                let Some(status) = read else { continue };
                if (200..300).contains(&status) {
                    outcome.latencies.push(connection.began.elapsed().as_micros().try_into().unwrap_or(u32::MAX));
                } else {
                    outcome.refused += 1;
                }
                if self.begin(connection, next, began) {
                    connection.write()?;
                } else {
                    busy -= 1;
                }
            }
        }
        Ok(outcome)
    }

    /// Begins the next request, if there is one more.
    fn begin(&self, connection: &mut Connection, next: &AtomicU64, began: Instant) -> bool {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let over = match self.until {
            Until::Count(count) => number >= count,
            Until::Elapsed(time) => began.elapsed() >= time,
        };
        if !over {
            connection.out.clear();
            (self.request)(self.first + number, &mut connection.out);
            connection.written = 0;
            connection.answer.clear();
            connection.began = Instant::now();
        }
        !over
    }
}

impl Connection {
    fn write(&mut self) -> Result<(), Failure> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if is_passing(&error) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads on; the status once the answer is whole.
    fn read(&mut self) -> Result<Option<u16>, Failure> {
        let mut piece = [0; 16 << 10];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(Failure("the server has closed a connection".into())),
                Ok(read) => {
                    self.answer.extend_from_slice(&piece[..read]);
                    // Nothing comes behind the one answer that is waited for.
                    if let Some(status) = status_of_whole(&self.answer)? {
                        self.answer.clear();
                        return Ok(Some(status));
                    }
                }
                Err(error) if is_passing(&error) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NotConnected)
}

/// The status of an answer, if all of it is there.
fn status_of_whole(answer: &[u8]) -> Result<Option<u16>, Failure> {
    let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&answer[..head]).unwrap_or_default();
    let status = text.get(9..12).and_then(|status| status.parse().ok());
    let status: u16 = status.ok_or_else(|| Failure(format!("no HTTP answer: {text:?}")))?;
    let length = text.lines().skip(1).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    match length {
        Some(length) => Ok((answer.len() >= head + 4 + length).then_some(status)),
        None if status == 204 => Ok(Some(status)),
        None => Err(Failure(format!("an answer without its length: {text:?}"))),
    }
}

impl Outcome {
    /// What came of several loads at once.
    pub(crate) fn together(outcomes: Vec<Self>) -> Self {
        let mut all = Self::default();
        for outcome in outcomes {
            all.elapsed = all.elapsed.max(outcome.elapsed);
            all.latencies.extend(outcome.latencies);
            all.refused += outcome.refused;
        }
        all
    }

    /// Requests answered with 2xx.
    pub(crate) fn answered(&self) -> u64 {
        self.latencies.len() as u64
    }

    /// The same a second.
    pub(crate) fn rate(&self) -> f64 {
        self.answered() as f64 / self.elapsed.as_secs_f64()
    }

    /// The time that this share of the requests took at most, in milliseconds.
    pub(crate) fn percentile(&mut self, share: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let index = ((last as f64 * share).round() as usize).min(last);
        if self.latencies.is_empty() {
            return f64::NAN;
        }
        let (_, latency, _) = self.latencies.select_nth_unstable(index);
        f64::from(*latency) / 1000.0
    }

    /// Itself, if nothing was refused.
    pub(crate) fn all_taken(self) -> Result<Self, Failure> {
        if self.refused == 0 { Ok(self) } else { Err(Failure(format!("{} requests were refused", self.refused))) }
    }
}
