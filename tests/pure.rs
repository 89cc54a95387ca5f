//! What decides, without a world around it: properties, vectors, and state machines driven by hand.

#[path = "pure/adapters.rs"]
mod adapters;
#[path = "pure/advertised.rs"]
mod advertised;
#[path = "pure/any.rs"]
mod any;
#[path = "pure/calls.rs"]
mod calls;
#[path = "pure/capacity.rs"]
mod capacity;
#[path = "pure/clock.rs"]
mod clock;
#[path = "pure/completions.rs"]
mod completions;
#[path = "pure/config.rs"]
mod config;
#[path = "pure/corpus.rs"]
mod corpus;
#[path = "pure/dispatch.rs"]
mod dispatch;
#[path = "pure/heart_rate.rs"]
mod heart_rate;
#[path = "pure/identity.rs"]
mod identity;
#[path = "pure/lifecycle.rs"]
mod lifecycle;
#[path = "pure/metrics.rs"]
mod metrics;
#[path = "pure/outage.rs"]
mod outage;
#[path = "pure/printable.rs"]
mod printable;
#[path = "pure/segment.rs"]
mod segment;
#[path = "pure/sequence_set.rs"]
mod sequence_set;
mod support;
#[path = "pure/tidy.rs"]
mod tidy;
#[path = "pure/tracker.rs"]
mod tracker;
#[path = "pure/wire.rs"]
mod wire;
