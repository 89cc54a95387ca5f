//! What a page is told while it is open: server-sent events.
//!
//! | event | data |
//! | --- | --- |
//! | `recent` | first of all: sensor → its last readings, `[milliseconds since 1970, beats per minute]` |
//! | `heard` | a [`Heard`](crate::live::Heard) |
//! | `overview` | an [`Overview`](crate::overview::Overview), every two seconds |
//! | `missed` | so many `heard` were not told: the page is too slow |

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::http;
use crate::overview::Looker;

const OVERVIEW_EVERY: Duration = Duration::from_secs(2);

/// Tells of what `looker` sees, for as long as somebody reads.
pub(super) async fn tell(stream: &mut TcpStream, looker: &Looker) -> io::Result<()> {
    http::begin_events(stream).await?;
    let mut overviews = interval(OVERVIEW_EVERY);
    overviews.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Before the recent ones are looked at: none falls between.
    let mut heard = looker.live.listen();
    let latest = looker.live.latest();
    let recent: BTreeMap<_, _> =
        latest.iter().map(|(sensor, latest)| (sensor.as_str(), &latest.recent)).collect();
    http::send(stream, &event("recent", &recent)?).await?;
    loop {
        let event = tokio::select! {
            _ = overviews.tick() => match timeout(http::TIMEOUT, looker.look()).await {
                Ok(Ok(overview)) => event("overview", &overview)?,
                _ => return Ok(()),
            },
            heard = heard.recv() => match heard {
                Ok(heard) => event("heard", &heard)?,
                Err(RecvError::Lagged(missed)) => event("missed", &missed)?,
                Err(RecvError::Closed) => return Ok(()),
            },
        };
        http::send(stream, &event).await?;
    }
}

fn event<T: Serialize>(name: &str, data: &T) -> io::Result<Vec<u8>> {
    let mut bytes = format!("event: {name}\ndata: ").into_bytes();
    serde_json::to_writer(&mut bytes, data)?;
    bytes.extend_from_slice(b"\n\n");
    Ok(bytes)
}
