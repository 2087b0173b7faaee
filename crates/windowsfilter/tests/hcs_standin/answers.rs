//! The compute service's known results: one script of calls, for which the recorded host and the stand-in
//! must give the same results. `docs/windows-engine.md` says for each assumption how to confirm it.

use std::fs;
use std::path::Path;

use hcs::{Code, DriverInfo, Host, LayerDescriptor, Privilege};

/// A call out of order on a sandbox: preparing or exporting a prepared one, unpreparing or deactivating one
/// that is not. `ERROR_INVALID_STATE`. Nothing documents it.
pub(crate) const OUT_OF_ORDER: Code = Code(5023);
/// Activating an active sandbox, or destroying it. `ERROR_SHARING_VIOLATION` (hcsshim issue 2553).
pub(crate) const SANDBOX_IS_ACTIVE: Code = Code::SHARING_VIOLATION;
/// Asking for the volume of a sandbox whose disk is not attached. Nothing documents it.
pub(crate) const NO_VOLUME: Code = Code::ELEMENT_NOT_FOUND;
/// Querying a volume's device as if it were a directory. Python's `os.stat` knows it as
/// `ERROR_INVALID_PARAMETER`, `ERROR_INVALID_FUNCTION` or `ERROR_NOT_SUPPORTED` (`Modules/posixmodule.c`,
/// `win32_xstat_impl`).
pub(crate) const NO_DIRECTORY: Code = Code::INVALID_PARAMETER;
/// Finishing a layer without `Files`, or importing a transport directory without `Hives`. Nothing documents
/// it.
pub(crate) const NOTHING_THERE: Code = Code::PATH_NOT_FOUND;

/// The calls in their order, and the answers: `ok`, `yes`, `no`, `volume` (a name of one, without a backslash
/// at its end), `directory` (the layer's), or the code.
const SCRIPT: &[(&str, &str, Option<Code>)] = &[
    ("CreateSandboxLayer box", "ok", None),
    ("LayerExists box", "yes", None),
    ("LayerExists none", "no", None),
    ("GetLayerMountPath box", "", Some(NO_VOLUME)),
    ("PrepareLayer box", "", Some(OUT_OF_ORDER)),
    ("ActivateLayer box", "ok", None),
    ("ActivateLayer box", "", Some(SANDBOX_IS_ACTIVE)),
    ("PrepareLayer box", "ok", None),
    ("PrepareLayer box", "", Some(OUT_OF_ORDER)),
    // moby issues 40444 and 42807 quote it.
    ("GetLayerMountPath box", "volume", None),
    ("is directory box", "yes", None),
    ("is directory device", "", Some(NO_DIRECTORY)),
    ("ExportLayer box", "", Some(OUT_OF_ORDER)),
    ("DeactivateLayer box", "", Some(OUT_OF_ORDER)),
    ("DestroyLayer box", "", Some(SANDBOX_IS_ACTIVE)),
    ("UnprepareLayer box", "ok", None),
    ("UnprepareLayer box", "", Some(OUT_OF_ORDER)),
    ("ExportLayer box", "ok", None),
    ("DeactivateLayer box", "ok", None),
    ("DeactivateLayer box", "", Some(OUT_OF_ORDER)),
    ("is directory box", "no", None),
    // For a read-only layer everything succeeds (docker/for-win 1546, moby 32330).
    ("ActivateLayer base", "ok", None),
    ("ActivateLayer base", "ok", None),
    ("PrepareLayer base", "ok", None),
    ("GetLayerMountPath base", "directory", None),
    ("UnprepareLayer base", "ok", None),
    ("UnprepareLayer base", "ok", None),
    ("DeactivateLayer base", "ok", None),
    ("DeactivateLayer base", "ok", None),
    ("ProcessBaseImage base", "ok", None),
    ("ProcessBaseImage empty", "", Some(NOTHING_THERE)),
    ("ImportLayer without hives", "", Some(NOTHING_THERE)),
    ("ImportLayer with hives", "ok", None),
    ("DestroyLayer box", "ok", None),
    ("LayerExists box", "no", None),
];

/// Runs the script in `home`, an empty directory, and fails at the first different result.
pub(crate) fn check<H: Host>(host: &H, home: &Path) {
    let info = DriverInfo::filter(home);
    for dir in ["base/Files", "empty", "without/Files", "with/Files", "with/Hives", "delta"] {
        fs::create_dir_all(home.join(dir)).unwrap();
    }
    let _privileges = host.thread_privileges(&[Privilege::Backup, Privilege::Restore]).unwrap();
    let id = host.name_to_guid("base").unwrap();
    let parents = [LayerDescriptor { id, flags: 0, path: home.join("base") }];
    let mut shown = None;
    for (number, (step, answer, code)) in SCRIPT.iter().enumerate() {
        let (call, layer) = step.rsplit_once(' ').unwrap();
        let below: &[LayerDescriptor] = if layer == "base" { &[] } else { &parents };
        let done = |result: hcs::Result<()>| result.map(|()| "ok");
        let yes = |is: bool| if is { "yes" } else { "no" };
        let given = match call {
            "CreateSandboxLayer" => done(host.create_sandbox_layer(&info, layer, below)),
            "LayerExists" => host.layer_exists(&info, layer).map(yes),
            "ActivateLayer" => done(host.activate_layer(&info, layer)),
            "DeactivateLayer" => done(host.deactivate_layer(&info, layer)),
            "PrepareLayer" => done(host.prepare_layer(&info, layer, below)),
            "UnprepareLayer" => done(host.unprepare_layer(&info, layer)),
            "DestroyLayer" => done(host.destroy_layer(&info, layer)),
            "ExportLayer" => {
                let target = home.join(format!("exported-{number}"));
                fs::create_dir(&target).unwrap();
                done(host.export_layer(&info, layer, &target, below))
            }
            "ImportLayer without" => done(host.import_layer(&info, "delta", &home.join("without"), &parents)),
            "ImportLayer with" => done(host.import_layer(&info, "delta", &home.join("with"), &parents)),
            "ProcessBaseImage" => done(host.process_base_image(&info.layer(layer))),
            "GetLayerMountPath" => host.layer_mount_path(&info, layer).map(|path| {
                let path = path.unwrap();
                let text = path.to_string_lossy().into_owned();
                let is_volume = text.starts_with(r"\\?\Volume{") && text.ends_with('}');
                let answer = match (is_volume, path == info.layer(layer)) {
                    // The standard library finds nothing there. Wine opens the directory by either name.
                    (true, _) if cfg!(unix) && path.exists() => "a volume that is a directory",
                    (true, _) => "volume",
                    (false, true) => "directory",
                    (false, false) => "another path",
                };
                shown = Some(path);
                answer
            }),
            "is directory" => {
                let device = shown.as_ref().unwrap().to_string_lossy();
                let root = hcs::long_path::directory(&device);
                host.is_directory(Path::new(if layer == "box" { root.as_str() } else { &device })).map(yes)
            }
            _ => panic!("{step}"),
        };
        match (given, code) {
            (Ok(given), None) => assert_eq!(given, *answer, "{number}: {step}"),
            (Err(error), Some(code)) => assert_eq!(error.code, *code, "{number}: {step}: {error}"),
            (Ok(given), Some(_)) => panic!("{number}: {step}: {given}"),
            (Err(error), None) => panic!("{number}: {step}: {error}"),
        }
    }
}
