//! Calls that wait for a disk or for another process, off the async threads.

/// Runs `call` aside.
pub async fn run<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => result,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

/// The same, without waiting for it.
pub fn start(call: impl FnOnce() + Send + 'static) {
    drop(tokio::task::spawn_blocking(call));
}
