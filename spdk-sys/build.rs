//! With the feature `spdk`: finds an installed SPDK, binds what `src/wrapper.h` includes and links it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "spdk")]
    if let Err(why) = spdk::build() {
        eprintln!("{why}");
        std::process::exit(1);
    }
}

#[cfg(feature = "spdk")]
mod spdk {
    use std::env;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    /// The parts of SPDK that lunette begins with; pkg-config knows what they need, all kinds of bdevs included.
    const PARTS: &[&str] = &["spdk_event_bdev", "spdk_bdev", "spdk_nvme", "spdk_thread", "spdk_env_dpdk"];
    /// The system's libraries that SPDK's need.
    const SYSTEM: &str = "spdk_syslibs";
    const FUNCTIONS: &str = "spdk_(env_(init|fini|opts_init)|log_set_.*level|rpc_set_state|subsystem_(init|fini|load_config)\
        |thread_(lib_init_ext|lib_fini|create|exit|is_exited|destroy|poll|send_msg)|set_thread|get_thread\
        |put_io_channel|dma_zmalloc|dma_free|vtophys|for_each_bdev_leaf\
        |bdev_(open_ext|close|has_write_cache|is_zoned|io_type_supported|wait_for_examine\
        |get_(by_name|name|product_name|block_size|physical_block_size|num_blocks|write_unit_size|md_size|uuid\
        |preferred_unmap_granularity|io_channel)|(read|write|unmap|write_zeroes|flush)_blocks|reset|abort|free_io|io_get_(nvme|aio)_status\
        |unregister|notify_blockcnt_change))|lunette_spdk_.*";
    const TYPES: &str = "spdk_(bdev_(io_type|event_type)|log_level|nvme_(status_code_type|generic_command_status_code\
        |command_specific_status_code|media_error_status_code)|env_opts)";
    const CONSTANTS: &str = "SPDK_RPC_RUNTIME";

    pub(super) fn build() -> Result<(), String> {
        for file in ["src/wrapper.h", "src/shim.c"] {
            println!("cargo::rerun-if-changed={file}");
        }
        for name in ["SPDK_DIR", "PKG_CONFIG_PATH", "LIBCLANG_PATH"] {
            println!("cargo::rerun-if-env-changed={name}");
        }
        let flags = pkg_config(&[&["--cflags"], PARTS].concat())?;
        check_libclang()?;
        bind(&flags)?;
        let mut shim = cc::Build::new();
        for flag in &flags {
            shim.flag(flag);
        }
        // SPDK's inline functions are not written for this compiler's every warning.
        shim.file("src/shim.c").warnings(false).try_compile("lunette_spdk_shim").map_err(|error| {
            format!("the C shim of spdk-sys does not compile with the SPDK that was found: {error}")
        })?;
        link()
    }

    /// What pkg-config prints, in words. `SPDK_DIR` comes first: where SPDK is installed, or its tree where it was built.
    fn pkg_config(args: &[&str]) -> Result<Vec<String>, String> {
        let folders = env::var_os("SPDK_DIR").into_iter().flat_map(|dir| {
            let dir = PathBuf::from(dir);
            ["lib/pkgconfig", "lib64/pkgconfig", "build/lib/pkgconfig"].map(|folder| dir.join(folder))
        });
        let given = env::var_os("PKG_CONFIG_PATH").unwrap_or_default();
        let path =
            env::join_paths(folders.chain(env::split_paths(&given))).map_err(|error| error.to_string())?;
        let out = Command::new("pkg-config").args(args).env("PKG_CONFIG_PATH", path).output();
        let found =
            out.ok().filter(|out| out.status.success()).and_then(|out| String::from_utf8(out.stdout).ok());
        let found = found.ok_or(
            "the feature spdk needs SPDK 26.05 or later with its static libraries, and pkg-config: install both and let \
             PKG_CONFIG_PATH lead to its lib/pkgconfig, or SPDK_DIR to where it is installed",
        )?;
        Ok(found.split_whitespace().map(str::to_owned).collect())
    }

    /// bindgen panics where there is no libclang.
    fn check_libclang() -> Result<(), String> {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let version = std::panic::catch_unwind(bindgen::clang_version);
        std::panic::set_hook(hook);
        version.map(drop).map_err(|_| {
            "the feature spdk needs libclang to read SPDK's headers: install libclang-dev, or let LIBCLANG_PATH lead to it"
                .to_owned()
        })
    }

    fn bind(flags: &[String]) -> Result<(), String> {
        let bindings = bindgen::Builder::default()
            .header("src/wrapper.h")
            .clang_args(flags)
            .allowlist_function(FUNCTIONS)
            .allowlist_type(TYPES)
            .allowlist_var(CONSTANTS)
            .default_enum_style(bindgen::EnumVariation::ModuleConsts)
            .generate_cstr(true)
            .layout_tests(true)
            .derive_default(true)
            .generate()
            .map_err(|error| format!("SPDK's headers cannot be read: {error}"))?;
        let out = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
        bindings.write_to_file(Path::new(&out).join("bindings.rs")).map_err(|error| error.to_string())
    }

    /// Links everything whole: SPDK's modules, and DPDK's, make themselves known by constructors that nobody calls.
    fn link() -> Result<(), String> {
        let words = pkg_config(&[&["--libs"], PARTS].concat())?;
        let dpdk = pkg_config(&["--libs", "--static", "libdpdk"]).unwrap_or_default();
        let variable = pkg_config(&["--variable=libdir", "libdpdk"]).unwrap_or_default();
        let mut folders: Vec<PathBuf> =
            words.iter().filter_map(|word| word.strip_prefix("-L")).map(PathBuf::from).collect();
        folders.extend(variable.iter().map(PathBuf::from));
        for folder in &folders {
            println!("cargo::rustc-link-search=native={}", folder.display());
        }
        let is_there = |file: &str| folders.iter().any(|folder| folder.join(file).exists());
        for library in words.iter().filter_map(|word| word.strip_prefix("-l")) {
            if is_there(&format!("lib{library}.a")) {
                println!("cargo::rustc-link-lib=static:+whole-archive,-bundle={library}");
            } else if library.starts_with("spdk_") {
                return Err(format!(
                    "lib{library}.a is missing: SPDK has to be installed with its static libraries"
                ));
            }
            // SPDK names parts of DPDK that older ones have inside others.
        }
        let system = pkg_config(&["--libs", "--static", SYSTEM])?;
        // Of what DPDK needs its memory alone is used.
        let needed = dpdk.iter().filter(|word| *word == "-lnuma");
        for library in system.iter().chain(needed).filter_map(|word| word.strip_prefix("-l")) {
            println!("cargo::rustc-link-lib=dylib={library}");
        }
        Ok(())
    }
}
