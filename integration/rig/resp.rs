//! A plain client of Redis's protocol, blocking, every wait bounded. It interprets nothing and
//! retries nothing: what the server said is what the caller gets.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The longest bulk that is read, in bytes.
const MAX_BULK: usize = 64 << 20;

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// `+…`
    Simple(String),
    /// `-…`
    Error(String),
    /// `:…`
    Number(i64),
    /// `$…`; none for the null bulk.
    Bulk(Option<Vec<u8>>),
    /// `*…`
    List(Vec<Self>),
}

impl Reply {
    /// As text, whatever it is.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Simple(text) | Self::Error(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Bulk(bytes) => {
                String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned()
            }
            Self::List(items) => items.iter().map(Self::text).collect::<Vec<_>>().join(" "),
        }
    }

    /// Is it an error?
    #[must_use]
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }
}

/// A connection.
#[derive(Debug)]
pub struct Resp {
    stream: BufReader<TcpStream>,
}

impl Resp {
    /// Connects; every later wait is bounded by the same time.
    ///
    /// # Errors
    /// As the system says.
    pub fn connect(address: SocketAddr, within: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, within)?;
        stream.set_read_timeout(Some(within))?;
        stream.set_write_timeout(Some(within))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends a command and reads its answer.
    ///
    /// # Errors
    /// If the connection breaks or the answer takes too long.
    pub fn ask(&mut self, words: &[&str]) -> io::Result<Reply> {
        self.send(words)?;
        self.read()
    }

    /// Sends a command only.
    ///
    /// # Errors
    /// If the connection breaks.
    pub fn send(&mut self, words: &[&str]) -> io::Result<()> {
        let mut bytes = format!("*{}\r\n", words.len());
        for word in words {
            bytes += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.stream.get_mut().write_all(bytes.as_bytes())
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// If the connection breaks, the answer takes too long or makes no sense.
    pub fn read(&mut self) -> io::Result<Reply> {
        let line = self.line()?;
        let rest = line.get(1..).unwrap_or_default();
        let number = || rest.parse::<i64>().map_err(|_| nonsense(&line));
        Ok(match line.as_bytes().first() {
            Some(b'+') => Reply::Simple(rest.to_owned()),
            Some(b'-') => Reply::Error(rest.to_owned()),
            Some(b':') => Reply::Number(number()?),
            Some(b'$') => match usize::try_from(number()?) {
                Err(_) => Reply::Bulk(None),
                Ok(length) if length > MAX_BULK => return Err(nonsense(&line)),
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.stream.read_exact(&mut bytes)?;
                    bytes.truncate(length);
                    Reply::Bulk(Some(bytes))
                }
            },
            Some(b'*') => {
                let count = number()?.max(0);
                Reply::List((0..count).map(|_| self.read()).collect::<io::Result<_>>()?)
            }
            _ => return Err(nonsense(&line)),
        })
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}

fn nonsense(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not an answer: {line:?}"))
}

/// Connects, asks once, ends.
///
/// # Errors
/// As the system says.
pub fn ask(address: SocketAddr, words: &[&str]) -> io::Result<Reply> {
    Resp::connect(address, Duration::from_secs(2))?.ask(words)
}
