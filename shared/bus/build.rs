//! Compiles the one question to librdkafka for which it has no public function.

use std::env;
use std::error::Error;
use std::path::Path;

#[expect(
    clippy::disallowed_methods,
    reason = "cargo tells a build script where librdkafka lies in no other way"
)]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=src/headers.c");
    let root =
        env::var("DEP_RDKAFKA_ROOT").map_err(|_| "librdkafka has to be built from source: leave its linking as Cargo.toml has it")?;
    cc::Build::new()
        .file("src/headers.c")
        .include(Path::new(&root).join("src"))
        .warnings(false)
        .try_compile("bus_headers")?;
    Ok(())
}
