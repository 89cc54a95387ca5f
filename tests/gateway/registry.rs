//! What is kept of each sensor's device.

use std::os::unix::fs::symlink;

use hr_gateway::ble::identity::Seen;
use hr_gateway::ble::registry::{MadeLink, Registry};
use hr_gateway::config::{Address, Follow, SensorConfig};
use hr_gateway::reading::{BootId, Mode};

const DEVICE: &str = "C0:FF:EE:00:00:01";

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn seen() -> Seen {
    Seen {
        adapter: "hci0".into(),
        object: address(DEVICE),
        address: address(DEVICE),
        is_random: true,
        name: Some("TICKR".into()),
        rssi: Some(-60),
        is_connected: false,
        is_paired: false,
        services: vec![],
    }
}

fn sensor() -> SensorConfig {
    SensorConfig {
        id: "adi".parse().unwrap(),
        address: None,
        name: Some("TICKR".to_owned().into()),
        mode: Mode::Notification,
        follow: Follow::Same,
        adapter: None,
        bond: false,
        passkey: None,
    }
}

fn link(bluetoothd: &str, connections: &[u64]) -> MadeLink {
    MadeLink { boot: BootId(1), bluetoothd: bluetoothd.into(), connections: connections.to_vec() }
}

#[tokio::test]
async fn a_file_of_an_earlier_version_is_not_taken_for_an_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let queue = folder.path().join("queue");
    let file = folder.path().join("queue.sensors");
    Registry::open(&queue).take(&sensor(), seen(), false).await;
    // Which had no count of its writings.
    let mut kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert!(kept.as_object_mut().unwrap().remove("turn").is_some());
    std::fs::write(&file, kept.to_string()).unwrap();
    assert!(Registry::open(&queue).device(&sensor().id).is_some());
    assert!(Registry::read(&queue).unwrap().device(&sensor().id).is_some());
}

#[tokio::test]
async fn a_file_that_cannot_be_read_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let queue = folder.path().join("queue");
    let file = folder.path().join("queue.sensors");
    symlink(&file, &file).unwrap();
    assert!(Registry::read(&queue).is_err());
    let registry = Registry::open(&queue);
    registry.take(&sensor(), seen(), false).await;
    registry.move_to(&queue);
    assert!(file.symlink_metadata().unwrap().is_symlink());
    assert!(registry.device(&sensor().id).is_some(), "in memory");
    let other = folder.path().join("other");
    registry.move_to(&other);
    assert!(Registry::read(&other).unwrap().device(&sensor().id).is_some());
}

#[tokio::test]
async fn a_link_is_ours_while_its_connection_and_bluetoothd_are_those_of_when_it_was_made() {
    let folder = tempfile::tempdir().unwrap();
    let queue = folder.path().join("queue");
    let registry = Registry::open(&queue);
    let device = address(DEVICE);
    registry.note_link(device, link(":1.1", &[7, 8])).await;
    for registry in [registry, Registry::open(&queue)] {
        assert!(registry.has_link(device, &link(":1.1", &[6, 7, 8, 9])));
        assert!(!registry.has_link(device, &link(":1.1", &[7, 9])), "one of two is gone, and may be it");
        assert!(!registry.has_link(device, &link(":1.2", &[7, 8])));
    }
    let registry = Registry::open(&queue);
    registry.note_no_link(device).await;
    assert!(!registry.has_link(device, &link(":1.1", &[7, 8])));
}

#[tokio::test]
async fn a_bond_is_one_with_an_adapter() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(&folder.path().join("queue"));
    let (one, other) = (address("00:1A:7D:00:00:01"), address("00:1A:7D:00:00:02"));
    registry.note_bond(one, address(DEVICE), true).await;
    assert!(registry.has_bond(one, address(DEVICE)) && !registry.has_bond(other, address(DEVICE)));
    registry.note_bond(other, address(DEVICE), false).await;
    assert!(registry.has_bond(one, address(DEVICE)));
}
