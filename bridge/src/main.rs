//! The bridge's program: reads the command line and serves.

use std::process::ExitCode;

use bank_bridge::arguments::{Arguments, Command};
use bank_bridge::config::Config;
use clap::Parser as _;

/// The bridge could not start.
const EXIT_FAILED: u8 = 1;
/// The command line is wrong (`EX_USAGE` of sysexits.h).
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // A failed print of the usage leaves nothing else to say.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    if let Some(Command::Demo(demo)) = &arguments.command {
        return match bank_bridge::demo::run(demo) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error, EXIT_FAILED),
        };
    }
    let config = match Config::resolve(&arguments.serve) {
        Ok(config) => config,
        Err(error) => return failed(&error, EXIT_USAGE),
    };
    match bank_bridge::serve(config, None) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error, EXIT_FAILED),
    }
}

fn failed(error: &str, status: u8) -> ExitCode {
    eprintln!("bank-bridge: {error}");
    ExitCode::from(status)
}
