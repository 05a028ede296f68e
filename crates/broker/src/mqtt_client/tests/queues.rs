//! Stored sessions over a long time: what must not run out.

use super::{Runner, usual};

/// Runs lines of a script; what came of them.
fn run(runner: &mut Runner, lines: &str) -> String {
    goldenscript::generate(runner, &format!("{lines}\n---\n")).expect("a script")
}

/// Each delivery takes from a credit of 256 KiB, and gives back the same: with long topics a session that got less back stalled after a
/// few hundred messages, for as long as it stayed connected.
#[test]
fn a_session_that_stays_connected_never_runs_out_of_credit() {
    let mut runner = Runner::new(usual());
    let topic = "t".repeat(800);
    run(&mut runner, "a: client device keep\na: subscribe 1 \"#:1\"\nstore\nb: client app");
    for number in 1..=600 {
        let came = run(&mut runner, &format!("b: publish {topic} {number} id=1\nstore"));
        let id = number + 1;
        assert!(came.contains(&format!("{number} qos=1 id={id}\n")), "message {number} did not come:\n{came}");
        run(&mut runner, &format!("a: puback {id}\nstore"));
    }
}

/// A message whose subject is no topic leaves the queue too.
#[test]
fn a_session_that_gets_what_it_cannot_be_told_slows_nobody_down() {
    let mut runner = Runner::new(usual());
    run(&mut runner, "a: client device keep\na: subscribe 1 \"#:1\"\nstore\nb: client app");
    for _ in 0..300 {
        run(&mut runner, "link \"no+topic\" x\nstore");
    }
    let came = run(&mut runner, "b: publish t x id=1");
    assert!(!came.contains("pauses"), "{came}");
}
