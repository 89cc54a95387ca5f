//! The life of a process: it may end at any step that others can see.

use std::sync::Mutex;

use tokio::sync::Notify;

/// A process that may die at any of its steps.
#[derive(Default)]
pub struct Life {
    steps_left: Mutex<Option<u32>>,
    pub died: Notify,
}

impl Life {
    /// From now on it makes so many steps more.
    pub fn dies_after(&self, steps: u32) {
        *self.steps_left.lock().unwrap() = Some(steps);
        if steps == 0 {
            self.died.notify_one();
        }
    }

    /// A step. What is after it happens only if this says so.
    pub fn goes_on(&self) -> bool {
        match &mut *self.steps_left.lock().unwrap() {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                if *left == 0 {
                    self.died.notify_one();
                }
                *left > 0
            }
        }
    }
}
