//! Holds the engine against decision vectors: `cargo run -p scalers --example vectors -- FILE`.
//!
//! Prints pass or FAIL for each id, with what was expected and what came; ends with 1 when any failed. The file is a
//! list of `{id, desc, inputs, expected}`; by which inputs there are, one is a poll of one trigger, of several, a step of
//! a run with `excludePersistentLag` (one state, in file order), the HPA's step or a closed run over several polls. An input
//! that is not known, or nothing expected, is a failure: a vector must not pass by being misread.

mod run;

use std::process::ExitCode;

use anyhow::Context as _;

fn main() -> anyhow::Result<ExitCode> {
    let path = std::env::args_os().nth(1).context("usage: vectors FILE")?;
    let text = std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    let vectors: Vec<run::Vector> = serde_json::from_str(&text).with_context(|| format!("{} is no list of vectors", path.display()))?;
    let mut runner = run::Runner::default();
    let mut failed = 0;
    for vector in &vectors {
        match runner.run(vector) {
            Ok(got) if got == vector.expected => println!("pass {}  {}", vector.id, vector.desc),
            Ok(got) => {
                failed += 1;
                println!(
                    "FAIL {}  {}\n     expected {}\n     got      {}",
                    vector.id,
                    vector.desc,
                    vector.expected_json(),
                    serde_json::to_string(&got.0)?
                );
            }
            Err(e) => {
                failed += 1;
                println!(
                    "FAIL {}  {}\n     expected {}\n     got      {e:#}",
                    vector.id,
                    vector.desc,
                    vector.expected_json()
                );
            }
        }
    }
    println!("{} of {} vectors pass", vectors.len() - failed, vectors.len());
    Ok(ExitCode::from(u8::from(failed > 0 || vectors.is_empty())))
}
