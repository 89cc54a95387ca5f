//! What stands between a gateway and Kinesis: TLS, proxies, portals, limits. Each on 127.0.0.1, on a
//! thread and runtime of its own, until dropped.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::in_tree;

/// One of them.
pub struct Middlebox {
    pub address: SocketAddr,
    /// The first line of each request, and the head's other lines, where it looks at them.
    seen: Arc<Mutex<Vec<String>>>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Middlebox {
    fn start<F, Served>(serve: F) -> Self
    where
        F: Fn(TcpStream, Arc<Mutex<Vec<String>>>) -> Served + Send + 'static,
        Served: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        let (seen, stop) = (Arc::<Mutex<Vec<String>>>::default(), CancellationToken::new());
        let (sender, receiver) = std::sync::mpsc::channel();
        let (thread_seen, thread_stop) = (seen.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(thread_stop.run_until_cancelled(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                sender.send(listener.local_addr().unwrap()).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(serve(stream, thread_seen.clone()));
                }
            }));
        });
        Self { address: receiver.recv().unwrap(), seen, stop, thread: Some(thread) }
    }

    /// Speaks TLS with the certificate `tests/tls/<name>.pem`, and passes what is in it to `behind`.
    pub fn tls(name: &str, behind: SocketAddr) -> Self {
        Self::tls_that_freezes(name, &[], behind, watch::channel(()).1)
    }

    /// The same for HTTP/2. With each `freeze`, the connections there are stay open and move nothing more.
    pub fn http2(name: &str, behind: SocketAddr, freeze: watch::Receiver<()>) -> Self {
        Self::tls_that_freezes(name, &[b"h2"], behind, freeze)
    }

    fn tls_that_freezes(
        name: &str,
        protocols: &[&[u8]],
        behind: SocketAddr,
        freeze: watch::Receiver<()>,
    ) -> Self {
        let file = |name: &str| in_tree("tests/tls").join(name);
        let certificate = CertificateDer::from_pem_file(file(&format!("{name}.pem"))).unwrap();
        let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::start(move |stream, _| {
            let (acceptor, mut freeze) = (acceptor.clone(), freeze.clone());
            freeze.mark_unchanged();
            async move {
                let mut inside = acceptor.accept(stream).await?;
                let mut backend = TcpStream::connect(behind).await?;
                tokio::select! {
                    ended = copy_bidirectional(&mut inside, &mut backend) => ended.map(|_| ()),
                    Ok(()) = freeze.changed() => std::future::pending().await,
                }
            }
        })
    }

    /// A proxy that leads every CONNECT to `behind`, whatever it names. With `user`, only whoever sends
    /// that in `Proxy-Authorization`.
    pub fn proxy(behind: SocketAddr, user: Option<&'static str>) -> Self {
        Self::start(move |stream, seen| async move {
            let mut stream = BufReader::new(stream);
            let head = head(&mut stream).await?;
            seen.lock().unwrap().push(head[0].clone());
            let authorized = |user| head.iter().any(|line| line.eq_ignore_ascii_case(user));
            if !head[0].starts_with("CONNECT ") || !user.is_none_or(authorized) {
                let refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
                return stream.write_all(refusal).await;
            }
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
            let mut backend = TcpStream::connect(behind).await?;
            copy_bidirectional(&mut stream, &mut backend).await.map(|_| ())
        })
    }

    /// Gives each request this answer.
    pub fn portal(status: &'static str, headers: &'static str, body: &'static str) -> Self {
        Self::start(move |stream, seen| async move {
            let mut stream = BufReader::new(stream);
            loop {
                let head = head(&mut stream).await?;
                let length = head.iter().find_map(|line| {
                    let (name, value) = line.split_once(": ")?;
                    name.eq_ignore_ascii_case("content-length").then(|| value.parse().ok())?
                });
                stream.read_exact(&mut vec![0; length.unwrap_or(0)]).await?;
                seen.lock().unwrap().push(head[0].clone());
                let length = body.len();
                let answer = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await?;
            }
        })
    }

    /// The first line of each request so far.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

/// The lines of a request's head; an end of the stream is an error.
async fn head(stream: &mut BufReader<TcpStream>) -> std::io::Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => return Ok(lines),
            line => lines.push(line.to_owned()),
        }
    }
}

impl Drop for Middlebox {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}
