#![allow(missing_docs, dead_code, clippy::unwrap_used)]
#[path = "../tests/it/support.rs"]
mod support;
fn main() {
    let dir = std::env::args().nth(1).unwrap();
    support::model().save(dir, &Default::default()).unwrap();
}
