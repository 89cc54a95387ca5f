//! Every input that fuzzing kept (`tests/fuzz/`), once more.

#[path = "../fuzz/targets.rs"]
mod targets;

use crate::support::in_tree;

#[test]
fn what_fuzzing_kept_breaks_nothing() {
    for (name, target) in targets::TARGETS {
        let folder = in_tree("tests/fuzz/corpus").join(name);
        let mut inputs = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let input = std::fs::read(&path).unwrap();
            let result = std::panic::catch_unwind(|| target(&input));
            assert!(result.is_ok(), "{} breaks {name}", path.display());
            inputs += 1;
        }
        assert!(inputs > 0, "{} holds what is tried", folder.display());
    }
}
