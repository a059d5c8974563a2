//! How long a client may take: for its header, its body, taking its answer, and between requests.
//!
//! hyper has one timer for the header and for idle connections alike, and none for a client that
//! does not read its answer. So these stand around the connection's stream, which knows by two
//! marks of the service (a request has come, its answer is given away) where in its course the
//! connection is. A read or write that waits beyond its time is an error, which ends it.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::config::HttpLimits;
use crate::metrics;

/// Where a connection is in its course.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// A header is coming; it must have come by then.
    Header(Instant),
    /// A request is worked on, or waits as it was asked to.
    Busy,
    /// Nothing is asked for; so long.
    Idle(Instant),
}

/// The course of one connection.
#[derive(Debug)]
pub(super) struct Pace {
    course: Mutex<Course>,
    limits: HttpLimits,
}

impl Pace {
    /// A connection that has just begun: its first header is awaited.
    pub(super) fn new(limits: HttpLimits) -> Arc<Self> {
        let course = Mutex::new(Course::Header(Instant::now() + limits.header));
        Arc::new(Self { course, limits })
    }

    fn change(&self, change: impl FnOnce(Course) -> Course) {
        let mut course = self.course.lock().expect("nothing panics while it holds this");
        *course = change(*course);
    }

    fn course(&self) -> Course {
        *self.course.lock().expect("nothing panics while it holds this")
    }

    /// A request has come.
    pub(super) fn asked(&self) {
        self.change(|_| Course::Busy);
    }

    /// Its answer was given away.
    fn answered(&self) {
        self.change(|_| Course::Idle(Instant::now() + self.limits.idle));
    }

    /// Bytes came.
    fn heard(&self) {
        self.change(|course| match course {
            Course::Idle(_) => Course::Header(Instant::now() + self.limits.header),
            same => same,
        });
    }
}

fn late(reason: &'static str) -> io::Error {
    metrics::get().http_cut.get_or_create(&[("reason", reason)]).inc();
    io::Error::new(io::ErrorKind::TimedOut, format!("cut: {reason}"))
}

/// A stream whose reads and writes keep pace.
pub(super) struct Paced<S> {
    stream: S,
    pace: Arc<Pace>,
    reading: Pin<Box<Sleep>>,
    writing: Pin<Box<Sleep>>,
    /// Does a write wait?
    stalled: bool,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, pace: Arc<Pace>) -> Self {
        let timer = || Box::pin(tokio::time::sleep(Duration::ZERO));
        Self { stream, pace, reading: timer(), writing: timer(), stalled: false }
    }

    /// What a write came to: one that waits, waits for so long.
    fn wrote<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = false;
            return result;
        }
        if !self.stalled {
            self.stalled = true;
            self.writing.as_mut().reset(Instant::now() + self.pace.limits.stall);
        }
        ready!(self.writing.as_mut().poll(cx));
        Poll::Ready(Err(late("stall")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut self.stream).poll_read(cx, buffer) {
            if buffer.filled().len() > before {
                self.pace.heard();
            }
            return Poll::Ready(result);
        }
        let (until, reason) = match self.pace.course() {
            Course::Busy => return Poll::Pending,
            Course::Header(until) => (until, "header"),
            Course::Idle(until) => (until, "idle"),
        };
        if self.reading.deadline() != until {
            self.reading.as_mut().reset(until);
        }
        ready!(self.reading.as_mut().poll(cx));
        Poll::Ready(Err(late(reason)))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.wrote(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.wrote(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.wrote(cx, result)
    }
}

/// A request's body did not come in time.
#[derive(Debug)]
pub(crate) struct BodyLate(pub(crate) Duration);

impl fmt::Display for BodyLate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let within = crate::duration::format(self.0);
        write!(f, "the request's body did not come within {within}")
    }
}

impl std::error::Error for BodyLate {}

/// A request's body; bodies that have come already are not timed.
pub(super) fn timed(body: Incoming, within: Duration) -> Body {
    if HttpBody::is_end_stream(&body) {
        return Body::new(body);
    }
    Body::new(Timed { body, timer: Box::pin(tokio::time::sleep(within)), within })
}

struct Timed {
    body: Incoming,
    timer: Pin<Box<Sleep>>,
    within: Duration,
}

impl HttpBody for Timed {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        ready!(self.timer.as_mut().poll(cx));
        metrics::get().http_cut.get_or_create(&[("reason", "body")]).inc();
        Poll::Ready(Some(Err(BodyLate(self.within).into())))
    }

    fn is_end_stream(&self) -> bool {
        HttpBody::is_end_stream(&self.body)
    }

    fn size_hint(&self) -> SizeHint {
        HttpBody::size_hint(&self.body)
    }
}

/// An answer's body; the connection is idle once all of it was given away.
pub(super) fn answer(body: Body, pace: Arc<Pace>) -> Body {
    Body::new(Given { body, pace })
}

struct Given {
    body: Body,
    pace: Arc<Pace>,
}

impl Drop for Given {
    fn drop(&mut self) {
        self.pace.answered();
    }
}

impl HttpBody for Given {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
