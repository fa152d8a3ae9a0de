//! Writes the seeds of the target `store` to a directory.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = env::args_os().nth(1).map(PathBuf::from).ok_or("which directory?")?;
    fs::create_dir_all(&directory)?;
    for (number, seed) in rsock_fuzz::store_seeds().iter().enumerate() {
        fs::write(directory.join(format!("seed-{number}")), seed)?;
    }
    Ok(())
}
