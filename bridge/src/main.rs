//! The bridge's program: reads the command line and serves.

use std::process::ExitCode;

use bank_bridge::arguments::{Arguments, Command};
use bank_bridge::config::Config;
use command_line::EXIT_USAGE;

/// The bridge could not start.
const EXIT_FAILED: u8 = 1;

fn main() -> ExitCode {
    let parsed = match command_line::parse::<Arguments>() {
        Ok(parsed) => parsed,
        Err(status) => return status,
    };
    let arguments = &parsed.arguments;
    command_line::logging::start();
    if let Some(Command::Demo(demo)) = &arguments.command {
        return match bank_bridge::demo::run(demo) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error, EXIT_FAILED),
        };
    }
    let config = match Config::resolve(&arguments.serve) {
        Ok(config) => config,
        Err(error) => return failed(&parsed.explain(&error), EXIT_USAGE),
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
