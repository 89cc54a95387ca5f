//! Whether bluetoothd answers, and the bus on which it is asked.
//!
//! A bus that is frozen takes every call and answers none, and so does a bluetoothd: each sensor's task
//! then only waits for time-outs. So what counts as progress of the source is an answer. Where the
//! sensors bring none, this asks for one, each time that fails over a new connection. No sensor's task opens
//! one before there was an answer: bluer's way of doing it can stop the whole process ([`system_bus`]).

use std::sync::Arc;
use std::time::Duration;

use dbus::nonblock::Proxy;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};
use tracing::{error, info, warn};

use super::call::CALL_TIMEOUT;
use crate::ble::SourceView;
use crate::system_bus::{self, Connection};

/// So long without an answer to anybody, it is asked for.
const ASK_EVERY: Duration = Duration::from_secs(3);
/// D-Bus's own bound; ours is shorter.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// What tasks know of answers, and how they ask for one. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Answers {
    /// How many came over the bus, values too, to whomever.
    count: watch::Sender<u64>,
    wanted: Arc<Notify>,
}

impl Answers {
    pub(super) fn note(&self) {
        self.count.send_modify(|count| *count += 1);
    }

    pub(super) fn count(&self) -> u64 {
        *self.count.borrow()
    }

    /// Whether there is an answer from now on.
    pub(super) async fn next(&self) -> bool {
        let mut answers = self.count.subscribe();
        self.wanted.notify_one();
        timeout(CALL_TIMEOUT, answers.changed()).await.is_ok()
    }
}

/// Asks.
pub(super) struct BusWatch {
    answers: Answers,
    view: Arc<SourceView>,
    connection: Option<Connection>,
    /// Kept though it was given up for now: only one blocks a thread.
    opening: Option<BoxFuture<'static, Result<Connection, dbus::Error>>>,
    /// Who is being asked.
    asked: &'static str,
    /// When somebody was answered last, as far as it was looked.
    answered_at: Instant,
}

impl BusWatch {
    pub(super) fn new(answers: Answers, view: Arc<SourceView>) -> Self {
        Self { answers, view, connection: None, opening: None, asked: "D-Bus", answered_at: Instant::now() }
    }

    /// Watches for ever.
    pub(super) async fn run(mut self) {
        let mut seen = self.answers.count();
        let mut wanted = true;
        loop {
            let is_silent = self.answers.count() == seen;
            seen = self.answers.count();
            if !is_silent && !wanted {
                self.note_answer();
            } else if let Ok(true) = timeout(CALL_TIMEOUT, self.ask()).await {
                self.answers.note();
                self.note_answer();
            } else {
                self.note_silence();
            }
            wanted = timeout(ASK_EVERY, self.answers.wanted.notified()).await.is_ok();
        }
    }

    /// Whether there was an answer. That there is no bus, or no bluetoothd on it, is one too.
    async fn ask(&mut self) -> bool {
        self.asked = "D-Bus";
        if self.connection.is_none() {
            let opening = self.opening.get_or_insert_with(|| system_bus::connect().boxed());
            let opened = opening.await;
            self.opening = None;
            match opened {
                Ok(connection) => self.connection = Some(connection),
                Err(error) => return !is_silence(&error),
            }
        }
        let Some((bus, connection)) = &mut self.connection else { return false };
        let asked = &mut self.asked;
        let questions = async {
            let bus = Proxy::new("org.freedesktop.DBus", "/", REPLY_TIMEOUT, &**connection);
            let (is_running,): (bool,) =
                bus.method_call("org.freedesktop.DBus", "NameHasOwner", ("org.bluez",)).await?;
            if is_running {
                *asked = "bluetoothd";
                let bluetoothd = Proxy::new("org.bluez", "/", REPLY_TIMEOUT, &**connection);
                let () = bluetoothd.method_call("org.freedesktop.DBus.Peer", "Ping", ()).await?;
            }
            Ok::<_, dbus::Error>(())
        };
        let answered = tokio::select! {
            answered = questions => answered.map_or_else(|error| !is_silence(&error), |()| true),
            _lost = bus => {
                self.connection = None;
                true
            }
        };
        answered
    }

    fn note_silence(&mut self) {
        self.connection = None;
        if self.view.unanswered.send_replace(Some(self.asked)) == Some(self.asked) {
            return;
        }
        let who = self.asked;
        match self.answers.count() {
            0 => error!(
                "{who} has not answered since the start: no reading comes in, a restart of this daemon does not \
                 help; restart bluetoothd (systemctl restart bluetooth) or the machine; what is queued is sent on"
            ),
            _ => warn!(
                "{who} does not answer: no reading comes in until it does; trying on over new connections, what is \
                 queued is sent on (systemctl status dbus bluetooth)"
            ),
        }
    }

    fn note_answer(&mut self) {
        if let Some(who) = self.view.unanswered.send_replace(None) {
            info!("{who} answers again after {:.0} s", self.answered_at.elapsed().as_secs_f64());
        }
        self.answered_at = Instant::now();
    }
}

/// Whether libdbus gave up waiting, as against being told that there is nobody.
fn is_silence(error: &dbus::Error) -> bool {
    let name = error.name().unwrap_or_default();
    ["NoReply", "Timeout", "TimedOut"]
        .iter()
        .any(|end| name.strip_prefix("org.freedesktop.DBus.Error.") == Some(end))
}
