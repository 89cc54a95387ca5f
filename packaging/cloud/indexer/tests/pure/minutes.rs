//! The sums of a minute.

use hr_gateway::heart_rate::RrInterval;
use hr_gateway::wire::RecordKind;
use hr_indexer::index::Minute;
use hr_indexer::line::Reading;
use hr_indexer::minutes::sum;
use proptest::prelude::*;

use crate::reading;

const MINUTE: Minute = Minute(29_209_990); // 2025-07-15T17:10Z

fn at(second: i64) -> i64 {
    MINUTE.start_ms() + second * 1_000
}

fn gap(sequence: u64, second: i64) -> Reading<'static> {
    let mut gap = reading(sequence, at(second), &[]);
    gap.record.heart_rate = None;
    gap
}

#[test]
fn a_minute_of_gap_records_alone_has_no_document() {
    assert_eq!(sum("forerunner", MINUTE, vec![gap(1, 5)]), None);
    assert_eq!(sum("forerunner", MINUTE, vec![]), None);
}

#[test]
fn a_sensor_state_record_between_two_readings_changes_nothing() {
    let readings = || vec![reading(1, at(0), &[800.0]), reading(3, at(1), &[810.0])];
    let mut state = gap(2, 0);
    state.record.record = Some(RecordKind::SensorState);
    let with = [readings(), vec![state]].concat();
    assert_eq!(sum("forerunner", MINUTE, with), sum("forerunner", MINUTE, readings()));
    assert_eq!(sum("forerunner", MINUTE, readings()).unwrap().rr_differences, 1);
}

#[test]
fn a_heart_rate_of_0_is_none() {
    let mut off_the_skin = reading(1, at(0), &[]);
    off_the_skin.record.heart_rate = Some(0);
    assert_eq!(sum("forerunner", MINUTE, vec![off_the_skin.clone()]), None);
    let sums = sum("forerunner", MINUTE, vec![off_the_skin, reading(2, at(1), &[])]).unwrap();
    assert_eq!((sums.readings, sums.heart_rate_min), (1, 62));
}

#[test]
fn without_two_beats_there_is_no_rmssd() {
    let sums = sum("forerunner", MINUTE, vec![reading(1, at(0), &[800.0])]).unwrap();
    assert_eq!((sums.readings, sums.rr_differences, sums.rmssd_ms), (1, 0, None));
    assert!(!serde_json::to_string(&sums).unwrap().contains("rmssd"));
}

#[test]
fn a_minute_is_named_by_sensor_and_minute() {
    assert_eq!(MINUTE.document_id("forerunner"), "forerunner|2025-07-15T17:10Z");
    let sums = sum("forerunner", MINUTE, vec![reading(1, at(0), &[])]).unwrap();
    assert_eq!((sums.minute.as_str(), sums.sensor_id.as_str()), ("2025-07-15T17:10:00.000Z", "forerunner"));
}

#[test]
fn the_gateway_is_that_of_the_last_reading_by_time() {
    let mut other = reading(1, at(30), &[]);
    other.record.gateway_id = "gym".into();
    let sums = sum("forerunner", MINUTE, vec![reading(9, at(10), &[]), other, gap(10, 40)]).unwrap();
    assert_eq!(sums.gateway_id, "gym");
}

proptest! {
    /// Against sums made beat by beat, in any order of arrival.
    #[test]
    fn sums_do_not_depend_on_the_order_of_arrival(
        seconds in proptest::collection::vec((0i64..5, proptest::collection::vec(250u16..2100, 0..3), any::<bool>()), 1..20),
        shuffle in any::<prop::sample::Index>(),
    ) {
        let (mut second, mut readings, mut squares, mut count) = (0, Vec::new(), 0.0, 0usize);
        let mut before: Option<(i64, f64)> = None;
        for (sequence, (step, rr, is_gap)) in seconds.iter().enumerate() {
            second += step;
            let rr: Vec<f64> = rr.iter().map(|&ticks| RrInterval(ticks).as_ms()).collect();
            if *is_gap {
                readings.push(gap(sequence as u64, second));
                before = None;
                continue;
            }
            readings.push(reading(sequence as u64, at(second), &rr));
            for interval in rr {
                if let Some((then, earlier)) = before {
                    let plausible = [earlier, interval].iter().all(|rr| (300.0..=2000.0).contains(rr));
                    if plausible && second - then <= 3 {
                        squares += (interval - earlier).powi(2);
                        count += 1;
                    }
                }
                before = Some((second, interval));
            }
        }
        let middle = shuffle.index(readings.len());
        let expected = sum("forerunner", MINUTE, readings.clone());
        readings.rotate_left(middle);
        readings.reverse();
        let sums = sum("forerunner", MINUTE, readings);
        prop_assert_eq!(&sums, &expected);
        if let Some(sums) = sums {
            prop_assert_eq!(sums.rr_differences, count);
            prop_assert_eq!(sums.rmssd_ms, (count > 0).then(|| (squares / count as f64).sqrt()));
        }
    }
}
