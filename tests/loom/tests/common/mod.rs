//! Runs models: on the sources as they are, where they hold, and on broken copies, where one of them must
//! fail.

use std::{env, process::Command};

macro_rules! models {
    ($copy:ident of $part:ident, sound: $($sound:ident)*; broken: $($broken:ident by $model:ident,)*) => {
        $(
            #[test]
            fn $sound() {
                rsock_loom::$copy::$part::models::$sound();
            }
        )*

        /// Each fails, which ends its process.
        mod broken {
            $(
                #[test]
                #[ignore = "it fails, as it must"]
                fn $broken() {
                    rsock_loom::$broken::$part::models::$model();
                }
            )*
        }

        const BROKEN: &[&str] = &[$(stringify!($broken)),*];
    };
}

/// Checks that the models find what is broken.
pub(crate) fn are_found(broken: &[&str]) {
    let this = env::current_exe().expect("this program has a path");
    for name in broken {
        let test = format!("broken::{name}");
        let output = Command::new(&this)
            .args(["--exact", &test, "--ignored", "--nocapture"])
            .output()
            .expect("this program runs again");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{name} is not found");
        assert!(said.contains("panicked"), "{name} ends in another way:\n{said}");
    }
}
