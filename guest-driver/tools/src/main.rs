//! `presilctl`: asks, exercises and checks a presil GPU inside the guest.

mod bench;
mod bus;
mod checks;
mod cli;
mod debugfs;
mod demo;
mod device;
mod error;
mod fdinfo;
mod frames;
mod function;
mod info;
mod kexec;
mod messages;
mod model;
mod names;
mod noise;
mod pages;
mod selftest;

use clap::Parser as _;
use cli::{Arguments, Command};
use device::Device;
use error::Result;
use model::Model;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("presilctl: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<bool> {
    let device = match command {
        // With or without a GPU, and it may have several reasons to have none.
        Command::Kexec {
            crash,
            kernel,
            initramfs,
            append,
        } => return kexec::run(crash, &kernel, &initramfs, &append),
        _ => Device::open()?,
    };
    match command {
        Command::Kexec { .. } => Ok(false),
        Command::Info => info::info(&device).map(|()| true),
        Command::Alloc {
            purpose,
            bytes,
            windows,
            touch,
        } => info::alloc(&device, purpose.flags(), bytes, &windows, touch).map(|()| true),
        Command::Bench => bench::run(device).map(|()| true),
        Command::Demo { model, small } => demo::run(device, open_model(model.as_deref())?, small),
        Command::Function { model, only } => {
            drop(device);
            function::run(&model, &only)
        }
        Command::Selftest { model } => selftest::run(device, open_model(model.as_deref())?),
    }
}

fn open_model(path: Option<&Path>) -> Result<Option<Model>> {
    path.map(Model::open).transpose()
}
