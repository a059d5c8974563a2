//! Pages that are printed from code: a test compares them, and writes them anew when the variable
//! `SENGU_BLESS` is set.

use std::path::Path;

/// Fails if a file of the repository is not what the code prints.
pub(crate) fn check(file: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("SENGU_BLESS").is_some() {
        let folder = path.parent().expect("it stands in a folder");
        std::fs::create_dir_all(folder).expect("the folder can be made");
        std::fs::write(&path, wanted).expect("the page can be written");
    }
    let have = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(have == wanted, "{file} is not current; run the tests once with SENGU_BLESS=1");
}
