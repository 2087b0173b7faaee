//! Layers for tests of the Windows engine, over recorded calls and over the stand-in.

pub(crate) use sample_images::SmallLayer as TestTar;

/// A base layer with a utility VM.
pub(crate) fn base_tar() -> Vec<u8> {
    TestTar::new()
        .dir("Files")
        .dir("Files/Windows")
        .file("Files/Windows/notepad.exe", b"MZ notepad")
        .file("Files/readme.txt", b"read me")
        .dir("UtilityVM")
        .dir("UtilityVM/Files")
        .dir("UtilityVM/Files/EFI")
        .dir("UtilityVM/Files/EFI/Microsoft")
        .dir("UtilityVM/Files/EFI/Microsoft/Boot")
        .file("UtilityVM/Files/EFI/Microsoft/Boot/BCD", b"boot store")
        .file("UtilityVM/Files/kernel.exe", b"MZ kernel")
        .tar()
}

/// A layer with everything that only layers with parents can have.
pub(crate) fn delta_tar() -> Vec<u8> {
    TestTar::new()
        .dir("Files")
        .file("Files/new.txt", b"new")
        .link("Files/same.txt", "Files/new.txt")
        .link("Files/old.txt", "Files/readme.txt")
        .junction("Files/junction", r"C:\Windows")
        .whiteout("Files/Windows/notepad.exe")
        .dir("Hives")
        .file("Hives/System_Delta", b"hive")
        .dir("UtilityVM")
        .dir("UtilityVM/Files")
        .file("UtilityVM/Files/added.exe", b"added")
        .whiteout("UtilityVM/Files/kernel.exe")
        .tar()
}

/// A layer whose paths exceed Windows' default limit, and its deepest file.
pub(crate) struct DeepTree {
    pub(crate) tar: Vec<u8>,
    pub(crate) file: String,
}

pub(crate) fn deep_tree() -> DeepTree {
    let mut path = "Files".to_owned();
    let mut tar = TestTar::new().dir("Files");
    while path.len() < 300 {
        path.push_str("/node_modules_of_some_package");
        tar = tar.dir(&path);
    }
    let file = format!("{path}/index.js");
    DeepTree { tar: tar.file(&file, b"deep").dir("Hives").tar(), file }
}
