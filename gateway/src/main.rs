//! Arguments → configuration → gateway → exit code; nothing else.

use std::io::Write;
use std::process::ExitCode;

use edge_gateway::arguments::{Exit, Invocation, Options, Task};
use edge_gateway::config::{self, Loaded};
use edge_gateway::own_commands::{self, Verdict};
use edge_gateway::{gateway, rehearsal, signal, status, version};

fn main() -> ExitCode {
    let invocation = match Invocation::parse(std::env::args().skip(1)) {
        Ok(invocation) => invocation,
        Err(exit) => return leave(&exit),
    };
    let environment = |name: &str| std::env::var(name).ok();
    match &invocation.task {
        Task::Run if invocation.options.check => check(&invocation),
        Task::Run => match config::load(&invocation.options, &environment) {
            Ok(loaded) => run(loaded, invocation.options),
            Err(error) => fail(&error),
        },
        Task::Version => {
            println!("nats-server: v{}", version::COMPATIBLE);
            println!("{} v{}", version::NAME, version::OWN);
            ExitCode::SUCCESS
        }
        Task::Status { json, store_dir } => {
            match status::run(*json, store_dir.as_deref(), &invocation.options, &environment) {
                Ok(text) => {
                    // Who reads no further (`| head`) has seen enough.
                    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
                    ExitCode::SUCCESS
                }
                Err(error) => fail(&error),
            }
        }
        Task::Signal(signal) => match signal::send(signal) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format_args!("{error:#}")),
        },
        task => match own_commands::run(task, &invocation.options, &environment, &mut std::io::stdout().lock()) {
            Ok(Verdict::Good) => ExitCode::SUCCESS,
            Ok(Verdict::Bad) => ExitCode::FAILURE,
            // Who reads no further (`| head`) has seen enough.
            Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
            Err(error) => fail(&format_args!("{error:#}")),
        },
    }
}

/// Both text forms go where stock's go: help and version to standard output, errors to standard error.
fn leave(exit: &Exit) -> ExitCode {
    if exit.code == 0 {
        println!("{}", exit.text);
    } else {
        eprintln!("{}", exit.text);
    }
    ExitCode::from(exit.code)
}

fn check(invocation: &Invocation) -> ExitCode {
    let Some(file) = &invocation.options.config else {
        return fail(&"must specify [-c, --config] option to check configuration file syntax");
    };
    let environment = |name: &str| std::env::var(name).ok();
    let loaded = match config::load(&invocation.options, &environment) {
        Ok(loaded) => loaded,
        Err(error) => return fail(&error),
    };
    for notice in &loaded.report.notices {
        eprintln!("nats-server: {notice}");
    }
    if !loaded.report.warnings.is_empty() {
        let lines: Vec<String> = loaded.report.warnings.iter().map(ToString::to_string).collect();
        return fail(&lines.join("\n"));
    }
    match rehearsal::problems(&loaded.config) {
        Ok(problems) if problems.is_empty() => {}
        Ok(problems) => return fail(&problems.join("\n")),
        Err(error) => return fail(&format_args!("{error:#}")),
    }
    eprintln!("nats-server: configuration file {file} is valid ({})", loaded.config.digest);
    ExitCode::SUCCESS
}

fn run(loaded: Loaded, options: Options) -> ExitCode {
    for line in loaded.report.warnings.iter().chain(&loaded.report.notices) {
        eprintln!("nats-server: {line}");
    }
    match gateway::run(loaded.config, options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format_args!("{error:#}")),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    causes.any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("nats-server: {error}");
    ExitCode::FAILURE
}
