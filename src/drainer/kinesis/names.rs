//! Name lookups, few at a time and on threads of their own.
//!
//! `getaddrinfo` cannot be cut short: with name servers that are silent it takes minutes, and whoever
//! gave up on it leaves it behind. On the runtime's pool those that are left behind pile up until nothing
//! else runs there. What must hold: at most [`LOOKUPS_MAX`] are under way in the process, whoever asks and
//! however often; all who ask for a name while it is looked up get that one answer; and nothing waits for
//! a lookup when the process ends.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::oneshot;

/// The stream's endpoint and one more, which gives out keys (STS), are all the names there are.
pub const LOOKUPS_MAX: usize = 2;

/// The system's resolver.
#[derive(Debug, Clone)]
pub struct Names(fn(&str) -> io::Result<Vec<IpAddr>>);

/// Why a name has no address, for as many as ask.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NameError {
    /// The resolver said so.
    #[error("no address for {name}: {reason}")]
    Refused {
        /// The name.
        name: String,
        /// The resolver's words.
        reason: String,
    },
    /// As many lookups as are allowed are under way.
    #[error("{name} is not looked up: the name servers have not answered for {} yet", waiting.join(" and "))]
    TooMany {
        /// The name.
        name: String,
        /// What is being looked up.
        waiting: Vec<String>,
    },
}

type Answer = Result<Arc<[IpAddr]>, NameError>;

struct UnderWay {
    answer: Shared<BoxFuture<'static, Answer>>,
    since: Instant,
}

/// The process's, not a client's: a client that is made anew must not bring a new set of them.
static UNDER_WAY: LazyLock<Mutex<HashMap<String, UnderWay>>> = LazyLock::new(Mutex::default);

fn under_way() -> MutexGuard<'static, HashMap<String, UnderWay>> {
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Names {
    /// Asks the system: its files, then its name servers.
    pub fn of_the_system() -> Self {
        Self(|name| Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect()))
    }

    /// Asks `look_up` instead.
    pub fn by(look_up: fn(&str) -> io::Result<Vec<IpAddr>>) -> Self {
        Self(look_up)
    }

    /// The addresses of `name`. Whoever stops waiting leaves the lookup to the others.
    pub async fn addresses(&self, name: &str) -> Result<Arc<[IpAddr]>, NameError> {
        let answer = self.ask(name)?;
        answer.await
    }

    fn ask(&self, name: &str) -> Result<Shared<BoxFuture<'static, Answer>>, NameError> {
        let mut asked = under_way();
        if let Some(known) = asked.get(name) {
            return Ok(known.answer.clone());
        }
        if asked.len() >= LOOKUPS_MAX {
            let waiting = asked.keys().cloned().collect();
            return Err(NameError::TooMany { name: name.to_owned(), waiting });
        }
        let (sender, receiver) = oneshot::channel();
        let (look_up, asked_name) = (self.0, name.to_owned());
        let refused = |name: String, reason: String| NameError::Refused { name, reason };
        let lookup = move || {
            let found = look_up(&asked_name).map(Arc::from);
            under_way().remove(&asked_name);
            _ = sender.send(found.map_err(|error| refused(asked_name, error.to_string())));
        };
        thread::Builder::new()
            .name("name-lookup".into())
            .spawn(lookup)
            .map_err(|error| refused(name.to_owned(), error.to_string()))?;
        let gone = refused(name.to_owned(), "the lookup ended without an answer".into());
        let answer = receiver.map(move |answer| answer.unwrap_or(Err(gone))).boxed().shared();
        asked.insert(name.to_owned(), UnderWay { answer: answer.clone(), since: Instant::now() });
        Ok(answer)
    }

    /// The name that has been waited for longest, and for how long.
    pub fn unanswered() -> Option<(String, Duration)> {
        let asked = under_way();
        let longest = asked.iter().min_by_key(|(_, lookup)| lookup.since)?;
        Some((longest.0.clone(), longest.1.since.elapsed()))
    }
}

impl ResolveDns for Names {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move {
            let found = self.addresses(name).await.map_err(ResolveDnsError::new)?;
            Ok(found.to_vec())
        })
    }
}
