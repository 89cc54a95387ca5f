//! `hr-gatewayd`: see [`hr_gateway`].

use std::process::ExitCode;

fn main() -> ExitCode {
    hr_gateway::cli::main()
}
