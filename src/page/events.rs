//! What a page is told while it is open: server-sent events.
//!
//! | event | data |
//! | --- | --- |
//! | `recent` | first of all: sensor → its last readings, `[milliseconds since 1970, beats per minute]` |
//! | `heard` | a [`Heard`](crate::live::Heard) |
//! | `overview` | an [`Overview`](crate::overview::Overview), every two seconds |
//! | `missed` | so many `heard` were not told: the page is too slow |

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use serde::Serialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::Body;
use crate::live::Heard;
use crate::overview::Looker;

const OVERVIEW_EVERY: Duration = Duration::from_secs(2);

struct Telling {
    looker: Looker,
    heard: Receiver<Heard>,
    overviews: Interval,
    has_begun: bool,
}

/// Tells of what `looker` sees, for as long as somebody reads.
pub(super) fn body(looker: Looker) -> Body {
    let mut overviews = interval(OVERVIEW_EVERY);
    overviews.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Before the recent ones are looked at: none falls between.
    let heard = looker.live.listen();
    let telling = Telling { looker, heard, overviews, has_begun: false };
    let events = stream::unfold(telling, |mut telling| async {
        let event = telling.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(event))), telling))
    });
    StreamBody::new(events).boxed_unsync()
}

impl Telling {
    async fn next(&mut self) -> Option<String> {
        if !std::mem::replace(&mut self.has_begun, true) {
            let latest = self.looker.live.latest();
            let recent: BTreeMap<_, _> =
                latest.iter().map(|(sensor, latest)| (sensor.as_str(), &latest.recent)).collect();
            return event("recent", &recent);
        }
        tokio::select! {
            _ = self.overviews.tick() => event("overview", &self.looker.look().await.ok()?),
            heard = self.heard.recv() => match heard {
                Ok(heard) => event("heard", &heard),
                Err(RecvError::Lagged(missed)) => event("missed", &missed),
                Err(RecvError::Closed) => None,
            },
        }
    }
}

fn event<T: Serialize>(name: &str, data: &T) -> Option<String> {
    let data = serde_json::to_string(data).ok()?;
    Some(format!("event: {name}\ndata: {data}\n\n"))
}
