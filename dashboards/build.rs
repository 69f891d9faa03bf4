//! Lets cargo notice a new build of the web app. A missing build is no error: the server then shows a page that says so.

fn main() {
    println!("cargo::rerun-if-changed=web/dist");
}
