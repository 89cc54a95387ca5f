//! What is asked of the sensors: which device each is, and to let go of one.

use tokio::sync::watch;

use super::{Reply, SensorDevice, SensorRequest};
use crate::ble::SensorViews;
use crate::ble::registry::Registry;
use crate::reading::SensorId;

/// Who answers for the sensors.
#[derive(Clone)]
pub struct Sensors {
    /// Which device each is.
    pub registry: Registry,
    /// How it stands with those at work; none on a stopped gateway.
    pub states: watch::Receiver<SensorViews>,
}

impl Sensors {
    /// The answers to `request`, the last of which ends them. Blocks on the disk.
    pub fn answer(&self, request: &SensorRequest) -> Vec<Reply> {
        match request {
            SensorRequest::List => {
                let devices = self.list();
                let count = devices.len() as u64;
                devices.into_iter().map(Reply::Sensor).chain([Reply::Done(count)]).collect()
            }
            SensorRequest::Forget(sensor) => vec![match self.registry.release(sensor) {
                Ok(true) => Reply::Done(1),
                Err(error) => Reply::Failed(format!("it could not be written down: {error}")),
                Ok(false) => Reply::Failed(format!(
                    "no device is kept of a sensor `{sensor}` (`hr-gatewayd sensor list` shows of which one is)"
                )),
            }],
        }
    }

    fn list(&self) -> Vec<SensorDevice> {
        let (devices, states) = (self.registry.devices(), self.states.borrow().clone());
        let mut ids: Vec<&SensorId> = devices.keys().chain(states.keys()).collect();
        ids.sort();
        ids.dedup();
        let device = |id: &SensorId| SensorDevice {
            sensor: id.clone(),
            device: devices.get(id).cloned(),
            streams: states.get(id).map(|view| view.streams),
        };
        ids.into_iter().map(device).collect()
    }
}
