//! Migrations are embedded by a macro, which does not tell cargo about them.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
