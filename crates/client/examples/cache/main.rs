//! Reads keys from standard input and prints their values through a cache that evermesh keeps true.
//!
//! ```sh
//! EVERMESH_AT=unix:/run/evermesh/evermesh.sock cargo run -p evermesh-client --example cache
//! ```
//!
//! The "database" is a directory: the value of a key is the file of that name. Change a file, then
//! publish its key with the type `evermesh.invalidate.v1`, and every such process prints the new
//! one.

#![allow(clippy::print_stdout, reason = "an example prints")]

mod cache;

use std::io::BufRead as _;

use evermesh_client::{Address, Client, Credentials};

use crate::cache::Cache;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let at = std::env::var("EVERMESH_AT");
    let at = at.unwrap_or_else(|_| "unix:/run/evermesh/evermesh.sock".to_owned());
    let address: Address = at.parse()?;
    let client = Client::connect(&address, &Credentials::default())?;
    let (cache, _following) = Cache::follow(client, "shop");
    cache.ready().await;
    for key in std::io::stdin().lock().lines() {
        let key = key?;
        let load = || async { tokio::fs::read_to_string(&key).await.unwrap_or_default() };
        let value = cache.get(&key, load).await;
        let (kept, bypassed) = (cache.len(), cache.bypassed());
        println!("{key}: {value:?} ({kept} kept, {bypassed} read past the cache)");
    }
    Ok(())
}
