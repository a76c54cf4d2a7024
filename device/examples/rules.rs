//! Writes the driver checker's pages: `cargo run -p presil-device --example rules docs/rules`.

use presil_device::checker::{index, texts};
use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let to = env::args_os().nth(1).ok_or("usage: rules DIRECTORY")?;
    let to = PathBuf::from(to);
    fs::create_dir_all(&to)?;
    for text in texts() {
        fs::write(to.join(format!("{}.md", text.id)), text.page())?;
    }
    fs::write(to.join("README.md"), index())?;
    Ok(())
}
