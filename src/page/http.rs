//! As much of HTTP/1.1 (RFC 9112) as a page needs that is only looked at: one GET a connection, read by the parser
//! that the AWS SDK's client stands on, and answered with `Connection: close`. hyper's server would be 150 KB more in
//! a package that has no more room.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest head of a request, and most of its fields.
const HEAD_BYTES_MAX: usize = 16 << 10;
const FIELDS_MAX: usize = 64;
/// A head that takes longer does not come, and an answer that is not taken in this time is not read.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// What is asked.
#[derive(Debug, Default)]
pub(super) struct Request {
    pub(super) method: String,
    /// Without a query.
    pub(super) path: String,
    pub(super) host: Option<String>,
    pub(super) authorization: Option<Vec<u8>>,
    pub(super) accept: String,
}

/// What is answered.
pub(super) struct Answer {
    pub(super) status: Status,
    pub(super) content_type: &'static str,
    pub(super) body: Vec<u8>,
}

/// The status line of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status(pub(super) &'static str);

impl Status {
    pub(super) const OK: Self = Self("200 OK");
    pub(super) const BAD_REQUEST: Self = Self("400 Bad Request");
    pub(super) const UNAUTHORIZED: Self = Self("401 Unauthorized");
    pub(super) const FORBIDDEN: Self = Self("403 Forbidden");
    pub(super) const NOT_FOUND: Self = Self("404 Not Found");
    pub(super) const METHOD_NOT_ALLOWED: Self = Self("405 Method Not Allowed");
    pub(super) const UNAVAILABLE: Self = Self("503 Service Unavailable");
}

impl Answer {
    /// A sentence.
    pub(super) fn plain(status: Status, text: &str) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: format!("{text}\n").into_bytes() }
    }
}

/// What the bytes so far are.
enum Parsed {
    Request(Request),
    /// The head has not ended.
    Partial,
    /// No request, or one that is too long.
    Nonsense,
}

fn parse(bytes: &[u8]) -> Parsed {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    match head.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Parsed::Partial,
        Ok(httparse::Status::Partial) | Err(_) => return Parsed::Nonsense,
    }
    let field = |name: &str| head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    let text = |name: &str| field(name).map(|field| String::from_utf8_lossy(field.value).into_owned());
    let target = head.path.unwrap_or_default();
    Parsed::Request(Request {
        method: head.method.unwrap_or_default().to_owned(),
        path: target.split('?').next().unwrap_or_default().to_owned(),
        host: text("host"),
        authorization: field("authorization").map(|field| field.value.to_vec()),
        accept: text("accept").unwrap_or_default(),
    })
}

/// Reads a request; `None` where what comes is none.
pub(super) async fn read(stream: &mut TcpStream) -> io::Result<Option<Request>> {
    let mut bytes = Vec::new();
    let head = async {
        loop {
            if stream.read_buf(&mut bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match parse(&bytes) {
                Parsed::Request(request) => return Ok(Some(request)),
                Parsed::Partial => {}
                Parsed::Nonsense => return Ok(None),
            }
        }
    };
    timeout(TIMEOUT, head).await?
}

/// Writes an answer; of one to HEAD, its head.
pub(super) async fn write(stream: &mut TcpStream, answer: &Answer, head_only: bool) -> io::Result<()> {
    let length = answer.body.len();
    let mut bytes = head(answer.status, answer.content_type, &format!("Content-Length: {length}\r\n"));
    if !head_only {
        bytes.extend_from_slice(&answer.body);
    }
    send(stream, &bytes).await?;
    stream.shutdown().await
}

/// Begins an answer that has no end.
pub(super) async fn begin_events(stream: &mut TcpStream) -> io::Result<()> {
    send(stream, &head(Status::OK, "text/event-stream", "")).await
}

/// Writes more of it.
pub(super) async fn send(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    timeout(TIMEOUT, stream.write_all(bytes)).await?
}

/// Nothing is loaded from elsewhere or kept for another day, and nobody shows the page inside his own.
fn head(status: Status, content_type: &str, more: &str) -> Vec<u8> {
    let challenge = match status {
        Status::UNAUTHORIZED => "WWW-Authenticate: Basic realm=\"hr-gatewayd\", charset=\"UTF-8\"\r\n",
        _ => "",
    };
    let Status(line) = status;
    format!(
        "HTTP/1.1 {line}\r\nContent-Type: {content_type}\r\n{more}{challenge}Connection: close\r\nCache-Control: no-store\r\n\
         Content-Security-Policy: default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; \
         form-action 'none'\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\r\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_when_it_is_whole_and_nonsense_is_told_apart() {
        let whole = b"GET /events?x=1 HTTP/1.1\r\nHost: localhost\r\nACCEPT: text/html\r\n\r\n";
        let Parsed::Request(request) = parse(whole) else { panic!("it is one") };
        assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/events"));
        assert_eq!((request.host.as_deref(), request.accept.as_str()), (Some("localhost"), "text/html"));
        for end in 0..whole.len() {
            assert!(matches!(parse(&whole[..end]), Parsed::Partial), "{end}");
        }
        let endless = [b"GET / HTTP/1.1\r\nA: ".as_slice(), &[b'a'; HEAD_BYTES_MAX]].concat();
        let many = [b"GET / HTTP/1.1\r\n".as_slice(), &b"A: b\r\n".repeat(FIELDS_MAX + 1)].concat();
        for nonsense in [b"\x16\x03\x01\x02\x00".as_slice(), b"hello\r\n\r\n", &endless, &many] {
            assert!(matches!(parse(nonsense), Parsed::Nonsense));
        }
    }
}
