//! The story of a run, for whoever looks for what went wrong in it.

use std::cell::RefCell;

thread_local! {
    static LINES: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Runs something with its story.
pub(crate) fn traced<T>(run: impl FnOnce() -> T) -> (T, Vec<String>) {
    LINES.set(Some(Vec::new()));
    let done = run();
    (done, LINES.take().unwrap_or_default())
}

/// Adds a line, if somebody listens.
pub(crate) fn say(depth: u32, line: impl FnOnce() -> String) {
    LINES.with_borrow_mut(|lines| {
        if let Some(lines) = lines {
            lines.push(format!("{:1$}{2}", "", 2 * depth as usize, line()));
        }
    });
}
