//! What an HTTP/1.1 server sends, piece by piece (RFC 9112): pure, bounded, and without a connection.
//!
//! The head is taken apart by `httparse`. How a body is framed, and what is of it in the bytes that
//! came, is decided here, so that a probe needs no task, no buffer and no channel of its own while
//! it waits for its next attempt.

use hyper::Method;

/// A head that is longer is refused, in bytes.
const HEAD_LIMIT: usize = 64 << 10;
/// A head with more headers is refused.
const MOST_HEADERS: usize = 128;
/// The size of a chunk and its extensions are this long at most, in bytes; so is one line of trailers.
const LINE_LIMIT: usize = 4 << 10;
/// So much of a chunked body may be anything but the body, in bytes.
const OVERHEAD_LIMIT: usize = 1 << 20;

/// Why an answer is none, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong(pub(super) String);

fn wrong<T>(text: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong(text.into()))
}

/// How the end of a body is told (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
    /// Whatever comes until the connection is closed.
    UntilClose,
}

/// A whole head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The status code.
    pub(super) status: u16,
    /// So many bytes were of the head.
    pub(super) length: usize,
    /// How the body ends.
    pub(super) framing: Framing,
    /// The server keeps the connection open after it.
    pub(super) persistent: bool,
    /// The values of `set-cookie`.
    pub(super) cookies: Vec<String>,
}

impl Head {
    /// Does another head follow, for the same request? A switch of protocols is an answer.
    pub(super) fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }
}

/// The head in `input`, where it has come whole; `new` is where the bytes begin that were not looked at
/// before, so that a head that drips in is not taken apart at each byte.
///
/// # Errors
/// Where it is no head, or one without an end.
pub(super) fn head(method: &Method, input: &[u8], new: usize) -> Result<Option<Head>, Wrong> {
    if !may_be_http(input) {
        return wrong("the answer is not HTTP/1.1");
    }
    if !ends(&input[new.saturating_sub(3)..]) {
        return if input.len() > HEAD_LIMIT { wrong("the head is longer than 64 KiB") } else { Ok(None) };
    }
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(input) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if input.len() > HEAD_LIMIT => return wrong("the head is longer than 64 KiB"),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return wrong(format!("more than {MOST_HEADERS} headers")),
        Err(error) => return wrong(format!("the answer is not HTTP/1.1: {error}")),
    };
    let (Some(status), Some(version)) = (response.code, response.version) else { return Ok(None) };
    let mut found = Found::default();
    for header in response.headers.iter() {
        found.take(header)?;
    }
    let bodiless = *method == Method::HEAD || (100..200).contains(&status) || matches!(status, 204 | 304);
    let framing = match (found.coding, found.length) {
        _ if bodiless => Framing::Length(0),
        (Coding::Chunked, _) if version == 1 => Framing::Chunked,
        (Coding::Chunked | Coding::Other, _) => Framing::UntilClose,
        (Coding::None, Some(length)) => Framing::Length(length),
        (Coding::None, None) => Framing::UntilClose,
    };
    // Both at once is how requests are smuggled; the connection is not used again.
    let doubtful = found.coding != Coding::None && found.length.is_some();
    let kept = if version == 1 { !found.close } else { found.keep_alive && !found.close };
    let persistent = kept && !doubtful && framing != Framing::UntilClose && status != 101;
    Ok(Some(Head { status, length, framing, persistent, cookies: found.cookies }))
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Coding {
    #[default]
    None,
    Chunked,
    /// Something else came last: only the end of the connection ends it.
    Other,
}

/// What the headers say.
#[derive(Default)]
struct Found {
    length: Option<u64>,
    coding: Coding,
    close: bool,
    keep_alive: bool,
    cookies: Vec<String>,
}

impl Found {
    fn take(&mut self, header: &httparse::Header<'_>) -> Result<(), Wrong> {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        let words = || {
            let text = std::str::from_utf8(header.value).unwrap_or_default();
            text.split(',').map(str::trim).filter(|word| !word.is_empty())
        };
        if is("content-length") {
            for word in words() {
                let digits = word.bytes().all(|byte| byte.is_ascii_digit());
                match word.parse::<u64>().ok().filter(|_| digits) {
                    Some(length) if self.length.is_none_or(|known| known == length) => self.length = Some(length),
                    Some(_) => return wrong("two lengths that differ"),
                    None => return wrong("the content-length is no number"),
                }
            }
        } else if is("transfer-encoding") {
            let last = words().next_back().unwrap_or_default();
            self.coding = if last.eq_ignore_ascii_case("chunked") { Coding::Chunked } else { Coding::Other };
        } else if is("connection") {
            self.close |= words().any(|word| word.eq_ignore_ascii_case("close"));
            self.keep_alive |= words().any(|word| word.eq_ignore_ascii_case("keep-alive"));
        } else if is("set-cookie")
            && let Some(text) = std::str::from_utf8(header.value).ok().filter(|text| is_plain(text))
        {
            self.cookies.push(text.to_owned());
        }
        Ok(())
    }
}

/// Nothing but visible ASCII: what can go back in a header.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
}

/// Could this still become an answer? What is something else is said at once, and not at the deadline.
fn may_be_http(input: &[u8]) -> bool {
    let begin = input.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(input.len());
    let start = &input[begin..];
    let wanted = b"HTTP/1.";
    let both = start.len().min(wanted.len());
    start[..both] == wanted[..both]
}

/// Is there an empty line in it?
fn ends(input: &[u8]) -> bool {
    input.windows(2).any(|pair| pair == b"\n\n") || input.windows(3).any(|three| three == b"\n\r\n")
}

/// How far a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More has to come.
    More,
    /// It has ended.
    Whole,
    /// It goes on beyond what is wanted of it.
    Full,
}

/// A body as it comes.
#[derive(Debug)]
pub(super) struct Body {
    /// What is of it, at most `limit` bytes.
    pub(super) bytes: Vec<u8>,
    limit: usize,
    state: State,
    overhead: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes are still to come.
    Rest(u64),
    /// Until the connection is closed.
    Endless,
    /// The size of a chunk comes next.
    Size,
    /// So much of the chunk is still to come.
    Chunk(u64),
    /// The line end after a chunk.
    ChunkEnd,
    /// Trailers, up to an empty line.
    Trailers,
    /// Nothing more.
    Ended,
}

impl Body {
    /// An empty one.
    pub(super) fn new(framing: Framing, limit: usize) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Ended,
            Framing::Length(length) => State::Rest(length),
            Framing::Chunked => State::Size,
            Framing::UntilClose => State::Endless,
        };
        Self { bytes: Vec::new(), limit, state, overhead: 0 }
    }

    /// Takes what is of it from the front of `input`; what is left there came after it, or is half a
    /// line of its framing.
    ///
    /// # Errors
    /// Where the chunks are none.
    pub(super) fn take(&mut self, input: &mut Vec<u8>) -> Result<Progress, Wrong> {
        let mut at = 0;
        let progress = loop {
            let rest = &input[at..];
            match self.state {
                State::Ended => break Progress::Whole,
                State::Rest(left) | State::Chunk(left) if self.bytes.len() >= self.limit && left > 0 => {
                    break Progress::Full;
                }
                State::Endless if self.bytes.len() >= self.limit && !rest.is_empty() => break Progress::Full,
                _ if rest.is_empty() => break Progress::More,
                State::Rest(left) | State::Chunk(left) => {
                    let (used, over) = self.keep(rest, left);
                    at += used;
                    let left = left - used as u64;
                    self.state = match self.state {
                        State::Chunk(_) if left == 0 => State::ChunkEnd,
                        State::Chunk(_) => State::Chunk(left),
                        _ if left == 0 => State::Ended,
                        _ => State::Rest(left),
                    };
                    if over {
                        break Progress::Full;
                    }
                }
                State::Endless => {
                    let (used, over) = self.keep(rest, u64::MAX);
                    at += used;
                    if over {
                        break Progress::Full;
                    }
                }
                State::Size | State::ChunkEnd | State::Trailers => match self.line(rest)? {
                    Some(used) => at += used,
                    None => break Progress::More,
                },
            }
        };
        input.drain(..at);
        Ok(progress)
    }

    /// The connection was closed: was that the end of the body?
    pub(super) fn may_end_here(&self) -> bool {
        matches!(self.state, State::Endless | State::Ended)
    }

    /// Keeps what there is room for; tells how much, and whether there was more.
    fn keep(&mut self, rest: &[u8], left: u64) -> (usize, bool) {
        let of_body = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let used = of_body.min(self.limit - self.bytes.len());
        self.bytes.extend_from_slice(&rest[..used]);
        (used, used < of_body)
    }

    /// One line of the framing; how long it was, or `None` while it is not whole.
    fn line(&mut self, rest: &[u8]) -> Result<Option<usize>, Wrong> {
        let Some(end) = rest.iter().position(|byte| *byte == b'\n').map(|at| at + 1) else {
            return if rest.len() > LINE_LIMIT {
                wrong("a line between chunks is longer than 4 KiB")
            } else {
                Ok(None)
            };
        };
        self.overhead += end;
        if self.overhead > OVERHEAD_LIMIT {
            return wrong("a chunked body that is mostly chunks");
        }
        let line = rest[..end].trim_ascii();
        self.state = match self.state {
            State::Size => match httparse::parse_chunk_size(&rest[..end]) {
                Ok(httparse::Status::Complete((_, 0))) => State::Trailers,
                Ok(httparse::Status::Complete((_, size))) => State::Chunk(size),
                _ => return wrong("the size of a chunk is no number"),
            },
            State::ChunkEnd if line.is_empty() => State::Size,
            State::ChunkEnd => return wrong("a chunk is longer than it said"),
            _ if line.is_empty() => State::Ended,
            other => other,
        };
        Ok(Some(end))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(text: &str) -> Head {
        head(&Method::GET, text.as_bytes(), 0).unwrap().unwrap()
    }

    /// Feeds a head and its body in pieces of so many bytes: status, body, how it ended, what is left.
    fn feed(method: &Method, bytes: &[u8], piece: usize, limit: usize) -> Result<(Vec<u8>, Progress, usize), Wrong> {
        let mut input = Vec::new();
        let mut body: Option<Body> = None;
        let mut progress = Progress::More;
        for piece in bytes.chunks(piece) {
            let new = input.len();
            input.extend_from_slice(piece);
            if body.is_none()
                && let Some(head) = head(method, &input, new)?
            {
                input.drain(..head.length);
                body = Some(Body::new(head.framing, limit));
            }
            if let Some(body) = &mut body {
                progress = body.take(&mut input)?;
            }
        }
        Ok((body.map(|body| body.bytes).unwrap_or_default(), progress, input.len()))
    }

    #[test]
    fn framing_is_as_the_rfc_has_it() {
        let of = |headers: &str| {
            let head = whole(&format!("HTTP/1.1 200 OK\r\n{headers}\r\n"));
            (head.framing, head.persistent)
        };
        assert_eq!(of("content-length: 5\r\n"), (Framing::Length(5), true));
        assert_eq!(of("content-length: 5, 5\r\n"), (Framing::Length(5), true));
        assert_eq!(of("Content-Length: 5\r\nConnection: Close\r\n"), (Framing::Length(5), false));
        assert_eq!(of("transfer-encoding: gzip, chunked\r\n"), (Framing::Chunked, true));
        assert_eq!(of("transfer-encoding: gzip\r\n"), (Framing::UntilClose, false));
        assert_eq!(of("transfer-encoding: chunked\r\ncontent-length: 5\r\n"), (Framing::Chunked, false));
        assert_eq!(of(""), (Framing::UntilClose, false));
        assert!(!whole("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n").persistent);
        assert!(whole("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\n").persistent);
        assert_eq!(whole("HTTP/1.1 204 No Content\r\n\r\n").framing, Framing::Length(0));
        assert_eq!(whole("HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n").framing, Framing::Length(0));
        let asked = head(&Method::HEAD, b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", 0).unwrap().unwrap();
        assert_eq!((asked.framing, asked.persistent), (Framing::Length(0), true));
        assert!(whole("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n").is_interim());
        assert_eq!(whole("HTTP/1.1 200 OK\r\nset-cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n").cookies, ["a=1", "b=2"]);
    }

    #[test]
    fn what_is_no_answer_is_said_at_once() {
        for text in ["SSH-2.0-OpenSSH\r\n", "\x16\x03\x01", "<html>", "HTTP/2 200\r\n"] {
            assert!(head(&Method::GET, text.as_bytes(), 0).is_err(), "{text:?}");
        }
        for headers in ["content-length: -1", "content-length: 1, 2", "content-length: x", "no colon"] {
            let text = format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n");
            assert!(head(&Method::GET, text.as_bytes(), 0).is_err(), "{text:?}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(HEAD_LIMIT));
        assert!(head(&Method::GET, endless.as_bytes(), 0).is_err());
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(MOST_HEADERS + 1));
        assert!(head(&Method::GET, many.as_bytes(), 0).unwrap_err().0.contains("more than 128"));
    }

    #[test]
    fn chunks_in_every_piece_and_what_comes_after_them_stays() {
        let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nt: r\r\n\r\nnext";
        for piece in 1..answer.len() {
            let (body, progress, left) = feed(&Method::GET, answer, piece, 1 << 20).unwrap();
            assert_eq!((&body[..], progress, left), (&b"abc0123456789"[..], Progress::Whole, 4), "in {piece}");
        }
        let bad = |chunks: &str| {
            let answer = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}");
            feed(&Method::GET, answer.as_bytes(), 7, 1 << 20).is_err()
        };
        assert!(bad("xyz\r\n") && bad("3\r\nabcd\r\n") && bad("-1\r\n"));
        assert!(bad(&"x".repeat(LINE_LIMIT + 8)));
        assert!(bad(&format!("1;{}\r\na\r\n", "e".repeat(2000)).repeat(600)), "mostly chunks");
    }

    #[test]
    fn a_body_beyond_the_limit_is_cut_and_one_at_the_limit_is_whole() {
        let answer =
            |length: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{}", "x".repeat(length));
        let (body, progress, _) = feed(&Method::GET, answer(10).as_bytes(), 3, 10).unwrap();
        assert_eq!((body.len(), progress), (10, Progress::Whole));
        let (body, progress, _) = feed(&Method::GET, answer(11).as_bytes(), 3, 10).unwrap();
        assert_eq!((body.len(), progress), (10, Progress::Full));
        let (body, progress, _) = feed(&Method::GET, b"HTTP/1.1 200 OK\r\n\r\n0123456789x", 4, 10).unwrap();
        assert_eq!((body.len(), progress), (10, Progress::Full));
    }

    proptest! {
        /// No input makes it panic, take more than its limit, or end differently in other pieces.
        #[test]
        fn any_bytes_in_any_pieces(
            begin in prop_oneof![
                Just("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
                Just("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n"),
                Just("HTTP/1.1 200 OK\r\n\r\n"),
                Just(""),
            ],
            rest in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'3'), Just(b'a'), any::<u8>()], 0..60),
            piece in 1usize..20,
        ) {
            let bytes = [begin.as_bytes(), &rest].concat();
            let at_once = feed(&Method::GET, &bytes, bytes.len().max(1), 16);
            let piecewise = feed(&Method::GET, &bytes, piece, 16);
            if let (Ok((one, how, _)), Ok((other, too, _))) = (&at_once, &piecewise) {
                prop_assert!(one.len() <= 16 && other.len() <= 16);
                prop_assert_eq!((one, how), (other, too));
            }
        }
    }
}
