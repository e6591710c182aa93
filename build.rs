//! Compiles `proto/` to Rust types and services, and keeps the descriptor set for reflection.
//! Nothing else.

use std::{env, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let files = protox::compile(
        [
            "evermesh/v1/event.proto",
            "evermesh/v1/event_replication.proto",
            "evermesh/v1/mesh.proto",
            "evermesh/v1/admin.proto",
            "evermesh/v1/invalidation.proto",
        ],
        ["proto"],
    )?;
    fs::write(out.join("evermesh.bin"), files.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".evermesh.v1")
        .extern_path(".evermesh.v1.Delivery", "crate::Delivery")
        .compile_fds(files)?;
    Ok(())
}
