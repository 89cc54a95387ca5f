//! Ten thousand gateways come back after six hours, in virtual time: how long their queues take to drain, and what
//! the stream has to refuse; and how long it takes until each has credentials again after a common restart.
//!
//! `cargo bench --bench fleet` prints the tables of docs/scale.md; `-- FILE.svg` draws its plot.

#[path = "../tests/simulation/fleet.rs"]
mod fleet;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write;
use std::time::Duration;

use fleet::{Outcome, SHARD_BYTES_PER_S, Scene, Second, play};
use hr_gateway::backoff::Backoff;
use hr_gateway::drainer::outage::Outage;
use hr_gateway::drainer::settle::{CallError, ErrorClass, HELPER_FAILED};

const FLEET: usize = 10_000;
const HOUR: Duration = Duration::from_secs(3600);

fn main() {
    let plot = std::env::args().find(|word| word.ends_with(".svg"));
    println!("| shards | gateways on the fullest of them | of an even share |\n| --- | --- | --- |");
    for shards in [10, 20, 40] {
        let fullest = fullest_shard(shards);
        let share = fullest as f64 * shards as f64 / FLEET as f64;
        println!("| {shards} | {fullest} | {share:.2} |");
    }
    println!(
        "\n| shards | gateways on one | delays | half drained, min | last, min | least possible, min | entries rejected \
         | sent for each byte accepted | busiest second, MB |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    );
    let mut drawn = Vec::new();
    for (shards, gateways, jitter) in [
        (40, FLEET / 40, true),
        (20, FLEET / 20, true),
        (20, fullest_shard(20), true),
        (20, FLEET / 20, false),
    ] {
        let scene =
            Scene { gateways, outage: 6 * HOUR, uplink_bytes_per_s: 1_000_000.0, jitter, ends: 12 * HOUR };
        let outcome = play(scene, 1);
        report(shards, &scene, &outcome);
        if (shards, gateways) == (20, FLEET / 20) {
            drawn.push((if jitter { "with jitter" } else { "the same delays for all" }, outcome.seconds));
        }
    }
    println!(
        "\n| gateways | a session for all after, min | least possible, min | calls for each |\n| --- | --- | --- | --- |"
    );
    for gateways in [1_000, FLEET] {
        let (after, calls) = sessions(gateways);
        println!(
            "| {gateways} | {:.1} | {:.1} | {:.1} |",
            minutes(after),
            gateways as f64 / SESSIONS_PER_S / 60.0,
            calls as f64 / gateways as f64
        );
    }
    if let Some(path) = plot {
        std::fs::write(&path, svg(&drawn)).expect("the plot can be written");
    }
}

fn minutes(time: Duration) -> f64 {
    time.as_secs_f64() / 60.0
}

/// Partition keys are hashed by MD5, which is as good as chance.
fn fullest_shard(shards: usize) -> usize {
    let mut random = fastrand::Rng::with_seed(1);
    let mut counts = vec![0; shards];
    (0..FLEET).for_each(|_| counts[random.usize(..shards)] += 1);
    counts.into_iter().max().unwrap_or_default()
}

fn report(shards: usize, scene: &Scene, outcome: &Outcome) {
    assert_eq!(outcome.measured, outcome.accepted + outcome.queued);
    assert_eq!(outcome.drained.len(), scene.gateways, "all of them drain");
    let line_bytes = (scene.gateways * fleet::LINE_BYTES) as f64;
    let least = line_bytes * scene.outage.as_secs_f64() / (SHARD_BYTES_PER_S - line_bytes);
    let busiest = outcome.seconds.iter().map(|second| second.offered_bytes).max().unwrap_or_default();
    println!(
        "| {shards} | {} | {} | {:.0} | {:.0} | {:.0} | {:.0} % | {:.2} | {:.1} |",
        scene.gateways,
        if scene.jitter { "each its own" } else { "the same" },
        minutes(outcome.drained[scene.gateways / 2]),
        minutes(outcome.drained[scene.gateways - 1]),
        least / 60.0,
        100.0 * outcome.rejected_share(),
        outcome.sent_for_each_accepted(),
        busiest as f64 / 1e6,
    );
}

/// CreateSession of IAM Roles Anywhere, its default quota.
const SESSIONS_PER_S: f64 = 10.0;

/// All ask for a session at once, and again as the drainer does where a credential helper fails: when the last one
/// has its session, and how many calls that took.
fn sessions(gateways: usize) -> (Duration, u64) {
    let backoff = |base, ceiling| Backoff::new(base, ceiling).expect("the base is not above the ceiling");
    let retry = backoff(Duration::from_millis(100), Duration::from_secs(2));
    let blocked = backoff(Duration::from_secs(1), Duration::from_secs(60));
    let mut random = fastrand::Rng::with_seed(1);
    let mut outages: Vec<Outage> = (0..gateways).map(|_| Outage::new(retry, blocked)).collect();
    let mut due: BinaryHeap<Reverse<(Duration, usize)>> =
        (0..gateways).map(|one| Reverse((Duration::ZERO, one))).collect();
    let (mut tokens, mut refilled_at, mut calls) = (SESSIONS_PER_S, Duration::ZERO, 0);
    let mut last = Duration::ZERO;
    while let Some(Reverse((now, one))) = due.pop() {
        calls += 1;
        tokens = (tokens + (now - refilled_at).as_secs_f64() * SESSIONS_PER_S).min(SESSIONS_PER_S);
        refilled_at = now;
        if tokens >= 1.0 {
            tokens -= 1.0;
            last = now;
            continue;
        }
        let code = HELPER_FAILED.to_owned();
        let failure = CallError { class: ErrorClass::Transient, code, message: String::new() };
        outages[one].failed(failure, now, random.f64());
        due.push(Reverse((outages[one].probe_at().expect("it just failed"), one)));
    }
    (last, calls)
}

/// What one shard was sent, MB in a second, over the first ten minutes, on a logarithmic scale.
fn svg(runs: &[(&str, Vec<Second>)]) -> String {
    let (width, height, left, top) = (640.0, 240.0, 50.0, 30.0);
    const SECONDS: f64 = 600.0;
    let x = |second: f64| left + second / SECONDS * width;
    let y = |mb: f64| top + height - (mb.max(0.1).log10() + 1.0) / 4.0 * height;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"{left}\" y=\"16\">Sent to one shard, MB in a second; \
         it takes 1. Minutes since the stream's return</text>\n",
        width + left + 20.0,
        height + top + 50.0
    );
    for mb in [0.1, 1.0, 10.0, 100.0, 1000.0] {
        let at = y(mb);
        _ = writeln!(
            svg,
            "<path d=\"M{left} {at}h{width}\" stroke=\"#ccc\"/><text x=\"{}\" y=\"{}\" text-anchor=\"end\">{mb}</text>",
            left - 5.0,
            at + 4.0
        );
    }
    for minute in 0..=10 {
        let at = x(f64::from(minute) * 60.0);
        _ = writeln!(
            svg,
            "<text x=\"{at}\" y=\"{}\" text-anchor=\"middle\">{minute}</text>",
            top + height + 16.0
        );
    }
    for ((name, seconds), (colour, row)) in runs.iter().zip([("#1668a8", 0.0), ("#b5551d", 14.0)]) {
        let points = seconds.iter().take(SECONDS as usize).enumerate();
        let points = points
            .map(|(second, all)| format!("{:.1},{:.1}", x(second as f64), y(all.offered_bytes as f64 / 1e6)));
        let points: Vec<String> = points.collect();
        _ = writeln!(svg, "<polyline fill=\"none\" stroke=\"{colour}\" points=\"{}\"/>", points.join(" "));
        let at = top + 14.0 + row;
        _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{at}\" text-anchor=\"end\" fill=\"{colour}\">{name}</text>",
            left + width
        );
    }
    svg.push_str("</svg>\n");
    svg
}
